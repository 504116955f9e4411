"""Classes that overlap, in one DICOM Segmentation: an object for each group of classes that do not, then joined.

An array for each class would be ten times a layer; here one group is unpacked at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from ..geometry.grid import Grid
from ..io.dicom_source import DicomSource
from ..result import Layer, SegmentClass, classes_of
from .frames import frame_places, onto_frames

Array = npt.NDArray[Any]
_FEW = 8  # up to so many classes, comparing is faster than looking up


def groups(layers: Sequence[Layer], grid: Grid, source: DicomSource) -> Iterator[tuple[list[SegmentClass], Array]]:
    """Classes that do not overlap, and their numbers (1, 2, ... in that order) as (frame, row, column).

    The classes of all groups, one after the other, are those of ``layers`` in their order.
    """
    dtype = np.dtype(np.uint8 if len(classes_of(layers)) < 256 else np.uint16)
    classes: list[SegmentClass] = []
    merged: Any = None
    for layer in layers:
        own = _numbered(onto_frames(layer.labels, grid, source), layer.classes, dtype)
        if merged is not None and any(bool(np.logical_and(a, b).any()) for a, b in zip(merged, own, strict=True)):
            yield classes, merged
            classes, merged = [], None
        merged = own if merged is None else _merged(merged, own, dtype.type(len(classes)))
        classes = [*classes, *layer.classes]
    if merged is not None:
        yield classes, merged


def _numbered(labels: Array, classes: Sequence[SegmentClass], dtype: np.dtype[Any]) -> Array:
    """1, 2, ... where ``labels`` has the values of ``classes``; ``labels`` itself where it has these numbers."""
    table = np.zeros(max(int(labels.max(initial=0)), *(c.value for c in classes)) + 1, dtype)
    for number, item in enumerate(classes, start=1):
        table[item.value] = number
    if labels.dtype == dtype and np.array_equal(table, np.arange(len(table))):
        return labels
    numbered = np.zeros(labels.shape, dtype)
    for own, frame in zip(numbered, labels, strict=True):  # of the whole, numpy would make indices of 64 bits a voxel
        if len(classes) > _FEW:
            own[...] = table[frame]
            continue
        for item in classes:
            np.add(own, (frame == item.value) * table[item.value], out=own)
    return numbered


def _merged(one: Array, other: Array, count: Any) -> Array:
    """Numbers of both, those of ``other`` after the ``count`` of ``one``; nowhere both are above 0."""
    merged = np.empty_like(one)
    for into, a, b in zip(merged, one, other, strict=True):
        np.add(a, b + (b > 0) * count, out=into)
    return merged


def joined(parts: Sequence[Any], source: DicomSource) -> Any:
    """The segmentation objects ``parts``, which overlap, as one: the first of them, with the frames of all.

    Segments are numbered on; a frame's place along the stack is counted anew, since each part leaves out empty frames.
    """
    whole = parts[0]
    if len(parts) == 1:
        return whole
    pixels = _joined_pixels(parts)
    places = [frame_places(part, source) for part in parts]
    ranks = _ranks(parts, places)
    segments: list[Dataset] = []
    frames: list[Dataset] = []
    for part, own in zip(parts, places, strict=True):
        before = len(segments)
        for segment in part.SegmentSequence:
            segment.SegmentNumber = int(segment.SegmentNumber) + before
            segments.append(segment)
        for frame, (number, at) in zip(part.PerFrameFunctionalGroupsSequence, own, strict=True):
            _identify(frame, number + before, ranks[at])
            frames.append(frame)
    shared = whole.SharedFunctionalGroupsSequence[0]
    for holder, keyword in ((shared, "SegmentIdentificationSequence"), (whole, "DimensionOrganizationType")):
        if keyword in holder:  # of one segment, and "3D", which is of frames that differ by their place alone
            delattr(holder, keyword)
    whole.PixelData = pixels
    whole.SegmentSequence = segments
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.NumberOfFrames = len(frames)
    whole.SegmentsOverlap = "YES"
    return whole


def _ranks(parts: Sequence[Any], places: Sequence[Sequence[tuple[int, int]]]) -> dict[int, int]:
    """Source frame -> its number along the stack, counted in the direction in which highdicom counted the parts'."""
    down = False
    for part, own in zip(parts, places, strict=True):
        frames = part.PerFrameFunctionalGroupsSequence
        counted = {int(np.atleast_1d(f.FrameContentSequence[0].DimensionIndexValues)[-1]): at
                   for f, (_, at) in zip(frames, own, strict=True)}  # fmt: skip
        down = down or counted[min(counted)] > counted[max(counted)]
    everything = sorted({at for own in places for _, at in own}, reverse=down)
    return {at: n for n, at in enumerate(everything, start=1)}


def _identify(frame: Dataset, number: int, rank: int) -> None:
    """Say of which segment ``frame`` is, and where it is along the stack; films have no place along one."""
    identification = Dataset()
    identification.ReferencedSegmentNumber = number
    frame.SegmentIdentificationSequence = [identification]
    content = frame.FrameContentSequence[0]
    content.DimensionIndexValues = [number, rank] if np.size(content.DimensionIndexValues) > 1 else [number]


def _joined_pixels(parts: Sequence[Any]) -> bytes:
    """The packed bits (least significant first) of all frames; a frame need not begin with a byte (PS3.5 8.1.1)."""
    packed: list[bytes] = []
    rest = np.zeros(0, np.uint8)  # bits that do not fill a byte yet
    for part in parts:
        count = int(part.Rows) * int(part.Columns) * int(part.NumberOfFrames)
        if count % 8 == 0 and rest.size == 0:
            packed.append(part.PixelData[: count // 8])
        else:
            stored = np.frombuffer(part.PixelData, np.uint8)
            bits = np.concatenate([rest, np.unpackbits(stored, count=count, bitorder="little")])
            whole = bits.size // 8 * 8
            packed.append(np.packbits(bits[:whole], bitorder="little").tobytes())
            rest = bits[whole:].copy()
        del part.PixelData
    packed.append(np.packbits(rest, bitorder="little").tobytes())
    length = sum(map(len, packed))
    return b"".join([*packed, b"\0" * (length % 2)])
