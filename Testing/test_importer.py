"""Files of other frameworks become packages that compute the same; what cannot be trusted or understood is refused.

A user would lose: a wrong axis, an untold guess, or a computer on which somebody else's code ran.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from medseg import load_model, read_volume, run
from medseg.errors import InputError, ModelError
from medseg.importer import ImportOptions, Recipe, find_recipe, import_model, import_with_manifest, onnx_tidy, propose
from medseg.importer.formats import detect_kind
from medseg.importer.from_keras import join_stages
from medseg.importer.layers import convert_layers
from medseg.monitor import Monitor
from packages import network

MESHNETS = ["meshnet-gwm-light", "meshnet-gwm", "meshnet-subcortical-18", "meshnet-brain-mask"]


def run_onnx(model: onnx.ModelProto, *feeds: np.ndarray) -> np.ndarray:
    names = [v.name for v in onnx_tidy.real_inputs(model)]
    return onnx_tidy.session(model).run(None, dict(zip(names, feeds, strict=True)))[0]


# -- TensorFlow.js ------------------------------------------------------------------------------------------


def tfjs(folder: Path, weights: dict[str, np.ndarray], layers: list[dict[str, Any]], **stored: str) -> Path:
    """A layers model as the TensorFlow.js converter writes it. ``stored``: how weights are kept, by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    listed, data = [], b""
    for name, value in weights.items():
        item: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": "float32"}
        how = stored.get(name.split("/")[-1], "float32")
        if how == "float16":
            item["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            data += value.astype("<f2").tobytes()
        elif how in ("uint8", "uint16"):
            low, top = float(value.min()), {"uint8": 255, "uint16": 65535}[how]
            scale = (float(value.max()) - low) / top
            item["quantization"] = {"dtype": how, "scale": scale, "min": low, "original_dtype": "float32"}
            data += np.rint((value - low) / scale).astype({"uint8": "u1", "uint16": "<u2"}[how]).tobytes()
        else:
            data += value.astype("<f4").tobytes()
        listed.append(item)
    topology = {"model_config": {"class_name": "Functional", "config": {
        "layers": layers, "input_layers": [[layers[0]["config"]["name"], 0, 0]],
        "output_layers": [[layers[-1]["config"]["name"], 0, 0]]}}}  # fmt: skip
    half = len(data) // 2  # two files, cut in the middle of a tensor
    (folder / "a.bin").write_bytes(data[:half])
    (folder / "b.bin").write_bytes(data[half:])
    raw = {
        "format": "layers-model", "modelTopology": topology,
        "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": listed}],
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(raw))
    return folder / "model.json"


def layer(kind: str, name: str, *sources: str, **config: Any) -> dict[str, Any]:
    return {
        "class_name": kind,
        "config": {"name": name, **config},
        "inbound_nodes": [[[s, 0, 0, {}] for s in sources]] if sources else [],
    }


def meshnet(folder: Path, seed: int = 0, **stored: str) -> tuple[Path, np.ndarray, np.ndarray]:
    """A two-layer MeshNet with dilation 2 and relu: (file, volume, its three scores computed by scipy)."""
    random = np.random.default_rng(seed)
    first, second = random.normal(0, 0.3, (3, 3, 3, 1, 4)), random.normal(0, 1, (1, 1, 1, 4, 3))
    bias = random.normal(0, 0.3, 4)
    weights = {"c/kernel": first, "c/bias": bias, "output/kernel": second, "output/bias": np.zeros(3)}
    volume = random.random((9, 10, 11))
    if stored.get("kernel") == "float16":
        weights = {k: v.astype(np.float16).astype(float) for k, v in weights.items()}
    spread = np.zeros((5, 5, 5, 4))
    spread[::2, ::2, ::2] = weights["c/kernel"][..., 0, :]
    seen = [ndimage.correlate(volume, spread[..., c], mode="constant") + weights["c/bias"][c] for c in range(4)]
    scores = np.einsum("cdhw,ck->kdhw", np.maximum(seen, 0), weights["output/kernel"][0, 0, 0])
    layers = [
        layer("InputLayer", "input", batch_input_shape=[None, 256, 256, 256, 1]),
        layer("Conv3D", "c", "input", filters=4, kernel_size=[3, 3, 3], dilation_rate=[2, 2, 2], padding="same"),
        layer("Activation", "a", "c", activation="relu"),
        layer("Conv3D", "output", "a", filters=3, kernel_size=[1, 1, 1], padding="same"),
    ]
    return tfjs(folder, weights, layers, **stored), volume, scores


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


@pytest.mark.shared_data
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


@pytest.mark.shared_data
def test_the_brain_mask_equals_the_original_framework_s_logits(shared: Path, tmp_path: Path) -> None:
    folder = shared / "models" / "meshnet-brain-mask"
    package = import_model(folder / "tfjs", "meshnet-brain-mask", tmp_path / "mask")
    with np.load(folder / "tfjs_crop_check.npz") as stored:
        feed, wanted = stored["input"], stored["tfjs_logits"]
    found = run_onnx(onnx.load(str(package / "model.onnx")), feed.astype(np.float32))
    assert np.abs(found - wanted).max() <= 3e-4


@pytest.mark.shared_data
def test_imported_tissue_model_gives_the_reference_labels(shared: Path, tmp_path: Path) -> None:
    import SimpleITK as sitk

    folder = shared / "models" / "meshnet-gwm-light"
    package = import_model(folder / "tfjs" / "model.json", "meshnet-gwm-light", tmp_path / "package")
    result = run(package, shared / "images/t1/t1_conformed_256.nii.gz", device="cpu")
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "reference_tfjs_postprocessed.nii.gz")))
    assert np.count_nonzero(result.layers[0].labels != wanted) <= 20


@pytest.mark.shared_data
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


# -- ONNX ---------------------------------------------------------------------------------------------------


def test_labels_in_slabs_are_the_labels_of_the_whole() -> None:
    """Memory is saved, nothing else: any number of planes, also one that the slabs do not divide."""
    random = np.random.default_rng(3)
    weight = random.normal(size=(5, 2, 1, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["h"], kernel_shape=[1] * 3), helper.make_node("Identity", ["h"], ["y"])],
        "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, "D", "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5, "D", "H", "W"])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    labelled = onnx.ModelProto()
    labelled.CopyFrom(model)
    onnx_tidy.argmax_in_slabs(labelled, "y", 16)
    for planes in (16, 37, 164):
        volume = random.normal(size=(1, 2, planes, 3, 4)).astype(np.float32)
        assert np.array_equal(run_onnx(labelled, volume), run_onnx(model, volume).argmax(1))


def fixed_batch(reshape: bool) -> onnx.ModelProto:
    shape = numpy_helper.from_array(np.array([1, 12] if reshape else [-1, 12]), "shape")
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 12])], [shape],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_fixed_batch_is_opened_only_where_that_is_right() -> None:
    free, stuck = fixed_batch(False), fixed_batch(True)
    before = stuck.SerializeToString()
    assert onnx_tidy.open_batch(free) and run_onnx(free, np.zeros((3, 1, 3, 4), np.float32)).shape == (3, 12)
    assert not onnx_tidy.open_batch(stuck) and stuck.SerializeToString() == before


def test_renaming_keeps_the_network_and_does_not_collide() -> None:
    model = network()
    weight = model.graph.initializer[0].name
    volume = np.random.default_rng(0).random((1, 1, 4, 4, 4), dtype=np.float32)
    before = run_onnx(model, volume)
    onnx_tidy.rename(model, {"x": weight, "y": "x"})
    onnx.checker.check_model(model)
    assert [v.name for v in onnx_tidy.real_inputs(model)] == [weight] and model.graph.output[0].name == "x"
    assert np.array_equal(run_onnx(model, volume), before)


def test_channels_first_exports_of_a_channels_last_recipe_are_understood(tmp_path: Path) -> None:
    """Users export U-Nets either way; a wrong layout would be refused or, worse, run."""
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["in", "w"], ["h"], pads=[1] * 4), helper.make_node("Sigmoid", ["h"], ["out"])], "g",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, [1, 1, 256, 256])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 1, 256, 256])], [weight],
    )  # fmt: skip
    file = tmp_path / "lungs.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    monitor = Monitor()
    package = import_model(file, "lungs-unet", tmp_path / "package", monitor=monitor)
    manifest = load_model(package).manifest
    assert manifest.inputs[0].layout == "NCHW" and manifest.output.layout == "NCHW"
    assert manifest.inputs[0].name == "image" and any("NCHW" in text for text in monitor.warnings)
    with pytest.raises((ModelError, InputError), match=r"channel|axes|layout"):
        import_model(file, "ich-vgg16", tmp_path / "other")


def test_two_onnx_stages_become_one_graph(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    features = helper.make_model(
        helper.make_graph(
            [helper.make_node("AveragePool", ["x"], ["f"], kernel_shape=[2, 2], strides=[2, 2])], "b",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
            [helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 3, 2, 2])],
        ), opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    weight = random.normal(size=(12, 2)).astype(np.float32)
    mlp = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["f"])], "c",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 12])],
            [helper.make_tensor_value_info("f", TensorProto.FLOAT, ["N", 2])], [numpy_helper.from_array(weight, "w")],
        ), opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
    )  # fmt: skip
    joined = join_stages(features, mlp)
    image = random.random((2, 3, 4, 4), dtype=np.float32)
    wanted = image.reshape(2, 3, 2, 2, 2, 2).mean(axis=(3, 5)).reshape(2, 12) @ weight
    assert np.allclose(run_onnx(joined, image), wanted, atol=1e-5)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(mlp)
    wrong.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 13
    with pytest.raises(ModelError, match="do not belong together"):
        join_stages(features, wrong)


# -- what is refused ----------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("evil-ran"), "x"))


@pytest.mark.parametrize("name", ["model.pth", "model.pkl", "model.onnx", "model.h5"])
def test_pickles_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="pickle"):
        import_model(name, "ich-vgg16", "package")
    assert not (tmp_path / "evil-ran").exists()


def test_a_torch_state_dict_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="loading a pickle runs code"):
        detect_kind(file)


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "is empty"), (b"<!doctype html><p>", "web page"), (b"version https://git-lfs.github", "Git LFS"),
     (b"{}", "not the description"), (b"GIF89a....", "of no kind")],
)  # fmt: skip
def test_files_that_are_no_model_are_named(tmp_path: Path, content: bytes, match: str) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=match):
        detect_kind(file)


def test_a_wrong_recipe_says_what_it_wants(tmp_path: Path) -> None:
    file, _, _ = meshnet(tmp_path / "m")
    with pytest.raises(InputError, match=r"TensorFlow\.js model, but Lungs"):
        import_model(file, "lungs-unet", tmp_path / "package")
    with pytest.raises(InputError, match="Did you mean meshnet-gwm"):
        import_model(file, "meshnet-gmw", tmp_path / "package")
    with pytest.raises(InputError, match="name a recipe"):
        import_model(file, None, tmp_path / "package")


def test_a_recipe_names_only_known_operations() -> None:
    raw = find_recipe("wmh-deeplabv3plus-3class").model_dump()
    raw["keras"]["operations"] = {"aspp": "os.system"}
    with pytest.raises(ValueError, match=r"os\.system"):
        Recipe.model_validate(raw)


# -- proposals ----------------------------------------------------------------------------------------------


def saved(tmp_path: Path, model: onnx.ModelProto, **metadata: str) -> Path:
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    file = tmp_path / "My Model.onnx"
    onnx.save(model, str(file))
    return file


def test_an_unknown_model_is_proposed_and_runs(tmp_path: Path) -> None:
    """Bring any model: every default is told, and the answers decide."""
    file = saved(tmp_path, network(classes=3), names="{0: 'background', 1: 'liver', 2: 'spleen'}", modality="CT")
    proposal = propose(file)
    assert any("NCDHW" in text for text in proposal.guesses) and any("logits" in text for text in proposal.guesses)
    asked = {q.id: q for q in proposal.questions}
    assert {"orientation", "spacing", "activation", "classes", "window", "intensity", "modality"} <= set(asked)
    assert asked["classes"].default == "liver, spleen" and asked["modality"].default == "CT"
    raw = proposal.answered({"orientation": "RAS", "spacing": "1.5", "window": "abdomen", "intensity": "none"})
    assert raw["id"] == "my-model" and [c["name"] for c in raw["classes"]] == ["liver", "spleen"]
    assert [s["step"] for s in raw["preprocessing"]] == ["orient", "resample", "window"]
    package = import_with_manifest(file, raw, tmp_path / "package")
    assert load_model(package).manifest.channels[0].modality == ["CT"]
    sigmoid = proposal.answered({"activation": "sigmoid", "classes": "a, b, c"})
    assert sigmoid["output"]["activation"] == "sigmoid" and len(sigmoid["classes"]) == 3


@pytest.mark.parametrize(
    ("answers", "match"),
    [({"orientation": "RLS"}, "orientation"), ({"spacing": "a"}, "spacing"), ({"classes": "one"}, "classes"),
     ({"window": "liver"}, "window"), ({"colour": "red"}, "was not asked")],
)  # fmt: skip
def test_answers_that_mean_nothing_are_asked_again(tmp_path: Path, answers: dict[str, str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        propose(saved(tmp_path, network(classes=3))).answered(answers)


@pytest.mark.shared_data
def test_real_models_are_read_rightly(shared: Path) -> None:
    found = {p.parent.name: propose(p).manifest for p in shared.glob("models/*/model.onnx")}
    assert found["deepbrain-extractor"]["inputs"][0]["layout"] == "NDHWC"
    assert found["deepbrain-extractor"]["output"]["activation"] == "sigmoid"
    assert found["hippodeep-head"]["preprocessing"][-1] == {"step": "resize", "size": [64, 64, 64]}
    assert len(found["meshnet-subcortical-18"]["classes"]) == 17
    quantised = found["cxr-mobilenet-quantised"]
    assert quantised["task"] == "classification" and quantised["inputs"][0]["dtype"] == "uint8"
    assert quantised["output"]["dequantise"] == {"scale": pytest.approx(0.07633935), "zero_point": 170}
    assert found["lungct-unet-small"]["inference"]["mode"] == "slicewise"
