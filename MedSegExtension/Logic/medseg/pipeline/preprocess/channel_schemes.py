"""The step ``normalise_channels``: each channel by a scheme of its own, as nnU-Net v2 normalises them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...model.manifest.steps import ChannelScheme, NormaliseChannels
from ...monitor import Monitor

Float32Array = npt.NDArray[np.float32]
_LEAST = 1e-8


def normalise_channels(step: NormaliseChannels, array: npt.NDArray[Any], monitor: Monitor) -> Float32Array:
    """A new float32 array (C, K, J, I); `ModelError` where there is not one scheme for each channel."""
    if len(step.channels) != array.shape[0]:
        raise ModelError(
            f"normalise_channels names {len(step.channels)} schemes, but {array.shape[0]} channels reach this step."
        )
    out = np.array(array, dtype=np.float32, order="C")
    mask = nonzero_mask(out) if any(c.nonzero for c in step.channels) else None
    for n, (scheme, channel) in enumerate(zip(step.channels, out, strict=True)):
        if scheme.scheme == "zscore":
            _zscore(channel, mask if scheme.nonzero else None, n, monitor)
        elif scheme.scheme == "fixed":
            np.clip(channel, scheme.minimum, scheme.maximum, out=channel)
            channel -= scheme.mean
            channel /= scheme.std
        elif scheme.scheme == "minmax":
            channel -= channel.min()
            channel /= max(float(channel.max()), _LEAST)
        elif scheme.scheme == "divide":
            _divide(channel, scheme, n, monitor)
    return out


def nonzero_mask(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where (K, J, I) some channel of (C, K, J, I) is not 0, with holes filled."""
    from scipy import ndimage

    return np.asarray(ndimage.binary_fill_holes((array != 0).any(axis=0)))


def _zscore(channel: Float32Array, mask: npt.NDArray[np.bool_] | None, n: int, monitor: Monitor) -> None:
    values = channel if mask is None else channel[mask]
    spread = float(values.std()) if values.size else 0.0
    if spread < _LEAST:
        monitor.warn(f"normalise_channels: channel {n + 1} has no two different values, so all of them became 0.")
    if mask is None:
        channel -= values.mean()
        channel /= max(spread, _LEAST)
    elif values.size:
        channel[mask] = (values - values.mean()) / np.float32(max(spread, _LEAST))


def _divide(channel: Float32Array, scheme: ChannelScheme, n: int, monitor: Monitor) -> None:
    low, high = float(channel.min()), float(channel.max())
    if low < 0 or high > scheme.by:
        monitor.warn(
            f"normalise_channels: channel {n + 1} should have values from 0 to {scheme.by:g}, but has {low:g} to "
            f"{high:g}."
        )
    channel /= scheme.by
