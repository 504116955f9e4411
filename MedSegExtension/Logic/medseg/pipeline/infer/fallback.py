"""Running batches when the device's memory does not suffice: a smaller batch, then (sliding windows only) a smaller
tile, then the CPU. Each step is told, and there are only finitely many: the batch and the tile only ever shrink, and
the CPU is gone to once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np

from ...engine.providers import PROVIDERS
from ...errors import DeviceError, ModelError, OutOfMemory
from ...model.manifest.schema import Manifest
from ...monitor import Monitor
from .ahead import WORTH_BYTES, run_ahead
from .tensors import Array, Feeder, FloatArray, Network, from_tensor

T = TypeVar("T")

# A tile this small sees too little around each voxel to be worth running.
_SMALLEST_TILE = 16
_TILE_STEPS = 3
_LARGE_WINDOW = 96**3


class Runner:
    """Runs batches of one model on one session. ``batch``: how many items at once, now.

    ``mirror_axes``: index axes (0: i) along which each item is also run mirrored; the outputs are averaged.
    ``may_grow``: `fill_card` may make the batch larger.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Network,
        monitor: Monitor,
        batch: int,
        mirror_axes: Sequence[int] = (),
        *,
        may_grow: bool = False,
    ) -> None:
        self.manifest = manifest
        self.session = session
        self.monitor = monitor
        self.feeder = Feeder(manifest, session.input_shapes)
        static = self.feeder.static_batch
        self.batch = max(1, batch) if static is None else static
        self.calls = 0
        self._counting = threading.Lock()
        self.mirrored = ["ijk"[a] for a in mirror_axes]
        # Axes of (N, O, C, K, J, I): one, then two, then three at once.
        axes = sorted(5 - a for a in mirror_axes)
        self._flips = [c for n in range(1, len(axes) + 1) for c in combinations(axes, n)]
        self._moved = False
        self._may_grow = may_grow and static is None

    def fill_card(self, voxels: int, count: int) -> None:
        """Where ``count`` small items of ``voxels`` each would leave an NVIDIA card idle, take more of them at once.

        So many that a batch has the voxels of one large window, in batches of one size; other devices gain nothing.
        """
        if self._may_grow and self.session.provider == PROVIDERS["cuda"] and count:
            calls = -(-count // max(1, _LARGE_WINDOW // max(1, voxels)))
            self.batch = max(self.batch, -(-count // calls))

    def batches(
        self,
        items: Sequence[T],
        gather: Callable[[Sequence[T]], FloatArray],
        read: Callable[[Array], FloatArray],
        *,
        scores: bool = False,
    ) -> Iterator[tuple[Sequence[T], FloatArray]]:
        """Run ``items`` in batches; yields the items of each batch and what ``read`` made of the output (N, C, ...).

        ``gather`` makes the batch (N, O, C, *spatial) of some items. ``scores``: the output is (N, C). While a batch is
        taken in, the next is made and run (`run_ahead`), where two fit into memory. The batch size is halved where
        memory does not suffice; `OutOfMemory` is raised where one item is too much.
        """
        at_once = max(1, getattr(self.session, "in_flight", 1))
        # Where several calls run at once they begin together; else the first alone shows how large an output is.
        ahead = at_once > 1
        done = 0

        def call(batch: FloatArray) -> FloatArray:
            return read(self.call(batch, scores=scores))

        while done < len(items):
            self.monitor.checkpoint()
            chosen = items[done : done + self.batch]
            several = ahead and len(chosen) < len(items) - done
            try:
                if several:
                    for taken, output in run_ahead(items[done:], self.batch, gather, call, at_once, self.monitor):
                        done += len(taken)
                        yield taken, output
                        del output
                    continue
                batch = gather(chosen)
                output = call(batch)
            except OutOfMemory:
                if several and at_once > 1:
                    self.monitor.warn(
                        f"The memory of {self.session.provider} did not suffice for {at_once} batches at once; going "
                        "on with one after the other."
                    )
                    at_once = 1
                elif not self._halve(len(items[done : done + self.batch])):
                    raise
                ahead = False
                continue
            done += len(chosen)
            ahead = batch.nbytes + output.nbytes <= WORTH_BYTES
            yield chosen, output
            del batch, output

    def call(self, batch: FloatArray, *, scores: bool = False) -> Array:
        """The output that the manifest names as (N, C, *spatial), averaged over the mirrored inputs where asked for."""
        output = self._call(batch, scores)
        if not self._flips:
            return output
        total = np.array(output, dtype=np.float32)
        for axes in self._flips:
            self.monitor.checkpoint()
            mirrored = self._call(np.ascontiguousarray(np.flip(batch, axes)), scores)
            total += np.flip(mirrored, tuple(a - 1 for a in axes))
        total /= np.float32(len(self._flips) + 1)
        return total

    def _call(self, batch: FloatArray, scores: bool) -> Array:
        flat = self.manifest.network_dimensions == 2 and batch.ndim == 6
        output = self._call_network(batch[:, :, :, 0] if flat else batch, scores)
        return output[:, :, np.newaxis] if flat else output

    def _call_network(self, batch: FloatArray, scores: bool) -> Array:
        outputs = self.session.run(self.feeder(batch))
        with self._counting:
            self.calls += 1
        name = self.manifest.output.tensor
        if name not in outputs:
            raise ModelError(
                f"The network has no output {name!r}, only {', '.join(sorted(outputs))}; correct output.tensor."
            )
        return from_tensor(outputs[name], self.manifest.output, batch.shape[0], None if scores else batch.shape[3:])

    def _halve(self, used: int) -> bool:
        if used <= 1 or self.feeder.static_batch is not None:
            return False
        self.batch = used // 2
        self.monitor.warn(
            f"The memory of {self.session.provider} did not suffice for a batch of {used}; going on with {self.batch}."
        )
        return True

    def to_cpu(self, what: str) -> None:
        """Go on, on the CPU, telling so; `DeviceError` where that is where memory ran out."""
        if self._moved or self.session.provider == "CPUExecutionProvider":
            raise DeviceError(
                f"The computer's memory did not suffice for {what}, even one at a time. Close other programs, choose a "
                "region of interest, or use a model with smaller inputs."
            )
        self.monitor.warn(
            f"The memory of {self.session.provider} did not suffice for {what}; going on with the CPU, which is slower."
        )
        self.session.to_cpu()
        self._moved = True

    def tile_sizes(self, patch: tuple[int, int, int]) -> Iterator[tuple[int, int, int]]:
        """``patch`` and, where the network takes any size, up to three smaller ones (any axis order)."""
        yield patch
        if not self.feeder.free_space:
            return
        for _ in range(_TILE_STEPS):
            smaller = tuple(_half(n) for n in patch)
            if smaller == patch:
                return
            patch = (smaller[0], smaller[1], smaller[2])
            yield patch


def _half(n: int) -> int:
    """About half of ``n``, divisible by the same power of two (at most 32): networks halve their input so often."""
    step = min(32, n & -n)
    half = -(-n // (2 * step)) * step
    return half if _SMALLEST_TILE <= half < n else n
