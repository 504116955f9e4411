"""Voxels as NIfTI and MGH files store them: one block after the header, plain or in a gzip stream."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from nibabel.arrayproxy import ArrayProxy

from ..errors import InputError
from ._common import Array

_LARGEST_DEFLATE_RATIO = 1032


class Gzip(gzip.GzipFile):
    """Fills a buffer piece by piece: before Python 3.14 the standard one holds the whole volume a second time."""

    def readinto(self, buffer: Any, /) -> int:
        view, got = memoryview(buffer), 0
        while got < len(view) and (piece := self.read(min(len(view) - got, 1 << 22))):
            view[got : got + len(piece)] = piece
            got += len(piece)
        return got


def stored_voxels(
    handle: BinaryIO | Gzip, dtype: np.dtype[Any], offset: int, dims: tuple[int, ...], path: Path
) -> Array:
    """As stored: (K, J, I), or with frames or colours last. ``dims``: i, j, k, frames...; ``offset`` in bytes.

    No memory is taken for data that cannot be there. Raises `InputError` where data are missing or damaged.
    """
    needed = math.prod(dims) * dtype.itemsize
    packed = isinstance(handle, Gzip)
    try:
        if offset + needed > path.stat().st_size * (_LARGEST_DEFLATE_RATIO if packed else 1):
            raise EOFError
        array: Array = ArrayProxy(handle, (dims, dtype, offset), mmap=False).get_unscaled().T
        while packed and handle.read(1 << 20):  # gzip looks at its checksum at the end of the stream only
            pass
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise InputError(
            f"{path.name} is truncated or damaged: the image data that its header states ({needed} bytes) are not all "
            "there or fail their checksum; copy or export it again."
        ) from error
    if dtype.names:
        return array.reshape(array.shape[-3:])[..., np.newaxis].view(np.uint8)
    array = np.moveaxis(array.reshape((-1, *array.shape[-3:])), 0, -1)  # (..., T, K, J, I) -> (K, J, I, all others)
    return array[..., 0] if array.shape[3] == 1 else array
