"""What a reader goes through: the components of lesion classes, or slices whose score is above a threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.components import Box, structure
from ..geometry.grid import Grid
from ..io.segmentations import Segmentation

Labels = npt.NDArray[Any]


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
    neighbours = structure(connectivity, 0)
    for value in values:
        found, count = ndimage.label(labels == value, structure=neighbours)
        inside = found > 0
        numbers[inside] = found[inside] + len(value_of)
        value_of.update({len(value_of) + n: value for n in range(1, count + 1)} if count else {})
    return numbers, value_of


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
    boxes = ndimage.find_objects(numbers)
    found = []
    for number, (id, name, layer, value) in wanted.items():
        box = boxes[number - 1] if number <= len(boxes) else None
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
