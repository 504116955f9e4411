"""The steps that a manifest may name, as data. What they do is in `medseg.pipeline`.

Sizes, spacings and margins are in index order (i, j, k) of the volume at that point; orientation codes too.
``scope: slice`` means each slice in the manifest's `inference.plane`, ``volume`` all voxels at once.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .extent_steps import AppendLabels, ChannelScheme, NormaliseChannels, ResampleExtent, ThickAxis
from .step_base import (
    LONGEST,
    Interpolation,
    OptionalSize,
    OptionalSpacing,
    OptionalStart,
    Scope,
    Size,
    Step,
)
from .way_back_steps import (
    AppendDifference,
    CropBox,
    CropCentre,
    Pad,
    ResampleFromFirst,
    ResampleToRas,
    Rescale,
    ResizeWithin,
    Squash,
    Standardise,
)

__all__ = [
    "LONGEST",
    "AppendDifference",
    "AppendLabels",
    "ChannelScheme",
    "CropBox",
    "CropCentre",
    "NormaliseChannels",
    "OptionalSize",
    "Pad",
    "ResampleExtent",
    "ResampleFromFirst",
    "ResampleToRas",
    "Rescale",
    "ResizeWithin",
    "Scope",
    "Size",
    "Squash",
    "Standardise",
    "Step",
    "ThickAxis",
]

# -- spatial: grid -> grid ----------------------------------------------------------------------------------


class Orient(Step):
    """Permute and flip axes so that i, j, k grow towards the three letters of ``code``."""

    step: Literal["orient"]
    code: str = Field(pattern="^[LRAPSI]{3}$")


class Permute(Step):
    """Reorder the axes as they are stored, whatever their directions: new axis n is the old axis ``axes[n]`` (0: i)."""

    step: Literal["permute"]
    axes: tuple[Literal[0, 1, 2], Literal[0, 1, 2], Literal[0, 1, 2]]

    @model_validator(mode="after")
    def _each_once(self) -> Permute:
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError("axes: each of 0, 1, 2 must be there once")
        return self


class Resample(Step):
    """Resample to ``spacing`` in mm; null keeps an axis.

    ``align_corners``: a whole number of voxels, the outer voxel centres kept, as scipy's zoom does; the true spacing
    then differs a little from ``spacing``.
    ``to_patient_axes``: onto axes that are exactly the patient's, over the volume's bounding box, so that an oblique
    scan reaches the network upright (as FreeSurfer's conform does); what the scan does not cover gets its least value.
    """

    step: Literal["resample"]
    spacing: OptionalSpacing
    interpolation: Interpolation = "linear"
    to_patient_axes: bool = False
    align_corners: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Resample:
        if self.to_patient_axes and self.align_corners:
            raise ValueError("align_corners: not together with to_patient_axes")
        return self


class Resize(Step):
    """Resample to ``size`` voxels over the same extent; null keeps an axis.

    ``keep_aspect``: one scale for all resized axes, the rest padded with ``pad_value``. ``antialias``: Gaussian of
    sigma (factor - 1) / 2 voxels before shrinking (scikit-image's rule). ``align_corners``: outer voxel centres kept.
    """

    step: Literal["resize"]
    size: OptionalSize
    interpolation: Interpolation = "linear"
    keep_aspect: bool = False
    antialias: bool = False
    align_corners: bool = False
    pad_value: float = 0.0


class CropOrPad(Step):
    """Centred crop or pad to ``size``; null keeps an axis."""

    step: Literal["crop_or_pad"]
    size: OptionalSize
    pad_value: float = 0.0


class Crop(Step):
    """A fixed window from ``start`` of ``size`` voxels; null keeps an axis whole."""

    step: Literal["crop"]
    start: OptionalStart
    size: OptionalSize


class CropToForeground(Step):
    """Crop to the bounding box of voxels above a threshold, plus ``margin`` voxels (clipped to the volume).

    Exactly one of ``above`` (absolute) and ``above_fraction`` (of the maximum) is given.
    """

    step: Literal["crop_to_foreground"]
    above: float | None = None
    above_fraction: float | None = None
    margin: int = Field(default=0, ge=0, le=LONGEST)

    @model_validator(mode="after")
    def _one_threshold(self) -> CropToForeground:
        if (self.above is None) == (self.above_fraction is None):
            raise ValueError("exactly one of above and above_fraction is needed")
        return self


class CropToNonzero(Step):
    """Crop to the bounding box of voxels that are not 0 in some channel."""

    step: Literal["crop_to_nonzero"]


class CropToMask(Step):
    """Crop to the bounding box of the required model ``of`` (its named ``segments``, or all)."""

    step: Literal["crop_to_mask"]
    of: str
    segments: list[str] | None = None
    margin: int = Field(default=0, ge=0, le=LONGEST)


class ApplyMask(Step):
    """Set voxels outside the required model's mask to ``outside``."""

    step: Literal["apply_mask"]
    of: str
    segments: list[str] | None = None
    outside: float = 0.0


class FitHead(Step):
    """Per slice: ellipse of the head, square of its long axis cropped, resized to ``size`` (WMH contract, step 5)."""

    step: Literal["fit_head"]
    size: int = Field(default=256, ge=16, le=LONGEST)


# -- intensity: values -> values ----------------------------------------------------------------------------


class TwelveBitFix(Step):
    """Undo wrapped 12-bit CT values: BitsStored 12, PixelRepresentation 0, RescaleIntercept > ``intercept_above``."""

    step: Literal["twelve_bit_fix"]
    intercept_above: float = -100.0


class Affine(Step):
    """``x * scale + offset`` (rescale slope and intercept, HU + 1024, x / 127 - 1)."""

    step: Literal["affine"]
    scale: float = 1.0
    offset: float = 0.0


class WindowRange(Step):
    """One window: ``level`` (centre) and ``width`` in the volume's units."""

    name: str = ""
    level: float
    width: float = Field(gt=0)


class Window(Step):
    """Windows to ``output`` range, one output channel each; DICOM PS3.3 C.11.2.1.

    ``function`` ``CLIP`` is clip to [level - width/2, level + width/2] and scale, as most networks were trained.
    ``override``: the user may change level and width (recorded in the provenance).
    """

    step: Literal["window"]
    windows: list[WindowRange] = Field(min_length=1)
    function: Literal["CLIP", "LINEAR", "LINEAR_EXACT", "SIGMOID"] = "CLIP"
    output: tuple[float, float] = (0.0, 1.0)
    override: bool = False


class Clip(Step):
    """Clip to [``minimum``, ``maximum``]; null is open. Or to percentiles of the ``scope``."""

    step: Literal["clip"]
    minimum: float | None = None
    maximum: float | None = None
    percentiles: tuple[float, float] | None = None
    scope: Scope = "volume"


class ZScore(Step):
    """``(x - mean) / (std + epsilon)``, population std; over voxels above ``above`` where it is given."""

    step: Literal["zscore"]
    scope: Scope = "volume"
    above: float | None = None
    epsilon: float = 0.0
    apply_outside: bool = True


class MinMax(Step):
    """Scale [minimum, maximum] (or ``percentiles``) of the scope to ``output``; over voxels above ``above``.

    ``clip``: values beyond the percentiles become the ends of ``output``; else they go on along the line.
    """

    step: Literal["minmax"]
    scope: Scope = "volume"
    percentiles: tuple[float, float] | None = None
    above: float | None = None
    output: tuple[float, float] = (0.0, 1.0)
    clip: bool = True


class DivideByMaximum(Step):
    """``x / max`` of the scope (0 where the maximum is 0)."""

    step: Literal["divide_by_maximum"]
    scope: Scope = "volume"


class HistogramEqualise(Step):
    """Histogram equalisation of 8-bit values per slice (OpenCV's equalizeHist rule)."""

    step: Literal["histogram_equalise"]


class UnsharpMask(Step):
    """Per slice ``y + amount * (y - gauss(y, sigma))`` on ``y = x / max``, clipped to y's range, times max."""

    step: Literal["unsharp_mask"]
    sigma: float = Field(default=1.0, gt=0)
    amount: float = 1.5


class NormaliseHead(Step):
    """Per slice: range between background and brightest of ten histogram bins outside the brain ellipse, to 0..1
    (WMH contract, steps 3 and 4). Slices whose ellipse has at most ``minimum_pixels`` pixels become 0."""

    step: Literal["normalise_head"]
    minimum_pixels: int = Field(default=2800, ge=0)


class RoundTo(Step):
    """Quantise: ``round(x * levels) / levels`` (what saving as an integer image did to the training data).

    ``towards_zero``: the decimals are cut off in place of rounding.
    """

    step: Literal["quantise"]
    levels: int = Field(gt=0, le=1 << 16)
    towards_zero: bool = False


class ToRGB(Step):
    """Repeat one channel three times."""

    step: Literal["to_rgb"]


class ImageNet(Step):
    """ImageNet style of a Keras or PyTorch model, on 0..255: ``torch``, ``caffe`` (BGR, mean only), ``tf`` (-1..1)."""

    step: Literal["imagenet"]
    style: Literal["torch", "caffe", "tf"]


PreprocessingStep = Annotated[
    Orient | Permute | Resample | ResampleExtent | Resize | CropOrPad | Crop | CropToForeground | CropToNonzero
    | CropToMask | ApplyMask | FitHead | NormaliseChannels | AppendLabels
    | ResampleFromFirst | ResampleToRas | ResizeWithin | Pad | CropCentre | CropBox | Standardise | Rescale | Squash
    | AppendDifference
    | TwelveBitFix | Affine | Window | Clip | ZScore | MinMax | DivideByMaximum | HistogramEqualise | UnsharpMask
    | NormaliseHead | RoundTo | ToRGB | ImageNet,
    Field(discriminator="step"),
]  # fmt: skip

# -- post-processing: labels -> labels ----------------------------------------------------------------------


class SegmentStep(Step):
    """Base of steps on segments: ``segments`` by name, or all where null."""

    segments: list[str] | None = None


class LargestComponent(SegmentStep):
    """Keep the largest component of each segment, or of their union with ``together``."""

    step: Literal["largest_component"]
    connectivity: Literal[4, 8, 6, 18, 26] = 26
    together: bool = False


class RemoveSmall(SegmentStep):
    """Remove components smaller than ``voxels`` or ``mm3``; connectivity 4 or 8 works per slice of the plane."""

    step: Literal["remove_small"]
    voxels: int | None = None
    mm3: float | None = None
    connectivity: Literal[4, 8, 6, 18, 26] = 26

    @model_validator(mode="after")
    def _some_size(self) -> RemoveSmall:
        if self.voxels is None and self.mm3 is None:
            raise ValueError("voxels or mm3 (or both) is needed")
        return self


class FillHoles(SegmentStep):
    """Fill background that the segment encloses, per slice or in 3D."""

    step: Literal["fill_holes"]
    scope: Scope = "volume"


class Morphology(SegmentStep):
    """Binary opening or closing with a disk (per slice) or a ball of ``radius`` voxels."""

    step: Literal["opening", "closing"]
    shape: Literal["disk", "ball"]
    radius: int = Field(ge=1, le=1024)


class KeepByLocation(SegmentStep):
    """Keep components that share at least ``minimum_voxels`` with ``labels`` of the required model ``of``.

    ``labels``: label values, or the name of one of the manifest's `choices`, whose chosen list is taken.
    """

    step: Literal["keep_by_location"]
    of: str
    labels: Annotated[list[int], Field(min_length=1)] | str
    minimum_voxels: int = Field(default=1, ge=1)
    connectivity: Literal[6, 18, 26] = 6


PostprocessingStep = Annotated[
    LargestComponent | RemoveSmall | FillHoles | Morphology | KeepByLocation, Field(discriminator="step")
]
