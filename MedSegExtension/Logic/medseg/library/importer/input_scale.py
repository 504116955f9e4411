"""What scale of values a network wants, by what its own graph does to them first.

Followed is the chain of operators from the input to the first that is no scaling: together they are ``a * x + b`` per
channel. ImageNet's mean and standard deviation are those of torchvision (0..1) and of Caffe's models (0..255, BGR).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Numbers = npt.NDArray[np.float64]
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_CAFFE = np.array([103.939, 116.779, 123.68])
_PASSED = ("Identity", "Cast", "Transpose")
_NEAR = 0.03


@dataclass(frozen=True)
class Scale:
    """``highest``: values from 0 to this are wanted, 0 where the graph does not tell. ``sentence``: what was seen."""

    highest: int = 0
    sentence: str = ""


def wanted_scale(model: onnx.ModelProto, name: str, channels: int) -> Scale:
    """What the operators after input ``name`` say of the values that it wants."""
    factor, offset, seen = _affine(model, name, channels)
    if not seen:
        return Scale()
    words = " and ".join(seen)
    if np.allclose(offset, 0, atol=1e-6) and np.allclose(factor, 1 / 255, rtol=_NEAR):
        return Scale(255, f"The graph itself divides its input by 255 ({words}): it wants 0 to 255.")
    if np.allclose(factor, 1 / 127.5, rtol=_NEAR) and np.allclose(offset, -1, atol=_NEAR):
        return Scale(255, f"The graph itself scales 0 to 255 to -1 to 1 ({words}): it wants 0 to 255.")
    if channels == 3:
        for mean, std, order in ((_MEAN, _STD, "RGB"), (_MEAN[::-1], _STD[::-1], "BGR")):
            for highest in (1, 255):
                if _like(factor, 1 / (highest * std)) and _like(offset, -mean / std):
                    return Scale(
                        highest,
                        f"The graph itself takes off ImageNet's mean ({words}, {order}): it wants 0 to {highest}.",
                    )
        for mean in (_CAFFE, _CAFFE[::-1]):
            if np.allclose(factor, 1, rtol=_NEAR) and _like(offset, -mean):
                return Scale(255, f"The graph itself takes off ImageNet's mean ({words}): it wants 0 to 255.")
    return Scale(0, f"The graph itself scales its input first ({words}), in a way that says no range.")


def _like(found: Numbers, wanted: Numbers) -> bool:
    return bool(np.allclose(np.broadcast_to(found, wanted.shape), wanted, rtol=_NEAR, atol=_NEAR))


def _affine(model: onnx.ModelProto, name: str, channels: int) -> tuple[Numbers, Numbers, list[str]]:
    """``a``, ``b`` (1 or ``channels`` values) and the names of the operators that do ``a * x + b``."""
    constants = {w.name: w for w in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for used in node.input:
            users.setdefault(used, []).append(node)
    factor, offset, seen = np.ones(1), np.zeros(1), []  # type: Numbers, Numbers, list[str]
    while len(users.get(name, [])) == 1:
        node = users[name][0]
        step = _step(node, name, constants, channels)
        if step is None:
            break
        if node.op_type not in _PASSED:
            factor, offset = factor * step[0], offset * step[0] + step[1]
            seen.append(node.op_type)
        name = node.output[0]
    return factor, offset, seen


def _step(
    node: onnx.NodeProto, name: str, constants: dict[str, onnx.TensorProto], channels: int
) -> tuple[Numbers, Numbers] | None:
    """One operator as ``a * x + b``, None where it is none."""
    one, none = np.ones(1), np.zeros(1)
    if node.op_type in _PASSED:
        return one, none
    others = [i for i in node.input if i != name]
    if any(i not in constants for i in others):
        return None
    values = [numpy_helper.to_array(constants[i]).astype(np.float64).ravel() for i in others]
    if any(v.size not in (1, channels) for v in values):
        return None
    if node.op_type == "BatchNormalization" and len(values) == 4:
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        scale, bias, mean, variance = values
        factor = scale / np.sqrt(variance + epsilon)
        return factor, bias - mean * factor
    if len(values) != 1 or (node.input[0] != name and node.op_type in ("Sub", "Div")):
        return None
    (value,) = values
    if node.op_type == "Div" and not value.all():
        return None
    return {
        "Mul": (value, none),
        "Div": (1 / value if node.op_type == "Div" else one, none),
        "Add": (one, value),
        "Sub": (one, -value),
    }.get(node.op_type)
