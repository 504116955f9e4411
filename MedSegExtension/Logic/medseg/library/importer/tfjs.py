"""TensorFlow.js layers models: ``model.json`` and its binary weight files, read without TensorFlow.

The weights of all files of a group stand one after the other in the manifest's order. Stored types: float32, int32,
uint8, bool, and quantised float16 or ``value * scale + min`` on uint8 and uint16.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ...errors import ModelError, damage_is
from ...model.package_files import inside
from .layers import convert_layers

Array = npt.NDArray[Any]
_DTYPES = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "bool": "u1", "float16": "<f2", "uint16": "<u2"}
_JSON_LIMIT = 64 << 20
_WEIGHTS_LIMIT = 2 << 30


def read_tfjs(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """(model_config, weights by name) of a ``model.json``. `ModelError` says which file is missing or does not fit."""
    with damage_is(ModelError, path.name):
        return _read_tfjs(path, path.name)


def _read_tfjs(path: Path, label: str) -> tuple[dict[str, Any], dict[str, Array]]:
    if path.stat().st_size > _JSON_LIMIT:
        raise ModelError(f"{label}: larger than {_JSON_LIMIT >> 20} MB; this is not the description of a model.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{label}: not valid JSON ({error}); get the file again.") from error
    if not isinstance(raw, dict) or "modelTopology" not in raw:
        raise ModelError(f"{label}: it has no modelTopology; choose the model.json of a TensorFlow.js layers model.")
    if raw.get("format") not in (None, "layers-model"):
        raise ModelError(
            f"{label}: it is a TensorFlow.js {raw['format']}; only layers models can be imported. Convert the original "
            "SavedModel to ONNX instead."
        )
    topology = raw["modelTopology"]
    config = topology.get("model_config", topology)
    weights: dict[str, Array] = {}
    for group in raw.get("weightsManifest", []):
        data = _group_bytes(path.parent, group.get("paths", []), label)
        offset = 0
        for item in group.get("weights", []):
            value, offset = _read(item, data, offset, label)
            weights[str(item["name"])] = value
        if offset != len(data):
            raise ModelError(
                f"{label}: the weight files hold {len(data)} bytes, but it describes {offset}; they belong to another "
                "version of the model. Get all files again."
            )
    if not weights:
        raise ModelError(f"{label}: it lists no weights; get the model again.")
    return config, weights


def convert_tfjs(
    path: Path, *, input_name: str, output_name: str, normalised_suffix: str = "", epsilon: float = 1e-5
) -> onnx.ModelProto:
    """The ONNX model (channels first, open space) of a ``model.json``; see `medseg.library.importer.layers`."""
    config, weights = read_tfjs(path)
    with damage_is(ModelError, path.name):
        return convert_layers(
            config,
            weights,
            input_name=input_name,
            output_name=output_name,
            normalised_suffix=normalised_suffix,
            epsilon=epsilon,
            label=path.name,
        )


def parameter_count(weights: dict[str, Array]) -> int:
    """Number of stored weights."""
    return sum(int(w.size) for w in weights.values())


def _group_bytes(folder: Path, names: list[str], label: str) -> bytes:
    total = 0
    parts = []
    for name in names:
        file = inside(folder, str(name), label)
        total += file.stat().st_size
        if total > _WEIGHTS_LIMIT:
            raise ModelError(f"{label}: its weight files are larger than 2 GB.")
        parts.append(file.read_bytes())
    return b"".join(parts)


def _read(item: dict[str, Any], data: bytes, offset: int, label: str) -> tuple[Array, int]:
    name = str(item.get("name"))
    shape = tuple(int(n) for n in item.get("shape", []))
    quantised = item.get("quantization")
    stored = str((quantised or item).get("dtype"))
    if stored not in _DTYPES:
        raise ModelError(f"{label}: the weights {name!r} are stored as {stored!r}, which is not known.")
    if any(n < 0 for n in shape):
        raise ModelError(f"{label}: the weights {name!r} have a negative size; the file is damaged.")
    dtype = np.dtype(_DTYPES[stored])
    count = math.prod(shape)
    end = offset + count * dtype.itemsize
    if end > len(data):
        raise ModelError(
            f"{label}: the weight files end before {name!r} ({len(data)} bytes, {end} are needed); the download is not "
            "complete. Get them again."
        )
    value: Array = np.frombuffer(data, dtype, count, offset).reshape(shape)
    if quantised and stored != "float16":
        value = value.astype(np.float32) * np.float32(quantised["scale"]) + np.float32(quantised["min"])
    return value.astype(np.float32), end
