"""The files of a result: segmentation (``.seg.nrrd``), probability maps (``.nii.gz``), and a check that they are whole.

SimpleITK does not always notice a full disk (its NIfTI writer reports success for an empty file), so each compressed
file is read back to its end.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..errors import OutputError
from ..geometry.grid import Grid
from ..result import Layer, SegmentClass

_BLOCK = 1 << 22


def write_segmentation(path: Path, layers: Sequence[Layer], grid: Grid, model_id: str = "") -> None:
    """Write ``layers`` as the labelmap file that 3D Slicer's segmentation storage reads, gzip-compressed.

    One layer is a 3D image; several layers (overlapping classes) are a 4D image whose first axis is a list. Names,
    colours, label values, layers, extents and terminology entries stand in the header as ``Segment<n>_*`` fields, the
    geometry of the volume as the reference geometry.

    Raises `OSError` where the file could not be written completely.
    """
    dtype = np.result_type(np.uint8, *(layer.labels.dtype for layer in layers if layer.labels.dtype != np.bool_))
    image: Any
    if len(layers) == 1:
        image = sitk.GetImageFromArray(layers[0].labels.astype(dtype, copy=False))
    else:
        image = _compose([sitk.GetImageFromArray(layer.labels.astype(dtype, copy=False)) for layer in layers])
    grid.place(image)
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    image.SetMetaData("Segmentation_ConversionParameters", _reference_geometry(grid))
    n = 0
    for number, layer in enumerate(layers):
        for item in layer.classes:
            for field, value in _segment_fields(item, number, grid, model_id).items():
                image.SetMetaData(f"Segment{n}_{field}", value)
            n += 1
    _write_image(image, path)
    if len(layers) > 1:
        _first_axis_is_list(path)
    _check_whole(path, int(np.prod(grid.size)) * len(layers) * dtype.itemsize)


def save_segmentation(path: str | Path, layers: Sequence[Layer], grid: Grid, model_id: str = "") -> Path:
    """As `write_segmentation`, all or nothing: a file that was there stays as it is until the new one is whole.

    Raises `OutputError` where it cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(".seg.nrrd"):
        raise OutputError(f"{path.name}: the name of a segmentation file ends in .seg.nrrd.")
    with replacing(path) as new:
        write_segmentation(new, layers, grid, model_id)
    return path


def save_text(path: str | Path, text: str, *, keep_as: Path | None = None) -> Path:
    """Write ``text`` to ``path``, all or nothing, and onto the disk; what was there goes to ``keep_as`` where given.

    Raises `OutputError` where it cannot be written.
    """
    path = Path(path)
    with replacing(path, keep_as) as new, new.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path


@contextmanager
def replacing(path: Path, keep_as: Path | None = None) -> Iterator[Path]:
    """A path beside ``path`` to write to, which takes its place when the block ends and vanishes where it fails.

    Raises `OutputError` for what the operating system refuses.
    """
    new = path.with_name(f".new-{secrets.token_hex(6)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        if keep_as is not None and path.is_file():
            path.replace(keep_as)
        new.replace(path)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}; is the disk full?") from error
    finally:
        new.unlink(missing_ok=True)


def write_map(path: Path, array: npt.NDArray[Any], grid: Grid) -> None:
    """Write a probability map (K, J, I) as float32 NIfTI. Raises `OSError` where it could not be written completely."""
    image = sitk.GetImageFromArray(np.asarray(array, dtype=np.float32))
    grid.place(image)
    _write_image(image, path)
    _check_whole(path, 352 + 4 * int(np.prod(grid.size)))


def segment_id(model_id: str, value: int) -> str:
    """The predictable identifier of a model's class in files: ``model_1``, or ``Segment_1`` without a model."""
    return f"{file_name(model_id) or 'Segment'}_{value}"


def file_name(text: str) -> str:
    """``text`` with all but letters, digits, dot, dash and underscore replaced, without a leading dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


def _segment_fields(item: SegmentClass, layer: int, grid: Grid, model_id: str) -> dict[str, str]:
    last = [n - 1 for n in grid.size]
    tags = {"MedSeg.Model": model_id, "MedSeg.Class": item.name}
    if item.terminology:
        tags["TerminologyEntry"] = item.terminology
    if item.lesion:
        tags["MedSeg.Lesion"] = "1"
    return {
        "ID": segment_id(model_id, item.value),
        "Name": " ".join(item.name.split()),
        "NameAutoGenerated": "0",
        "Color": " ".join(f"{c:.6g}" for c in item.color),
        "ColorAutoGenerated": "0",
        "LabelValue": str(item.value),
        "Layer": str(layer),
        "Extent": f"0 {last[0]} 0 {last[1]} 0 {last[2]}",
        # "|" ends a tag in this field.
        "Tags": "".join(f"{key}:{' '.join(value.replace('|', '/').split())}|" for key, value in sorted(tags.items())),
    }


def _reference_geometry(grid: Grid) -> str:
    """Slicer's ``name|value|description&`` form; the value is the 4x4 index-to-RAS matrix by rows, then the extent."""
    numbers = [f"{v:.17g}" for v in grid.affine_ras.ravel()]
    extent = [str(v) for n in grid.size for v in (0, n - 1)]
    return f"Reference image geometry|{';'.join([*numbers, *extent])};|Image geometry of the segmented volume.&"


def _compose(images: list[Any]) -> Any:
    library: Any = sitk
    return library.Compose(images)


def _write_image(image: Any, path: Path) -> None:
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(errno.EIO, "the image library could not write it", str(path)) from error


def _first_axis_is_list(path: Path) -> None:
    """Say that the first axis counts layers; SimpleITK calls it a vector, which other readers take for one image."""
    data = path.read_bytes()
    end = data.index(b"\n\n")
    path.write_bytes(data[:end].replace(b"kinds: vector ", b"kinds: list ", 1) + data[end:])


def _check_whole(path: Path, size: int) -> None:
    """Decompress the file (after the NRRD header) to its end: checksum and number of bytes must fit."""
    count = 0
    try:
        with path.open("rb") as file:
            if path.suffix == ".nrrd":
                while file.readline() not in (b"\n", b""):
                    pass
            with gzip.open(file, "rb") as packed:
                while block := packed.read(_BLOCK):
                    count += len(block)
    except (EOFError, gzip.BadGzipFile) as error:
        raise OSError(errno.EIO, "it was cut off", str(path)) from error
    if count != size:
        raise OSError(errno.EIO, "it was cut off", str(path))
