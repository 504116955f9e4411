"""`read_volume`: any supported file or DICOM folder -> `Volume`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError, MedSegError, readable
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ..monitor import Monitor
from ._common import SUPPORTED, check_file, compact, is_dicom_head
from .itk import ItkImage, read_itk
from .pictures import read_picture

_MODALITIES = ("CT", "MR", "PT", "CR", "DX", "NM", "US")


def read_volume(
    path: str | Path,
    *,
    series: str | int | None = None,
    frame: int | None = None,
    monitor: Monitor | None = None,
) -> Volume:
    """Read a file or a DICOM folder.

    ``path``: NIfTI, MGH, NRRD, MetaImage, DICOM (a file, a folder with its sub-folders, a DICOMDIR), PNG, JPEG or TIFF.
    ``series``: number or UID of the DICOM series where a folder has several; without it they are listed in the error.
    ``frame``: number, from 1, of a time, echo or b-value of a 4D image; without it all are read (`Volume.frames`).
    ``monitor``: hears progress and warnings; the warnings are in ``Volume.warnings`` as well.

    Integers keep their type, double becomes float32, DICOM values are rescaled (HU for CT), films become 0 to 255.
    4D and colour give ``array`` (K, J, I, C). Raises `InputError`, whose sentence names the file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            from .dicom import read_dicom  # pydicom takes a third of a second to load

            volume = read_dicom(path, series, frame, monitor)
        else:
            head = check_file(path)
            volume = _read_file(path, head, series, frame, monitor)
    except MemoryError as error:
        raise InputError(f"{path.name} does not fit into the memory of this machine.") from error
    except InputError as error:
        if path.name in str(error):
            raise
        raise InputError(f"{path.name}: {error}") from error
    except MedSegError:
        raise
    except Exception as error:  # libraries raise nearly anything on damaged files
        raise InputError(
            f"{path.name} cannot be read: it is damaged in an unexpected way ({type(error).__name__}); copy or "
            "export it again."
        ) from error
    volume = replace(volume, warnings=tuple(map(readable, volume.warnings)))
    if monitor is not None:
        for sentence in volume.warnings:
            monitor.warn(sentence)
    return volume


def _read_file(path: Path, head: bytes, series: str | int | None, frame: int | None, monitor: Monitor | None) -> Volume:
    name = path.name.lower()
    if is_dicom_head(head):
        from .dicom import read_dicom

        return read_dicom(path, series, frame, monitor)
    if series is not None:
        raise InputError(f"{path.name} is not DICOM, so no series can be chosen in it; leave the series out.")
    for suffixes, reader in _READERS:
        if name.endswith(suffixes):
            volume = reader(path)
            return volume if frame is None else volume.frame(frame)
    if name.endswith((".dcm", ".ima")):
        raise InputError(f"{path.name} is not a DICOM file, although its name says so; check what the file is.")
    raise InputError(f"{path.name} is not an image of a kind that is supported ({SUPPORTED}).")


def read_nifti(path: Path) -> Volume:
    """NIfTI and MGH; imported here, so that 3D Slicer, whose users' masks may be NIfTI, needs no nibabel."""
    try:
        from . import nifti
    except ModuleNotFoundError as error:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            volume = _read_with_itk(path)
            told = f"{path.name} was read by ITK, as nibabel is not installed; damaged headers are noticed less surely."
            return replace(volume, warnings=(*volume.warnings, told))
        raise InputError(f"{path.name} needs the package nibabel to be read; install it and try again.") from error
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return nifti.read_nifti(path)
    from . import mgh

    return mgh.read_mgh(path)


def _read_with_itk(path: Path) -> Volume:
    """NRRD and MetaImage. 4D and vector images become (K, J, I, C), 2D images one slice of 1 mm."""
    warnings: list[str] = []
    image = read_itk(path)
    array = image.array  # (..., K, J, I[, C])
    if image.components == 1:
        array = array[..., np.newaxis]
    if image.dimension == 2:
        array = array[np.newaxis]
        warnings.append(f"{path.name} is a 2D image; it is taken as one axial slice of 1 mm.")
    else:
        # frames and components together last
        array = np.moveaxis(array.reshape(-1, *array.shape[-4:]), 0, -2)
        array = array.reshape(*array.shape[:3], -1)
    array = array[..., 0] if array.shape[3] == 1 else array
    frames = _frames(image) if image.components == 1 or image.dimension == 4 else _gradients(image)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        space = image.metadata.get("NRRD_space", "none")
        if not space.startswith("left-posterior-superior"):  # ITK turns the other patient spaces into this one
            warnings.append(
                f"{path.name} does not say how it lies in the patient (space field: {space}); LPS axes were assumed."
            )
    return Volume(
        compact(np.ascontiguousarray(array), path.name, warnings),
        itk_grid(image),
        _modality(image),
        name=path.name,
        warnings=tuple(warnings),
        frames=frames,
    )


def _frames(image: ItkImage) -> tuple[str, ...]:
    """What the frames of a 4D image of scalars are."""
    count = image.size[3] if image.dimension == 4 and image.components == 1 else 1
    return tuple(f"frame at {image.origin[3] + n * image.spacing[3]:g}" for n in range(count)) if count > 1 else ()


def _gradients(image: ItkImage) -> tuple[str, ...]:
    """What the components of a diffusion NRRD are; of other vectors nothing is said, they may be colours."""
    if "DWMRI_b-value" not in image.metadata:
        return ()
    full = image.metadata["DWMRI_b-value"].strip()
    labels = []
    for n in range(image.components):
        direction = image.metadata.get(f"DWMRI_gradient_{n:04d}", "").split()
        still = all(float(d) == 0 for d in direction) if direction else False
        labels.append("b-value 0" if still else f"b-value {full} s/mm2, gradient {' '.join(direction)}".rstrip(", "))
    return tuple(labels)


def _modality(image: ItkImage) -> str | None:
    """The DICOM code in the NRRD key ``modality`` or the MetaImage field ``Modality`` (``MET_MOD_CT``), if any."""
    for key in ("modality", "Modality"):
        code = image.metadata.get(key, "").strip().removeprefix("MET_MOD_")
        if code in _MODALITIES:
            return code
    return None


def itk_grid(image: ItkImage) -> Grid:
    """Grid of the first three axes, from the matrix: columns of a sheared ITK direction need not be unit vectors."""
    affine = np.eye(4)
    n = min(image.dimension, 3)
    affine[:n, :n] = (image.direction * np.array(image.spacing))[:n, :n]
    affine[:n, 3] = image.origin[:n]
    size = (*image.size, 1)[:3]
    return Grid.from_affine(affine, size)


_READERS: tuple[tuple[tuple[str, ...], Callable[[Path], Volume]], ...] = (
    ((".nii", ".nii.gz", ".mgh", ".mgz"), read_nifti),
    ((".nrrd", ".nhdr", ".mha", ".mhd"), _read_with_itk),
    ((".png", ".jpg", ".jpeg", ".tif", ".tiff"), read_picture),
)
