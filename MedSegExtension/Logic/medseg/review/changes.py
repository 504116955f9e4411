"""What a reader changed in a mask, class by class, kept up to date without looking at the whole volume again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.components import Box
from ..result import Layer

Labels = npt.NDArray[Any]
Key = tuple[int, int]


@dataclass(frozen=True)
class Change:
    """Voxels of one class held against the model's mask."""

    name: str
    added: int
    removed: int
    added_ml: float
    removed_ml: float
    dice: float | None


class ChangeCounts:
    """Voxels of each class in the model's mask, in the reviewed one, and in both. They start as equal.

    ``layers``: the model's, never changed. ``known``: (layer, label value) -> voxels of classes that are counted
    already. ``voxel_ml``: volume of a voxel.
    """

    def __init__(self, layers: Sequence[Layer], voxel_ml: float, known: Mapping[Key, int] | None = None) -> None:
        self._layers, self._voxel_ml = tuple(layers), voxel_ml
        self._model: dict[Key, int] = {}
        for n, layer in enumerate(layers):
            for c in layer.classes:
                own = (known or {}).get((n, c.value))
                self._model[n, c.value] = int(np.count_nonzero(layer.labels == c.value)) if own is None else own
        self._reviewed, self._both = dict(self._model), dict(self._model)

    def replaced(self, layer: int, box: Box, old: Labels, new: Labels) -> None:
        """The voxels of ``box`` in ``layer`` were ``old`` and are ``new`` (both have the shape of the box)."""
        differ = old != new
        was, now = old[differ], new[differ]
        model = self._layers[layer].labels[box][differ]
        for counts, before, after in (
            (self._reviewed, was, now),
            (self._both, was[was == model], now[now == model]),
        ):
            for values, sign in ((before, -1), (after, 1)):
                found = np.bincount(values)
                for value in np.flatnonzero(found):
                    if (layer, int(value)) in counts:
                        counts[layer, int(value)] += sign * int(found[value])

    def changes(self) -> list[Change]:
        """Each class, in the order of layers and classes. ``dice`` is None where both masks are empty."""
        found = []
        for n, layer in enumerate(self._layers):
            for c in layer.classes:
                both, before, after = (d[n, c.value] for d in (self._both, self._model, self._reviewed))
                dice = 2 * both / (before + after) if before + after else None
                added, removed = after - both, before - both
                found.append(Change(c.name, added, removed, added * self._voxel_ml, removed * self._voxel_ml, dice))
        return found
