"""Folders for temporary files, which hold voxels of patients: private, and never left behind for good.

Who made a folder holds a lock in it, which the operating system lets go of when the process ends, however it ends. The
next folder that is made removes those of processes that are gone, so that a computer whose Slicer was killed again and
again keeps neither its disk nor its memory full.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .locks import try_lock

PREFIX = "medseg-"
SHARED_MEMORY = Path("/dev/shm")
_OWNER = ".owner"

_held: dict[Path, IO[bytes]] = {}
_left_over: list[Path] = []


def new_folder(within: Path | None = None, *, bytes_in_memory: int | None = None) -> Path:
    """A new folder that only this user can read; end it with `discard`.

    Args:
        within: where, if not where the system keeps temporary files.
        bytes_in_memory: in shared memory (Linux) where more than so many bytes are free there: a busy disk makes
            writers wait, and voxels need not reach it. None: not in shared memory.

    Raises ``OSError`` where no folder can be made.
    """
    if bytes_in_memory is not None:
        with suppress(OSError):
            if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > bytes_in_memory:
                return _make(SHARED_MEMORY)
    return _make(Path(tempfile.gettempdir()) if within is None else within)


def discard(folder: Path) -> None:
    """Remove a folder, and those that could not be removed before since their files were mapped (Windows)."""
    owner = _held.pop(folder, None)
    if owner is not None:
        owner.close()
    _left_over.append(folder)
    remove_left_over()


def remove_left_over() -> None:
    """Try again to remove what could not be removed."""
    for one in list(_left_over):
        shutil.rmtree(one, ignore_errors=True)
        if not one.exists():
            _left_over.remove(one)


@contextmanager
def temporary(within: Path | None = None, *, bytes_in_memory: int | None = None) -> Iterator[Path]:
    """`new_folder`, discarded at the end."""
    folder = new_folder(within, bytes_in_memory=bytes_in_memory)
    try:
        yield folder
    finally:
        discard(folder)


@contextmanager
def own_place() -> Iterator[Path]:
    """While inside, what this process and its children keep temporarily goes into one folder, discarded at the end."""
    names = ("TMPDIR", "TEMP", "TMP")
    before = {name: os.environ.get(name) for name in names}
    with temporary() as folder:
        os.environ.update(dict.fromkeys(names, str(folder)))
        tempfile.tempdir = None
        try:
            yield folder
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            tempfile.tempdir = None


def discard_all() -> None:
    """Remove all folders of this process, which ends now."""
    for folder in list(_held):
        discard(folder)


def _make(parent: Path) -> Path:
    _sweep(parent)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        owner = (folder / _OWNER).open("wb")
        # Another process may sweep between these lines: the lock is then its own, or the file no longer there.
        if try_lock(owner) is not False and (folder / _OWNER).exists():
            _held[folder] = owner
            return folder
        owner.close()


def _sweep(parent: Path) -> None:
    """Remove the folders of processes that are gone."""
    for path in parent.glob(f"{PREFIX}*/{_OWNER}"):
        if path.parent in _held:
            continue
        with suppress(OSError), path.open("r+b") as owner:
            if try_lock(owner):
                shutil.rmtree(path.parent, ignore_errors=True)
