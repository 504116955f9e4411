"""Restoring what the network said in its own numbers, before any activation: ``output.restore: logits`` (nnU-Net)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..geometry.greatest_channel import greatest_channel
from ..geometry.grid import Grid
from ..geometry.resample import resample
from ..model.manifest.schema import Manifest
from ..monitor import Monitor
from .infer.score_maps import sigmoid, softmax
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
    decided = None if probabilities else back.greatest(logits, monitor)
    if decided is not None:
        return back.onto(decided), {}
    best = back.near(logits[0])
    labels = np.zeros(back.shape, np.uint8 if len(logits) <= 256 else np.uint16)
    kept = [best.copy()] if probabilities else []
    for channel in range(1, len(logits)):
        monitor.checkpoint()
        monitor.progress(channel, len(logits), "")
        values = back.near(logits[channel])
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
    return back.onto(labels), maps_by_name


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

    def greatest(self, logits: npt.NDArray[Any], monitor: Monitor) -> npt.NDArray[Any] | None:
        """The channel of the greatest logit before resampling; None where only `near`, which is slower, can tell."""
        lines = None if self._extent is None else self._extent.lines(logits.shape[1:])
        if lines is None or logits.dtype != np.float16:
            return None
        return greatest_channel(logits, lines, lambda done, total: monitor.progress(done, total, "labels"))

    def near(self, logits: HalfArray) -> HalfArray:
        if self._extent is not None:
            return self._extent.back(logits)
        # Out of view there is no class: a number that no network reaches.
        out = resample(logits.astype(np.float32), self._network, self._grid, interpolation="linear", fill=-6e4)
        return np.asarray(out.astype(np.float16))

    def onto(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return resample(array, self._near, self._grid, interpolation="nearest", fill=0)
