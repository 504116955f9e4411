"""NIfTI-1 and NIfTI-2 single files (.nii, .nii.gz), header and voxels by nibabel.

Not by ITK: 5.4 reads truncated files without an error, replaces a zero spacing by 1 mm, takes the spacing of an sform
from ``pixdim``, and refuses sheared sforms. Not by ``nibabel.load``, which goes by the file's name, maps it, and
mends headers without telling.

Which of the two matrices is used is ITK's rule, so that 3D Slicer and the command line put a file at the same place:
the sform where there is no qform, or where its code is 1 (scanner) and it has no shear; else the qform; where there is
neither, index axes are taken for Left, Posterior, Superior. Where the two differ, the volume says by how much.
"""

from __future__ import annotations

import math
import zlib
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.quaternions import quat2mat

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ._common import compact, rescaled
from .voxels import Gzip, stored_voxels

Matrix = npt.NDArray[np.float64]

_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, millimetre, micrometre
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FRAME_UNITS = {8: "s", 16: "ms", 24: "us", 32: "Hz", 40: "ppm", 48: "rad/s"}


def read_nifti(path: Path) -> Volume:
    """A NIfTI file on its grid; ``array`` (K, J, I), or (K, J, I, C) where it has more than three dimensions."""
    warnings: list[str] = []
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with Gzip(fileobj=file) if packed else file as handle:
            header = _header(handle, path)
            dims = _dims(header, path)
            array = stored_voxels(handle, _dtype(header, dims, path), _offset(header, path), dims, path)
    grid = Grid.from_affine(*_affine(header, dims, path.name, warnings))
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite([slope, intercept]).all():
        warnings.append(f"{path.name}: its slope {slope} and intercept {intercept} are not valid and were ignored.")
    elif slope != 0 and header.get_data_dtype().names is None:  # colours are not scaled (nifti1.h)
        array = rescaled(array, slope, intercept)
    frames = _frames(header, dims) if header.get_data_dtype().names is None else ()
    array = compact(array, path.name, warnings)
    return Volume(array, grid, name=path.name, warnings=tuple(warnings), frames=frames)


def _header(handle: BinaryIO | Gzip, path: Path) -> Any:
    """nibabel's header, unchecked (its checks mend); `InputError` where the file is not a single NIfTI file."""
    try:
        raw = handle.read(Nifti2Header.sizeof_hdr)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path.name} is truncated or damaged (its compressed header cannot be read).") from error
    kinds: dict[int, Any] = {kind.sizeof_hdr: kind for kind in (Nifti1Header, Nifti2Header)}
    for order in ("little", "big"):
        kind = kinds.get(int.from_bytes(raw[:4], order))
        if kind is None:
            continue
        if len(raw) < kind.sizeof_hdr:
            raise InputError(f"{path.name} is truncated: it ends inside its header; copy or export it again.")
        header = kind(raw[: kind.sizeof_hdr], order, check=False)
        if header["magic"] == kind.single_magic:
            return header
        if header["magic"] == kind.pair_magic:
            raise InputError(f"{path.name} is the header of a two-file NIfTI image; save it as one .nii or .nii.gz.")
    raise InputError(f"{path.name} is not a NIfTI image, although its name says so; check what the file is.")


def _dims(header: Any, path: Path) -> tuple[int, ...]:
    """Sizes from i on, at least three."""
    count, *sizes = header["dim"].tolist()
    if not 1 <= count <= 7 or min(sizes[:count]) < 1:
        listed = ", ".join(str(n) for n in (count, *sizes))
        raise InputError(f"{path.name}: the sizes in its header ({listed}) are not valid.")
    return (*sizes[:count], *(1,) * (3 - count))


def _dtype(header: Any, dims: tuple[int, ...], path: Path) -> np.dtype[Any]:
    """The type of the stored voxels; `InputError` for types that are no numbers or colours."""
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype(np.void)
    if not dtype.names and (dtype.kind not in "iuf" or dtype.itemsize > 8):
        raise InputError(f"{path.name} has voxels of NIfTI type {header['datatype']}, not supported; save it as float.")
    if dtype.names and math.prod(dims[3:]) > 1:
        raise InputError(f"{path.name} is a colour image with more than three dimensions; save one frame of it.")
    return dtype


def _offset(header: Any, path: Path) -> int:
    """Where the voxels begin, in bytes."""
    try:
        return max(int(header.get_data_offset()), int(header.sizeof_hdr))
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path.name} is truncated or damaged: its header says no valid start of the data.") from error


def _frames(header: Any, dims: tuple[int, ...]) -> tuple[str, ...]:
    """What the frames of an image with more than three dimensions are, by the unit of its fourth (nifti1.h)."""
    count = math.prod(dims[3:])
    if count < 2:
        return ()
    step, start = float(header["pixdim"][4]), float(header["toffset"])
    unit = _FRAME_UNITS.get(int(header["xyzt_units"]) & 0x38)
    if unit is None or len(dims) > 4 or not math.isfinite(step) or step <= 0:
        return tuple(f"frame {n}" for n in range(1, count + 1))
    return tuple(f"at {start + n * step:g} {unit}" for n in range(count))


def _affine(header: Any, dims: tuple[int, ...], name: str, warnings: list[str]) -> tuple[Matrix, tuple[int, ...]]:
    """4x4 index -> LPS mm and the size (i, j, k)."""
    size = dims[:3]
    unit = _UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    if unit != 1.0:
        stored = "metres" if unit > 1 else "micrometres"
        warnings.append(f"{name} has its geometry in {stored}; it was converted to mm.")
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = header.get_sform() if sform_code > 0 else np.zeros((4, 4))
    zooms = header["pixdim"][1:4].astype(np.float64)
    if size[2] == 1:
        _give_thickness(sform, zooms, unit, name, warnings)
    if (zooms < 0).any():
        warnings.append(f"{name} has a negative voxel size in its header, which may mirror it; check its sides.")
    qform = _qform(header, zooms)
    shear = _shear_degrees(sform)
    if sform_code > 0 and (qform_code <= 0 or (sform_code == 1 and shear <= 0.1)):
        chosen, used = sform, "sform"
    elif qform_code > 0:
        chosen, used = qform, "qform"
    else:
        warnings.append(
            f"{name} does not say how it lies in the patient (qform and sform codes are 0); its axes were taken for "
            "Left, Posterior and Superior with the origin at the first voxel."
        )
        return np.diag([*zooms * unit, 1.0]), size
    if sform_code > 0 and qform_code > 0:
        apart = _apart(sform, qform, size) * unit
        if apart > 0.01:
            warnings.append(
                f"{name}: its sform (code {sform_code}) and qform (code {qform_code}) differ by up to "
                f"{apart:.2f} mm; the {used} was used, as 3D Slicer does."
            )
    if used == "sform":
        lengths, stated = voxel_sizes(sform) * unit, np.abs(zooms) * unit
        if np.abs(lengths - stated).max() > 1e-3 * max(float(lengths.max()), 1e-6):
            in_header, in_sform = (" x ".join(f"{x:.4g}" for x in v) for v in (stated, lengths))
            warnings.append(
                f"{name}: its pixdim ({in_header} mm) is not the spacing of its sform ({in_sform} mm), which was used."
            )
        if shear > 0.1:
            warnings.append(
                f"{name}: its axes are not at right angles (off by {shear:.2f} degrees); the "
                "positions are kept as they are, but networks see a sheared picture."
            )
    elif shear > 0.1:
        warnings.append(f"{name}: its sform is sheared ({shear:.2f} degrees) and was not used.")
    return _RAS_TO_LPS @ np.diag([unit, unit, unit, 1.0]) @ chosen, size


def _qform(header: Any, zooms: Matrix) -> Matrix:
    """4x4 index -> RAS in the file's unit (nifti1.h, method 2), with ITK's limit for half turns.

    nibabel's ``get_qform`` refuses a qfac of 0 and quaternions a little too long, and has another limit.
    """
    b, c, d = (float(header[f"quatern_{axis}"]) for axis in "bcd")
    square = 1.0 - (b * b + c * c + d * d)
    rotation = quat2mat([math.sqrt(square) if square >= 1e-7 else 0.0, b, c, d])
    qfac = -1.0 if header["pixdim"][0] < 0 else 1.0
    shift = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    return np.asarray(from_matvec(rotation * zooms * [1.0, 1.0, qfac], shift))


def _give_thickness(sform: Matrix, zooms: Matrix, unit: float, name: str, warnings: list[str]) -> None:
    """A single slice may have no spacing along its normal: the other matrix's is taken, else 1 mm, and told."""
    normal = np.cross(sform[:3, 0], sform[:3, 1])
    if zooms[2] == 0:
        zooms[2] = np.linalg.norm(sform[:3, 2])
    if zooms[2] == 0:
        zooms[2] = 1.0 / unit
        warnings.append(f"{name} is one slice without a thickness; 1 mm was assumed.")
    if normal.any() and not sform[:3, 2].any():
        sform[:3, 2] = normal / np.linalg.norm(normal) * abs(zooms[2])


def _shear_degrees(matrix: Matrix) -> float:
    """Largest departure of the angles between axes from 90 degrees; 0 where an axis is zero (Grid refuses that)."""
    norms = voxel_sizes(matrix)
    if not np.isfinite(norms).all() or not norms.all():
        return 0.0
    unit = matrix[:3, :3] / norms
    cosines = np.abs((unit.T @ unit)[np.triu_indices(3, 1)])
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))).max())


def _apart(one: Matrix, other: Matrix, size: tuple[int, ...]) -> float:
    """Largest distance between the positions that two matrices give to the volume's corners."""
    corners = list(product(*((0, n - 1) for n in size)))
    return float(np.linalg.norm(apply_affine(one, corners) - apply_affine(other, corners), axis=1).max())
