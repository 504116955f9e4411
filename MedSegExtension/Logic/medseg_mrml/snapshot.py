"""A segmentation node's state before a result is applied, and the way back to it.

A snapshot copies names, colours and tags, and keeps references to the labelmaps: `segmentation.apply_result` never
writes into a labelmap that is already in a node, so nothing has to be copied (under 1 ms at 512x512x300). Segments that
`apply_result` did not touch are left as they are by `restore`, edits made since included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer

BINARY = "Binary labelmap"
_GEOMETRY = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
_GEOMETRY_ROLE = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Segments (identifier, metadata, references to representations) in order, and what the node refers to."""

    segments: tuple[tuple[str, Any], ...]
    geometry: str
    reference_id: str | None
    transform_id: str | None


def take_snapshot(node: Any) -> Snapshot:
    """The state of the segmentation node ``node`` now."""
    segmentation = node.GetSegmentation()
    segments = []
    for identifier in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(identifier)
        segments.append((identifier, _shallow(segment)))
    return Snapshot(
        tuple(segments),
        segmentation.GetConversionParameter(_GEOMETRY),
        node.GetNodeReferenceID(_GEOMETRY_ROLE),
        node.GetTransformNodeID(),
    )


def restore(node: Any, state: Snapshot) -> None:
    """Bring ``node`` back to ``state``: segments added since are removed, removed or replaced ones come back."""
    segmentation = node.GetSegmentation()
    saved = dict(state.segments)
    modified = node.StartModify()
    try:
        for identifier in segmentation.GetSegmentIDs():
            segment = segmentation.GetSegment(identifier)
            kept = saved.get(identifier)
            if kept is None or kept.GetRepresentation(BINARY) is not segment.GetRepresentation(BINARY):
                remove_segment(segmentation, identifier)
        for identifier, kept in state.segments:
            if segmentation.GetSegment(identifier) is None:
                segmentation.AddSegment(_shallow(kept), identifier)
        segmentation.ReorderSegments([identifier for identifier, _ in state.segments])
        segmentation.SetConversionParameter(_GEOMETRY, state.geometry)
        node.SetNodeReferenceID(_GEOMETRY_ROLE, state.reference_id)
        node.SetAndObserveTransformNodeID(state.transform_id)
    finally:
        node.EndModify(modified)


def remove_segment(segmentation: Any, identifier: str) -> None:
    """Remove a segment without touching the voxels of a labelmap that it shares.

    `vtkSegmentation.RemoveSegment` first splits a shared labelmap, a quarter of a second for each segment at
    512x512x300, and erases the segment's voxels from it, which a snapshot may still need.
    """
    segmentation.GetSegment(identifier).RemoveAllRepresentations()
    segmentation.RemoveSegment(identifier)


def _shallow(segment: Any) -> Any:
    copy = slicer.vtkSegment()
    copy.DeepCopyMetadata(segment)
    for name in representation_names(segment):
        copy.AddRepresentation(name, segment.GetRepresentation(name))
    return copy


def representation_names(segment: Any) -> tuple[str, ...]:
    """Names of the representations that ``segment`` holds."""
    names: list[str] = []
    segment.GetContainedRepresentationNames(names)
    return tuple(names)
