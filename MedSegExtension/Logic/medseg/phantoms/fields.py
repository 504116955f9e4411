"""Smooth random fields and simple solids, cheap enough for whole volumes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float32]


def smooth_noise(
    shape: tuple[int, int, int],
    spacing_kji: tuple[float, float, float],
    scale_mm: float,
    rng: np.random.Generator,
    *,
    band: bool = False,
) -> Array:
    """Zero-mean, unit-variance noise whose features are about ``scale_mm`` wide, float32 of ``shape`` (K, J, I).

    ``band``: a narrow band of wavelengths; the zero crossings of such a field fold like a cortex.
    """
    step = scale_mm * (0.35 if band else 0.6)
    coarse_shape = tuple(int(np.ceil((n - 1) * s / step)) + 4 for n, s in zip(shape, spacing_kji, strict=True))
    coarse = rng.standard_normal(coarse_shape)
    if band:
        coarse = ndimage.gaussian_filter(coarse, 0.9) - ndimage.gaussian_filter(coarse, 1.8)
    else:
        coarse = ndimage.gaussian_filter(coarse, 0.7)
    for axis, (n, s) in enumerate(zip(shape, spacing_kji, strict=True)):
        weights = _cubic_weights(n, s / step, coarse_shape[axis])
        coarse = np.moveaxis(np.tensordot(weights, coarse.astype(np.float32), axes=(1, axis)), 0, axis)
    coarse -= coarse.mean()
    return np.asarray(coarse / max(float(coarse.std()), 1e-6), dtype=np.float32)


def _cubic_weights(n: int, step: float, m: int) -> Array:
    """(n, m) Catmull-Rom interpolation matrix for positions 1 + i * step on a lattice of m nodes."""
    position = 1.0 + np.arange(n) * step
    left = np.clip(np.floor(position).astype(int), 1, m - 3)
    t = position - left
    taps = np.stack(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ]
    )
    weights = np.zeros((n, m), dtype=np.float32)
    for offset in range(4):
        weights[np.arange(n), left - 1 + offset] += taps[offset]
    return weights


def ellipsoid(x: Array, y: Array, z: Array, center: Sequence[float], radii: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Mask of the inside of an ellipsoid. ``x``, ``y``: (K, J, I), ``z``: (K, 1, 1), mm."""
    low, high = np.array(center) - radii, np.array(center) + radii
    inside = np.zeros(x.shape, bool)
    box = _box(x, y, z, low, high)
    inside[box] = (
        ((x[box] - center[0]) / radii[0]) ** 2
        + ((y[box] - center[1]) / radii[1]) ** 2
        + ((z[box[0]] - center[2]) / radii[2]) ** 2
    ) < 1
    return inside


def tube(x: Array, y: Array, z: Array, points: Sequence[Sequence[float]], *, reach: float = 3.0) -> Array:
    """Distance in mm to a chain of tapered capsules (x, y, z, radius), negative inside, not above ``reach``."""
    best = np.full(x.shape, reach, dtype=np.float32)
    for (ax, ay, az, ar), (bx, by, bz, br) in pairwise(points):
        margin = max(ar, br) + reach
        low = np.minimum((ax, ay, az), (bx, by, bz)) - margin
        high = np.maximum((ax, ay, az), (bx, by, bz)) + margin
        box = _box(x, y, z, low, high)
        px, py, pz = x[box] - ax, y[box] - ay, z[box[0]] - az
        dx, dy, dz = bx - ax, by - ay, bz - az
        along = np.clip((px * dx + py * dy + pz * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
        distance = np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2 + (pz - along * dz) ** 2)
        best[box] = np.minimum(best[box], distance - (ar + (br - ar) * along))
    return best


def _box(
    x: Array, y: Array, z: Array, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64]
) -> tuple[slice, slice, slice]:
    """Index box outside of which no point lies between ``low`` and ``high`` (x, y, z): most solids are small."""
    ends = []
    for values, axis, n in ((z, 0, 2), (y, 1, 1), (x, 2, 0)):
        other = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero((values.max(axis=other) >= low[n]) & (values.min(axis=other) <= high[n]))
        ends.append(slice(int(hit[0]), int(hit[-1]) + 1) if hit.size else slice(0, 0))
    return ends[0], ends[1], ends[2]
