"""Images in files: each format, with and without compression, 3D and 4D."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from medseg import read_volume
from medseg.geometry.grid import Grid
from medseg.output.files import write_segmentation
from medseg.result import Layer, SegmentClass
from support.io_samples import nifti_bytes

from .kind import Files, Kind

_ARRAY = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)


def _nifti(gz: bool = False, frames: bool = False) -> Callable[[], Files]:
    def sample() -> Files:
        array = np.stack([_ARRAY, _ARRAY]) if frames else _ARRAY
        data = nifti_bytes(array, sform=np.eye(4), sform_code=1, quaternion=(0.1, 0, 0), qform_code=1, slope=2)
        return {"image.nii.gz": gzip.compress(data)} if gz else {"image.nii": data}

    return sample


def _mgh(name: str) -> Callable[[], Files]:
    def sample() -> Files:
        data = nib.MGHImage(_ARRAY.astype(np.float32).T, np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes()
        return {name: gzip.compress(data) if name.endswith("z") else data}

    return sample


def _itk(name: str, *, packed: bool, frames: bool = False, channels: bool = False) -> Callable[[], Files]:
    def sample() -> Files:
        array = np.stack([_ARRAY] * 3, axis=-1) if channels else _ARRAY
        image: Any = sitk.GetImageFromArray(array, isVector=channels)
        image.SetSpacing((1.0, 2.0, 3.0))
        image.SetMetaData("modality", "MR")
        library: Any = sitk
        image = library.JoinSeries([image, image]) if frames else image
        with tempfile.TemporaryDirectory() as folder:
            sitk.WriteImage(image, str(Path(folder) / name), useCompression=packed)
            return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}

    return sample


def _segmentation() -> Files:
    layers = [
        Layer((_ARRAY % 3).astype(np.uint8), (SegmentClass(1, "one", (1, 0, 0)), SegmentClass(2, "two", (0, 1, 0))))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.seg.nrrd"
        write_segmentation(path, layers, Grid((7, 6, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3)))
        return {path.name: path.read_bytes()}


def _picture(name: str, colour: bool = False) -> Callable[[], Files]:
    def sample() -> Files:
        array = (np.arange(40 * 30) % 251).astype(np.uint8).reshape(30, 40)
        image: Any = sitk.GetImageFromArray(np.stack([array] * 3, axis=-1) if colour else array, isVector=colour)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            sitk.WriteImage(image, str(path))
            return {name: path.read_bytes()}

    return sample


def _read(name: str, **options: Any) -> Callable[[Path], Any]:
    return lambda folder: read_volume(folder / name, **options)


def _kind(kind: str, sample: Callable[[], Files], file: str, **options: Any) -> Kind:
    return Kind(kind, "volumes", sample, _read(file, **options))


KINDS = [
    _kind("nifti", _nifti(), "image.nii"),
    _kind("nifti-gz", _nifti(gz=True), "image.nii.gz"),
    _kind("nifti-4d", _nifti(frames=True), "image.nii", frame=2),
    _kind("mgh", _mgh("image.mgh"), "image.mgh"),
    _kind("mgz", _mgh("image.mgz"), "image.mgz"),
    _kind("nrrd", _itk("image.nrrd", packed=False), "image.nrrd"),
    _kind("nrrd-gzip", _itk("image.nrrd", packed=True), "image.nrrd"),
    _kind("nrrd-4d", _itk("image.nrrd", packed=False, frames=True), "image.nrrd"),
    _kind("nrrd-vector", _itk("image.nrrd", packed=False, channels=True), "image.nrrd"),
    _kind("nrrd-detached", _itk("image.nhdr", packed=False), "image.nhdr"),
    _kind("segmentation", _segmentation, "s.seg.nrrd"),
    _kind("metaimage", _itk("image.mha", packed=False), "image.mha"),
    _kind("metaimage-zlib", _itk("image.mha", packed=True), "image.mha"),
    _kind("metaimage-detached", _itk("image.mhd", packed=False), "image.mhd"),
    _kind("png", _picture("film.png"), "film.png"),
    _kind("jpeg", _picture("film.jpg", colour=True), "film.jpg"),
    _kind("tiff", _picture("film.tif"), "film.tif"),
]
