"""What raidionics_seg_lib does to an image, written again from its published steps with nibabel and scipy only."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.processing import resample_from_to, resample_to_output
from scipy import ndimage

Array = npt.NDArray[Any]
Network = Callable[[Array], Array]


def thresholded(
    images: list[nibabel.Nifti1Image],
    network: Network,
    *,
    spacing: tuple[float, float, float],
    classes: int,
    crop: bool = False,
    size: tuple[int, ...] = (),
    plane: str = "axial",
    slab: int = 0,
    patch: tuple[int, int, int] | None = None,
    overlap: float | None = None,
    swap: bool = False,
    shares: tuple[float, float] = (0, 100),
    values: tuple[float, float] | None = None,
    method: str = "",
    mri: bool = True,
    pairs: tuple[tuple[int, int], ...] = (),
) -> Array:
    """Probabilities (X, Y, Z, C) on the first image's grid. ``network``: (1, x, y, z, c) -> (1, x, y, z, C)."""
    box, prepared, raw = None, [], []
    for image in images:
        data = image.get_fdata()
        if crop and box is None:
            where = np.nonzero(data >= int((data.max() - data.min()) * 0.2))
            box = tuple(slice(w.min(), w.max() + 1) for w in where)
        cut = nibabel.Nifti1Image(data[box] if box else data, image.affine)
        moved = resample_to_output(cut, spacing, order=1)
        x = moved.get_fdata()
        x = _resized(x, _full_size(x.shape, size, plane))
        raw.append(x)
        prepared.append(_normalised(x, shares, values, method, mri))
    prepared += [_normalised(np.abs(raw[a] - raw[b]), shares, values, method, mri) for a, b in pairs]
    data = np.stack(prepared, axis=-1).astype(np.float32)
    if swap:
        data = data.transpose(1, 0, 2, 3)

    def call(x: Array) -> Array:
        if swap:
            return network(x[np.newaxis].transpose(0, 3, 1, 2, 4)).transpose(0, 2, 3, 1, 4)[0]
        return network(x[np.newaxis])[0]

    if len(size) == 3:
        found = call(data)
    elif slab:
        found = _slabs(data, call, plane, slab, overlap, classes)
    else:
        assert patch is not None
        found = _patches(data, call, patch, overlap, classes)
    if swap:
        found = found.transpose(1, 0, 2, 3)
    if found.shape[:3] != moved.shape:
        found = ndimage.zoom(found, [*(a / b for a, b in zip(moved.shape, found.shape, strict=False)), 1], order=1)
    out = np.zeros((*images[0].shape, classes), np.float32)
    for c in range(classes):
        back = resample_from_to(nibabel.Nifti1Image(found[..., c], moved.affine), cut, order=1).get_fdata()
        out[(*(box or (slice(None),) * 3), c)] = back
    return out


def _full_size(shape: tuple[int, ...], size: tuple[int, ...], plane: str) -> tuple[int, ...]:
    if len(size) != 2:
        return size or shape
    if plane == "axial":
        return (size[0], size[1], int(shape[2] * (size[1] / shape[1])))
    return (size[0], size[0], size[1])


def _resized(x: Array, size: tuple[int, ...]) -> Array:
    """scikit-image's resize: a Gaussian where it shrinks, then linear over the extent, ends mirrored."""
    if x.shape == size:
        return x
    sigma = [max(0, (a / b - 1) / 2) for a, b in zip(x.shape, size, strict=True)]
    smooth = ndimage.gaussian_filter(x, sigma, mode="mirror")
    factors = [b / a for a, b in zip(x.shape, size, strict=True)]
    return np.asarray(ndimage.zoom(smooth, factors, order=1, mode="mirror", grid_mode=True))


def _normalised(
    x: Array, shares: tuple[float, float], values: tuple[float, float] | None, method: str, mri: bool
) -> Array:
    x = np.maximum(x, 0) if mri else x.copy()
    if shares[1] - shares[0] != 100:
        x = np.clip(x, *np.percentile(x, shares))
    elif values is not None:
        x = np.clip(x, *values)
    if method == "zeromean":
        return (x - x.mean()) / x.std()
    if method == "zeromean_nonzero":
        inside = x != 0
        x[inside] = (x[inside] - x[inside].mean()) / x[inside].std(ddof=1)
        return x
    return (x - x.min()) / (x.max() - x.min()) if method == "default" else x


def _slabs(data: Array, call: Network, plane: str, slab: int, overlap: float | None, classes: int) -> Array:
    axis = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    turn = {"axial": (0, 1, 2, 3), "sagittal": (1, 2, 0, 3), "coronal": (0, 2, 1, 3)}[plane]
    step = slab if overlap is None else int(slab - overlap * slab)
    n = data.shape[axis]
    padded = np.pad(data, [(0, -n % slab) if a == axis else (0, 0) for a in range(4)], mode="edge")
    out = np.zeros((*padded.shape[:3], classes), np.float32)
    for first in range(0, n, step):
        place: list[slice] = [slice(None)] * 3
        start = min(first, padded.shape[axis] - slab)
        place[axis] = slice(start, start + slab)
        part = call(padded[tuple(place)].transpose(turn)).transpose(np.argsort(turn))
        out[tuple(place)] = np.maximum(out[tuple(place)], part)
    return np.take(out, np.arange(n), axis=axis)


def _patches(data: Array, call: Network, patch: tuple[int, int, int], overlap: float | None, classes: int) -> Array:
    shape = data.shape[:3]
    more = [int(np.ceil((p - n) / 2)) if n <= p else 0 for n, p in zip(shape, patch, strict=True)]
    padded = np.pad(data, [*((m, m) for m in more), (0, 0)], mode="edge")
    out = np.full((*padded.shape[:3], classes), -100, np.float32)
    offsets = [int((overlap or 0) * p) for p in patch]
    starts = []
    for n, p, o in zip(padded.shape, patch, offsets, strict=False):
        starts.append(sorted({min(first, n - p) for first in range(0, n, p - o)}))
    for x, y, z in product(*starts):
        place = tuple(slice(s, s + p) for s, p in zip((x, y, z), patch, strict=True))
        out[place] = np.maximum(out[place], call(padded[place]))
    return out[tuple(slice(m, m + n) for m, n in zip(more, shape, strict=True))]
