"""Two segmentations of the same image: classes paired by name, brought onto one grid, compared class by class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.components import Mask
from ..geometry.grid import Grid
from ..geometry.resample import lattice_map, resample
from ..io.segmentations import Segmentation
from ..monitor import Monitor
from ..result import Cell, Column, Layer, SegmentClass, Table
from .masks import COLUMNS, MaskFigures, Matching, compare_masks

#: Colours that colour-blind readers tell apart (Okabe and Ito, 2008): found, too much, missed.
TP, FP, FN = (0.0, 0.62, 0.45), (0.84, 0.37, 0.0), (0.34, 0.71, 0.91)


@dataclass(frozen=True, eq=False)
class ComparedClass:
    """One class in both. Masks are on the comparison's grid."""

    name: str
    prediction: Mask
    reference: Mask
    figures: MaskFigures


@dataclass(frozen=True, eq=False)
class Comparison:
    """``grid``: the reference's, extended by nothing. ``only_in_prediction``, ``only_in_reference``: class names."""

    grid: Grid
    classes: tuple[ComparedClass, ...]
    only_in_prediction: tuple[str, ...] = ()
    only_in_reference: tuple[str, ...] = ()

    def table(self) -> Table:
        """One row a class, with all figures."""
        names = [n for n in COLUMNS if any(n in c.figures.values() for c in self.classes)]
        columns = [Column("class", "str")]
        for name in names:
            unit, how = COLUMNS[name]
            columns.append(Column(name, "int" if name.startswith("lesions_") else "float", unit, how))
        rows: list[tuple[Cell, ...]] = []
        for one in self.classes:
            values = one.figures.values()
            rows.append((one.name, *(values.get(name) for name in names)))
        return Table("comparison", tuple(columns), tuple(rows))

    def layers(self) -> tuple[Layer, ...]:
        """Found, too much and missed voxels of each class as segments; a layer a class."""
        layers = []
        for one in self.classes:
            labels = np.zeros(self.grid.shape, np.uint8)
            labels[one.prediction & one.reference] = 1
            labels[one.prediction & ~one.reference] = 2
            labels[~one.prediction & one.reference] = 3
            prefix = f"{one.name}: " if len(self.classes) > 1 else ""
            words = (("in both", TP), ("only in prediction", FP), ("only in reference", FN))
            classes = [SegmentClass(n, prefix + word, color) for n, (word, color) in enumerate(words, start=1)]
            layers.append(Layer(labels, tuple(classes)))
        return tuple(layers)


def compare_segmentations(
    prediction: Segmentation,
    reference: Segmentation,
    *,
    pairs: Mapping[str, str] | None = None,
    tolerance_mm: float = 1.0,
    matching: Matching | None = None,
    monitor: Monitor | None = None,
) -> Comparison:
    """Compare the classes of the same name (letters' case does not matter), on the reference's grid.

    ``pairs``: class of the prediction -> class of the reference, where names differ; without it two segmentations of
    one class each are compared whatever the names. A prediction on another grid is resampled (nearest), which is told.

    Raises `InputError` where no class is in both, or where the grids do not overlap.
    """
    monitor = monitor or Monitor()
    chosen = _pairs(prediction, reference, pairs, monitor)
    grid = reference.grid
    same = prediction.grid.same_as(grid)
    if not same:
        _check_overlap(prediction, reference)
        exact = lattice_map(prediction.grid, grid) is not None
        if not exact:
            monitor.warn(
                f"{prediction.name} ({prediction.grid}) is not on the voxels of {reference.name} ({grid}); it was "
                "resampled (nearest), which costs up to half a voxel at surfaces."
            )
        _tell_outside(prediction, reference, monitor)
    compared = []
    for ours, theirs in chosen:
        monitor.checkpoint()
        mask = prediction.mask(ours)
        if not same:
            mask = _on_grid(mask, prediction.grid, grid)
        truth = reference.mask(theirs)
        figures = compare_masks(mask, truth, grid, tolerance_mm=tolerance_mm, matching=matching)
        name = ours if re.fullmatch(r"Label \d+", theirs) else theirs  # a plain label map has no names
        compared.append(ComparedClass(name, mask, truth, figures))
    used_ours, used_theirs = {p for p, _ in chosen}, {r for _, r in chosen}
    left = tuple(c.name for c in prediction.classes if c.name not in used_ours)
    right = tuple(c.name for c in reference.classes if c.name not in used_theirs)
    for names, one, other in ((left, prediction, reference), (right, reference, prediction)):
        if names:
            monitor.note(f"{', '.join(names)}: in {one.name}, but not in {other.name}; not compared.")
    return Comparison(grid, tuple(compared), left, right)


def _pairs(
    prediction: Segmentation, reference: Segmentation, pairs: Mapping[str, str] | None, monitor: Monitor
) -> list[tuple[str, str]]:
    ours, theirs = [c.name for c in prediction.classes], [c.name for c in reference.classes]
    if pairs is not None:
        for names, segmentation, known in ((pairs, prediction, ours), (pairs.values(), reference, theirs)):
            if unknown := [n for n in names if n not in known]:
                raise InputError(
                    f"{segmentation.name} has no class {unknown[0]!r}; it has: {', '.join(known) or 'none'}."
                )
        return list(pairs.items())
    by_name = {name.casefold(): name for name in theirs}
    found = [(name, by_name[name.casefold()]) for name in ours if name.casefold() in by_name]
    if not found and len(ours) == len(theirs) == 1:
        monitor.note(f"{ours[0]} of {prediction.name} is compared with {theirs[0]} of {reference.name}.")
        return [(ours[0], theirs[0])]
    if not found:
        raise InputError(
            f"{prediction.name} ({', '.join(ours) or 'no class'}) and {reference.name} "
            f"({', '.join(theirs) or 'no class'}) have no class of the same name; say which belong together "
            "(--pair PREDICTED=REFERENCE)."
        )
    return found


def _on_grid(mask: Mask, source: Grid, target: Grid) -> Mask:
    moved: npt.NDArray[np.uint8] = resample(mask.astype(np.uint8), source, target, interpolation="nearest", fill=0)
    return np.asarray(moved > 0)


def _check_overlap(prediction: Segmentation, reference: Segmentation) -> None:
    one, other = _extent(prediction.grid), _extent(reference.grid)
    if (one[0] > other[1]).any() or (other[0] > one[1]).any():
        raise InputError(
            f"{prediction.name} and {reference.name} lie in different places of the patient and do not overlap: they "
            "are not of the same image, or one lost its position."
        )


def _extent(grid: Grid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(grid.size) - 0.5
    points = grid.to_physical(corners)
    return points.min(axis=0), points.max(axis=0)


def _tell_outside(prediction: Segmentation, reference: Segmentation, monitor: Monitor) -> None:
    """Voxels of the prediction beyond the reference's grid would be lost in silence."""
    filled = np.zeros(prediction.grid.shape, bool)
    for layer in prediction.layers:
        filled |= layer.labels > 0
    if not filled.any():
        return
    where = np.argwhere(filled)[:, ::-1]
    index = reference.grid.to_index(prediction.grid.to_physical(where))
    outside = ((index < -0.5) | (index > np.array(reference.grid.size) - 0.5)).any(axis=1)
    if outside.any():
        share = 100 * float(outside.mean())
        monitor.warn(
            f"{share:.1f} % of the voxels of {prediction.name} lie outside {reference.name} and were not compared."
        )
