"""What all readers share: checks before reading, compact data types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]

SUPPORTED = (
    "NIfTI (.nii, .nii.gz), MGH (.mgz, .mgh), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), DICOM, PNG, JPEG, TIFF"
)


def check_file(path: Path) -> bytes:
    """The first 512 bytes of a file; `InputError` where it is missing, not readable, empty, or an archive."""
    try:
        with path.open("rb") as handle:
            head = handle.read(512)
    except FileNotFoundError as error:
        raise InputError(f"{path.name}: there is no such file or folder; check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path.name} may not be read by you; change its permissions or copy it.") from error
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    if not head:
        raise InputError(f"{path.name} is an empty file; copy or export it again.")
    if head.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{path.name} is a zip archive, not an image; unpack it and give the image or the DICOM folder."
        )
    return head


def is_dicom_head(head: bytes) -> bool:
    """True for a DICOM file by its first bytes: the ``DICM`` mark, or a data set without preamble."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[:2] not in (b"\x08\x00", b"\x02\x00") or head[3] != 0:
        return False
    return head[4:6].isupper() or int.from_bytes(head[4:8], "little") < 256


def compact(array: Array, name: str, warnings: list[str]) -> Array:
    """Native byte order; integers as they are; double -> float32 unless that would lose more than rounding."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not np.issubdtype(array.dtype, np.floating) or array.dtype == np.float32:
        return array
    if array.dtype.itemsize > 4:
        finite = np.isfinite(array)
        largest = float(np.abs(array, where=finite, out=np.zeros_like(array)).max(initial=0.0))
        if largest > float(np.finfo(np.float32).max):
            warnings.append(f"{name} has values up to {largest:.3g}, beyond single precision; it is kept in double.")
            return array
        if largest > 2**24 and np.array_equal(np.rint(array), array):
            warnings.append(
                f"{name} has whole numbers up to {largest:.0f}, which single precision would round; "
                "it is kept in double."
            )
            return array
    return array.astype(np.float32)


def rescaled(stored: Array, slope: float, intercept: float) -> Array:
    """``stored * slope + intercept``: integers where both are whole numbers, else float32."""
    if slope == 1 and intercept == 0:
        return stored
    if float(slope).is_integer() and float(intercept).is_integer() and np.issubdtype(stored.dtype, np.integer):
        ends = [int(v) * int(slope) + int(intercept) for v in (stored.min(), stored.max())]
        for dtype in (np.int16, np.int32, np.int64):
            info = np.iinfo(dtype)
            work = np.result_type(dtype, np.int32)
            fits = info.min <= min(ends) and max(ends) <= info.max
            if fits and max(abs(slope), abs(intercept)) < np.iinfo(work).max:  # what wraps on the way wraps back
                return (stored.astype(work) * int(slope) + int(intercept)).astype(dtype)
    out = np.empty(stored.shape, np.float32)
    for n in range(stored.shape[0]):  # slice by slice: double precision without a double copy of the volume
        out[n] = stored[n].astype(np.float64) * slope + intercept
    return out
