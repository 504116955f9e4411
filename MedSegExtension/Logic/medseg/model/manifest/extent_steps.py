"""Steps that follow nnU-Net v2: resampling extent to extent, a scheme for each channel, labels of a stage before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .step_base import OptionalSpacing, Step


class ThickAxis(Step):
    """One axis is resampled apart, with ``order``, where it is more than ``ratio`` times as long as the shortest.

    ``ratio`` null: always. The spacing before is looked at first, then the one after; an axis that is not the only
    longest one does not count. The other two axes are resampled slice by slice.
    """

    ratio: float | None = Field(default=3.0, gt=1)
    order: int = Field(default=0, ge=0, le=5)


class ResampleExtent(Step):
    """Resample to the size nearest to ``spacing`` mm (null keeps an axis) over exactly the same extent.

    The true spacing is then extent / size, which differs a little from ``spacing``: the rule of nnU-Net v2. Splines of
    ``order`` through the voxel centres, edge values repeated beyond the outermost ones, clipped to the input's range.
    ``restore_order`` and ``restore_thick_axis`` are used on the way back (with ``output.restore: logits``).
    """

    step: Literal["resample_extent"]
    spacing: OptionalSpacing
    order: int = Field(default=3, ge=0, le=5)
    thick_axis: ThickAxis | None = None
    restore_order: int = Field(default=1, ge=0, le=5)
    restore_thick_axis: ThickAxis | None = None


class AppendLabels(Step):
    """The labels of the required model ``of`` as further channels, 1 where a label is one of ``values``, else 0.

    One channel for each value, in this order, behind the image's own. After ``resample_extent`` the labels go its way:
    from the grid before it, extent to extent, a ``thick_axis`` apart, the label whose mask has the greatest spline of
    ``order`` (nnU-Net's cascades); without it by physical position, where the mask reaches one half. It stands behind
    all other steps.
    """

    step: Literal["append_labels"]
    of: str
    values: list[Annotated[int, Field(ge=1, le=65535)]] = Field(min_length=1)
    order: int = Field(default=1, ge=0, le=5)
    thick_axis: ThickAxis | None = None


class ChannelScheme(Step):
    """How one channel's values are normalised.

    ``zscore``: ``(x - mean) / std``; with ``nonzero`` over the voxels that are not 0 in some channel (holes filled),
    the others keep their value. ``fixed``: clip to [``minimum``, ``maximum``], then ``(x - mean) / std`` with the
    numbers given here. ``minmax``: to 0..1. ``divide``: by ``by``. ``none``: as it is.
    """

    scheme: Literal["zscore", "fixed", "minmax", "divide", "none"]
    nonzero: bool = False
    minimum: float | None = None
    maximum: float | None = None
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)
    by: float = Field(default=255.0, gt=0)


class NormaliseChannels(Step):
    """Each channel by a scheme of its own, all at once (a mask of values that are not 0 is that of all channels)."""

    step: Literal["normalise_channels"]
    channels: list[ChannelScheme] = Field(min_length=1)
