"""From the network's grid back onto the input's grid.

Class probabilities are interpolated linearly and then thresholded or compared, one class at a time, so that never more
than two class volumes are held in float32, and only where a class can be at all. Where both grids lie on one lattice
the labels are copied exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.components import Box, bounding_box, clumps, overlap
from ..geometry.grid import Grid
from ..geometry.resample import Interpolation, lattice_map, reached, resample
from ..model.colors import distinct, terminology_color
from ..model.manifest.schema import Manifest, OutputClass
from ..monitor import Monitor
from ..result import Layer, SegmentClass
from . import restore_logits, restore_steps
from .infer.score_maps import Keep
from .preprocess.state import Prepared

FloatArray = npt.NDArray[np.float32]


# Lesions nearer to each other than so many voxels are restored together, and all of them where they are many: each
# region costs a fraction of a millisecond by itself.
_GAP, _MOST_REGIONS = 8, 100

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
    return (_one_layer(back(maps.labels(), "nearest", 0), manifest),)


def _restore_sigmoid(
    maps: Maps, manifest: Manifest, back: _Back, decided: bool, probabilities: bool, monitor: Monitor
) -> tuple[tuple[Layer, ...], dict[str, FloatArray]]:
    layers, kept = [], {}
    for n, (item, shown) in enumerate(zip(manifest.classes, segment_classes(manifest.classes), strict=True)):
        monitor.progress(n, len(manifest.classes), item.name)
        source = maps.probability(item.sigmoid_channel)
        if not probabilities and item.threshold >= 0:
            # A mean is above the threshold only where one of the voxels that are averaged is.
            mask = np.zeros(back.grid.shape, dtype=bool)
            for region in back.regions(source > item.threshold):
                np.greater(back(source, "linear", 0.0, region), item.threshold, out=mask[region])
            layers.append(_mask_layer(mask, shown))
            continue
        probability = back(source, "linear", 0.0)
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
    # A class can only win where one of the interpolated neighbours reaches 1 / channels.
    least = 1.0 / channels - 1e-3
    candidates = _any(maps.may_reach(channel, least) for channel in range(1, channels))
    regions = [back.whole] if probabilities else back.regions(candidates)
    labels = np.zeros(back.grid.shape, dtype=np.uint8 if channels <= 256 else np.uint16)
    best = np.empty(back.grid.shape, np.float32)
    background = maps.probability(0)
    for region in regions:
        best[region] = back(background, "linear", 1.0, region)
    del background
    kept: dict[str, FloatArray] = {}
    for channel in range(1, channels):
        monitor.progress(channel, channels, values[channel].name if channel in values else "")
        source = maps.probability(channel)
        if probabilities and channel in values:
            probability = back(source, "linear", 0.0)
            kept[values[channel].name] = probability
            parts = [(back.whole, probability)]
        else:
            near = bounding_box(maps.may_reach(channel, least))
            windows = [] if near is None else [overlap(region, back.reached(near)) for region in regions]
            parts = [(window, back(source, "linear", 0.0, window)) for window in windows if window is not None]
        for window, part in parts:
            wins = part > best[window]
            best[window][wins], labels[window][wins] = part[wins], channel
    if decided:
        labels = back(maps.labels(), "nearest", 0)
    return (_one_layer(labels, manifest),), kept


def _any(masks: Iterable[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    """Where one of ``masks`` is True."""
    first, *others = masks
    for mask in others:
        first |= mask
    return first


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
    if labels.dtype == dtype and {0, *(c.value for c in manifest.classes)} == set(range(top + 1)):
        return Layer(labels, tuple(segment_classes(manifest.classes)))
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

    def __call__(
        self, array: npt.NDArray[Any], interpolation: Interpolation, fill: float, region: Box | None = None
    ) -> npt.NDArray[Any]:
        """All of it, or only the voxels ``region`` of `grid`."""
        source, array = self._unstacked(array, interpolation, fill)
        return resample(array, source, self.grid, interpolation=interpolation, fill=fill, box=region)

    @property
    def whole(self) -> Box:
        """All voxels of `grid`."""
        k, j, i = (slice(0, n) for n in self.grid.shape)
        return (k, j, i)

    def reached(self, box: Box) -> Box:
        """The voxels of `grid` on which the voxels ``box`` of the network's grid have a say."""
        return self.whole if self.prepared.slice_grids is not None else reached(box, self.prepared.grid, self.grid)

    def regions(self, candidates: npt.NDArray[np.bool_]) -> list[Box]:
        """Boxes of `grid` outside which ``candidates`` (voxels of the network's grid) have no say; they may overlap.

        One for each clump where these are few and small, as lesions are; else one for all.
        """
        around = bounding_box(candidates)
        if around is None:
            return []
        if self.prepared.slice_grids is not None:
            return [self.whole]
        boxes = [box for box, _ in clumps(candidates, _GAP)]
        voxels = sum(math.prod(s.stop - s.start for s in box) for box in boxes)
        if len(boxes) > _MOST_REGIONS or voxels > math.prod(s.stop - s.start for s in around):
            boxes = [around]
        return [self.reached(box) for box in boxes]

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
