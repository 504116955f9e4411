"""From the network's grid back onto the input's grid.

Class probabilities are interpolated linearly and then thresholded or compared, one class at a time, so that never more
than two class volumes are held in float32. Where both grids lie on one lattice the labels are copied exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.grid import Grid
from ..geometry.resample import Interpolation, lattice_map, resample
from ..model.colors import distinct, terminology_color
from ..model.manifest.schema import Manifest, OutputClass
from ..monitor import Monitor
from ..result import Layer, SegmentClass
from . import restore_logits, restore_steps
from .infer.score_maps import Keep
from .preprocess.spatial import bounding_box
from .preprocess.state import Prepared

FloatArray = npt.NDArray[np.float32]


# What restoring needs of the network's output (`medseg.pipeline.infer.ScoreMaps`).
Maps = restore_steps.Maps


def labels_suffice(manifest: Manifest, prepared: Prepared, grid: Grid, *, probabilities: bool) -> bool:
    """True where labels decided on the network's grid are all that restoring needs."""
    if probabilities:
        return False
    if manifest.output.activation == "labels" or manifest.output.restore == "labels":
        return True
    return prepared.slice_grids is None and lattice_map(prepared.grid, grid) is not None


def kept_for(manifest: Manifest, prepared: Prepared, grid: Grid, *, probabilities: bool) -> Keep:
    """What inference must keep so that the result can be restored onto ``grid``."""
    if labels_suffice(manifest, prepared, grid, probabilities=probabilities):
        return "labels"
    return "logits" if manifest.output.restore == "logits" else "probabilities"


def segment_classes(items: Sequence[OutputClass]) -> list[SegmentClass]:
    """The manifest's classes as segments: colours that can be told apart, Slicer's seven-part terminology entries."""
    terms = [item.terminology for item in items]
    recommended = [
        None if t is None else terminology_color(t.type.value, t.modifier.value if t.modifier else "") for t in terms
    ]
    return [
        SegmentClass(i.value, i.name, (red / 255, green / 255, blue / 255), terminology_entry(i), i.lesion)
        for i, (red, green, blue) in zip(items, distinct([i.color for i in items], recommended), strict=True)
    ]


def terminology_entry(item: OutputClass) -> str:
    """``context~category~type~modifier~anatomic context~region~region modifier``; triplets joined by ``^``."""
    t = item.terminology
    if t is None:
        return ""
    codes = [
        "^^" if code is None else f"{code.scheme}^{code.value}^{code.meaning}"
        for code in (t.category, t.type, t.modifier, t.region, t.region_modifier)
    ]
    anatomic = "Anatomic codes - DICOM master list"
    return "~".join([t.context, codes[0], codes[1], codes[2], anatomic, codes[3], codes[4]])


def restore(
    maps: Maps,
    manifest: Manifest,
    prepared: Prepared,
    grid: Grid,
    *,
    probabilities: bool = False,
    monitor: Monitor | None = None,
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    """Layers and (where asked for) class probabilities (K, J, I), float32, on ``grid``.

    Outside the network's field of view every voxel is background.
    """
    monitor = monitor or Monitor()
    layers, kept = _restored(maps, manifest, prepared, grid, probabilities, monitor)
    if manifest.output.exclusive:
        layers = (_without_overlap(layers, manifest),)
    return layers, kept


def _restored(
    maps: Maps, manifest: Manifest, prepared: Prepared, grid: Grid, probabilities: bool, monitor: Monitor
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    back = _Back(prepared, grid)
    activation = manifest.output.activation
    if manifest.output.way_back == "steps":
        found, kept = restore_steps.restore(maps, manifest, prepared, grid, probabilities, monitor)
        if activation != "sigmoid":
            return (_one_layer(found[0], manifest),), kept
        shown = segment_classes(manifest.classes)
        return tuple(_mask_layer(m > 0, item) for m, item in zip(found, shown, strict=True)), kept
    if labels_suffice(manifest, prepared, grid, probabilities=probabilities):
        return _restore_labels(maps, manifest, back), {}
    if activation == "labels":
        monitor.warn("This model gives labels, not probabilities: no probability maps were written.")
        return _restore_labels(maps, manifest, back), {}
    if manifest.output.restore == "logits":
        if activation == "softmax":
            labels, kept = restore_logits.restore_softmax(maps, manifest, prepared, grid, probabilities, monitor)
            return (_one_layer(labels, manifest),), kept
        masks, kept = restore_logits.restore_sigmoid(maps, manifest, prepared, grid, probabilities, monitor)
        shown = segment_classes(manifest.classes)
        return tuple(_mask_layer(m, item) for m, item in zip(masks, shown, strict=True)), kept
    # Decided on the network's grid where that is exact, so that asking for probabilities cannot change a label.
    decided = labels_suffice(manifest, prepared, grid, probabilities=False)
    if activation == "sigmoid":
        return _restore_sigmoid(maps, manifest, back, decided, probabilities, monitor)
    return _restore_softmax(maps, manifest, back, decided, probabilities, monitor)


def _restore_labels(maps: Maps, manifest: Manifest, back: _Back) -> tuple[Layer, ...]:
    if manifest.output.activation == "sigmoid":
        shown = segment_classes(manifest.classes)
        masks = (back(_bits(maps, item), "nearest", 0).view(np.bool_) for item in manifest.classes)
        return tuple(_mask_layer(mask, item) for mask, item in zip(masks, shown, strict=True))
    labels = back(maps.labels(), "nearest", 0)
    return (_one_layer(labels, manifest),)


def _restore_sigmoid(
    maps: Maps, manifest: Manifest, back: _Back, decided: bool, probabilities: bool, monitor: Monitor
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    layers, kept = [], {}
    for n, (item, shown) in enumerate(zip(manifest.classes, segment_classes(manifest.classes), strict=True)):
        monitor.progress(n, len(manifest.classes), item.name)
        probability = back(maps.probability(item.sigmoid_channel), "linear", 0.0)
        if decided:
            layers.append(_mask_layer(back(_bits(maps, item), "nearest", 0).view(np.bool_), shown))
        else:
            layers.append(_mask_layer(probability > item.threshold, shown))
        if probabilities:
            kept[item.name] = probability
    return tuple(layers), kept


def _bits(maps: Maps, item: OutputClass) -> npt.NDArray[np.uint8]:
    """0 and 1, which stay so wherever they are moved: resampled to the nearest voxel they are a mask again."""
    return maps.mask(item.sigmoid_channel).view(np.uint8)


def _mask_layer(mask: npt.NDArray[np.bool_], item: SegmentClass) -> Layer:
    dtype = _dtype([item])
    if item.value == 1 and dtype == np.uint8:
        return Layer(mask.view(np.uint8), (item,))
    return Layer(np.multiply(mask, dtype(item.value), dtype=dtype), (item,))


def _restore_softmax(
    maps: Maps, manifest: Manifest, back: _Back, decided: bool, probabilities: bool, monitor: Monitor
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    values = {item.value: item for item in manifest.classes}
    channels = max(values) + 1
    best = back(maps.probability(0), "linear", 1.0)
    labels = np.zeros(back.grid.shape, dtype=np.uint8 if channels <= 256 else np.uint16)
    kept: dict[str, FloatArray] = {}
    for channel in range(1, channels):
        monitor.progress(channel, channels, values[channel].name if channel in values else "")
        source = maps.probability(channel)
        if probabilities and channel in values:
            probability = back(source, "linear", 0.0)
            kept[values[channel].name] = probability
            wins = probability > best
            best[wins], labels[wins] = probability[wins], channel
            continue
        # A class can only win where one of the interpolated neighbours reaches 1 / channels.
        candidates = source >= 1.0 / channels - 1e-3
        if not candidates.any():
            continue
        window, part = back.part(source, candidates)
        wins = part > best[window]
        best[window][wins], labels[window][wins] = part[wins], channel
    if decided:
        labels = back(maps.labels(), "nearest", 0)
    return (_one_layer(labels, manifest),), kept


def _without_overlap(layers: tuple[Layer, ...], manifest: Manifest) -> Layer:
    """One layer for all classes; where several hold, the last of the manifest's order is taken."""
    labels: npt.NDArray[Any] = np.zeros(layers[0].labels.shape, dtype=_dtype(manifest.classes))
    for layer in layers:
        np.copyto(labels, layer.labels, where=layer.labels > 0, casting="unsafe")
    return Layer(labels, tuple(segment_classes(manifest.classes)))


def _one_layer(labels: npt.NDArray[Any], manifest: Manifest) -> Layer:
    """Keep the values that the manifest names; all others become background."""
    top = max(int(labels.max(initial=0)), max(c.value for c in manifest.classes))
    dtype = _dtype(manifest.classes)
    table = np.zeros(top + 1, dtype=dtype)
    for item in manifest.classes:
        table[item.value] = item.value
    if labels.dtype == dtype and np.array_equal(table, np.arange(top + 1)):
        return Layer(labels, tuple(segment_classes(manifest.classes)))
    return Layer(table[labels.astype(np.int64, copy=False) if labels.dtype.kind != "u" else labels],
                 tuple(segment_classes(manifest.classes)))  # fmt: skip


def _dtype(classes: Sequence[OutputClass | SegmentClass]) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if max(c.value for c in classes) <= 255 else np.uint16


def onto(
    prepared: Prepared, grid: Grid, array: npt.NDArray[Any], interpolation: Interpolation, fill: float
) -> npt.NDArray[Any]:
    """``array`` (K, J, I) from the network's grid, or its slices' own grids, onto ``grid``; ``fill`` out of view."""
    return _Back(prepared, grid)(array, interpolation, fill)


class _Back:
    """Takes an array on the network's grid (or its per-slice grids) onto ``grid``."""

    def __init__(self, prepared: Prepared, grid: Grid) -> None:
        self.prepared = prepared
        self.grid = grid

    def __call__(self, array: npt.NDArray[Any], interpolation: Interpolation, fill: float) -> npt.NDArray[Any]:
        source, array = self._unstacked(array, interpolation, fill)
        return resample(array, source, self.grid, interpolation=interpolation, fill=fill)

    def part(
        self, array: FloatArray, candidates: npt.NDArray[np.bool_]
    ) -> tuple[tuple[slice, slice, slice], FloatArray]:
        """Only the window of `grid` that ``candidates`` can reach: (numpy slices, values, 0 where out of view)."""
        if self.prepared.slice_grids is not None:
            source, array = self._unstacked(array, "linear", 0.0)
            start, size = (0, 0, 0), source.size
        else:
            source = self.prepared.grid
            start, size = bounding_box(candidates, margin=1)  # type: ignore[assignment]
        corners = source.cropped(start, size).to_physical(
            np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * (np.array(size) / 2)
            + (np.array(size) - 1) / 2
        )
        index = self.grid.to_index(corners)
        low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, np.array(self.grid.size) - 1)
        high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, low + 1, self.grid.size)
        window = self.grid.cropped(low, high - low)
        values = resample(array, source, window, interpolation="linear", fill=0.0)
        slices = (slice(low[2], high[2]), slice(low[1], high[1]), slice(low[0], high[0]))
        return slices, values

    def _unstacked(
        self, array: npt.NDArray[Any], interpolation: Interpolation, fill: float
    ) -> tuple[Grid, npt.NDArray[Any]]:
        """Slices with grids of their own, put back into the grid that they were taken from."""
        prepared = self.prepared
        if prepared.slice_grids is None or prepared.stack_grid is None:
            return prepared.grid, array
        stack, index_axis = prepared.stack_grid, prepared.grid.axis_of(prepared.plane)
        axis = 2 - index_axis
        dtype = array.dtype if interpolation == "nearest" else np.float32
        out = np.full(stack.shape, fill, dtype=dtype)
        for n, own in enumerate(prepared.slice_grids):
            taken = np.take(array, [n], axis=axis)
            place: list[Any] = [slice(None)] * 3
            place[axis] = slice(n, n + 1)
            out[tuple(place)] = resample(taken, own, stack.slice(index_axis, n), interpolation=interpolation, fill=fill)
        return stack, out
