"""DICOM: a file, a series, several frames in one file, a film, compressed pixels, a DICOMDIR."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from medseg import read_volume
from medseg.io import list_series
from support.io_samples import DX_CLASS, dicom_dataset

from .kind import Files, Kind

_PIXELS = (np.arange(16 * 12) % 500).astype(np.int16).reshape(16, 12)


def _bytes(dataset: Any) -> bytes:
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _slice(n: int, **tags: Any) -> Any:
    uid = f"1.2.3.4.{n + 1}"
    return dicom_dataset(
        _PIXELS + n,
        SOPInstanceUID=uid,
        ImagePositionPatient=[0.0, 0.0, 2.0 * n],
        SliceThickness=2.0,
        InstanceNumber=n + 1,
        **tags,
    )


def _one() -> Files:
    return {"image.dcm": _bytes(_slice(0))}


def _series() -> Files:
    return {f"{n}.dcm": _bytes(_slice(n)) for n in range(3)}


def _film() -> Files:
    pixels = (np.arange(16 * 12) % 4000).astype(np.uint16).reshape(16, 12)
    tags = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    film = dicom_dataset(
        pixels,
        SOPClassUID=DX_CLASS,
        Modality="DX",
        SOPInstanceUID="1.2.3.9",
        ImagerPixelSpacing=[0.2, 0.2],
        PatientOrientation=["L", "F"],
        ViewPosition="PA",
        WindowCenter=2000,
        WindowWidth=3000,
        **tags,
    )
    return {"film.dcm": _bytes(film)}


def _frames() -> Files:
    dataset = _slice(0, SOPClassUID=str(EnhancedCTImageStorage))
    dataset.NumberOfFrames = 3
    dataset.PixelData = np.stack([_PIXELS + n for n in range(3)]).tobytes()
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = dataset.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = [1.0, 1.0], 2.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for n in range(3):
        group, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0.0, 0.0, 2.0 * n]
        rescale.RescaleSlope, rescale.RescaleIntercept = 1.0, -10.0
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [rescale]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return {"frames.dcm": _bytes(dataset)}


def _compressed() -> Files:
    dataset = _slice(0)
    dataset.compress(RLELossless, generate_instance_uid=False)
    return {"image.dcm": _bytes(dataset)}


def _index() -> Files:
    files = FileSet()
    with tempfile.TemporaryDirectory() as folder:
        for n in range(2):
            files.add(
                _slice(n, PatientName="A", StudyDate="20200101", StudyTime="120000", StudyID="1", AccessionNumber="")
            )
        files.write(folder)
        root = Path(folder)
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _kind(name: str, sample: Callable[[], Files], read: Callable[[Path], Any], damage: tuple[str, ...] = ()) -> Kind:
    return Kind(name, "dicom", sample, read, damage=damage)


KINDS = [
    _kind("dicom", _one, lambda folder: read_volume(folder / "image.dcm")),
    _kind("dicom-series", _series, read_volume),
    _kind("dicom-film", _film, lambda folder: read_volume(folder / "film.dcm")),
    _kind("dicom-frames", _frames, lambda folder: read_volume(folder / "frames.dcm")),
    _kind("dicom-rle", _compressed, lambda folder: read_volume(folder / "image.dcm")),
    _kind("dicom-list", _series, list_series),
    _kind("dicomdir", _index, lambda folder: read_volume(folder / "DICOMDIR"), ("DICOMDIR",)),
]
