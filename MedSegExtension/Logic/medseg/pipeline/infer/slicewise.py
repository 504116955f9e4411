"""2D and 2.5D networks: slice by slice in the manifest's plane, several slices at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import OutOfMemory
from ...model.manifest.schema import Slicewise
from ..preprocess.state import Prepared
from .fallback import Runner
from .score_maps import ScoreMaps, Scores, Store
from .tensors import FloatArray
from .whole import multiple_margins


def slice_batch(prepared: Prepared, positions: Sequence[int], neighbours: int) -> FloatArray:
    """Slices ``positions`` as (N, O, C, rows, columns), O = 2 * ``neighbours`` + 1 slices around each, in order.

    Rows and columns are the axes of (K, J, I) that are left, in that order. Beyond the ends the edge slice is repeated.
    The neighbours become channels with the offset slowest: all channels of the slice before, then of the slice itself.
    """
    if not neighbours:
        return np.asarray(prepared.slices(np.asarray(positions))[:, np.newaxis], dtype=np.float32)
    around = np.arange(-neighbours, neighbours + 1)
    index = np.clip(np.asarray(positions)[:, np.newaxis] + around, 0, prepared.slice_count - 1)
    # Neighbours of neighbouring slices are the same slices: each is made once.
    wanted, place = np.unique(index, return_inverse=True)
    return np.asarray(prepared.slices(wanted)[place.reshape(index.shape)], dtype=np.float32)


def run_slicewise(plan: Slicewise, prepared: Prepared, runner: Runner, store: Store) -> ScoreMaps | Scores:
    """Run all slices; memory that does not suffice leads to smaller batches and then to the CPU."""
    classification = runner.manifest.task == "classification"
    axis, count = prepared.slice_axis, prepared.slice_count
    rows: list[FloatArray] = []
    done = 0

    shape = tuple(n for a, n in enumerate(prepared.array.shape[1:], start=1) if a != axis)
    margins = multiple_margins(shape, plan.multiple_of)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margins, shape, strict=True))

    def gather(positions: Sequence[int]) -> FloatArray:
        batch = slice_batch(prepared, positions, plan.neighbours)
        return batch if plan.multiple_of == 1 else np.pad(batch, ((0, 0), (0, 0), (0, 0), *margins))

    def take(positions: Sequence[int], values: FloatArray) -> None:
        if classification:
            rows.append(store.activate(values.T).T)
            return
        values = values[(slice(None), slice(None), *inner)]
        place = [slice(None)] * 3
        place[axis - 1] = slice(positions[0], positions[-1] + 1)
        store.put((place[0], place[1], place[2]), np.moveaxis(values, 0, axis))

    runner.fill_card(math.prod(shape), count)
    while done < count:
        try:
            for positions, values in runner.batches(range(done, count), gather, store.read, scores=classification):
                take(positions, values)
                done = positions[-1] + 1
                runner.monitor.progress(done, count, f"slice {done} of {count}")
        except OutOfMemory:
            runner.to_cpu("one slice")
    details: dict[str, Any] = {"slices": count, "batch": runner.batch, "calls": runner.calls}
    if classification:
        store.tell()
        return Scores(np.concatenate(rows), details | {"nan": store.not_numbers})
    return store.finish(details)
