"""One DICOM file -> data set and numbers in the units of its modality (HU for CT)."""

from __future__ import annotations

import logging
import warnings as python_warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from ..errors import InputError
from ._common import Array, check_file, compact, rescaled
from .dicom_series import MODALITY_OF_CLASS
from .itk import read_itk

# Odd headers are judged here and told in the volume's warnings; pydicom's own remarks are not for users.
logging.getLogger("pydicom").setLevel(logging.ERROR)


def read_dataset(path: Path) -> Any:
    """The whole data set; `InputError` where the file is cut, damaged, or no image."""
    check_file(path)
    truncated = f"{path.name} is a truncated or damaged DICOM file; copy or export it again."
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            rows = dataset.get("Rows")
    except Exception as error:  # pydicom raises nearly anything on damaged files
        raise InputError(truncated) from error
    if rows is None and "SOPClassUID" not in dataset:  # what pydicom gives for a file that ends inside a value
        raise InputError(truncated)
    if rows is None and str(dataset.SOPClassUID) in MODALITY_OF_CLASS:
        raise InputError(truncated)
    if rows is None:
        kind = str(dataset.get("Modality") or "object")
        raise InputError(f"{path.name} is a DICOM {kind} without an image; give an image or the folder of a series.")
    if not any(key in dataset for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(f"{path.name} has no pixel data: it is truncated or only a header; copy or export it again.")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        little_syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = little_syntax if little else ExplicitVRBigEndian
    try:
        _ = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    except ValueError:
        raise InputError(
            f"{path.name} states an encoding that is none (its Transfer Syntax UID); it is damaged, export it again."
        ) from None
    return dataset


def read_frames(dataset: Any, path: Path) -> tuple[Array, bool]:
    """Frames (F, J, I) or (F, J, I, 3), and True where they are rescaled already (GDCM does that)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    frames = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if syntax.is_encapsulated and syntax != RLELossless:
        if "PerFrameFunctionalGroupsSequence" in dataset:
            raise InputError(
                f"{path.name} is a compressed multi-frame image ({syntax.name}), which is not supported; "
                "decompress it (for example with dcmdjpeg or gdcmconv --raw) and try again."
            )
        try:
            array = read_itk(path).array
        except InputError as error:
            raise InputError(
                f"{path.name} is compressed ({syntax.name}) and could not be decompressed: it is damaged, or that "
                "compression is not supported; decompress it (for example with gdcmconv --raw) and try again."
            ) from error
        if array.dtype == np.int32 and array.min() >= -32768 and array.max() <= 32767:
            array = array.astype(np.int16)  # GDCM widens whatever it rescales
        done = "ModalityLUTSequence" not in dataset
    else:
        try:
            with python_warnings.catch_warnings():
                python_warnings.simplefilter("ignore")
                array = pixel_array(dataset)
        except Exception as error:  # as above: cut pixel data, missing tags, unknown syntax
            raise InputError(
                f"{path.name}: its pixel data cannot be decoded (truncated, damaged, or of an unknown encoding: "
                f"{syntax.name}); copy or export it again."
            ) from error
        done = False
    shape = (frames, int(dataset.Rows), int(dataset.Columns), *([samples] if samples > 1 else []))
    if array.size != int(np.prod(shape)):
        raise InputError(f"{path.name}: its pixel data do not have the size that its header says; export it again.")
    return array.reshape(shape), done


def modality_values(frame: Array, dataset: Any, holder: Any, done: bool, warnings: list[str], name: str) -> Array:
    """Stored values -> modality values (PS3.3 C.11.1): Modality LUT, or the rescale that ``holder`` has."""
    if not done and "ModalityLUTSequence" in dataset:
        return compact(np.asarray(apply_modality_lut(frame, dataset)), name, warnings)
    if not done:
        slope, intercept = _number(holder, "RescaleSlope", 1.0), _number(holder, "RescaleIntercept", 0.0)
        if slope == 0 or not np.isfinite([slope, intercept]).all():
            warnings.append(
                f"{name}: its rescale slope {slope} and intercept {intercept} are not valid and were ignored."
            )
        else:
            frame = rescaled(frame, slope, intercept)
    return compact(frame, name, warnings)


def _number(dataset: Any, keyword: str, missing: float) -> float:
    value = dataset.get(keyword)
    return missing if value in (None, "") else float(value)
