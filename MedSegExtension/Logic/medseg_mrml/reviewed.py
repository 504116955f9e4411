"""The mask under review as a node: what the reader sees and draws on, kept in step with `medseg.review`.

The node has voxels of its own, so that what was drawn can be told from what is known. Only boxes are copied, so a
decision costs the size of its finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.result import Layer, SegmentClass

from .arrays import array_of, grid_of, oriented_image
from .hierarchy import place_beside
from .segmentation import LESION_TAG, MODEL_TAG, Applied, new_segmentation, tag_of, undo
from .snapshot import BINARY

Labels = npt.NDArray[Any]
Box = tuple[slice, slice, slice]
#: Attribute of a transform under which a volume is only to be looked at: the identifier of its own transform, or "".
MOVED_FROM = "MedSeg.MovedFrom"


@dataclass(frozen=True, eq=False)
class NodeMasks:
    """What a segmentation node holds. ``layers``: label arrays (K, J, I) on ``grid``; ``model_id``: "" where unknown.

    ``warnings``: what reading it assumed, as sentences.
    """

    grid: Grid
    layers: tuple[Layer, ...]
    model_id: str
    warnings: tuple[str, ...]


def masks_of(node: Any, reference: Any) -> NodeMasks:
    """The segments of ``node`` on the grid of the volume node ``reference``, copied; names, colours, codes kept.

    Segments that share a labelmap are one layer. Segments of another geometry, under another linear transform, and
    surfaces are resampled (nearest neighbour), which is told. Raises `InputError` where there are no segments, or only
    one of both nodes is under a warp.
    """
    segmentation = node.GetSegmentation()
    ids = list(segmentation.GetSegmentIDs())
    if not ids:
        raise InputError(f"{node.GetName()} has no segments, so there is nothing to review.")
    grid = grid_of(reference)
    moved = _between(node, reference)
    groups: dict[Any, list[str]] = {}
    apart: list[str] = []
    for identifier in ids:
        image = segmentation.GetSegment(identifier).GetRepresentation(BINARY)
        shared = moved is None and image is not None and _place(image, grid) is not None
        (groups.setdefault(image, []) if shared else apart).append(identifier)
    layers = [_layer(segmentation, image, members, grid) for image, members in groups.items()]
    warnings = []
    if apart:
        layers += _resampled(node, apart, grid, moved)
        names = ", ".join(segmentation.GetSegment(i).GetName() for i in apart[:4])
        warnings.append(
            f"{names}: these segments of {node.GetName()} have another geometry "
            f"{'or transform ' * (moved is not None)}than {reference.GetName()}; they were brought onto "
            "the grid of the image (nearest neighbour)."
        )
    layers, renamed = _named_apart(layers)
    if renamed:
        warnings.append(
            f"Segments of {node.GetName()} have one name, or none that a file can keep; here they are called "
            f"{', '.join(renamed)}."
        )
    models = {tag_of(segmentation.GetSegment(i), MODEL_TAG) for i in ids} - {""}
    return NodeMasks(grid, tuple(layers), models.pop() if len(models) == 1 else "", tuple(warnings))


def _named_apart(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers with a name of its own for each class, and the new names: decisions and files know classes by name."""
    taken: set[str] = set()
    found, renamed = [], []
    for layer in layers:
        classes = []
        for c in layer.classes:
            # Files keep no spaces around names, and none without letters.
            name = base = " ".join(c.name.split()) or "unnamed"
            n = 2
            while name in taken:
                name, n = f"{base} {n}", n + 1
            taken.add(name)
            renamed += [name] * (name != c.name)
            classes.append(replace(c, name=name))
        found.append(Layer(layer.labels, tuple(classes)))
    return found, renamed


def _parent(node: Any) -> Any:
    """The transform that a node belongs under: one that it is under to be looked at only is left out."""
    transform = node.GetParentTransformNode()
    before = transform.GetAttribute(MOVED_FROM) if transform is not None else None
    if before is None:
        return transform
    return transform.GetScene().GetNodeByID(before) if before else None


def _between(node: Any, reference: Any) -> Any:
    """The matrix from the space of ``node`` to that of ``reference``, None where both are under the same transform."""
    one, other = _parent(node), _parent(reference)
    if one is other:
        return None
    if not all(t is None or t.IsTransformToWorldLinear() for t in (one, other)):
        raise InputError(
            f"{node.GetName()} and {reference.GetName()} are under different transforms, one of which is not linear; "
            "put both under the same one, or harden it (module Transforms)."
        )
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(one, other, matrix)
    return matrix


def _offset(image: Any, grid: Grid) -> tuple[int, int, int] | None:
    """Where the index (0, 0, 0) of ``image`` lies on ``grid`` (i, j, k); None where its voxels are not the grid's."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    own = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    relative = np.linalg.solve(grid.affine_ras, own)
    whole = np.rint(relative[:3, 3])
    relative[:3, 3] -= whole
    if not np.allclose(relative, np.eye(4), rtol=0, atol=1e-3):
        return None
    i, j, k = (int(n) for n in whole)
    return (i, j, k)


def _place(image: Any, grid: Grid) -> Box | None:
    """The voxels (k, j, i) of ``grid`` that ``image`` holds; None where it holds others, or they are not the grid's."""
    offset = _offset(image, grid)
    if offset is None:
        return None
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    i, j, k = offset
    box = (slice(k0 + k, k1 + k + 1), slice(j0 + j, j1 + j + 1), slice(i0 + i, i1 + i + 1))
    inside = all(s.start >= 0 and s.stop <= n for s, n in zip(box, grid.shape, strict=True))
    return box if inside or _empty(image) else None


def _empty(image: Any) -> bool:
    return 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None


def _class_of(segment: Any) -> SegmentClass:
    lesion = tag_of(segment, LESION_TAG) == "1"
    return SegmentClass(
        segment.GetLabelValue(), segment.GetName(), segment.GetColor(), segment.GetTerminology(), lesion
    )


def _layer(segmentation: Any, image: Any, members: Sequence[str], grid: Grid) -> Layer:
    classes = tuple(_class_of(segmentation.GetSegment(i)) for i in members)
    box = _place(image, grid)
    if box is None or _empty(image):
        return Layer(np.zeros(grid.shape, np.uint8), classes)
    voxels = array_of(image)
    labels = np.zeros(grid.shape, np.uint8 if max(c.value for c in classes) < 256 else np.uint16)
    labels[box] = np.where(np.isin(voxels, [c.value for c in classes]), voxels, 0)
    return Layer(labels, classes)


def _resampled(node: Any, ids: Iterable[str], grid: Grid, moved: Any) -> list[Layer]:
    """Each of the segments, moved by a matrix or None, on ``grid``, as a layer of its own with the label 1."""
    layers = []
    for identifier in ids:
        found = _class_of(node.GetSegmentation().GetSegment(identifier))
        own, there = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
        resampler = slicer.vtkOrientedImageDataResample
        if not node.GetBinaryLabelmapRepresentation(identifier, own):
            raise InputError(f"The segment {found.name} of {node.GetName()} cannot be read as voxels.")
        labels = np.zeros(grid.shape, np.uint8)
        if not _empty(own):
            if moved is not None:
                matrix = vtk.vtkMatrix4x4()
                own.GetImageToWorldMatrix(matrix)
                vtk.vtkMatrix4x4.Multiply4x4(moved, matrix, matrix)
                own.SetImageToWorldMatrix(matrix)
            resampler.ResampleOrientedImageToReferenceOrientedImage(own, oriented_image(labels, grid), there, False)
            labels = (array_of(there) > 0).astype(np.uint8)
        layers.append(Layer(labels, (replace(found, value=1),)))
    return layers


class ReviewedNode:
    """A segmentation node that shows label arrays which are kept elsewhere. ``node``: in the scene until `remove`."""

    def __init__(self, layers: Sequence[Layer], scene: Any, reference: Any, name: str, model_id: str = "") -> None:
        """``layers``: label arrays (K, J, I) on the grid of the volume node ``reference``; they are copied."""
        self._grid = grid_of(reference)
        copies = [Layer(_compact(layer.labels), layer.classes) for layer in layers]
        self.node, ids = new_segmentation(scene, reference, name, copies, self._grid, model_id)
        #: Segment identifier -> (layer, label value in the arrays).
        self.segments: dict[str, tuple[int, int]] = {}
        self._class_of: dict[str, SegmentClass] = {}
        for n, (of_layer, layer) in enumerate(zip(ids, layers, strict=True)):
            self.segments |= {i: (n, c.value) for i, c in zip(of_layer, layer.classes, strict=True)}
            self._class_of |= dict(zip(of_layer, layer.classes, strict=True))
        place_beside(scene, self.node, reference)

    def segment_of(self, layer: int, value: int) -> str:
        """The identifier of the segment that shows a class, "" where it was removed."""
        return next((i for i, place in self.segments.items() if place == (layer, value)), "")

    def strangers(self) -> list[str]:
        """Names of segments that somebody added to the node and that are no class under review."""
        segmentation = self.node.GetSegmentation()
        return [segmentation.GetSegment(i).GetName() for i in segmentation.GetSegmentIDs() if i not in self.segments]

    def state(self, layer: int) -> tuple[tuple[str, int, int], ...]:
        """What changes when somebody draws on ``layer``: its segments with their labels and times of modification."""
        groups = self._groups(layer).items()
        return tuple((i, shown, image.GetMTime()) for image, members in groups for i, _, shown in members)

    def bring_back(self, layers: Sequence[Labels]) -> list[str]:
        """Segments under review that somebody removed come back with their voxels of ``layers`` (K, J, I); their names.

        Removing one is no drawing: all its findings would be gone from the review, and undo could not show them.
        """
        segmentation, names = self.node.GetSegmentation(), []
        for identifier, (n, value) in self.segments.items():
            if segmentation.GetSegment(identifier) is not None:
                continue
            labels = np.where(layers[n] == value, 1, 0).astype(np.uint8)
            for image, members in self._groups(n).items():  # what was drawn over it meanwhile
                box = _place(image, self._grid)
                if box is not None and not _empty(image):
                    labels[box][np.isin(array_of(image), [shown for _, _, shown in members])] = 0
            found = self._class_of[identifier]
            segment = slicer.vtkSegment()
            segment.SetName(found.name)
            segment.SetColor(*found.color)
            segment.SetLabelValue(1)
            if found.terminology:
                segment.SetTerminology(found.terminology)
            if found.lesion:
                segment.SetTag(LESION_TAG, "1")
            segment.AddRepresentation(BINARY, oriented_image(labels, self._grid))
            segmentation.AddSegment(segment, identifier)
            names.append(found.name)
        return names

    def drawn(self, layer: int, like: Labels) -> Labels:
        """What the node shows of ``layer`` now: (K, J, I) of the type of ``like``; a view where nothing is apart."""
        groups = self._groups(layer)
        whole = tuple(slice(0, n) for n in self._grid.shape)
        for image, members in groups.items():
            straight = all(value == shown for _, value, shown in members) and len(members) == self._classes(layer)
            if straight and not self._shared(image) and not _empty(image) and _place(image, self._grid) == whole:
                return array_of(image)
        labels = np.zeros_like(like)
        for image, members in groups.items():
            box = _place(image, self._grid)
            if box is not None and not _empty(image):
                part, voxels = labels[box], array_of(image)
                for _, value, shown in members:
                    part[voxels == shown] = value
        return labels

    def show(self, layer: int, box: Box, labels: Labels) -> None:
        """Show ``labels``, the voxels of ``box`` (k, j, i) of that layer."""
        for found, members in self._groups(layer).items():
            image, inside = found, _place(found, self._grid)
            if inside is None or _empty(image) or not _within(box, inside):
                image = self._whole(found, members)
                inside = (slice(0, None), slice(0, None), slice(0, None))
            k, j, i = (slice(b.start - s.start, b.stop - s.start) for b, s in zip(box, inside, strict=True))
            part = array_of(image)[k, j, i]
            # What strangers have there stays.
            part[np.isin(part, [shown for _, _, shown in members])] = 0
            for _, value, shown in members:
                part[labels == value] = shown
            image.GetPointData().GetScalars().Modified()
            image.Modified()
        self.node.GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)

    def remove(self) -> None:
        """Take the node out of the scene."""
        if self.node.GetScene() is not None:
            undo(Applied(self.node, (), None))

    def _shared(self, image: Any) -> bool:
        """Whether segments that are no class under review have voxels in a labelmap."""
        segmentation = self.node.GetSegmentation()
        others = [i for i in segmentation.GetSegmentIDs() if i not in self.segments]
        return any(segmentation.GetSegment(i).GetRepresentation(BINARY) is image for i in others)

    def _classes(self, layer: int) -> int:
        return sum(n == layer for n, _ in self.segments.values())

    def _groups(self, layer: int) -> dict[Any, list[tuple[str, int, int]]]:
        """Labelmap -> its segments of ``layer``: (identifier, value in the arrays, value in the labelmap)."""
        segmentation = self.node.GetSegmentation()
        groups: dict[Any, list[tuple[str, int, int]]] = {}
        for identifier, (n, value) in self.segments.items():
            segment = segmentation.GetSegment(identifier)
            image = segment.GetRepresentation(BINARY) if segment is not None and n == layer else None
            if image is not None:
                groups.setdefault(image, []).append((identifier, value, segment.GetLabelValue()))
        return groups

    def _whole(self, image: Any, members: Sequence[tuple[str, int, int]]) -> Any:
        """A labelmap of the whole grid in place of one that the editor cut to what was drawn."""
        labels = np.zeros(self._grid.shape, np.uint8 if _empty(image) else array_of(image).dtype)
        box = _place(image, self._grid)
        if box is not None and not _empty(image):
            labels[box] = array_of(image)
        whole = oriented_image(labels, self._grid)
        for identifier, _, _ in members:
            self.node.GetSegmentation().GetSegment(identifier).AddRepresentation(BINARY, whole)
        return whole


def _within(box: Box, other: Box) -> bool:
    return all(o.start <= b.start and b.stop <= o.stop for b, o in zip(box, other, strict=True))


def _compact(labels: Labels) -> Labels:
    wide = labels.dtype.itemsize > 1 and labels.max(initial=0) > np.iinfo(np.uint8).max
    return np.array(labels, np.uint16 if wide else np.uint8, order="C")
