"""Distances between the surfaces of two masks.

The surface of a mask is its voxels that have a face neighbour outside it, as in MONAI and MedPy; distances are between
voxel centres. Programs that weight surface elements between voxels (DeepMind's surface-distance) give distances that
differ by up to half a voxel, and a surface Dice that is greater where the tolerance is about a voxel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.components import Mask
from .counts import check_shapes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """In mm: of each surface voxel of one mask to the other's surface (``to_reference``), and the other way round."""

    to_reference: Floats
    to_prediction: Floats

    @property
    def pooled(self) -> Floats:
        """Both directions in one array."""
        return np.concatenate([self.to_reference, self.to_prediction])

    @property
    def hd(self) -> float:
        """Hausdorff distance: the greatest of all."""
        return float(self.pooled.max())

    @property
    def hd95(self) -> float:
        """95th percentile of both directions pooled, as MedPy has it (not the greater of two percentiles: MONAI)."""
        return float(np.percentile(self.pooled, 95))

    @property
    def assd(self) -> float:
        """Average symmetric surface distance: the mean of both directions pooled, as MONAI and MedPy have it."""
        return float(self.pooled.mean())

    def surface_dice(self, tolerance: float) -> float:
        """Share of both surfaces that lies within ``tolerance`` mm of the other (Nikolov et al., 2018).

        Counted in surface voxels, as MONAI's SurfaceDiceMetric does.
        """
        return float(np.mean(self.pooled <= tolerance))


def boundary(mask: Mask) -> Mask:
    """The mask without its erosion by face neighbours; beyond the image is background."""
    mask = mask.astype(bool, copy=False)
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def surface_distances(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> SurfaceDistances | None:
    """Distances between the surfaces of two masks of one shape; None where a mask is empty: they are infinite.

    ``spacing``: mm along the arrays' own axes (k, j, i, or rows, columns of a slice). Works in the box that holds both.
    """
    check_shapes(prediction, reference)
    box = _box(prediction, reference)
    if box is None or not prediction.any() or not reference.any():
        return None
    one, other = boundary(_padded(prediction[box])), boundary(_padded(reference[box]))
    to_other = ndimage.distance_transform_edt(~other, sampling=tuple(spacing))[one]
    to_one = ndimage.distance_transform_edt(~one, sampling=tuple(spacing))[other]
    return SurfaceDistances(np.asarray(to_other, float), np.asarray(to_one, float))


def hd95(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float | None:
    """`SurfaceDistances.hd95` in mm; None where a mask is empty."""
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else distances.hd95


def assd(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float | None:
    """`SurfaceDistances.assd` in mm; None where a mask is empty."""
    distances = surface_distances(prediction, reference, spacing)
    return None if distances is None else distances.assd


def _box(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[slice, ...] | None:
    """The smallest box that holds both masks."""
    slices = []
    for axis in range(one.ndim):
        others = tuple(a for a in range(one.ndim) if a != axis)
        filled = np.flatnonzero(one.any(axis=others) | other.any(axis=others))
        if not filled.size:
            return None
        slices.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(slices)


def _padded(mask: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.pad(mask.astype(bool, copy=False), 1)
