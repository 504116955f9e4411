"""What DICOM series a folder holds, and which of them is meant. Headers only; patient data is never read out."""

from __future__ import annotations

import os
import warnings as python_warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VM
from pydicom.multival import MultiValue

from ..errors import InputError, damage_is
from ..monitor import Monitor
from ._common import check_file, is_dicom_head

# Modality of storage classes, for files that lack the Modality tag (PS3.4 table B.5-1).
MODALITY_OF_CLASS = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
}

# Objects that are not images to segment, although some carry pixels.
_NOT_IMAGES = {"SR", "SEG", "PR", "KO", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "DOC", "FID", "AU", "ECG", "HD", "SMR"}

_LISTED_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "SeriesInstanceUID", "StudyInstanceUID",
    "SeriesNumber",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "ImagerPixelSpacing", "DirectoryRecordSequence",
]  # fmt: skip


@dataclass(frozen=True)
class SeriesInfo:
    """One image series. ``slices``: images or frames. ``size``: (columns, rows). ``spacing``: along i and j in mm.

    ``study``: UID of the study that it belongs to.
    """

    uid: str
    number: int | None
    modality: str | None
    description: str
    slices: int
    size: tuple[int, int]
    spacing: tuple[float, float] | None
    files: tuple[Path, ...] = field(default=(), repr=False)
    study: str = ""

    @property
    def label(self) -> str:
        """What messages call the series: modality and number."""
        number = "without a number" if self.number is None else str(self.number)
        return f"{self.modality or 'image'} series {number}"

    def __str__(self) -> str:
        spacing = "" if self.spacing is None else f" of {self.spacing[0]:.4g} x {self.spacing[1]:.4g} mm"
        described = f' "{self.description}"' if self.description else ""
        return (
            f"number {'-' if self.number is None else self.number}: {self.modality or 'unknown modality'}{described}, "
            f"{self.slices} slices, {self.size[0]}x{self.size[1]}{spacing}"
        )


def list_series(folder: str | Path) -> list[SeriesInfo]:
    """The image series in a folder and its sub-folders, or that a DICOMDIR lists, by number.

    Raises `InputError` where there is none.
    """
    path = Path(folder)
    return scan_dicomdir(path, [], None) if path.is_file() and is_dicomdir(path) else scan(path, [], None)


def scan(folder: Path, told: list[str], monitor: Monitor | None) -> list[SeriesInfo]:
    """As `list_series`; what was skipped is added to ``told``."""
    if not folder.is_dir():
        check_file(folder)
        raise InputError(f"{folder.name} is a file; give the folder of the DICOM series.")
    paths = sorted(Path(root) / name for root, _, names in os.walk(folder, onerror=_refused) for name in names)
    return series_of(paths, folder.name, told, monitor)


def is_dicomdir(path: Path) -> bool:
    """Whether the DICOM file is an index of others (PS3.10, Basic Directory)."""
    header = read_header(path)
    return header is not None and "DirectoryRecordSequence" in header


def scan_dicomdir(index: Path, told: list[str], monitor: Monitor | None) -> list[SeriesInfo]:
    """The image series that a DICOMDIR lists. Missing files are told; none outside its folder is opened."""
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            records = pydicom.dcmread(index, force=True).DirectoryRecordSequence
            names = [record.get("ReferencedFileID") for record in records]
    except Exception as error:  # as in `read_header`
        raise InputError(f"{index.name} is a truncated or damaged DICOM index; copy or export it again.") from error
    root = index.parent.resolve()
    paths: list[Path] = []
    missing = 0
    for name in names:
        parts = [str(part) for part in ([name] if isinstance(name, str) else name or [])]
        if not parts:
            continue
        path = root.joinpath(*parts).resolve()
        if not path.is_relative_to(root):
            raise InputError(f"{index.name} names files outside its own folder; such files are not opened.")
        if path.is_file():
            paths.append(path)
        else:
            missing += 1
    if missing:
        told.append(f"{index.name}: {missing} of the files that it lists are missing; copy the whole folder.")
    return series_of(sorted(paths), index.name, told, monitor)


def series_of(paths: list[Path], name: str, told: list[str], monitor: Monitor | None) -> list[SeriesInfo]:
    """The image series of ``paths`` by number; ``name``: what sentences call the place that they are from."""
    found: dict[str, list[tuple[Path, Any]]] = {}
    skipped: Counter[str] = Counter()
    foreign, seen, copies = 0, set(), 0
    for n, path in enumerate(paths):
        if monitor is not None and n % 50 == 0:
            monitor.checkpoint()
        header = read_header(path)
        if header is None:
            foreign += 1
            continue
        if "DirectoryRecordSequence" in header:  # a DICOMDIR
            continue
        modality = modality_of(header)
        if "Rows" not in header and str(header.get("SOPClassUID", "")) in (*MODALITY_OF_CLASS, ""):
            raise InputError(f"{path.name} is a truncated or damaged DICOM file; copy or export it again.")
        if "Rows" not in header or modality in _NOT_IMAGES:
            skipped[modality or "object without an image"] += 1
            continue
        instance = str(header.get("SOPInstanceUID", "")) or str(path)
        if instance in seen:
            copies += 1
            continue
        seen.add(instance)
        found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    if skipped:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
        told.append(f"{name}: DICOM objects that are not images were skipped ({kinds}).")
    if copies:
        told.append(f"{name}: {copies} files are copies of others (same SOP Instance UID) and were skipped.")
    if foreign and found:
        told.append(f"{name}: {foreign} files are not DICOM and were skipped.")
    if not found:
        also = f" ({', '.join(skipped)} objects only)" if skipped else f" ({len(paths)} files were looked at)"
        raise InputError(f"{name} holds no DICOM images{also}; give the folder of a series, or an image file.")
    with damage_is(InputError, f"A DICOM file of {name}"):
        series = [_info(uid, members) for uid, members in found.items()]
    return sorted(series, key=lambda s: (s.number is None, s.number or 0, s.uid))


def choose(series: list[SeriesInfo], wanted: str | int | None, folder: str) -> SeriesInfo:
    """The series that is meant by number or UID; `InputError` that lists them where that is not one of them."""
    listing = "\n".join(f"  {one}" for one in series)
    if wanted is None:
        if len(series) == 1:
            return series[0]
        raise InputError(
            f"{folder} holds {len(series)} image series; choose one by its number or UID (--series NUMBER):\n{listing}"
        )
    text = str(wanted).strip()
    by_uid = [s for s in series if s.uid == text]
    by_number = [s for s in series if s.number is not None and str(s.number) == text]
    if len(by_uid) == 1:
        return by_uid[0]
    if len(by_number) == 1:
        return by_number[0]
    if by_number:
        uids = "\n".join(f"  {one}, UID {one.uid}" for one in by_number)
        raise InputError(f"{folder} holds {len(by_number)} series number {text}; choose one by its UID:\n{uids}")
    raise InputError(f"{folder} holds no image series {text!r}; it has:\n{listing}")


def read_header(path: Path) -> Any | None:
    """The listed tags of a file, or None where it is not DICOM. Raises `InputError` where it is DICOM but damaged."""
    try:
        with path.open("rb") as handle:
            head = handle.read(512)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror or error}); check its permissions.") from error
    if not is_dicom_head(head):
        return None
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(_LISTED_TAGS))
            for keyword in _LISTED_TAGS:  # pydicom decodes a value when it is asked for
                header.get(keyword)
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise InputError(f"{path.name} is a truncated or damaged DICOM file; copy or export it again.") from error
    check_values(header, _LISTED_TAGS, path.name)
    return header


def check_values(dataset: Any, keywords: Iterable[str], name: str) -> None:
    """`InputError` that names the tag where text stands for a number (a decimal comma), or several numbers for one.

    pydicom keeps such text as it is, with a Python warning.
    """
    for keyword in keywords:
        if keyword not in dataset:
            continue
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            element = dataset[keyword]
        if element.VR not in ("DS", "IS", "US", "SS"):
            continue
        several = isinstance(element.value, MultiValue)
        values = element.value if several else [element.value or 0]
        if any(isinstance(v, str) for v in values) or (several and dictionary_VM(keyword) == "1"):
            raise InputError(f"{name}: its {keyword} is not a valid number; correct the header or export it again.")


def modality_of(header: Any) -> str | None:
    """The Modality tag, or what the storage class says where it is missing."""
    return str(header.get("Modality") or "") or MODALITY_OF_CLASS.get(str(header.get("SOPClassUID", "")))


def _info(uid: str, members: list[tuple[Path, Any]]) -> SeriesInfo:
    first = members[0][1]
    spacing = first.get("PixelSpacing") or first.get("ImagerPixelSpacing")
    number = first.get("SeriesNumber")
    return SeriesInfo(
        uid,
        None if number in (None, "") else int(number),
        modality_of(first),
        str(first.get("SeriesDescription") or ""),
        sum(int(h.get("NumberOfFrames") or 1) for _, h in members),
        (int(first.get("Columns") or 0), int(first.get("Rows") or 0)),
        (float(spacing[1]), float(spacing[0])) if spacing and len(spacing) == 2 else None,
        tuple(path for path, _ in members),
        str(first.get("StudyInstanceUID") or ""),
    )


def _refused(error: OSError) -> None:
    raise InputError(f"The folder cannot be read ({error.strerror}); check its permissions.") from error
