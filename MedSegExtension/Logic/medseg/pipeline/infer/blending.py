"""Weighted means of overlapping windows, with only a band of the volume in float32.

All work goes in blocks of a few slices that stay in a processor's cache, or in several threads where the network runs
elsewhere. Each voxel's sum is made in the order of the windows all the same, so results do not depend on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from .tensors import FloatArray

Start = tuple[int, int, int]

# Voxels of a block: a few of its float32 arrays fit into a core's second-level cache.
_BLOCK = 1 << 15


@functools.lru_cache(maxsize=4)
def importance(patch: tuple[int, ...], blending: str) -> FloatArray:
    """Weight of each voxel of a window, (k, j, i), greatest 1; not to be changed, since it is kept.

    ``gaussian``: centred, sigma an eighth of the patch along each axis (nnU-Net: Isensee et al., Nature Methods 18,
    203-211, 2021). ``gaussian_filter``: as nnU-Net v2 makes it, an impulse at ``n // 2`` smoothed by a Gaussian that is
    cut at four sigma, in half precision, greatest 10. ``gaussian_floor``: as ``gaussian``, at least 0.001 (MONAI).
    ``constant``, ``maximum``: 1 everywhere.
    """
    weights = _importance(patch, blending)
    weights.flags.writeable = False
    return weights


def _importance(patch: tuple[int, ...], blending: str) -> FloatArray:
    if blending == "gaussian_filter":
        from scipy import ndimage

        weights = np.ones(1)
        for n in patch:
            # The filter goes along one axis after the other, so an impulse becomes the product of three lines.
            impulse = np.zeros(n)
            impulse[n // 2] = 1
            line = ndimage.gaussian_filter(impulse, n / 8, mode="constant")
            weights = weights[..., np.newaxis] * line
        half = (weights[0] / (weights.max() / 10)).astype(np.float16).astype(np.float32)
        half[half == 0] = half[half > 0].min()
        return np.asarray(half)
    weights = np.ones(patch, np.float32)
    if blending.startswith("gaussian"):
        for axis, n in enumerate(patch):
            x = (np.arange(n) - (n - 1) / 2) / (n / 8)
            shape = [1, 1, 1]
            shape[axis] = n
            weights *= np.exp(-0.5 * x**2).astype(np.float32).reshape(shape)
    if blending == "gaussian_floor":
        # Not divided by the greatest, which lies between the voxels of an even size.
        return np.asarray(np.maximum(weights, max(float(weights.min()), 1e-3)), dtype=np.float32)
    return np.asarray(weights / weights.max(), dtype=np.float32)


# Of a float32's bits those that say its power of two.
_POWER = np.uint32(0x7F800000)
_TOO_LARGE = 65520


def round_to_half(values: FloatArray, out: FloatArray, scratch: FloatArray) -> None:
    """``out`` becomes what float16 would make of ``values`` (ties to even, too large to infinity), which are changed.

    NumPy converts one value at a time, this is ten times as fast. ``values`` and ``scratch`` must be contiguous.
    """
    beyond = where = None
    if float(values.max(initial=0.0)) >= _TOO_LARGE or float(values.min(initial=0.0)) <= -_TOO_LARGE:
        beyond, where = np.copysign(np.float32(np.inf), values), np.abs(values) >= _TOO_LARGE
        np.clip(values, -_TOO_LARGE, _TOO_LARGE, out=values)
    # Beside 1.5 * 2^13 times a value's own power of two, float32 has room for ten bits of the value's mantissa, as
    # float16 has; the processor rounds. Below 2^-14 float16 has steps of 2^-24, as float32 has between 0.5 and 1.
    np.bitwise_and(values.view(np.uint32), _POWER, out=scratch.view(np.uint32))
    scratch *= np.float32(1.5 * 2**13)
    np.maximum(scratch, np.float32(0.75), out=scratch)
    values += scratch
    np.subtract(values, scratch, out=out)
    if beyond is not None and where is not None:
        np.copyto(out, beyond, where=where)


class Blocks:
    """Does work on ranges of slices, in ``threads`` threads where there are several."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, "medseg-blending") if threads > 1 else None

    def each(self, work: Callable[[int, int], None], first: int, last: int, step: int) -> None:
        """``work(start, stop)`` for ranges that make up ``first`` to ``last``, in any order.

        Of ``step`` slices, or where there are threads of an equal share for each: the work between NumPy's loops is
        done by one thread at a time, so many small ranges would wait for each other.
        """
        if self._pool is not None:
            step = -(-(last - first) // self._threads)
        ranges = list(pairwise([*range(first, last, max(1, step)), last]))
        if self._pool is None or len(ranges) < 2:
            for start, stop in ranges:
                work(start, stop)
        else:
            list(self._pool.map(lambda range: work(*range), ranges))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


class Band:
    """Weighted sums of ``patch[0]`` slices of a volume, moved along K as slices are finished.

    The slices lie in a ring: slice k is at ``k % patch[0]``, so nothing is moved. ``choose``: ready labels cannot be
    averaged, each voxel takes the label of the window in which it weighs most. ``maximum``: the greatest value of all
    windows. ``half``: sums have float16's values (in float32, see `round_to_half`).
    """

    def __init__(
        self,
        channels: int,
        shape: Sequence[int],
        weights: FloatArray,
        *,
        choose: bool,
        half: bool = False,
        maximum: bool = False,
        blocks: Blocks | None = None,
    ) -> None:
        self.first = 0
        self.weights = weights
        self.choose = choose
        self.maximum = maximum
        self.blocks = blocks or Blocks()
        depth = weights.shape[0]
        self.half = half and not choose
        self.sums = np.zeros((channels, depth, *shape[1:]), np.float32)
        self.total = np.zeros((depth, *shape[1:]), np.float32)
        self._add = self._choose if choose else self._greatest if maximum else self._halves if half else self._weigh

    @property
    def depth(self) -> int:
        """Slices that are held."""
        return int(self.total.shape[0])

    def add(self, start: Start, values: FloatArray) -> None:
        """Add one window's output (C, k, j, i) at ``start`` of the padded volume."""
        rows, columns = (slice(s, s + n) for s, n in zip(start[1:], values.shape[2:], strict=True))

        def block(low: int, high: int) -> None:
            for here, inside in self._lying(start[0] + low, start[0] + high):
                window = slice(inside.start - start[0], inside.stop - start[0])
                place = (here, rows, columns)
                self._add(self.total[place], self.sums[(slice(None), *place)], values[:, window], self.weights[window])

        self.blocks.each(block, 0, values.shape[1], _BLOCK // max(1, values[0, 0].size))

    def _lying(self, low: int, high: int) -> Iterator[tuple[slice, slice]]:
        """Where the slices ``low`` to ``high`` lie in the ring: (there, which of them), in one or two parts."""
        while low < high:
            at = low % self.depth
            n = min(high - low, self.depth - at)
            yield slice(at, at + n), slice(low, low + n)
            low += n

    @staticmethod
    def _weigh(total: Any, sums: Any, values: FloatArray, weights: FloatArray) -> None:
        total += weights
        weighed = np.empty(values.shape[1:], np.float32)
        for channel, into in enumerate(sums):
            np.multiply(values[channel], weights, out=weighed)
            into += weighed

    @staticmethod
    def _halves(total: Any, sums: Any, values: FloatArray, weights: FloatArray) -> None:
        added = np.add(total, weights)
        scratch = np.empty_like(added)
        round_to_half(added, total, scratch)
        for channel, into in enumerate(sums):
            np.multiply(values[channel], weights, out=added)
            added += into
            round_to_half(added, into, scratch)

    @staticmethod
    def _choose(total: Any, sums: Any, values: FloatArray, weights: FloatArray) -> None:
        better = weights > total
        total[better] = weights[better]
        sums[:, better] = values[:, better]

    @staticmethod
    def _greatest(total: Any, sums: Any, values: FloatArray, weights: FloatArray) -> None:
        seen = total > 0
        for channel, into in enumerate(sums):
            into[...] = np.where(seen, np.maximum(into, values[channel]), values[channel])
        total[...] = 1

    def finish(self, until: int, take: Callable[[int, FloatArray, npt.NDArray[np.bool_]], None]) -> None:
        """Hand all slices before ``until`` to ``take``, then drop them.

        ``take(first slice, mean (C, k, j, i), covered (k, j, i))`` gets a few slices at a time, from several threads
        where the blocks have them; it may change the mean. Not more slices than the band holds are handed over.
        """
        until = min(until, self.first + self.depth)

        def block(low: int, high: int) -> None:
            for here, which in self._lying(low, high):
                total, sums = self.total[here], self.sums[:, here]
                covered = total > 0
                if not (self.choose or self.maximum):
                    np.divide(sums, total, out=sums, where=True if covered.all() else covered)
                if self.half:
                    scratch = np.empty(sums.shape[1:], np.float32)
                    for into in sums:
                        round_to_half(into, into, scratch)
                take(which.start, sums, covered)
                total[...] = 0
                sums[...] = 0

        self.blocks.each(block, self.first, until, SLAB)
        self.first = max(self.first, until)


#: Slices that are handed over at once: `Store` looks at every fourth of 16 and more.
SLAB = 16
