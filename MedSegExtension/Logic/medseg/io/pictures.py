"""PNG, JPEG and TIFF pictures of films, and the place in the patient that a film without geometry gets.

A picture has no patient coordinates. As a frontal film is hung, its columns grow to the patient's Left, its rows to
Inferior, and its normal to Posterior (`FILM_DIRECTION`, orientation ``LIP``, right-handed): a coronal slice view of
3D Slicer shows it upright. DICOM films without Image Orientation (Patient) are placed the same way (`medseg.io.xray`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ._common import Array, check_file, compact
from .itk import read_itk

FILM_DIRECTION = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])

# JPEG stores chroma apart from luma; a grey film comes back with channels this far apart (of 255).
_GREY_TOLERANCE = 3 / 255


def film_grid(columns: int, rows: int, spacing: tuple[float, float]) -> Grid:
    """One slice of ``columns`` x ``rows`` pixels, ``spacing`` (along i, along j) in mm, placed as a frontal film."""
    return Grid((columns, rows, 1), (spacing[0], spacing[1], 1.0), (0.0, 0.0, 0.0), FILM_DIRECTION)


def read_picture(path: Path) -> Volume:
    """A picture as one slice; grey RGB becomes scalar, true colour keeps its channels. Spacing 1 mm is assumed."""
    _check_jpeg(path)
    image = read_itk(path)
    if image.dimension != 2 and image.size[2:] != (1,) * (image.dimension - 2):
        raise InputError(f"{path.name} has several pages; save the page that is wanted as a file of its own.")
    warnings = [f"{path.name} has no pixel spacing; 1 mm was assumed, so lengths, areas and volumes are in pixels."]
    columns, rows = image.size[:2]
    array = image.array.reshape(rows, columns, -1)
    array = to_grey(array, path.name, warnings)
    if array.dtype != np.uint8 and array.ndim == 2:
        warnings.append(
            f"{path.name} has {array.dtype} values from {array.min()} to {array.max()}, kept as they are; "
            "most networks for films were trained on 0 to 255."
        )
    return Volume(
        compact(array[np.newaxis], path.name, warnings),
        film_grid(columns, rows, (1.0, 1.0)),
        name=path.name,
        tags={"SpacingAssumed": True},
        warnings=tuple(warnings),
    )


def _check_jpeg(path: Path) -> None:
    """libjpeg fills what is missing of a cut file with grey and goes on; the end marker must follow the last scan."""
    if not check_file(path).startswith(b"\xff\xd8"):
        return
    data = path.read_bytes()
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise InputError(f"{path.name} is truncated: it ends inside the picture; copy or export it again.")


def to_grey(array: Array, name: str, warnings: list[str]) -> Array:
    """(J, I, C) -> (J, I) where it is grey, else (J, I, 3); an alpha channel is dropped."""
    channels = array.shape[2]
    if channels in (2, 4):
        alpha = array[..., -1]
        if alpha.min() != alpha.max():
            warnings.append(f"{name} has a transparency channel, which was ignored.")
        array = array[..., :-1]
    if array.shape[2] == 1:
        return array[..., 0]
    spread = array.max(axis=2).astype(np.float64) - array.min(axis=2)
    full = float(np.iinfo(array.dtype).max) if np.issubdtype(array.dtype, np.integer) else float(array.max())
    if spread.max() == 0:
        return array[..., 0]
    if array.shape[2] == 3 and spread.max() <= _GREY_TOLERANCE * full:
        warnings.append(f"{name} is a grey picture stored as RGB; the median of its channels was taken.")
        return np.median(array, axis=2).astype(array.dtype)
    return array
