"""Labels on a finer or coarser grid: which channel's scores, interpolated linearly and in half precision, are greatest.

The rule is nnU-Net's: each channel is interpolated in double precision and rounded to float16, and of equal ones the
first is taken. Here a few slices at a time are interpolated in float32, only the differences to the first channel, and
only where some channel can beat it. Where two channels come so close that a rounding may decide, voxels are done again
by the rule itself, so the labels are those of the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cores import cores
from .components import Box, bounding_box
from .spline_resize import nearest_samples, spline_weights

HalfArray = npt.NDArray[np.float16]
Float32Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

#: Voxels of the result that are made at once: so many that threads seldom wait for each other between NumPy's loops.
_SLAB = 1 << 19
#: Voxels that are done again at once.
_AGAIN = 1 << 14
#: Bits of the least float16 that is no number.
_INFINITE = 0x7C00


@dataclass(frozen=True, eq=False)
class Line:
    """Where the samples of a result lie along an axis: between ``low`` and ``high`` of the source, with the weights
    ``first`` and ``second`` of the two. Both indices rise; they are equal where one sample is all that counts.
    """

    low: Index
    high: Index
    first: npt.NDArray[np.float64]
    second: npt.NDArray[np.float64]

    @classmethod
    def linear(cls, old: int, new: int) -> Line:
        """``new`` samples over the extent of ``old`` ones, by `spline_resize`'s linear weights."""
        weights = spline_weights(old, new, 1)
        rows = np.arange(new)
        low = np.argmax(weights != 0, axis=1)
        high = old - 1 - np.argmax(weights[:, ::-1] != 0, axis=1)
        return cls(low, high, weights[rows, low], np.where(high > low, weights[rows, high], 0.0))

    @classmethod
    def nearest(cls, old: int, new: int) -> Line:
        """As `linear`, but each sample is the nearest one of the source."""
        index = nearest_samples(old, new).astype(np.intp)
        return cls(index, index, np.ones(new), np.zeros(new))

    def reached(self, source: slice) -> slice:
        """The samples of the result that look at ``source``."""
        return slice(
            int(np.searchsorted(self.high, source.start)), int(np.searchsorted(self.low, source.stop, side="left"))
        )

    def seen(self, result: slice) -> slice:
        """The samples of the source that ``result``, not empty, looks at."""
        return slice(int(self.low[result.start]), int(self.high[result.stop - 1]) + 1)


def greatest_channel(
    scores: HalfArray, lines: Sequence[Line], told: Callable[[int, int], None] | None = None
) -> npt.NDArray[Any] | None:
    """Labels (K, J, I), uint8 or uint16: at each sample of ``lines`` the greatest channel of ``scores`` (C, K, J, I).

    ``lines``: for the axes K, J, I. ``told``: hears how many slices of how many are done; what it raises ends the work.
    None where some score is no number or infinite.
    """
    shape = tuple(len(line.low) for line in lines)
    labels = np.zeros(shape, np.uint8 if len(scores) <= 256 else np.uint16)
    step = max(1, _SLAB // (shape[1] * shape[2]))
    slabs = [slice(n, min(n + step, shape[0])) for n in range(0, shape[0], step)]
    work = partial(_slab, scores, lines, labels)
    threads = min(cores(), len(slabs))
    pool = ThreadPoolExecutor(threads, "medseg-restoring")
    try:
        for slab, finite in zip(slabs, pool.map(work, slabs), strict=True):
            if not finite:
                return None
            if told is not None:
                told(slab.stop, shape[0])
    finally:
        pool.shutdown(cancel_futures=True)
    return labels


def _slab(scores: HalfArray, lines: Sequence[Line], labels: npt.NDArray[Any], result: slice) -> bool:
    """Fill the slices ``result`` of ``labels``; False where a score is not finite."""
    ks = lines[0].seen(result)
    boxes = _boxes(scores[:, ks])
    if boxes is None:
        return False
    places = {c: _place(box, lines, ks.start, result) for c, box in boxes.items()}
    channels = {c: _Channel(scores[:, ks], c, place, lines, ks.start) for c, place in places.items() if place}
    if channels:
        near = _label(channels, labels)
        if near.size:
            _again(scores, lines, near, labels)
    return True


def _boxes(scores: HalfArray) -> dict[int, Box] | None:
    """Around the voxels where a channel is above the first one; None where some score is not finite."""
    first = _ordered(scores[0])
    found = {}
    for c in range(len(scores)):
        values = _ordered(scores[c]) if c else first
        if int(values.max()) >= _INFINITE or int(values.min()) < -_INFINITE:
            return None
        box = bounding_box(values > first) if c else None
        if box is not None:
            found[c] = box
    return found


def _ordered(values: HalfArray) -> npt.NDArray[np.int16]:
    """Whole numbers in the order of float16 ``values``, which are compared many times as fast."""
    bits = np.ascontiguousarray(values).view(np.int16)
    signs = bits >> 15
    signs &= 0x7FFF
    signs ^= bits
    return signs


def _place(box: Box, lines: Sequence[Line], offset: int, result: slice) -> Box | None:
    """The part of the slab ``result`` that looks at ``box``, which counts slices from ``offset``; None where none does.

    On a coarser grid samples may lie on both sides of it.
    """
    slices = lines[0].reached(slice(box[0].start + offset, box[0].stop + offset))
    slices = slice(max(slices.start, result.start), min(slices.stop, result.stop))
    place = (slices, lines[1].reached(box[1]), lines[2].reached(box[2]))
    return place if all(part.start < part.stop for part in place) else None


class _Channel:
    """A channel's differences to the first one, in that part of a slab of the result in which it can be greater.

    ``scores``: (C, k, J, I), of which the first slice is slice ``offset`` of the whole. ``place``: slices, rows and
    columns of the result.
    """

    def __init__(self, scores: HalfArray, channel: int, place: Box, lines: Sequence[Line], offset: int) -> None:
        self.place = place
        k, j, i = (line.seen(part) for line, part in zip(lines, self.place, strict=True))
        own = (slice(k.start - offset, k.stop - offset), j, i)
        background = scores[(0, *own)].astype(np.float32)
        values = scores[(channel, *own)].astype(np.float32)
        self.greatest = max(float(np.abs(background).max()), float(values.max()))
        values -= background
        self.widest = float(np.abs(values).max())
        self._values = values
        self._lines, self._starts = lines, (k.start, j.start, i.start)

    def values(self) -> Float32Array:
        """The differences at `place`."""
        # Rows are moved as they are, so columns are made rows.
        turned = self._along(np.ascontiguousarray(self._values.transpose(0, 2, 1)), 2, 1)
        moved = self._along(np.ascontiguousarray(turned.transpose(0, 2, 1)), 1, 1)
        return self._along(moved, 0, 0)

    def _along(self, array: Float32Array, line: int, axis: int) -> Float32Array:
        """``array`` interpolated along ``axis``, which lies along the line of that number."""
        own, place = self._lines[line], self.place[line]
        low, high = own.low[place] - self._starts[line], own.high[place] - self._starts[line]
        if np.array_equal(low, high):
            return np.asarray(array.take(low, axis=axis))
        first: Float32Array = array.take(low, axis=axis)
        second: Float32Array = array.take(high, axis=axis)
        weight = own.second[place].astype(np.float32)
        second -= first
        second *= weight[:, np.newaxis] if axis else weight[:, np.newaxis, np.newaxis]
        second += first
        return second


def _tolerance(channels: Any) -> np.float32:
    """Differences up to this may be none in float16: its step at the greatest score, and float32's own errors."""
    greatest = max(c.greatest for c in channels)
    widest = max(c.widest for c in channels)
    return np.float32(greatest * 2**-10 * (1 + 2**-8) + widest * 2**-18 + 2**-24)


def _label(channels: dict[int, _Channel], labels: npt.NDArray[Any]) -> Index:
    """Label a slab; the places (3, n) of the voxels in which the two greatest channels are too near each other."""
    places = [c.place for c in channels.values()]
    whole = tuple(slice(min(p[a].start for p in places), max(p[a].stop for p in places)) for a in range(3))
    best: Float32Array | None = None
    shape = tuple(s.stop - s.start for s in whole)
    for number, channel in channels.items():
        values = channel.values()
        if best is None:
            best = np.zeros(shape, np.float32)
            second = np.full(shape, -np.inf, np.float32)
        inner = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(channel.place, whole, strict=True))
        one, other, own = best[inner], second[inner], labels[channel.place]
        wins = (values > one).view(np.uint8)
        # Numbers rise, so the greater one is the later winner.
        np.maximum(own, wins * labels.dtype.type(number), out=own)
        np.maximum(other, np.minimum(one, values), out=other)
        np.maximum(one, values, out=one)
    best -= second
    at = np.flatnonzero(best <= _tolerance(channels.values()))
    return np.asarray(np.stack(np.unravel_index(at, shape)) + np.array([[s.start] for s in whole]))


def _again(scores: HalfArray, lines: Sequence[Line], at: Index, labels: npt.NDArray[Any]) -> None:
    """The labels of the voxels ``at`` (3, n) by the rule itself."""
    for start in range(0, at.shape[1], _AGAIN):
        some = at[:, start : start + _AGAIN]
        labels[tuple(some)] = np.argmax(_exact(scores, lines, some), axis=0)


def _exact(scores: HalfArray, lines: Sequence[Line], at: Index, axis: int = 0, source: tuple[Any, ...] = ()) -> Any:
    """Float16's values (C, n) at the samples ``at`` (3, n) of the result, interpolated in double precision."""
    if axis == 3:
        return scores[(slice(None), *source)].astype(np.float64)
    line, index = lines[axis], at[axis]
    total = line.first[index] * _exact(scores, lines, at, axis + 1, (*source, line.low[index]))
    total += line.second[index] * _exact(scores, lines, at, axis + 1, (*source, line.high[index]))
    return total if axis else total.astype(np.float16).astype(np.float32)
