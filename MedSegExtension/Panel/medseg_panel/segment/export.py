"""Results to files: seg.nrrd, NIfTI, CSV. The nodes keep their own file names (nothing is repointed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

from medseg.errors import OutputError, not_written
from medseg_mrml import table_from_node


def write_segmentation(node: Any, path: str) -> list[str]:
    """Write a segmentation node as ``.seg.nrrd``, or as NIfTI labelmaps. Returns the names of the files.

    A labelmap holds no overlaps: each layer of overlapping segments becomes a NIfTI file of its own, with its number in
    the name. Raises `OutputError` where a file cannot be written.
    """
    if not path.lower().endswith((".nii", ".nii.gz")):
        storage = slicer.vtkMRMLSegmentationStorageNode()
        _write(storage, node, path)
        return [Path(path).name]
    files = []
    layers = _layers(node)
    for number, identifiers in enumerate(layers, start=1):
        target = path if len(layers) == 1 else _numbered(path, number)
        _write_labelmap(node, identifiers, target)
        files.append(Path(target).name)
    return files


def write_one_table(node: Any, path: str) -> list[str]:
    """Write a table node as CSV (RFC 4180, a header line, point as decimal sign). Returns the file's name.

    Raises `OutputError` where it cannot be written.
    """
    try:
        Path(path).write_text(table_from_node(node).to_csv(), encoding="utf-8", newline="")
    except OSError as error:
        raise OutputError(not_written(Path(path), error)) from error
    return [Path(path).name]


def write_all(segmentation: Any, tables: list[Any], folder: str) -> list[str]:
    """Write everything that there is into ``folder``; existing files are not overwritten (`OutputError`)."""
    targets = [(table, f"{table_from_node(table).name}.csv") for table in tables]
    names = (["segmentation.seg.nrrd", "segmentation.nii.gz"] if segmentation is not None else []) + [
        n for _, n in targets
    ]
    there = [name for name in names if (Path(folder) / name).exists()]
    if there:
        raise OutputError(f"{there[0]} is already in {Path(folder).name}; choose another folder.")
    written = []
    if segmentation is not None:
        for name in names[:2]:
            written += write_segmentation(segmentation, str(Path(folder) / name))
    for table, name in targets:
        written += write_one_table(table, str(Path(folder) / name))
    return written


def _layers(node: Any) -> list[list[str]]:
    """Segment identifiers, grouped by the labelmap that they share."""
    segmentation = node.GetSegmentation()
    groups: dict[Any, list[str]] = {}
    for identifier in segmentation.GetSegmentIDs():
        groups.setdefault(segmentation.GetSegment(identifier).GetRepresentation("Binary labelmap"), []).append(
            identifier
        )
    return list(groups.values())


def _write_labelmap(node: Any, identifiers: list[str], path: str) -> None:
    """The labels of one layer on the reference volume's grid; values are the segments' label values."""
    scene = node.GetScene()
    reference = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
    ids = vtk.vtkStringArray()
    for identifier in identifiers:
        ids.InsertNextValue(identifier)
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    labelmap.SetHideFromEditors(True)
    try:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        extent = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
        colors = scene.AddNewNodeByClass("vtkMRMLColorTableNode")
        try:
            _number_colors(colors, node, identifiers)
            if not logic.ExportSegmentsToLabelmapNode(node, ids, labelmap, reference, extent, colors):
                raise OutputError(f"The segments of {node.GetName()} could not be turned into a labelmap.")
        finally:
            scene.RemoveNode(colors)
        labelmap.SetAndObserveTransformNodeID(None)
        _write(slicer.vtkMRMLVolumeArchetypeStorageNode(), labelmap, path)
    finally:
        scene.RemoveNode(labelmap)


def _number_colors(colors: Any, node: Any, identifiers: list[str]) -> None:
    """A colour table that keeps each segment's own label value in the export."""
    values = {i: node.GetSegmentation().GetSegment(i).GetLabelValue() for i in identifiers}
    colors.SetTypeToUser()
    colors.SetNumberOfColors(max(values.values()) + 1)
    for identifier, value in values.items():
        segment = node.GetSegmentation().GetSegment(identifier)
        colors.SetColor(value, segment.GetName(), *segment.GetColor(), 1.0)


def _write(storage: Any, node: Any, path: str) -> None:
    storage.SetFileName(path)
    storage.SetUseCompression(True)
    if not storage.WriteData(node):
        file = Path(path)
        raise OutputError(
            f"{file.name} could not be written to {file.parent}; is the folder writable and the disk not full?"
        )


def _numbered(path: str, number: int) -> str:
    suffix = ".nii.gz" if path.lower().endswith(".nii.gz") else Path(path).suffix
    return f"{path[: -len(suffix)]}_{number}{suffix}"
