"""A region-of-interest box as a window of whole voxels of a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from medseg.errors import InputError
from medseg.geometry.grid import Grid


def region_grid(roi: Any, volume: Any, grid: Grid) -> Grid:
    """The part of ``grid`` (of the node ``volume``, in its own space) that the box ``roi`` reaches.

    The box may be turned and both nodes may be under transforms: the smallest window of voxels around its corners is
    taken. Raises `InputError` where the box lies outside the volume.
    """
    size = roi.GetSize()
    object_to_world = roi.GetObjectToWorldMatrix()
    to_volume = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(None, volume.GetParentTransformNode(), to_volume)
    corners = []
    for signs in np.ndindex(2, 2, 2):
        corner = [(s - 0.5) * length for s, length in zip(signs, size, strict=True)]
        world = object_to_world.MultiplyPoint([*corner, 1.0])[:3]
        ras = to_volume.TransformPoint(world)
        corners.append([-ras[0], -ras[1], ras[2]])
    index = grid.to_index(np.array(corners))
    start = np.maximum(np.floor(index.min(axis=0) + 0.5), 0).astype(int)
    stop = np.minimum(np.ceil(index.max(axis=0) - 0.5) + 1, grid.size).astype(int)
    if np.any(stop <= start):
        raise InputError(
            f"The region of interest {roi.GetName()} lies outside of {volume.GetName()}; "
            "move it, or choose Whole volume."
        )
    return grid.cropped([int(v) for v in start], [int(v) for v in stop - start])
