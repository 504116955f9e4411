"""Volume nodes and `medseg.geometry.volume.Volume`, without copying voxels where the layout allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.result import Result

from .arrays import array_of, fill_image, grid_of, ijk_to_ras, unique_name
from .hierarchy import MODALITY, attribute_of, item_of, place_beside, subject_hierarchy
from .stored_axes import slices_were_reversed

# DICOM keyword -> tag of the values that preprocessing steps may need; none of them says who the patient is.
_STEP_TAGS = {
    "BitsStored": "0028,0101",
    "PixelRepresentation": "0028,0103",
    "PhotometricInterpretation": "0028,0004",
    "RescaleIntercept": "0028,1052",
    "RescaleSlope": "0028,1053",
    "WindowCenter": "0028,1050",
    "WindowWidth": "0028,1051",
}
IMAGE_POSITION = "0020,0032"
_VIEW_OF = "MedSeg.ViewOf"


def volume_from_node(node: Any) -> Volume:
    """The voxels and geometry of a scalar, vector or labelmap volume node; the node is not changed.

    The array (K, J, I) or (K, J, I, C) is a read-only view of the node's memory. The grid is the node's own space in
    LPS: parent transforms are left out, so that the result can be put under the same transform. The modality and the
    DICOM values that steps need (and each slice's SOP Instance UID) come from the subject hierarchy and the
    application's DICOM database where the volume was loaded from DICOM. The tag ``SlicesReversed`` says that Slicer
    turned the slices of the file round.

    Raises `InputError` where ``node`` is not a volume or holds no voxels.
    """
    if node is None or not node.IsA("vtkMRMLVolumeNode"):
        raise InputError("No volume is chosen; choose a volume node as input.")
    grid = grid_of(node)
    array = array_of(node.GetImageData())
    array.flags.writeable = False
    tags = _dicom_tags(node, grid)
    if slices_were_reversed(node, grid):
        tags["SlicesReversed"] = True
    modality = node.GetAttribute(MODALITY) or tags.pop("Modality", None)
    if not modality and node.GetScene() is not None:
        modality = attribute_of(node.GetScene(), node, MODALITY)
    return Volume(array, grid, modality or None, node.GetName() or "volume", tags)


def node_from_volume(
    volume: Volume,
    scene: Any,
    *,
    name: str | None = None,
    labelmap: bool = False,
    window: tuple[float, float] | None = None,
) -> Any:
    """A new volume node in ``scene`` with the voxels of ``volume``, shared where `arrays.vtk_ready` allows.

    Several values per voxel give a vector volume node; ``labelmap`` a labelmap volume node. The modality is kept as
    attribute ``DICOM.Modality``. ``window``: (level, width) to show grey values with; None leaves it to MRML, which
    looks at all voxels for it (a second for a large volume).
    """
    kind = "vtkMRMLLabelMapVolumeNode" if labelmap else "vtkMRMLScalarVolumeNode"
    array = volume.array
    if volume.channels > 1:
        kind = "vtkMRMLVectorVolumeNode"
    elif array.ndim == 4:
        array = array[..., 0]
    node = scene.AddNewNodeByClass(kind, unique_name(scene, name or volume.name))
    image = vtk.vtkImageData()
    fill_image(image, np.asarray(array))
    node.SetIJKToRASMatrix(ijk_to_ras(volume.grid))
    if window is not None and kind == "vtkMRMLScalarVolumeNode":
        # Set before there are voxels to look at.
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(window[1], window[0])
    node.SetAndObserveImageData(image)
    if volume.modality:
        node.SetAttribute(MODALITY, volume.modality)
        subject_hierarchy(scene).SetItemAttribute(item_of(scene, node), MODALITY, volume.modality)
    node.CreateDefaultDisplayNodes()
    return node


def probability_nodes(result: Result, scene: Any, *, reference_node: Any) -> dict[str, Any]:
    """A scalar volume node (float32, window 0 to 1) for each probability map of ``result``, by class name.

    The nodes stand beside ``reference_node`` and under its parent transform; no view is changed.
    """
    nodes = {}
    for name, array in result.probabilities.items():
        title = f"{reference_node.GetName()} {name} probability"
        node = node_from_volume(Volume(array, result.grid), scene, name=title)
        node.SetAndObserveTransformNodeID(reference_node.GetTransformNodeID())
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(1.0, 0.5)
        place_beside(scene, node, reference_node)
        nodes[name] = node
    return nodes


def network_view_nodes(result: Result, scene: Any, *, reference_node: Any, title: str) -> list[Any]:
    """A volume node for each channel of a `medseg.pipeline.network_view` result, beside ``reference_node``.

    Each is called "<volume> as <title> sees it"; nodes that an earlier call made of the same volume and model are
    filled anew. Level and width are set to all values that the network gets; no view is changed.
    """
    nodes = []
    for name, array in result.probabilities.items():
        words = f"{reference_node.GetName()} as {title} sees it"
        wanted = words if len(result.probabilities) == 1 else f"{words} ({name})"
        node = _earlier_view(scene, reference_node, wanted)
        if node is None:
            node = node_from_volume(Volume(array, result.grid), scene, name=wanted)
            node.SetAttribute(_VIEW_OF, f"{reference_node.GetID()} {wanted}")
        else:
            image = vtk.vtkImageData()
            fill_image(image, np.asarray(array))
            node.SetIJKToRASMatrix(ijk_to_ras(result.grid))
            node.SetAndObserveImageData(image)
        node.SetAndObserveTransformNodeID(reference_node.GetTransformNodeID())
        low, high = float(array.min()), float(array.max())
        node.GetDisplayNode().SetAutoWindowLevel(False)
        node.GetDisplayNode().SetWindowLevel(max(high - low, 1e-6), (high + low) / 2)
        place_beside(scene, node, reference_node)
        nodes.append(node)
    return nodes


def _earlier_view(scene: Any, reference: Any, wanted: str) -> Any:
    count = scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
    volumes = (scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode") for n in range(count))
    return next((v for v in volumes if v.GetAttribute(_VIEW_OF) == f"{reference.GetID()} {wanted}"), None)


def _dicom_tags(node: Any, grid: Grid) -> dict[str, Any]:
    """The values of `_STEP_TAGS` (and Modality) of the node's first DICOM instance, and the instances by slice."""
    database = getattr(slicer, "dicomDatabase", None)
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    if database is None or not instances or not database.isOpen:
        return {}
    tags: dict[str, Any] = {}
    for keyword, tag in {**_STEP_TAGS, "Modality": "0008,0060"}.items():
        text = str(database.instanceValue(instances[0], tag) or "").strip()
        if not text:
            continue
        try:
            number = float(text.split("\\")[0])
            tags[keyword] = int(number) if keyword in ("BitsStored", "PixelRepresentation") else number
        except ValueError:
            tags[keyword] = text
    if in_order := _instances_by_slice(instances, grid, database):
        tags["SOPInstanceUID"] = in_order
    return tags


def _instances_by_slice(instances: list[str], grid: Grid, database: Any) -> list[str]:
    """``instances`` in the order of the grid's slices, empty where they are not one for each slice in a row.

    Slicer keeps them in the order of its files, which it sorts by position; the ends tell which way they run. Only
    they are asked for: each answer may cost the reading of a file.
    """
    count = grid.size[2]
    if len(instances) != count or len(set(instances)) != count:
        return []
    normal = np.cross(grid.direction[:, 0], grid.direction[:, 1])
    heights = []
    for uid in {instances[0]: None, instances[-1]: None}:
        try:
            position = [float(v) for v in str(database.instanceValue(uid, IMAGE_POSITION) or "").split("\\")]
            heights.append(float(normal @ np.array(position).reshape(3)))
        except ValueError:
            return []
    ends = [float(normal @ grid.to_physical((0, 0, k))) for k in dict.fromkeys((0, count - 1))]
    near = 0.5 * grid.spacing[2]
    for order in (1, -1):
        if np.allclose(heights[::order], ends, rtol=0, atol=near):
            return instances[::order]
    return []
