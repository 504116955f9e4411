"""`install`: from an id to an installed model; `remove`: back again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError
from ...model.card import ModelCard, read_card
from ...model.installing import add_model
from ...model.package_files import user_path
from ...model.store import installed_models, remove_model, user_folder
from ...monitor import Monitor
from .download import Settings
from .listing import find_entry
from .schema import Entry
from .store import Obtained, downloads_folder, forget_downloads, obtain

if TYPE_CHECKING:
    from ..importer import ImportOptions


@dataclass(frozen=True)
class Installed:
    """What `install` did. ``card``: None with ``download_only``. ``already``: it was there, nothing was done.

    ``files``: the checked files in ``folder`` of the cache, empty where nothing had to be brought.
    """

    entry: Entry
    card: ModelCard | None
    files: tuple[Obtained, ...]
    folder: Path
    already: bool = False


def install(
    id: str,
    *,
    monitor: Monitor | None = None,
    catalogues: Sequence[str | Path] = (),
    folder: str | Path | None = None,
    force: bool = False,
    accept_new: bool = False,
    download_only: bool = False,
    options: ImportOptions | None = None,
    settings: Settings | None = None,
) -> Installed:
    """Bring the model ``id`` of the catalogue into the user's model folder.

    ``folder``: take its files from there instead of the network. ``force``: install again, replacing an installed one.
    ``accept_new``: trust a file that differs from the one remembered (only where the catalogue states no hash).
    ``download_only``: stop when the files are in the cache. ``options``: of the importer (environment, wheels).

    Raises `InputError` (unknown id, file not in ``folder``), `DownloadError` and `ModelError` (not to be had, wrong
    hash, cannot be converted), `OutputError` (disk full), `Cancelled`. Nothing half-done is ever listed as installed;
    a part of a download is kept and gone on with.
    """
    monitor = monitor or Monitor()
    entry = find_entry(id, catalogues, monitor=monitor)
    present = _present(entry.id)
    if present is not None and not force and not accept_new and not download_only:
        return Installed(entry, present, (), downloads_folder(entry.id), already=True)
    if entry.note:
        monitor.warn(f"{entry.id}: {entry.note}")
    with monitor.stage("download"):
        source = None if folder is None else user_path(folder)
        files = obtain(entry, monitor=monitor, folder=source, accept_new=accept_new, settings=settings)
    card = None if download_only else _add(entry, files, options, monitor)
    return Installed(entry, card, tuple(files), downloads_folder(entry.id))


def remove(id: str, *, keep_download: bool = False) -> int:
    """Remove the model ``id`` from the user's folder, and what was downloaded for it; bytes that became free.

    Raises `ModelError` where neither is there, or where the model lies elsewhere.
    """
    freed = 0
    folder = downloads_folder(id) if _is_plain(id) else None
    downloaded = folder is not None and folder.is_dir() and not keep_download
    own = {card.id: card for card in installed_models() if card.folder.parent == user_folder()}
    if id in own or not downloaded:
        size = own[id].size if id in own else 0
        remove_model(id)
        freed += size
    return freed + (forget_downloads(id) if downloaded else 0)


def _is_plain(id: str) -> bool:
    return id not in ("", ".", "..") and not set(id) & set('/\\:*?"<>|')


def _present(id: str) -> ModelCard | None:
    """The usable installed model ``id``, else None."""
    cards = [c for c in installed_models() if c.id == id and c.has_weights and not c.error]
    return cards[0] if cards else None


def _add(entry: Entry, files: list[Obtained], options: ImportOptions | None, monitor: Monitor) -> ModelCard:
    main = files[0].path if entry.kind != "nnunet" else files[0].path.parent
    if entry.kind == "package":
        from ...model.package import load_model

        found = load_model(main).manifest.id
        if found != entry.id:
            raise ModelError(
                f"{main.name} is the model {found}, but the catalogue calls it {entry.id}; it was not installed. "
                "Correct the catalogue."
            )
        return add_model(main, replace=True)
    from ..importer import ImportOptions, import_model

    # Converted beside its place, so that a run that is interrupted leaves no model, and one of Slicer sees all or none.
    with tempfile.TemporaryDirectory(prefix="medseg-install-") as scratch:
        package = Path(scratch) / "package"
        chosen = options or ImportOptions()
        chosen = replace(chosen, choices={**entry.options, **chosen.choices}, id=entry.id, overwrite=True)
        made = import_model(main, entry.recipe, package, monitor=monitor, options=chosen)
        if read_card(made).id != entry.id:
            raise ModelError(f"The import of {entry.id} gave the model {read_card(made).id}; it was not installed.")
        return add_model(made, replace=True)
