"""A Keras layers model (the ``model_config`` of tfjs and Keras files) as an ONNX graph, without TensorFlow.

Knows the layers that fully convolutional networks are made of. The graph is channels first (NCHW, NCDHW) with open
batch and space, whatever the Keras model was fixed to; kernels (*kernel, in, out) become (out, in, *kernel).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...errors import ModelError
from .graph_builder import IR_VERSION, OPSET, Array, GraphBuilder

Config = dict[str, Any]


class _Value:
    """A tensor in the graph: its name and channels."""

    def __init__(self, name: str, channels: int, dims: int) -> None:
        self.name, self.channels, self.dims = name, channels, dims


def convert_layers(
    model_config: Config,
    weights: Mapping[str, Array],
    *,
    input_name: str,
    output_name: str,
    normalised_suffix: str = "",
    epsilon: float = 1e-5,
    label: str = "model",
    open_space: bool = True,
) -> onnx.ModelProto:
    """The ONNX model of a Keras ``Functional``/``Model``/``Sequential`` configuration.

    ``normalised_suffix``: a layer whose name ends so is followed by instance normalisation without weights (a naming
    convention of the MeshNet exporter). Raises `ModelError` that names a layer which is not known, or weights that are
    missing, left over or of another shape.
    """
    config = model_config.get("config", {})
    layers = config if isinstance(config, list) else config.get("layers", [])
    if not layers:
        raise ModelError(f"{label}: it describes no layers; choose the model.json of a layers model.")
    build = GraphBuilder(weights, label)
    values: dict[str, _Value] = {}
    shape: tuple[int | None, ...] | None = None
    first = last = ""
    for n, layer in enumerate(layers):
        kind, own = str(layer.get("class_name")), dict(layer.get("config", {}))
        name = str(own.get("name") or layer.get("name") or n)
        sources = _sources(layer) if "inbound_nodes" in layer else ([last] if last else [])
        given: Any = own.get("batch_input_shape") or own.get("batch_shape")
        if kind == "InputLayer" or (given and not sources):
            if shape is not None:
                raise ModelError(f"{label}: it has several inputs, which MedSeg cannot read from this format.")
            shape = tuple(given)
            first = name
            values[name] = _Value(input_name, int(shape[-1] or 0), len(shape) - 2)
            last = name
            if kind == "InputLayer":
                continue
            sources = [name]
        if kind not in _LAYERS:
            raise ModelError(
                f"{label}: the layer {name!r} is of the kind {kind}, which MedSeg cannot convert without TensorFlow; "
                "export the model to ONNX or to Keras .h5 and import that."
            )
        missing = [s for s in sources if s not in values]
        if missing or not sources:
            raise ModelError(
                f"{label}: the layer {name!r} takes {missing or 'nothing'}, which comes from no layer before it."
            )
        result = _LAYERS[kind](build, name, own, [values[s] for s in sources])
        if normalised_suffix and name.endswith(normalised_suffix):
            result = _instance_norm(build, result, epsilon)
        values[name] = result
        last = name
    left = build.unused()
    if left:
        raise ModelError(
            f"{label}: no layer uses the weights {', '.join(left[:3])}; the files are of different models."
        )
    end = values[_output_layer(config, last)]
    build.nodes.append(helper.make_node("Identity", [end.name], [output_name], name="output"))
    assert shape is not None
    return _model(build, values[first], end, input_name, output_name, shape, open_space)


def _model(
    build: GraphBuilder, first: _Value, end: _Value, input_name: str, output_name: str,
    shape: tuple[int | None, ...], open_space: bool,
) -> onnx.ModelProto:  # fmt: skip
    letters = ("D", "H", "W")[-first.dims :]
    space = [letter if open_space or size is None else size for letter, size in zip(letters, shape[1:-1], strict=True)]
    graph = helper.make_graph(
        build.nodes,
        "layers",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["N", first.channels, *space])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["N", end.channels, *space])],
        build.initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="medseg"
    )
    onnx.checker.check_model(model)
    return model


def _sources(layer: Config) -> list[str]:
    """Names of the layers that feed ``layer``; `ModelError` where it is called more than once."""
    calls = layer.get("inbound_nodes") or []
    if len(calls) > 1:
        raise ModelError(f"The layer {layer.get('name')!r} is used several times, which MedSeg cannot convert.")
    if not calls:
        return []
    call = calls[0]
    if isinstance(call, dict):  # Keras 3
        found: list[str] = []

        def collect(value: Any) -> None:
            if isinstance(value, dict) and "keras_history" in value.get("config", {}):
                found.append(str(value["config"]["keras_history"][0]))
            elif isinstance(value, (list, tuple)):
                for item in value:
                    collect(item)

        collect(call.get("args", []))
        return found
    return [str(item[0]) for item in call]


def _output_layer(config: Any, last: str) -> str:
    outputs = config.get("output_layers") if isinstance(config, dict) else None
    if not outputs:
        return last
    if isinstance(outputs[0], list):
        if len(outputs) != 1:
            raise ModelError("The model has several outputs, which MedSeg cannot read from this format.")
        return str(outputs[0][0])
    return str(outputs[0])


def _tuple(value: Any, dims: int) -> list[int]:
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)] * dims


def _channels_last(name: str, config: Config) -> None:
    if config.get("data_format") not in (None, "channels_last"):
        raise ModelError(f"The layer {name!r} is channels first; only channels-last Keras models are converted.")


def _pads(config: Config, kernel: list[int], strides: list[int], dilation: list[int], name: str) -> Config:
    """Keras padding as ONNX attributes; 'same' is exact for any size at stride 1."""
    if config.get("padding", "valid") == "valid":
        return {}
    if config["padding"] != "same":
        raise ModelError(f"The layer {name!r} has the padding {config['padding']!r}, which is not known.")
    if all(s == 1 for s in strides):
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return {"pads": [t // 2 for t in total] + [t - t // 2 for t in total]}
    return {"auto_pad": "SAME_UPPER"}


def _conv(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    _channels_last(name, config)
    dims, filters, groups = source.dims, int(config["filters"]), int(config.get("groups", 1))
    kernel, strides = _tuple(config["kernel_size"], dims), _tuple(config.get("strides", 1), dims)
    dilation = _tuple(config.get("dilation_rate", 1), dims)
    weight = build.weight(name, "kernel", (*kernel, source.channels // groups, filters))
    order = (dims + 1, dims, *range(dims))
    names = [source.name, build.constant(weight.transpose(order), "kernel")]
    if config.get("use_bias", True):
        names.append(build.constant(build.weight(name, "bias", (filters,)), "bias"))
    made = build.node(
        "Conv", names, kernel_shape=kernel, strides=strides, dilations=dilation, group=groups,
        **_pads(config, kernel, strides, dilation, name),
    )  # fmt: skip
    return _activated(build, config.get("activation"), _Value(made, filters, dims), name)


def _conv_transpose(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    _channels_last(name, config)
    dims, filters = source.dims, int(config["filters"])
    kernel, strides = _tuple(config["kernel_size"], dims), _tuple(config.get("strides", 1), dims)
    if _tuple(config.get("dilation_rate", 1), dims) != [1] * dims or config.get("output_padding"):
        raise ModelError(f"The transposed convolution {name!r} is dilated or padded, which is not converted.")
    weight = build.weight(name, "kernel", (*kernel, filters, source.channels))
    names = [source.name, build.constant(weight.transpose((dims + 1, dims, *range(dims))), "kernel")]
    if config.get("use_bias", True):
        names.append(build.constant(build.weight(name, "bias", (filters,)), "bias"))
    pads: Config = {}
    if config.get("padding", "valid") == "same":
        # Keras' output is stride * input: what the kernel adds beyond it is cut, the odd voxel at the far end.
        extra = [max(0, k - s) for k, s in zip(kernel, strides, strict=True)]
        grown = [max(0, s - k) for k, s in zip(kernel, strides, strict=True)]
        pads = {"pads": [e // 2 for e in extra] + [e - e // 2 for e in extra], "output_padding": grown}
    elif any(s > k for k, s in zip(kernel, strides, strict=True)):
        pads = {"output_padding": [max(0, s - k) for k, s in zip(kernel, strides, strict=True)]}
    made = build.node("ConvTranspose", names, kernel_shape=kernel, strides=strides, **pads)
    return _activated(build, config.get("activation"), _Value(made, filters, dims), name)


def _batch_norm(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    shape = (source.channels,)
    ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    values = [
        build.weight(name, "gamma", shape) if config.get("scale", True) else ones,
        build.weight(name, "beta", shape) if config.get("center", True) else zeros,
        build.weight(name, "moving_mean", shape),
        build.weight(name, "moving_variance", shape),
    ]
    made = build.node(
        "BatchNormalization", [source.name, *(build.constant(v, "bn") for v in values)],
        epsilon=float(config.get("epsilon", 1e-3)),
    )  # fmt: skip
    return _Value(made, source.channels, source.dims)


def _instance_norm(build: GraphBuilder, source: _Value, epsilon: float) -> _Value:
    scale = build.constant(np.ones(source.channels, np.float32), "scale")
    shift = build.constant(np.zeros(source.channels, np.float32), "shift")
    made = build.node("InstanceNormalization", [source.name, scale, shift], epsilon=epsilon)
    return _Value(made, source.channels, source.dims)


def _activation(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    return _activated(build, config.get("activation"), inputs[0], name)


def _activated(build: GraphBuilder, kind: Any, source: _Value, name: str) -> _Value:
    def value(made: str) -> _Value:
        return _Value(made, source.channels, source.dims)

    x = source.name
    if kind in (None, "linear"):
        return source
    if kind in _PLAIN:
        return value(build.node(_PLAIN[kind], [x]))
    if kind == "softmax":
        return value(build.node("Softmax", [x], axis=1))
    if kind in ("swish", "silu"):
        return value(build.node("Mul", [x, build.node("Sigmoid", [x])]))
    if kind == "gelu":
        # The exact form x/2 (1 + erf(x / sqrt 2)), as PyTorch, Keras and tfjs have it by default.
        scaled = build.node("Mul", [x, build.constant(np.array(1 / math.sqrt(2), np.float32))])
        one = build.node("Add", [build.node("Erf", [scaled]), build.constant(np.array(1, np.float32))])
        half = build.node("Mul", [x, build.constant(np.array(0.5, np.float32))])
        return value(build.node("Mul", [half, one]))
    raise ModelError(f"The layer {name!r} has the activation {kind!r}, which MedSeg cannot convert without TensorFlow.")


_PLAIN = {"relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid", "tanh": "Tanh", "selu": "Selu", "softplus": "Softplus"}


def _relu(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    slope, top = float(config.get("negative_slope") or 0.0), config.get("max_value")
    if config.get("threshold"):
        raise ModelError(f"The layer {name!r} is a ReLU with a threshold, which is not converted.")
    made = build.node("LeakyRelu", [source.name], alpha=slope) if slope else build.node("Relu", [source.name])
    if top is not None:
        made = build.node("Min", [made, build.constant(np.array(top, np.float32))])
    return _Value(made, source.channels, source.dims)


def _leaky_relu(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    slope = float(config.get("alpha") or config.get("negative_slope") or 0.3)
    return _Value(build.node("LeakyRelu", [source.name], alpha=slope), source.channels, source.dims)


def _elu(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    made = build.node("Elu", [source.name], alpha=float(config.get("alpha", 1.0)))
    return _Value(made, source.channels, source.dims)


def _softmax(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    if config.get("axis", -1) not in (-1, source.dims + 1):
        raise ModelError(f"The layer {name!r} is a softmax over space, which is not converted.")
    return _activated(build, "softmax", source, name)


def _pool(build: GraphBuilder, name: str, config: Config, inputs: list[_Value], kind: str) -> _Value:
    (source,) = inputs
    _channels_last(name, config)
    size = _tuple(config.get("pool_size", 2), source.dims)
    strides = _tuple(config.get("strides") or size, source.dims)
    more = _pads(config, size, strides, [1] * source.dims, name)
    return _Value(
        build.node(kind, [source.name], kernel_shape=size, strides=strides, **more), source.channels, source.dims
    )


def _up_sampling(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    (source,) = inputs
    _channels_last(name, config)
    how = config.get("interpolation", "nearest")
    scales = build.constant(np.array([1, 1, *_tuple(config.get("size", 2), source.dims)], np.float32), "scales")
    if how == "nearest":
        ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif how == "bilinear":
        ways = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    else:
        raise ModelError(f"The layer {name!r} upsamples with {how!r}, which is not converted.")
    return _Value(build.node("Resize", [source.name, "", scales], **ways), source.channels, source.dims)


def _merge(build: GraphBuilder, name: str, config: Config, inputs: list[_Value], kind: str) -> _Value:
    made = inputs[0].name
    for other in inputs[1:]:
        made = build.node(kind, [made, other.name])
    return _Value(made, max(v.channels for v in inputs), inputs[0].dims)


def _concatenate(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    dims = inputs[0].dims
    if config.get("axis", -1) not in (-1, dims + 1):
        raise ModelError(f"The layer {name!r} joins along space, which is not converted.")
    made = build.node("Concat", [v.name for v in inputs], axis=1)
    return _Value(made, sum(v.channels for v in inputs), dims)


def _same(build: GraphBuilder, name: str, config: Config, inputs: list[_Value]) -> _Value:
    return inputs[0]


_Layer = Callable[[GraphBuilder, str, Config, list[_Value]], _Value]
_LAYERS: dict[str, _Layer] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _conv),
    **dict.fromkeys(("Conv2DTranspose", "Conv3DTranspose"), _conv_transpose),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"), functools.partial(_pool, kind="MaxPool")),
    **dict.fromkeys(("UpSampling2D", "UpSampling3D"), _up_sampling),
    **dict.fromkeys(("Dropout", "SpatialDropout2D", "SpatialDropout3D", "GaussianNoise"), _same),
    "BatchNormalization": _batch_norm,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Softmax": _softmax,
    "Add": functools.partial(_merge, kind="Add"),
    "Multiply": functools.partial(_merge, kind="Mul"),
    "Concatenate": _concatenate,
}
