"""In which part of the brain each lesion lies, by a parcellation on any grid. The naming is data in ``standards``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..geometry.components import Box, Mask
from ..geometry.grid import Grid
from ..geometry.resample import resample
from ..monitor import Monitor
from ..result import Cell, Column, Result

_STANDARDS = Path(__file__).with_name("standards")
_SIDES = {"left-": "left", "right-": "right", "lh-": "left", "rh-": "right", "ctx-lh-": "left", "ctx-rh-": "right"}


@cache
def standard(name: str) -> dict[str, Any]:
    """The data file ``standards/<name>.json``."""
    content: dict[str, Any] = json.loads((_STANDARDS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def structure_of(label: str) -> tuple[str, str] | None:
    """(side or "", structure) of a parcellation's label name, None where the name is not known.

    >>> structure_of("Left-Thalamus-Proper"), structure_of("ctx-rh-insula"), structure_of("Brain Stem")
    (('left', 'thalamus'), ('right', 'cerebral cortex'), ('', 'brainstem'))
    """
    name = label.strip().lower().replace(" ", "-").replace("_", "-")
    side = ""
    for prefix, word in _SIDES.items():
        if name.startswith(prefix):
            side = word
            name = name.removeprefix(prefix) if not prefix.startswith("ctx") else "ctx-" + name.removeprefix(prefix)
            break
    for structure, patterns in standard("brain_structures")["structures"].items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return side, structure
    return None


@dataclass(frozen=True)
class Place:
    """Where a lesion lies. ``label``: the parcellation's name; ``share``: of the lesion's voxels that have it."""

    label: str
    share: float
    region: str
    location: str


class Parcellation:
    """The brain labels of a required model's result, as seen from ``grid``.

    Labels of the same structure and side count together, so that a cortex in many regions weighs as one. Raises
    `ModelError` where none of the classes is a structure that the scheme knows.
    """

    def __init__(self, result: Result, grid: Grid, *, labels: str, scheme: str, name: str, monitor: Monitor) -> None:
        rules = standard(scheme)
        self._regions: dict[str, str] = rules["regions"]
        self._locations: dict[str, str] = rules["locations"]
        self._second_instead = {(first, second) for first, second in rules["second_instead"]}
        self._names: dict[int, str] = {}
        self._structures: dict[int, tuple[str, str]] = {}
        unknown = []
        for item in result.classes:
            label = standard("freesurfer")["labels"].get(str(item.value)) if labels == "freesurfer" else item.name
            found = structure_of(label) if label else None
            if found is None:
                unknown.append(item.name)
            elif found[1] in self._regions:
                self._names[item.value] = label
                self._structures[item.value] = found
        if not self._structures:
            raise ModelError(
                f"No class of the model {name!r} is a brain structure that is known by its "
                f"{'FreeSurfer number' if labels == 'freesurfer' else 'name'}, so lesions cannot be located with it."
            )
        if unknown:
            listed = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            monitor.warn(
                f"{name}: {len(unknown)} labels are not known as brain structures and locate no lesion ({listed})."
            )
        same = result.grid.same_as(grid)
        self._maps: list[npt.NDArray[Any]] = [
            layer.labels
            if same
            else np.asarray(resample(layer.labels, result.grid, grid, interpolation="nearest", fill=0))
            for layer in result.layers
        ]

    def place(self, box: Box, mask: Mask) -> Place | None:
        """The place of the lesion ``mask`` in ``box``, None where it has no voxel on a brain label.

        The structure with the most voxels decides (of equals the one with the lower label value); where that is cortex
        and cerebral white matter comes second, white matter does.
        """
        voxels: dict[int, int] = {}
        for labels in self._maps:
            for value, count in zip(*np.unique(labels[box][mask], return_counts=True), strict=True):
                if int(value) in self._structures:
                    voxels[int(value)] = voxels.get(int(value), 0) + int(count)
        if not voxels:
            return None
        groups: dict[tuple[str, str], list[int]] = {}
        for value in sorted(voxels):
            groups.setdefault(self._structures[value], []).append(value)
        ranked = sorted(groups, key=lambda g: -sum(voxels[v] for v in groups[g]))
        best = ranked[0]
        if len(ranked) > 1 and (best[1], ranked[1][1]) in self._second_instead:
            best = ranked[1]
        label = max(groups[best], key=lambda v: voxels[v])
        region = self._regions[best[1]]
        share = sum(voxels[v] for v in groups[best]) / int(np.count_nonzero(mask))
        return Place(self._names[label], share, region, self._locations[region])


def place_columns(scheme: str) -> tuple[Column, ...]:
    """Columns of `place_cells`."""
    rules = standard(scheme)
    locations = ", ".join(dict.fromkeys(rules["locations"].values()))
    return (
        Column("brain_label", "str", "", "label of the parcellation that the lesion overlaps most (white matter where "
               "cortex is first and white matter second); empty where it overlaps none"),
        Column("brain_label_share", "float", "", "share of the lesion's voxels on that structure, 0 to 1"),
        Column("region", "str", "", f"region ({rules['title']})"),
        Column("location", "str", "", f"{locations} ({rules['note']})"),
    )  # fmt: skip


def place_cells(place: Place | None) -> tuple[Cell, ...]:
    """The cells of a lesion under `place_columns`."""
    return (None, None, None, None) if place is None else (place.label, place.share, place.region, place.location)
