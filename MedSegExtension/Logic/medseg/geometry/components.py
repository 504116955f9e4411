"""Connected components of masks that are mostly empty, without scanning the emptiness twice.

A segment's bounding box reaches across the volume as soon as it has one stray voxel. So a mask is first taken apart
into clumps that lie far from each other, and each clump is worked on in its own box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from .runs import Runs, runs_of

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]

# Taking apart costs a pass over the mask; it pays for large masks of which at most this share is set.
_WORTH_VOXELS = 500_000
_WORTH_SHARE = 0.05
# Joining runs pays for large masks whose runs are long; noise has a run for every few voxels.
_WORTH_RUNS = 1 << 18
_RUN_SHARE = 1 / 32
# Up to so many label values, looking for each by itself is quicker than for all in one pass.
_FEW_LABELS = 6


def bounding_box(mask: npt.NDArray[Any]) -> Box | None:
    """Slices around the True (or non-zero whole-number) voxels of (K, J, I), None where there are none."""
    # Two folds in the order of the memory; the third axis comes from what they leave.
    front, top = np.bitwise_or.reduce(mask, axis=0), np.bitwise_or.reduce(mask, axis=1)
    box = []
    for hits in (top.any(axis=1), front.any(axis=1), front.any(axis=0)):
        where = np.flatnonzero(hits)
        if not len(where):
            return None
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return (box[0], box[1], box[2])


def set_voxels(mask: Mask) -> npt.NDArray[np.int64]:
    """Indices (3, n) of the True voxels, in the order of the memory; numpy is ten times faster along one axis."""
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape))


def difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> Box | None:
    """The box of the voxels in which two arrays (K, J, I) differ, None where they do not.

    Slice by slice: a drawing touches a few, and the equal ones need no third array of the volume's size.
    """
    at = [k for k in range(one.shape[0]) if not np.array_equal(one[k], other[k])]
    if not at:
        return None
    box = bounding_box(one[at[0] : at[-1] + 1] != other[at[0] : at[-1] + 1])
    assert box is not None
    return (slice(at[0], at[-1] + 1), box[1], box[2])


def shifted(box: Box, by: Box) -> Box:
    """``box``, which counts from the start of ``by``, in the array that ``by`` is a box of."""
    k, j, i = (slice(o.start + b.start, o.start + b.stop) for b, o in zip(box, by, strict=True))
    return (k, j, i)


def joined(one: Box | None, other: Box | None) -> Box | None:
    """The smallest box around both."""
    if one is None or other is None:
        return one or other
    k, j, i = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return (k, j, i)


def overlap(one: Box, other: Box) -> Box | None:
    """The voxels that are in both, None where there are none."""
    k, j, i = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return (k, j, i) if all(s.start < s.stop for s in (k, j, i)) else None


def structure(connectivity: int, axis: int) -> Mask:
    """3x3x3 neighbourhood: 6, 18, 26 in 3D; 4, 8 within the slice normal to numpy axis ``axis``."""
    if connectivity in (6, 18, 26):
        return np.asarray(scipy.ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity]))
    flat = np.zeros((3, 3, 3), dtype=bool)
    np.moveaxis(flat, axis, 0)[1] = scipy.ndimage.generate_binary_structure(2, {4: 1, 8: 2}[connectivity])
    return flat


def clumps(mask: Mask, gap: int = 1) -> Iterator[tuple[Box, Mask]]:
    """``mask`` (K, J, I) as (box, its mask there) of parts that are more than ``gap`` voxels apart along some axis.

    Boxes may overlap; each True voxel is in exactly one part.
    """
    count = int(np.count_nonzero(mask))
    if mask.size < _WORTH_VOXELS or count > _WORTH_SHARE * mask.size:
        box = bounding_box(mask)
        if box is not None:
            yield box, mask[box]
        return
    block = max(4, gap)
    where = set_voxels(mask)
    blocks = tuple(where // block)
    occupied = np.zeros([-(-n // block) for n in mask.shape], dtype=bool)
    occupied[blocks] = True
    numbers, _ = scipy.ndimage.label(occupied, structure=np.ones((3, 3, 3)), output=np.int32)
    number = numbers[blocks]
    order = np.argsort(number, kind="stable")
    for part in np.split(where[:, order], np.flatnonzero(np.diff(number[order])) + 1, axis=1):
        low, high = part.min(axis=1, initial=2**31), part.max(axis=1, initial=-1)
        if high[0] < 0:
            return
        own = np.zeros(high - low + 1, dtype=bool)
        own[tuple(part - low[:, np.newaxis])] = True
        k, j, i = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
        yield (k, j, i), own


@dataclass(frozen=True, eq=False)
class Piece:
    """The components of one clump: its ``box``, what to add to their numbers there (``first``), how many they are.

    ``labels``: numbers from 1 with 0 outside, or the runs that they can be painted from.
    """

    box: Box
    labels: npt.NDArray[np.int32] | Runs
    first: int
    count: int

    @cached_property
    def labelled(self) -> npt.NDArray[np.int32]:
        """Numbers (K, J, I) in the box, from 1, 0 outside."""
        return self.labels.labelled() if isinstance(self.labels, Runs) else self.labels

    def sizes(self) -> npt.NDArray[np.int64]:
        """Voxels of each component."""
        if isinstance(self.labels, Runs):
            return self.labels.sizes()
        return np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:]

    def split(self, keep: Mask) -> tuple[Mask, Mask]:
        """(mask of the components that ``keep`` (count,) names, mask of the others) in the box."""
        if isinstance(self.labels, Runs):
            return self.labels.mask(keep), self.labels.mask(~keep)
        stays = np.concatenate([[False], keep])[self.labels]
        return stays, (self.labels > 0) & ~stays


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask, numbered from 0. ``sizes``: voxels of each component."""

    pieces: tuple[Piece, ...]
    sizes: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sizes)

    def each(self) -> Iterator[tuple[int, Box, Mask]]:
        """(number, box, mask there) of each component."""
        for piece in self.pieces:
            for n, inner in enumerate(scipy.ndimage.find_objects(piece.labelled)):
                yield piece.first + n, shifted(inner, piece.box), np.asarray(piece.labelled[inner] == n + 1)

    def largest(self, axis: int | None = None) -> Mask:
        """For each component whether it is the largest (one of equals), or that of its slice normal to ``axis``."""
        keep = np.zeros(self.count, dtype=bool)
        if axis is None:
            keep[np.argmax(self.sizes)] = True
            return keep
        best: dict[int, int] = {}
        for piece in self.pieces:
            for n, inner in enumerate(scipy.ndimage.find_objects(piece.labelled), start=piece.first):
                slice_number = piece.box[axis].start + inner[axis].start
                if slice_number not in best or self.sizes[n] > self.sizes[best[slice_number]]:
                    best[slice_number] = n
        keep[list(best.values())] = True
        return keep

    def chosen(self, keep: Mask) -> Iterator[tuple[Box, Mask, Mask]]:
        """(box, mask of the components that ``keep`` names, mask of all others) for each clump."""
        for piece in self.pieces:
            yield piece.box, *piece.split(keep[piece.first : piece.first + piece.count])


def components(mask: Mask, connectivity: int, axis: int = 0) -> Components:
    """Connected components of ``mask`` (K, J, I); 4 and 8 connect within slices normal to numpy axis ``axis``."""
    neighbourhood = structure(connectivity, axis)
    pieces: list[Piece] = []
    first = 0
    for box, part in clumps(mask):
        runs = None
        if part.size >= _WORTH_RUNS and neighbourhood[1, 1].all():
            runs = runs_of(part, neighbourhood, most=int(part.size * _RUN_SHARE))
        if runs is not None:
            pieces.append(Piece(box, runs, first, runs.count))
        else:
            labelled, count = scipy.ndimage.label(part, structure=neighbourhood, output=np.int32)
            pieces.append(Piece(box, labelled, first, count))
        first += pieces[-1].count
    sizes = [piece.sizes() for piece in pieces]
    return Components(tuple(pieces), np.concatenate([np.zeros(0, dtype=np.int64), *sizes]))


def boxes_of(labels: npt.NDArray[Any]) -> list[Box | None]:
    """As `scipy.ndimage.find_objects`: the box of each label value of ``labels`` (K, J, I) from 1, None where absent.

    Labels are looked at only within the box around all of them, which is quick to find.
    """
    box = bounding_box(labels)
    if box is None:
        return []
    inner = labels[box]
    top = int(inner.max())
    if np.count_nonzero(inner) == np.count_nonzero(inner == top):  # nearly always so of a layer with one class
        return [None] * (top - 1) + [box]
    if top <= _FEW_LABELS:
        each = [bounding_box(inner == value) for value in range(1, top + 1)]
        return [None if found is None else shifted(found, box) for found in each]
    return [None if found is None else shifted(found, box) for found in scipy.ndimage.find_objects(inner)]
