"""Steps of frameworks that undo their own steps one by one (MONAI, Raidionics), for ``output.way_back: steps``.

Their true spacing, their edges and the way back differ in small ways from resampling by position; each rule is a step.
Sizes, spacings and margins are in index order (i, j, k) of the volume at that point.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .step_base import LONGEST, OptionalSize, OptionalSpacing, Size, Step

Margin = Annotated[int, Field(ge=0, le=LONGEST)]


class ResampleFromFirst(Step):
    """Voxels every ``spacing`` mm (null keeps an axis), the first one where it was: MONAI's ``Spacing``.

    ``round((n - 1) * old / new + 1)`` voxels; positions beyond the last centre take its value, there and back.
    ``unless_between``: an axis whose spacing lies between these two (mm) keeps it.
    """

    step: Literal["resample_from_first"]
    spacing: OptionalSpacing
    unless_between: tuple[OptionalSpacing, OptionalSpacing] | None = None
    interpolation: Literal["nearest", "linear"] = "linear"


class ResampleToRas(Step):
    """Onto axes that are exactly Right, Anterior, Superior (k, j, i), over the box of all voxel centres.

    From its lowest corner, ``ceil(extent / spacing) + 1`` voxels; 0 outside the image, there and back: nibabel's
    ``resample_to_output``. A null spacing is the smallest of the three.
    """

    step: Literal["resample_to_ras"]
    spacing: OptionalSpacing
    interpolation: Literal["nearest", "linear"] = "linear"


class ResizeWithin(Step):
    """To ``size`` voxels over the same extent; null keeps an axis, or gives it the ratio of the axis ``follow``.

    ``linear`` interpolates between centres; ``area`` takes the mean of what a new voxel covers (PyTorch's adaptive
    average). ``antialias``: as in ``resize``. ``edges``: what lies beyond the outer centres: ``repeat`` them, or
    ``mirror`` (scikit-image). ``back``: over the same ``extent``, or from outer centre to outer centre (``corners``).
    """

    step: Literal["resize_within"]
    size: OptionalSize
    follow: Literal[0, 1, 2] | None = None
    interpolation: Literal["nearest", "linear", "area"] = "linear"
    antialias: bool = False
    edges: Literal["repeat", "mirror"] = "repeat"
    back: Literal["extent", "corners"] = "extent"


class Pad(Step):
    """Pad to at least ``size``, to a ``multiple``, or by ``border`` (one of them; null leaves an axis).

    ``where``: ``both`` (the odd voxel behind), ``end``, or ``both_up`` (half of it, rounded up, on either side).
    """

    step: Literal["pad"]
    size: OptionalSize | None = None
    multiple: OptionalSize | None = None
    border: tuple[Margin, Margin, Margin] | None = None
    where: Literal["both", "end", "both_up"] = "both"
    mode: Literal["constant", "edge", "reflect"] = "constant"
    value: float = 0.0

    @model_validator(mode="after")
    def _one_rule(self) -> Pad:
        if sum(rule is not None for rule in (self.size, self.multiple, self.border)) != 1:
            raise ValueError("exactly one of size, multiple and border is needed")
        return self


class CropCentre(Step):
    """Crop to at most ``size`` voxels from ``n // 2 - size // 2`` on; null keeps an axis (MONAI's centre crop)."""

    step: Literal["crop_centre"]
    size: OptionalSize


class CropBox(Step):
    """Crop to the box of the values above ``above`` in some of ``channels`` (all where null), plus a margin per axis.

    ``range_fraction``: of the first channel, values at or above this share of its range, rounded down to a whole number
    (Raidionics), in place of ``above``. ``beyond``: the box may reach beyond the image, where it is 0. Then it grows to
    a multiple of ``divisible``, half on either side, beyond the image too. ``as_stored``: the box is looked for in the
    first channel before the first spatial step, and its numbers are used here (SlicerMONAIAuto3DSeg turns the image in
    between).
    """

    step: Literal["crop_box"]
    above: float = 0.0
    range_fraction: float | None = Field(default=None, gt=0, lt=1)
    channels: list[int] | None = None
    as_stored: bool = False
    margin: tuple[Margin, Margin, Margin] = (0, 0, 0)
    beyond: bool = False
    divisible: tuple[Size, Size, Size] = (1, 1, 1)


class Standardise(Step):
    """``(x - subtract) / divide``; where these are null, the mean and the population's standard deviation.

    ``nonzero``: only values that are not 0 are looked at and changed. ``together``: one mean for all channels.
    ``subtract`` and ``divide``: one number for all channels, or one for each. A deviation of 0 is taken as 1.
    ``channels``: only these; the others stay as they are.
    """

    step: Literal["standardise"]
    nonzero: bool = False
    together: bool = False
    subtract: list[float] | None = None
    divide: list[float] | None = None
    channels: list[int] | None = None


class Rescale(Step):
    """The line that takes the least and greatest value (or ``percentiles``) to ``output``.

    ``together``: of all channels at once. ``clip``: to ``output``. A range of 0 only takes the least value off, as
    MONAI does.
    """

    step: Literal["rescale"]
    percentiles: tuple[float, float] | None = None
    output: tuple[float, float] = (0.0, 1.0)
    together: bool = False
    clip: bool = False


class Squash(Step):
    """``sigmoid``: logistic function; ``tanh``: ``scale * tanh(x / scale)``; ``pet``: logistic of (x - min) / std.

    ``channels``: only these; the others stay as they are.
    """

    step: Literal["squash"]
    function: Literal["sigmoid", "tanh", "pet"]
    scale: float = Field(default=1.0, gt=0)
    channels: list[int] | None = None


class AppendDifference(Step):
    """A further channel for each of ``pairs``: the absolute difference of two channels (numbers from 0)."""

    step: Literal["append_difference"]
    pairs: list[tuple[int, int]] = Field(min_length=1)
