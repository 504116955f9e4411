"""The files of an entry: downloaded once, kept in the cache that the command line and Slicer share, checked before use.

``CACHE/downloads/ID/NAME`` holds finished downloads. Where a catalogue states no hash, that of the first copy is
remembered in ``DATA/pins.json``; a later copy with another hash is refused until the user accepts it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import InputError, ModelError, OutputError
from ...model.package_files import cache_folder, sha256_of
from ...model.store import data_folder
from ...monitor import Monitor
from .content import refuse_other_content
from .download import Progress, Settings, Wanted, download, megabytes, unwritable
from .schema import CatalogueFile, Entry

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Obtained:
    """A checked file. ``stated``: whether the catalogue stated its hash (else the pin or nothing did)."""

    path: Path
    sha256: str
    stated: bool


def downloads_folder(entry_id: str) -> Path:
    """Where the downloads of an entry are kept; it may not exist yet."""
    return cache_folder() / "downloads" / entry_id


def is_downloaded(entry: Entry) -> bool:
    """Whether all files of ``entry`` are in the cache (their hashes are checked when they are used)."""
    folder = downloads_folder(entry.id)
    return all(_below(folder, file.name).is_file() for file in entry.files)


def obtain(
    entry: Entry, *, monitor: Monitor, folder: Path | None = None, accept_new: bool = False,
    settings: Settings | None = None,
) -> list[Obtained]:  # fmt: skip
    """The files of ``entry``, in its order: from the cache, else from ``folder`` where it is given, else by download.

    Raises `DownloadError`, `OutputError`, `Cancelled`, `InputError` (a file is not in ``folder``) and `ModelError`
    (a wrong hash; both are named). ``accept_new``: a hash that differs from the remembered one replaces it.
    """
    pins = Pins()
    known = entry.size
    done = 0
    found = []
    for file in entry.files:
        target = _below(downloads_folder(entry.id), file.name)
        pinned = None if file.sha256 or accept_new else pins.get(entry.id, file.name)
        before = done

        def told(have: int, total: int | None, before: int = before, name: str = file.name) -> None:
            whole = known or (total if len(entry.files) == 1 else None)
            text = f"{name}: {megabytes(have)}" + (f" of {megabytes(total)}" if total else "")
            monitor.progress(before + have if whole else 0, whole or 1, text)

        digest = None if accept_new and not file.sha256 else _cached(target, file.sha256 or pinned, folder, monitor)
        if digest is None and folder is not None:
            digest = _copy(entry, file, _find(folder, entry, file), target, pinned, monitor, told)
        elif digest is None:
            digest = _download(entry, file, target, pinned, monitor, settings, told)
        if file.sha256 is None and digest != pinned:
            pins.set(entry.id, file.name, digest)
            monitor.warn(
                f"Nobody states the SHA-256 of {file.name} ({entry.id}), so only its transfer could be checked. It is "
                f"{digest}; this is remembered, and a file with another hash will be refused."
            )
        done += target.stat().st_size
        found.append(Obtained(target, digest, file.sha256 is not None))
    return found


def forget_downloads(entry_id: str) -> int:
    """Remove what was downloaded for an entry, parts included; the number of bytes that became free."""
    folder = downloads_folder(entry_id)
    if not folder.is_dir():
        return 0
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"The download of {entry_id} in {folder} could not be removed: {error.strerror}.") from error
    return size


class Pins:
    """Hashes of files whose catalogue states none, as they came the first time."""

    def __init__(self) -> None:
        self.path = data_folder() / "pins.json"

    def get(self, entry_id: str, name: str) -> str | None:
        """The remembered hash; `ModelError` where the record is damaged (it is never taken for empty)."""
        value = self._read().get(f"{entry_id}/{name}")
        return value if isinstance(value, str) else None

    def set(self, entry_id: str, name: str, sha256: str) -> None:
        """Remember a hash."""
        content = json.dumps({**self._read(), f"{entry_id}/{name}": sha256}, indent=2, sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".pins-", dir=self.path.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(content)
            Path(temporary).replace(self.path)
        except OSError as error:
            raise unwritable(error, self.path, 0) from error

    def _read(self) -> dict[str, object]:
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(value, dict):
                return value
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            pass
        raise ModelError(f"The record of remembered hashes {self.path} is damaged; remove it to begin a new one.")


def _cached(target: Path, expected: str | None, folder: Path | None, monitor: Monitor) -> str | None:
    """The hash of the file in the cache where it is the right one, None where it must be brought (again)."""
    if expected is None or not target.is_file():
        return None
    digest = sha256_of(target)
    if digest == expected:
        return digest
    monitor.warn(
        f"{target.name} in the cache has changed (SHA-256 {digest} instead of {expected}); it is deleted and "
        f"{'copied' if folder else 'downloaded'} again."
    )
    target.unlink()
    return None


def _download(
    entry: Entry, file: CatalogueFile, target: Path, pinned: str | None, monitor: Monitor, settings: Settings | None,
    told: Progress,
) -> str:  # fmt: skip
    for address in file.addresses:
        if address.startswith("http:") and file.sha256 is None:
            monitor.warn(
                f"{file.name} comes over an unencrypted connection and nobody states its SHA-256; it cannot be known "
                "whether it is the publisher's."
            )
    hint = _changed_hint(entry) if pinned else ""
    wanted = Wanted(file.addresses, file.sha256 or pinned, file.size, file.limit, hint)
    return download(wanted, target, monitor=monitor, settings=settings, progress=_seldom(told, monitor))


def _changed_hint(entry: Entry) -> str:
    return (
        "The expected one is that of the first download on this computer. If the publisher has replaced the file and "
        f"you trust the new one: medseg models install {entry.id} --accept-new."
    )


def _find(folder: Path, entry: Entry, file: CatalogueFile) -> Path:
    """The file in an offline copy: as in the cache, as at the source, or directly in the folder."""
    names = [f"{entry.id}/{file.name}", file.path, file.name]
    for name in names:
        if name and _below(folder, name).is_file():
            return _below(folder, name)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds {file.name}.")
    looked = ", ".join(dict.fromkeys(n for n in names if n))
    raise InputError(
        f"{file.name} of {entry.id} is not in {folder} (looked for {looked}). On a computer with network, 'medseg "
        f"models install {entry.id} --download-only' brings it; copy the folder that it names."
    )


def _copy(
    entry: Entry, file: CatalogueFile, source: Path, target: Path, pinned: str | None, monitor: Monitor, told: Progress
) -> str:
    """Copy an offline file into the cache, checked as a download is."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    expected = file.sha256 or pinned
    progress = _seldom(told, monitor)
    try:
        size = source.stat().st_size
        if size > file.limit or (file.size is not None and size != file.size):
            raise ModelError(
                f"{source} has {size} bytes, but {file.size if file.size is not None else f'at most {file.limit}'} are "
                "expected; copy or download it again."
            )
        if source.resolve() == target.resolve():
            raise InputError(f"{source.parent} is the cache itself; install without --from.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as read, part.open("wb", buffering=0) as out:
            have = 0
            while block := read.read(_BLOCK):
                out.write(block)
                have += len(block)
                progress(have, size)
        refuse_other_content(target.name, part, str(source), lambda: part.unlink(missing_ok=True))
        digest = sha256_of(part)
        if expected is not None and digest != expected:
            raise ModelError(
                f"{source} is not the expected file: its SHA-256 is {digest}, expected was {expected}. Its copy was "
                f"deleted. {_changed_hint(entry) if pinned else 'Get the file again.'}"
            )
        part.replace(target)
        return digest
    except OSError as error:
        if error.filename == str(source):
            raise InputError(f"{source} cannot be read: {error.strerror or error}.") from error
        raise unwritable(error, target, 0) from error
    finally:
        part.unlink(missing_ok=True)


def _seldom(told: Progress, monitor: Monitor) -> Progress:
    """``told``, called five times a second and at the end; else only a checkpoint."""
    last = 0.0

    def progress(have: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.2 or have == total:
            last = now
            told(have, total)
        else:
            monitor.checkpoint()

    return progress


def _below(folder: Path, name: str) -> Path:
    return folder.joinpath(*PurePosixPath(name).parts)
