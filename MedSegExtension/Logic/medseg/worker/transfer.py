"""Volumes and results between two processes: arrays in files that both map into memory, the rest as plain JSON values.

Light on purpose (numpy and the value types): Slicer's process uses it as well as the worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MedSegError
from ..geometry.grid import Grid
from ..geometry.volume import SliceStack, Volume
from ..result import Column, Layer, Result, SegmentClass, Table

# Bytes written at once, so that a user interface can do something between two pieces.
PIECE = 4 * 2**20


def write_in_pieces(array: npt.NDArray[Any], path: Path, piece: int = PIECE) -> Iterator[float]:
    """Write ``array`` in C order as raw bytes; yields the written fraction after each piece of about ``piece`` bytes.

    Only one piece at a time is copied, whatever the strides of ``array``.
    """
    rows = max(1, piece // max(1, array[:1].nbytes))
    with path.open("wb") as file:
        for start in range(0, array.shape[0], rows):
            file.write(np.ascontiguousarray(array[start : start + rows]).data)
            yield min(1.0, (start + rows) / array.shape[0])


def array_message(array: npt.NDArray[Any], file: str) -> dict[str, Any]:
    """How to map the raw bytes of ``array`` in ``file``."""
    return {"file": file, "dtype": array.dtype.str, "shape": list(array.shape)}


def save_array(array: npt.NDArray[Any], folder: Path, file: str) -> dict[str, Any]:
    """Write ``array`` to ``folder/file`` and return its `array_message`."""
    for _ in write_in_pieces(array, folder / file):
        pass
    return array_message(array, file)


def map_array(message: dict[str, Any], folder: Path) -> npt.NDArray[Any]:
    """The array of an `array_message`, mapped copy-on-write: changing it does not change the file.

    Raises ``ValueError`` where the file is not in ``folder`` or has another length than the message says.
    """
    path, shape, dtype = folder / message["file"], tuple(message["shape"]), np.dtype(message["dtype"])
    wanted = math.prod(shape) * dtype.itemsize
    if path.parent != folder or dtype.hasobject or any(not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"an array of {shape} {dtype} in {message['file']} cannot be")
    if path.stat().st_size != wanted:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {wanted}")
    return np.memmap(path, dtype=dtype, mode="c", shape=shape)


def grid_message(grid: Grid) -> dict[str, Any]:
    """A grid as plain values."""
    return {
        "size": list(grid.size),
        "spacing": list(grid.spacing),
        "origin": list(grid.origin),
        "direction": grid.direction.ravel().tolist(),
    }


def grid_from(message: dict[str, Any]) -> Grid:
    """The grid of a `grid_message`."""
    return Grid(message["size"], message["spacing"], message["origin"], message["direction"])


def volume_message(volume: Volume, array: dict[str, Any], acquired: dict[str, Any] | None = None) -> dict[str, Any]:
    """A volume whose voxels are described by the `array_message` ``array``.

    ``acquired``: that of its stack's pixels, where they are not the voxels themselves (a series read from files).
    """
    return {
        "array": array,
        "grid": grid_message(volume.grid),
        "modality": volume.modality,
        "name": volume.name,
        "tags": volume.tags,
        "warnings": list(volume.warnings),
        "slices": None
        if volume.stack is None
        else {
            "grids": [grid_message(g) for g in volume.stack.grids],
            "instance_uids": list(volume.stack.instance_uids),
            "pixels": acquired,
        },
    }


def volume_from(message: dict[str, Any], folder: Path) -> Volume:
    """The volume of a `volume_message`, its voxels mapped from ``folder``."""
    array = map_array(message["array"], folder)
    slices = message.get("slices")
    stack = None
    if slices is not None:
        # A node's slices are its own voxels: only their true positions differ from the regular grid.
        pixels = array if slices.get("pixels") is None else map_array(slices["pixels"], folder)
        stack = SliceStack(pixels, tuple(grid_from(g) for g in slices["grids"]), tuple(slices["instance_uids"]))
    return Volume(
        array,
        grid_from(message["grid"]),
        message.get("modality"),
        message.get("name") or "volume",
        dict(message.get("tags") or {}),
        stack,
        tuple(message.get("warnings") or ()),
    )


def table_message(table: Table) -> dict[str, Any]:
    """A table as plain values."""
    return {
        "columns": [[c.name, c.type, c.unit, c.description] for c in table.columns],
        "rows": [list(row) for row in table.rows],
    }


def table_from(name: str, message: dict[str, Any]) -> Table:
    """The table of a `table_message`."""
    return Table(name, tuple(Column(*c) for c in message["columns"]), tuple(tuple(row) for row in message["rows"]))


def result_message(result: Result, folder: Path) -> dict[str, Any]:
    """Write the arrays of ``result`` into ``folder`` and describe the rest as plain values."""
    return {
        "grid": grid_message(result.grid),
        "plane": result.plane,
        "layers": [
            {
                "array": save_array(layer.labels, folder, f"layer{n}.raw"),
                "classes": [[c.value, c.name, list(c.color), c.terminology, c.lesion] for c in layer.classes],
            }
            for n, layer in enumerate(result.layers)
        ],
        "probabilities": {
            name: save_array(array, folder, f"probability{n}.raw")
            for n, (name, array) in enumerate(result.probabilities.items())
        },
        "tables": {name: table_message(table) for name, table in result.tables.items()},
        "provenance": result.provenance,
        "warnings": list(result.warnings),
        "notes": list(result.notes),
    }


def result_from(message: dict[str, Any], folder: Path) -> Result:
    """The result of a `result_message`, its arrays mapped from ``folder``.

    Raises ``ValueError`` where the message is not one.
    """
    try:
        return _result_from(message, folder)
    except (LookupError, TypeError, AttributeError, ArithmeticError, MedSegError) as error:
        raise ValueError(f"the message is damaged ({type(error).__name__}: {error})") from error


def _result_from(message: dict[str, Any], folder: Path) -> Result:
    return Result(
        grid=grid_from(message["grid"]),
        layers=tuple(
            Layer(
                map_array(layer["array"], folder),
                tuple(SegmentClass(v, n, (c[0], c[1], c[2]), t, lesion) for v, n, c, t, lesion in layer["classes"]),
            )
            for layer in message["layers"]
        ),
        probabilities={name: map_array(array, folder) for name, array in message["probabilities"].items()},
        tables={name: table_from(name, table) for name, table in message["tables"].items()},
        provenance=message["provenance"],
        warnings=tuple(message["warnings"]),
        notes=tuple(message["notes"]),
        plane=message["plane"],
    )
