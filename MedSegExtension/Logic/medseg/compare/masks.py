"""All figures of one mask held against a reference."""

from __future__ import annotations

from dataclasses import dataclass

from ..geometry.components import Mask
from ..geometry.grid import Grid
from .counts import Counts, pixel_counts
from .lesions import LesionMatch, match_lesions
from .surfaces import SurfaceDistances, surface_distances


@dataclass(frozen=True, eq=False)
class MaskFigures:
    """``counts``: of voxels. ``voxel_ml``: volume of one. ``distances``: None where a mask is empty.

    Where both masks are empty they agree, but overlap is not defined (``dice`` and ``iou`` are None); where one is,
    overlap is 0 and distances are infinite (None).
    """

    counts: Counts
    voxel_ml: float
    distances: SurfaceDistances | None
    tolerance_mm: float
    lesions: LesionMatch | None = None

    @property
    def prediction_ml(self) -> float:
        return (self.counts.tp + self.counts.fp) * self.voxel_ml

    @property
    def reference_ml(self) -> float:
        return (self.counts.tp + self.counts.fn) * self.voxel_ml

    @property
    def difference_ml(self) -> float:
        """Prediction less reference."""
        return self.prediction_ml - self.reference_ml

    @property
    def difference_percent(self) -> float | None:
        """Of the reference's volume; None where it is empty."""
        return 100 * self.difference_ml / self.reference_ml if self.reference_ml else None

    def values(self) -> dict[str, float | int | None]:
        """All figures by the names of `COLUMNS`."""
        counts, distances = self.counts, self.distances
        found: dict[str, float | int | None] = {
            "dice": counts.dice,
            "iou": counts.iou,
            "precision": counts.precision,
            "recall": counts.recall,
            "specificity": counts.specificity,
            "prediction_volume": self.prediction_ml,
            "reference_volume": self.reference_ml,
            "volume_difference": self.difference_ml,
            "volume_difference_percent": self.difference_percent,
            "hd": distances.hd if distances else None,
            "hd95": distances.hd95 if distances else None,
            "assd": distances.assd if distances else None,
            "surface_dice": distances.surface_dice(self.tolerance_mm) if distances else None,
        }
        if self.lesions is not None:
            lesions = self.lesions.counts
            found |= {
                "lesions_tp": lesions.tp,
                "lesions_fp": lesions.fp,
                "lesions_fn": lesions.fn,
                "lesion_precision": lesions.precision,
                "lesion_recall": lesions.recall,
                "lesion_f1": lesions.f1,
            }
        return found


#: name -> (unit, how it is computed)
COLUMNS: dict[str, tuple[str, str]] = {
    "dice": ("", "2 tp / (2 tp + fp + fn) of voxels"),
    "iou": ("", "tp / (tp + fp + fn) of voxels"),
    "precision": ("", "tp / (tp + fp) of voxels"),
    "recall": ("", "tp / (tp + fn) of voxels"),
    "specificity": ("", "tn / (tn + fp) of voxels"),
    "prediction_volume": ("ml", "voxels of the prediction"),
    "reference_volume": ("ml", "voxels of the reference"),
    "volume_difference": ("ml", "prediction less reference"),
    "volume_difference_percent": ("%", "of the reference's volume"),
    "hd": ("mm", "greatest distance between the surfaces"),
    "hd95": ("mm", "95th percentile of the distances between the surfaces, both directions pooled"),
    "assd": ("mm", "mean distance between the surfaces, both directions pooled"),
    "surface_dice": ("", "share of both surfaces within the tolerance of the other"),
    "lesions_tp": ("", "predicted lesions with a partner in the reference"),
    "lesions_fp": ("", "predicted lesions without a partner"),
    "lesions_fn": ("", "lesions of the reference without a partner"),
    "lesion_precision": ("", "tp / (tp + fp) of lesions"),
    "lesion_recall": ("", "tp / (tp + fn) of lesions"),
    "lesion_f1": ("", "2 tp / (2 tp + fp + fn) of lesions"),
}


@dataclass(frozen=True)
class Matching:
    """How lesions are matched (`match_lesions`); one rule is given, by default an overlap of one voxel."""

    overlap: int | None = None
    iou: float | None = None
    distance_mm: float | None = None
    connectivity: int = 26


def compare_masks(
    prediction: Mask, reference: Mask, grid: Grid, *, tolerance_mm: float = 1.0, matching: Matching | None = None
) -> MaskFigures:
    """Figures of two masks (K, J, I) on ``grid``. ``matching``: None leaves lesions out."""
    spacing = grid.spacing[::-1]
    lesions = None
    if matching is not None:
        lesions = match_lesions(
            prediction,
            reference,
            spacing,
            overlap=matching.overlap,
            iou=matching.iou,
            distance_mm=matching.distance_mm,
            connectivity=matching.connectivity,
        )
    return MaskFigures(
        pixel_counts(prediction, reference),
        grid.voxel_volume / 1000,
        surface_distances(prediction, reference, spacing),
        tolerance_mm,
        lesions,
    )
