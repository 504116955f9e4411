"""3D networks in overlapping windows, blended, with only a band of the volume in float32.

Windows go along K slowest. Once the last window that reaches a slab of slices is done, the slab is normalised by the
sum of its weights, turned into labels and 16-bit probabilities, and its float32 memory is used for the next. What is
blended is the network's own output (logits where the activation is outside the graph), as in nnU-Net v2 and MONAI.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from ...engine.machine import physical_cores
from ...engine.openvino_engine import PROVIDER as OPENVINO
from ...engine.providers import CPU
from ...errors import ModelError, OutOfMemory
from ...model.manifest.schema import SlidingWindow
from ...monitor import Monitor
from ..preprocess.state import Prepared
from .blending import Band, Blocks, Start, importance
from .fallback import Runner
from .score_maps import Region, ScoreMaps, Store
from .tensors import FloatArray
from .whole import Margins, centred_margins, pad_volume

# More threads wait for each other (measured: 4 to 8 are equal, 12 slower).
_MOST_THREADS = 4


def window_starts(
    size: int, patch: int, overlap: float, placement: str = "flush", stride: int | None = None
) -> list[int]:
    """First voxel of each window along one axis; the last window is flush with the border.

    ``flush``: the step is ``patch * (1 - overlap)`` rounded down, at least 1. ``even``: as many windows as that step
    (not rounded) needs, spread evenly and rounded to whole voxels (nnU-Net). ``stride``: the step, in voxels.
    """
    if size <= patch:
        return [0]
    if placement == "even":
        count = 1 + math.ceil((size - patch) / max(patch * (1 - overlap), 1))
        return [round((size - patch) / (count - 1) * n) for n in range(count)]
    step = stride or max(1, math.floor(patch * (1 - overlap) + 1e-9))
    starts = list(range(0, size - patch, step))
    return [*starts, size - patch]


def window_plan(
    shape: tuple[int, ...],
    patch: tuple[int, ...],
    overlap: float,
    placement: str = "flush",
    stride: tuple[int, ...] | None = None,
) -> list[Start]:
    """Starts (k, j, i) of all windows of ``patch`` (k, j, i) on a padded volume of ``shape``, k slowest."""
    steps = stride or (None, None, None)
    axes = [window_starts(s, p, overlap, placement, t) for s, p, t in zip(shape, patch, steps, strict=True)]
    return [(k, j, i) for k, j, i in product(*axes)]


class _Pass:
    """One pass over all windows with one patch size."""

    def __init__(
        self, plan: SlidingWindow, patch: tuple[int, int, int], prepared: Prepared, runner: Runner, store: Store
    ) -> None:
        self.plan, self.patch, self.runner, self.store = plan, patch, runner, store
        self.shape = prepared.grid.shape
        self.margins: Margins = centred_margins(self.shape, patch)
        self.padded = pad_volume(prepared.array, self.margins, plan.pad_value)
        self.starts = window_plan(self.padded.shape[1:], patch, plan.overlap, plan.placement, _turned(plan.stride))
        self.band: Band | None = None
        self.blocks = Blocks(_threads(runner.session.provider))

    def window(self, start: Start) -> FloatArray:
        k, j, i = (slice(s, s + n) for s, n in zip(start, self.patch, strict=True))
        return self.padded[:, k, j, i]

    def windows(self, starts: Sequence[Start]) -> FloatArray:
        return np.stack([self.window(s) for s in starts])[:, np.newaxis]

    def run(self, monitor: Monitor) -> ScoreMaps:
        try:
            return self._run(monitor)
        finally:
            self.blocks.close()

    def _run(self, monitor: Monitor) -> ScoreMaps:
        limit = self.plan.skip_background_at_most
        wanted = [s for s in self.starts if limit is None or float(self.window(s).max()) > limit]
        self.runner.fill_card(math.prod(self.patch), len(wanted))
        done = 0
        for starts, values in self.runner.batches(wanted, self.windows, self.store.read):
            for start, one in zip(starts, values, strict=True):
                band = self._band(values.shape[1])
                self._flush(band, start[0])
                band.add(start, one)
            done += len(starts)
            monitor.progress(done, len(wanted), f"window {done} of {len(wanted)}")
        if self.band is not None:
            self._flush(self.band, self.padded.shape[1])
        details: dict[str, Any] = {
            "patch": list(reversed(self.patch)),
            "batch": self.runner.batch,
            "windows": len(wanted),
            "windows_skipped_as_background": len(self.starts) - len(wanted),
            "calls": self.runner.calls,
            "mirrored_along": self.runner.mirrored,
        }
        if self.band is None:
            channels = self.store.maps(self.store.least_channels()).channels
            self.store.background((slice(None), slice(None), slice(None)), channels)
        return self.store.finish(details)

    def _band(self, channels: int) -> Band:
        if self.band is None:
            weights = importance(self.patch, self.plan.blending)
            self.store.maps(channels)
            choose = self.store.output.activation == "labels"
            self.band = Band(
                channels, self.padded.shape[1:], weights, choose=choose, half=self.plan.sums == "float16",
                maximum=self.plan.blending == "maximum", blocks=self.blocks,
            )  # fmt: skip
        return self.band

    def _flush(self, band: Band, until: int) -> None:
        """Store all slices before ``until``; no window that is still to come reaches them."""
        while band.first < min(until, self.padded.shape[1]):
            band.finish(until, self._put)

    def _put(self, first: int, mean: FloatArray, covered: Any) -> None:
        """The part of a finished slab that lies in the unpadded volume."""
        if not covered.all():
            self._empty(mean, covered)
        (before, _), *others = self.margins
        low, high = max(first, before), min(first + mean.shape[1], before + self.shape[0])
        if low >= high:
            return
        inner = [slice(b, b + n) for (b, _), n in zip(others, self.shape[1:], strict=True)]
        region: Region = (slice(low - before, high - before), slice(None), slice(None))
        self.store.put(region, mean[:, low - first : high - first, inner[0], inner[1]])

    def _empty(self, mean: FloatArray, covered: Any) -> None:
        """Where no window ran there is background: as the network would say it with certainty."""
        output = self.store.output
        none, sure = (-1e4, 0.0) if output.logits else (0.0, 1.0)
        mean[:, ~covered] = none if output.activation != "labels" else 0.0
        if output.activation == "softmax":
            mean[0][~covered] = sure


def run_sliding_window(
    plan: SlidingWindow, patch: tuple[int, int, int] | None, prepared: Prepared, runner: Runner, store: Store
) -> ScoreMaps:
    """Run all windows. ``patch`` (i, j, k) in place of the manifest's, where the network takes any size.

    Voxels that only windows of pure background cover (``skip_background_at_most``) are background; such windows add
    nothing to what other windows say. Memory that does not suffice leads to smaller batches, smaller windows, the CPU.
    """
    monitor = runner.monitor
    if runner.manifest.task == "classification":
        raise ModelError("A classification cannot run in sliding windows; the manifest's inference.mode must be whole.")
    chosen = plan.patch
    if patch is not None and patch != plan.patch:
        if runner.feeder.free_space:
            chosen = patch
        else:
            monitor.warn(f"The network's window size is fixed; the windows stay {_text(plan.patch)} voxels.")
    first = (chosen[2], chosen[1], chosen[0])
    while True:
        sizes = list(runner.tile_sizes(first))
        for n, size in enumerate(sizes):
            try:
                return _Pass(plan, size, prepared, runner, store).run(monitor)
            except OutOfMemory:
                store.restart()
                if n + 1 < len(sizes):
                    monitor.warn(
                        f"The memory of {runner.session.provider} did not suffice for one window of "
                        f"{_text(size[::-1])} voxels; going on with {_text(sizes[n + 1][::-1])}, which may change the "
                        "result a little near the windows' borders."
                    )
        runner.to_cpu(f"one window of {_text(sizes[-1][::-1])} voxels")


def _threads(provider: str) -> int:
    """Threads that blend: one beside a network that has all cores itself."""
    if provider == CPU or provider.startswith(OPENVINO):
        return 1
    return max(1, min(_MOST_THREADS, (physical_cores() or 2) - 2))


def _turned(stride: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    return None if stride is None else (stride[2], stride[1], stride[0])


def _text(sizes: Sequence[int]) -> str:
    return "x".join(str(n) for n in sizes)
