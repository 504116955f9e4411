"""Small DICOM Segmentation objects, written with pydicom alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels.utils import pack_bits
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medseg.geometry.grid import Grid

SEG, LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"


def code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def write_dicom_seg(path: Path, masks: dict[str, np.ndarray], grid: Grid, kind: str = "BINARY") -> Path:
    """``masks`` (K, J, I) by name; only frames that hold something are written.

    ``kind``: BINARY, FRACTIONAL or LABELMAP.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = LABEL_MAP if kind == "LABELMAP" else SEG
    meta.MediaStorageSOPInstanceUID = generate_uid()
    seg = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    seg.SOPClassUID, seg.SOPInstanceUID, seg.Modality = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
        "SEG",
    )
    seg.SegmentationType, seg.SegmentSequence = kind, []
    for number, name in enumerate(masks, start=1):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = number, name
        item.SegmentedPropertyCategoryCodeSequence = [code("49755003", "Morphologically Altered Structure")]
        item.SegmentedPropertyTypeCodeSequence = [code("52988006", "Lesion")]
        item.RecommendedDisplayCIELabValue = [34885, 53485, 50171]  # pure red
        seg.SegmentSequence.append(item)
    frames, groups = [], []
    everything = sum(n * np.asarray(m, np.uint8) for n, m in enumerate(masks.values(), start=1))
    listed = [(0, everything)] if kind == "LABELMAP" else list(enumerate(masks.values(), start=1))
    for number, mask in listed:
        for k in range(grid.size[2]):
            if not np.any(mask[k]):
                continue
            group, place = Dataset(), Dataset()
            place.ImagePositionPatient = [f"{v:.8g}"[:16] for v in grid.to_physical([0, 0, k])]
            group.PlanePositionSequence = [place]
            if number:
                segment = Dataset()
                segment.ReferencedSegmentNumber = number
                group.SegmentIdentificationSequence = [segment]
            groups.append(group)
            frames.append(np.asarray(mask[k]))
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [f"{v:.8g}"[:16] for v in (*grid.direction[:, 0], *grid.direction[:, 1])]
    measures.PixelSpacing = [grid.spacing[1], grid.spacing[0]]
    measures.SpacingBetweenSlices = measures.SliceThickness = grid.spacing[2]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    seg.SharedFunctionalGroupsSequence, seg.PerFrameFunctionalGroupsSequence = [shared], groups
    seg.NumberOfFrames, seg.Rows, seg.Columns = len(frames), grid.size[1], grid.size[0]
    seg.SamplesPerPixel, seg.PhotometricInterpretation, seg.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    seg.BitsAllocated, seg.BitsStored, seg.HighBit = bits, bits, bits - 1
    pixels = np.stack(frames)
    if kind == "BINARY":
        seg.PixelData = pack_bits((pixels > 0).astype(np.uint8).ravel())
    else:
        if kind == "FRACTIONAL":
            seg.MaximumFractionalValue = 200
        data = np.rint(pixels * (200 if kind == "FRACTIONAL" else 1)).astype(np.uint8).tobytes()
        seg.PixelData = data + b"\0" * (len(data) % 2)
    pydicom.dcmwrite(path, seg, enforce_file_format=True)
    return path
