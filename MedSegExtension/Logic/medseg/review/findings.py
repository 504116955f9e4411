"""What a reader goes through: the components of lesion classes, or slices whose score is above a threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.components import Box, Components, components, set_voxels
from ..geometry.grid import Grid
from ..io.segmentations import Segmentation

Labels = npt.NDArray[Any]
#: Larger arrays of which at most this share is set are looked at by their voxels.
_WORTH_VOXELS, _WORTH_SHARE = 500_000, 0.05


@dataclass(frozen=True)
class Finding:
    """One lesion. ``id``: never given again in a review. ``layer``, ``value``: where it is and which label it has.

    ``box``: half-open voxel ranges (k, j, i). ``centre``: RAS mm of its voxel that is nearest to its centre of mass, so
    that a view that goes there shows it. ``extent``: mm along i, j, k. ``probability``: the greatest inside, None
    where probabilities were not kept.
    """

    id: int
    name: str
    layer: int
    value: int
    voxels: int
    volume_ml: float
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    centre: tuple[float, float, float]
    extent: tuple[float, float, float]
    probability: float | None = None

    @property
    def slices(self) -> Box:
        """`box` as slices of an array (K, J, I)."""
        k, j, i = (slice(low, high) for low, high in self.box)
        return (k, j, i)


def reviewed_classes(segmentation: Segmentation) -> list[tuple[int, int, str]]:
    """(layer, value, name) of the classes whose components are findings: lesions, or all where none is called one."""
    every = [(n, c.value, c.name, c.lesion) for n, layer in enumerate(segmentation.layers) for c in layer.classes]
    lesions = [one for one in every if one[3]]
    return [(n, value, name) for n, value, name, _ in lesions or every]


def components_of(
    labels: Labels, values: Iterable[int], connectivity: int = 26
) -> tuple[npt.NDArray[np.int32], dict[int, int]]:
    """Component numbers (K, J, I), 0 where there is none, and component number -> label value.

    Components are of one value: two classes that touch are two findings.
    """
    numbers = np.zeros(labels.shape, np.int32)
    value_of: dict[int, int] = {}
    for value in values:
        found = components(labels == value, connectivity)
        number = len(value_of) + 1 + _in_order(found, labels.shape)
        for piece in found.pieces:
            inside = piece.labelled > 0
            numbers[piece.box][inside] = number[piece.first + piece.labelled[inside] - 1]
        value_of.update({len(value_of) + n: value for n in range(1, found.count + 1)} if found.count else {})
    return numbers, value_of


def _in_order(found: Components, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """The rank of each component by its first voxel: numbers that stay the same however components were found."""
    first = np.zeros(found.count, np.int64)
    for piece in found.pieces:
        where = set_voxels(piece.labelled > 0)
        here, at = np.unique(piece.labelled[tuple(where)], return_index=True)
        start = np.array([b.start for b in piece.box])[:, np.newaxis]
        first[piece.first + here - 1] = np.ravel_multi_index(tuple(where[:, at] + start), shape)
    rank = np.empty(found.count, np.int32)
    rank[np.argsort(first)] = np.arange(found.count, dtype=np.int32)
    return rank


def _boxes(numbers: npt.NDArray[np.int32]) -> dict[int, Box]:
    """The box of each number; of a mostly empty array only the voxels that hold something are looked at."""
    some = numbers != 0
    if numbers.size < _WORTH_VOXELS or np.count_nonzero(some) > _WORTH_SHARE * numbers.size:
        found = ndimage.find_objects(numbers)
        return {n: box for n, box in enumerate(found, start=1) if box is not None}
    where = set_voxels(some)
    number = numbers[tuple(where)]
    order = np.argsort(number, kind="stable")
    here, starts = np.unique(number[order], return_index=True)
    if not len(here):
        return {}
    where = where[:, order]
    low, high = np.minimum.reduceat(where, starts, axis=1), np.maximum.reduceat(where, starts, axis=1) + 1
    return {
        int(n): (slice(int(a[0]), int(b[0])), slice(int(a[1]), int(b[1])), slice(int(a[2]), int(b[2])))
        for n, a, b in zip(here, low.T, high.T, strict=True)
    }


def measure(
    numbers: npt.NDArray[np.int32],
    wanted: Mapping[int, tuple[int, str, int, int]],
    grid: Grid,
    offset: tuple[int, int, int] = (0, 0, 0),
    probability: Callable[[str], Labels | None] = lambda name: None,
) -> list[Finding]:
    """Findings of the components ``wanted``: number -> (id, class name, layer, value), in one pass over ``numbers``.

    ``offset``: where ``numbers`` begins in the volume (k, j, i). ``probability``: class name -> map of the volume.
    """
    boxes = _boxes(numbers)
    found = []
    for number, (id, name, layer, value) in wanted.items():
        box = boxes.get(number)
        if box is None:
            continue
        inside = numbers[box] == number
        where = np.argwhere(inside)
        centre = where[np.argmin(((where - where.mean(axis=0)) ** 2).sum(axis=1))]
        start = np.array([b.start + o for b, o in zip(box, offset, strict=True)])
        ranges = tuple((int(s), int(s) + n) for s, n in zip(start, inside.shape, strict=True))
        k, j, i = start + centre
        x, y, z = (float(v) for v in grid.to_physical([i, j, k]))
        size = [float(n * s) for n, s in zip(inside.shape[::-1], grid.spacing, strict=True)]
        scores = probability(name)
        best = None
        if scores is not None:
            best = float(scores[tuple(slice(*r) for r in ranges)][inside].max())
        found.append(
            Finding(
                id,
                name,
                layer,
                value,
                len(where),
                len(where) * grid.voxel_volume / 1000,
                (ranges[0], ranges[1], ranges[2]),
                (-x, -y, z),
                (size[0], size[1], size[2]),
                best,
            )
        )
    return found


#: How a list of findings may be ordered.
ORDERS: dict[str, Callable[[Finding], Any]] = {
    "size": lambda f: (-f.voxels, f.id),
    "probability": lambda f: (-(f.probability or 0.0), f.id),
    "position": lambda f: (-f.centre[2], f.centre[1], f.centre[0]),
}
