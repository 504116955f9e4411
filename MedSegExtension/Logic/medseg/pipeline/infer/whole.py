"""3D networks that take the whole volume at once: padded to a multiple, never tiled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ...cores import cores
from ...errors import OutOfMemory
from ...model.manifest.schema import WholeVolume
from ..preprocess.state import Prepared
from .fallback import Runner
from .score_maps import ScoreMaps, Scores, Store
from .tensors import FloatArray, check_channels

# Slices that are turned from network output to probabilities at once: bounds the float32 copies.
_SLAB = 16

Margins = tuple[tuple[int, int], ...]


def centred_margins(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Margins:
    """(before, after) per axis that bring ``shape`` to at least ``wanted``, centred, the odd voxel behind."""
    missing = [max(0, w - s) for s, w in zip(shape, wanted, strict=True)]
    return tuple((m // 2, m - m // 2) for m in missing)


def multiple_margins(shape: tuple[int, ...], multiple: int) -> Margins:
    """(before, after) per axis that bring ``shape`` to multiples of ``multiple``."""
    return centred_margins(shape, tuple(-(-n // multiple) * multiple for n in shape))


def pad_volume(array: FloatArray, margins: Margins, value: float) -> FloatArray:
    """``array`` (C, K, J, I) with ``margins`` around its spatial axes."""
    if not any(before or after for before, after in margins):
        return array
    return np.pad(array, ((0, 0), *margins), constant_values=value)


def run_whole(plan: WholeVolume, prepared: Prepared, runner: Runner, store: Store) -> ScoreMaps | Scores:
    """Run the volume, padded by zeros (centred) to ``multiple_of``, and take the padding off again."""
    classification = runner.manifest.task == "classification"
    shape = prepared.grid.shape
    margins = multiple_margins(shape, plan.multiple_of)
    padded = pad_volume(prepared.array, margins, 0.0)
    what = f"the whole volume ({'x'.join(str(n) for n in reversed(padded.shape[1:]))} voxels)"
    runner.monitor.progress(0, 1, what)
    raw = None
    while raw is None:
        try:
            raw = runner.call(padded[np.newaxis, np.newaxis], scores=classification)
        except OutOfMemory:
            runner.to_cpu(what)
    details: dict[str, Any] = {"padded": list(padded.shape[:0:-1]), "calls": runner.calls}
    if classification:
        scores = store.activate(store.read(raw).T).T
        store.tell()
        return Scores(np.ascontiguousarray(scores), details | {"nan": store.not_numbers})
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margins, shape, strict=True))
    raw = raw[(slice(None), slice(None), *inner)]
    check_channels(raw.shape[1], raw.shape, runner.manifest)
    store.maps(raw.shape[1])
    slabs = [slice(start, min(start + _SLAB, shape[0])) for start in range(0, shape[0], _SLAB)]

    def keep(slab: slice) -> None:
        store.put((slab, slice(None), slice(None)), store.read(raw[:, :, slab])[0])

    with ThreadPoolExecutor(cores(), thread_name_prefix="medseg-store") as pool:
        for slab, _ in zip(slabs, pool.map(keep, slabs), strict=True):
            runner.monitor.progress(slab.stop, shape[0], what)
    return store.finish(details)
