"""Intensity steps: values in, values out, the grid untouched. `apply_intensity` is a table from step to function.

Arrays are (C, K, J, I); every channel is treated on its own. No step changes the array it is given, and none makes NaN:
where a slice or volume is constant the result is defined (see each function) and the monitor is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...model.manifest import steps as s
from ...monitor import Monitor
from . import head
from .channel_schemes import normalise_channels
from .percentiles import percentiles_of
from .standardise import append_difference, rescale, squash, standardise
from .windows import apply_windows

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Tags = Mapping[str, Any]

# Keras' and PyTorch's backbones: mean and standard deviation of ImageNet, channel by channel.
_TORCH = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CAFFE_BGR = (103.939, 116.779, 123.68)
# HU read back to stored values are whole numbers up to the rounding of float32.
_WHOLE = 0.01


class _Own(np.ndarray[Any, Any]):
    """An array that a step may change in place of making a new one."""


def apply_intensity(
    step: s.Step, array: Array, axis: int, tags: Tags, monitor: Monitor, *, reuse: bool = False
) -> Float32Array:
    """The result of an intensity step, a new float32 array, or ``array`` itself, changed, where ``reuse`` allows that.

    ``array``: (C, K, J, I). ``axis``: numpy axis (1..3) normal to the slices. ``tags``: the volume's DICOM values by
    keyword. Raises `ModelError` where the step does not fit the array (channels, window width, empty range).
    """
    function = _FUNCTIONS.get(type(step))
    if function is None:
        raise ModelError(f"{getattr(step, 'step', type(step).__name__)!r} is not an intensity step.")
    return np.asarray(function(step, array.view(_Own) if reuse else array, axis, tags, monitor))


def _copy(array: Array) -> Float32Array:
    if isinstance(array, _Own) and array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable:
        return np.asarray(array)
    return np.array(array, dtype=np.float32, order="C", subok=False)


def _slices(array: Array, axis: int) -> Iterator[Array]:
    """Views (2D) of every slice of every channel."""
    for channel in array:
        yield from np.moveaxis(channel, axis - 1, 0)


def _scopes(array: Array, axis: int, scope: s.Scope) -> Iterator[Array]:
    """Views of what is treated together: each slice, or each channel's volume."""
    return _slices(array, axis) if scope == "slice" else iter(array)


def _chosen(view: Float32Array, above: float | None) -> Float32Array:
    """The values that statistics are taken from."""
    return view if above is None else view[view > above]


def _tell_flat(flat: int, scope: s.Scope, step: str, result: str, above: float | None, monitor: Monitor) -> None:
    if flat:
        what = ("slices" if flat > 1 else "slice") if scope == "slice" else ("volumes" if flat > 1 else "volume")
        where = "" if above is None else f" above {above:g}"
        monitor.warn(f"{step}: {flat} {what} with no two different values{where}; {result}.")


# -- values and ranges --------------------------------------------------------------------------------------


def _twelve_bit_fix(step: s.TwelveBitFix, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    """Stored value = (HU - intercept) / slope; plus 1000, minus 4096 where that reaches 4096, intercept -1000."""
    out = _copy(array)
    needed = ("BitsStored", "PixelRepresentation", "RescaleIntercept")
    values = {name: _number(tags.get(name)) for name in needed}
    slope = _number(tags.get("RescaleSlope", 1.0))
    missing = [name for name in needed if values[name] is None] + ([] if slope else ["RescaleSlope"])
    if missing or not slope:
        monitor.warn(
            f"Wrapped 12-bit CT values were not checked for: the volume has no usable {', '.join(missing)}. Load the "
            "DICOM series itself if its values look wrong (black bone, white air)."
        )
        return out
    intercept = values["RescaleIntercept"]
    assert intercept is not None
    if values["BitsStored"] != 12 or values["PixelRepresentation"] != 0 or intercept <= step.intercept_above:
        return out
    wrapped = 0
    for channel in out:
        for plane in channel:
            stored = (plane.astype(np.float64) - intercept) / slope + 1000
            over = stored >= 4096 - _WHOLE
            wrapped += int(over.sum())
            plane[...] = (stored - 4096 * over) * slope - 1000
    monitor.warn(
        f"12-bit correction: stored values are unsigned 12-bit and the rescale intercept was {intercept:g}; -1000 was "
        f"used instead, and {wrapped} of {out.size} voxels that had wrapped were moved back by 4096."
    )
    return out


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _affine(step: s.Affine, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    out = _copy(array)
    out *= np.float32(step.scale)
    out += np.float32(step.offset)
    return out


def _window(step: s.Window, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    return apply_windows(step, array)


def _clip(step: s.Clip, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    if step.minimum is not None and step.maximum is not None and step.minimum > step.maximum:
        raise ModelError(f"clip: the minimum {step.minimum:g} lies above the maximum {step.maximum:g}.")
    out = _copy(array)
    if step.percentiles is not None:
        for view in _scopes(out, axis, step.scope):
            low, high = _percentiles(view, step.percentiles, "clip")
            np.clip(view, low, high, out=view)
    if step.minimum is not None or step.maximum is not None:
        np.clip(out, step.minimum, step.maximum, out=out)
    return out


def _percentiles(values: Float32Array, percentiles: tuple[float, float], step: str) -> tuple[np.float32, np.float32]:
    """Percentiles (0..100) with numpy's linear interpolation between neighbours."""
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ModelError(f"{step}: the percentiles {low:g} and {high:g} are not two rising numbers from 0 to 100.")
    first, last = percentiles_of(values, [low, high])
    return np.float32(first), np.float32(last)


def _zscore(step: s.ZScore, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    """Where there is no spread the scope becomes 0. Without ``apply_outside``, voxels not above ``above`` keep their
    value."""
    out = _copy(array)
    flat = 0
    for view in _scopes(out, axis, step.scope):
        monitor.checkpoint()
        chosen = _chosen(view, step.above)
        mean = float(chosen.mean(dtype=np.float64)) if chosen.size else 0.0
        spread = np.float32(_population_std(chosen, mean) + step.epsilon)
        if chosen.size == 0 or chosen.min() == chosen.max() or spread == 0:
            view[...] = 0
            flat += 1
            continue
        where: Any = True if step.apply_outside or step.above is None else view > step.above
        np.subtract(view, np.float32(mean), out=view, where=where)
        np.divide(view, spread, out=view, where=where)
    _tell_flat(flat, step.scope, "zscore", "set to 0", step.above, monitor)
    return out


def _population_std(values: Float32Array, mean: float) -> float:
    """Standard deviation (divided by n) in double precision, a slab at a time so that memory stays small."""
    slabs = values if values.ndim > 1 else np.array_split(values, max(1, values.size // 1_000_000))
    total = sum(float(np.square(slab.astype(np.float64) - mean).sum()) for slab in slabs)
    return float(np.sqrt(total / max(values.size, 1)))


def _minmax(step: s.MinMax, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    """Where the range is empty the scope becomes the lower end of ``output``."""
    out = _copy(array)
    bottom, top = step.output
    flat = 0
    for view in _scopes(out, axis, step.scope):
        monitor.checkpoint()
        chosen = _chosen(view, step.above)
        low = high = np.float32(0)
        if chosen.size and step.percentiles is not None:
            low, high = _percentiles(chosen, step.percentiles, "minmax")
        elif chosen.size:
            low, high = chosen.min(), chosen.max()
        if low == high:
            view[...] = bottom
            flat += 1
            continue
        if step.clip:
            np.clip(view, low, high, out=view)
        view -= low
        view /= high - low
        view *= np.float32(top - bottom)
        view += np.float32(bottom)
    _tell_flat(flat, step.scope, "minmax", f"set to {bottom:g}", step.above, monitor)
    return out


def _normalise_channels(
    step: s.NormaliseChannels, array: Array, axis: int, tags: Tags, monitor: Monitor
) -> Float32Array:
    return normalise_channels(step, array, monitor)


def _divide_by_maximum(step: s.DivideByMaximum, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    """Where the maximum is 0 the scope becomes 0."""
    out = _copy(array)
    zero = negative = 0
    for view in _scopes(out, axis, step.scope):
        maximum = view.max()
        zero += int(maximum == 0)
        negative += int(maximum < 0)
        if maximum == 0:
            view[...] = 0
        else:
            view /= maximum
    unit = step.scope + "s"
    if zero:
        monitor.warn(f"divide_by_maximum: {zero} {unit} with maximum 0; set to 0.")
    if negative:
        monitor.warn(f"divide_by_maximum: {negative} {unit} with a negative maximum: bright and dark change places.")
    return out


# -- slice by slice -----------------------------------------------------------------------------------------


def _histogram_equalise(
    step: s.HistogramEqualise, array: Array, axis: int, tags: Tags, monitor: Monitor
) -> Float32Array:
    """Values are first rounded (half up) and clipped to 0..255. A constant slice keeps its value, as in OpenCV."""
    out = _copy(array)
    outside = flat = 0
    if 0 < out.max() <= 1:
        monitor.warn("histogram_equalise expects values from 0 to 255, but the volume lies between 0 and 1.")
    for view in _slices(out, axis):
        whole = np.floor(view + np.float32(0.5))
        outside += int(((whole < 0) | (whole > 255)).sum())
        grey = np.clip(whole, 0, 255).astype(np.uint8)
        counts = np.bincount(grey.ravel(), minlength=256)
        first = int(np.argmax(counts > 0))
        rest = grey.size - int(counts[first])
        if rest == 0:
            flat += 1
            view[...] = grey
            continue
        # The darkest value maps to 0 and is left out of the cumulated counts: OpenCV's rule, in its single precision.
        cumulated = np.cumsum(counts) - counts[first]
        table = np.rint(cumulated.astype(np.float32) * (np.float32(255) / np.float32(rest)))
        table[: first + 1] = 0
        view[...] = np.clip(table, 0, 255)[grey]
    if outside:
        monitor.warn(f"histogram_equalise: {outside} of {out.size} voxels were outside 0..255 and were clipped.")
    _tell_flat(flat, "slice", "histogram_equalise", "left as they are", None, monitor)
    return out


def _unsharp_mask(step: s.UnsharpMask, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    out = _copy(array)
    for view in _slices(out, axis):
        monitor.checkpoint()
        view[...] = head.unsharp_mask(view, step.sigma, step.amount)
    return out


def _normalise_head(step: s.NormaliseHead, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    out = _copy(array)
    empty, total = 0, 0
    for view in _slices(out, axis):
        monitor.checkpoint()
        view[...] = head.normalise_head(view, step.minimum_pixels)
        empty += int(not view.any())
        total += 1
    if empty:
        monitor.warn(
            f"{empty} of {total} slices show no head or too little of it (at most {step.minimum_pixels} pixels); "
            "the network sees them empty, so nothing is found there."
        )
    return out


def _quantise(step: s.RoundTo, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    """Rounded half to even, or cut off; in double precision: float32 cannot tell one half's neighbours at 65535."""
    out = np.empty(array.shape, np.float32)
    for view, given in zip(_slices(out, 1), _slices(array, 1), strict=True):
        whole = (np.trunc if step.towards_zero else np.rint)(given.astype(np.float64) * step.levels)
        view[...] = whole / step.levels
    return out


# -- colour -------------------------------------------------------------------------------------------------


def _to_rgb(step: s.ToRGB, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    if array.shape[0] != 1:
        raise ModelError(f"to_rgb repeats one channel, but there are {array.shape[0]} at this step.")
    return np.repeat(array.astype(np.float32, copy=False), 3, axis=0)


def _imagenet(step: s.ImageNet, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    if array.shape[0] != 3:
        raise ModelError(f"imagenet expects three channels (red, green, blue), but there are {array.shape[0]}.")
    out = _copy(array[::-1] if step.style == "caffe" else array)
    if step.style == "tf":
        out /= np.float32(127.5)
        out -= np.float32(1)
    elif step.style == "caffe":
        out -= np.array(_CAFFE_BGR, dtype=np.float32)[:, None, None, None]
    else:
        mean, std = (np.array(v, dtype=np.float32)[:, None, None, None] for v in _TORCH)
        out /= np.float32(255)
        out -= mean
        out /= std
    return out


def _standardise(step: s.Standardise, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    return standardise(step, array)


def _rescale(step: s.Rescale, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    return rescale(step, array)


def _squash(step: s.Squash, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    return squash(step, array)


def _append_difference(step: s.AppendDifference, array: Array, axis: int, tags: Tags, monitor: Monitor) -> Float32Array:
    return append_difference(step, array)


_Function = Callable[[Any, Array, int, Tags, Monitor], Float32Array]
_FUNCTIONS: dict[type[s.Step], _Function] = {
    s.TwelveBitFix: _twelve_bit_fix,
    s.Affine: _affine,
    s.Window: _window,
    s.Clip: _clip,
    s.ZScore: _zscore,
    s.MinMax: _minmax,
    s.NormaliseChannels: _normalise_channels,
    s.DivideByMaximum: _divide_by_maximum,
    s.HistogramEqualise: _histogram_equalise,
    s.UnsharpMask: _unsharp_mask,
    s.NormaliseHead: _normalise_head,
    s.RoundTo: _quantise,
    s.ToRGB: _to_rgb,
    s.ImageNet: _imagenet,
    s.Standardise: _standardise,
    s.Rescale: _rescale,
    s.Squash: _squash,
    s.AppendDifference: _append_difference,
}
