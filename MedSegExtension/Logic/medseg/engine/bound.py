"""Runs of ONNX Runtime on a graphics card whose outputs land in arrays that are used again.

A new array of some megabytes for each run costs as much as the run: its pages are made and cleared when they are
first written, while no other Python thread works.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Key = tuple[str, tuple[int, ...], str]
# Larger arrays are not kept for the next run.
_MOST_BYTES = 64 << 20


class Outputs:
    """Arrays by (name, shape, dtype). One is handed out again when nobody holds it or a view of it any more.

    Large ones are made anew: they would be held as long as the session is open.
    """

    def __init__(self) -> None:
        self._kept: dict[Key, list[Array]] = {}
        self._lock = threading.Lock()

    def take(self, key: Key) -> Array:
        """An array of ``key``, its content undefined."""
        _, shape, dtype = key
        if math.prod(shape) * np.dtype(dtype).itemsize > _MOST_BYTES:
            return np.empty(shape, dtype)
        with self._lock:
            kept = self._kept.setdefault(key, [])
            for n in range(len(kept)):
                # Views hold the array that owns the memory, so these are the list's reference and the argument's.
                if sys.getrefcount(kept[n]) <= 2:
                    return kept[n]
            kept.append(np.empty(shape, dtype))
            return kept[-1]

    def only(self, keys: set[Key]) -> None:
        """Forget all others."""
        with self._lock:
            self._kept = {key: arrays for key, arrays in self._kept.items() if key in keys}


class BoundSession:
    """An `onnxruntime.InferenceSession` whose `run` may be called from several threads at once."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [o.name for o in session.get_outputs()]
        self._known: dict[tuple[Any, ...], list[Key]] = {}
        self._outputs = Outputs()
        self._works = True

    def run(self, feeds: Mapping[str, Array], options: Any) -> list[Array]:
        """The outputs in their order. Shapes are learnt by the first run of each size of input."""
        sizes = tuple((name, array.shape, array.dtype.str) for name, array in sorted(feeds.items()))
        keys = self._known.get(sizes)
        if keys is None or not self._works:
            values: list[Array] = self._session.run(self._names, feeds, options)
            self._learn(sizes, values)
            return values
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        arrays = [self._outputs.take(key) for key in keys]
        for (name, shape, dtype), array in zip(keys, arrays, strict=True):
            binding.bind_output(name, "cpu", 0, np.dtype(dtype).type, shape, array.ctypes.data)
        self._session.run_with_iobinding(binding, options)
        return arrays

    def plainly(self) -> bool:
        """Bind no more; True where runs were bound until now. For outputs whose size the input's does not tell."""
        before, self._works = self._works, False
        return before

    def _learn(self, sizes: tuple[Any, ...], values: list[Array]) -> None:
        if not all(isinstance(v, np.ndarray) and v.dtype.kind in "fiu" for v in values):
            self._works = False
            return
        keys = [(name, v.shape, v.dtype.str) for name, v in zip(self._names, values, strict=True)]
        if len(self._known) >= 2:
            self._known.clear()
            self._outputs.only(set())
        self._known[sizes] = keys
