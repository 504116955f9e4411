"""NIfTI-1 and NIfTI-2 single files (.nii, .nii.gz).

Read here and not by ITK because ITK 5.4 reads truncated files without an error, replaces a zero spacing by 1 mm,
takes the spacing of an sform from ``pixdim``, and refuses sheared sforms. Field offsets, codes and the quaternion
formula are those of nifti1.h and nifti2.h (nifti.nimh.nih.gov).

Which of the two matrices is used is ITK's rule, so that 3D Slicer and the command line put a file at the same place:
the sform where there is no qform, or where its code is 1 (scanner) and it has no shear; else the qform; where there is
neither, index axes are taken for Left, Posterior, Superior. Where the two differ, the volume says by how much.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..grid import Grid
from ..volume import Volume
from ._common import Array, compact, rescaled

Matrix = npt.NDArray[np.float64]

_DTYPES: dict[int, tuple[str, int]] = {  # NIfTI code -> numpy type and values per voxel
    2: ("u1", 1), 4: ("i2", 1), 8: ("i4", 1), 16: ("f4", 1), 64: ("f8", 1), 256: ("i1", 1), 512: ("u2", 1),
    768: ("u4", 1), 1024: ("i8", 1), 1280: ("u8", 1), 128: ("u1", 3), 2304: ("u1", 4),
}  # fmt: skip
_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, millimetre, micrometre
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LARGEST_DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class Header:
    """The fields that are used. ``dims``: sizes from i on. ``pixdim``: 8 numbers, the first is qfac."""

    byte_order: str
    dims: tuple[int, ...]
    datatype: int
    pixdim: tuple[float, ...]
    offset: int
    slope: float
    intercept: float
    units: int
    qform_code: int
    sform_code: int
    quaternion: tuple[float, ...]
    shift: tuple[float, ...]
    srow: Matrix

    def qform(self) -> Matrix:
        """4x4 index -> RAS in the file's unit, from the quaternion (nifti1.h, method 2)."""
        b, c, d = self.quaternion
        a = max(0.0, 1.0 - (b * b + c * c + d * d)) ** 0.5
        if a == 0.0:
            b, c, d = np.array([b, c, d]) / (b * b + c * c + d * d) ** 0.5
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        qfac = -1.0 if self.pixdim[0] < 0 else 1.0
        matrix = np.eye(4)
        matrix[:3, :3] = rotation * (np.array(self.pixdim[1:4]) * [1, 1, qfac])
        matrix[:3, 3] = self.shift
        return matrix

    def sform(self) -> Matrix:
        """4x4 index -> RAS in the file's unit, as stored (nifti1.h, method 3)."""
        return np.vstack([self.srow, [0.0, 0.0, 0.0, 1.0]])


def read_nifti(path: Path) -> Volume:
    """A NIfTI file on its grid; ``array`` (K, J, I), or (K, J, I, C) where it has more than three dimensions."""
    warnings: list[str] = []
    stored, header = _read(path)
    grid = Grid.from_affine(*_affine(header, path.name, warnings))
    array = stored
    if header.slope not in (0.0,) and np.isfinite([header.slope, header.intercept]).all():
        array = rescaled(stored, header.slope, header.intercept)
    return Volume(compact(array, path.name, warnings), grid, name=path.name, warnings=tuple(warnings))


def read_header(path: Path) -> Header:
    """The header of a NIfTI file; `InputError` where it is not one."""
    with _open(path) as handle:
        return _header(handle, path)


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as handle:
        packed = handle.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _header(handle: BinaryIO, path: Path) -> Header:
    try:
        raw = handle.read(540)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name} is truncated or damaged (its compressed header cannot be read).") from error
    for order in "<>":
        size = struct.unpack_from(order + "i", raw.ljust(4, b"\0"))[0]
        if size == 348 and len(raw) >= 348:
            return _nifti1(raw, order, path)
        if size == 540 and len(raw) >= 540:
            return _nifti2(raw, order, path)
        if size in (348, 540):
            raise InputError(f"{path.name} is truncated: it ends inside its header; copy or export it again.")
    raise InputError(f"{path.name} is not a NIfTI image, although its name says so; check what the file is.")


def _getter(raw: bytes, order: str) -> Callable[[str, int], tuple[Any, ...]]:
    return lambda fmt, at: struct.unpack_from(order + fmt, raw, at)


def _nifti1(raw: bytes, order: str, path: Path) -> Header:
    if raw[344:348] == b"ni1\0":
        raise InputError(f"{path.name} is the header of a two-file NIfTI image; save it as one .nii or .nii.gz file.")
    get = _getter(raw, order)
    slope, intercept = get("2f", 112)
    qform_code, sform_code = get("2h", 252)
    return Header(
        byte_order=order,
        dims=_dims(get("8h", 40), path),
        datatype=get("h", 70)[0],
        pixdim=get("8f", 76),
        offset=int(get("f", 108)[0]),
        slope=slope,
        intercept=intercept,
        units=raw[123] & 7,
        qform_code=qform_code,
        sform_code=sform_code,
        quaternion=get("3f", 256),
        shift=get("3f", 268),
        srow=np.array(get("12f", 280), dtype=np.float64).reshape(3, 4),
    )


def _nifti2(raw: bytes, order: str, path: Path) -> Header:
    get = _getter(raw, order)
    slope, intercept = get("2d", 176)
    qform_code, sform_code = get("2i", 344)
    return Header(
        byte_order=order,
        dims=_dims(get("8q", 16), path),
        datatype=get("h", 12)[0],
        pixdim=get("8d", 104),
        offset=get("q", 168)[0],
        slope=slope,
        intercept=intercept,
        units=get("i", 500)[0] & 7,
        qform_code=qform_code,
        sform_code=sform_code,
        quaternion=get("3d", 352),
        shift=get("3d", 376),
        srow=np.array(get("12d", 400), dtype=np.float64).reshape(3, 4),
    )


def _dims(field: tuple[int, ...], path: Path) -> tuple[int, ...]:
    count = field[0]
    if not 1 <= count <= 7 or any(n < 1 for n in field[1 : count + 1]):
        raise InputError(f"{path.name}: the sizes in its header ({', '.join(map(str, field))}) are not valid.")
    dims = field[1 : count + 1]
    return dims + (1,) * (3 - count)


def _read(path: Path) -> tuple[Array, Header]:
    with _open(path) as handle:
        header = _header(handle, path)
        if header.datatype not in _DTYPES:
            raise InputError(
                f"{path.name} has voxels of NIfTI type {header.datatype}, not supported; save it as float."
            )
        code, samples = _DTYPES[header.datatype]
        dtype = np.dtype(header.byte_order + code)
        count = int(np.prod([float(n) for n in header.dims])) * samples
        needed = count * dtype.itemsize
        ratio = _LARGEST_DEFLATE_RATIO if isinstance(handle, gzip.GzipFile) else 1
        damaged = (
            f"{path.name} is truncated or damaged: it has less image data than its header says "
            f"({needed} bytes); copy or export it again."
        )
        if needed > path.stat().st_size * ratio:
            raise InputError(damaged)
        buffer = bytearray(needed)
        try:
            handle.seek(max(header.offset, 348))
            got = _read_into(handle, buffer)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(damaged) from error
    if got < needed:
        raise InputError(damaged)
    array: Array = np.frombuffer(buffer, dtype)
    shape: tuple[int, ...] = tuple(reversed(header.dims))
    if samples > 1:
        shape = (*shape, samples)
    array = array.reshape(shape)
    if samples == 1:
        # (..., T, K, J, I) -> (K, J, I, everything else)
        array = np.moveaxis(array.reshape((-1, *shape[-3:])), 0, -1)
        array = array[..., 0] if array.shape[3] == 1 else array
    elif len(header.dims) > 3 and int(np.prod(header.dims[3:])) > 1:
        raise InputError(f"{path.name} is a colour image with more than three dimensions; save one frame of it.")
    else:
        array = array.reshape((*shape[-4:-1], samples))
    return array, header


def _read_into(handle: BinaryIO, buffer: bytearray) -> int:
    view, got = memoryview(buffer), 0
    while got < len(buffer):
        n = cast(Any, handle).readinto(view[got : got + (1 << 24)])
        if not n:
            break
        got += n
    return got


def _affine(header: Header, name: str, warnings: list[str]) -> tuple[Matrix, tuple[int, int, int]]:
    """4x4 index -> LPS mm and the size (i, j, k)."""
    size = cast("tuple[int, int, int]", header.dims[:3])
    unit = _UNITS.get(header.units, 1.0)
    if unit != 1.0:
        warnings.append(
            f"{name} has its geometry in {'metres' if unit > 1 else 'micrometres'}; it was converted to mm."
        )
    header = _with_thickness(header, name, warnings)
    sheared = header.sform_code > 0 and _shear_degrees(header.sform()) > 0.1
    if header.sform_code > 0 and (header.qform_code <= 0 or (header.sform_code == 1 and not sheared)):
        chosen, used = header.sform(), "sform"
    elif header.qform_code > 0:
        chosen, used = header.qform(), "qform"
    else:
        warnings.append(
            f"{name} does not say how it lies in the patient (qform and sform codes are 0); its axes were taken for "
            "Left, Posterior and Superior with the origin at the first voxel."
        )
        return np.diag([*np.array(header.pixdim[1:4]) * unit, 1.0]), size
    if header.sform_code > 0 and header.qform_code > 0:
        apart = _apart(header.sform(), header.qform(), size) * unit
        if apart > 0.01:
            warnings.append(
                f"{name}: its sform (code {header.sform_code}) and qform (code {header.qform_code}) differ by up to "
                f"{apart:.2f} mm; the {used} was used, as 3D Slicer does."
            )
    if used == "sform":
        _compare_spacing(header, name, warnings, unit)
        if sheared:
            warnings.append(
                f"{name}: its axes are not at right angles (off by {_shear_degrees(chosen):.2f} degrees); the "
                "positions are kept as they are, but networks see a sheared picture."
            )
    elif sheared:
        warnings.append(
            f"{name}: its sform is sheared ({_shear_degrees(header.sform()):.2f} degrees) and was not used."
        )
    matrix = chosen.copy()
    matrix[:3] *= unit
    return _RAS_TO_LPS @ matrix, size


def _with_thickness(header: Header, name: str, warnings: list[str]) -> Header:
    """A single slice may have no spacing along its normal: 1 unit is assumed, and told."""
    if header.dims[2] > 1:
        return header
    pixdim, srow = list(header.pixdim), header.srow.copy()
    if header.sform_code > 0 and not srow[:, 2].any():
        normal = np.cross(srow[:, 0], srow[:, 1])
        length = float(np.linalg.norm(normal))
        srow[:, 2] = normal / length * (abs(pixdim[3]) or 1.0) if length else srow[:, 2]
    elif pixdim[3] != 0:
        return header
    if pixdim[3] == 0:
        pixdim[3] = 1.0
        warnings.append(f"{name} is one slice without a thickness; 1 mm was assumed.")
    return Header(**{**vars(header), "pixdim": tuple(pixdim), "srow": srow})


def _shear_degrees(matrix: Matrix) -> float:
    """Largest departure of the angles between axes from 90 degrees; 0 where an axis is zero (Grid refuses that)."""
    norms = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(norms).all() or not norms.all():
        return 0.0
    unit = matrix[:3, :3] / norms
    cosines = np.abs((unit.T @ unit)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))).max())


def _apart(one: Matrix, other: Matrix, size: tuple[int, int, int]) -> float:
    """Largest distance between the positions that two matrices give to the volume's corners."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(size) - 1)
    difference = (one - other)[:3]
    return float(np.linalg.norm(corners @ difference[:, :3].T + difference[:, 3], axis=1).max())


def _compare_spacing(header: Header, name: str, warnings: list[str], unit: float) -> None:
    lengths = np.linalg.norm(header.srow[:, :3], axis=0) * unit
    pixdim = np.abs(np.array(header.pixdim[1:4])) * unit
    if np.abs(lengths - pixdim).max() > 1e-3 * max(float(lengths.max()), 1e-6):
        stated, used = (" x ".join(f"{x:.4g}" for x in v) for v in (pixdim, lengths))
        warnings.append(
            f"{name}: its pixdim ({stated} mm) is not the spacing of its sform ({used} mm), which was used."
        )
