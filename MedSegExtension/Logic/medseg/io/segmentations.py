"""`read_segmentation`: any mask, wherever it was made -> `Segmentation`, with names, colours and codes.

Slicer's ``.seg.nrrd`` (field meanings: vtkMRMLSegmentationStorageNode of 3D Slicer), label maps in image files with a
table of names, DICOM Segmentation objects, and the folder of a run. Needs neither nibabel nor pydantic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, damage_is
from ..geometry.grid import Grid
from ..monitor import Monitor
from ..result import Layer, SegmentClass, classes_of, mask_of
from .label_names import LabelName, find_table, palette_color, read_table

#: More values than any parcellation has: the file is an image, not a mask.
_MOST_LABELS = 1000
_RESULT_SEGMENTATION = "segmentation.seg.nrrd"


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Masks on one grid. ``layers``: label arrays (K, J, I); classes that overlap are in layers of their own.

    ``name``: the file's. ``model_id``: of the model that made it, "" where a person or an unknown program did.
    ``warnings``: what reading it assumed, as sentences.
    """

    grid: Grid
    layers: tuple[Layer, ...]
    name: str
    model_id: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[SegmentClass, ...]:
        """The classes of all layers."""
        return classes_of(self.layers)

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Boolean mask (K, J, I) of the class called ``name``; `KeyError` where there is none."""
        return mask_of(self.layers, name)

    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """All masks by the name of their class."""
        return {c.name: self.mask(c.name) for c in self.classes}


def read_segmentation(
    path: str | Path, *, names: str | Path | None = None, monitor: Monitor | None = None
) -> Segmentation:
    """Read a segmentation file or the folder of a run.

    ``names``: a table of label names for a plain label map (see `medseg.io.label_names`); None takes one that lies
    beside the file, which is told. Raises `InputError`, whose sentence names the file.
    """
    path = given = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    try:
        with damage_is(InputError, path.name):
            segmentation = _read(path, None if names is None else Path(names), monitor)
    except MemoryError as error:
        raise InputError(f"{path.name} does not fit into the memory of this machine.") from error
    if given != path:  # all runs have files of one name; their folders tell them apart
        segmentation = replace(segmentation, name=given.name)
    for sentence in segmentation.warnings if monitor is not None else ():
        monitor.warn(sentence)  # type: ignore[union-attr]
    return segmentation


def _in_folder(folder: Path) -> Path:
    if (folder / _RESULT_SEGMENTATION).is_file():
        return folder / _RESULT_SEGMENTATION
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    if len(files) == 1:
        return files[0]
    raise InputError(
        f"{folder.name} is a folder without {_RESULT_SEGMENTATION}; give the segmentation file, or the folder of a run."
    )


def _read(path: Path, names: Path | None, monitor: Monitor | None) -> Segmentation:
    from ._common import check_file, is_dicom_head
    from .headers import check_header

    head = check_file(path)
    if is_dicom_head(head):
        from .dicom_seg import is_segmentation, read_dicom_seg

        if is_segmentation(path):
            grid, layers, warnings = read_dicom_seg(path)
            return Segmentation(grid, layers, path.name, "", tuple(warnings))
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        from .itk import read_itk

        check_header(path)
        image = read_itk(path)
        if any(re.fullmatch(r"Segment\d+_ID", key) for key in image.metadata):
            return _slicer_file(image, path)
    return _label_map(path, names, monitor)


# -- 3D Slicer's own format ---------------------------------------------------------------------------------


def _slicer_file(image: Any, path: Path) -> Segmentation:
    """``Segment<n>_*`` fields; one layer is a 3D image, several are a list along the first axis of the file."""
    from .files import itk_grid

    arrays = image.array if image.components > 1 else image.array[..., np.newaxis]
    if arrays.ndim == 3:
        raise InputError(f"{path.name} is a 2D image; a segmentation is 3D.")
    warnings: list[str] = []
    found: dict[int, list[SegmentClass]] = {}
    model_id = ""
    numbers = sorted(int(m[1]) for key in image.metadata if (m := re.fullmatch(r"Segment(\d+)_ID", key)))
    apart = arrays.shape[-1] == len(numbers) > 1  # files of Slicer 4 hold one segment a component, without these fields
    for order, n in enumerate(numbers):
        fields = {key: image.metadata.get(f"Segment{n}_{key}", "").strip() for key in _FIELDS}
        layer = int(fields["Layer"] or (order if apart else 0))
        value = int(fields["LabelValue"] or 1)
        tags = dict(tag.split(":", 1) for tag in fields["Tags"].split("|") if ":" in tag)
        color = tuple(float(v) for v in fields["Color"].split())
        if len(color) != 3:
            color = palette_color(n)
        if not 0 <= layer < arrays.shape[-1] or not 1 <= value <= np.iinfo(np.uint16).max:
            raise InputError(
                f"{path.name}: its segment {n} states the layer {layer} and the label {value}; save it again."
            )
        taken = {c.name for one in found.values() for c in one}
        name = _unique(fields["Name"] or fields["ID"], taken)
        found.setdefault(layer, []).append(
            SegmentClass(value, name, color, tags.get("TerminologyEntry", ""), tags.get("MedSeg.Lesion") == "1")
        )
        model_id = model_id or tags.get("MedSeg.Model", "")
    layers = []
    for n in range(arrays.shape[-1]):
        labels = _labels(arrays[..., n], path.name)
        layers.append(Layer(labels, _with_unnamed(labels, found.get(n, []), path.name, warnings)))
    kept = tuple(layer for layer in layers if layer.classes)
    return Segmentation(itk_grid(image), kept or tuple(layers[:1]), path.name, model_id, tuple(warnings))


_FIELDS = ("ID", "Name", "Color", "LabelValue", "Layer", "Tags")


# -- label maps ---------------------------------------------------------------------------------------------


def _label_map(path: Path, names: Path | None, monitor: Monitor | None) -> Segmentation:
    from .files import read_volume

    volume = read_volume(path)
    warnings = list(volume.warnings)
    arrays = volume.array if volume.array.ndim == 4 else volume.array[..., np.newaxis]
    if volume.channels == 3 and not volume.frames and volume.array.dtype == np.uint8:
        raise InputError(f"{path.name} is a colour picture, not a mask; save the labels as whole numbers.")
    table: dict[int, LabelName] = {}
    if names is None and (beside := find_table(path)) is not None:
        names = beside
        if monitor is not None:
            monitor.note(f"The names of the labels of {path.name} are from {beside.name}, which lies beside it.")
    if names is not None:
        table = read_table(names)
    layers = []
    taken: set[str] = set()
    for n in range(arrays.shape[-1]):
        labels = _labels(arrays[..., n], path.name)
        values = np.unique(labels)[np.unique(labels) > 0].tolist()
        if len(values) > _MOST_LABELS:
            raise InputError(
                f"{path.name} has {len(values)} different values: it is an image, not a mask; check the file."
            )
        classes = []
        for value in sorted({*values, *(table if arrays.shape[-1] == 1 else ())}):
            known = table.get(value)
            default = f"Label {value}" if arrays.shape[-1] == 1 else f"Mask {n + 1}, label {value}"
            name = _unique(known.name if known else default, taken)
            taken.add(name)
            classes.append(SegmentClass(value, name, known.color if known and known.color else palette_color(value)))
        layers.append(Layer(labels, tuple(classes)))
    if table and (unnamed := sorted({c.value for layer in layers for c in layer.classes} - set(table))):
        warnings.append(f"{path.name}: the labels {', '.join(map(str, unnamed[:8]))} have no name in {names.name}.")  # type: ignore[union-attr]
    return Segmentation(volume.grid, tuple(layers), path.name, "", tuple(warnings))


def _labels(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """As uint8 or uint16; `InputError` where the values are no labels."""
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not np.isfinite([low, high]).all() or low < 0 or high > np.iinfo(np.uint16).max:
        raise InputError(f"{name} has values from {low:g} to {high:g}; labels are whole numbers from 0 to 65535.")
    labels = array.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    if not np.array_equal(labels, array):
        raise InputError(
            f"{name} has values that are no whole numbers: it is an image or a probability map, not a mask."
        )
    return np.ascontiguousarray(labels)


def _with_unnamed(
    labels: npt.NDArray[Any], classes: list[SegmentClass], name: str, warnings: list[str]
) -> tuple[SegmentClass, ...]:
    """``classes`` and one for each further value, so that no voxel of a file is lost."""
    known = {c.value for c in classes}
    further = [int(v) for v in np.unique(labels) if v and int(v) not in known]
    if further:
        warnings.append(f"{name}: the labels {', '.join(map(str, further[:8]))} have no segment in its header.")
    return (*classes, *(SegmentClass(v, f"Label {v}", palette_color(v)) for v in further))


def _unique(name: str, taken: set[str]) -> str:
    found, n = name, 2
    while found in taken:
        found, n = f"{name} {n}", n + 1
    return found
