"""Level and width to grey values: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, and the clip that most networks use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...model.manifest.steps import Window

Float32Array = npt.NDArray[np.float32]


def apply_windows(step: Window, array: npt.NDArray[Any]) -> Float32Array:
    """One output channel for each window of each input channel, channel by channel in the order of the windows.

    ``array``: (C, K, J, I); the result is (C * windows, K, J, I). Raises `ModelError` for a width that the function
    does not allow.
    """
    count = len(step.windows)
    result = np.empty((array.shape[0] * count, *array.shape[1:]), dtype=np.float32)
    for c, channel in enumerate(array):
        for w, window in enumerate(step.windows):
            # Slice by slice, so that all passes but the first find their values in the processor's cache.
            for given, out in zip(channel, result[c * count + w], strict=True):
                out[...] = given
                window_in_place(out, window.level, window.width, step.function, step.output)
    return result


def window_in_place(x: Float32Array, level: float, width: float, function: str, output: tuple[float, float]) -> None:
    """Replace ``x`` by its value in the window, scaled to ``output`` (low, high).

    With c = level and w = width: ``LINEAR`` runs from c - 0.5 - (w - 1)/2 to c - 0.5 + (w - 1)/2, ``LINEAR_EXACT`` and
    ``CLIP`` from c - w/2 to c + w/2, ``SIGMOID`` is 1 / (1 + exp(-4 (x - c) / w)).
    """
    least = 1.0 if function == "LINEAR" else 0.0
    if width < least or width <= 0:
        raise ModelError(
            f"A window of width {width:g} cannot be used with the function {function}: DICOM wants a width "
            f"{'of at least 1' if function == 'LINEAR' else 'above 0'}; correct the window."
        )
    if function == "SIGMOID":
        x -= np.float32(level)
        x *= np.float32(4 / width)
        from scipy.special import expit

        expit(x, out=x)
    elif function == "LINEAR" and width == 1:
        np.greater(x, level - 0.5, out=x, casting="unsafe")
    else:
        low, extent = (level - 0.5 - (width - 1) / 2, width - 1) if function == "LINEAR" else (level - width / 2, width)
        x -= np.float32(low)
        x /= np.float32(extent)
        # Clipped last: clipping to a rounded upper end first lets narrow windows overshoot 1.
        np.clip(x, 0, 1, out=x)
    if output != (0.0, 1.0):
        x *= np.float32(output[1] - output[0])
        x += np.float32(output[0])
