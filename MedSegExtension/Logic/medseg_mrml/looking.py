"""What the views show while a reader goes through findings: where they look, which outline stands out, what fades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import vtk

from medseg.geometry.grid import Grid

from .arrays import oriented_image
from .segmentation import Applied, undo
from .snapshot import BINARY

Box = tuple[slice, slice, slice]
#: Name, level and width in HU, as read at a CT console.
READER_WINDOWS = (
    ("Brain", 40.0, 80.0),
    ("Blood", 80.0, 200.0),
    ("Soft tissue", 40.0, 380.0),
    ("Bone", 600.0, 2800.0),
    ("Grey-white", 32.0, 8.0),
)
#: Millimetres that are seen at least, and how many times its own size a finding is seen with.
_LEAST_SEEN, _SURROUNDINGS = 90.0, 5.0
_CAMERA_DISTANCE = 300.0
_FADED_FILL, _FADED_OUTLINE = 0.12, 0.45
_COLOR = (1.0, 1.0, 0.2)


def nodes_of(scene: Any, kind: str) -> list[Any]:
    """All nodes of a class."""
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def in_world(position: Sequence[float], volume: Any) -> list[float]:
    """A position in a volume node's own space (RAS mm) where its parent transforms put it."""
    world = [float(p) for p in position]
    transform = volume.GetParentTransformNode() if volume is not None else None
    if transform is not None:
        to_world = vtk.vtkGeneralTransform()
        transform.GetTransformToWorld(to_world)
        world = list(to_world.TransformPoint(world))
    return world


def look_at(scene: Any, volume: Any, centre: Sequence[float], extent: Sequence[float], *, zoom: bool = True) -> None:
    """Move every slice view and 3D camera to ``centre`` (RAS mm in the space of ``volume``).

    With ``zoom`` they show what is ``extent`` (mm) large with its surroundings: five times its size, at least 90 mm and
    at most the volume.
    """
    world = in_world(centre, volume)
    seen = max(_LEAST_SEEN, _SURROUNDINGS * max(extent, default=0.0))
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    seen = min(seen, max(bounds[1] - bounds[0], bounds[3] - bounds[2], bounds[5] - bounds[4]))
    for node in nodes_of(scene, "vtkMRMLSliceNode"):
        modified = node.StartModify()
        node.JumpSliceByCentering(*world)
        if zoom:
            width, height, _ = node.GetDimensions()
            depth = node.GetFieldOfView()[2]
            shorter = max(1, min(width, height))
            node.SetFieldOfView(seen * max(1, width) / shorter, seen * max(1, height) / shorter, depth)
        node.EndModify(modified)
    for camera in nodes_of(scene, "vtkMRMLCameraNode"):
        _aim(camera, world, max(extent, default=0.0) if zoom else None)


def plane_in_view(scene: Any, volume: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """The slice of ``volume`` that a view shows now: a point of it and its normal, RAS (mm) in the volume's own space.

    Of the views the one that lies most nearly in the planes in which the image was acquired; None where there is none.
    """
    views = nodes_of(scene, "vtkMRMLSliceNode")
    if not views:
        return None
    normal = _normal(volume)
    matrix = max(views, key=lambda node: _alignment(node, volume)).GetSliceToRAS()
    place = [matrix.GetElement(r, 3) for r in range(3)]
    transform = volume.GetParentTransformNode()
    if transform is not None:
        from_world = vtk.vtkGeneralTransform()
        transform.GetTransformFromWorld(from_world)
        place = list(from_world.TransformPoint(place))
    return (place[0], place[1], place[2]), (float(normal[0]), float(normal[1]), float(normal[2]))


def _aim(camera: Any, world: Sequence[float], size: float | None) -> None:
    focus, position = np.array(camera.GetFocalPoint()), np.array(camera.GetPosition())
    back = position - focus
    distance = float(np.linalg.norm(back)) or 1.0
    if size is not None:
        back = back / distance * min(distance, max(_CAMERA_DISTANCE, 8 * size))
    modified = camera.StartModify()
    camera.SetFocalPoint(*world)
    camera.SetPosition(*(np.array(world) + back))
    camera.ResetClippingRange()
    camera.EndModify(modified)


@dataclass
class Turned:
    """Slice views turned into the planes in which an image was acquired, and how they were; `undo` brings them back.

    A lesion of thick, tilted slices seen in the planes of the body looks like parts of several slices, and what is
    painted there has steps.
    """

    before: dict[str, list[float]] = field(default_factory=dict)

    def turn(self, scene: Any, volume: Any) -> float:
        """Turn all slice views to the planes of a volume node; by how many degrees at most.

        Of a film only the view that lies most nearly in it: the others would show it upside down or on its side.
        """
        most = 0.0
        views = nodes_of(scene, "vtkMRMLSliceNode")
        image = volume.GetImageData()
        if image is not None and image.GetDimensions()[2] == 1:
            views = sorted(views, key=lambda node: -_alignment(node, volume))[:1]
        for node in views:
            old = _directions(node)
            self.before.setdefault(node.GetID(), [float(v) for v in old.ravel()])
            node.RotateToVolumePlane(volume)
            cosine = (np.trace(old.T @ _directions(node)) - 1) / 2
            most = max(most, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
        return most

    def undo(self, scene: Any) -> None:
        """As they were before, at the place where they are now."""
        for identifier, directions in self.before.items():
            if (node := scene.GetNodeByID(identifier)) is not None:
                matrix = node.GetSliceToRAS()
                for n, value in enumerate(directions):
                    matrix.SetElement(n // 3, n % 3, value)
                node.UpdateMatrices()
        self.before = {}


def _normal(volume: Any) -> npt.NDArray[np.float64]:
    """(3,): the normal of the planes in which an image was acquired, RAS in its own space."""
    columns = vtk.vtkMatrix4x4()
    volume.GetIJKToRASDirectionMatrix(columns)
    return np.array([columns.GetElement(r, 2) for r in range(3)])


def _alignment(view: Any, volume: Any) -> float:
    """How nearly a slice view lies in the planes of ``volume``: greater is nearer."""
    turned = np.array(in_world(list(_normal(volume)), volume)) - np.array(in_world((0.0, 0.0, 0.0), volume))
    return abs(float(_directions(view)[:, 2] @ turned))


def _directions(node: Any) -> npt.NDArray[np.float64]:
    """(3, 3): the axes of a slice view in RAS."""
    matrix = node.GetSliceToRAS()
    return np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])


class Spotlight:
    """The outline of one finding above all others: an unseen-in-lists segmentation node that is never saved."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._node: Any = None

    def show(self, volume: Any, grid: Grid, box: Box, mask: npt.NDArray[np.bool_]) -> None:
        """Outline ``mask``, the voxels of ``box`` (k, j, i) of ``grid``, which is the grid of ``volume``."""
        import slicer

        node = self._made()
        # A rim of empty voxels: the outline is drawn between voxels.
        k, j, i = (s.start - 1 for s in box)
        labels = np.pad(mask.astype(np.uint8), 1)
        size = (labels.shape[2], labels.shape[1], labels.shape[0])
        x, y, z = (float(v) for v in grid.to_physical([i, j, k]))
        image = oriented_image(labels, Grid(size, grid.spacing, (x, y, z), grid.direction))
        segmentation = node.GetSegmentation()
        segment = slicer.vtkSegment()
        segment.SetName("finding")
        segment.SetColor(*_COLOR)
        segment.SetLabelValue(1)
        segment.AddRepresentation(BINARY, image)
        modified = node.StartModify()
        if segmentation.GetSegment("finding") is not None:
            segmentation.GetSegment("finding").RemoveAllRepresentations()
            segmentation.RemoveSegment("finding")
        segmentation.AddSegment(segment, "finding")
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.EndModify(modified)
        node.GetDisplayNode().SetVisibility(True)

    def hide(self) -> None:
        """Show no outline."""
        if self._node is not None and self._node.GetDisplayNode() is not None:
            self._node.GetDisplayNode().SetVisibility(False)

    def remove(self) -> None:
        """Take the node out of the scene."""
        if self._node is not None and self._node.GetScene() is not None:
            undo(Applied(self._node, (), None))
        self._node = None

    def _made(self) -> Any:
        if self._node is not None and self._node.GetScene() is not None:
            return self._node
        node = self._scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)
        node.SetName("MedSeg finding")
        node.SetSaveWithScene(False)
        node.SetAttribute("SubjectHierarchy.ExcludeFromTree", "1")
        self._scene.AddNode(node)
        # Not before: a node that is hidden when it is added gets no place in the subject hierarchy, which then
        # complains of each change of it.
        node.SetHideFromEditors(True)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetVisibility2DFill(False)
        display.SetVisibility3D(False)
        display.SetOpacity2DOutline(1.0)
        display.SetSliceIntersectionThickness(3)
        self._node = node
        return node


@dataclass
class _Shown:
    fill: float
    outline: float


@dataclass
class Faded:
    """Segmentation displays that were made fainter, and how they were; `undo` brings them back."""

    before: dict[str, _Shown] = field(default_factory=dict)

    def fade(self, node: Any) -> None:
        """Make the segments of a node faint, so that the outline of one finding stands out."""
        display = node.GetDisplayNode()
        if display is not None and display.GetID() not in self.before:
            self.before[display.GetID()] = _Shown(display.GetOpacity2DFill(), display.GetOpacity2DOutline())
            display.SetOpacity2DFill(_FADED_FILL)
            display.SetOpacity2DOutline(_FADED_OUTLINE)

    def undo(self, scene: Any) -> None:
        """As they were before."""
        for identifier, shown in self.before.items():
            display = scene.GetNodeByID(identifier)
            if display is not None:
                display.SetOpacity2DFill(shown.fill)
                display.SetOpacity2DOutline(shown.outline)
        self.before = {}


class Curtain:
    """Hides all overlays (segmentations, label and foreground layers) and brings them back as they were."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._segmentations: list[str] = []
        self._layers: dict[str, tuple[float, float]] = {}
        self.closed = False

    def close(self) -> None:
        """Only the image is seen."""
        if self.closed:
            return
        self.closed = True
        for node in nodes_of(self._scene, "vtkMRMLSegmentationDisplayNode"):
            if node.GetVisibility():
                self._segmentations.append(node.GetID())
                node.SetVisibility(False)
        for node in nodes_of(self._scene, "vtkMRMLSliceCompositeNode"):
            self._layers[node.GetID()] = (node.GetForegroundOpacity(), node.GetLabelOpacity())
            node.SetForegroundOpacity(0.0)
            node.SetLabelOpacity(0.0)

    def open(self) -> None:
        """All that was hidden is seen again."""
        self.closed = False
        for identifier in self._segmentations:
            if (node := self._scene.GetNodeByID(identifier)) is not None:
                node.SetVisibility(True)
        for identifier, (foreground, label) in self._layers.items():
            if (node := self._scene.GetNodeByID(identifier)) is not None:
                node.SetForegroundOpacity(foreground)
                node.SetLabelOpacity(label)
        self._segmentations, self._layers = [], {}
