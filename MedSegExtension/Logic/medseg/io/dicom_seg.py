"""DICOM Segmentation objects -> layers of labels on a regular grid (PS3.3 A.51 and C.8.20; label maps: A.89).

Frames are put where their Plane Position says; frames that a writer left out are empty.
"""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from ..errors import InputError
from ..geometry.grid import Grid
from ..result import Layer, SegmentClass
from .dicom_seg_places import film_grid, grid_of_frames, is_film
from .label_names import Color, palette_color

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
# CIE XYZ of the white point D50, which PS3.3 C.10.7.1.1 names, and the matrix to linear sRGB (Bradford-adapted).
_WHITE = np.array([0.9642, 1.0, 0.8249])
_TO_SRGB = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])

Labels = npt.NDArray[Any]


def is_segmentation(path: Path) -> bool:
    """Whether the DICOM file is a Segmentation or Label Map Segmentation."""
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"])
            return str(header.get("SOPClassUID", "")) in (_SEGMENTATION, _LABEL_MAP)
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise InputError(f"{path.name} is a truncated or damaged DICOM file; copy or export it again.") from error


def read_dicom_seg(path: Path) -> tuple[Grid, tuple[Layer, ...], list[str]]:
    """Grid, layers and warnings of a segmentation object. Raises `InputError` where it cannot be read."""
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            frames = np.asarray(dataset.pixel_array)
    except Exception as error:  # as above
        raise InputError(f"{path.name} is a truncated or damaged DICOM segmentation; export it again.") from error
    frames = frames[np.newaxis] if frames.ndim == 2 else frames
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if len(groups) != len(frames):
        raise InputError(f"{path.name} has {len(frames)} frames, but places for {len(groups)}; export it again.")
    told: list[str] = []
    labelmap = str(dataset.get("SegmentationType", "BINARY")) == "LABELMAP" or str(dataset.SOPClassUID) == _LABEL_MAP
    numbers = [0] * len(groups) if labelmap else [_segment_of(group, dataset, path.name) for group in groups]
    if is_film(dataset, groups):
        grid, at = film_grid(dataset, frames.shape[1:], told, path.name), np.zeros(len(groups), np.int64)
    else:
        grid, placed = grid_of_frames(dataset, groups, frames.shape[1:], told, path.name)
        at = np.array([one.k for one in placed], np.int64)
        if any(one.shift != (0, 0) for one in placed) or len(placed) != len(frames):
            frames = np.stack([one.of(frames, grid.shape[1:]) for one in placed])
            numbers = [numbers[one.frame] for one in placed]
    kind = str(dataset.get("SegmentationType", "BINARY"))
    classes = _classes(dataset)
    if labelmap:
        labels = np.zeros(grid.shape, np.uint8 if frames.max(initial=0) < 256 else np.uint16)
        labels[at] = frames
        known = tuple(c for c in classes if c.value > 0)
        return grid, (Layer(labels, known),), told
    if kind == "FRACTIONAL":
        top = float(dataset.get("MaximumFractionalValue") or frames.max(initial=1))
        told.append(f"{path.name} holds fractions; voxels of at least one half were taken.")
        frames = frames >= top / 2
    return grid, _layers(frames, numbers, at, classes, grid, path.name), told


def _layers(
    frames: Labels, numbers: list[int], at: Labels, classes: list[SegmentClass], grid: Grid, name: str
) -> tuple[Layer, ...]:
    """Segments that do not overlap share a label array."""
    known = {c.value for c in classes}
    if missing := sorted(set(numbers) - known):
        raise InputError(f"{name}: its frames name segment {missing[0]}, which it does not describe; export it again.")
    arrays: list[Labels] = []
    held: list[list[SegmentClass]] = []
    dtype = np.uint8 if max(known, default=0) < 256 else np.uint16
    for one in classes:
        own = [n for n, number in enumerate(numbers) if number == one.value]
        mask = np.zeros(grid.shape, bool)
        for n in own:
            mask[at[n]] |= frames[n] > 0
        place = next((n for n, array in enumerate(arrays) if not array[mask].any()), None)
        if place is None:
            arrays.append(np.zeros(grid.shape, dtype))
            held.append([])
            place = len(arrays) - 1
        arrays[place][mask] = one.value
        held[place].append(one)
    return tuple(Layer(array, tuple(c)) for array, c in zip(arrays, held, strict=True))


def _segment_of(group: Any, dataset: Any, name: str) -> int:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    for holder in (group, shared):
        found = holder.get("SegmentIdentificationSequence")
        if found:
            return int(found[0].ReferencedSegmentNumber)
    raise InputError(f"{name} does not say which segment its frames belong to; export it again.")


def _classes(dataset: Any) -> list[SegmentClass]:
    found: list[SegmentClass] = []
    for item in dataset.get("SegmentSequence") or []:
        value = int(item.SegmentNumber)
        name = " ".join(str(item.get("SegmentLabel") or f"Segment {value}").split())
        if any(c.name == name for c in found):
            name = f"{name} {value}"
        lab = item.get("RecommendedDisplayCIELabValue")
        color = _rgb([int(v) for v in lab]) if lab is not None and len(lab) == 3 else palette_color(value)
        found.append(SegmentClass(value, name, color, _terminology(item)))
    return found


def _terminology(item: Any) -> str:
    """3D Slicer's entry of seven parts: context, category, type, modifier, anatomic context, region, modifier."""

    def code(sequence: Any) -> str:
        if not sequence:
            return "^^"
        one = sequence[0]
        return "^".join(
            str(one.get(k, "")).replace("^", " ").replace("~", " ")
            for k in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")
        )

    kind = item.get("SegmentedPropertyTypeCodeSequence")
    if not kind:
        return ""
    region = item.get("AnatomicRegionSequence")
    return "~".join([
        "Segmentation category and type - 3D Slicer General Anatomy list",
        code(item.get("SegmentedPropertyCategoryCodeSequence")),
        code(kind),
        code(kind[0].get("SegmentedPropertyTypeModifierCodeSequence")),
        "Anatomic codes - DICOM master list" if region else "",
        code(region),
        code(region[0].get("AnatomicRegionModifierSequence") if region else None),
    ])  # fmt: skip


def _rgb(lab: list[int]) -> Color:
    """sRGB 0 to 1 of a CIELab value coded as three 16-bit numbers (PS3.3 C.10.7.1.1)."""
    lightness, a, b = lab[0] / 65535 * 100, lab[1] / 65535 * 255 - 128, lab[2] / 65535 * 255 - 128
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = _WHITE * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip(_TO_SRGB @ xyz, 0, 1)
    red, green, blue = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (float(red), float(green), float(blue))
