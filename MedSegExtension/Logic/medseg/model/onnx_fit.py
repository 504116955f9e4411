"""Does an ONNX model fit its manifest? Tensor names, ranks, types, channels and sizes, before anything is run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import onnx
from onnx import TensorProto

from ..errors import ModelError
from .manifest import Manifest

_DTYPES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
}  # fmt: skip

Shape = tuple[int | None, ...] | None


def check_fits(model: onnx.ModelProto, manifest: Manifest, name: str) -> list[str]:
    """`ModelError` where tensor names, ranks, types or sizes do not fit ``manifest``; else warnings in words."""
    manifest = manifest.alone
    weights = {i.name for i in model.graph.initializer} | {s.values.name for s in model.graph.sparse_initializer}
    inputs = {v.name: v for v in model.graph.input if v.name not in weights}
    outputs = {v.name: v for v in model.graph.output}
    warnings: list[str] = []
    for n, tensor in enumerate(manifest.inputs):
        field = f"inputs[{n}]"
        value = _find(inputs, tensor.name, f"{field}.name", f"{name} has no input", "inputs")
        _check_dtype(value, tensor.dtype, f"{field}.dtype", name)
        axes = _axes(value, tensor.layout, f"{field}.layout", name)
        _check_channels_in(axes, manifest, n, name)
        warnings += _check_size(axes, manifest, field, name)
    missing = sorted(set(inputs) - {t.name for t in manifest.inputs})
    if missing:
        raise ModelError(f"manifest.json: inputs: {name} also needs {_listed(missing)}; name each input.")
    value = _find(outputs, manifest.output.tensor, "output.tensor", f"{name} has no output", "outputs")
    _check_output(value, manifest, name)
    return warnings


def _shape(value: onnx.ValueInfoProto) -> Shape:
    """Sizes with None where open; None where the rank is not known."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(n) for n in names) or "none"


def _find(values: dict[str, Any], wanted: str, field: str, lead: str, kind: str) -> onnx.ValueInfoProto:
    if wanted in values:
        return values[wanted]  # type: ignore[no-any-return]
    near = difflib.get_close_matches(wanted, values, 1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ModelError(f"manifest.json: {field}: {lead} {wanted!r}; its {kind} are {_listed(values)}.{hint}")


def _type_name(code: int) -> str:
    """ONNX's name of an element type, also of one that there is not."""
    return TensorProto.DataType.Name(code).lower() if code in TensorProto.DataType.values() else f"of the type {code}"


def _check_dtype(value: onnx.ValueInfoProto, dtype: str, field: str, name: str) -> None:
    have = value.type.tensor_type.elem_type
    if have and have != _DTYPES[dtype]:
        found = next((k for k, v in _DTYPES.items() if v == have), _type_name(have))
        raise ModelError(f"manifest.json: {field}: {dtype}, but {value.name!r} of {name} is {found}.")


def _axes(value: onnx.ValueInfoProto, layout: str, field: str, name: str) -> dict[str, int | None]:
    """Size by letter of the layout."""
    shape = _shape(value)
    if shape is None:
        return dict.fromkeys(layout)
    if len(shape) != len(layout):
        raise ModelError(
            f"manifest.json: {field}: {layout} has {len(layout)} axes, but {value.name!r} of {name} has "
            f"{len(shape)} ({_words(shape)})."
        )
    return dict(zip(layout, shape, strict=True))


def _words(sizes: Iterable[int | None]) -> str:
    return " x ".join("?" if s is None else str(s) for s in sizes)


def _check_channels_in(axes: dict[str, int | None], manifest: Manifest, n: int, name: str) -> None:
    tensor, count = manifest.inputs[n], manifest.network_channels
    if tensor.channels is not None:
        beyond = [c for c in tensor.channels if not 0 <= c < count]
        if beyond or not tensor.channels:
            raise ModelError(
                f"manifest.json: inputs[{n}].channels: {tensor.channels} asks for channels that do not exist; "
                f"preprocessing gives {count} (0 to {count - 1})."
            )
        count = len(tensor.channels)
    if manifest.inference.mode == "slicewise":
        count *= 2 * manifest.inference.neighbours + 1
    have = axes.get("C", None if "C" in axes else 1)
    if have is not None and have != count:
        raise ModelError(
            f"manifest.json: inputs[{n}]: preprocessing gives {count} channel(s), but {tensor.name!r} of {name} takes "
            f"{have} in the layout {tensor.layout}; correct the channels, the windows or the layout."
        )


def _check_size(axes: dict[str, int | None], manifest: Manifest, field: str, name: str) -> list[str]:
    """Compare the network's fixed spatial size with what the manifest feeds it."""
    inference = manifest.inference
    spatial = [axes[a] for a in ("D", "H", "W") if a in axes]
    if all(s is None for s in spatial):
        return []
    if inference.mode == "sliding_window":
        windows: list[int | None] = [*reversed(inference.patch)]
        fed = windows[-len(spatial) :]
        told = f"inference.patch: {_words(inference.patch)} (i, j, k)"
    else:
        size = _final_size(manifest)
        fed = list(reversed(size)) if size is not None else [None] * 3
        if inference.mode == "slicewise":
            fed = _in_plane(fed, spatial)
        elif all(f is not None for f in fed):
            fed = [-(-f // inference.multiple_of) * inference.multiple_of for f in fed if f is not None]
        told = f"preprocessing gives {_words(fed)}"
    if any(s is not None and f is not None and s != f for s, f in zip(spatial, fed, strict=True)):
        letters = "".join(a for a in "DHW" if a in axes)
        raise ModelError(f"manifest.json: {field}: {told}, but {name} takes {_words(spatial)} ({letters}).")
    if any(s is not None and f is None for s, f in zip(spatial, fed, strict=True)):
        return [
            f"{name} takes images of exactly {_words(spatial)}, and no preprocessing step of its manifest makes sure "
            "of that size: other images will be refused."
        ]
    return []


def _final_size(manifest: Manifest) -> list[int | None] | None:
    """Size (i, j, k) after preprocessing as far as the steps alone tell it; None where ``fit_head`` decides."""
    size: list[int | None] = [None, None, None]
    for step in manifest.preprocessing:
        if step.step in ("resize", "crop_or_pad", "crop"):
            size = [new if new is not None else old for new, old in zip(step.size, size, strict=True)]
        elif step.step == "resample":
            size = [old if spacing is None else None for spacing, old in zip(step.spacing, size, strict=True)]
        elif step.step in ("crop_to_foreground", "crop_to_mask"):
            size = [None, None, None]
        elif step.step == "fit_head":
            return [step.size, step.size, step.size]
        elif step.step == "orient" and len(set(size)) > 1:
            size = [None, None, None]
    return size


def _in_plane(fed: list[int | None], spatial: list[int | None]) -> list[int | None]:
    """Two in-plane sizes out of three; which axis is normal to the slices is only known with the volume."""
    pairs = [fed[:n] + fed[n + 1 :] for n in range(3)]

    def misfits(pair: list[int | None]) -> tuple[int, int]:
        wrong = sum(s is not None and f is not None and s != f for s, f in zip(spatial, pair, strict=True))
        return wrong, pair.count(None)

    return min(pairs, key=misfits)


def _check_output(value: onnx.ValueInfoProto, manifest: Manifest, name: str) -> None:
    output, classes = manifest.output, manifest.classes
    axes = _axes(value, output.layout, "output.layout", name)
    integer = value.type.tensor_type.elem_type not in (
        0, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16,
    )  # fmt: skip
    if integer and output.activation != "labels" and output.dequantise is None:
        raise ModelError(
            f"manifest.json: output.dequantise: is missing; {value.name!r} of {name} gives whole numbers "
            f"({_type_name(value.type.tensor_type.elem_type)}), which need scale and zero_point."
        )
    have = axes.get("C", None if "C" in axes else 1)
    top = max(classes, key=lambda c: c.value)
    if output.activation == "labels":
        if have not in (None, 1):
            what = f"labels, but {value.name!r} of {name} has {have} channels"
            raise ModelError(f"manifest.json: output.activation: {what}.")
        return
    if output.activation == "softmax" and have == 1:
        raise ModelError(
            f"manifest.json: output.activation: softmax needs two channels or more, but {value.name!r} of {name} has "
            "one; use sigmoid."
        )
    # Softmax segmentation has the background in channel 0; scores and sigmoid channels start with the first class.
    if output.activation == "sigmoid" and manifest.task == "segmentation":
        top = max(classes, key=lambda c: c.sigmoid_channel)
        needed = top.sigmoid_channel + 1
    else:
        needed = top.value + (output.activation == "softmax" and manifest.task == "segmentation")
    if have is not None and have < needed:
        raise ModelError(
            f"manifest.json: classes: {top.name!r} has the value {top.value} and needs {needed} channels "
            f"({output.activation}), but {value.name!r} of {name} has {have}."
        )
