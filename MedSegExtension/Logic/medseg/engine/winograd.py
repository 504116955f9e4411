"""Convolutions with fewer multiplications, on OpenVINO, which has none of its own.

Winograd's method: of six values along an axis, which overlap by two with the next six, six sums are formed, each is
multiplied with one of six sums of the three weights, and four sums of the products are the results. Lavin and Gray,
"Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). All in float32, at about 2e-5 of a result's spread from
the plain sums after 18 layers.

- F(4x4, 3x3) along both axes of an image, a quarter of the products: where `LEAST` channels go in and come out.
- F(4, 3) along the last axis only, half of the products with a third of the additions, in two and three dimensions:
  where a count of products says that it pays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .openvino_graph import (
    Array,
    Node,
    Output,
    constant,
    constant_of,
    convolution,
    filled,
    integers,
    is_plain,
    opset,
    per_channel,
    replace,
    scalar,
    users,
)

#: Channels that go in and come out of a convolution that is worth both axes, at least (``Testing/benchmarks``).
LEAST = 512
#: Bytes of transformed weights in a network, at most; along one axis they are twice as many as the weights, else four.
MOST = 2**30
_M, _SIDE = 4, 6
#: The additions along one axis cost as much as so many products, per voxel and channel that goes in or comes out.
_ADDITIONS = 170
#: Share of the cost that may be left at most for one axis to be worth it.
_WORTH = 0.85
#: Products that must be saved in all: thirty more operators take their time as well.
_LEAST_SAVED = 1e8
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
    count, room = 0, MOST
    for node in model.get_ordered_ops():
        both = _both_pay(node)
        if not both and not (_fits(node) and _one_pays(node, *_channels(node))):
            continue
        room -= (4 if both else 2) * node.input_value(1).get_node().data.nbytes
        if room < 0:
            break
        count += 1
        if both:
            replace(node.output(0), _both_axes(node).output(0))
        else:
            _one_axis(node)
    model.validate_nodes_and_infer_types()
    return count


def cost(node: Node, inside: int, out: int) -> float:
    """Products per voxel of the convolution ``node`` if it had these channels, along one axis where that pays."""
    return (_one_axis_cost if _one_pays(node, inside, out) else _plain_cost)(node, inside, out)


def _channels(node: Node) -> tuple[int, int]:
    out, inside = node.input_value(1).get_shape()[:2]
    return inside, out


def _plain_cost(node: Node, inside: int, out: int) -> float:
    return float(math.prod(node.input_value(1).get_shape()[2:]) * inside * filled(out))


def _one_axis_cost(node: Node, inside: int, out: int) -> float:
    return _plain_cost(node, inside, out) / 2 + _ADDITIONS * (inside + out)


def _one_pays(node: Node, inside: int, out: int) -> bool:
    if not _fits(node):
        return False
    plain, one = _plain_cost(node, inside, out), _one_axis_cost(node, inside, out)
    images, _, *size = node.output(0).get_shape()
    return one <= _WORTH * plain and (plain - one) * images * math.prod(size) >= _LEAST_SAVED


def _fits(node: Node) -> bool:
    """Whether a convolution has three weights along its last axis, whose length it keeps."""
    if not is_plain(node, "Convolution") or constant_of(node, 1) is None:
        return False
    attributes, shape = node.get_attributes(), node.output(0).get_shape()
    ends = (attributes["pads_begin"][-1], attributes["pads_end"][-1])
    three = node.input_value(1).get_shape()[-1] == 3 and {*attributes["strides"]} == {1} and ends == (1, 1)
    return three and len(shape) in (4, 5) and shape[-1] % _M == 0 and shape[-1] >= 2 * _M


def _both_pay(node: Node) -> bool:
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


def _one_axis(node: Node) -> None:
    """Replace a convolution by six of one weight along the last axis, each on a quarter of the places."""
    op, weights, attributes = opset(), constant_of(node, 1), node.get_attributes()
    assert weights is not None
    source, last, width = node.input_value(0), weights.ndim - 1, node.output(0).get_shape()[-1]

    def fourth(first: int, end: int) -> Output:
        return op.slice(source, integers([first]), integers([end]), integers([_M]), integers([last])).output(0)

    def padded(values: Output, before: int, after: int) -> Output:
        ends = (integers([0] * last + [n]) for n in (before, after))
        return op.pad(values, *ends, "constant", scalar(0)).output(0)

    six = [padded(fourth(3, width - 1), 1, 0), *(fourth(n, width) for n in range(4)), padded(fourth(4, width), 0, 1)]
    before, after = ([*attributes[name][:-1], 0] for name in ("pads_begin", "pads_end"))
    products = [
        convolution(_sum(row, six), (weights.astype(float) @ of)[..., np.newaxis], before, after)
        for row, of in zip(_B, _G, strict=True)
    ]
    four, end = _activated(node.output(0), [_sum(row, products) for row in _A])
    # As values lie channel by channel, four results side by side are four places of a row already: nothing is moved.
    shape = end.get_shape()
    side = op.transpose(op.concat(four, 1), integers([0, *range(2, last + 1), 1]))
    rows = op.reshape(side, integers([shape[0], *shape[2:], shape[1]]), False)
    made = op.transpose(rows, integers([0, last, *range(1, last)])).output(0)
    if any(user.get_node().get_type_name() != "Convolution" for user in end.get_target_inputs()):
        # Else OpenVINO would let them lie voxel by voxel for what follows, which takes longer than this.
        none, one = [0] * (last - 1), [1] * (last - 1)
        made = op.group_convolution(made, constant(np.ones((shape[1], 1, 1, *one))), one, none, none, one).output(0)
    replace(end, made)


def _activated(output: Output, values: list[Output]) -> tuple[list[Output], Output]:
    """``values`` after what is done to each value of ``output`` for itself, and the output behind that."""
    op = opset()
    while users(output) == 1:
        (user,) = output.get_target_inputs()
        node = user.get_node()
        kind, first = node.get_type_name(), user.get_index() == 0
        more = constant_of(node, 1) if first and node.get_input_size() == 2 else None
        if kind == "Relu":
            values = [op.relu(v).output(0) for v in values]
        elif kind == "Add" and more is not None and per_channel(node) is not None:
            values = [op.add(v, constant(more)).output(0) for v in values]
        elif kind == "PRelu" and more is not None and more.size == 1:
            values = [op.prelu(v, constant(more.reshape(1))).output(0) for v in values]
        else:
            break
        output = node.output(0)
    return values, output


def _sum(factors: Array, values: Sequence[Output]) -> Output:
    """The sum of ``values`` times ``factors``, some of which are 0."""
    op, total = opset(), None
    for factor, value in zip(factors, values, strict=True):
        if not factor:
            continue
        term = value if abs(factor) == 1 else op.multiply(value, scalar(abs(factor))).output(0)
        if total is None:
            total = term if factor > 0 else op.negative(term).output(0)
        else:
            total = (op.add if factor > 0 else op.subtract)(total, term).output(0)
    return total


def _both_axes(node: Node) -> Any:
    op = opset()

    def reshaped(source: Any, *size: int) -> Any:
        return op.reshape(source, integers(size), False)

    def swapped(source: Any) -> Any:
        return op.transpose(source, integers([0, 2, 1, 3]))

    def convolved(source: Any, weights: Array, stride: int, pad: int) -> Any:
        return op.convolution(source, constant(weights), [stride, stride], [pad, pad], [pad, pad], [1, 1])

    weights = node.input_value(1).get_node().data
    outside = len(weights)
    images, inside, height, width = node.input_value(0).get_shape()
    sums, high, wide = _SIDE**2, height // _M, width // _M
    pieces = reshaped(node.input_value(0), images * inside, 1, height, width)
    pieces = convolved(pieces, np.kron(_B, _B).reshape(sums, 1, _SIDE, _SIDE), _M, 1)
    pieces = swapped(reshaped(pieces, images, inside, sums, high * wide))  # (image, sum, channel, piece)
    product = op.matmul(constant(_transformed(weights)[None]), pieces, False, False)
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
