"""Which image sizes an unknown network takes, found out by running it on small ones.

A network that halves its input n times takes multiples of 2**n only, which its file does not say. Each open axis is
tried alone, from a size that works, with one voxel more, then 2, 4, 8, ... more: the first that works is its step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from ...engine.devices import plain_words
from ...errors import ModelError
from .onnx_tidy import open_network

Space = tuple[int | None, ...]
_BASES = {2: (64, 96, 128, 256), 3: (32, 48, 64, 96)}
_STEPS = (1, 2, 4, 8, 16, 32, 64)
_SECONDS = 60.0
_ALIKE = 1e-3
_NUMPY = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64, "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32, "tensor(int64)": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class Tried:
    """``multiple``: of this all open axes must be, 1 for any size; None where it was not found out (``reason``).

    ``batch``: whether several images at once give what each gives alone; None where only one can be given.
    """

    multiple: int | None = None
    batch: bool | None = None
    reason: str = ""


class SizeProbe:
    """Runs the ONNX file ``path`` on random images on the CPU.

    ``space``: sizes of the spatial axes in the tensor's order, None where open; ``channels``; ``channels_last``;
    ``output``: the tensor whose size must be the input's (None: of scores the size is not looked at).
    """

    def __init__(self, path: Path, space: Space, channels: int, channels_last: bool, output: str, scores: bool) -> None:
        self._session = open_network(str(path))
        self._input = self._session.get_inputs()[0]
        self._space, self._channels, self._last = space, channels, channels_last
        self._output, self._scores = output, scores
        self._until = time.monotonic() + _SECONDS
        self._random = np.random.default_rng(0)

    def look(self, name: str) -> Tried:
        """Try sizes and batches. `ModelError` where the output's size is never the input's (``name``: the file)."""
        base = self._base(name)
        if base is None:
            return Tried(reason=f"it ran on none of the sizes that were tried ({self._why})")
        multiple = 1
        for axis, size in enumerate(self._space):
            if size is not None:
                continue
            step = next((s for s in _STEPS if self._works(_larger(base, axis, s))), None)
            if step is None or time.monotonic() > self._until:
                return Tried(reason="trying its sizes took too long", batch=self._batch(base))
            multiple = max(multiple, step)
        return Tried(multiple, self._batch(base))

    # -- one call -----------------------------------------------------------------------------------------------

    _why = ""

    def _run(self, image: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        try:
            (found,) = self._session.run([self._output], {self._input.name: image}, options)
        except Exception as error:  # ONNX Runtime's exception classes share no public base
            self._why = plain_words(error)
            return None
        return np.asarray(found)

    def _image(self, space: tuple[int, ...], count: int = 1) -> npt.NDArray[Any]:
        shape = (count, *space, self._channels) if self._last else (count, self._channels, *space)
        dtype = _NUMPY.get(self._input.type, np.float32)
        if np.issubdtype(dtype, np.integer):
            return self._random.integers(0, 200, shape).astype(dtype)
        return self._random.normal(size=shape).astype(dtype)

    def _given(self, found: npt.NDArray[Any], rank: int) -> tuple[int, ...]:
        """The spatial size of an output (N, C, ...), (N, ..., C) or (N, ...)."""
        if found.ndim == rank + 1:
            return found.shape[1:]
        ends = (found.shape[1:-1], found.shape[2:])
        return ends[0] if self._last else ends[1]

    def _works(self, space: tuple[int, ...]) -> bool:
        found = self._run(self._image(space))
        return found is not None and (self._scores or self._given(found, len(space)) == space)

    def _base(self, name: str) -> tuple[int, ...] | None:
        smaller = None
        for size in _BASES[len(self._space)]:
            space = tuple(size if n is None else n for n in self._space)
            found = self._run(self._image(space))
            if found is None:
                continue
            given = self._given(found, len(space)) if not self._scores else space
            if given == space:
                return space
            if len(given) == len(space):
                smaller = smaller or (space, given)
        if smaller is not None:
            wanted, got = (" x ".join(map(str, s)) for s in smaller)
            raise ModelError(
                f"{name}: the network gives {got} for an image of {wanted}, so its labels do not lie on the image's "
                "voxels (convolutions without padding, or an output at a lower resolution). Export it with padding, or "
                "with an upsampling at its end."
            )
        return None

    def _batch(self, base: tuple[int, ...]) -> bool | None:
        """Whether two images at once give what each gives alone."""
        if isinstance(self._input.shape[0], int):
            return None
        both = self._image(base, 2)
        together = self._run(both)
        alone = [self._run(both[n : n + 1]) for n in range(2)]
        if together is None or any(a is None for a in alone) or len(together) != 2:
            return False
        largest = max(float(np.abs(together[n] - alone[n][0]).max(initial=0)) for n in range(2))  # type: ignore[index]
        return largest <= _ALIKE * max(1.0, float(np.abs(together).max(initial=0)))


def _larger(base: tuple[int, ...], axis: int, step: int) -> tuple[int, ...]:
    return tuple(n + step if a == axis else n for a, n in enumerate(base))
