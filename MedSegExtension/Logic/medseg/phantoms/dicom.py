"""Write a CT phantom as a DICOM series, so that reading is tested on files as a scanner writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .phantom import Phantom

_ROOT = "1.2.826.0.1.3680043.8.498."  # pydicom's own root: these UIDs are made up, not registered to an organisation


def write_dicom_series(phantom: Phantom, folder: Path | str, *, wrapped_12_bit: bool = False) -> list[Path]:
    """Write one CT image file a slice into ``folder`` (made where missing) and return the paths, inferior first.

    Identifiers are invented and say so. ``wrapped_12_bit``: stored as BitsStored 12, PixelRepresentation 0 with
    RescaleIntercept 0 and HU modulo 4096 (air becomes 3096), the fault that the haemorrhage models'
    12-bit correction undoes (clipped to -1000..3095 HU). Raises `InputError` for a volume that is not CT.
    """
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    volume = phantom.volume
    if volume.modality != "CT":
        raise InputError(f"{volume.name} is {volume.modality}, but only CT phantoms can be written as a CT series.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tag = sum(volume.name.encode()) % 9973
    study, series, frame = (f"{_ROOT}{tag}.{n}" for n in (1, 2 + wrapped_12_bit, 9))
    direction, spacing = volume.grid.direction, volume.grid.spacing
    paths = []
    for k in range(volume.grid.size[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = UID(f"{series}.{k + 1}")
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image: Dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientName, image.PatientID = "Phantom^Synthetic", f"PHANTOM-{tag:04d}"
        image.PatientBirthDate, image.PatientSex = "", ""
        image.StudyDate, image.StudyTime, image.AccessionNumber = "20200101", "120000", ""
        image.ReferringPhysicianName, image.StudyID = "", "1"
        image.Modality, image.Manufacturer, image.SeriesDescription = "CT", "MedSeg phantom", "Synthetic head"
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.SeriesNumber, image.InstanceNumber = 2 + wrapped_12_bit, k + 1
        image.PatientPosition, image.PositionReferenceIndicator = "HFS", ""
        image.ImageOrientationPatient = [round(float(v), 8) for v in (*direction[:, 0], *direction[:, 1])]
        image.ImagePositionPatient = [round(float(v), 6) for v in volume.grid.to_physical([0, 0, k])]
        image.PixelSpacing = [round(spacing[1], 6), round(spacing[0], 6)]
        image.SliceThickness = round(spacing[2], 6)
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.Rows, image.Columns, image.BitsAllocated = volume.grid.size[1], volume.grid.size[0], 16
        image.RescaleSlope, image.RescaleType = 1, "HU"
        image.WindowCenter, image.WindowWidth = 40, 80
        hu = np.asarray(volume.array[k], dtype=np.int32)
        if wrapped_12_bit:
            # The correction is px + 1000, less 4096 where that is 4096 or more, with intercept -1000.
            stored = np.mod(np.clip(hu, -1000, 3095), 4096).astype(np.uint16)
            image.BitsStored, image.HighBit, image.PixelRepresentation, image.RescaleIntercept = 12, 11, 0, 0
        else:
            stored = hu.astype(np.int16).view(np.uint16)
            image.BitsStored, image.HighBit, image.PixelRepresentation, image.RescaleIntercept = 16, 15, 1, 0
        image.PixelData = stored.astype("<u2").tobytes()
        path = folder / f"{k + 1:04d}.dcm"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
