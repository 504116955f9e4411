"""The images that a volume was read from, by their headers: what DICOM objects made from it must refer to.

Frames are in the order of the volume's slices, each with its own place as it was acquired; pixels are not read.
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from ..errors import InputError, damage_is
from ..geometry.grid import Grid
from ..geometry.volume import chosen_frame
from ..monitor import Monitor
from ._common import check_file, is_dicom_head
from .dicom import NUMBERS, groups_of, slice_of, tags_of
from .dicom_frames import Frame, frames_of
from .dicom_series import check_values, choose, is_dicomdir, modality_of, scan, scan_dicomdir
from .dicom_stack import Slice, check_stack, faults, in_order, lie, slice_grids, volume_grid
from .xray import film_place, is_film


@dataclass(frozen=True, eq=False)
class SourceFrame:
    """One slice as acquired. ``header``: of its file, without pixels; ``number``: of the frame in it, from 1."""

    header: Any
    number: int
    grid: Grid


@dataclass(frozen=True, eq=False)
class DicomSource:
    """``frames``: in the order of the volume's slices. ``grid``: of the volume that `read_volume` makes of them.

    ``regular``: whether its slices are the frames as they are, not interpolated. ``film``: a projection.
    ``multi_frame``: all frames are of one file. ``faults``: of their geometry, in few words.
    """

    name: str
    frames: tuple[SourceFrame, ...]
    grid: Grid
    modality: str | None
    regular: bool = True
    film: bool = False
    multi_frame: bool = False
    faults: tuple[str, ...] = ()

    @property
    def headers(self) -> list[Any]:
        """The header of each file once, in the order of the slices."""
        return list({id(frame.header): frame.header for frame in self.frames}.values())


def read_source(
    images: str | Path | Sequence[str | Path],
    *,
    series: str | int | None = None,
    frame: int | None = None,
    monitor: Monitor | None = None,
) -> DicomSource:
    """The source that `read_volume` would read with the same arguments; ``images`` may also be a list of its files.

    Raises `InputError` where they are not DICOM images of one series, or have no place in the patient.
    """
    if isinstance(images, (str, Path)):
        path = Path(images)
        name, paths = _files(path, series, monitor)
    else:
        paths = [Path(p) for p in images]
        if not paths:
            raise InputError("No DICOM files were given; choose the images that the result was made from.")
        name = paths[0].parent.name or paths[0].name
    try:
        with damage_is(InputError, name):
            return _read(paths, name, frame, monitor)
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error}).") from error


def _files(path: Path, series: str | int | None, monitor: Monitor | None) -> tuple[str, list[Path]]:
    told: list[str] = []
    found = scan(path, told, monitor) if path.is_dir() else None
    if found is None:
        if not is_dicom_head(check_file(path)):
            raise InputError(
                f"{path.name} is not DICOM, so no DICOM objects can be made that refer to it; give the DICOM images "
                "that it was converted from."
            )
        if is_dicomdir(path):
            found = scan_dicomdir(path, told, monitor)
    if found is None:
        return path.name, [path]
    chosen = choose(found, series, path.name)
    return chosen.label, list(chosen.files)


def look_at(paths: Sequence[Path], name: str) -> tuple[DicomSource, tuple[str, ...]]:
    """The source of one series, and what its frames are (times, echoes, b-values) where it has several.

    Of several frames the first is the source. Raises `InputError` as `read_source` does.
    """
    with damage_is(InputError, name):
        headers = _headers(list(paths), name, None)
        film = _film(headers, name)
        if film is not None:
            return film, ()
        found, owner = _found(list(paths), headers, name)
        labels = tuple(one.label for one in found) if len(found) > 1 else ()
        return _source(name, headers, found[0].slices, owner), labels


def _read(paths: list[Path], name: str, frame_number: int | None, monitor: Monitor | None) -> DicomSource:
    headers = _headers(paths, name, monitor)
    film = _film(headers, name)
    if film is not None:
        return film
    found, owner = _found(paths, headers, name)
    if len(found) > 1:
        labels = tuple(one.label for one in found)
        if frame_number is None:
            raise InputError(f"{name} has {len(found)} frames; say which of them the result is of (--frame NUMBER).")
        found = [found[chosen_frame(labels, frame_number, name)]]
    return _source(name, headers, found[0].slices, owner)


def _headers(paths: list[Path], name: str, monitor: Monitor | None) -> list[Any]:
    headers = []
    for n, path in enumerate(paths):
        if monitor is not None:
            monitor.progress(n, len(paths), "reading DICOM headers")
        headers.append(_header(path))
    kinds = {str(h.get("SeriesInstanceUID", "")) for h in headers}
    if len(kinds) > 1:
        raise InputError(f"{name}: its files belong to {len(kinds)} series; DICOM objects can refer to one of them.")
    return headers


def _film(headers: list[Any], name: str) -> DicomSource | None:
    modality = modality_of(headers[0])
    if not is_film(headers[0], modality):
        return None
    if len(headers) > 1:
        raise InputError(f"{name} has {len(headers)} projection images; give the file of one of them.")
    grid = film_place(headers[0], tags_of(headers[0]), name, [])
    return DicomSource(name, (SourceFrame(headers[0], 1, grid),), grid, modality, film=True)


def _found(paths: list[Path], headers: list[Any], name: str) -> tuple[list[Frame], dict[int, tuple[Any, int]]]:
    """The frames (times, echoes), and of each slice by its ``id`` the header and number that it is from."""
    owner: dict[int, tuple[Any, int]] = {}
    slices: list[Slice] = []
    for path, header in zip(paths, headers, strict=True):
        groups = list(groups_of(header))
        blank = np.broadcast_to(np.uint8(0), (int(header.Rows), int(header.Columns)))
        for number, group in enumerate(groups, start=1):
            one = slice_of(blank, header, group, path, len(paths) * len(groups), name, [])
            owner[id(one)] = (header, number)
            slices.append(one)
    return frames_of(slices), owner


def _source(name: str, headers: list[Any], slices: list[Slice], owner: dict[int, tuple[Any, int]]) -> DicomSource:
    ordered = in_order(slices)
    check_stack(ordered, name)
    places = slice_grids(ordered)
    frames = tuple(SourceFrame(*owner[id(one)], grid) for one, grid in zip(ordered, places, strict=True))
    several = len(headers) == 1 and int(headers[0].get("NumberOfFrames") or 1) > 1
    modality = modality_of(headers[0])
    return DicomSource(name, frames, volume_grid(ordered), modality, lie(ordered).regular, multi_frame=several,
                       faults=faults(ordered))  # fmt: skip


def _header(path: Path) -> Any:
    check_file(path)
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            complete = "Rows" in header and "Columns" in header
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise InputError(f"{path.name} is a truncated or damaged DICOM file; copy or export it again.") from error
    if not complete:
        raise InputError(f"{path.name} is no DICOM image, so DICOM objects cannot refer to it as their source.")
    check_values(header, NUMBERS, path.name)
    return header
