"""What nnU-Net result folders and MONAI bundles have in common: descriptions, the one ONNX file, a manifest's frame."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import onnx

from ...errors import InputError, ModelError
from ...model.onnx_check import check_safe, read_onnx
from . import onnx_tidy
from .answers import PALETTE
from .converted import ImportOptions

Raw = dict[str, Any]
_LIMIT = 16 << 20


def read_description(path: Path) -> Raw:
    if not path.is_file():
        raise InputError(f"{path.name} is missing in {path.parent.name}; choose the whole folder.")
    if path.stat().st_size > _LIMIT:
        raise ModelError(f"{path.name}: larger than {_LIMIT >> 20} MB; this is not a description.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name}: not valid JSON ({error}); get the file again.") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path.name}: it is no JSON object.")
    return raw


def bundle_network(folder: Path, options: ImportOptions, what: str) -> onnx.ModelProto:
    """The one ONNX file in ``folder`` (or the one that the option ``onnx`` names)."""
    wanted = options.choices.get("onnx")
    found = [folder / wanted] if wanted else sorted(folder.rglob("*.onnx"))
    found = [f for f in found if f.is_file() and f.resolve().is_relative_to(folder.resolve())]
    if not found:
        raise InputError(
            f"{folder.name} holds no .onnx file. {what} keep PyTorch weights, which are pickles and are not loaded; "
            "export the network to ONNX into this folder first."
        )
    if len(found) > 1:
        names = ", ".join(f.relative_to(folder).as_posix() for f in found[:8])
        raise InputError(f"{folder.name} holds several ONNX files ({names}); name one with the option onnx=FILE.")
    model = read_onnx(found[0])
    if check_safe(model, found[0], folder):
        model = onnx.load(str(found[0]))
    return model


def network_ends(model: onnx.ModelProto) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    inputs = onnx_tidy.real_inputs(model)
    if len(inputs) != 1:
        raise ModelError(f"The network has {len(inputs)} inputs; one is expected here.")
    return inputs[0], model.graph.output[0]


def plain_id(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "model"


def named_classes(names: list[str], lesion: bool = False) -> list[Raw]:
    """Classes of values 1, 2, ... with distinct names."""
    result = []
    for n, name in enumerate(names):
        unique = name if names.count(name) == 1 else f"{name} {n + 1}"
        result.append({"value": n + 1, "name": unique, "color": list(PALETTE[n % len(PALETTE)])})
    return result


def manifest_of(id: str, title: str, task: str, model: onnx.ModelProto, dims: int, **more: Any) -> Raw:
    source, result = network_ends(model)
    layout = "NCDHW" if dims == 3 else "NCHW"
    return {
        "medseg_manifest": 1,
        "id": id,
        "version": "1.0.0",
        "title": title,
        "task": task,
        "license": "unknown",
        "weights": {"file": "model.onnx"},
        **more,
        "inputs": [{"name": source.name, "layout": layout}],
        "output": {"tensor": result.name, "layout": layout, **more["output"]},
    }
