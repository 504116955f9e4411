"""Filling, opening and closing of masks (K, J, I), in 3D or in slices normal to a numpy axis; spreading of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from .components import Mask, bounding_box, structure

# Up to this radius the neighbourhood is scanned; beyond it a distance map is faster.
_SCANNED_RADIUS = 2


def filled(mask: Mask, axis: int | None) -> Mask:
    """``mask`` with the background that it encloses: in 3D, or per slice normal to ``axis``.

    Enclosed is what no path of face neighbours (3D) or edge neighbours (slice) joins to the border of the array.
    """
    neighbourhood = structure(6, 0) if axis is None else structure(4, axis)
    holes, count = scipy.ndimage.label(~mask, structure=neighbourhood, output=np.int32)
    is_open = np.zeros(count + 1, dtype=bool)
    is_open[0] = True
    for a in range(3):
        if a != axis:
            for face in (0, -1):
                is_open[np.take(holes, face, axis=a)] = True
    return np.asarray(mask | ~is_open[holes])


def opened(mask: Mask, radius: int, axis: int | None) -> Mask:
    """Opening with a ball, or with a disk in the slices normal to ``axis``: all voxels with x^2 + y^2 (+ z^2) <= r^2.

    Beyond the border of the array erosion sees foreground and dilation background (scikit-image's rule), so that a
    segment that the field of view cuts is not worn off there.
    """
    return _dilated(_eroded(mask, radius, axis), radius, axis)


def closed(mask: Mask, radius: int, axis: int | None) -> Mask:
    """Closing; neighbourhood and border as in `opened`."""
    return _eroded(_dilated(mask, radius, axis), radius, axis)


def spread(labels: npt.NDArray[Any], spacing: tuple[float, float, float], distance: float) -> npt.NDArray[Any]:
    """``labels`` (K, J, I) with the nearest label in each voxel without one, up to ``distance`` mm away.

    ``spacing``: mm along i, j, k.
    """
    box = bounding_box(labels > 0)
    if box is None or distance <= 0:
        return labels
    reach = [int(np.ceil(distance / step)) for step in reversed(spacing)]
    around = tuple(slice(max(0, b.start - r), b.stop + r) for b, r in zip(box, reach, strict=True))
    part = labels[around]
    far, nearest = scipy.ndimage.distance_transform_edt(part == 0, sampling=spacing[::-1], return_indices=True)
    out = labels.copy()
    out[around] = np.where(far <= distance, part[tuple(nearest)], part)
    return out


def _eroded(mask: Mask, radius: int, axis: int | None) -> Mask:
    if radius <= _SCANNED_RADIUS:
        return np.asarray(scipy.ndimage.binary_erosion(mask, _neighbourhood(radius, axis), border_value=1))
    return ~_within(~mask, radius, axis)


def _dilated(mask: Mask, radius: int, axis: int | None) -> Mask:
    if radius <= _SCANNED_RADIUS:
        return np.asarray(scipy.ndimage.binary_dilation(mask, _neighbourhood(radius, axis)))
    return _within(mask, radius, axis)


def _neighbourhood(radius: int, axis: int | None) -> Mask:
    offsets = np.ogrid[tuple(slice(-radius, radius + 1) for _ in range(3))]
    squares = sum(x.astype(np.int64) ** 2 for x in offsets)
    ball = np.asarray(squares <= radius**2)
    return ball if axis is None else np.take(ball, [radius], axis=axis)


def _within(mask: Mask, radius: int, axis: int | None) -> Mask:
    """Voxels whose distance to ``mask`` is at most ``radius`` (exact: roots of whole squares)."""
    if axis is None:
        if not mask.any():
            return np.zeros_like(mask)
        return np.asarray(scipy.ndimage.distance_transform_edt(~mask) <= radius)
    out = np.zeros_like(mask)
    for n, one in enumerate(np.moveaxis(mask, axis, 0)):
        if one.any():
            np.moveaxis(out, axis, 0)[n] = scipy.ndimage.distance_transform_edt(~one) <= radius
    return out
