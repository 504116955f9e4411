"""Transposed convolutions of OpenVINO graphs, rewritten where that takes less time; the values stay the same.

- One whose result goes, joined to others, into a convolution becomes one with it, since between the two there is
  nothing but sums. U-Nets decode so. Neither the upsampled tensor nor the joined one is made any more.
- One to a few channels, which leaves most lanes of a processor's registers empty, becomes a convolution to all values
  of each block of voxels, which are then put in their places.

Each is done where a count of products says that it pays; its constants were fitted on a processor with AVX-512.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from . import winograd
from .openvino_graph import (
    Array,
    Node,
    Output,
    constant,
    constant_of,
    convolution,
    filled,
    is_plain,
    opset,
    per_channel,
    replace,
    users,
)

_KIND = "ConvolutionBackpropData"
# What cannot be done while values are in a register costs as much as so many products of a convolution, per voxel and
# channel: results that are put between others, tensors that are joined, values put in their places in blocks.
_SPREAD, _CONCAT, _PLACES = 80, 45, 140
#: Share of the cost that may be left at most for a rewriting to be worth it.
_WORTH_JOINING, _WORTH_BLOCKS = 0.9, 0.85


def join(node: Node, *, exact: bool) -> bool:
    """Join the convolution ``node`` with a transposed one that it takes among others; whether that was done.

    ``exact``: convolutions will not be done by Winograd's method.
    """
    weights = constant_of(node, 1) if is_plain(node, "Convolution") else None
    if weights is None or {*node.get_attributes()["strides"]} != {1}:
        return False
    joined = node.input_value(0).get_node()
    if joined.get_type_name() != "Concat" or users(joined.output(0)) != 1:
        return False
    if joined.get_attributes()["axis"] not in (1, 1 - weights.ndim):
        return False
    pieces, end = joined.input_values(), 0
    for place, piece in enumerate(pieces):
        here = slice(end, end + piece.get_shape()[1])
        end = here.stop
        found = _transposed(piece)
        others = np.delete(weights, here, axis=1)
        if found is None or len(pieces) < 2:
            continue
        up, bias = found
        if not _pays(node, up, weights[:, here].shape[1], others.shape[1], exact=exact):
            continue
        made = _composed(node, up, bias, weights[:, here])
        if made is None:
            continue
        rest = [p for n, p in enumerate(pieces) if n != place]
        source = rest[0] if len(rest) == 1 else opset().concat(rest, 1).output(0)
        attributes = node.get_attributes()
        other = convolution(source, others, attributes["pads_begin"], attributes["pads_end"])
        replace(node.output(0), opset().add(made, other).output(0))
        return True
    return False


def _transposed(piece: Output) -> tuple[Node, Array | None] | None:
    """The transposed convolution that gives ``piece`` and nothing else, and its bias."""
    node, bias = piece.get_node(), None
    if users(piece) == 1 and node.get_type_name() == "Add":
        bias = per_channel(node)
        if bias is None:
            return None
        piece = node.input_value(0)
        node = piece.get_node()
    if not is_plain(node, _KIND) or users(piece) != 1 or node.get_input_size() != 2 or constant_of(node, 1) is None:
        return None
    attributes = node.get_attributes()
    cut = (attributes[name] for name in ("pads_begin", "pads_end", "output_padding"))
    return None if any(map(any, cut)) else (node, bias)


def _pays(node: Node, up: Node, middle: int, others: int, *, exact: bool) -> bool:
    out, inner = node.input_value(1).get_shape()[0], node.input_value(1).get_shape()[2:]
    inside, kernel, strides = up.input_value(1).get_shape()[0], up.input_value(1).get_shape()[2:], _strides(up)
    size = [a + b - 1 for a, b in zip(kernel, inner, strict=True)]

    def plain(channels: int) -> float:
        return winograd.cost(node, channels, out) if not exact else math.prod(inner) * channels * filled(out)

    apart = _cost(inside, middle, kernel, strides) + _CONCAT * (middle + others) + plain(middle + others)
    return _cost(inside, out, size, strides) + plain(others) <= _WORTH_JOINING * apart


def _composed(node: Node, up: Node, bias: Array | None, part: Array) -> Output | None:
    """``up`` and the convolution ``node`` with the weights ``part`` behind it, as one."""
    first, strides, attributes = constant_of(up, 1), _strides(up), node.get_attributes()
    assert first is not None
    kernel, inner = first.shape[2:], part.shape[2:]
    before, after = attributes["pads_begin"], attributes["pads_end"]
    if any(n <= pad for pads in (before, after) for pad, n in zip(pads, inner, strict=True)):
        return None
    source = up.input_value(0)
    if bias is not None:
        if [*kernel] != [*strides]:
            return None
        # A channel of ones carries the bias, so that nothing is added beyond the edges, where the padding is zero.
        shape = source.get_shape()
        source = opset().concat([source, constant(np.ones((shape[0], 1, *shape[2:])))], 1).output(0)
        carried = np.broadcast_to(bias.reshape(1, -1, *[1] * len(kernel)), (1, len(bias), *kernel))
        first = np.concatenate([first, carried])
    size = [a + b - 1 for a, b in zip(kernel, inner, strict=True)]
    weights = np.zeros((first.shape[0], part.shape[0], *size))
    for tap in np.ndindex(*inner):
        region = tuple(slice(n - 1 - t, n - 1 - t + k) for t, n, k in zip(tap, inner, kernel, strict=True))
        chosen = part[(..., *tap)].astype(np.float64)
        weights[(slice(None), slice(None), *region)] += np.einsum("iu...,ou->io...", first, chosen)
    made = opset().convolution_backprop_data(
        source, constant(weights), strides,
        pads_begin=[n - 1 - pad for n, pad in zip(inner, before, strict=True)],
        pads_end=[n - 1 - pad for n, pad in zip(inner, after, strict=True)],
        dilations=[1] * len(size), output_padding=[0] * len(size),
    )  # fmt: skip
    return made.output(0)


def to_blocks(node: Node) -> bool:
    """Make the transposed convolution ``node`` a convolution to blocks of voxels; whether that was done."""
    weights = constant_of(node, 1) if is_plain(node, _KIND) and node.get_input_size() == 2 else None
    if weights is None or len({*_strides(node)}) > 1 or weights.ndim not in (4, 5):
        return False
    stride, shape, source = _strides(node)[0], node.output(0).get_shape(), node.input_value(0)
    if stride == 1 or any(n % stride for n in shape[2:]):
        return False
    inside, out, kernel, dims = *weights.shape[:2], weights.shape[2:], len(shape) - 2
    # Along an axis the value stride * q + phase takes weight k from place q + shift.
    taps = [
        [(phase, (phase + pad - k) // stride, k) for k in range(n) for phase in range(stride)
         if (phase + pad - k) % stride == 0]
        for n, pad in zip(kernel, node.get_attributes()["pads_begin"], strict=True)
    ]  # fmt: skip
    low = [min(shift for _, shift, _ in axis) for axis in taps]
    high = [max(shift for _, shift, _ in axis) for axis in taps]
    size = [last - first + 1 for first, last in zip(low, high, strict=True)]
    ends = [n // stride - m + last for n, m, last in zip(shape[2:], source.get_shape()[2:], high, strict=True)]
    values = out * stride**dims
    together = inside * filled(values) * math.prod(size) + _PLACES * values
    apart = stride**dims * _cost(inside, out, kernel, _strides(node))
    if max(low) > 0 or min(ends) < 0 or together > _WORTH_BLOCKS * apart:
        return False
    made = np.zeros((*[stride] * dims, out, inside, *size))
    for axes in itertools.product(*taps):
        phase, shift, tap = zip(*axes, strict=True)
        at = tuple(s - first for s, first in zip(shift, low, strict=True))
        made[(*phase, slice(None), slice(None), *at)] = weights[(slice(None), slice(None), *tap)].T
    blocks = convolution(source, made.reshape(values, inside, *size), [-first for first in low], ends)
    replace(node.output(0), opset().depth_to_space(blocks, "blocks_first", stride).output(0))
    return True


def _strides(node: Node) -> list[int]:
    return list(node.get_attributes()["strides"])


def _cost(inside: int, out: int, kernel: Sequence[int], strides: Sequence[int]) -> float:
    """Products per voxel of a transposed convolution's result."""
    return inside * filled(out) * math.prod(kernel) / math.prod(strides) + _SPREAD * out
