"""Complete DICOM images as scanners write them: series of slices, enhanced multi-frame, films. Names are invented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "enhanced MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "enhanced CT": "1.2.840.10008.5.1.4.1.1.2.1",
}
PATIENT = {
    "PatientName": "Example^Anna", "PatientID": "EX-17", "PatientBirthDate": "19500102", "PatientSex": "F",
    "StudyDate": "20240305", "StudyTime": "101500", "StudyID": "S1", "AccessionNumber": "A99",
    "ReferringPhysicianName": "Example^Doctor", "StudyDescription": "Head", "PatientAge": "074Y",
}  # fmt: skip


def image(kind: str, pixels: np.ndarray, **tags: Any) -> FileDataset:
    """An image of ``kind`` (a key of `CLASSES`) without a place; ``tags`` are set last, None removes one."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CLASSES[kind]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CLASSES[kind], meta.MediaStorageSOPInstanceUID
    bits = pixels.dtype.itemsize * 8
    defaults = {
        **PATIENT, "Modality": kind[-2:], "SeriesNumber": 4, "SeriesDescription": "Example series",
        "Manufacturer": "Example maker", "ManufacturerModelName": "Example", "ImageType": ["ORIGINAL", "PRIMARY"],
        "FrameOfReferenceUID": generate_uid(), "PositionReferenceIndicator": "", "PatientPosition": "HFS",
        "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "InstanceNumber": 1,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1], "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }  # fmt: skip
    if kind in ("CT", "enhanced CT"):
        defaults |= {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU"}
    for keyword, value in {**defaults, **tags}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return dataset


def write_series(
    folder: Path, array: np.ndarray, positions: Sequence[Sequence[float]], kind: str = "CT",
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0), spacing: Sequence[float] = (1.0, 1.0), thickness: float = 2.0,
    **tags: Any,
) -> list[Path]:  # fmt: skip
    """A series of one file a slice of ``array`` (K, J, I), in the order of ``positions`` (LPS mm, first pixel)."""
    folder.mkdir(parents=True, exist_ok=True)
    same = {
        "SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid()
    }  # fmt: skip
    paths = []
    for n, (pixels, position) in enumerate(zip(array, positions, strict=True), start=1):
        place = {
            "ImagePositionPatient": [f"{v:.6f}" for v in position], "ImageOrientationPatient": list(orientation),
            "PixelSpacing": list(spacing), "SliceThickness": thickness, "InstanceNumber": n,
        }  # fmt: skip
        paths.append(folder / f"{n:03d}.dcm")
        pydicom.dcmwrite(paths[-1], image(kind, pixels, **{**same, **place, **tags}), enforce_file_format=True)
    return paths


def write_enhanced(
    path: Path, array: np.ndarray, positions: Sequence[Sequence[float]], kind: str = "enhanced MR",
    times: Sequence[int] | None = None, **tags: Any,
) -> Path:  # fmt: skip
    """One file with all slices of ``array`` (K, J, I); ``times``: the time point of each slice, if any."""
    dataset = image(kind, array, NumberOfFrames=len(array), **tags)
    dataset.ContentDate, dataset.ContentTime = "20240305", "102000"
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 1.0], 2.5
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for n, position in enumerate(positions):
        frame, place, content = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [f"{v:.6f}" for v in position]
        content.FrameAcquisitionNumber = n + 1
        if times is not None:
            content.TemporalPositionIndex = times[n]
            extra = Dataset()
            extra.TemporalPositionIdentifier = times[n]
            frame.TemporalPositionSequence = [extra]
        frame.PlanePositionSequence, frame.FrameContentSequence = [place], [content]
        groups.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = groups
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_film(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """A frontal chest film: ``pixels`` (J, I) of 8 bits."""
    given = {
        "ImagerPixelSpacing": [0.5, 0.5], "ViewPosition": "PA", "PatientOrientation": ["L", "F"],
        "BodyPartExamined": "CHEST", "WindowCenter": 128, "WindowWidth": 256, "PixelIntensityRelationship": "LOG",
        "PresentationLUTShape": "IDENTITY", "PatientPosition": None, "FrameOfReferenceUID": None,
        "PositionReferenceIndicator": None,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, image("DX", pixels, **{**given, **tags}), enforce_file_format=True)
    return path
