"""The files of a model package: safe names, safe unpacking, hashes, the private cache.

A package may come from anywhere, so nothing in it is trusted: no name leaves its folder, sizes are bounded before
anything is written, native libraries are refused, and code (Python, pickles, scripts) is never unpacked or loaded.
Every function raises `ModelError` with a sentence that names the file.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import ModelError

MANIFEST_NAME = "manifest.json"
MANIFEST_LIMIT = 1 << 20
ENTRY_LIMIT = 4 << 30
TOTAL_LIMIT = 8 << 30
COUNT_LIMIT = 1000
# Trained weights hardly compress; only an entry made to explode does better than this.
RATIO_LIMIT = 100
RATIO_FROM = 16 << 20
CACHE_DAYS = 30

_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d|conin\$|conout\$)(\..*)?$", re.IGNORECASE)
_NATIVE = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd|exe|com|scr|sys|ocx|node|msi)$", re.IGNORECASE)
_CODE = re.compile(
    r"\.(py[cow]?|pyz|ipynb|pkl|pickle|joblib|npy|npz|pth?|ckpt|h5|hdf5|keras|sh|bash|bat|cmd|ps1|vbs|js|jar|class"
    r"|lua|rb|pl|php|lnk|desktop|engine|plan|ort)$",
    re.IGNORECASE,
)
_MACHO = {b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}


# -- names --------------------------------------------------------------------------------------------------


def user_path(text: str | Path) -> Path:
    """The path that a user wrote, with ``~`` as home; "~name" of nobody is a name like others."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def safe_name(name: str, what: str) -> PurePosixPath:
    """``name`` as a relative path that stays in its folder on every system, or `ModelError`. ``what``: who says so."""
    bad = (
        not name
        or len(name) > 500
        or any(ord(c) < 32 or c in '\\:*?"<>|' for c in name)
        or name.startswith("/")
        or any(
            part in ("", ".", "..") or part != part.rstrip(" .") or _RESERVED.match(part)
            for part in name.rstrip("/").split("/")
        )
    )
    if bad:
        raise ModelError(
            f"{what}: the file name {name[:80]!r} is not a plain relative path inside the package; "
            "the package is refused. Ask its author for one whose files all lie in its own folder."
        )
    return PurePosixPath(name.rstrip("/"))


def inside(folder: Path, name: str, what: str) -> Path:
    """The existing regular file ``name`` in ``folder``; links that lead out of the folder are refused."""
    path = folder.joinpath(*safe_name(name, what).parts)
    try:
        resolved = path.resolve(strict=True)
    except OSError:
        raise ModelError(f"{what}: the file {name} is missing beside the manifest; add it to the package.") from None
    if not resolved.is_relative_to(folder.resolve()):
        raise ModelError(f"{what}: {name} is a link that leads out of the package; put the file itself there.")
    if not resolved.is_file():
        raise ModelError(f"{what}: {name} is not a file.")
    return path


def is_code(name: str) -> bool:
    """Whether MedSeg leaves out the file ``name`` because it holds (or may hold) code."""
    return _CODE.search(name) is not None


def refuse_native(name: str, head: bytes, what: str) -> None:
    """`ModelError` for a native library or program, by its name or its first bytes."""
    native = bool(_NATIVE.search(name)) or head[:4] == b"\x7fELF" or head[:4] in _MACHO
    if not native and head[:2] == b"MZ" and len(head) >= 64:
        at = struct.unpack_from("<I", head, 60)[0]
        native = head[at : at + 4] == b"PE\0\0"
    if native:
        raise ModelError(
            f"{what}: it holds a native library or program ({name}). Models are data and need none; "
            "the package is refused and nothing in it was run."
        )


def package_files(folder: Path) -> list[PurePosixPath]:
    """The files of the package ``folder`` that may travel (no code, no hidden files), checked one by one."""
    found: list[PurePosixPath] = []
    seen = 0
    for here, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for name in sorted(names):
            seen += 1
            if seen > COUNT_LIMIT:
                raise ModelError(f"{folder.name}: more than {COUNT_LIMIT} files; this is not a model package.")
            path = Path(here, name)
            if name.startswith(".") or not path.is_file():
                continue
            relative = path.relative_to(folder).as_posix()
            with path.open("rb") as file:
                refuse_native(relative, file.read(4096), folder.name)
            if not is_code(name):
                inside(folder, relative, folder.name)
                found.append(PurePosixPath(relative))
    return found


# -- hashes -------------------------------------------------------------------------------------------------


def sha256_of(*paths: Path) -> str:
    """SHA-256 (hexadecimal) of the bytes of ``paths``, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


# -- cache --------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """The user's private cache (``MEDSEG_CACHE_DIR`` overrides it), made when needed; a temporary one if unwritable."""
    override = os.environ.get("MEDSEG_CACHE_DIR")
    if override:
        folder = Path(override)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "medseg" / "cache"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "medseg"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medseg"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"medseg-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        folder.mkdir(exist_ok=True, mode=0o700)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            folder = Path(tempfile.mkdtemp(prefix="medseg-"))
    return folder


def _forget_old(folder: Path) -> None:
    """Remove copies that were not used for `CACHE_DAYS`; they can be made again from their package."""
    limit = time.time() - CACHE_DAYS * 86400
    for entry in folder.iterdir():
        try:
            if entry.is_dir() and entry.stat().st_mtime < limit:
                shutil.rmtree(entry, ignore_errors=True)
        except OSError:
            continue


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside ``target`` that becomes ``target`` at the end, or vanishes on any error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        yield temporary
        old = None
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent)) / "was"
            target.replace(old)
        temporary.replace(target)
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"The model could not be copied to {target.parent}: {error.strerror or error}; "
            "check the free space and the permissions there."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def private_copy(path: Path, name: str) -> Path:
    """A folder of the cache, named by hash, that holds a copy of ``path`` as ``name``."""
    packages = cache_folder() / "packages"
    digest = sha256_of(path)
    folder = packages / digest
    copy = folder / name
    if copy.is_file() and sha256_of(copy) == digest:
        os.utime(folder)
        return folder
    with new_folder(folder) as new:
        shutil.copyfile(path, new / name)
        if sha256_of(new / name) != digest:
            raise ModelError(f"{path.name} changed while it was read; try again when its download is finished.")
    _forget_old(packages)
    return folder


# -- zip ----------------------------------------------------------------------------------------------------


def unpack(archive: Path) -> tuple[Path, list[str]]:
    """Unpack a zipped package into the cache; its folder, and the names of the files that were left out (code)."""
    try:
        with zipfile.ZipFile(archive) as file:
            wanted, left_out = _checked_entries(file, archive.name)
            packages = cache_folder() / "packages"
            folder = packages / sha256_of(archive)
            if _is_unpacked(folder, wanted):
                os.utime(folder)
                return folder, left_out
            total = sum(entry.file_size for entry in wanted.values())
            packages.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(packages).free < total + (64 << 20):
                raise ModelError(
                    f"{archive.name} needs {total / 1e6:.0f} MB in {packages}, but the disk is full; make room there."
                )
            with new_folder(folder) as new:
                for name, entry in wanted.items():
                    target = new.joinpath(*PurePosixPath(name).parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with file.open(entry) as source, target.open("wb") as out:
                        _copy_bounded(source, out, entry, archive.name)
            _forget_old(packages)
            return folder, left_out
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a full disk, a folder that may not be written
            raise ModelError(
                f"{archive.name} cannot be unpacked: {error.strerror}; make room or change the place."
            ) from error
        raise ModelError(
            f"{archive.name} is damaged (it points before its start); download or copy it again."
        ) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError, struct.error) as error:
        raise ModelError(
            f"{archive.name} is damaged or not a zip file ({error}); download or copy it again."
        ) from error


def _checked_entries(file: zipfile.ZipFile, what: str) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """Entries to unpack by their name in the package, and the names left out. Nothing has been written yet."""
    infos = file.infolist()
    if len(infos) > COUNT_LIMIT:
        raise ModelError(f"{what}: {len(infos)} entries, but a package has at most {COUNT_LIMIT}.")
    total = 0
    files: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = str(safe_name(info.orig_filename, what))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ModelError(f"{what}: {name} is a link or a special file; the package is refused.")
        if info.flag_bits & 0x1:
            raise ModelError(f"{what}: {name} is encrypted; pack the model without a password.")
        total += info.file_size
        if info.file_size > ENTRY_LIMIT or total > TOTAL_LIMIT:
            raise ModelError(f"{what}: it unpacks to more than {TOTAL_LIMIT >> 30} GB; the package is refused.")
        if info.file_size > RATIO_FROM and info.file_size > RATIO_LIMIT * max(info.compress_size, 1):
            raise ModelError(
                f"{what}: {name} would grow {info.file_size // max(info.compress_size, 1)}-fold on unpacking, "
                "which no trained model does; the package is refused."
            )
        if not info.is_dir():
            if name.lower() in {n.lower() for n in files}:
                raise ModelError(f"{what}: two entries are called {name}; the package is refused.")
            files[name] = info
    files = _below_top_folder(files)
    wanted: dict[str, zipfile.ZipInfo] = {}
    left_out: list[str] = []
    for name, info in files.items():
        parts = PurePosixPath(name).parts
        if parts[0] == "__MACOSX" or parts[-1] in (".DS_Store", "Thumbs.db", "desktop.ini"):
            continue
        with file.open(info) as head:
            refuse_native(name, head.read(4096), what)
        if is_code(name) or any(part.startswith(".") for part in parts):
            left_out.append(name)
        else:
            wanted[name] = info
    if MANIFEST_NAME not in wanted:
        raise ModelError(f"{what}: there is no {MANIFEST_NAME} in it; this is not a model package.")
    return wanted, left_out


def _below_top_folder(files: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Names without the one folder that packing a folder puts around everything."""
    if MANIFEST_NAME in files:
        return files
    tops = {name.split("/", 1)[0] for name in files if "/" in name} - {"__MACOSX"}
    if len(tops) == 1 and f"{(top := tops.pop())}/{MANIFEST_NAME}" in files:
        return {name[len(top) + 1 :]: info for name, info in files.items() if name.startswith(f"{top}/")}
    return files


def _is_unpacked(folder: Path, wanted: dict[str, zipfile.ZipInfo]) -> bool:
    """Whether ``folder`` holds exactly the entries, unchanged (size and CRC of each)."""
    if not folder.is_dir():
        return False
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if present != set(wanted):
        return False
    return all(_same_content(folder.joinpath(*PurePosixPath(n).parts), info) for n, info in wanted.items())


def _same_content(path: Path, info: zipfile.ZipInfo) -> bool:
    if path.is_symlink() or path.stat().st_size != info.file_size:
        return False
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc == info.CRC


def _copy_bounded(source: IO[bytes], out: IO[bytes], info: zipfile.ZipInfo, what: str) -> None:
    """Copy an entry, never more bytes than it declared."""
    left = info.file_size
    while block := source.read(1 << 20):
        left -= len(block)
        if left < 0:
            raise ModelError(f"{what}: {info.filename} is larger than it declares; the package is refused.")
        out.write(block)
    if left:
        raise ModelError(f"{what}: {info.filename} ends early; download or copy the package again.")


def write_zip(out: Path, files: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write a zip of (name, file or content), atomically and the same each time (sorted, one date)."""
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".new-", suffix=".zip", dir=out.parent)
    os.close(handle)
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, content in sorted(files, key=lambda item: item[0]):
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
                if isinstance(content, Path):
                    with content.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, 1 << 20)
                else:
                    archive.writestr(info, content)
        Path(temporary).replace(out)
    except OSError as error:
        raise ModelError(f"{out.name} could not be written: {error.strerror or error}.") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
