"""Other people's descriptions may hold anything; importing one must end with a sentence or a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fuzz.descriptions import _DATASET, _METADATA, _PLANS
from medseg.errors import InputError, ModelError
from medseg.library.importer import import_model, propose
from medseg.library.importer.keras_safe import Refused, description, safe_config
from medseg.library.importer.tfjs import convert_tfjs
from support.packages import network
from support.tfjs_samples import meshnet


def nnunet(folder: Path, plans: Any, dataset: Any) -> Path:
    folder = folder / "t__p__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "fold_0" / "model.onnx").write_bytes(network(classes=3).SerializeToString())
    return folder


@pytest.mark.parametrize(
    ("plans", "dataset"),
    [
        ({"configurations": []}, {}),
        ({"configurations": {"3d_fullres": "x"}}, {}),
        ({"transpose_forward": "x"}, {}),
        ({"foreground_intensity_properties_per_channel": {"0": {}}}, {}),
        ({}, {"labels": [1, 2]}),
        ({}, {"labels": {"background": {}, "a": None}}),
        ({}, {"channel_names": {"": "CT"}}),
        ({}, {"name": "\ud800"}),
    ],
)
def test_a_damaged_nnunet_description_names_itself(tmp_path: Path, plans: Any, dataset: Any) -> None:
    folder = nnunet(tmp_path, _PLANS | plans, _DATASET | dataset)
    with pytest.raises((InputError, ModelError), match=r"\.json|description"):
        import_model(folder, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [6.5e34, -1, "x", None])
def test_a_monai_bundle_of_impossible_outputs(tmp_path: Path, channels: Any) -> None:
    """A count of 10^34 kept the importer busy for ever."""
    metadata = json.loads(json.dumps(_METADATA))
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = channels
    (tmp_path / "b" / "models").mkdir(parents=True)
    (tmp_path / "b" / "metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "b" / "models" / "model.onnx").write_bytes(network(classes=3).SerializeToString())
    with pytest.raises(ModelError):
        import_model(tmp_path / "b", None, tmp_path / "out")


@pytest.mark.parametrize("change", ["filters", "kernel_size", "name"])
def test_a_tensorflow_js_layer_without_what_it_needs(tmp_path: Path, change: str) -> None:
    path, _, _ = meshnet(tmp_path)
    raw = json.loads(path.read_text())
    del raw["modelTopology"]["model_config"]["config"]["layers"][1]["config"][change]
    path.write_text(json.dumps(raw))
    with pytest.raises(ModelError, match=r"model\.json"):
        convert_tfjs(path, input_name="x", output_name="y")


@pytest.mark.parametrize("text", ["[]", "{", b"\xff", "[" * 20000])
def test_a_keras_description_that_is_none(text: str | bytes) -> None:
    with pytest.raises(Refused, match="description"):
        description(text)


def test_a_keras_layer_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(Refused):
        safe_config({"class_name": "TFOpLambda", "config": ["x"]}, {}, 2)


def test_a_network_that_onnx_runtime_does_not_open_is_told_when_it_is_proposed(tmp_path: Path) -> None:
    model = network(("n", 1, None, None, None))
    model.graph.output[0].type.tensor_type.elem_type = 9  # bool, which a convolution does not give
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"ONNX"):
        propose(tmp_path / "net.onnx")
