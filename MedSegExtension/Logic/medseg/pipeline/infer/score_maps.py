"""What a network said about every voxel, in bounded memory.

Class probabilities are kept as 16-bit fixed point (steps of 1 / 65535, half the size of float32 and finer near a
decision than float16); labels and thresholds are decided in float32 before that rounding. Float32 values exist only
for the region that is being stored. Where each step is undone in turn (``way_back: steps``), as MONAI does, maps are
kept in float32: MONAI decides after interpolating, and where classes are nearly equal a rounding chooses between them.
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ...geometry.grid import Grid
from ...model.manifest.schema import Manifest
from ...monitor import Monitor
from .tensors import Array, FloatArray, check_channels

Keep = Literal["probabilities", "labels", "logits"]
Region = tuple[slice, slice, slice]

# Stands for "impossible" among logits: its softmax and sigmoid are 0 in float32, and sums of it stay finite.
_IMPOSSIBLE = -1e4
_STEPS = 65535
_STRIDE = 4
# Maps in float32 may take this many bytes; larger ones are rounded, and that is told.
_EXACT_BYTES = 2 << 30


class Scores:
    """Classification: ``array`` (slices or 1, columns) float32 probabilities, columns as the network gives them.

    ``details``: what running found, as plain JSON values for the provenance.
    """

    def __init__(self, array: FloatArray, details: dict[str, Any]) -> None:
        self.array = array
        self.details = details


class ScoreMaps:
    """Labels and (where kept) class probabilities on the network's grid; see the module's docstring.

    ``channels``: output channels (1 for ready labels), softmax's background included. ``activation``: softmax, sigmoid
    or labels. ``details``: what running found, as plain JSON values for the provenance.
    """

    def __init__(self, manifest: Manifest, grid: Grid, channels: int, keep: Keep) -> None:
        self.grid = grid
        self.channels = channels
        self.activation = manifest.output.activation
        self.details: dict[str, Any] = {}
        self._labels: Array | None = None
        self._bits: npt.NDArray[np.uint8] | None = None
        self._shares: Array | None = None
        self._logits: Array | None = None
        undone = manifest.output.way_back == "steps" and keep != "labels"
        exact = undone and 4 * channels * int(np.prod(grid.shape)) <= _EXACT_BYTES
        #: Whether maps that should be exact were rounded because they would be too large.
        self.rounded = undone and not exact
        if keep == "logits":
            self._logits = np.zeros((channels, *grid.shape), np.float32 if exact else np.float16)
            return
        if self.activation == "sigmoid":
            self._bits = np.zeros(((channels + 7) // 8, *grid.shape), np.uint8)
        else:
            small = self.activation == "softmax" and channels <= 256
            self._labels = np.zeros(grid.shape, np.uint8 if small else np.uint16)
        if keep == "probabilities" and self.activation != "labels":
            self._shares = np.zeros((channels, *grid.shape), np.float32 if exact else np.uint16)

    @property
    def has_probabilities(self) -> bool:
        """True where `probability` gives probabilities, False where only decisions were kept."""
        return self._shares is not None

    @property
    def has_logits(self) -> bool:
        """True where the network's own numbers were kept."""
        return self._logits is not None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(a.nbytes for a in (self._labels, self._bits, self._shares, self._logits) if a is not None)

    def labels(self) -> Array:
        """Labels (K, J, I), uint8 or uint16: the most probable channel (the first of equals), or the ready labels.

        Decided in float32 before rounding. Not for sigmoid outputs, whose classes may overlap: see `mask`.
        """
        if self._labels is None:
            raise ValueError("sigmoid classes may overlap and have no common labels; use mask(channel)")
        if self._labels.dtype == np.uint16 and self.activation == "labels" and int(self._labels.max(initial=0)) <= 255:
            return self._labels.astype(np.uint8)
        return self._labels

    def mask(self, channel: int) -> npt.NDArray[np.bool_]:
        """Boolean (K, J, I): the channel's probability is above its threshold (sigmoid), or its label won."""
        if self._bits is None:
            return np.asarray(self.labels() == channel)
        self._check(channel)
        if self.channels == 1:
            return np.asarray(self._bits[0].view(np.bool_))
        return np.asarray(self._bits[channel // 8] & np.uint8(1 << channel % 8) != 0)

    def logits(self) -> Array:
        """The network's own numbers (C, K, J, I), float16 or exact, where they were kept (``keep="logits"``)."""
        if self._logits is None:
            raise ValueError("logits were not kept")
        return self._logits

    def probability(self, channel: int) -> FloatArray:
        """Probability (K, J, I) float32 of one channel; 1 and 0 of `mask` where only decisions were kept."""
        if self._shares is None:
            return self.mask(channel).astype(np.float32)
        self._check(channel)
        probability: FloatArray = self._shares[channel].astype(np.float32)
        if self._shares.dtype == np.uint16:
            probability *= np.float32(1 / _STEPS)
        return probability

    def may_reach(self, channel: int, least: float) -> npt.NDArray[np.bool_]:
        """Where (K, J, I) `probability` of a channel is at least ``least``, or a rounding less."""
        if self._shares is None or self._shares.dtype != np.uint16:
            return np.asarray(self.probability(channel) >= np.float32(least))
        self._check(channel)
        return np.asarray(self._shares[channel] >= np.uint16(max(0, int(least * _STEPS))))

    def _check(self, channel: int) -> None:
        if not 0 <= channel < self.channels:
            raise IndexError(f"channel {channel} of {self.channels}")


class Store:
    """Takes network outputs region by region and turns them into `ScoreMaps` (or rows of `Scores`).

    The maps are made when the first output shows how many channels there are.
    """

    def __init__(self, manifest: Manifest, grid: Grid, keep: Keep, monitor: Monitor) -> None:
        self.manifest = manifest
        self.output = manifest.output
        self.grid = grid
        self.keep = keep
        self.monitor = monitor
        self.not_numbers = 0
        self.values = 0
        self._lock = threading.Lock()
        self._range = (0.0, 1.0)
        self._odd = 0
        self._highest: FloatArray | None = None
        self._maps: ScoreMaps | None = None
        self._thresholds: FloatArray | None = None

    def read(self, raw: Array) -> FloatArray:
        """A network output (N, C, ...) as float32: channels checked, dequantised, NaN counted and made impossible.

        Several threads may read.
        """
        check_channels(raw.shape[1], raw.shape, self.manifest)
        step = self.output.dequantise
        values = raw.astype(np.float32, copy=False)
        if step is not None:
            values = (values - np.float32(step.zero_point)) * np.float32(step.scale)
        with self._lock:
            self.values += values.size
        if self.output.activation == "labels":
            return self._finite(values, 0.0, 0.0)
        if self.output.logits:
            return self._finite(values, _IMPOSSIBLE, -_IMPOSSIBLE)
        return self._finite(values, 0.0, 1.0)

    def _finite(self, values: FloatArray, bad: float, high: float) -> FloatArray:
        # A sum of numbers is one, unless it is too large; it needs no array.
        if np.isfinite(values.sum()) or np.isfinite(values).all():
            return values
        missing = np.isnan(values)
        with self._lock:
            self.not_numbers += int(missing.sum())
        values = np.nan_to_num(values, nan=bad, posinf=high, neginf=bad)
        if self.output.activation == "softmax":
            # Where no class is left, background is what remains.
            background = values[:, 0]
            background[missing.all(axis=1)] = 0.0 if self.output.logits else 1.0
        return values

    def activate(self, values: FloatArray) -> FloatArray:
        """Probabilities of what `read` gave, channels on axis 0: the activation, where it is outside the graph."""
        if self.output.activation == "labels":
            return values
        if not self.output.logits:
            low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
            with self._lock:
                self._range = (min(self._range[0], low), max(self._range[1], high))
            return values
        return softmax(values) if self.output.activation == "softmax" else sigmoid(values)

    def put(self, region: Region, values: FloatArray) -> None:
        """Store ``values`` (C, k, j, i) of `read` (or a weighted mean of such) at ``region`` (numpy slices).

        After `maps` was called, several threads may store regions that do not overlap.
        """
        maps = self.maps(values.shape[0])
        self._look_at(values)
        if maps._logits is not None:
            maps._logits[(slice(None), *region)] = values
            return
        if self.output.restore == "logits" and self.output.way_back == "position":
            # As they are where they are kept, so that a label does not depend on what is kept.
            values = values.astype(np.float16).astype(np.float32)
        if maps._labels is not None and self.output.activation == "labels":
            maps._labels[region] = self._ready_labels(values[0])
            return
        if maps._labels is not None:
            # Before the activation: softmax keeps the order, but rounds near 0 and 1.
            first_greatest(values, maps._labels[region])
        if maps._bits is None and maps._shares is None:
            return
        probabilities = self.activate(values)
        if maps._bits is not None:
            assert self._thresholds is not None
            _pack(probabilities, self._thresholds, maps._bits[(slice(None), *region)])
        if maps._shares is not None:
            for channel, values in enumerate(probabilities):
                if maps._shares.dtype == np.float32:
                    maps._shares[channel][region] = values
                    continue
                # The half rounds to the nearest step.
                maps._shares[channel][region] = np.clip(values, 0, 1) * np.float32(_STEPS) + np.float32(0.5)

    def _look_at(self, values: FloatArray) -> None:
        """Remember the highest probability of each channel, on every fourth voxel of each axis that has many."""
        if self.output.activation == "labels":
            return
        few = values[(slice(None), *(slice(None, None, _STRIDE if n >= 16 else 1) for n in values.shape[1:]))]
        if self.output.logits:
            few = softmax(few) if self.output.activation == "softmax" else sigmoid(few)
        highest = few.reshape(len(few), -1).max(axis=1)
        with self._lock:
            self._highest = highest if self._highest is None else np.maximum(self._highest, highest)

    def highest(self) -> dict[str, float]:
        """The highest probability of each class that `_look_at` saw."""
        if self._highest is None:
            return {}
        overlapping = self.output.activation == "sigmoid"
        return {
            c.name: float(self._highest[c.sigmoid_channel if overlapping else c.value]) for c in self.manifest.classes
        }

    def _ready_labels(self, values: FloatArray) -> npt.NDArray[np.uint16]:
        whole = np.rint(values)
        odd = (whole < 0) | (whole > 65535)
        if odd.any():
            with self._lock:
                self._odd += int(odd.sum())
            whole[odd] = 0
        return whole.astype(np.uint16)

    def maps(self, channels: int) -> ScoreMaps:
        """The maps that are being filled; made for ``channels`` channels at the first call."""
        if self._maps is None:
            self._maps = ScoreMaps(self.manifest, self.grid, channels, self.keep)
            if self._maps.rounded:
                self.monitor.note(
                    f"The maps of {channels} classes on {self.grid} would take more than {_EXACT_BYTES >> 30} GB; they "
                    "were kept in 16 bits, so voxels where two classes are nearly equal may get the other one."
                )
            thresholds = np.full(channels, 0.5, np.float32)
            if self.output.activation == "sigmoid":
                for item in self.manifest.classes:
                    thresholds[item.sigmoid_channel] = item.threshold
            self._thresholds = thresholds
        return self._maps

    def background(self, region: Region, channels: int) -> None:
        """Store background at ``region``: label 0 and, for softmax, probability 1 of channel 0."""
        maps = self.maps(channels)
        if maps._logits is not None:
            maps._logits[(slice(None), *region)] = _IMPOSSIBLE
            if self.output.activation == "softmax":
                maps._logits[(0, *region)] = 0
        if maps._shares is not None and self.output.activation == "softmax":
            maps._shares[(0, *region)] = 1 if maps._shares.dtype == np.float32 else _STEPS

    def restart(self) -> None:
        """Forget what was stored and counted; the run begins anew."""
        self._maps, self._highest, self.not_numbers, self.values = None, None, 0, 0
        self._range, self._odd = (0.0, 1.0), 0

    def tell(self) -> None:
        """Warn of what was read that cannot be right."""
        low, high = self._range
        if low < -1e-3 or high > 1 + 1e-3:
            self.monitor.warn(
                f"The network's output {self.output.tensor!r} should be probabilities but reaches from {low:.4g} "
                f"to {high:.4g}; if these are logits, the manifest lacks output.logits, and the result is wrong."
            )
        if self._odd:
            self.monitor.warn(
                f"The network gave {self._odd} labels outside 0 to 65535; they were counted as background."
            )
        if self.not_numbers:
            self.monitor.warn(
                f"The network gave {self.not_numbers} values that are not numbers (NaN), of {self.values}; they were "
                "counted as probability 0. Check the input's range and the model's precision."
            )

    def finish(self, details: dict[str, Any]) -> ScoreMaps:
        """The filled maps."""
        self.tell()
        maps = self.maps(self.least_channels())
        maps.details = details | {"nan": self.not_numbers, "highest": self.highest()}
        return maps

    def least_channels(self) -> int:
        """Channels where no network call was made (all windows were background)."""
        top = max(c.value for c in self.manifest.classes)
        overlapping = max(c.sigmoid_channel for c in self.manifest.classes) + 1
        return {"softmax": top + 1, "sigmoid": overlapping, "labels": 1}[self.output.activation]


def _pack(probabilities: FloatArray, thresholds: FloatArray, out: npt.NDArray[np.uint8]) -> None:
    """Whether each channel is above its threshold, as bits: ``numpy.packbits`` takes 20 times as long on axis 0."""
    for channel, (values, threshold) in enumerate(zip(probabilities, thresholds, strict=True)):
        byte, bit = out[channel // 8], channel % 8
        above = np.greater(values, threshold)
        if not bit:
            byte[...] = above
        else:
            np.bitwise_or(byte, above.view(np.uint8) << np.uint8(bit), out=byte)


def first_greatest(values: FloatArray, out: Array) -> None:
    """``argmax`` of (C, k, j, i) over C into ``out`` (k, j, i); several times faster than NumPy's on this layout."""
    last = len(values) - 1
    for k in range(values.shape[1]):
        best, labels = values[0, k], out[k]
        labels[...] = 0
        for channel in range(1, len(values)):
            np.copyto(labels, channel, where=values[channel, k] > best)
            if channel < last:
                best = np.maximum(best, values[channel, k])


def softmax(values: FloatArray) -> FloatArray:
    """Softmax over axis 0, stable (the maximum is taken off first)."""
    out = np.exp(values - values.max(axis=0, keepdims=True))
    out /= out.sum(axis=0, keepdims=True)
    return np.asarray(out)


def sigmoid(values: FloatArray) -> FloatArray:
    """Logistic function, stable: it never takes the exponential of a positive number."""
    small = np.exp(-np.abs(values))
    return np.asarray(np.where(values >= 0, 1, small) / (1 + small), dtype=np.float32)
