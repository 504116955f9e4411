"""Network input that is made slice by slice when it is asked for, where that gives the same values.

A CT has two bytes a voxel, its float32 input four for each window. Steps that look at one voxel at a time (`POINTWISE`)
need not be done before the slices are fed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...model.manifest import steps as s

Array = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Make = Callable[[Array], Float32Array]

#: All rise or fall with the value, so that the range of the values is that of the two ends.
POINTWISE = (s.Affine, s.Clip, s.Window, s.RoundTo, s.ToRGB, s.ImageNet)


def is_pointwise(step: Any) -> bool:
    """True for a step whose result at a voxel depends on nothing else."""
    return isinstance(step, POINTWISE) and getattr(step, "percentiles", None) is None


class OnDemand:
    """Stands for a float32 array (C, K, J, I) that ``makes``, one after the other, give of ``source`` (c, K, J, I).

    `slices` makes some of it; NumPy's functions and indices get all of it, made anew each time.
    """

    dtype = np.dtype(np.float32)
    ndim = 4

    def __init__(self, source: Array) -> None:
        self._source = source
        self._makes: list[Make] = []
        self._ends: Array = np.stack([np.array([c.min(), c.max()], source.dtype).reshape(1, 1, 2) for c in source])

    def then(self, make: Make) -> None:
        """Let ``make``, a pointwise step that gives a new float32 array, follow."""
        self._ends = make(self._ends)
        self._makes.append(make)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, K, J, I) of the result."""
        return (len(self._ends), *self._source.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return int(np.prod(self.shape)) * 4

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self._made(self._source).astype(dtype or np.float32, copy=False)

    def min(self) -> Any:
        """Least value of the result."""
        return self._ends.min()

    def max(self) -> Any:
        """Greatest value of the result."""
        return self._ends.max()

    def mean(self, dtype: Any = None) -> Any:
        """Mean of the result."""
        return np.asarray(self).mean(dtype=dtype)

    def slices(self, axis: int, positions: Sequence[int] | npt.NDArray[np.intp]) -> Float32Array:
        """The result at ``positions`` along numpy axis ``axis`` (1 to 3): (N, C, and the two axes that are left)."""
        out: Float32Array | None = None
        # One at a time: its values stay in the processor's cache from step to step.
        for n, position in enumerate(positions):
            one = self._made(np.take(self._source, [position], axis=axis)).squeeze(axis)
            if out is None:
                out = np.empty((len(positions), *one.shape), np.float32)
            out[n] = one
        assert out is not None
        return out

    def _made(self, values: Array) -> Float32Array:
        for make in self._makes:
            values = make(values)
        return np.ascontiguousarray(values, dtype=np.float32)
