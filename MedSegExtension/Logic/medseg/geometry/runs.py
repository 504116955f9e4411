"""Connected components by runs: rows of True voxels are joined, not voxels.

A mask of an organ has a few hundred thousand runs where it has tens of millions of voxels, and a label of each voxel
(four bytes) is not needed to count components, to weigh them or to keep one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a mask (K, J, I) along I, in raster order, and the component of each, numbered from 0.

    ``starts``, ``stops``: flat indices of the first voxel of a run and of the one after its last. Components are
    numbered in the raster order of their first voxels, as `scipy.ndimage.label` numbers them.
    """

    shape: tuple[int, int, int]
    starts: Index
    stops: Index
    component: npt.NDArray[np.int32]
    count: int

    def sizes(self) -> Index:
        """Voxels of each component."""
        lengths = (self.stops - self.starts).astype(np.float64)
        return np.bincount(self.component, weights=lengths, minlength=self.count).astype(np.int64)

    def labelled(self) -> npt.NDArray[np.int32]:
        """The component of each voxel (K, J, I) from 1, 0 outside."""
        values = np.zeros(2 * len(self.starts) + 1, np.int32)
        values[1::2] = self.component + 1
        edges = np.empty(2 * len(self.starts) + 2, np.int64)
        edges[0], edges[-1] = 0, int(np.prod(self.shape))
        edges[1:-1:2], edges[2:-1:2] = self.starts, self.stops
        return np.repeat(values, np.diff(edges)).reshape(self.shape)

    def mask(self, keep: Mask) -> Mask:
        """The voxels (K, J, I) of the components that ``keep`` (count,) names."""
        chosen = keep[self.component]
        edges = np.stack([self.starts[chosen], self.stops[chosen]], axis=1).ravel()
        lengths = np.diff(np.concatenate([[0], edges, [int(np.prod(self.shape))]]))
        values = np.arange(len(lengths)) % 2 == 1
        return np.repeat(values, lengths).reshape(self.shape)


def runs_of(mask: Mask, structure: Mask, *, most: int | None = None) -> Runs | None:
    """The runs of ``mask`` (K, J, I) and their components under the 3x3x3 neighbourhood ``structure``.

    ``structure`` must be symmetric about its middle and connect neighbours along I. None where there are more than
    ``most`` runs.
    """
    shape = (mask.shape[0], mask.shape[1], mask.shape[2])
    starts, stops = _run_edges(mask)
    if most is not None and len(starts) > most:
        return None
    if not len(starts):
        empty = np.zeros(0, np.int64)
        return Runs(shape, empty, empty, empty.astype(np.int32), 0)
    rows = starts // shape[2]
    first = np.searchsorted(rows, np.arange(shape[0] * shape[1] + 1))
    one, other = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for k, j in ((0, 1), (1, -1), (1, 0), (1, 1)):
        along = structure[k + 1, j + 1]
        if along.any():
            left, right = _touching(starts, stops, rows, first, shape, k, j, 1 if along[0] or along[2] else 0)
            # Pairs are what there is most of; the search below works with 32 bits.
            one.append(left.astype(np.int32))
            other.append(right.astype(np.int32))
            del left, right
    del rows, first
    count, component = _joined(len(starts), one, other)
    return Runs(shape, starts, stops, component, count)


def _joined(
    number: int, one: list[npt.NDArray[np.int32]], other: list[npt.NDArray[np.int32]]
) -> tuple[int, npt.NDArray[np.int32]]:
    """How many components the pairs make of ``number`` runs, and the component of each. Both lists are emptied."""
    # Loaded here since most masks are small and need it never.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = (np.concatenate(one), np.concatenate(other))
    one.clear()
    other.clear()
    graph = coo_matrix((np.ones(len(pairs[0]), np.int8), pairs), shape=(number, number)).tocsr()
    del pairs
    count, component = connected_components(graph, directed=False)
    return int(count), component


def _run_edges(mask: Mask) -> tuple[Index, Index]:
    """Flat indices at which runs begin and end, slab by slab so that no second mask is held."""
    k, j, i = mask.shape
    starts, stops = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for n in range(k):
        padded = np.zeros((j, i + 1), dtype=np.bool_)
        padded[:, :i] = mask[n]
        flat = padded.ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat[0]:
            changes = np.concatenate([[0], changes])
        # The column behind each row ends its last run; without it indices are those of the mask.
        begin, end = changes[0::2], changes[1::2]
        row = begin // (i + 1)
        starts.append(begin - row + n * j * i)
        stops.append(end - row + n * j * i)
    return np.concatenate(starts), np.concatenate(stops)


def _touching(
    starts: Index, stops: Index, rows: Index, first: Index, shape: tuple[int, int, int], k: int, j: int, reach: int
) -> tuple[Index, Index]:
    """Pairs of runs (in a row, in the row ``k`` slices and ``j`` rows on) that are at most ``reach`` apart along I."""
    slices, lines, width = shape
    line = rows % lines
    fits = (rows // lines + k < slices) & (line + j >= 0) & (line + j < lines)
    own = np.flatnonzero(fits)
    if not len(own):
        return own, own
    target = rows[own] + k * lines + j
    shift = (target - rows[own]) * width
    # In the other row: the first run that ends after this one begins, up to the last that begins before it ends.
    # Flat indices rise from row to row, so one search over all runs does; the row's own range bounds it.
    low = np.searchsorted(stops, starts[own] + shift - reach, side="right")
    high = np.searchsorted(starts, stops[own] + shift + reach, side="left")
    low = np.maximum(low, first[target])
    high = np.minimum(high, first[target + 1])
    counts = np.maximum(high - low, 0)
    left = np.repeat(own, counts)
    begin = np.cumsum(counts) - counts
    right = np.arange(int(counts.sum())) - np.repeat(begin, counts) + np.repeat(low, counts)
    return left, right
