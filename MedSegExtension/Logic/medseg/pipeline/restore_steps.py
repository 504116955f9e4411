"""Restoring by undoing each spatial step in turn: ``output.way_back: steps`` (MONAI's Invert, Raidionics)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..geometry.grid import Grid
from ..geometry.resample import resample
from ..model.manifest.schema import Manifest
from ..monitor import Monitor
from .infer.score_maps import sigmoid
from .preprocess.state import Prepared
from .preprocess.way_back import walk_back

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


class Maps(Protocol):
    """What restoring needs of the network's output (`medseg.pipeline.infer.ScoreMaps`)."""

    @property
    def channels(self) -> int:
        """Output channels."""

    @property
    def has_logits(self) -> bool:
        """Whether the network's own numbers were kept."""

    @property
    def has_probabilities(self) -> bool:
        """Whether probabilities were kept, and not only decisions."""

    def labels(self) -> Array:
        """Labels (K, J, I) on the network's grid."""

    def mask(self, channel: int) -> npt.NDArray[np.bool_]:
        """Where (K, J, I) a channel is above its threshold, or its label won."""

    def logits(self) -> Array:
        """The network's own numbers (C, K, J, I), where they were kept."""

    def probability(self, channel: int) -> FloatArray:
        """Probability (K, J, I) of one output channel on the network's grid."""

    def may_reach(self, channel: int, least: float) -> npt.NDArray[np.bool_]:
        """Where (K, J, I) `probability` of a channel is at least ``least``, or a rounding less."""


def restore(
    maps: Maps, manifest: Manifest, prepared: Prepared, grid: Grid, probabilities: bool, monitor: Monitor
) -> tuple[list[Array], dict[str, FloatArray]]:
    """Labels (K, J, I) on ``grid``, of sigmoid classes a mask (0, 1) each; and probabilities where asked for.

    What a step cut off is 0 in what goes back: labels, probabilities or logits, as ``output.restore`` says.
    """
    overlapping = manifest.output.activation == "sigmoid"
    if probabilities and (manifest.output.activation == "labels" or maps.has_logits):
        monitor.warn("No probability maps were written: this model's way back has none.")
        probabilities = False
    first = prepared.ways[0].grid if prepared.ways else prepared.grid

    def back(array: Array, nearest: bool) -> Array:
        return walk_back(prepared.ways, array, nearest=nearest)

    def onto(array: Array) -> Array:
        return resample(array, first, grid, interpolation="nearest", fill=0)

    kept: dict[str, FloatArray] = {}
    if probabilities:
        for item in manifest.classes:
            channel = item.sigmoid_channel if overlapping else item.value
            kept[item.name] = onto(back(maps.probability(channel), False))
    decided = manifest.output.restore == "labels" or not (maps.has_logits or maps.has_probabilities)
    if decided and overlapping:
        return [onto(back(maps.mask(c.sigmoid_channel).astype(np.uint8), True)) for c in manifest.classes], kept
    if decided:
        return [onto(back(maps.labels(), True))], kept
    values = _values(maps)
    if overlapping:
        masks = []
        for item in manifest.classes:
            monitor.checkpoint()
            found = back(values(item.sigmoid_channel), False)
            found = sigmoid(found) if maps.has_logits else found
            masks.append(onto((found > item.threshold).astype(np.uint8)))
        return masks, kept
    best = back(values(0), False)
    labels = np.zeros(best.shape, np.uint8 if maps.channels <= 256 else np.uint16)
    for channel in range(1, maps.channels):
        monitor.checkpoint()
        monitor.progress(channel, maps.channels, "")
        found = back(values(channel), False)
        wins = found > best
        labels[wins] = channel
        np.maximum(best, found, out=best)
    return [onto(labels)], kept


def _values(maps: Maps) -> Callable[[int], FloatArray]:
    if not maps.has_logits:
        return maps.probability
    logits = maps.logits()
    return lambda channel: logits[channel].astype(np.float32)
