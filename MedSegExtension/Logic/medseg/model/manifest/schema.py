"""The manifest of a model package, as pydantic models. The JSON Schema made from it is committed beside this file.

A manifest is data: what goes in, how the network runs, what comes out, what is done to it. It never executes code.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .measurements import LesionCounts, LesionFeatures, LesionLocation, MeasurementStep, RsnaLongCsv
from .other_models import OWN, Joined, Required, check_joined
from .steps import (
    LONGEST,
    AppendDifference,
    AppendLabels,
    KeepByLocation,
    NormaliseChannels,
    PostprocessingStep,
    PreprocessingStep,
    Size,
    ToRGB,
    Window,
)

Layout = Literal["NCHW", "NHWC", "NCDHW", "NDHWC", "NHW", "NDHW", "NC", "N"]
Byte = Annotated[int, Field(ge=0, le=255)]
Plane = Literal["axial", "coronal", "sagittal", "acquisition"]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Choice(Part):
    """``options``: name -> label values of a required model. ``default``: the one that holds where none is chosen."""

    description: str = ""
    default: str
    options: dict[str, list[int]] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_default(self) -> Choice:
        if self.default not in self.options:
            raise ValueError(f"default: {self.default!r} is not one of the options")
        if empty := [name for name, labels in self.options.items() if not labels]:
            raise ValueError(f"options.{empty[0]}: the list of labels is empty")
        return self


class Code(Part):
    """A coded concept: scheme designator, value, meaning (DICOM PS3.3 8.8)."""

    scheme: str
    value: str
    meaning: str


class Terminology(Part):
    """What a segment is: category and type, optionally type modifier and anatomic region (with modifier)."""

    context: str = "Segmentation category and type - 3D Slicer General Anatomy list"
    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None


class OutputClass(Part):
    """One class. ``value``: the label (softmax, labels), or the channel + 1 (sigmoid), or the score's column + 1.

    ``channel``: the sigmoid channel where it is not value - 1.
    ``threshold`` applies to sigmoid classes. ``lesion``: its components are listed in lesions.csv.
    """

    value: int = Field(ge=1, le=65535)
    channel: int | None = Field(default=None, ge=0, le=65535)
    name: str = Field(min_length=1)
    color: tuple[Byte, Byte, Byte] = (128, 174, 128)
    terminology: Terminology | None = None
    lesion: bool = False
    threshold: float = 0.5

    @property
    def sigmoid_channel(self) -> int:
        """The output channel of a sigmoid class."""
        return self.value - 1 if self.channel is None else self.channel


class Channel(Part):
    """A volume that the user chooses. ``modality``: DICOM codes it was trained on (a misfit is a warning)."""

    name: str = Field(min_length=1)
    modality: list[str] = []
    description: str = ""


class Tensor(Part):
    """An ONNX input. ``channels``: which preprocessed channels it takes, in order; null takes all."""

    name: str
    layout: Layout
    dtype: Literal["float32", "float16", "uint8", "int32", "int64", "double"] = "float32"
    channels: list[int] | None = None


class Slicewise(Part):
    """2D network, slice by slice in ``plane``; ``neighbours`` slices on each side become channels (2.5D).

    ``multiple_of``: slices are padded by zeros (centred) until rows and columns are multiples of it.
    """

    mode: Literal["slicewise"]
    plane: Plane
    batch: int = Field(default=8, ge=1, le=4096)
    neighbours: int = Field(default=0, ge=0, le=64)
    multiple_of: int = Field(default=1, ge=1, le=LONGEST)


class WholeVolume(Part):
    """3D network, the whole volume at once, padded to a ``multiple_of`` per axis (never tiled)."""

    mode: Literal["whole"]
    multiple_of: int = Field(default=1, ge=1, le=LONGEST)
    plane: Plane = "axial"


class SlidingWindow(Part):
    """Network in overlapping ``patch`` windows (i, j, k); with k = 1 and a 2D layout, in tiles of every slice k.

    ``placement``: ``flush`` steps by ``patch * (1 - overlap)``, the last window flush with the border; ``even`` spreads
    as many windows evenly, first and last flush (nnU-Net). ``blending``: ``gaussian`` is symmetrical about the window's
    middle, ``gaussian_filter`` an impulse at ``patch // 2`` smoothed and cut at four sigma (nnU-Net),
    ``gaussian_floor`` as ``gaussian`` but at least 0.001 (MONAI), ``maximum`` takes the greatest value (Raidionics).
    ``stride``: voxels (i, j, k) from window to window, in place of ``overlap``.
    ``sums``: ``float16`` keeps the blended sums in half precision, as nnU-Net does.
    ``mirror_axes``: axes (0: i, 1: j, 2: k) along which the network was trained on mirrored images; where the user asks
    for it, the output is the mean over all their combinations (2, 4 or 8 times the work).
    ``skip_background_at_most``: windows whose largest input value is not above this are not run (class 0).
    """

    mode: Literal["sliding_window"]
    patch: tuple[Size, Size, Size]
    overlap: float = Field(default=0.5, ge=0, lt=1)
    placement: Literal["flush", "even"] = "flush"
    blending: Literal["constant", "gaussian", "gaussian_filter", "gaussian_floor", "maximum"] = "gaussian"
    stride: tuple[Size, Size, Size] | None = None
    sums: Literal["float32", "float16"] = "float32"
    mirror_axes: list[Literal[0, 1, 2]] = []
    batch: int = Field(default=1, ge=1, le=4096)
    pad_value: float = 0.0
    skip_background_at_most: float | None = None
    plane: Plane = "axial"


Inference = Annotated[Slicewise | WholeVolume | SlidingWindow, Field(discriminator="mode")]


class Dequantise(Part):
    """``(q - zero_point) * scale`` for quantised outputs."""

    scale: float
    zero_point: int


class Output(Part):
    """The ONNX output that is used.

    ``activation``: what the numbers mean: ``softmax`` over channels (channel 0 is background), ``sigmoid`` per channel
    (channels may overlap), or ``labels``. ``logits``: the activation is not in the graph, MedSeg applies it.
    ``restore``: ``probabilities`` (linear, then threshold/argmax on the input's grid), ``labels`` (argmax and
    cleaning on the network's grid, then nearest) or ``logits`` (the network's own numbers, kept in half precision, as
    the step ``resample_extent`` says, then threshold/argmax: nnU-Net).
    ``way_back``: by ``position``, or ``steps``: each spatial step is undone in turn by its own rule, and what was cut
    off is 0 (MONAI, Raidionics). ``exclusive``: sigmoid classes do not overlap; where several are above their
    threshold, the one that stands last among the classes holds.
    """

    tensor: str
    layout: Layout
    activation: Literal["softmax", "sigmoid", "labels"]
    logits: bool = False
    dequantise: Dequantise | None = None
    restore: Literal["probabilities", "labels", "logits"] = "probabilities"
    way_back: Literal["position", "steps"] = "position"
    exclusive: bool = False


class Weights(Part):
    """The ONNX file beside the manifest. ``sha256`` null only during development (told as a warning)."""

    file: str
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class Card(Part):
    """What a reader must know. ``figures``: metric -> value as published or held out, with where it comes from.

    ``assumptions``: what was guessed, and which answers were taken, when the model was imported. ``made_from``: what
    the importer made it from, in plain words by name (framework, configuration, folds, checkpoint); results tell it.
    """

    description: str = ""
    intended_use: str = ""
    training_data: str = ""
    limitations: list[str] = []
    figures: dict[str, str] = {}
    citation: str = ""
    assumptions: list[str] = []
    made_from: dict[str, str] = {}


class Manifest(Part):
    """A model package's manifest (``manifest.json``).

    ``lesion_connectivity``: which voxels are one lesion in the tables. ``measurements``: tables and columns beyond
    those that every run has. ``joined``: several networks whose classes make up this model's, in this order; where two
    give a label to one voxel, the later one holds. The fields here then describe the package's own network (``.``),
    but for ``classes`` and what follows them, which are those of all. ``choices``: settings that the user may choose
    when running, by name. ``demonstration``: trained on drawings only, to show the software; lists name it so and have
    it last.
    """

    medseg_manifest: Literal[1]
    id: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$")
    version: str
    title: str
    task: Literal["segmentation", "classification"]
    body_part: str = ""
    demonstration: bool = False
    license: str
    source: str = ""
    card: Card = Card()
    weights: Weights
    requires: list[Required] = []
    channels: list[Channel] = Field(min_length=1)
    preprocessing: list[PreprocessingStep] = []
    inputs: list[Tensor] = Field(min_length=1)
    inference: Inference
    output: Output
    classes: list[OutputClass] = Field(min_length=1)
    joined: list[Joined] = []
    postprocessing: list[PostprocessingStep] = []
    lesion_connectivity: Literal[6, 18, 26] = 26
    measurements: list[MeasurementStep] = []
    choices: dict[str, Choice] = {}
    display_windows: list[Window] = []

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = [c.name for c in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("classes: two classes have the same name")
        if len({c.value for c in self.classes}) != len(names):
            raise ValueError("classes: two classes have the same value")
        required = {r.name for r in self.requires}
        for field in ("preprocessing", "postprocessing", "measurements"):
            for n, step in enumerate(getattr(self, field)):
                of = getattr(step, "of", None)
                if of is not None and of not in required:
                    raise ValueError(f"{field}[{n}].of: {of!r} is not the name of a required model")
                for segment in getattr(step, "segments", None) or []:
                    if field != "preprocessing" and segment not in names:
                        raise ValueError(f"{field}[{n}].segments: {segment!r} is not the name of a class")
                labels = step.labels if isinstance(step, KeepByLocation) else None
                if isinstance(labels, str) and labels not in self.choices:
                    raise ValueError(f"{field}[{n}].labels: {labels!r} is not the name of a choice")
        self._check_measurements(names)
        if self.task == "classification" and self.output.activation == "labels":
            raise ValueError("output.activation: a classification gives softmax or sigmoid scores, not labels")
        spatial = {"NCHW": 2, "NHWC": 2, "NHW": 2, "NCDHW": 3, "NDHWC": 3, "NDHW": 3}
        wanted = self.network_dimensions
        for n, tensor in enumerate(self.inputs):
            if spatial.get(tensor.layout) != wanted:
                raise ValueError(
                    f"inputs[{n}].layout: {tensor.layout} does not fit inference mode {self.inference.mode}"
                )
        if self.task == "segmentation" and spatial.get(self.output.layout) != wanted:
            raise ValueError(f"output.layout: {self.output.layout} does not fit inference mode {self.inference.mode}")
        if self.task == "classification" and self.output.layout not in ("NC", "N"):
            raise ValueError("output.layout: classification scores are NC or N")
        return self

    def _check_measurements(self, names: list[str]) -> None:
        for n, step in enumerate(self.measurements):
            slices = isinstance(step, RsnaLongCsv)
            if slices and (self.task != "classification" or self.inference.mode != "slicewise"):
                raise ValueError(f"measurements[{n}]: {step.kind} needs a classification of slices")
            if not slices and self.task != "segmentation":
                raise ValueError(f"measurements[{n}]: {step.kind} needs a segmentation")
            if isinstance(step, RsnaLongCsv) and (unknown := [s for s in step.subtypes if s not in names]):
                raise ValueError(f"measurements[{n}].subtypes: {unknown[0]!r} is not the name of a class")
            of_lesions = isinstance(step, LesionLocation | LesionFeatures | LesionCounts)
            if of_lesions and not any(c.lesion for c in self.classes):
                raise ValueError(f"measurements[{n}]: {step.kind} needs a class with lesion: true")

    @model_validator(mode="after")
    def _consistent_logits_and_windows(self) -> Manifest:
        if (
            isinstance(self.inference, SlidingWindow)
            and self.network_dimensions == 2
            and 2 in self.inference.mirror_axes
        ):
            raise ValueError("inference.mirror_axes: a 2D network has only the axes 0 and 1")
        if self.output.restore == "logits" and not self.output.logits:
            raise ValueError("output.restore: logits needs output.logits")
        if self.output.exclusive and self.output.activation != "sigmoid":
            raise ValueError("output.exclusive: only sigmoid classes may overlap")
        if any(c.channel is not None for c in self.classes) and self.output.activation != "sigmoid":
            raise ValueError("classes: channel is for sigmoid classes")
        for n, step in enumerate(self.preprocessing):
            if isinstance(step, NormaliseChannels) and len(step.channels) != len(self.channels):
                raise ValueError(f"preprocessing[{n}].channels: one scheme is needed for each of the channels")
            if isinstance(step, AppendLabels) and n + 1 < len(self.preprocessing):
                raise ValueError(f"preprocessing[{n}]: append_labels must be the last step")
        if self.joined:
            if self.task != "segmentation":
                raise ValueError("joined: needs a segmentation")
            check_joined(self.joined, [c.value for c in self.classes])
        return self

    @property
    def alone(self) -> Manifest:
        """This package's own network without those that are joined with it: its own labels, no cleaning, no tables."""
        if not self.joined:
            return self
        own = next(j for j in self.joined if j.model == OWN)
        named = {c.value: c for c in self.classes}
        classes = [named[there].model_copy(update={"value": here}) for here, there in sorted(own.values.items())]
        changes = {"classes": classes, "joined": [], "postprocessing": [], "measurements": [], "choices": {}}
        return self.model_copy(update=changes)

    @property
    def network_dimensions(self) -> int:
        """2 for a network that sees slices (or tiles of slices), 3 for one that sees volumes."""
        if isinstance(self.inference, SlidingWindow):
            flat = self.inference.patch[2] == 1 and self.inputs[0].layout in ("NCHW", "NHWC", "NHW")
            return 2 if flat else 3
        return 2 if self.inference.mode == "slicewise" else 3

    @property
    def network_channels(self) -> int:
        """Channels after preprocessing (windows and RGB add some), before 2.5D neighbours."""
        count = len(self.channels)
        for step in self.preprocessing:
            if isinstance(step, Window):
                count *= len(step.windows)
            elif isinstance(step, ToRGB):
                count *= 3
            elif isinstance(step, AppendLabels):
                count += len(step.values)
            elif isinstance(step, AppendDifference):
                count += len(step.pairs)
        return count
