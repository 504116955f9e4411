"""A process that reads one case, image and mask, for Slicer's own: arrays in files that both map, the rest as JSON.

A request is a line on stdin, ``{"image": PATH, "mask": PATH, "slices": PATH, "series": UID, "folder": PATH}`` (any but
the last may be empty); each is answered with one line on stdout. ``{"save": PATH, "result": ..., "model": ID, "folder":
PATH}`` asks for the masks of a result to be packed into a file, which would stop Slicer for a while. Nothing is
needed but what a plain 3D Slicer has.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MedSegError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ..io.files import read_volume
from ..io.segmentations import Segmentation, read_segmentation
from ..io.slice_scores import POSITION, read_slices
from ..monitor import Monitor
from ..output.files import file_name, save_segmentation
from ..result import Column, Layer, Result, Table
from .transfer import result_from, result_message, save_array, volume_message

#: Percentiles of the voxels that the first window goes from and to, and how many voxels are looked at.
_WINDOW, _LOOKED_AT = (0.1, 99.9), 2_000_000


def read_for_slicer(image: str, mask: str, series: str, folder: Path, slices: str = "") -> dict[str, Any]:
    """Read a case and write its arrays into ``folder``; the message that `case_from` of the panel understands.

    ``slices``: the table of a classifier's result, where there is one and no mask.

    A mask on another grid is brought onto the image's (exactly where the lattices coincide, else nearest neighbour),
    which is told. Without an image the mask itself is what is seen. Raises `MedSegError`.
    """
    monitor = Monitor()
    masks = read_segmentation(mask, monitor=monitor) if mask else None
    table, model = read_slices(slices) if slices else (None, "")
    if image:
        volume = _scalar(read_volume(image, series=series or None, monitor=monitor))
    elif masks is not None:
        volume = Volume(_union(masks), masks.grid, None, masks.name)
        monitor.warn(f"{masks.name} has no image, so the mask itself is shown as one.")
    elif table is not None:
        raise InputError(
            "The scores of slices are there, but the image they are of is not in the list; open the "
            "results with the folder of their images."
        )
    else:
        raise InputError("The case has neither image nor mask.")
    maps, lesions = {}, None
    if masks is not None:
        maps, lesions = _maps_beside(Path(mask), masks, volume.grid, monitor), _lesions_beside(Path(mask))
        masks = _on_grid_of(volume, masks, monitor)
    volume = replace(volume, array=np.ascontiguousarray(volume.array), stack=None)
    message: dict[str, Any] = {
        "type": "read",
        "volume": volume_message(volume, save_array(volume.array, folder, "volume.raw")),
        "window": _window(volume),
        "masks": None,
        "slices": None,
        "told": [*monitor.warnings, *monitor.notes],
    }
    if masks is not None:
        tables = {} if lesions is None else {"lesions": lesions}
        origin = {"name": masks.name, "model": masks.model_id}
        result = Result(masks.grid, masks.layers, maps, tables, provenance=origin)
        message["masks"] = result_message(result, folder)
    if table is not None:
        _check_place(table, volume, monitor)
        scores = Result(volume.grid, tables={"slices": table}, provenance={"name": table.name, "model": model})
        message["slices"] = result_message(scores, folder)
        message["told"] = [*monitor.warnings, *monitor.notes]
    return message


def _maps_beside(mask: Path, masks: Segmentation, grid: Grid, monitor: Monitor) -> dict[str, np.ndarray[Any, Any]]:
    """Class -> probability map (K, J, I) that a run kept beside its mask, 16-bit fixed point; on other grids none."""
    kept = (mask if mask.is_dir() else mask.parent) / "probabilities"
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name in (c.name for c in masks.classes):
        path = kept / f"{file_name(name)}.nii.gz"
        if not path.is_file():
            continue
        try:
            volume = read_volume(path)
        except MedSegError as error:
            monitor.warn(f"{error} The threshold of {name} cannot be changed.")
            continue
        if not volume.grid.same_as(grid):
            monitor.warn(f"{path.name} lies on another grid than the image; the threshold of {name} cannot be changed.")
            continue
        found[name] = np.rint(np.clip(volume.array, 0, 1) * np.float32(np.iinfo(np.uint16).max)).astype(np.uint16)
    return found


def _lesions_beside(mask: Path) -> Table | None:
    """The table of lesions that a run kept beside its mask: it names regions. None where there is none to be read."""
    folder = mask if mask.is_dir() else mask.parent
    try:
        columns = json.loads((folder / "result.json").read_text(encoding="utf-8"))["tables"]["lesions"]
        described = tuple(Column(str(c["name"]), c["type"], str(c["unit"])) for c in columns)
        return Table.from_csv("lesions", described, (folder / "lesions.csv").read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _check_place(table: Table, volume: Volume, monitor: Monitor) -> None:
    """Tell where slices lie outside of the image: then they are of another one."""
    flip = np.array([-1.0, -1.0, 1.0])
    centres = np.array([table.column(axis) for axis in POSITION], float).T * flip
    index = np.array([volume.grid.to_index(centre) for centre in centres]).reshape(-1, 3)
    outside = np.any((index < -1) | (index > np.array(volume.grid.size)), axis=1)
    if outside.any():
        monitor.warn(
            f"{int(outside.sum())} of {len(centres)} slices lie outside of {volume.name}; do the scores belong to it?"
        )


def _scalar(volume: Volume) -> Volume:
    """A 4D image is shown by its first frame; colours as they are."""
    if len(volume.frames) > 1:
        told = f"{volume.name} has {len(volume.frames)} frames; the first ({volume.frames[0]}) is shown."
        return replace(volume.frame(1), name=volume.name, warnings=(*volume.warnings, told))
    return volume if volume.channels in (3, 4) else volume.require_scalar()


def _union(masks: Segmentation) -> np.ndarray[Any, Any]:
    found = np.zeros(masks.grid.shape, np.uint8)
    for layer in masks.layers:
        np.maximum(found, (layer.labels > 0).astype(np.uint8), out=found)
    return found


def _on_grid_of(volume: Volume, masks: Segmentation, monitor: Monitor) -> Segmentation:
    if masks.grid.same_as(volume.grid):
        return masks
    from ..geometry.resample import lattice_map, resample

    if lattice_map(masks.grid, volume.grid) is None:
        monitor.warn(
            f"{masks.name} has another geometry than {volume.name}; it was brought onto the image's voxels (nearest "
            "neighbour)."
        )
    layers = []
    for layer in masks.layers:
        moved = resample(layer.labels, masks.grid, volume.grid, interpolation="nearest")
        if layer.labels.any() and not moved.any():
            monitor.warn(f"{masks.name} lies outside of {volume.name}; does it belong to this image?")
        layers.append(Layer(moved, layer.classes))
    return replace(masks, grid=volume.grid, layers=tuple(layers))


def _window(volume: Volume) -> list[float] | None:
    """Lower and upper end of the first window; None for colours. Counted here, since it takes Slicer a second."""
    if volume.channels != 1:
        return None
    centre, width = volume.tags.get("WindowCenter"), volume.tags.get("WindowWidth")
    centre, width = (v[0] if isinstance(v, list | tuple) and v else v for v in (centre, width))
    if isinstance(centre, int | float) and isinstance(width, int | float) and width > 1:
        return [float(centre) - float(width) / 2, float(centre) + float(width) / 2]
    flat = volume.array.reshape(-1)
    some = flat[:: max(1, flat.size // _LOOKED_AT)].astype(np.float64)
    some = some[np.isfinite(some)]
    low, high = (float(v) for v in np.percentile(some, _WINDOW)) if some.size else (0.0, 1.0)
    return [low, high if high > low else low + 1.0]


def save_for_slicer(path: str, message: dict[str, Any], model: str, folder: Path) -> dict[str, Any]:
    """Write the masks of a `result_message` to ``path``. Raises `MedSegError`."""
    result = result_from(message, folder)
    save_segmentation(path, result.layers, result.grid, model)
    return {"type": "saved"}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The message to one request: what was read or saved, or why it could not be."""
    try:
        if "save" in request:
            return save_for_slicer(request["save"], request["result"], request["model"], Path(request["folder"]))
        image, mask, series = (str(request[name]) for name in ("image", "mask", "series"))
        return read_for_slicer(image, mask, series, Path(request["folder"]), str(request.get("slices", "")))
    except MedSegError as error:
        words = str(error)
    except OSError as error:
        words = f"The case could not be handed over ({error.strerror or error}); is the temporary folder full?"
    except MemoryError:
        words = "The case does not fit into the memory of this machine."
    except Exception as error:  # whatever it is, the reader is told and the next case is read
        words = f"The case could not be read: MedSeg failed unexpectedly ({type(error).__name__}: {str(error)[:200]})."
    return {"type": "error", "message": words}


def main() -> int:
    """Answer requests until there are no more."""
    out = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints must not break the answer
    print(json.dumps({"type": "ready", "pid": os.getpid()}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
