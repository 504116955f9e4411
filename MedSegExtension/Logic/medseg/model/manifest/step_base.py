"""What all steps of a manifest have in common: their base, and the types of their numbers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Interpolation = Literal["nearest", "linear", "bspline"]
Scope = Literal["slice", "volume"]
#: No image has more voxels along an axis; a number beyond it is a slip, and would ask for all memory there is.
LONGEST = 1 << 14
Size = Annotated[int, Field(ge=1, le=LONGEST)]
Start = Annotated[int, Field(ge=0, le=LONGEST)]
Spacing = Annotated[float, Field(gt=0, le=1000)]
OptionalSize = tuple[Size | None, Size | None, Size | None]
OptionalStart = tuple[Start | None, Start | None, Start | None]
OptionalSpacing = tuple[Spacing | None, Spacing | None, Spacing | None]


class Step(BaseModel):
    """Base of all steps: unknown fields are refused, so that a typing error is found."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
