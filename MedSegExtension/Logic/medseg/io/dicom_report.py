"""DICOM Structured Reports of measurements (TID 1500) -> numbers, decisions and what they are of."""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom

from ..errors import InputError, damage_is
from ._common import check_file

_GROUP = "125007"  # Measurement Group
_TRACKING, _TRACKING_UID, _FINDING = "112039", "112040", "121071"
_DERIVATION = "121401"


@dataclass(frozen=True)
class Measured:
    """One number. ``unit``: UCUM. ``derivation``: how it was made of many (Mean, Maximum), or "".

    ``image``, ``frame``: SOP Instance UID and frame number of the image that it is of, "" and 0 where it is of none.
    """

    name: str
    value: float
    unit: str
    derivation: str = ""
    image: str = ""
    frame: int = 0


@dataclass(frozen=True)
class MeasuredGroup:
    """What belongs to one finding. ``segment``: (SOP Instance UID, segment number) or None. ``said``: the answers."""

    name: str
    uid: str
    finding: str
    numbers: tuple[Measured, ...]
    said: tuple[tuple[str, str], ...] = ()
    segment: tuple[str, int] | None = None

    def number(self, name: str, derivation: str = "") -> float:
        """The value called ``name``; `KeyError` where there is none."""
        for one in self.numbers:
            if one.name == name and one.derivation == derivation and not one.image:
                return one.value
        raise KeyError(name)


def read_report(path: str | Path) -> tuple[MeasuredGroup, ...]:
    """The measurement groups of a report, in its order. Raises `InputError` where the file is none or damaged."""
    path = Path(path)
    check_file(path)
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            content = list(dataset.get("ContentSequence") or [])
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise InputError(f"{path.name} is a truncated or damaged DICOM file; copy or export it again.") from error
    if not content:
        raise InputError(f"{path.name} is no DICOM Structured Report; give a report of measurements (TID 1500).")
    with damage_is(InputError, path.name):
        return tuple(_group(item) for item in _walk(content) if _code(item) == _GROUP)


def _walk(items: list[Any]) -> Iterator[Any]:
    for item in items:
        yield item
        yield from _walk(list(item.get("ContentSequence") or []))


def _group(group: Any) -> MeasuredGroup:
    texts: dict[str, str] = {}
    numbers, said = [], []
    segment = None
    for item in group.get("ContentSequence") or []:
        kind, code = str(item.ValueType), _code(item)
        if kind == "NUM" and item.get("MeasuredValueSequence"):
            numbers.append(_number(item))
        elif kind == "TEXT":
            texts[code] = str(item.TextValue)
        elif kind == "UIDREF":
            texts[code] = str(item.UID)
        elif kind == "CODE":
            meaning = str(item.ConceptCodeSequence[0].CodeMeaning)
            if code == _FINDING:
                texts.setdefault(code, meaning)
            elif code not in _CONTEXT:
                said.append((str(item.ConceptNameCodeSequence[0].CodeMeaning), meaning))
        elif kind == "IMAGE" and item.ReferencedSOPSequence[0].get("ReferencedSegmentNumber"):
            reference = item.ReferencedSOPSequence[0]
            segment = (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
    return MeasuredGroup(
        texts.get(_TRACKING, ""), texts.get(_TRACKING_UID, ""), texts.get(_FINDING, ""), tuple(numbers), tuple(said),
        segment,
    )  # fmt: skip


#: Codes of a group that say where and of what kind it is; they are no answers.
_CONTEXT = {"363698007", "276214006", "121071", "370129005", "G-C036", "G-C0E3"}


def _number(item: Any) -> Measured:
    value = item.MeasuredValueSequence[0]
    derivation = image = ""
    frame = 0
    for one in item.get("ContentSequence") or []:
        if one.ValueType == "CODE" and _code(one) == _DERIVATION:
            derivation = str(one.ConceptCodeSequence[0].CodeMeaning)
        elif one.ValueType == "IMAGE":
            reference = one.ReferencedSOPSequence[0]
            image = str(reference.ReferencedSOPInstanceUID)
            number = reference.get("ReferencedFrameNumber")
            frame = int(number if isinstance(number, (int, str)) else number[0]) if number else 0
    return Measured(
        str(item.ConceptNameCodeSequence[0].CodeMeaning), float(value.NumericValue),
        str(value.MeasurementUnitsCodeSequence[0].CodeValue), derivation, image, frame,
    )  # fmt: skip


def _code(item: Any) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
