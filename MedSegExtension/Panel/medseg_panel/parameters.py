"""The module's parameters, kept in a node of the scene and saved with it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Annotated, Any

from slicer import vtkMRMLMarkupsROINode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

INPUT_ROLE = "inputVolume"


@parameterNodeWrapper
class MedSegParameters:
    """What the user chose. The input volumes are node references of the role `INPUT_ROLE`, in channel order.

    modelId - which installed model runs.
    regionOfInterest - the run is confined to this box.
    allFrames - a sequence is segmented frame by frame, not only the frame that is shown.
    windowOverrides - JSON list of [level, width], one for each window of the model; "" where none was changed.
    choices - JSON object, choice of the model -> its option; "" where none was changed.
    device, precision, batch, tile, mirror - as in `medseg.pipeline.run.RunOptions`; 0 is automatic.
    outputSegmentation - where the segments go; none makes a new node.
    """

    modelId: str = ""
    regionOfInterest: vtkMRMLMarkupsROINode
    allFrames: bool = False
    overrideWindows: bool = False
    windowOverrides: str = ""
    choices: str = ""
    device: str = "auto"
    precision: str = "auto"
    batch: Annotated[int, WithinRange(0, 512)] = 0
    tile: Annotated[int, WithinRange(0, 1024)] = 0
    outputSegmentation: vtkMRMLSegmentationNode
    probabilities: bool = False
    mirror: bool = False


def input_nodes(parameters: Any, count: int) -> list[Any]:
    """The chosen volume node of each of ``count`` channels, None where none is chosen."""
    node = parameters.parameterNode
    return [node.GetNthNodeReference(INPUT_ROLE, n) for n in range(count)]


def set_input_node(parameters: Any, channel: int, volume: Any) -> None:
    """Choose ``volume`` (or None) for ``channel``."""
    node = parameters.parameterNode
    if node.GetNthNodeReference(INPUT_ROLE, channel) is not volume:
        node.SetNthNodeReferenceID(INPUT_ROLE, channel, volume.GetID() if volume is not None else None)


def window_overrides(parameters: Any) -> list[tuple[float, float]] | None:
    """The (level, width) of each window that the user set, None where the model's own are used.

    None also where the text is not one of ours (a scene may be old or edited by hand).
    """
    if not parameters.overrideWindows or not parameters.windowOverrides:
        return None
    try:
        windows = [(float(level), float(width)) for level, width in json.loads(parameters.windowOverrides)]
    except (ValueError, TypeError, RecursionError):
        return None
    return windows if all(math.isfinite(v) for window in windows for v in window) else None


def set_window_overrides(parameters: Any, windows: Sequence[tuple[float, float]]) -> None:
    """Keep ``windows`` in the parameter node."""
    parameters.windowOverrides = json.dumps([list(w) for w in windows])


def choices(parameters: Any) -> dict[str, str]:
    """The option that the user chose for each choice; empty where the text is not one of ours (a scene may be old)."""
    try:
        kept = json.loads(parameters.choices or "{}")
    except ValueError:
        return {}
    return {str(k): v for k, v in kept.items() if isinstance(v, str)} if isinstance(kept, dict) else {}


def set_choices(parameters: Any, chosen: dict[str, str]) -> None:
    """Keep ``chosen`` in the parameter node."""
    parameters.choices = json.dumps(chosen)
