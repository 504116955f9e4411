"""Files of other frameworks become packages that compute the same; what cannot be trusted or understood is refused.

A user would lose: a wrong axis, an untold guess, or a computer on which somebody else's code ran.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medseg import load_model
from medseg.errors import InputError, ModelError
from medseg.library.importer import Recipe, find_recipe, import_model, import_with_manifest, onnx_tidy, propose
from medseg.library.importer.converted import Converted, Probe
from medseg.library.importer.formats import detect_kind
from medseg.library.importer.from_keras import join_stages
from medseg.library.importer.package_writing import compare
from medseg.monitor import Monitor
from support.packages import network
from support.tfjs_samples import meshnet, run_onnx

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


@pytest.mark.parametrize(
    ("scale", "off", "good"), [(1, 5e-3, True), (1, 0.1, False), (1e6, 2, True), (1e6, 1e3, False)]
)
def test_the_original_may_differ_by_what_single_precision_leaves(
    tmp_path: Path, scale: float, off: float, good: bool
) -> None:
    """AHNet gives numbers of half a million: no conversion agrees there to a hundredth, nor PyTorch with itself."""
    model = network(classes=2)
    onnx.save(model, str(tmp_path / "model.onnx"))
    feed = np.full((1, 1, 3, 4, 5), scale, np.float32)
    wanted = np.repeat(feed, 2, axis=1)
    wanted[0, 0, 0, 0, 0] += off
    converted = Converted(model, probe=Probe("PyTorch", [feed], wanted))
    monitor = Monitor()
    if good:
        assert compare(converted, tmp_path / "model.onnx", monitor) == pytest.approx(off, rel=0.1)
        assert bool(monitor.warnings) == (scale == 1)
    else:
        with pytest.raises(ModelError, match="differs from the original"):
            compare(converted, tmp_path / "model.onnx", monitor)


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


@pytest.mark.real_data
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
