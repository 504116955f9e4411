"""Between MedSeg's arrays and a network's tensors: layout, dtype, static shapes.

Inside MedSeg a batch is ``(N, C, *spatial)`` float32, spatial axes in the order K, J, I (for slices the two of them
that are left). All that a tensor's layout and dtype demand happens here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...model.manifest.schema import Layout, Manifest, Output, Tensor

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Shape = tuple[int, ...]

_DTYPES: dict[str, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "uint8": np.uint8,
    "int32": np.int32,
    "int64": np.int64,
    "double": np.float64,
}
_CHANNELS_LAST = ("NHWC", "NDHWC")
_WITHOUT_CHANNELS = ("NHW", "NDHW", "N")


class Network(Protocol):
    """What running needs of `medseg.engine.session.Session`."""

    @property
    def provider(self) -> str:
        """The execution provider that really runs."""

    @property
    def input_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shape of each ONNX input in its own layout; None where the dimension is free."""

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Run the network once; `medseg.engine.session.OutOfMemory` where the device's memory does not suffice."""

    def to_cpu(self) -> None:
        """Go on, on the CPU."""


def to_tensor(batch: FloatArray, tensor: Tensor) -> Array:
    """``batch`` (N, C, *spatial) in the layout and dtype of an ONNX input.

    Integers are rounded half to even and clipped to the type's range (values beyond it would wrap around otherwise).
    Raises `ModelError` where several channels meet a layout that has none.
    """
    if tensor.layout in _CHANNELS_LAST:
        batch = np.moveaxis(batch, 1, -1)
    elif tensor.layout in _WITHOUT_CHANNELS:
        if batch.shape[1] != 1:
            raise ModelError(
                f"The manifest gives input {tensor.name!r} the layout {tensor.layout} (no channel axis), but "
                f"{batch.shape[1]} channels reach it; correct the layout, or name one channel in its 'channels'."
            )
        batch = batch[:, 0]
    dtype = np.dtype(_DTYPES[tensor.dtype])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        # float64, since int32's limits have no exact float32; int64's greatest value is not even a float64.
        top = float(limits.max) if dtype.itemsize < 8 else np.nextafter(float(limits.max), 0.0)
        whole = np.clip(np.rint(batch.astype(np.float64)), limits.min, top)
        return np.ascontiguousarray(whole.astype(dtype))
    return np.ascontiguousarray(batch, dtype=dtype)


def from_tensor(array: Array, output: Output, count: int, spatial: Shape | None) -> Array:
    """An ONNX output as (N, C, *spatial), its dtype kept; the first ``count`` of the batch.

    ``spatial``: what was fed, or None for classification scores (N, C). Raises `ModelError` with both shapes where the
    output has another form than the manifest says.
    """
    dims = len(output.layout)
    wanted = 0 if spatial is None else len(spatial)
    if array.ndim != dims or dims - (output.layout not in _WITHOUT_CHANNELS) - 1 != wanted:
        raise ModelError(
            f"The output {output.tensor!r} has the shape {_text(array.shape)}, but the manifest's layout is "
            f"{output.layout}; correct output.layout or choose another output tensor."
        )
    if output.layout in _WITHOUT_CHANNELS:
        array = array[:, np.newaxis]
    elif output.layout in _CHANNELS_LAST:
        array = np.moveaxis(array, -1, 1)
    if array.shape[0] < count or (spatial is not None and array.shape[2:] != spatial):
        fed = (count, "C", *(spatial or ()))
        raise ModelError(
            f"The output {output.tensor!r} has the shape {_text(array.shape)} (batch, channels, space), but "
            f"{_text(fed)} was expected from what was fed; the manifest's layout or the model is wrong."
        )
    return array[:count]


def check_channels(found: int, shape: Sequence[int], manifest: Manifest) -> None:
    """`ModelError` where the output's channels cannot hold the manifest's classes."""
    top = max(c.value for c in manifest.classes)
    activation = manifest.output.activation
    if activation == "sigmoid" and manifest.task == "segmentation":
        least, rule = max(c.sigmoid_channel for c in manifest.classes) + 1, "the channel + 1"
    elif manifest.task == "classification" or activation == "sigmoid":
        least, rule = top, "a score's column + 1" if manifest.task == "classification" else "the channel + 1"
    elif activation == "softmax":
        least, rule = top + 1, "the channel, channel 0 being background"
    else:
        if found == 1:
            return
        raise ModelError(
            f"The output {manifest.output.tensor!r} has {found} channels (shape {_text(shape)}), but ready labels have "
            "one; the manifest's output.activation is probably softmax or sigmoid."
        )
    if found < least or (activation == "softmax" and found < 2):
        raise ModelError(
            f"The output {manifest.output.tensor!r} has the shape {_text(shape)}, that is {found} channel(s), but the "
            f"manifest's {len(manifest.classes)} class(es) with values up to {top} need the shape "
            f"{_text((shape[0], max(least, 2 if activation == 'softmax' else 1), *shape[2:]))} "
            f"({activation}: a class's value is {rule}); correct classes or output.activation."
        )


class Feeder:
    """Makes the feeds of all inputs from batches (N, O, C, *spatial); O are 2.5D neighbours, 1 where there are none."""

    def __init__(self, manifest: Manifest, shapes: Mapping[str, tuple[int | None, ...]]) -> None:
        self.manifest = manifest
        self.shapes = shapes
        self.static_batch = self._static(lambda tensor: 0)

    @property
    def free_space(self) -> bool:
        """True where every input takes any spatial size, so that a tile can be made smaller."""
        known = [t for t in self.manifest.inputs if t.name in self.shapes]
        return all(self.shapes[t.name][n] is None for t in known for n in _space(t.layout))

    def _static(self, axis: Any) -> int | None:
        sizes = [self.shapes[t.name][axis(t)] for t in self.manifest.inputs if t.name in self.shapes]
        return next((n for n in sizes if n is not None), None)

    def __call__(self, batch: FloatArray) -> dict[str, Array]:
        """Feeds by input name. Static batch sizes are filled up with zeros; `from_tensor` cuts them off.

        Raises `ModelError` where a channel is missing or a static shape does not fit.
        """
        count, neighbours, channels = batch.shape[:3]
        spatial = batch.shape[3:]
        feeds: dict[str, Array] = {}
        for tensor in self.manifest.inputs:
            chosen = batch
            if tensor.channels is not None:
                if any(c < 0 or c >= channels for c in tensor.channels):
                    raise ModelError(
                        f"Input {tensor.name!r} takes the channels {tensor.channels}, but preprocessing gives "
                        f"{channels} (0 to {channels - 1}); correct the manifest's inputs."
                    )
                chosen = batch[:, :, tensor.channels]
            merged = chosen.reshape(count, neighbours * chosen.shape[2], *spatial)
            if self.static_batch is not None and count < self.static_batch:
                empty = np.zeros((self.static_batch - count, *merged.shape[1:]), merged.dtype)
                merged = np.concatenate([merged, empty])
            feeds[tensor.name] = to_tensor(merged, tensor)
            self._check(tensor, feeds[tensor.name].shape)
        return feeds

    def _check(self, tensor: Tensor, shape: Shape) -> None:
        wanted = self.shapes.get(tensor.name)
        if wanted is None:
            return
        if len(wanted) != len(shape) or any(w is not None and w != s for w, s in zip(wanted, shape, strict=True)):
            raise ModelError(
                f"Input {tensor.name!r} of the network takes the shape {_text(wanted)} ({tensor.layout}), but "
                f"{_text(shape)} was prepared for it; correct the manifest (layout, channels, patch) or add a resize, "
                "crop_or_pad or orient step."
            )


def _space(layout: Layout) -> list[int]:
    return [n for n, letter in enumerate(layout) if letter in "DHW"]


def _text(shape: Sequence[Any]) -> str:
    return "[" + ", ".join("?" if n is None else str(n) for n in shape) + "]"
