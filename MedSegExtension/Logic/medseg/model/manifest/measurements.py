"""The measurements that a manifest may name, beyond the tables that every run has.

What they do is in `medseg.measure.named`. They run in the manifest's order after the cleaning, on the input's grid, and
add columns or tables to the result.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RSNA_SUBTYPES = ["any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"]


class Measurement(BaseModel):
    """Base of all measurements: unknown fields are refused, so that a typing error is found."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LesionLocation(Measurement):
    """Where each lesion lies: ``brain_label``, ``brain_label_share``, ``region`` and ``location`` in the lesions table.

    ``of``: the required model that gives the parcellation. ``labels``: how its classes are told apart: by their
    ``names``, or by their values, which are ``freesurfer`` numbers. ``scheme``: how structures become regions;
    ``bombs`` has lobar and deep, ``bombs-infratentorial`` keeps brainstem and cerebellum apart from deep.
    """

    kind: Literal["lesion_location"]
    of: str
    labels: Literal["names", "freesurfer"] = "names"
    scheme: Literal["bombs", "bombs-infratentorial"] = "bombs"


class LesionFeatures(Measurement):
    """Further columns of the lesions, by their PyRadiomics definitions. ``bin_width``: of entropy and uniformity."""

    kind: Literal["lesion_features"]
    families: list[Literal["shape", "first_order"]] = ["shape", "first_order"]
    bin_width: float = Field(default=25.0, gt=0)


class LesionCounts(Measurement):
    """Table ``counts``: lesions of each segment, in all, by location and region, and whether they reach thresholds."""

    kind: Literal["lesion_counts"]
    thresholds: list[int] = Field(default=[1, 3, 5, 11], min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> LesionCounts:
        if self.thresholds[0] < 1 or sorted(set(self.thresholds)) != self.thresholds:
            raise ValueError("thresholds: whole numbers from 1, each greater than the one before, are needed")
        return self


class AreaRatio(Measurement):
    """Table ``areas`` of a frontal film: area of the ``segments`` together (all where null), right, left, and ratio.

    ``name``: what the row is called.
    """

    kind: Literal["area_ratio"]
    name: str = "lungs"
    segments: list[str] | None = None


class RsnaLongCsv(Measurement):
    """Table ``rsna`` (``rsna.csv``): a row ``ID_<image>_<subtype>,Label`` for each slice and class in ``subtypes``."""

    kind: Literal["rsna_long_csv"]
    subtypes: list[str] = Field(default=RSNA_SUBTYPES, min_length=1)


MeasurementStep = Annotated[
    LesionLocation | LesionFeatures | LesionCounts | AreaRatio | RsnaLongCsv, Field(discriminator="kind")
]
