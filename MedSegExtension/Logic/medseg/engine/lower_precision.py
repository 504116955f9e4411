"""A lower precision than float32 on OpenVINO, kept only where a whole volume showed that it decides as float32 does.

On its first volume a network runs in both precisions, and float32 gives the result. From the next one on the lower
precision runs alone where at least 99.95 % of the decisions were the same, else float32 does. What was found is
remembered for this network, its sizes and this processor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..model.manifest.schema import Manifest
from . import automatic
from .automatic import Array, Choice
from .openvino_engine import OpenVinoNetwork

#: Decisions of a whole volume that must be the same.
EQUAL = 0.9995


class Compared:
    """Stands for an `OpenVinoNetwork` in ``precision``. All calls must come from one thread but `stop`.

    ``make``: a network in a precision. ``tell``: for notes, ``warn``: for a refusal.
    """

    def __init__(
        self,
        manifest: Manifest,
        precision: str,
        make: Callable[[str], OpenVinoNetwork],
        sha256: str,
        threads: int | None,
    ) -> None:
        self.precision = precision
        self._manifest, self._make, self._facts = manifest, make, (sha256, threads)
        self._lower = make(precision)
        self._exact: OpenVinoNetwork | None = None
        self._running: OpenVinoNetwork = self._lower
        self._share: float | None = None
        self._equal = self._decisions = 0.0
        self._key = ""
        self.input_shapes, self.output_shapes = self._lower.input_shapes, self._lower.output_shapes

    @property
    def refused(self) -> bool:
        """Whether float32 runs in place of what was asked for."""
        return self._share is not None and self._share < EQUAL

    def words(self) -> str:
        """What runs, and why, for the user."""
        return f"{self._found()} {self._running.words()}".strip()

    def _found(self) -> str:
        if self._share is None:
            return (
                f"On this first volume {self.precision} is compared with float32, which gives the result. From the "
                f"next one on {self.precision} runs alone if at least {100 * EQUAL:g} % of the decisions are the same."
            )
        found = f"on a whole volume {100 * self._share:.4f} % of its decisions were those of float32"
        if self.refused:
            return f"{self.precision} is not used: {found}, and {100 * EQUAL:g} % must be. float32 runs this network."
        return f"{self.precision} runs this network: {found}."

    def ready(self, feeds: dict[str, Array]) -> None:
        """Compile the lower precision for inputs of these sizes."""
        self._lower.ready(feeds)

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """All outputs by name; `InterruptedError` after `stop`."""
        if not self._key:
            sha256, threads = self._facts
            self._key = f"{automatic.key(sha256, threads, feeds)}-{self.precision}"
            known = automatic.remembered(self._key)
            self._share = known.agreement if known is not None else None
        if self._share is not None and not self.refused:
            return self._call(self._lower, feeds)
        self._exact = self._exact or self._make("float32")
        result = self._call(self._exact, feeds)
        if self._share is None and automatic.telling(feeds):
            other = self._call(self._lower, feeds)
            size = result[self._manifest.output.tensor].size
            self._equal += size * automatic.agreement(self._manifest, result, other)
            self._decisions += size
        return result

    def volume_is_done(self, whole: bool) -> None:
        """Decide by the volume that was run, if ``whole``; nothing happens where nothing was compared."""
        if not whole:
            self._equal = self._decisions = 0.0
        elif self._share is None and self._decisions:
            self._share = self._equal / self._decisions
            engine = "float32" if self.refused else self.precision
            automatic.remember(self._key, Choice(engine, {}, self._share))
            if self.refused:
                self._running = self._exact or self._lower

    def stop(self) -> None:
        """End the run that goes on, from any thread."""
        self._running.stop()

    def _call(self, network: OpenVinoNetwork, feeds: dict[str, Any]) -> dict[str, Array]:
        self._running = network
        return network.run(feeds)
