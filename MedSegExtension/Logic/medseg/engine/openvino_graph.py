"""Small parts of OpenVINO graphs: what a node is, and the nodes that rewriting a network needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: A node of an OpenVINO graph, and one of its results.
Node = Any
Output = Any

#: Output channels that a processor computes at once, so that fewer cost as much.
_LANES = 16


def opset() -> Any:
    """The operators that are used."""
    from openvino import opset13

    return opset13


def is_plain(node: Node, kind: str) -> bool:
    """Whether ``node`` is a convolution of this kind in float32, with explicit pads and no dilation."""
    if node.get_type_name() != kind or node.output(0).get_element_type().to_string() != "f32":
        return False
    if not all(node.output(0).get_partial_shape().is_static and i.get_partial_shape().is_static for i in node.inputs()):
        return False
    attributes = node.get_attributes()
    return attributes["auto_pad"] == "explicit" and {*attributes["dilations"]} == {1}


def constant_of(node: Node, n: int) -> Array | None:
    """The values of input ``n``, where that is a float32 constant."""
    source = node.input_value(n).get_node()
    if source.get_type_name() != "Constant" or source.output(0).get_element_type().to_string() != "f32":
        return None
    return np.asarray(source.data)


def per_channel(node: Node) -> Array | None:
    """What an addition adds to each channel of its first input, whose shape it keeps; None if it does anything else."""
    more, shape = constant_of(node, 1), node.input_value(0).get_shape()
    if more is None or [*more.shape] != [1, shape[1], *[1] * (len(shape) - 2)]:
        return None
    return more.reshape(-1)


def users(output: Output) -> int:
    """How many inputs take ``output``."""
    return len(output.get_target_inputs())


def replace(old: Output, new: Output) -> None:
    """Whoever took ``old`` takes ``new``, under its name."""
    name = old.get_node().get_friendly_name()
    old.replace(new)
    new.get_node().set_friendly_name(name)


def filled(channels: int) -> int:
    """As many output channels as cost the same."""
    return -(-channels // _LANES) * _LANES


def constant(values: Array) -> Node:
    """A float32 constant."""
    return opset().constant(np.ascontiguousarray(values, np.float32))


def scalar(value: float) -> Node:
    """A float32 constant without axes."""
    return opset().constant(np.float32(value))


def integers(values: Sequence[int]) -> Node:
    """A constant of whole numbers, as shapes and axes are."""
    return opset().constant(np.array(values, np.int64))


def convolution(source: Output, weights: Array, before: Sequence[int], after: Sequence[int]) -> Output:
    """A convolution of stride 1 with ``weights`` (out, in, ...), padded by ``before`` and ``after`` along each axis."""
    ones = [1] * (weights.ndim - 2)
    return opset().convolution(source, constant(weights), ones, list(before), list(after), ones).output(0)
