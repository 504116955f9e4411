"""A scene as a ``.mrb`` file, packed on all cores.

MRML writes the voxels uncompressed into a folder; they are then compressed in blocks, where its own writer would take
one core for all. The bundle is a zip archive of that folder, as MRML's own are.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer

from medseg.output.packing import pack_nrrd

from .headless import HeadlessScene

# Of all files, so that the same result gives the same bytes: the earliest that zip knows.
_TIME = (1980, 1, 1, 0, 0, 0)
_OFF, _ON = 'useCompression="0"', 'useCompression="1"'


def lay_out(headless: HeadlessScene, nodes: Sequence[Any], folder: Path) -> None:
    """Write the scene and its data into ``folder`` (which is made), the voxels of ``nodes`` uncompressed.

    The scene's file is called after the folder.
    Raises `OSError` with MRML's own messages where it could not.
    """
    folder.mkdir(parents=True)
    for node in nodes:
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetUseCompression(0)
    messages = slicer.vtkMRMLMessageCollection()
    if not headless.scene.SaveSceneToSlicerDataBundleDirectory(str(folder), None, messages):
        raise OSError(messages.GetAllMessagesAsString() or "the scene could not be written")


def pack(folder: Path, path: Path) -> None:
    """Pack what `lay_out` wrote into the bundle ``path``. Uses no MRML, so it may run in any thread.

    Raises `OSError` where the bundle could not be written.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(files, key=lambda p: p.suffix != ".mrml"):
            entry = zipfile.ZipInfo(f"{path.stem}/{file.relative_to(folder).as_posix()}", _TIME)
            entry.external_attr = 0o644 << 16
            entry.file_size = file.stat().st_size  # says whether the archive needs 64-bit sizes
            with archive.open(entry, "w") as out:
                if file.suffix == ".nrrd":
                    pack_nrrd(file, out)  # type: ignore[arg-type]
                elif file.suffix == ".mrml":
                    # Saved again by Slicer, the voxels are to be compressed.
                    out.write(file.read_text(encoding="utf-8").replace(_OFF, _ON).encode())
                else:
                    out.write(file.read_bytes())
