"""Descriptions of other people's models: Keras, TensorFlow.js, nnU-Net, MONAI; recipes and catalogues."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import onnx

from medseg.library.catalogue.listing import read_catalogue
from medseg.library.importer import import_model
from medseg.library.importer.formats import detect_kind
from medseg.library.importer.keras_safe import Refused, safe_config
from medseg.library.importer.recipe import read_recipe, recipe_folders
from medseg.library.importer.tfjs import convert_tfjs
from support.packages import network
from support.tfjs_samples import meshnet

from .kind import Files, Kind
from .model_folders import looked_at_and_imported

_KERAS = {
    "class_name": "Functional",
    "config": {
        "name": "net",
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {"name": "in", "batch_input_shape": [None, 64, 64, 1]},
                "inbound_nodes": [],
            },
            {
                "class_name": "Conv2D",
                "config": {"name": "c", "filters": 4, "kernel_size": [3, 3], "activation": "relu"},
                "inbound_nodes": [[["in", 0, 0, {}]]],
            },
            {
                "class_name": "Lambda",
                "config": {"name": "l", "function": ["code", None, None]},
                "inbound_nodes": [[["c", 0, 0, {}]]],
            },
        ],
        "input_layers": [["in", 0, 0]],
        "output_layers": [["l", 0, 0]],
    },
}
_PLANS = {
    "dataset_name": "Dataset003_Liver",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 100.0, "std": 50.0, "percentile_00_5": -50.0, "percentile_99_5": 250.0}
    },
    "configurations": {
        "3d_fullres": {
            "patch_size": [32, 48, 64],
            "spacing": [2.0, 1.5, 1.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
        },
        "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [4.0, 3.0, 2.0]},
    },
}
_DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "numTraining": 9,
    "name": "Liver",
}
_METADATA = {
    "name": "Spleen",
    "version": "0.1.0",
    "description": "d",
    "monai_version": "1.3",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": [96, 96, 96],
                "channel_def": {"0": "image"},
            }
        },
        "outputs": {
            "pred": {"type": "image", "num_channels": 3, "channel_def": {"0": "background", "1": "a", "2": "b"}}
        },
    },
}
_INFERENCE = {
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -57,
                "a_max": 164,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "sw_batch_size": 4, "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        ],
    },
}
_CATALOGUE = {
    "medseg_catalogue": 1,
    "title": "t",
    "entries": [
        {
            "id": "tiny",
            "title": "Tiny",
            "system": "brain",
            "task": "segmentation",
            "kind": "package",
            "license": "MIT",
            "source": "a place",
            "files": [
                {"name": "tiny.zip", "addresses": ["https://example.org/tiny.zip"], "size": 10, "sha256": "0" * 64}
            ],
        }
    ],
}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _onnx(classes: int) -> bytes:
    model: onnx.ModelProto = network(classes=classes)
    return model.SerializeToString()


def _nnunet() -> Files:
    return {
        "t__p__3d_fullres/plans.json": _json(_PLANS),
        "t__p__3d_fullres/dataset.json": _json(_DATASET),
        "t__p__3d_fullres/fold_0/model.onnx": _onnx(3),
    }


def _monai() -> Files:
    return {
        "b/configs/metadata.json": _json(_METADATA),
        "b/configs/inference.json": _json(_INFERENCE),
        "b/models/model.onnx": _onnx(3),
    }


def _slices() -> Files:
    """A network of slices: flat sizes, an inferer that cuts volumes."""
    steps = [*_INFERENCE["preprocessing"]["transforms"], {"_target_": "CropForegroundd", "keys": "image", "margin": 2}]
    windows = {"_target_": "SliceInferer", "roi_size": [64, 48], "spatial_dim": 2, "overlap": 0.25}
    flat = json.loads(json.dumps(_METADATA))
    flat["network_data_format"]["inputs"]["image"]["spatial_shape"] = [64, 48]
    plan = {**_INFERENCE, "preprocessing": {"_target_": "Compose", "transforms": steps}, "inferer": windows}
    shape, nodes = (1, 1, None, None), [onnx.helper.make_node("Concat", ["x", "x", "x"], ["y"], axis=1)]
    model = network(shape, classes=3, nodes=nodes).SerializeToString()
    return {
        "b/configs/metadata.json": _json(flat), "b/configs/inference.json": _json(plan), "b/models/model.onnx": model,
    }  # fmt: skip


def _tfjs() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        meshnet(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def _keras_zip() -> Files:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", json.dumps(_KERAS))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0"}))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64)
    return {"model.keras": out.getvalue()}


def _recipe() -> Files:
    return {"recipe.json": (recipe_folders()[0] / "ich-vgg16.json").read_bytes()}


def _read_tfjs(folder: Path) -> Any:
    return convert_tfjs(folder / "model.json", input_name="x", output_name="y", normalised_suffix="", epsilon=1e-3)


def _read_keras(folder: Path) -> Any:
    from medseg.library.importer.keras_safe import description

    return safe_config(description((folder / "config.json").read_text(errors="replace")), {"l": "identity"}, 2)


def _nnunet_import(folder: Path) -> Any:
    return import_model(folder / "t__p__3d_fullres", None, folder / "out")


KINDS = [
    Kind("keras", "models", lambda: {"config.json": _json(_KERAS)}, _read_keras, json=True, allowed=(Refused,)),
    Kind("keras-zip", "models", _keras_zip, lambda folder: detect_kind(folder / "model.keras")),
    Kind("tfjs", "models", _tfjs, _read_tfjs, json=True, damage=("model.json",)),
    Kind("tfjs-weights", "models", _tfjs, _read_tfjs, damage=("a.bin", "b.bin")),
    Kind("nnunet-plans", "descriptions", _nnunet, _nnunet_import, json=True, damage=("t__p__3d_fullres/plans.json",)),
    Kind(
        "nnunet-dataset", "descriptions", _nnunet, _nnunet_import, json=True, damage=("t__p__3d_fullres/dataset.json",)
    ),
    Kind(
        "monai-metadata",
        "descriptions",
        _monai,
        lambda folder: looked_at_and_imported(folder, "b"),
        json=True,
        damage=("b/configs/metadata.json",),
    ),
    Kind(
        "monai-inference",
        "descriptions",
        _monai,
        lambda folder: looked_at_and_imported(folder, "b"),
        json=True,
        damage=("b/configs/inference.json",),
    ),
    Kind(
        "monai-slices",
        "descriptions",
        _slices,
        lambda folder: looked_at_and_imported(folder, "b"),
        json=True,
        damage=("b/configs/metadata.json", "b/configs/inference.json"),
    ),
    Kind("recipe", "descriptions", _recipe, lambda folder: read_recipe(folder / "recipe.json"), json=True),
    Kind(
        "catalogue",
        "descriptions",
        lambda: {"c.json": _json(_CATALOGUE)},
        lambda folder: read_catalogue(folder / "c.json"),
        json=True,
    ),
]
