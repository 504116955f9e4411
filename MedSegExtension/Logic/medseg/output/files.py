"""The files of a result: segmentation (``.seg.nrrd``) and probability maps (``.nii.gz``), compressed on all cores.

SimpleITK (loaded when a file is written) makes the headers, this module the voxels: they are compressed on all cores,
and a full disk is noticed (SimpleITK's NIfTI writer reports success for an empty file).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OutputError, not_written
from ..geometry.grid import Grid
from ..result import Layer, SegmentClass
from .packing import BLOCK, LABEL_LEVEL, blocks_of, gzip_stream, nrrd_header, packed_nrrd_header

# Bytes before the first voxel of a NIfTI-1 file without extensions.
_NIFTI_START = 352


def write_segmentation(path: Path, layers: Sequence[Layer], grid: Grid, model_id: str = "") -> None:
    """Write ``layers`` as the labelmap file that 3D Slicer's segmentation storage reads, gzip-compressed.

    One layer is a 3D image; several layers (overlapping classes) are a 4D image whose first axis is a list. Names,
    colours, label values, layers, extents and terminology entries stand in the header as ``Segment<n>_*`` fields, the
    geometry of the volume as the reference geometry. Labels are compressed where they lie, without a copy.

    Raises `OSError` where the file could not be written completely.
    """
    dtype = np.result_type(np.uint8, *(layer.labels.dtype for layer in layers if layer.labels.dtype != np.bool_))
    header = _segmentation_header(path, layers, grid, model_id, dtype)
    with path.open("wb") as file:
        file.write(packed_nrrd_header(header))
        for piece in gzip_stream(_label_blocks([layer.labels for layer in layers], dtype), LABEL_LEVEL):
            file.write(piece)


def _segmentation_header(path: Path, layers: Sequence[Layer], grid: Grid, model_id: str, dtype: np.dtype[Any]) -> bytes:
    """The NRRD header as ITK writes it for labels of ``dtype``, uncompressed; it is made beside ``path``."""
    import SimpleITK as sitk

    # One voxel is enough for ITK to say all but the size.
    one = np.zeros((1, 1, 1), dtype)
    image: Any = sitk.GetImageFromArray(one)
    if len(layers) > 1:
        image = _compose([sitk.GetImageFromArray(one) for _ in layers])
    grid.place(image)
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    image.SetMetaData("Segmentation_ConversionParameters", _reference_geometry(grid))
    n, ids = 0, set[str]()
    for number, layer in enumerate(layers):
        for item in layer.classes:
            # Overlapping segments of a person often have one label value; Slicer shows only the last of one identifier.
            identifier = wanted = segment_id(model_id, item.value)
            while identifier in ids:
                identifier = f"{wanted}_{len(ids)}"
            ids.add(identifier)
            for field, value in _segment_fields(item, identifier, number, grid, model_id).items():
                image.SetMetaData(f"Segment{n}_{field}", value)
            n += 1
    with _by_itk(image, path, ".nrrd") as small, small.open("rb") as file:
        header = nrrd_header(file)
    size = " ".join(str(n) for n in grid.size)
    if len(layers) == 1:
        return _replaced(header, b"\nsizes: 1 1 1\n", f"\nsizes: {size}\n".encode())
    header = _replaced(header, f"\nsizes: {len(layers)} 1 1 1\n".encode(), f"\nsizes: {len(layers)} {size}\n".encode())
    # SimpleITK calls the first axis a vector, which other readers take for one image of several values.
    return _replaced(header, b"\nkinds: vector ", b"\nkinds: list ")


def _label_blocks(layers: Sequence[npt.NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[bytes | memoryview]:
    """The voxels of the file, some slices at a time; of several layers the layer is the fastest axis."""
    rows = max(1, BLOCK // max(1, layers[0][0].size * dtype.itemsize * len(layers)))
    for start in range(0, layers[0].shape[0], rows):
        slab = [labels[start : start + rows].astype(dtype, copy=False) for labels in layers]
        block = np.ascontiguousarray(slab[0] if len(slab) == 1 else np.stack(slab, axis=-1))
        yield from blocks_of(block.reshape(-1).view(np.uint8).data)


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
        raise OutputError(not_written(path, error)) from error
    finally:
        with suppress(OSError):  # where the folder is none, the error above has said so
            new.unlink(missing_ok=True)


def write_map(path: Path, array: npt.NDArray[Any], grid: Grid) -> None:
    """Write a probability map (K, J, I) as float32 NIfTI. Raises `OSError` where it could not be written completely."""
    import SimpleITK as sitk

    image: Any = sitk.GetImageFromArray(np.zeros((1, 1, 1), np.float32))
    grid.place(image)
    with _by_itk(image, path, ".nii") as small:
        header = bytearray(small.read_bytes()[:_NIFTI_START])
    # dim[1] to dim[3] of the NIfTI-1 header; nothing else in it depends on the size.
    struct.pack_into("<3h", header, 42, *grid.size)
    with path.open("wb") as file:
        for piece in gzip_stream(_map_blocks(bytes(header), array)):
            file.write(piece)


def _map_blocks(header: bytes, array: npt.NDArray[Any]) -> Iterator[bytes | memoryview]:
    yield header
    for plane in array:
        yield from blocks_of(np.ascontiguousarray(plane, dtype="<f4").reshape(-1).view(np.uint8).data)


def segment_id(model_id: str, value: int) -> str:
    """The predictable identifier of a model's class in files: ``model_1``, or ``Segment_1`` without a model."""
    return f"{file_name(model_id) or 'Segment'}_{value}"


def file_name(text: str) -> str:
    """``text`` with all but letters, digits, dot, dash and underscore replaced, without a leading dot."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")


def _segment_fields(item: SegmentClass, identifier: str, layer: int, grid: Grid, model_id: str) -> dict[str, str]:
    last = [n - 1 for n in grid.size]
    tags = {"MedSeg.Model": model_id, "MedSeg.Class": item.name}
    if item.terminology:
        tags["TerminologyEntry"] = item.terminology
    if item.lesion:
        tags["MedSeg.Lesion"] = "1"
    return {
        "ID": identifier,
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
    import SimpleITK

    library: Any = SimpleITK
    return library.Compose(images)


@contextmanager
def _by_itk(image: Any, path: Path, suffix: str) -> Iterator[Path]:
    """A small file beside ``path`` that SimpleITK wrote of ``image``, uncompressed; it is removed afterwards."""
    import SimpleITK as sitk

    small = path.with_name(f".head-{secrets.token_hex(6)}{suffix}")
    try:
        sitk.WriteImage(image, str(small), useCompression=False)
        yield small
    except RuntimeError as error:
        raise OSError(errno.EIO, "the image library could not write it", str(path)) from error
    finally:
        small.unlink(missing_ok=True)


def _replaced(header: bytes, old: bytes, new: bytes) -> bytes:
    if header.count(old) != 1:
        raise OSError(errno.EIO, "the image library wrote an unknown header")
    return header.replace(old, new)
