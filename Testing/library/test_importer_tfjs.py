"""TensorFlow.js models and single layers become ONNX that computes the same, the real MeshNets among them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg import load_model, read_volume, run
from medseg.errors import InputError, ModelError
from medseg.library.importer import ImportOptions, find_recipe, import_model
from medseg.library.importer.layers import convert_layers
from medseg.monitor import Monitor
from support.tfjs_samples import layer, meshnet, run_onnx

MESHNETS = ["meshnet-gwm-light", "meshnet-gwm", "meshnet-subcortical-18", "meshnet-brain-mask"]


@pytest.mark.parametrize(
    ("stored", "tolerance"),
    [({}, 1e-5), ({"kernel": "float16"}, 1e-5), ({"kernel": "uint8"}, 0.1), ({"kernel": "uint16"}, 5e-4)],
)
def test_a_tfjs_model_computes_what_its_layers_say(tmp_path: Path, stored: dict[str, str], tolerance: float) -> None:
    file, volume, scores = meshnet(tmp_path / "m", **stored)
    package = import_model(file, "meshnet-gwm-light", tmp_path / "package")
    model = load_model(package)
    found = run_onnx(onnx.load(str(model.onnx_path)), volume[None, None].astype(np.float32))
    assert np.abs(found[0] - scores).max() <= tolerance
    record = json.loads((package / "import.json").read_text())
    assert record["parameters"] == 127 and record["largest_difference"] is None
    assert "not compared" in model.manifest.card.figures["agreement with the original"]


def test_other_parameter_counts_are_told(tmp_path: Path) -> None:
    file, _, _ = meshnet(tmp_path / "m")
    monitor = Monitor()
    import_model(file, "meshnet-gwm-light", tmp_path / "package", monitor=monitor)
    assert any("127 parameters" in text and "5,598" in text for text in monitor.warnings)


@pytest.mark.parametrize("suffix", ["", ".zip", ".onnx"])
def test_all_three_package_forms_are_written(tmp_path: Path, suffix: str) -> None:
    file, _, _ = meshnet(tmp_path / "m")
    made = import_model(file, "meshnet-gwm-light", tmp_path / f"package{suffix}")
    assert load_model(made).manifest.id == "meshnet-gwm-light"
    with pytest.raises(InputError, match="already there"):
        import_model(file, "meshnet-gwm-light", made)
    import_model(file, "meshnet-gwm-light", made, options=ImportOptions(overwrite=True))


def test_tfjs_faults_name_what_is_wrong(tmp_path: Path) -> None:
    file, _, _ = meshnet(tmp_path / "m")
    raw = json.loads(file.read_text())

    def refused(match: str, **changes: Any) -> None:
        file.write_text(json.dumps({**raw, **changes}))
        with pytest.raises((ModelError, InputError), match=match):
            import_model(file, "meshnet-gwm-light", tmp_path / "package")
        assert not (tmp_path / "package").exists()

    refused("graph-model", format="graph-model")
    group = raw["weightsManifest"][0]
    refused("missing beside", weightsManifest=[{**group, "paths": ["a.bin", "c.bin"]}])
    refused("not a plain relative path", weightsManifest=[{**group, "paths": ["../a.bin"]}])
    refused("end before", weightsManifest=[{**group, "paths": ["a.bin"]}])
    refused("belong to another version", weightsManifest=[{**group, "weights": group["weights"][:-1]}])
    refused(
        "stored as 'complex64'", weightsManifest=[{**group, "weights": [{**group["weights"][0], "dtype": "complex64"}]}]
    )
    layers = raw["modelTopology"]["model_config"]["config"]["layers"]
    for changed, match in (
        ({"class_name": "Lambda"}, "'a' is of the kind Lambda"),
        ({"config": {"name": "a", "activation": "mish"}}, "activation 'mish'"),
    ):
        new = [layers[0], layers[1], {**layers[2], **changed}, layers[3]]
        config = {**raw["modelTopology"]["model_config"]["config"], "layers": new}
        refused(match, modelTopology={"model_config": {"class_name": "Functional", "config": config}})


def keras_layers(*layers: dict[str, Any]) -> dict[str, Any]:
    last = layers[-1]["config"]["name"]
    return {"class_name": "Functional", "config": {"layers": list(layers), "output_layers": [[last, 0, 0]]}}


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.integers(1, 4), stride=st.integers(1, 3), size=st.integers(4, 12), seed=st.integers(0, 99),
    filters=st.integers(1, 3),
)  # fmt: skip
def test_transposed_convolutions_follow_keras(kernel: int, stride: int, size: int, filters: int, seed: int) -> None:
    """Keras 'same': output = stride * input; by the definition as the gradient of a strided convolution."""
    random = np.random.default_rng(seed)
    weight, image = random.normal(size=(kernel, kernel, filters, 2)), random.normal(size=(size, size, 2))
    out = size * stride
    full = np.zeros(((size - 1) * stride + max(kernel, stride), (size - 1) * stride + max(kernel, stride), filters))
    for y in range(size):
        for x in range(size):
            full[y * stride : y * stride + kernel, x * stride : x * stride + kernel] += weight @ image[y, x]
    low = max(0, kernel - stride) // 2
    shape = {"filters": filters, "kernel_size": kernel, "strides": stride}
    wanted = full[low : low + out, low : low + out]
    model = convert_layers(
        keras_layers(
            layer("InputLayer", "i", batch_input_shape=[None, None, None, 2]),
            layer("Conv2DTranspose", "t", "i", **shape, padding="same", use_bias=False),
        ),
        {"t/kernel": weight}, input_name="x", output_name="y",
    )  # fmt: skip
    found = run_onnx(model, image.transpose(2, 0, 1)[None].astype(np.float32))[0].transpose(1, 2, 0)
    assert found.shape == wanted.shape and np.allclose(found, wanted, atol=1e-4)


def test_norms_pooling_upsampling_and_joins_follow_keras() -> None:
    random = np.random.default_rng(5)
    image = random.normal(size=(2, 6, 8))
    gamma, beta, mean, variance = random.random((4, 2)) + 0.5
    model = convert_layers(
        keras_layers(
            layer("InputLayer", "i", batch_shape=[None, 6, 8, 2]),
            layer("BatchNormalization", "b", "i", epsilon=0.01),
            layer("MaxPooling2D", "p", "b", pool_size=[2, 2]),
            layer("UpSampling2D", "u", "p", size=[2, 2]),
            layer("Add", "s", "u", "i"),
            layer("Concatenate", "c", "s", "b"),
            layer("Dropout", "d", "c", rate=0.5),
            layer("LeakyReLU", "l", "d", alpha=0.1),
        ),
        {"b/gamma": gamma, "b/beta": beta, "b/moving_mean": mean, "b/moving_variance": variance},
        input_name="x", output_name="y",
    )  # fmt: skip
    column = (slice(None), None, None)
    b = (image - mean[column]) / np.sqrt(variance[column] + 0.01) * gamma[column] + beta[column]
    pooled = b.reshape(2, 3, 2, 4, 2).max(axis=(2, 4))
    joined = np.concatenate([pooled.repeat(2, 1).repeat(2, 2) + image, b])
    assert np.allclose(
        run_onnx(model, image[None].astype(np.float32))[0], np.where(joined > 0, joined, 0.1 * joined), atol=1e-4
    )


@pytest.mark.real_data
@pytest.mark.parametrize("name", MESHNETS)
def test_real_meshnets_equal_the_compared_conversion(shared: Path, tmp_path: Path, name: str) -> None:
    """The reference ONNX files were compared with the original framework voxel by voxel."""
    package = import_model(shared / "models" / name / "tfjs" / "model.json", name, tmp_path / name)
    volume = np.random.default_rng(0).random((1, 1, 33, 36, 30), dtype=np.float32)
    mine = run_onnx(onnx.load(str(package / "model.onnx")), volume)
    theirs = run_onnx(onnx.load(str(shared / "models" / name / "model.onnx")), volume)
    assert np.abs(mine - theirs).max() <= 1e-6
    recipe = find_recipe(name)
    assert json.loads((package / "import.json").read_text())["parameters"] == recipe.parameters


@pytest.mark.real_data
def test_the_brain_mask_equals_the_original_framework_s_logits(shared: Path, tmp_path: Path) -> None:
    folder = shared / "models" / "meshnet-brain-mask"
    package = import_model(folder / "tfjs", "meshnet-brain-mask", tmp_path / "mask")
    with np.load(folder / "tfjs_crop_check.npz") as stored:
        feed, wanted = stored["input"], stored["tfjs_logits"]
    found = run_onnx(onnx.load(str(package / "model.onnx")), feed.astype(np.float32))
    assert np.abs(found - wanted).max() <= 3e-4


@pytest.mark.real_data
def test_imported_tissue_model_gives_the_reference_labels(shared: Path, tmp_path: Path) -> None:
    import SimpleITK as sitk

    folder = shared / "models" / "meshnet-gwm-light"
    package = import_model(folder / "tfjs" / "model.json", "meshnet-gwm-light", tmp_path / "package")
    result = run(package, shared / "images/t1/t1_conformed_256.nii.gz", device="cpu")
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "reference_tfjs_postprocessed.nii.gz")))
    assert np.count_nonzero(result.layers[0].labels != wanted) <= 20


@pytest.mark.real_data
@pytest.mark.recipes
def test_104_regions_lie_where_they_belong(shared: Path, tmp_path: Path) -> None:
    """No reference is at hand: left structures lie left, right ones right, with about their volumes."""
    package = import_model(shared / "models/meshnet-104/tfjs/model.json", "meshnet-104", tmp_path / "package")
    volume = read_volume(shared / "images/t1/t1_conformed_256.nii.gz")
    result = run(package, volume, device="cpu")
    labels = result.layers[0].labels
    values = {c.name: c.value for c in result.layers[0].classes}

    def centre(name: str) -> np.ndarray:
        return volume.grid.to_physical(np.argwhere(labels == values[name]).mean(0)[::-1])

    for name in ("Thalamus-Proper", "Hippocampus", "Cerebellum-Cortex", "Caudate"):
        assert centre(f"Left-{name}")[0] > 5 and centre(f"Right-{name}")[0] < -5
    assert centre("Brain-Stem")[2] < centre("Left-Thalamus-Proper")[2]
    table = result.tables["segments"]
    ml = dict(zip(table.column("segment"), table.column("volume_ml"), strict=True))
    assert 15 < ml["Brain-Stem"] < 35 and 2.5 < ml["Left-Hippocampus"] < 6
