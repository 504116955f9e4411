"""MONAI bundles: ``metadata.json`` and ``inference.json`` become a manifest.

Expressions in a bundle (``$...``) are Python and are never evaluated: a transform that holds one is told as not mapped.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx

from ...errors import ModelError
from ...monitor import Monitor
from . import onnx_tidy
from .bundles import Raw, bundle_network, manifest_of, named_classes, plain_id, read_description
from .converted import Converted, ImportOptions

#: As many labels as a segmentation can have.
_MOST_CLASSES = 65535


def convert_monai(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of a MONAI bundle (``metadata.json``, ``inference.json`` where it is there, ONNX).

    MONAI's arrays have the axes x, y, z of its ``axcodes``; spacing and window size are in that order.
    """
    folder = path if path.is_dir() else path.parent
    root = folder.parent if folder.name == "configs" else folder
    place = root / "configs" if (root / "configs" / "metadata.json").is_file() else root
    metadata = read_description(place / "metadata.json")
    model = bundle_network(root, options, "MONAI bundles")
    data = metadata.get("network_data_format", {})
    inputs, outputs = list(data.get("inputs", {}).values()), list(data.get("outputs", {}).values())
    if len(inputs) != 1 or not outputs:
        raise ModelError("metadata.json: network_data_format with one input and an output is expected.")
    given, result = inputs[0], outputs[0]
    dims = len(given.get("spatial_shape", [])) or 3
    notes: list[str] = []
    plan = read_description(place / "inference.json") if (place / "inference.json").is_file() else {}
    if not plan:
        notes.append("The bundle has no inference.json: orientation, spacing and intensity steps are not known to it.")
    steps = _monai_steps(plan, dims, notes)
    window = _monai_window(plan, given, dims)
    inference: Raw = {"mode": "slicewise", "plane": "axial"} if dims == 2 else {"mode": "whole", "multiple_of": 16}
    if dims == 3 and window is not None:
        inference = {
            "mode": "sliding_window",
            "patch": window["patch"],
            "overlap": window["overlap"],
            "blending": window["blending"],
        }
    names, activation = _monai_classes(result, plan)
    channels = given.get("channel_def") or {str(n): f"image {n + 1}" for n in range(int(given.get("num_channels", 1)))}
    codes = [str(given["modality"]).upper()] if given.get("modality") in ("CT", "MR", "CR", "DX") else []
    title = str(metadata.get("name") or metadata.get("task") or root.name)
    raw = manifest_of(
        plain_id(title), title, "segmentation", model, dims,
        version=str(metadata.get("version", "1.0.0")),
        source=str(metadata.get("data_source") or "MONAI bundle"),
        license=str(metadata.get("license") or "see the bundle"),
        card={
            "description": str(metadata.get("description", "")),
            "intended_use": str(metadata.get("intended_use") or "Research only."),
            "training_data": str(metadata.get("data_source", "")),
            "limitations": list(notes),
            "figures": {str(k): str(v) for k, v in (metadata.get("eval_metrics") or {}).items()},
            "citation": "; ".join(str(r) for r in metadata.get("references", [])),
        },
        channels=[{"name": str(channels[k]), "modality": codes} for k in sorted(channels, key=int)],
        preprocessing=steps, inference=inference,
        output={"activation": activation, "logits": not _ends_active(model)},
        classes=named_classes(names),
    )  # fmt: skip
    onnx_tidy.open_batch(model)
    return raw, Converted(
        model, notes=notes, facts={"framework": "MONAI bundle", "monai": metadata.get("monai_version")}
    )


def _ends_active(model: onnx.ModelProto) -> bool:
    name = model.graph.output[0].name
    return any(name in node.output and node.op_type in ("Softmax", "Sigmoid") for node in model.graph.node)


def _plain(value: Any, plan: Raw) -> Any:
    """``@name#part`` references followed to literals; None for anything that is code."""
    for _ in range(8):
        if not isinstance(value, str) or not value.startswith("@"):
            break
        here: Any = plan
        for part in re.split(r"#|::", value[1:]):
            here = (
                here.get(part)
                if isinstance(here, dict)
                else (here[int(part)] if isinstance(here, list) and part.isdigit() else None)
            )
        value = here
    return None if isinstance(value, str) and value.startswith("$") else value


def _monai_steps(plan: Raw, dims: int, notes: list[str]) -> list[Raw]:
    steps: list[Raw] = []
    pre = plan.get("preprocessing", {})
    for item in pre.get("transforms", []) if isinstance(pre, dict) else []:
        kind = str(item.get("_target_", "")).split(".")[-1].removesuffix("d").removesuffix("Dict")
        values = {k: _plain(v, plan) for k, v in item.items()}
        made = _monai_step(kind, values, dims)
        if made is None:
            notes.append(f"The bundle's transform {kind or item!r} was not mapped; without it the result may be wrong.")
        else:
            steps += made
    return steps


_NOTHING = {
    "LoadImage",
    "EnsureChannelFirst",
    "EnsureType",
    "AddChannel",
    "ToTensor",
    "CastToType",
    "ToDevice",
    "SelectItems",
}


def _monai_step(kind: str, values: Raw, dims: int) -> list[Raw] | None:
    """Steps of one transform; None where it is not known or holds code."""
    if kind in _NOTHING:
        return []
    try:
        if kind == "Orientation":
            return [{"step": "orient", "code": str(values["axcodes"])[::-1]}]
        if kind == "Spacing":
            mode = values.get("mode", "bilinear")
            how = "nearest" if mode == "nearest" else "linear"
            spacing = [float(n) for n in values["pixdim"]][::-1]
            return [
                {
                    "step": "resample",
                    "spacing": spacing if len(spacing) == 3 else [*spacing, None],
                    "interpolation": how,
                }
            ]
        if kind == "ScaleIntensityRange":
            low, high = float(values["a_min"]), float(values["a_max"])
            bottom, top = float(values.get("b_min", 0) or 0), float(values.get("b_max", 1) or 1)
            scale = (top - bottom) / (high - low)
            made: list[Raw] = [{"step": "clip", "minimum": low, "maximum": high}] if values.get("clip") else []
            return [*made, {"step": "affine", "scale": scale, "offset": bottom - low * scale}]
        if kind == "NormalizeIntensity":
            if values.get("subtrahend") is not None or values.get("divisor") is not None:
                divisor = float(values.get("divisor") or 1)
                return [
                    {"step": "affine", "scale": 1 / divisor, "offset": -float(values.get("subtrahend") or 0) / divisor}
                ]
            zero = {"above": 0.0, "apply_outside": False} if values.get("nonzero") else {}
            return [{"step": "zscore", "scope": "volume", **zero}]
        if kind == "ScaleIntensity":
            ends = [float(values.get("minv", 0.0)), float(values.get("maxv", 1.0))]
            return [{"step": "minmax", "scope": "volume", "output": ends}]
        if kind == "ScaleIntensityRangePercentiles":
            clip = bool(values.get("clip"))
            ends = [float(values["b_min"]), float(values["b_max"])]
            return [
                {
                    "step": "minmax",
                    "percentiles": [float(values["lower"]), float(values["upper"])],
                    "output": ends,
                    "clip": clip,
                }
            ]
        if kind == "CropForeground":
            margin = values.get("margin", 0)
            return [{"step": "crop_to_foreground", "above": 0.0, "margin": int(margin)}]
        if kind in ("Resize", "ResizeWithPadOrCrop", "CenterSpatialCrop", "SpatialPad"):
            size = [int(n) for n in values["spatial_size"]][::-1]
            step = "resize" if kind == "Resize" else "crop_or_pad"
            return (
                [{"step": step, "size": size if dims == 3 else [*size, None]}]
                if step == "resize" or "Pad" in kind
                else None
            )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return None


def _monai_window(plan: Raw, given: Raw, dims: int) -> Raw | None:
    inferer = plan.get("inferer", {})
    size = _plain(inferer.get("roi_size"), plan) if "SlidingWindow" in str(inferer.get("_target_", "")) else None
    if (
        size is None
        and given.get("is_patch_data")
        and all(isinstance(n, int) for n in given.get("spatial_shape", ["*"]))
    ):
        size = given["spatial_shape"]
    if not isinstance(size, list) or not all(isinstance(n, int) for n in size) or len(size) != dims:
        return None
    overlap, mode = _plain(inferer.get("overlap", 0.25), plan), _plain(inferer.get("mode", "constant"), plan)
    return {
        "patch": [int(n) for n in size][::-1],
        "overlap": float(overlap) if isinstance(overlap, (int, float)) else 0.25,
        "blending": "gaussian" if mode == "gaussian" else "constant",
    }


def _monai_classes(result: Raw, plan: Raw) -> tuple[list[str], str]:
    count = int(result.get("num_channels", 1))
    if not 1 <= count <= _MOST_CLASSES:
        raise ModelError(f"metadata.json: an output of {count:.6g} channels is not possible; get the bundle again.")
    names = result.get("channel_def") or {}
    ordered = [str(names.get(str(n), f"Class {n}")) for n in range(count)]
    post = json.dumps(plan.get("postprocessing", {}))
    sigmoid = count == 1 or '"sigmoid": true' in post
    if (
        not sigmoid
        and count > 1
        and "background" not in ordered[0].lower()
        and '"softmax": true' not in post
        and "argmax" not in post
    ):
        sigmoid = bool(names)
    return (ordered, "sigmoid") if sigmoid else (ordered[1:], "softmax")
