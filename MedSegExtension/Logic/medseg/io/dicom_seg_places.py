"""Where the frames of a DICOM Segmentation lie: a regular grid, and the slice of it that each frame fills.

Frames of tilted or unevenly spaced slices fill the slices of a regular grid that are nearest to them; a film's frame
lies where its film does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import PROJECTIONS
from .dicom_series import MODALITY_OF_CLASS
from .dicom_stack import Slice, lie, volume_grid
from .pictures import film_grid as frontal_film
from .xray import faced

_MOST_GAPS = 20
_EVEN = 0.1
_SHEARED = 0.1  # of a pixel
# A slice of an uneven stack fills its surroundings up to this part of the usual gap: frames between may be left out.
_REACH = 0.75

Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class Placed:
    """Frame number ``frame`` (from 0) in slice ``k`` of the grid, shifted by whole pixels (j, i)."""

    frame: int
    k: int
    shift: tuple[int, int] = (0, 0)

    def of(self, frames: Labels, shape: tuple[int, int]) -> Labels:
        """Its pixels on a slice of ``shape`` (J, I)."""
        out = np.zeros(shape, frames.dtype)
        source = frames[self.frame]
        (j, i), (rows, columns) = self.shift, source.shape
        to = (slice(max(j, 0), min(j + rows, shape[0])), slice(max(i, 0), min(i + columns, shape[1])))
        out[to] = source[to[0].start - j : to[0].stop - j, to[1].start - i : to[1].stop - i]
        return out


def is_film(dataset: Any, groups: list[Any]) -> bool:
    """Whether its frames lie on a film: they have no place in the patient, or one that was made up for a film."""
    shared = _shared(dataset)
    placed = any("PlanePositionSequence" in group for group in (shared, *groups))
    if not placed and "PlaneOrientationSequence" not in shared and "FrameOfReferenceUID" not in dataset:
        return True
    sources = [
        str(image.get("ReferencedSOPClassUID", ""))
        for group in (shared, *groups)
        for derivation in group.get("DerivationImageSequence") or []
        for image in derivation.get("SourceImageSequence") or []
    ]
    return bool(sources) and all(MODALITY_OF_CLASS.get(uid) in PROJECTIONS for uid in sources)


def film_grid(dataset: Any, size: tuple[int, int], told: list[str], name: str) -> Grid:
    """One slice, placed as its film: by Patient Orientation, else frontal."""
    measures = _shared(dataset).get("PixelMeasuresSequence")
    holders = [*(measures or []), dataset]
    keywords = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    spacing = next((h.get(k) for h in holders for k in keywords if h.get(k)), None)
    if spacing is None:
        told.append(f"{name} has no pixel spacing; 1 mm was assumed, so lengths and areas are in pixels.")
        spacing = (1.0, 1.0)
    grid = frontal_film(size[1], size[0], (float(spacing[1]), float(spacing[0])))
    return faced(grid, dataset.get("PatientOrientation")) or grid


def grid_of_frames(
    dataset: Any, groups: list[Any], size: tuple[int, int], told: list[str], name: str
) -> tuple[Grid, list[Placed]]:
    """The grid, and what of it each frame of ``size`` (J, I) fills. Raises `InputError` where places are missing."""
    shared = _shared(dataset)

    def item(group: Any, sequence: str) -> Any:
        found = group.get(sequence) or shared.get(sequence)
        if not found:
            raise InputError(
                f"{name} has no {sequence.removesuffix('Sequence')}, so its place is not known; export it again."
            )
        return found[0]

    orientation = np.array([float(v) for v in item(groups[0], "PlaneOrientationSequence").ImageOrientationPatient])
    measures = item(groups[0], "PixelMeasuresSequence")
    row, column = orientation[:3], orientation[3:]
    normal = np.cross(row, column)
    positions = np.array([[float(v) for v in item(g, "PlanePositionSequence").ImagePositionPatient] for g in groups])
    heights = positions @ normal
    levels = np.unique(np.round(heights, 4))
    gaps = np.diff(levels)
    stated = measures.get("SpacingBetweenSlices")
    spacing = [float(v) for v in measures.PixelSpacing]
    step = float(gaps.min()) if gaps.size else float(stated or measures.get("SliceThickness") or 1.0)
    if stated and gaps.size and abs(step / float(stated) - round(step / float(stated))) < _EVEN / 2:
        step = float(stated)  # frames between may have been left out
    at = np.rint((heights - levels[0]) / step).astype(np.int64)
    count = int(at.max()) + 1
    first = positions[int(np.argmin(heights))]
    plane = np.stack([(positions - first) @ row / spacing[1], (positions - first) @ column / spacing[0]])
    even = count <= _MOST_GAPS * len(levels) + 1 and np.abs((heights - levels[0]) / step - at).max() <= _EVEN
    if even and np.abs(plane).max() <= _SHEARED:
        direction = np.stack([row, column, normal], axis=1)
        grid = Grid((size[1], size[0], count), (spacing[1], spacing[0], step), tuple(first), direction)
        return grid, [Placed(n, int(k)) for n, k in enumerate(at)]
    if len(levels) < 2:
        raise InputError(f"{name}: its frames lie beside each other in one plane; export one image at a time.")
    return _uneven(positions, orientation, (spacing[1], spacing[0]), size, levels, heights, told, name)


def _uneven(
    positions: npt.NDArray[np.float64], orientation: npt.NDArray[np.float64], spacing: tuple[float, float],
    size: tuple[int, int], levels: npt.NDArray[np.float64], heights: npt.NDArray[np.float64], told: list[str],
    name: str,
) -> tuple[Grid, list[Placed]]:  # fmt: skip
    blank = np.broadcast_to(np.uint8(0), size)
    of_level = [int(np.argmin(np.abs(heights - level))) for level in levels]
    stack = [Slice(blank, positions[n], orientation[:3], orientation[3:], spacing, None, "") for n in of_level]
    grid, found = volume_grid(stack), lie(stack)
    if grid.size[2] > _MOST_GAPS * len(levels) + 1:
        raise InputError(
            f"{name}: its slices are not evenly spaced ({np.diff(levels).min():.3g} to {np.diff(levels).max():.3g} "
            "mm); save again."
        )
    told.append(
        f"{name}: its slices are tilted or unevenly spaced (gaps of {np.diff(levels).min():.4g} to "
        f"{np.diff(levels).max():.4g} mm); they were put onto the nearest slices of a regular grid."
    )
    reach = max(float(np.median(np.diff(levels))) * _REACH, grid.spacing[2] * _REACH)
    heights_of_grid = found.heights[0] + grid.spacing[2] * np.arange(grid.size[2])
    nearest = np.abs(heights_of_grid[:, np.newaxis] - found.heights).argmin(axis=1)
    close = np.abs(heights_of_grid - found.heights[nearest]) <= reach
    low = np.floor((found.in_plane / spacing).min(axis=0) + 1e-6)
    shifts = np.rint(found.in_plane / spacing - low).astype(int)
    placed = []
    for n, height in enumerate(heights):
        level = int(np.abs(levels - height).argmin())
        ks = np.flatnonzero((nearest == level) & close)
        placed += [Placed(n, int(k), (int(shifts[level][1]), int(shifts[level][0]))) for k in ks]
    return grid, placed


def _shared(dataset: Any) -> Any:
    return (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
