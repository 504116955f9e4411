"""Copies of arrays whose axes were turned: block by block, so that reads and writes stay in the processor's cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cores import cores

# Sides of a block; voxels of an array below which NumPy's own copy is as fast.
_BLOCK = 32
_WORTH = 1 << 20


def contiguous(view: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``view`` (K, J, I), axes permuted or flipped, as a C-contiguous array; itself where it is one.

    NumPy copies in the order of the result: where I was another axis each voxel comes from a cache line of its own.
    """
    strides = [abs(n) for n in view.strides]
    if view.flags.c_contiguous or view.size < _WORTH or strides[2] == min(strides):
        return np.ascontiguousarray(view)
    out = np.empty(view.shape, view.dtype)

    def fill(k: int) -> None:
        for j in range(0, view.shape[1], _BLOCK):
            for i in range(0, view.shape[2], _BLOCK):
                block = (slice(k, k + _BLOCK), slice(j, j + _BLOCK), slice(i, i + _BLOCK))
                out[block] = view[block]

    with ThreadPoolExecutor(cores(), thread_name_prefix="medseg-turn") as pool:
        list(pool.map(fill, range(0, view.shape[0], _BLOCK)))
    return out
