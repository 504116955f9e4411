"""Whose images they are: what of the source's headers goes into new objects, and what must be there for that.

Patient and study are copied as PS3.3 C.7.1.1 and C.7.2.1 say, also where the source has them empty; every other
identifier is new. With ``deidentified`` only what places the images is taken over (PS3.15 annex E: basic profile with
the option to retain UIDs, so that the objects still find their images).
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ..errors import InputError
from ..io.dicom_series import modality_of
from ..io.dicom_source import DicomSource, SourceFrame
from ..monitor import Monitor

#: Without these an object cannot say what it belongs to.
_NEEDED = {
    "SOPClassUID": "SOP Class UID",
    "SOPInstanceUID": "SOP Instance UID",
    "SeriesInstanceUID": "Series Instance UID",
    "StudyInstanceUID": "Study Instance UID",
}
#: Of type 2: they must be there, and may be empty.
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
#: Neither patient, study, institution nor device: what geometry and references are made of.
_PLACES_THE_IMAGE = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID",
    "FrameOfReferenceUID", "PositionReferenceIndicator", "Modality", "Rows", "Columns", "NumberOfFrames",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "InstanceNumber", "SeriesNumber",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "DimensionOrganizationType", "LossyImageCompression", "ImageType",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "BitsAllocated", "BitsStored",
    "PatientOrientation",
)  # fmt: skip
_GEOMETRY_GROUPS = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_NEEDS_FRAME_OF_REFERENCE = ("CT", "MR", "PT", "NM")


def prepared(source: DicomSource, *, deidentified: bool, monitor: Monitor) -> DicomSource:
    """``source`` with headers that new objects can be made from.

    Raises `InputError` where identifiers are missing; what is empty or had to be made is told.
    """
    headers = source.headers
    check_identifiers(headers, source.name)
    empty = [k for k in ("PatientName", "PatientID", "StudyDate") if not headers[0].get(k)]
    if len(empty) == 3 and not deidentified:
        monitor.note(
            f"{source.name} names neither patient nor date of the study (it was anonymised); the DICOM objects leave "
            "them empty too, and an archive files them by the Study Instance UID."
        )
    frame_of_reference = None
    if not source.film and not headers[0].get("FrameOfReferenceUID"):
        frame_of_reference = generate_uid(prefix=None)
        monitor.warn(
            f"{source.name} has no Frame of Reference UID; the DICOM objects have a new one, so some viewers show "
            "their segments only slice by slice, not on other series."
        )
    made = {id(h): _header(h, source, deidentified, frame_of_reference) for h in headers}
    frames = tuple(SourceFrame(made[id(f.header)], f.number, f.grid) for f in source.frames)
    return replace(source, frames=frames)


def check_identifiers(headers: Iterable[Any], name: str) -> None:
    """Raise `InputError` where an image does not say what it is, or the images are of several studies."""
    headers = list(headers)
    for keyword, words in _NEEDED.items():
        lacking = sum(not str(h.get(keyword) or "").strip() for h in headers)
        if lacking:
            raise InputError(
                f"{name}: {lacking} of {len(headers)} images have no {words}, so no DICOM object can refer to them; "
                "export the series again from where it is archived, or write the result without DICOM."
            )
    studies = {str(h.StudyInstanceUID) for h in headers}
    if len(studies) > 1:
        raise InputError(f"{name}: its images belong to {len(studies)} studies; give the images of one.")
    patients = {str(h.get("PatientID") or "") for h in headers}
    if len(patients) > 1:
        raise InputError(f"{name}: its images name {len(patients)} different patients; give the images of one.")


def _header(header: Any, source: DicomSource, deidentified: bool, frame_of_reference: str | None) -> Any:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        made = _placing_only(header) if deidentified else duplicate(header)
        for keyword in _MAY_BE_EMPTY:
            if keyword not in made or made.get(keyword) is None:
                setattr(made, keyword, "")
        if made.get("PatientIdentityRemoved") == "YES" and not (
            made.get("DeidentificationMethod") or made.get("DeidentificationMethodCodeSequence")
        ):
            made.DeidentificationMethod = "not stated by the source images"
        if not made.get("Modality"):
            made.Modality = modality_of(header) or "OT"
        if frame_of_reference and source.modality in (*_NEEDS_FRAME_OF_REFERENCE, None):
            made.FrameOfReferenceUID = frame_of_reference
            made.PositionReferenceIndicator = ""
    return made


def _placing_only(header: Any) -> Any:
    made = Dataset()
    for keyword in _PLACES_THE_IMAGE:
        if keyword in header:
            made[keyword] = copy(header[keyword])
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        if keyword in made:
            setattr(made, keyword, [_geometry(item) for item in header[keyword].value])
    if hasattr(header, "file_meta"):
        made.file_meta = header.file_meta
    return made


def _geometry(group: Any) -> Any:
    kept = Dataset()
    for keyword in _GEOMETRY_GROUPS:
        if keyword in group:
            kept[keyword] = group[keyword]
    return kept


def duplicate(header: Any) -> Any:
    """A data set of its own with the same values; ``copy.copy`` and ``update`` would share its elements."""
    made = Dataset()
    for element in header:
        made[element.tag] = copy(element)
    if hasattr(header, "file_meta"):
        made.file_meta = header.file_meta
    return made


def mark_deidentified(made: Any) -> None:
    """Say in a new object that it names nobody (PS3.15 E.1, CID 7050)."""
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "MedSeg: only geometry and UIDs of the images"
    made.DeidentificationMethodCodeSequence = []
    for value, meaning in (
        ("113100", "Basic Application Confidentiality Profile"),
        ("113110", "Retain UIDs Option"),
    ):
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        made.DeidentificationMethodCodeSequence.append(code)
