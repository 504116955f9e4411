"""`import_model`: file and recipe -> checked package, all or nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ... import __version__
from ...errors import InputError, ModelError, damage_is
from ...model.manifest import Manifest
from ...model.onnx_check import check_safe, read_onnx
from ...model.package_files import sha256_of, user_path
from ...monitor import Monitor
from . import onnx_tidy
from .converted import Converted, ImportOptions, tell
from .formats import SELF_DESCRIBED, Kind, detect_kind
from .package_writing import write_package
from .recipe import Recipe, find_recipe


def import_model(
    file: str | Path,
    recipe: str | Recipe | None,
    output: str | Path,
    *,
    monitor: Monitor | None = None,
    options: ImportOptions | None = None,
) -> Path:
    """Turn ``file`` into the package ``output`` (a folder, ``.zip`` or single ``.onnx``, by its name) and return it.

    ``recipe``: id or recipe; None for nnU-Net results and MONAI bundles, which bring their own description. The package
    holds ``import.json``: where it came from, how many parameters, and the largest difference to the original
    framework on a probe input (null where that framework is not at hand).

    Raises `InputError` (file, recipe, output), `ModelError` (the file does not fit, or is unsafe), `Cancelled`.
    """
    path, target = user_path(file), user_path(output)
    monitor, options = monitor or Monitor(), options or ImportOptions()
    if target.exists() and not options.overwrite:
        raise InputError(f"{target} is already there; choose another name or overwrite it.")
    with monitor.stage("read"):
        kind = detect_kind(path)
    known = find_recipe(recipe) if isinstance(recipe, str) else recipe
    with monitor.stage("convert"), damage_is(ModelError, f"The description of {path.name}"):
        raw, converted = _converted(path, kind, known, options, monitor)
        json.dumps(raw, ensure_ascii=False).encode()  # text that is none, from a damaged description
    tell(monitor, converted.notes)
    if options.id:
        raw["id"] = options.id
    if options.title:
        raw["title"] = options.title
    with monitor.stage("write"):
        return write_package(target, raw, converted, _origin(path, kind, known, options), monitor)


def import_with_manifest(
    file: str | Path,
    manifest: dict[str, Any],
    output: str | Path,
    *,
    monitor: Monitor | None = None,
    options: ImportOptions | None = None,
) -> Path:
    """Package the ONNX ``file`` with a ``manifest`` of the user's own (see `medseg.library.importer.propose`)."""
    path, target = user_path(file), user_path(output)
    monitor, options = monitor or Monitor(), options or ImportOptions()
    if target.exists() and not options.overwrite:
        raise InputError(f"{target} is already there; choose another name or overwrite it.")
    kind = detect_kind(path)
    if kind != "onnx":
        raise InputError(f"{path.name} is a {_WORDS[kind]}; without a recipe only ONNX files can be packaged.")
    converted = _read_whole(path)
    if not onnx_tidy.open_batch(converted.model):
        converted.notes.append("The network takes one image at a time: its batch is fixed and could not be opened.")
    tell(monitor, converted.notes)
    raw = json.loads(json.dumps(manifest)) | ({"id": options.id} if options.id else {})
    with monitor.stage("write"):
        return write_package(target, raw, converted, _origin(path, kind, None, options), monitor)


def _converted(
    path: Path, kind: Kind, recipe: Recipe | None, options: ImportOptions, monitor: Monitor
) -> tuple[dict[str, Any], Converted]:
    if kind == "nnunet":
        from .nnunet import convert_nnunet

        if recipe is not None and "nnunet" in recipe.accepts:
            from .nnunet_set import convert_set

            return convert_set(path, recipe, options, monitor)

        return convert_nnunet(path, options, monitor)
    if kind in SELF_DESCRIBED:
        return _from_folder(path, kind, options, monitor)
    if recipe is None:
        raise InputError(
            f"{path.name} does not say what it expects and gives; name a recipe, or let MedSeg propose a manifest."
        )
    if kind not in recipe.accepts:
        raise InputError(
            f"{path.name} is a {_WORDS[kind]}, but {recipe.title} comes as "
            + " or ".join(_WORDS[k] for k in recipe.accepts)
            + "."
        )
    if options.choices:
        raise InputError(f"{recipe.title} has nothing to choose on import (given: {', '.join(options.choices)}).")
    raw = recipe.template()
    converted = _CONVERTERS[kind](path, recipe, raw, options, monitor)
    finish(raw, converted, recipe)
    return raw, converted


def _from_folder(path: Path, kind: Kind, options: ImportOptions, monitor: Monitor) -> tuple[dict[str, Any], Converted]:
    """Manifest and network of a folder, or of an archive of one, that describes itself."""
    from .auto3dseg import convert_auto3dseg
    from .monai import convert_monai
    from .raidionics import convert_raidionics
    from .unpacking import unpacked

    convert = {"monai": convert_monai, "auto3dseg": convert_auto3dseg, "raidionics": convert_raidionics}[kind]
    if path.is_file() and zipfile.is_zipfile(path):
        with unpacked(path) as folder:
            return convert(folder, options, monitor)
    return convert(path, options, monitor)


def finish(raw: dict[str, Any], converted: Converted, recipe: Recipe) -> None:
    """Names, batch, layouts and class count of the converted graph as the manifest has them; counts compared."""
    model = converted.model
    inputs, outputs = onnx_tidy.real_inputs(model), list(model.graph.output)
    wanted = [t["name"] for t in raw["inputs"]]
    if len(inputs) != len(wanted):
        raise ModelError(
            f"The network has {len(inputs)} inputs, but {recipe.title} has {len(wanted)}; it is another model."
        )
    named = {o.name: o for o in outputs}
    result = named.get(raw["output"]["tensor"]) or (outputs[0] if len(outputs) == 1 else None)
    if result is None:
        raise ModelError(
            f"The network has the outputs {', '.join(named)}, and none is called {raw['output']['tensor']!r}; keep one."
        )
    by_name = {v.name for v in inputs} == set(wanted)
    renames = {} if by_name else {v.name: w for v, w in zip(inputs, wanted, strict=True)}
    onnx_tidy.rename(model, {**renames, result.name: raw["output"]["tensor"]})
    if not onnx_tidy.open_batch(model):
        converted.notes.append("The network takes one image at a time: its batch is fixed and could not be opened.")
    converted.notes += _layouts(raw, model)
    if recipe.labels_in_slabs:
        _labels(raw, model, recipe)
    if recipe.parameters is not None and converted.parameters not in (None, recipe.parameters):
        converted.notes.append(
            f"The file has {converted.parameters:,} parameters, the published {recipe.title} {recipe.parameters:,}: it "
            "is a variant, and the published figures may not hold."
        )


def _labels(raw: dict[str, Any], model: onnx.ModelProto, recipe: Recipe) -> None:
    value = next(v for v in model.graph.output if v.name == raw["output"]["tensor"])
    shape = onnx_tidy.sizes(value) or ()
    if len(shape) == 5 and shape[1] == len(raw["classes"]) + 1:
        assert recipe.labels_in_slabs is not None
        onnx_tidy.argmax_in_slabs(model, value.name, recipe.labels_in_slabs)
    elif len(shape) != 4:
        raise ModelError(
            f"The network gives {shape[1] if len(shape) > 1 else 'unknown'} channels, but {recipe.title} has "
            f"{len(raw['classes']) + 1} with the background; it is another model."
        )


def _layouts(raw: dict[str, Any], model: onnx.ModelProto) -> list[str]:
    """Channels first or last as the graph has it, where the manifest says the other; sentences of what changed."""
    notes = []
    shapes = {v.name: onnx_tidy.sizes(v) for v in [*onnx_tidy.real_inputs(model), *model.graph.output]}
    channels = Manifest.model_validate(raw).network_channels
    ends = [(tensor, tensor["name"], channels) for tensor in raw["inputs"]]
    count = max(c["value"] for c in raw["classes"]) + (raw["output"]["activation"] == "softmax")
    ends.append((raw["output"], raw["output"]["tensor"], count))
    for part, name, wanted in ends:
        shape, layout = shapes.get(name), part["layout"]
        if shape is None or len(shape) != len(layout) or len(layout) < 4 or "C" not in layout:
            continue
        first, last = shape[1], shape[-1]
        turned = {"NHWC": "NCHW", "NDHWC": "NCDHW", "NCHW": "NHWC", "NCDHW": "NDHWC"}[layout]
        here, there = (last, first) if layout.endswith("C") else (first, last)
        if here != wanted and there == wanted:
            part["layout"] = turned
            notes.append(
                f"The tensor {name!r} is {turned}, where the authors' own files are {layout}; the manifest says so."
            )
    return notes


# -- converters ---------------------------------------------------------------------------------------------


def _read_whole(path: Path) -> Converted:
    """A safe ONNX file with its external data inside."""
    model = read_onnx(path)
    if check_safe(model, path, path.parent):
        model = onnx.load(str(path))
    return Converted(model, facts={"framework": "ONNX"})


def _from_onnx(path: Path, recipe: Recipe, raw: dict[str, Any], options: ImportOptions, monitor: Monitor) -> Converted:
    converted = _read_whole(path)
    backbone = recipe.keras.backbone
    inputs = onnx_tidy.real_inputs(converted.model)
    if backbone is not None and len(inputs) == 1 and len(onnx_tidy.sizes(inputs[0]) or ()) == 2:
        if options.backbone is None:
            raise InputError(
                f"{path.name} is the second stage alone (it takes {backbone.features} features); give the ONNX file of "
                f"the {backbone.application} backbone too."
            )
        from .from_keras import join_stages

        converted.model = join_stages(_read_whole(options.backbone).model, converted.model)
    return converted


def _from_tfjs(path: Path, recipe: Recipe, raw: dict[str, Any], options: ImportOptions, monitor: Monitor) -> Converted:
    from .tfjs import convert_tfjs, parameter_count, read_tfjs

    description = path / "model.json" if path.is_dir() else path
    model = convert_tfjs(
        description,
        input_name=raw["inputs"][0]["name"],
        output_name=raw["output"]["tensor"],
        normalised_suffix=recipe.tfjs.normalised_suffix,
        epsilon=recipe.tfjs.epsilon,
    )
    return Converted(model, parameter_count(read_tfjs(description)[1]), facts={"framework": "TensorFlow.js"})


def _from_keras(path: Path, recipe: Recipe, raw: dict[str, Any], options: ImportOptions, monitor: Monitor) -> Converted:
    from .from_keras import convert_keras

    return convert_keras(path, recipe, options, monitor)


def _from_torch(path: Path, recipe: Recipe, raw: dict[str, Any], options: ImportOptions, monitor: Monitor) -> Converted:
    from .from_torch import convert_torch

    return convert_torch(path, recipe, raw, options, monitor)


_Converter = Callable[[Path, Recipe, dict[str, Any], ImportOptions, Monitor], Converted]
_CONVERTERS: dict[str, _Converter] = {
    "onnx": _from_onnx,
    "tfjs": _from_tfjs,
    "keras": _from_keras,
    "torch": _from_torch,
}
_WORDS = {
    "onnx": "ONNX file",
    "keras": "Keras file",
    "tfjs": "TensorFlow.js model",
    "torch": "PyTorch program",
    "nnunet": "nnU-Net result",
    "monai": "MONAI bundle",
    "auto3dseg": "Auto3DSeg model",
    "raidionics": "Raidionics model",
}


def _origin(path: Path, kind: Kind, recipe: Recipe | None, options: ImportOptions) -> dict[str, Any]:
    record: dict[str, Any] = {"medseg": __version__, "source": path.name, "kind": kind}
    if path.is_file():
        record["source_sha256"] = sha256_of(path)
    if recipe is not None:
        record["recipe"] = recipe.id
    if options.choices:
        record["options"] = dict(options.choices)
    return record
