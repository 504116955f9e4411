"""A DICOM series with several images at each position (times, echoes, b-values) -> its frames."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from .dicom_stack import Slice, in_order

_SAME_PLACE_MM = 1e-3

# What may tell the images at one position apart, the most telling first: keyword, and the words for a value.
_FACTS = (
    ("TemporalPositionIdentifier", "time point {}"),
    ("DiffusionBValue", "b-value {} s/mm2"),
    ("EchoTime", "echo time {} ms"),
    ("EchoNumbers", "echo {}"),
    ("TriggerTime", "{} ms after the trigger"),
    ("InversionTime", "inversion time {} ms"),
    ("FlipAngle", "flip angle {} degrees"),
    ("AcquisitionNumber", "acquisition {}"),
    ("ImageType", "{}"),
    ("AcquisitionTime", "time {}"),
)
KEYWORDS = (*(keyword for keyword, _ in _FACTS), "InstanceNumber")


@dataclass(frozen=True, eq=False)
class Frame:
    """The slices of one frame, and what sets it apart in words."""

    label: str
    slices: list[Slice]


def frames_of(slices: list[Slice]) -> list[Frame]:
    """The frames of a series: one where there is one image at each position, or where they cannot be told apart."""
    places = _places(slices)
    count = len(places[0])
    if count < 2 or any(len(place) != count for place in places):
        return [Frame("", slices)]
    for keyword, words in _FACTS:
        groups: dict[Any, list[Slice]] = defaultdict(list)
        for one in slices:
            groups[one.facts.get(keyword)].append(one)
        apart = len(groups) == count and None not in groups
        if apart and all(len(group) == len(places) == len(_places(group)) for group in groups.values()):
            in_turn = sorted(groups.items(), key=lambda item: (isinstance(item[0], str), item[0]))
            return [
                Frame(f"time point {n}" if keyword == "AcquisitionTime" else words.format(_short(value)), group)
                for n, (value, group) in enumerate(in_turn, start=1)
            ]
    if all(one.facts.get("InstanceNumber") is not None for one in slices):
        turns = [sorted(place, key=lambda s: int(s.facts["InstanceNumber"])) for place in places]
        return [Frame(f"image {n + 1} of {count} at each position", [t[n] for t in turns]) for n in range(count)]
    return [Frame("", slices)]


def _places(slices: list[Slice]) -> list[list[Slice]]:
    """The slices grouped by their position along the normal."""
    ordered = in_order(slices)
    normal = ordered[0].normal
    places: list[list[Slice]] = []
    height = None
    for one in ordered:
        at = float(one.position @ normal)
        if height is None or at - height > _SAME_PLACE_MM:
            places.append([])
            height = at
        places[-1].append(one)
    return places


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
