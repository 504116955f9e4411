"""A result becomes segments: one shared labelmap a layer, given to all segments of that layer by label value.

``ImportLabelmapToSegmentationNode`` takes more than a second for 18 classes at 512x512x300, in which the application is
frozen; sharing the labelmap takes milliseconds and gives the same segments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.result import Layer, Result, SegmentClass

from .arrays import array_of, grid_of, oriented_image, unique_name, vtk_ready
from .hierarchy import place_beside
from .snapshot import BINARY, Snapshot, remove_segment, representation_names, restore, take_snapshot

MODEL_TAG = "MedSeg.Model"
CLASS_TAG = "MedSeg.Class"
LESION_TAG = "MedSeg.Lesion"
_SURFACE = "Closed surface"

Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Applied:
    """What `apply_result` did. ``before``: for `snapshot.restore`, None where ``node`` is new (undo removes it)."""

    node: Any
    segment_ids: tuple[str, ...]
    before: Snapshot | None


def apply_result(
    result: Result,
    scene: Any,
    *,
    reference_node: Any,
    output_node: Any = None,
    name: str | None = None,
    model_id: str | None = None,
    warn: Warn | None = None,
) -> Applied:
    """Show ``result`` as segments of ``output_node``, or of a new segmentation node called ``name``.

    New segments carry name, colour, terminology and the tags ``MedSeg.Model`` and ``MedSeg.Class``. In an
    ``output_node`` the segments that the same model made before are replaced, all others stay as they are, whatever
    their geometry. The node gets the parent transform of ``reference_node`` (the volume that was segmented) and stands
    beside it in the subject hierarchy. Label arrays that are C-ordered and writable are used without a copy: do not
    change them afterwards.

    Where the segments cannot live in ``output_node`` (it is under another transform, or made of surfaces) they go into
    a new node, and ``warn`` is told. Raises `InputError` where the result has no segments.
    """
    tell = warn or (lambda sentence: None)
    if not result.layers:
        raise InputError("The result has scores but no segments, so there is nothing to put into a segmentation.")
    model_id = model_id if model_id is not None else str(result.provenance.get("model", {}).get("id", ""))
    if output_node is not None and (reason := _unfit(output_node, reference_node, model_id)):
        tell(f"The segmentation {output_node.GetName()} {reason}; the result was put into a new segmentation.")
        output_node = None
    if output_node is None:
        base = name or f"{reference_node.GetName()} segmentation"
        before, (node, added) = None, _new_node(result, scene, reference_node, base, model_id)
    else:
        before, node = take_snapshot(output_node), output_node
        added = _add_to(node, result, reference_node, model_id, tell)
    if not result.grid.same_as(grid_of(reference_node)):
        tell(
            f"The geometry of {reference_node.GetName()} changed since it was segmented; the segments are where the "
            "volume was then."
        )
    place_beside(scene, node, reference_node)
    return Applied(node, tuple(added), before)


def _new_node(result: Result, scene: Any, reference_node: Any, base: str, model_id: str) -> tuple[Any, list[str]]:
    """A new segmentation node with all segments; and their identifiers.

    It comes into the scene when it is filled: the application's subject hierarchy then looks at it once, not at each of
    its segments (85 ms for 18 segments, in which the application is frozen, become 30 ms).
    """
    node, ids = new_segmentation(scene, reference_node, base, result.layers, result.grid, model_id)
    return node, [i for of_layer in ids for i in of_layer]


def new_segmentation(
    scene: Any, reference_node: Any, name: str, layers: Sequence[Layer], grid: Grid, model_id: str
) -> tuple[Any, list[list[str]]]:
    """A node with the classes of ``layers`` over the volume ``reference_node``; segment identifiers of each layer."""
    node = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
    node.UnRegister(None)
    node.SetName(unique_name(scene, name))
    ids = [add_layer(node.GetSegmentation(), layer, grid, model_id) for layer in layers]
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference_node)
    scene.AddNode(node)
    node.SetAndObserveTransformNodeID(reference_node.GetTransformNodeID())
    node.CreateDefaultDisplayNodes()
    return node, ids


def _add_to(node: Any, result: Result, reference_node: Any, model_id: str, tell: Warn) -> list[str]:
    """Add the segments to a node that is in the scene, in place of those that the same model made before."""
    segmentation = node.GetSegmentation()
    modified = node.StartModify()
    try:
        _remove_previous(segmentation, model_id)
        if segmentation.GetNumberOfSegments() == 0:
            # Surfaces of the old segments would be made anew for each new one while the application waits.
            segmentation.RemoveRepresentation(_SURFACE)
            node.SetAndObserveTransformNodeID(reference_node.GetTransformNodeID())
            node.SetReferenceImageGeometryParameterFromVolumeNode(reference_node)
        elif not _same_reference(node, reference_node):
            tell(
                f"The segmentation {node.GetName()} has another reference volume than {reference_node.GetName()}; its "
                "own segments are unchanged, but saving it resamples all segments to one geometry. A new segmentation "
                "avoids that."
            )
        return [i for layer in result.layers for i in add_layer(segmentation, layer, result.grid, model_id)]
    finally:
        node.EndModify(modified)


def rehearse(scene: Any) -> None:
    """Add and remove an unseen segmentation, so that the first result does not wait for what Slicer loads only then.

    Icons, terminologies, display pipelines and shaders of segmentations freeze the application for about 0.15 s at
    their first use. Nothing stays in ``scene``.
    """
    node = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
    node.UnRegister(None)
    node.SetName("MedSeg rehearsal")
    node.SetSaveWithScene(False)
    image = oriented_image(np.ones((2, 2, 2), np.uint8), Grid((2, 2, 2), (1, 1, 1), (0, 0, 0), np.eye(3)))
    segment = slicer.vtkSegment()
    segment.SetName("rehearsal")
    segment.SetLabelValue(1)
    segment.AddRepresentation(BINARY, image)
    node.GetSegmentation().AddSegment(segment)
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetOpacity(0.0)
    undo(Applied(node, (), None))


def undo(applied: Applied) -> None:
    """Take back what `apply_result` did: the earlier segments come back, a node that it made is removed.

    Scene undo of the application is off by default for segmentations and copies all voxels; this copies none.
    """
    node = applied.node
    scene = node.GetScene()
    if scene is None:
        return
    if applied.before is not None:
        restore(node, applied.before)
        return
    for identifier in node.GetSegmentation().GetSegmentIDs():
        # Else the application splits the shared labelmap for each segment that it takes leave of, 1.6 s for 18.
        node.GetSegmentation().GetSegment(identifier).RemoveAllRepresentations()
    for part in (node, node.GetDisplayNode(), node.GetStorageNode()):
        # The application takes the display node away with the segmentation, slicer-core does not.
        if part is not None and part.GetScene() is scene:
            scene.RemoveNode(part)


def segment_id(model_id: str, value: int) -> str:
    """The predictable identifier of a model's class: ``model_1``, or ``Segment_1`` where the model has no name."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model_id) or 'Segment'}_{value}"


def _unfit(node: Any, reference: Any, model_id: str) -> str:
    """Why the segments of ``reference`` cannot join the other segments of ``node``, or ""."""
    segmentation = node.GetSegmentation()
    others = [s for s in _segments(segmentation) if tag_of(s, MODEL_TAG) != model_id or not model_id]
    if not others:
        return ""
    if segmentation.GetSourceRepresentationName() != BINARY:
        return "is made of surfaces, not labelmaps"
    if node.GetParentTransformNode() is not reference.GetParentTransformNode():
        return f"has other segments and is not under the same transform as {reference.GetName()}"
    return ""


def _remove_previous(segmentation: Any, model_id: str) -> None:
    """Remove the segments that this model made before; a labelmap shared with other segments is replaced for them."""
    if not model_id:
        return
    ids = list(segmentation.GetSegmentIDs())
    old = [i for i in ids if tag_of(segmentation.GetSegment(i), MODEL_TAG) == model_id]
    gone: dict[Any, set[int]] = {}
    for identifier in old:
        segment = segmentation.GetSegment(identifier)
        gone.setdefault(segment.GetRepresentation(BINARY), set()).add(segment.GetLabelValue())
        remove_segment(segmentation, identifier)
    cleaned: dict[Any, Any] = {}
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        image = segment.GetRepresentation(BINARY)
        if image not in gone:
            continue
        if image not in cleaned:
            cleaned[image] = _without(image, gone[image])
        segment.AddRepresentation(BINARY, cleaned[image])


def _without(image: Any, values: set[int]) -> Any:
    """A copy of a labelmap in which ``values`` are background."""
    copy = slicer.vtkOrientedImageData()
    copy.DeepCopy(image)
    voxels = array_of(copy)
    voxels[np.isin(voxels, list(values))] = 0
    return copy


def add_layer(segmentation: Any, layer: Layer, grid: Grid, model_id: str) -> list[str]:
    """Add the classes of ``layer``, on ``grid``, as segments of one shared labelmap; their identifiers."""
    if not layer.classes:
        return []
    image = oriented_image(_labels(layer), grid)
    added = []
    for item in layer.classes:
        segment = slicer.vtkSegment()
        segment.SetName(_unique_segment_name(segmentation, item.name))
        segment.SetColor(*item.color)
        segment.SetNameAutoGenerated(False)
        segment.SetColorAutoGenerated(False)
        segment.SetLabelValue(item.value)
        if item.terminology:
            segment.SetTerminology(item.terminology)
        segment.SetTag(MODEL_TAG, model_id)
        segment.SetTag(CLASS_TAG, item.name)
        if item.lesion:
            segment.SetTag(LESION_TAG, "1")
        segment.AddRepresentation(BINARY, image)
        identifier = segmentation.GenerateUniqueSegmentID(segment_id(model_id, item.value))
        if not segmentation.AddSegment(segment, identifier):
            raise InputError(f"The segment {item.name} could not be added; choose a new segmentation as output.")
        added.append(identifier)
    return added


def _labels(layer: Layer) -> np.ndarray[Any, Any]:
    labels = layer.labels
    if labels.dtype not in (np.bool_, np.uint8, np.int16, np.uint16):
        labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    return vtk_ready(labels)


def _unique_segment_name(segmentation: Any, base: str) -> str:
    names = {s.GetName() for s in _segments(segmentation)}
    return next(n for n in (base, *(f"{base}_{k}" for k in range(1, len(names) + 2))) if n not in names)


def _same_reference(node: Any, reference: Any) -> bool:
    role = node.GetReferenceImageGeometryReferenceRole()
    return bool(node.GetNodeReferenceID(role) == reference.GetID())


def _segments(segmentation: Any) -> list[Any]:
    return [segmentation.GetSegment(i) for i in segmentation.GetSegmentIDs()]


def tag_of(segment: Any, name: str) -> str:
    """A tag of a segment, "" where it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def classes_of(node: Any) -> tuple[SegmentClass, ...]:
    """The segments of ``node`` as `SegmentClass` values, in order (for tables, plots and pictures)."""
    return tuple(
        SegmentClass(s.GetLabelValue(), s.GetName(), s.GetColor(), s.GetTerminology())
        for s in _segments(node.GetSegmentation())
        if BINARY in representation_names(s)
    )
