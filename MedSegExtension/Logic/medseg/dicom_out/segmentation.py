"""Layers and probabilities -> DICOM Segmentation and Label Map Segmentation (PS3.3 A.51, A.89) with highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ..geometry.grid import Grid
from ..io.dicom_source import DicomSource
from ..result import Result, SegmentClass, classes_of
from .codes import segment_codes
from .film import place_film
from .frames import onto_frames
from .identity import duplicate
from .library import highdicom, quietly
from .origin import Origin, device
from .overlaps import groups, joined

Array = npt.NDArray[Any]
# Above this many values the probabilities of each class go into an object of their own: memory.
_MOST_PROBABILITIES = 1 << 26
_LEAST_PROBABILITY = 0.5 / 255  # what is stored as 0


@dataclass(frozen=True, eq=False)
class SegmentationObject:
    """``file``: its name. ``dataset``: what is written. ``numbers``: class name -> segment number."""

    file: str
    dataset: Any
    numbers: dict[str, int]


def binary(result: Result, source: DicomSource, origin: Origin) -> SegmentationObject:
    """One object with a segment for each class; classes that overlap do so in it too."""
    own = device(source, "segmentation", _title(origin, "segments"))
    parts = []
    for classes, pixels in groups(result.layers, result.grid, source):
        numbers = {c.name: n for n, c in enumerate(classes, start=1)}
        parts.append(_build(pixels, "BINARY", classes, numbers, source, origin, own))
    numbers = {c.name: n for n, c in enumerate(classes_of(result.layers), start=1)}
    return SegmentationObject("segmentation.dcm", joined(parts, source), numbers)


def label_maps(result: Result, source: DicomSource, origin: Origin) -> list[SegmentationObject]:
    """An object for each layer, with the label values of the result."""
    found: list[SegmentationObject] = []
    several = len(result.layers) > 1
    for n, layer in enumerate(result.layers, start=1):
        numbers = {c.name: c.value for c in layer.classes}
        pixels = onto_frames(layer.labels, result.grid, source)
        own = device(source, "labelmap", _title(origin, f"label map {n}" if several else "label map"), n)
        if found:
            own["series_instance_uid"] = found[0].dataset.SeriesInstanceUID
            own["series_description"] = found[0].dataset.SeriesDescription
        made = _build(pixels, "LABELMAP", layer.classes, numbers, source, origin, own)
        found.append(SegmentationObject(f"labelmap-{n}.dcm" if several else "labelmap.dcm", made, numbers))
    return found


def probabilities(result: Result, source: DicomSource, origin: Origin) -> list[SegmentationObject]:
    """Fractional segmentations of the probability maps that were kept: one, or one for each class of large volumes."""
    known = {c.name: c for c in classes_of(result.layers)}
    classes = [known.get(name) or SegmentClass(1, name, (0.5, 0.5, 0.5)) for name in result.probabilities]
    values = len(source.frames) * source.frames[0].grid.size[0] * source.frames[0].grid.size[1]
    together = values * len(classes) <= _MOST_PROBABILITIES
    found: list[SegmentationObject] = []
    for n, group in enumerate([classes] if together else [[c] for c in classes], start=1):
        pixels = np.stack([_map(result.probabilities[c.name], result.grid, source) for c in group], axis=-1)
        own = device(source, "probabilities", _title(origin, "probabilities"), n)
        if found:
            own["series_instance_uid"] = found[0].dataset.SeriesInstanceUID
        numbers = {c.name: k for k, c in enumerate(group, start=1)}
        made = _build(pixels, "FRACTIONAL", group, numbers, source, origin, own)
        found.append(SegmentationObject("probabilities.dcm" if together else f"probabilities-{n}.dcm", made, numbers))
    return found


def _map(probability: Array, grid: Grid, source: DicomSource) -> Array:
    found = onto_frames(probability, grid, source, "linear").astype(np.float32)
    found[found < _LEAST_PROBABILITY] = 0
    return np.clip(found, 0, 1)


def _build(
    pixels: Array, kind: str, classes: Sequence[SegmentClass], numbers: dict[str, int], source: DicomSource,
    origin: Origin, own: dict[str, Any],
) -> Any:  # fmt: skip
    hd = highdicom()
    headers, further = source.headers, []
    if not pixels.any() and not source.multi_frame and len(headers) > 1:
        # an object must have a frame: one empty frame says as much as an empty one for each slice and segment
        middle = len(headers) // 2
        pixels, further, headers = pixels[middle : middle + 1], [h for h in headers if h is not headers[middle]], [
            headers[middle]
        ]  # fmt: skip
    if source.multi_frame:
        headers = [_of_these_frames(source)]
    algorithm = origin.algorithm()
    with quietly():
        made = hd.seg.Segmentation(
            source_images=headers,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=[_described(c, numbers[c.name], algorithm) for c in classes],
            content_label="MEDSEG",
            content_description="Research use only",
            further_source_images=further or None,
            omit_empty_frames=True,
            **own,
        )
        if source.multi_frame:
            _name_the_frames(made, source)
        if source.film:
            place_film(made, source)
        _add_modifiers(made, classes, numbers)
    return made


def _of_these_frames(source: DicomSource) -> Any:
    """The header of a multi-frame image as if it had only these frames, in this order (one time point of several)."""
    header = duplicate(source.headers[0])
    groups = header.PerFrameFunctionalGroupsSequence
    header.PerFrameFunctionalGroupsSequence = [groups[f.number - 1] for f in source.frames]
    header.NumberOfFrames = len(source.frames)
    return header


def _name_the_frames(made: Any, source: DicomSource) -> None:
    """Their true numbers, where the references have those of `_of_these_frames`."""
    groups = (*made.SharedFunctionalGroupsSequence, *made.PerFrameFunctionalGroupsSequence)
    items = [d for group in groups for d in group.get("DerivationImageSequence") or []]
    references = {id(r): r for d in items for r in d.SourceImageSequence}  # segments share those of a frame
    for one in references.values():
        if "ReferencedFrameNumber" in one:
            one.ReferencedFrameNumber = source.frames[int(one.ReferencedFrameNumber) - 1].number


def _described(item: SegmentClass, number: int, algorithm: Any) -> Any:
    hd = highdicom()
    codes = segment_codes(item)
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=item.name[:64],
        segmented_property_category=codes.category,
        segmented_property_type=codes.type,
        algorithm_type="AUTOMATIC" if algorithm is not None else "MANUAL",
        algorithm_identification=algorithm,
        tracking_uid=hd.UID(),
        tracking_id=item.name[:64],
        anatomic_regions=None if codes.region is None else [codes.region],
        display_color=hd.color.CIELabColor.from_rgb(*(255 * c for c in item.color)),
    )


def _add_modifiers(made: Any, classes: Sequence[SegmentClass], numbers: dict[str, int]) -> None:
    """Modifiers of type and region (left, right), which highdicom's descriptions do not take."""
    items = {int(s.SegmentNumber): s for s in made.SegmentSequence}
    for c in classes:
        codes, item = segment_codes(c), items[numbers[c.name]]
        if codes.modifier is not None:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
                _item(codes.modifier)
            ]
        if codes.region is not None and codes.region_modifier is not None:
            item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [_item(codes.region_modifier)]


def _item(code: Any) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _title(origin: Origin, what: str) -> str:
    return f"{origin.id or origin.name or 'MedSeg'} {what}"
