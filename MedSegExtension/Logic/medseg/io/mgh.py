"""FreeSurfer's MGH files (.mgh, .mgz), header and affine by nibabel, voxels as for NIfTI."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ._common import compact
from .voxels import Gzip, stored_voxels

_HEADER_BYTES = 284
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_mgh(path: Path) -> Volume:
    """An MGH file on its grid; ``array`` (K, J, I), or (K, J, I, C) for several frames."""
    warnings: list[str] = []
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        with Gzip(fileobj=file) if packed else file as handle:
            try:
                header = MGHHeader(handle.read(_HEADER_BYTES).ljust(_HEADER_BYTES, b"\0"), check=False)
                dims = tuple(int(n) for n in header["dims"])
                dtype = header.get_data_dtype()
            except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
                raise InputError(f"{path.name} is truncated or damaged (its header cannot be read).") from error
            if int(header["version"]) != 1:
                raise InputError(f"{path.name} is not an MGH image, although its name says so; check what the file is.")
            if len(dims) != 4 or min(dims) < 1:
                raise InputError(f"{path.name}: the sizes in its header ({dims}) are not valid; export it again.")
            array = stored_voxels(handle, dtype, header.get_data_offset(), dims, path)
    if int(header["goodRASFlag"]) != 1:
        warnings.append(
            f"{path.name} does not say how it lies in the patient; FreeSurfer's default (coronal, 1 mm) was assumed."
        )
    with np.errstate(all="ignore"):
        affine = header.get_affine()
    grid = Grid.from_affine(_RAS_TO_LPS @ affine, dims[:3])
    frames = tuple(f"frame {n}" for n in range(1, dims[3] + 1)) if dims[3] > 1 else ()
    array = compact(array, path.name, warnings)
    return Volume(array, grid, name=path.name, warnings=tuple(warnings), frames=frames)
