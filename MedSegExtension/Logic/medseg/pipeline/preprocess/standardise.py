"""Intensity steps as MONAI, SlicerMONAIAuto3DSeg and Raidionics define them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...model.manifest import steps as s
from .percentiles import percentiles_of

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]


def standardise(step: s.Standardise, array: Array) -> Float32Array:
    """A new float32 array (C, K, J, I); `ModelError` where there is not one number for each channel."""
    if step.channels is not None:
        return _some(step, step.channels, array, standardise)
    out = np.array(array, dtype=np.float32, order="C")
    subtract, divide = _each(step.subtract, len(out), "subtract"), _each(step.divide, len(out), "divide")
    parts = [out] if step.together else list(out)
    for n, part in enumerate(parts):
        where = part != 0 if step.nonzero else np.ones(part.shape, dtype=bool)
        if not where.any():
            continue
        values = part[where].astype(np.float64)
        mean, spread = float(values.mean()), float(values.std())
        # Channels that share a mean share the first number given.
        mean = mean if subtract is None else subtract[n]
        spread = spread if divide is None else divide[n]
        part[where] = (values - mean) / (spread or 1.0)
    return out


def _each(values: Sequence[float] | None, channels: int, what: str) -> list[float] | None:
    if values is None:
        return None
    if len(values) == 1:
        return [float(values[0])] * channels
    if len(values) != channels:
        raise ModelError(f"standardise.{what} has {len(values)} numbers, but {channels} channels reach this step.")
    return [float(v) for v in values]


def rescale(step: s.Rescale, array: Array) -> Float32Array:
    """A new float32 array (C, K, J, I)."""
    out = np.array(array, dtype=np.float32, order="C")
    bottom, top = step.output
    for part in [out] if step.together else list(out):
        low, high = (
            (float(part.min()), float(part.max()))
            if step.percentiles is None
            else (float(v) for v in percentiles_of(part.astype(np.float64), step.percentiles))
        )
        part -= np.float32(low)
        if high != low:
            part /= np.float32(high - low)
            part *= np.float32(top - bottom)
            part += np.float32(bottom)
        if step.clip:
            np.clip(part, bottom, top, out=part)
    return out


def squash(step: s.Squash, array: Array) -> Float32Array:
    """A new float32 array (C, K, J, I)."""
    if step.channels is not None:
        return _some(step, step.channels, array, squash)
    x = np.array(array, dtype=np.float64)
    if step.function == "tanh":
        return np.asarray(step.scale * np.tanh(x / step.scale), dtype=np.float32)
    if step.function == "pet":
        # PyTorch's std divides by n - 1.
        x = np.stack([(c - c.min()) / (c.std(ddof=1) or 1.0) for c in x])
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)


def _some(step: Any, channels: Sequence[int], array: Array, function: Any) -> Float32Array:
    """The step done to ``channels`` alone."""
    out = np.array(array, dtype=np.float32, order="C")
    if max(channels) >= len(out):
        raise ModelError(f"{step.step} names a channel beyond the {len(out)} that reach this step.")
    out[list(channels)] = function(step.model_copy(update={"channels": None}), out[list(channels)])
    return out


def append_difference(step: s.AppendDifference, array: Array) -> Float32Array:
    """A new float32 array with more channels; `ModelError` where a pair names a channel that is not there."""
    out = np.array(array, dtype=np.float32, order="C")
    if max(max(pair) for pair in step.pairs) >= len(out):
        raise ModelError(f"append_difference names a channel beyond the {len(out)} that reach this step.")
    return np.concatenate([out, np.stack([np.abs(out[a] - out[b]) for a, b in step.pairs])])
