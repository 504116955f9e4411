"""A volume: numbers on a grid. It knows nothing about files (see `medseg.io`) or nodes (see `medseg_mrml`)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .grid import Grid


@dataclass(frozen=True, eq=False)
class SliceStack:
    """The slices of a DICOM series as they were acquired, where they do not form a regular grid.

    ``pixels``: (K, J, I) in the units of the volume. ``grids``: K grids of one slice each, in LPS mm, true position
    (gantry tilt and uneven spacing included). ``instance_uids``: SOP Instance UID of each slice, for tables only.
    """

    pixels: npt.NDArray[Any]
    grids: tuple[Grid, ...]
    instance_uids: tuple[str, ...] = ()


#: DICOM modalities whose images are projections: their pixels have an area, but no volume.
PROJECTIONS = frozenset({"CR", "DX", "DR", "RG", "MG", "IO", "PX", "RF", "XA"})


@dataclass(frozen=True, eq=False)
class Volume:
    """``array`` (K, J, I) or (K, J, I, C) on ``grid``.

    ``modality``: DICOM code (CT, MR, CR, DX) or None where unknown. ``name``: what messages call it (file or node
    name; never a patient name). ``tags``: the few non-identifying DICOM values that steps need, by keyword
    (BitsStored, PixelRepresentation, RescaleSlope, RescaleIntercept, PhotometricInterpretation,
    WindowCenter, WindowWidth), ``SOPInstanceUID`` as a list of one for each slice, and ``SpacingAssumed`` or
    ``SpacingAtDetector`` (True) where readers know that the spacing is not the patient's; ``SlicesReversed`` (True)
    where k runs the other way in the file that this was read from, as Slicer does it. ``stack``: the acquired
    slices where `grid` had to be made regular.
    ``warnings``: what reading found (gantry tilt, missing slices, assumed spacing), as sentences with numbers.
    ``frames``: what each frame is (a time, an echo, a b-value) where the last axis of ``array`` counts frames.
    """

    array: npt.NDArray[Any]
    grid: Grid
    modality: str | None = None
    name: str = "volume"
    tags: dict[str, Any] = field(default_factory=dict)
    stack: SliceStack | None = None
    warnings: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4) or self.array.shape[:3] != self.grid.shape:
            raise InputError(
                f"{self.name}: the array of shape {self.array.shape} does not fit a grid of "
                f"{'x'.join(map(str, self.grid.size))} voxels (i, j, k)."
            )

    @property
    def channels(self) -> int:
        """Values per voxel: 1 for a scalar volume, 3 for RGB."""
        return 1 if self.array.ndim == 3 else int(self.array.shape[3])

    @property
    def is_projection(self) -> bool:
        """Whether it is a film: by modality, or a single slice of unknown modality without a spacing of its own."""
        if self.modality is not None:
            return self.modality in PROJECTIONS
        return 1 in self.grid.size and not self.pixel_spacing_known

    @property
    def pixel_spacing_known(self) -> bool:
        """False where readers had to assume it; 1 mm without a modality is what pictures get."""
        return not self.tags.get("SpacingAssumed") and (self.modality is not None or set(self.grid.spacing) != {1.0})

    def require_scalar(self) -> Volume:
        """This volume, or `InputError` where it has several values per voxel."""
        if len(self.frames) > 1:
            raise InputError(
                f"{self.name} has {len(self.frames)} frames, but the model wants one; choose it (--frame NUMBER), or "
                f"run each (--frame all):\n{listing(self.frames)}"
            )
        if self.array.ndim == 4 and self.array.shape[3] != 1:
            raise InputError(
                f"{self.name} has {self.array.shape[3]} values per voxel (colour or 4D), but the model wants a scalar "
                "volume; choose one component or frame and save or select that."
            )
        if self.array.ndim == 4:
            return replace(self, array=self.array[..., 0])
        return self

    def frame(self, number: int) -> Volume:
        """Frame ``number`` (from 1) as a scalar volume named after it; `InputError` where there is no such frame."""
        if not self.frames:
            if number == 1 and self.channels == 1:
                return self
            raise InputError(f"{self.name} has no frames, so frame {number} cannot be chosen; leave --frame out.")
        at = chosen_frame(self.frames, number, self.name)
        array = np.ascontiguousarray(self.array[..., at])
        return replace(self, array=array, name=f"{self.name} ({self.frames[at]})", frames=())

    def require_finite(self) -> Volume:
        """This volume, or `InputError` where it holds NaN or infinity."""
        if np.issubdtype(self.array.dtype, np.floating) and not np.isfinite(self.array).all():
            bad = int((~np.isfinite(self.array)).sum())
            raise InputError(
                f"{self.name} has {bad} voxels that are NaN or infinite; replace them (for example by the background "
                "value) and try again."
            )
        return self


def chosen_frame(frames: tuple[str, ...], number: int, name: str) -> int:
    """The index of frame ``number`` (from 1); `InputError` that lists what there is."""
    if not 1 <= number <= len(frames):
        raise InputError(f"{name} has no frame {number}; it has:\n{listing(frames)}")
    return number - 1


def listing(frames: tuple[str, ...], limit: int = 12) -> str:
    """The frames with their numbers, a line each; of very many the first ones."""
    lines = [f"  {n}: {label}" for n, label in enumerate(frames[:limit], start=1)]
    return "\n".join([*lines, *([f"  ... {len(frames)}: {frames[-1]}"] if len(frames) > limit else [])])
