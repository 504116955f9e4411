"""Convolutions 3x3 of many channels with a quarter of the multiplications, on OpenVINO, which has none of its own.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(4x4, 3x3): of each 6x6 piece of a
channel (pieces overlap by 2) 36 sums are formed, the products over the channels are one matrix product for each of the
36, and 16 sums of these are the 4x4 results. All in float32, at about 2e-5 of a result's spread from the plain sums
after 18 layers. Below `LEAST` channels forming the sums takes longer than it saves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: Channels that go in and come out of a convolution that is worth it, at least; measured in ``Testing/benchmarks``.
LEAST = 256
#: Bytes of transformed weights in a network, at most; they are four times as many as the weights.
MOST = 2**30
_M, _SIDE = 4, 6
# The transforms of the input, of the weights and of the result: B^T, G, A^T of the paper's section 4.1 for F(4x4, 3x3).
_B = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], float
)  # fmt: skip
_G = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
     [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]], float
)  # fmt: skip
_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], float)


def rewrite(model: Any) -> int:
    """Replace the convolutions of an OpenVINO model for which it pays; the number of them.

    ``model``: of fixed sizes; it is changed. Only convolutions that keep the size, a multiple of 4, are replaced.
    """
    found, room = [], MOST
    for node in filter(_pays, model.get_ordered_ops()):
        room -= 4 * node.input_value(1).get_node().data.nbytes
        if room < 0:
            break
        found.append(node)
    for node in found:
        result = _winograd(node)
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(result.output(0))
    if found:
        model.validate_nodes_and_infer_types()
    return len(found)


def _pays(node: Any) -> bool:
    if node.get_type_name() != "Convolution" or node.input_value(1).get_node().get_type_name() != "Constant":
        return False
    weights, size = tuple(node.input_value(1).get_shape()), node.input_value(0).get_partial_shape()
    if len(weights) != 4 or weights[2:] != (3, 3) or min(weights[:2]) < LEAST or size.is_dynamic:
        return False
    about = node.get_attributes()
    same = all(list(about[name]) == [1, 1] for name in ("strides", "dilations", "pads_begin", "pads_end"))
    return same and all(length % _M == 0 for length in size.to_shape()[2:]) and _is_float32(node)


def _is_float32(node: Any) -> bool:
    return all(node.input_value(n).get_element_type().to_string() == "f32" for n in (0, 1))


def _winograd(node: Any) -> Any:
    from openvino import opset13 as op

    def reshaped(source: Any, *size: int) -> Any:
        return op.reshape(source, op.constant(np.array(size, np.int64)), False)

    def swapped(source: Any) -> Any:
        return op.transpose(source, op.constant(np.array([0, 2, 1, 3], np.int64)))

    def convolved(source: Any, weights: Array, stride: int, pad: int) -> Any:
        kernel = op.constant(weights.astype(np.float32))
        return op.convolution(source, kernel, [stride, stride], [pad, pad], [pad, pad], [1, 1])

    weights = node.input_value(1).get_node().data
    outside = len(weights)
    images, inside, height, width = node.input_value(0).get_shape()
    sums, high, wide = _SIDE**2, height // _M, width // _M
    pieces = reshaped(node.input_value(0), images * inside, 1, height, width)
    pieces = convolved(pieces, np.kron(_B, _B).reshape(sums, 1, _SIDE, _SIDE), _M, 1)
    pieces = swapped(reshaped(pieces, images, inside, sums, high * wide))  # (image, sum, channel, piece)
    product = op.matmul(op.constant(_transformed(weights)[None]), pieces, False, False)
    product = reshaped(swapped(product), images * outside, sums, high, wide)
    result = convolved(product, np.kron(_A, _A).reshape(_M**2, sums, 1, 1), 1, 0)
    return reshaped(op.depth_to_space(result, "blocks_first", _M), images, outside, height, width)


def _transformed(weights: Array) -> Array:
    """Weights (out, in, 3, 3) as (36, out, in): G w G^T of each, formed in double precision."""
    outside, inside = weights.shape[:2]
    formed = np.empty((_SIDE**2, outside, inside), np.float32)
    transform = np.kron(_G, _G)
    for n, rows in enumerate(weights.reshape(outside, inside, 9).astype(float)):
        formed[:, n] = transform @ rows.T
    return formed
