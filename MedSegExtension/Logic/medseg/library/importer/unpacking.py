"""Archives of model folders, unpacked into a folder that vanishes again."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ...errors import ModelError

_KINDS = (".json", ".yaml", ".yml", ".ini", ".csv", ".pt", ".ts", ".onnx", ".data", ".txt")
_LIMIT = 32 << 30


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The descriptions and networks of an archive; the folder that it holds alone, or one named as the archive.

    Raises `ModelError` where a name leads outside, or all of it is too large.
    """
    with tempfile.TemporaryDirectory(prefix="medseg-unpacked-") as scratch, zipfile.ZipFile(path) as archive:
        root = Path(scratch) / (path.stem or "model")
        root.mkdir()
        wanted = [i for i in archive.infolist() if i.filename.lower().endswith(_KINDS) and not i.is_dir()]
        if sum(i.file_size for i in wanted) > _LIMIT:
            raise ModelError(f"{path.name}: what it unpacks to is larger than {_LIMIT >> 30} GB.")
        for info in wanted:
            inner = PurePosixPath(info.filename.replace("\\", "/"))
            if inner.is_absolute() or ".." in inner.parts or ":" in info.filename:
                raise ModelError(f"{path.name}: {info.filename!r} would be written outside its folder.")
            target = root.joinpath(*inner.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
        inside = list(root.iterdir())
        yield inside[0] if len(inside) == 1 and inside[0].is_dir() else root
