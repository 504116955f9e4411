"""Writers of small NIfTI and DICOM files with chosen header fields, also wrong ones, for the tests of `medseg.io`."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
DX_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
_NIFTI_TYPE = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512}


def nifti_bytes(
    array: np.ndarray,
    *,
    sform: Any = None,
    sform_code: int = 0,
    qform_code: int = 0,
    quaternion: Any = (0, 0, 0),
    shift: Any = (0, 0, 0),
    pixdim: Any = (1, 1, 2, 3),
    slope: float = 1,
    intercept: float = 0,
    units: int = 2,
) -> bytes:
    """A NIfTI-1 file of ``array`` (..., K, J, I)."""
    header = bytearray(352)
    dims = list(reversed(array.shape))
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, len(dims), *dims, *[1] * (7 - len(dims)))
    struct.pack_into("<hh", header, 70, _NIFTI_TYPE[array.dtype.name], array.dtype.itemsize * 8)
    struct.pack_into("<8f", header, 76, *pixdim, *[0] * (8 - len(pixdim)))
    struct.pack_into("<fff", header, 108, 352, slope, intercept)
    header[123] = units
    struct.pack_into("<hh", header, 252, qform_code, sform_code)
    struct.pack_into("<6f", header, 256, *quaternion, *shift)
    if sform is not None:
        struct.pack_into("<12f", header, 280, *np.asarray(sform, float)[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(array).tobytes()


def write_nifti(path: Path, array: np.ndarray, *, cut: int | None = None, **fields: Any) -> Path:
    """Write a NIfTI file; ``cut`` removes that many bytes from its end."""
    data = nifti_bytes(array, **fields)
    if path.name.endswith(".gz"):
        data = gzip.compress(data)
    path.write_bytes(data[: len(data) - cut] if cut else data)
    return path


def dicom_dataset(pixels: np.ndarray, **tags: Any) -> FileDataset:
    """A CT slice of ``pixels`` (J, I[, 3]) or frames; ``tags`` override, None removes a tag."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    samples = 3 if pixels.ndim == 3 and pixels.shape[2] == 3 else 1
    signed = np.issubdtype(pixels.dtype, np.signedinteger)
    bits = pixels.dtype.itemsize * 8
    defaults: dict[str, Any] = {
        "SOPClassUID": CT_CLASS,
        "SOPInstanceUID": generate_uid(),
        "SeriesInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "Modality": "CT",
        "SeriesNumber": 7,
        "PatientName": "SECRET^NAME",
        "PatientID": "SECRET-ID",
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": [1.0, 0, 0, 0, 1, 0],
        "PixelSpacing": [1.0, 1.0],
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "Rows": pixels.shape[-3] if samples == 3 else pixels.shape[-2],
        "Columns": pixels.shape[-2] if samples == 3 else pixels.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "RescaleSlope": 1.0,
        "RescaleIntercept": 0.0,
    }
    if samples == 3:
        defaults["PlanarConfiguration"] = 0
    for keyword, value in {**defaults, **tags}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CT_CLASS)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3.5")
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return dataset


def write_dicom(path: Path, pixels: np.ndarray, **tags: Any) -> Path:
    """Write a DICOM file made by `dicom_dataset`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, dicom_dataset(pixels, **tags), enforce_file_format=True)
    return path
