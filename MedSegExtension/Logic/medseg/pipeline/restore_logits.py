"""Restoring what the network said in its own numbers, before any activation: ``output.restore: logits`` (nnU-Net)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..geometry.grid import Grid
from ..geometry.resample import resample
from ..geometry.spline_resize import Window
from ..model.manifest.schema import Manifest
from ..monitor import Monitor
from .infer.score_maps import sigmoid, softmax
from .preprocess.spatial import bounding_box
from .preprocess.state import Prepared

FloatArray = npt.NDArray[np.float32]
HalfArray = npt.NDArray[np.float16]


class LogitMaps(Protocol):
    """What restoring needs of the network's output (`medseg.pipeline.infer.ScoreMaps`)."""

    def logits(self) -> npt.NDArray[Any]:
        """(C, K, J, I) on the network's grid."""


def restore_softmax(
    maps: LogitMaps, manifest: Manifest, prepared: Prepared, grid: Grid, probabilities: bool, monitor: Monitor
) -> tuple[npt.NDArray[Any], dict[str, FloatArray]]:
    """Labels (K, J, I) on ``grid`` and probabilities; a label is the channel of the greatest logit.

    Outside the network's field of view every voxel is background.
    """
    logits = maps.logits()
    back = _Back(prepared, grid)
    window = None if probabilities else back.not_background(logits)
    best = back.near(logits[0], window)
    whole = np.zeros(back.shape, np.uint8 if len(logits) <= 256 else np.uint16)
    labels = whole if window is None else whole[window]
    kept = [best.copy()] if probabilities else []
    for channel in range(1, len(logits)):
        monitor.checkpoint()
        monitor.progress(channel, len(logits), "")
        values = back.near(logits[channel], window)
        wins = values > best
        labels[wins] = channel
        np.maximum(best, values, out=best)
        if probabilities:
            kept.append(values)
    maps_by_name: dict[str, FloatArray] = {}
    if probabilities:
        stacked = np.stack(kept)
        for k in range(stacked.shape[1]):
            stacked[:, k] = softmax(stacked[:, k].astype(np.float32))
        maps_by_name = {c.name: back.onto(stacked[c.value].astype(np.float32)) for c in manifest.classes}
    return back.onto(whole), maps_by_name


def restore_sigmoid(
    maps: LogitMaps, manifest: Manifest, prepared: Prepared, grid: Grid, probabilities: bool, monitor: Monitor
) -> tuple[list[npt.NDArray[np.bool_]], dict[str, FloatArray]]:
    """A mask (K, J, I) on ``grid`` for each class, in their order, and probabilities."""
    logits = maps.logits()
    back = _Back(prepared, grid)
    masks, kept = [], {}
    for n, item in enumerate(manifest.classes):
        monitor.checkpoint()
        monitor.progress(n, len(manifest.classes), item.name)
        probability = sigmoid(back.near(logits[item.sigmoid_channel]).astype(np.float32))
        masks.append(back.onto((probability > item.threshold).view(np.uint8)) > 0)
        if probabilities:
            kept[item.name] = back.onto(probability)
    return masks, kept


class _Back:
    """First onto the grid before resampling (`near`), then onto the input's (`onto`), exactly on one lattice."""

    def __init__(self, prepared: Prepared, grid: Grid) -> None:
        self._extent = prepared.extent
        self._network, self._grid = prepared.grid, grid
        self._near = prepared.extent.grid if prepared.extent is not None else grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, J, I) before resampling."""
        return self._near.shape

    def not_background(self, logits: HalfArray) -> Window | None:
        """The part of the grid before resampling outside which every label is 0; None where that is not known.

        A mean of logits puts another class above the background only where one of the voxels that are averaged does.
        """
        if self._extent is None or self._extent.step.restore_order != 1:
            return None
        other = np.zeros(logits.shape[1:], bool)
        for values in logits[1:]:
            other |= values > logits[0]
        if not other.any():
            return (slice(0, 1),) * 3
        return self._extent.reached(*bounding_box(other), logits.shape[1:])

    def near(self, logits: HalfArray, window: Window | None = None) -> HalfArray:
        if self._extent is not None:
            return self._extent.back(logits, window)
        # Out of view there is no class: a number that no network reaches.
        out = resample(logits.astype(np.float32), self._network, self._grid, interpolation="linear", fill=-6e4)
        return np.asarray(out.astype(np.float16))

    def onto(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return resample(array, self._near, self._grid, interpolation="nearest", fill=0)
