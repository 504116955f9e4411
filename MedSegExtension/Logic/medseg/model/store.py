"""Where models are kept, with the standard library only (`installing` adds one, since it loads the checks).

Searched in this order, the first model of an id counts: the folders in the environment variable ``MEDSEG_MODELS``
(separated as in PATH), the user's own folder, the models shipped with MedSeg. A model is a folder with
``manifest.json``, directly in one of these (or one of these itself).
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ..errors import ModelError
from .card import MANIFEST_NAME, ModelCard, read_card


def data_folder() -> Path:
    """The user's MedSeg folder: ``MEDSEG_DATA_DIR``, or the platform's place for application data."""
    override = os.environ.get("MEDSEG_DATA_DIR")
    if override:
        return Path(override)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "medseg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "medseg"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "medseg"


def user_folder() -> Path:
    """Where `add_model` puts models; it may not exist yet."""
    return data_folder() / "models"


def shipped_folders() -> list[Path]:
    """The models that came with MedSeg: beside ``Logic`` in the source tree and in Slicer, inside a wheel else."""
    package = Path(__file__).resolve().parents[1]
    return [f for f in (package.parents[1] / "Resources" / "Models", package / "models") if f.is_dir()]


def search_folders() -> list[Path]:
    """All folders that are searched, in order."""
    named = [Path(p).expanduser() for p in os.environ.get("MEDSEG_MODELS", "").split(os.pathsep) if p]
    return list(dict.fromkeys([*named, user_folder(), *shipped_folders()]))


def installed_models() -> list[ModelCard]:
    """A card of each installed model; one that cannot be read is there with its ``error``."""
    cards: dict[str, ModelCard] = {}
    for folder in search_folders():
        for package in _packages(folder):
            card = read_card(package)
            cards.setdefault(card.id, card)
    return list(cards.values())


def find_model(id: str) -> Path:
    """The package folder of the installed model ``id``; `ModelError` with the nearest ids where there is none."""
    cards = {card.id: card for card in installed_models()}
    if id in cards:
        return cards[id].folder
    published = {path.stem for folder in shipped_folders() for path in (folder / "recipes").glob("*.json")}
    if id in published:
        raise ModelError(
            f"{id} is a published model whose weights are not installed on this computer. `medseg models show {id}` "
            "says how to get them; in Slicer: Get more models..."
        )
    near = difflib.get_close_matches(id, {*cards, *published}, 3)
    if near:
        hint = "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    elif cards:
        hint = "Installed are: " + ", ".join(sorted(cards)) + "."
    else:
        hint = "No models are installed."
    raise ModelError(f"There is no installed model {id!r}, and no file or folder of that name. {hint}")


def remove_model(id: str) -> None:
    """Remove the model ``id`` from the user's folder; models elsewhere are left alone (`ModelError`)."""
    for package in _packages(user_folder()):
        if package == user_folder() or read_card(package).id != id:
            continue
        try:
            if package.is_symlink():
                package.unlink()
                return
            # Renamed first, so that no half-removed model is ever listed.
            grave = Path(tempfile.mkdtemp(prefix=".old-", dir=package.parent))
            package.replace(grave / "model")
        except OSError as error:
            raise ModelError(f"{id} could not be removed: {error.strerror or error}; is it in use?") from error
        shutil.rmtree(grave, ignore_errors=True)
        return
    folder = find_model(id)
    raise ModelError(f"{id} is not in your own model folder but in {folder}; remove it there by hand, or leave it.")


def _packages(folder: Path) -> list[Path]:
    if (folder / MANIFEST_NAME).is_file():
        return [folder]
    try:
        entries = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError:
        return []
    return [e for e in entries if not e.name.startswith(".") and (e / MANIFEST_NAME).is_file()]
