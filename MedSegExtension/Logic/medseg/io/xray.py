"""DICOM films (CR, DX and other projections): display values 0 to 255, and their place and spacing.

Networks for films were trained on 8-bit pictures, so a film is read as it is displayed: modality values, then VOI LUT
or window (PS3.3 C.11.2), inverted for MONOCHROME1, scaled to uint8 0..255. Padding pixels become 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import PROJECTIONS, Volume
from ._common import Array
from .pictures import film_grid, to_grey

_SLICES = {"CT", "MR", "PT", "NM"}
_AXES = {"L": (1.0, 0, 0), "R": (-1.0, 0, 0), "P": (0, 1.0, 0), "A": (0, -1.0, 0), "H": (0, 0, 1.0), "F": (0, 0, -1.0)}


def is_film(dataset: Any, modality: str | None) -> bool:
    """True for a projection: by modality, or one frame that has no place in patient space (a secondary capture)."""
    if modality in PROJECTIONS:
        return True
    placed = "ImageOrientationPatient" in dataset or "PerFrameFunctionalGroupsSequence" in dataset
    return not placed and modality not in _SLICES and int(dataset.get("NumberOfFrames") or 1) == 1


def read_film(
    dataset: Any, values: Array, modality: str | None, tags: dict[str, Any], name: str, warnings: list[str]
) -> Volume:
    """Volume of one slice from a projection's modality values (1, J, I) or (1, J, I, 3)."""
    if len(values) != 1:
        raise InputError(f"{name} is a projection with {len(values)} frames; export the wanted frame as one image.")
    pixels = values[0]
    if pixels.ndim == 3:
        pixels = to_grey(pixels, name, warnings)
    if pixels.ndim == 2:
        pixels = _display(dataset, pixels, tags, name, warnings)
    grid = film_place(dataset, tags, name, warnings)
    return Volume(pixels[np.newaxis], grid, modality, name, tags, None, tuple(dict.fromkeys(warnings)))


def _display(dataset: Any, values: Array, tags: dict[str, Any], name: str, warnings: list[str]) -> Array:
    padding = _padding(values, tags)
    if dataset.get("VOILUTSequence"):
        shown, high = _looked_up(values, dataset.VOILUTSequence[0], name)
        low = 0.0
    elif "WindowCenter" in tags and "WindowWidth" in tags:
        shown, low, high = _windowed(values, tags, name, warnings), 0.0, 1.0
    else:
        used = values[~padding] if not padding.all() else values
        shown, low, high = values.astype(np.float64), float(used.min()), float(used.max())
        warnings.append(f"{name} has neither window nor VOI LUT; its range {low:g} to {high:g} was scaled to 0 to 255.")
    scaled = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    if tags.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 1 - scaled
    elif tags.get("PresentationLUTShape") == "INVERSE":
        warnings.append(f"{name}: Presentation LUT Shape says inverted, the photometry does not; it was not inverted.")
    scaled[padding] = 0
    return np.rint(scaled * 255).astype(np.uint8)


def _looked_up(values: Array, table: Any, name: str) -> tuple[Array, float]:
    """Values through a VOI LUT and the largest value that it can give (PS3.3 C.11.2.1.1).

    Not pydicom's ``apply_voi``: in 3.0 it wraps the index of tables whose entries have 8 bits.
    """
    count, first, bits = (int(v) for v in table.LUTDescriptor)
    count = count or 65536
    raw = table.LUTData
    data = np.frombuffer(raw, "u1" if len(raw) == count else "<u2") if isinstance(raw, bytes) else np.asarray(raw)
    if len(data) < count:
        raise InputError(
            f"{name}: its VOI LUT has {len(data)} entries where {count} are stated; export the film again."
        )
    index = np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)
    return data[index].astype(np.float64), float(2**bits - 1)


def _windowed(values: Array, tags: dict[str, Any], name: str, warnings: list[str]) -> Array:
    """0..1 by window centre and width (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    centre, width = tags["WindowCenter"], tags["WindowWidth"]
    if isinstance(centre, list) or isinstance(width, list):
        centre, width = np.atleast_1d(centre), np.atleast_1d(width)
        warnings.append(
            f"{name} has {len(centre)} windows; the first (level {centre[0]:g}, width {width[0]:g}) is used."
        )
        centre, width = centre[0], width[0]
    x, c, w = values.astype(np.float64), float(centre), float(width)
    function = tags.get("VOILUTFunction", "LINEAR")
    if not np.isfinite([c, w]).all() or w <= 0 or (function == "LINEAR" and w < 1):
        raise InputError(f"{name}: its window (level {c:g}, width {w:g}) is not valid; correct the header.")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - c) / w, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((x - c) / w + 0.5, 0, 1)
    if function != "LINEAR":
        warnings.append(f"{name}: its VOI LUT Function {function} is unknown; LINEAR was used.")
    return np.clip((x - (c - 0.5)) / max(w - 1, 1e-12) + 0.5, 0, 1)


def _padding(values: Array, tags: dict[str, Any]) -> Array:
    """Pixels that the device padded (PS3.3 C.7.5.1.1.2): a value, or a range between two values."""
    if "PixelPaddingValue" not in tags:
        return np.zeros(values.shape, bool)
    ends = [tags["PixelPaddingValue"], tags.get("PixelPaddingRangeLimit", tags["PixelPaddingValue"])]
    slope, intercept = tags.get("RescaleSlope", 1.0), tags.get("RescaleIntercept", 0.0)
    low, high = sorted(end * slope + intercept for end in ends)
    return np.asarray((values >= low) & (values <= high))


def film_place(dataset: Any, tags: dict[str, Any], name: str, warnings: list[str]) -> Grid:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    grid = film_grid(columns, rows, _spacing(dataset, tags, name, warnings))
    if (facing := faced(grid, tags.get("PatientOrientation"))) is not None:
        return facing
    warnings.append(f"{name} does not say how the patient faces; it was taken as a frontal film (columns to the Left).")
    return grid


def faced(grid: Grid, orientation: Any) -> Grid | None:
    """``grid`` with rows and columns as Patient Orientation says, None where it does not say it."""
    letters = [str(v)[:1] for v in orientation or []]
    if len(letters) == 2 and all(v in _AXES for v in letters):
        i, j = (np.array(_AXES[v], dtype=float) for v in letters)
        if abs(float(i @ j)) < 0.5:
            return Grid(grid.size, grid.spacing, grid.origin, np.stack([i, j, np.cross(i, j)], axis=1))
    return None


def _spacing(dataset: Any, tags: dict[str, Any], name: str, warnings: list[str]) -> tuple[float, float]:
    """(along i, along j) in mm; PS3.3 10.7.1.3 says which tag is calibrated to the patient.

    What was not is noted in ``tags``: ``SpacingAtDetector`` or ``SpacingAssumed``.
    """
    for keyword, note in (
        ("PixelSpacing", "Pixel Spacing"),
        ("ImagerPixelSpacing", "Imager Pixel Spacing, measured at the detector: sizes in the patient are smaller"),
        ("NominalScannedPixelSpacing", "Nominal Scanned Pixel Spacing"),
    ):
        value = dataset.get(keyword)
        if value is None or isinstance(value, str) or len(value) != 2:
            continue
        spacing = (float(value[1]), float(value[0]))
        if min(spacing) <= 0:
            raise InputError(f"{name}: its {keyword} {spacing} mm is not positive; correct the header.")
        warnings.append(f"{name}: the spacing {spacing[0]:.4g} x {spacing[1]:.4g} mm is from {note}.")
        if keyword == "ImagerPixelSpacing":
            tags["SpacingAtDetector"] = True
        return spacing
    warnings.append(f"{name} has no pixel spacing; 1 mm was assumed, so lengths and areas are in pixels.")
    tags["SpacingAssumed"] = True
    return (1.0, 1.0)
