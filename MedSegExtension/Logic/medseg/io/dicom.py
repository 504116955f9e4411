"""DICOM -> `Volume`: one series of a folder, or one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.multival import MultiValue
from pydicom.valuerep import DSdecimal

from ..errors import InputError
from ..geometry.volume import Volume, chosen_frame
from ..monitor import Monitor
from ._common import Array, compact, is_dicom_head
from .dicom_frames import KEYWORDS, frames_of
from .dicom_pixels import modality_values, read_dataset, read_frames
from .dicom_series import check_values, choose, is_dicomdir, modality_of, scan, scan_dicomdir
from .dicom_stack import Slice, build, in_order
from .xray import is_film, read_film

# What steps need to know of a series; none of it identifies a patient.
_TAGS = (
    "SOPClassUID", "Modality", "BodyPartExamined", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "WindowCenter", "WindowWidth", "VOILUTFunction", "GantryDetectorTilt",
    "SliceThickness", "SpacingBetweenSlices", "ViewPosition", "PatientOrientation", "PresentationLUTShape",
    "MagneticFieldStrength", "EchoTime", "RepetitionTime", "InversionTime", "LossyImageCompression",
)  # fmt: skip

# What the reader reckons with.
NUMBERS = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness",
    "NominalScannedPixelSpacing", "NumberOfFrames", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "WindowCenter", "WindowWidth", "GantryDetectorTilt",
)  # fmt: skip

# Steps that undo the rescale need these, and only mean something where they are the same on every slice.
_SAME_ON_ALL = ("BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept")


def read_dicom(path: Path, series: str | int | None, frame: int | None, monitor: Monitor | None) -> Volume:
    """Volume of the chosen series of a folder, or of one file; of a 4D series with ``frame`` (from 1) that one."""
    warnings: list[str] = []
    found = scan(path, warnings, monitor) if path.is_dir() else None
    if found is None and is_dicomdir(path):
        found = scan_dicomdir(path, warnings, monitor)
    if found is not None:
        chosen = choose(found, series, path.name)
        return _read(chosen.files, chosen.label, warnings, frame, monitor)
    volume = _read((path,), path.name, warnings, frame, monitor)
    if volume.modality in ("CT", "MR", "PT") and volume.grid.size[2] == 1 and _has_neighbours(path):
        told = f"{path.name} is one slice, and only that was read; give its folder to read the series."
        return replace(volume, stack=None, warnings=(*volume.warnings, told))
    return volume


def _read(
    paths: tuple[Path, ...], name: str, warnings: list[str], frame_number: int | None, monitor: Monitor | None
) -> Volume:
    slices: list[Slice] = []
    tags: list[dict[str, Any]] = []
    modality: str | None = None
    for n, path in enumerate(paths):
        if monitor is not None:
            monitor.progress(n, len(paths), "reading DICOM")
        dataset = read_dataset(path)
        check_values(dataset, NUMBERS, path.name)
        if n == 0:
            modality = modality_of(dataset)
            if modality is not None and not dataset.get("Modality"):
                warnings.append(f"{name}: the Modality tag is missing; {modality} was taken from the storage class.")
        if is_film(dataset, modality):
            if len(paths) > 1:
                raise InputError(
                    f"{name} has {len(paths)} projection images, which are not slices of one volume; "
                    "give the file of one of them."
                )
            frames, done = read_frames(dataset, path)
            values = modality_values(frames, dataset, dataset, done, warnings, name)
            film = read_film(dataset, values, modality, tags_of(dataset), name, warnings)
            return film if frame_number is None else film.frame(frame_number)
        slices += _slices(dataset, path, len(paths), name, warnings)
        tags += [tags_of(dataset, *groups) for groups in groups_of(dataset)]
    common = _common_tags(tags, name, warnings)
    if common.get("PhotometricInterpretation") == "MONOCHROME1":
        warnings.append(f"{name} is stored with inverted grey values (MONOCHROME1); its values were kept as they are.")
    if common.get("RescaleType", "HU") != "HU" and modality == "CT":
        warnings.append(f"{name} is CT in units of {common['RescaleType']}; they were taken for Hounsfield units.")
    if modality == "CT" and not any("RescaleIntercept" in t for t in tags):
        warnings.append(f"{name} is CT without RescaleIntercept; its stored values were taken for Hounsfield units.")
    # where slices have rescales of their own, no one number is the padding
    alike = all(t.get(k) == tags[0].get(k) for t in tags for k in ("RescaleSlope", "RescaleIntercept"))
    padding = common.get("PixelPaddingValue") if alike else None
    if padding is not None:
        padding = padding * common.get("RescaleSlope", 1.0) + common.get("RescaleIntercept", 0.0)
    found = frames_of(slices)
    labels = tuple(frame.label for frame in found) if len(found) > 1 else ()
    if labels and frame_number is not None:
        found = [found[chosen_frame(labels, frame_number, name)]]
        name, labels, frame_number = f"{name} ({found[0].label})", (), None
    tilt = common.get("GantryDetectorTilt")
    built = [build(frame.slices, padding, name, tilt, warnings) for frame in found]
    array, grid, stack = built[0]
    if labels:
        array, stack = np.stack([one for one, _, _ in built], axis=-1), None
    else:
        ordered = in_order(found[0].slices)
        common["SOPInstanceUID"] = [s.uid for s in ordered] if stack is None else list(stack.instance_uids)
    array = compact(array, name, warnings)
    volume = Volume(array, grid, modality, name, common, stack, tuple(dict.fromkeys(warnings)), labels)
    return volume if frame_number is None else volume.frame(frame_number)


def _slices(dataset: Any, path: Path, files: int, name: str, warnings: list[str]) -> list[Slice]:
    frames, done = read_frames(dataset, path)
    groups = list(groups_of(dataset))
    if len(groups) != len(frames):
        raise InputError(
            f"{path.name} has {len(frames)} frames without a position each (a cine or a stack that is not in patient "
            "space); export one frame, or the series as single slices."
        )
    slices = []
    for frame, group in zip(frames, groups, strict=True):
        rescale = next((g for g in group if "RescaleSlope" in g), dataset)
        pixels = modality_values(frame[np.newaxis], dataset, rescale, done, warnings, name)[0]
        slices.append(slice_of(pixels, dataset, group, path, files * len(frames), name, warnings))
    return slices


def slice_of(
    pixels: Array, dataset: Any, group: tuple[Any, ...], path: Path, count: int, name: str, warnings: list[str]
) -> Slice:
    def numbers(keyword: str, length: int) -> tuple[float, ...] | None:
        for holder in (*group, dataset):
            value = holder.get(keyword)
            if value is not None and not isinstance(value, str) and len(value) == length:
                return tuple(float(v) for v in value)
        return None

    position, orientation = numbers("ImagePositionPatient", 3), numbers("ImageOrientationPatient", 6)
    spacing = numbers("PixelSpacing", 2)
    if position is None or orientation is None:
        if count > 1:
            raise InputError(
                f"{path.name} has no position in the patient (Image Position and Orientation), so the {count} slices "
                "of its series cannot be put in order; export the series again, or give one slice."
            )
        warnings.append(f"{name} has no position in the patient; its axes were taken for Left and Posterior.")
        position, orientation = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    if spacing is None:
        warnings.append(f"{name} has no Pixel Spacing; 1 mm was assumed, so lengths and volumes are in pixels.")
        spacing = (1.0, 1.0)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if not all(np.isfinite(v).all() for v in (row, column, position)) or np.linalg.norm(np.cross(row, column)) < 0.5:
        raise InputError(f"{path.name}: its Image Orientation (Patient) or position is not valid; export it again.")
    if min(spacing) <= 0:
        raise InputError(f"{path.name}: its Pixel Spacing {spacing} mm is not positive; correct the header.")
    thickness = next((h.get("SliceThickness") for h in (*group, dataset) if h.get("SliceThickness")), None)
    return Slice(
        pixels, np.array(position), row / np.linalg.norm(row), column / np.linalg.norm(column),
        (spacing[1], spacing[0]), float(thickness) if thickness else None, str(dataset.get("SOPInstanceUID", "")),
        _facts(dataset, group),
    )  # fmt: skip


def _facts(dataset: Any, group: tuple[Any, ...]) -> dict[str, Any]:
    """What may tell this image from others at its place, as plain values."""
    found = {}
    for keyword in KEYWORDS:
        value = next((h.get(keyword) for h in (*group, dataset) if h.get(keyword) not in (None, "")), None)
        if value is not None:
            plain = _plain(value)
            found[keyword] = "/".join(map(str, plain)) if isinstance(plain, list) else plain
    return found


def groups_of(dataset: Any) -> Iterator[tuple[Any, ...]]:
    """Per frame, where its geometry and rescale may be: per-frame and shared functional groups (PS3.3 C.7.6.16)."""
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        yield ()
        return
    shared = _flat(dataset.get("SharedFunctionalGroupsSequence"))
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        yield (*_flat([frame]), *shared)


def _flat(groups: Any) -> tuple[Any, ...]:
    """The data sets inside functional group macros, one level down."""
    return tuple(e.value[0] for g in groups or [] for e in g if e.VR == "SQ" and e.value)


def tags_of(dataset: Any, *groups: Any) -> dict[str, Any]:
    tags = {}
    for keyword in _TAGS:
        value = next((h.get(keyword) for h in (*groups, dataset) if h.get(keyword) is not None), None)
        if value is not None and value != "":
            tags[keyword] = _plain(value)
    return tags


def _common_tags(tags: list[dict[str, Any]], name: str, warnings: list[str]) -> dict[str, Any]:
    """The first slice's tags; those that steps rely on are left out where slices differ."""
    common = dict(tags[0])
    for keyword in _SAME_ON_ALL:
        values = {t.get(keyword) for t in tags}
        if len(values) > 1:
            common.pop(keyword, None)
            warnings.append(
                f"{name}: {keyword} is not the same on all slices; each slice was rescaled by its own values, "
                "and steps that need this tag (12-bit correction) are not applied."
            )
    return common


def _plain(value: Any) -> Any:
    """Plain Python values: numbers as int or float (DICOM keeps some as text), several values as a list."""
    if isinstance(value, (MultiValue, list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (float, DSdecimal)):
        return float(value)
    return str(value)


def _has_neighbours(path: Path) -> bool:
    """True where another DICOM file lies beside this one (the first twenty files are looked at)."""
    try:
        beside = (other for other in path.parent.iterdir() if other != path and other.is_file())
        for _, other in zip(range(20), beside, strict=False):
            with other.open("rb") as handle:
                if is_dicom_head(handle.read(140)):
                    return True
    except OSError:
        pass
    return False
