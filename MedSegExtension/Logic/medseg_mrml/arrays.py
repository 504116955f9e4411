"""numpy arrays and VTK images that share memory, and the matrices of grids."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from medseg.errors import InputError
from medseg.geometry.grid import Grid

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def ijk_to_ras(grid: Grid) -> vtk.vtkMatrix4x4:
    """The 4x4 matrix from index to RAS millimetres, as MRML stores it."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(grid.affine_ras.ravel().tolist())
    return matrix


def grid_of(node: Any) -> Grid:
    """Grid (LPS) of a volume node in its own space: parent transforms are not applied.

    Raises `InputError` where the node has no voxels or its IJK-to-RAS matrix is singular.
    """
    image = node.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        raise InputError(f"The volume {node.GetName()} holds no voxels; load its file first or choose another volume.")
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    ras = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
    return Grid.from_affine(_LPS_TO_RAS @ ras, image.GetDimensions())


def array_of(image: vtk.vtkImageData) -> np.ndarray[Any, Any]:
    """The voxels of ``image`` as a view (K, J, I) or (K, J, I, C), without a copy."""
    i, j, k = image.GetDimensions()
    scalars = image.GetPointData().GetScalars()
    channels = scalars.GetNumberOfComponents()
    flat: np.ndarray[Any, Any] = numpy_support.vtk_to_numpy(scalars)
    return flat.reshape((k, j, i) if channels == 1 else (k, j, i, channels))


def vtk_ready(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """``array`` itself where VTK can use its memory (C order, native bytes, writable), else a copy that it can use.

    Read-only memory is copied because the Segment Editor writes into a segment's voxels: a write into a read-only map
    would end Slicer. Open a memory-mapped file with ``mode="c"`` (copy on write) to avoid the copy.
    """
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    elif not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.flags.c_contiguous and array.flags.writeable:
        return array
    return np.array(array, order="C")


def fill_image(image: vtk.vtkImageData, array: np.ndarray[Any, Any]) -> None:
    """Give ``image`` the voxels of ``array`` (K, J, I[, C]); the memory is shared, see `vtk_ready`, and kept alive."""
    array = vtk_ready(array)
    k, j, i = array.shape[:3]
    flat = array.reshape(k * j * i, *array.shape[3:])
    scalars = numpy_support.numpy_to_vtk(flat, deep=False)
    scalars.SetName("ImageScalars")
    image.SetDimensions(i, j, k)
    image.GetPointData().SetScalars(scalars)


def oriented_image(labels: np.ndarray[Any, Any], grid: Grid) -> Any:
    """A ``vtkOrientedImageData`` of ``labels`` (K, J, I) on ``grid``, sharing its memory where it can."""
    image = slicer.vtkOrientedImageData()
    fill_image(image, labels)
    image.SetImageToWorldMatrix(ijk_to_ras(grid))
    return image


def unique_name(scene: Any, base: str) -> str:
    """``base``, or ``base_1``, ``base_2``, ... where a node of that name is there already."""
    names = {scene.GetNthNode(n).GetName() for n in range(scene.GetNumberOfNodes())}
    return next(name for name in (base, *(f"{base}_{n}" for n in range(1, len(names) + 2))) if name not in names)
