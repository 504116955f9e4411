"""An unknown ONNX file is run before it is believed: which sizes and batches it takes, which values it wants.

A user would lose a run that ends inside ONNX Runtime, or get meaningless numbers from a network fed the wrong scale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from medseg import Grid, Volume, load_model, run
from medseg.cli import app
from medseg.errors import ModelError
from medseg.library.importer import import_with_manifest, propose
from medseg.monitor import Monitor
from support.packages import package

RNG = np.random.default_rng(1)


def save(nodes: list[Any], weights: dict[str, np.ndarray], shapes: tuple[list[Any], list[Any]], path: Path) -> Path:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def u_net(path: Path, halvings: int, dims: int = 2, thick: bool = False) -> Path:
    """Halves its input ``halvings`` times and joins each level again (``thick``: the slowest axis is not halved)."""
    kernel = [1 if thick and axis == 0 else 2 for axis in range(dims)]
    nodes, weights, name, skips = [], {}, "x", []
    for n in range(halvings):
        skips.append(name)
        nodes.append(helper.make_node("MaxPool", [name], [f"d{n}"], kernel_shape=kernel, strides=kernel))
        name = f"d{n}"
    for n, skip in enumerate(reversed(skips)):
        weights[f"scale{n}"] = np.array([1, 1, *kernel], np.float32)
        nodes.append(helper.make_node("Resize", [name, "", f"scale{n}"], [f"u{n}"], mode="nearest"))
        nodes.append(helper.make_node("Concat", [f"u{n}", skip], [f"c{n}"], axis=1))
        weights[f"w{n}"] = np.full((1, 2, *[1] * dims), 0.5, np.float32)
        nodes.append(helper.make_node("Conv", [f"c{n}", f"w{n}"], [f"m{n}"]))
        name = f"m{n}"
    weights["last"] = np.array([0.0, 1.0], np.float32).reshape(2, 1, *[1] * dims)
    nodes.append(helper.make_node("Conv", [name, "last"], ["y"]))
    free = ["h", "w"] if dims == 2 else ["d", "h", "w"]
    return save(nodes, weights, (["n", 1, *free], ["n", 2, *free]), path)


def volume(shape: tuple[int, int, int]) -> Volume:
    array = RNG.normal(100, 30, shape).astype(np.float32)
    return Volume(array, Grid(shape[::-1], (1, 1, 1), (0, 0, 0), np.eye(3)), "MR", "scan")


@pytest.mark.parametrize("halvings", [0, 1, 3, 5])
def test_the_multiple_of_a_2d_network_is_found_out(tmp_path: Path, halvings: int) -> None:
    proposal = propose(u_net(tmp_path / "net.onnx", halvings))
    assert proposal.manifest["inference"].get("multiple_of", 1) == 2**halvings
    words = "any size" if halvings == 0 else f"multiples of {2**halvings}"
    assert any(words in sentence for sentence in proposal.guesses)


@pytest.mark.parametrize(("halvings", "thick", "multiple"), [(2, False, 4), (3, True, 8)])
def test_the_multiple_of_a_3d_network_is_found_out(tmp_path: Path, halvings: int, thick: bool, multiple: int) -> None:
    assert propose(u_net(tmp_path / "net.onnx", halvings, 3, thick)).manifest["inference"]["multiple_of"] == multiple


@pytest.mark.parametrize(("dims", "shape"), [(2, (3, 44, 53)), (3, (19, 22, 27))])
def test_an_imported_u_net_runs_on_sizes_that_do_not_fit_it(tmp_path: Path, dims: int, shape: tuple[int, ...]) -> None:
    """It ended with "Attempting to broadcast an axis by a dimension other than 1" and the device's exit code."""
    file = u_net(tmp_path / "net.onnx", 3, dims)
    made = import_with_manifest(file, propose(file).answered({}), tmp_path / "made")
    result = run(load_model(made), volume((shape[0], shape[1], shape[2])), device="cpu")
    assert result.layers[0].labels.shape == shape


def test_a_manifest_without_the_multiple_is_a_fault_of_the_model_in_words(tmp_path: Path) -> None:
    file = u_net(tmp_path / "net.onnx", 3)
    manifest = propose(file).answered({})
    del manifest["inference"]["multiple_of"]
    made = import_with_manifest(file, manifest, tmp_path / "made")
    with pytest.raises(ModelError, match=r"cannot take an image of this size \(.*44 x 53\).*multiple_of") as caught:
        run(load_model(made), volume((3, 44, 53)), device="cpu")
    assert caught.value.exit_code == 3


def test_valid_convolutions_are_refused_with_the_sizes(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    weights = {"w": np.ones((2, 1, 5, 5), np.float32)}
    file = save([node], weights, (["n", 1, "h", "w"], ["n", 2, "a", "b"]), tmp_path / "valid.onnx")
    with pytest.raises(ModelError, match=r"valid\.onnx: the network gives 60 x 60 for an image of 64 x 64"):
        propose(file)


def test_an_output_at_half_the_resolution_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])]
    weights = {"w": np.ones((2, 1, 3, 3), np.float32)}
    file = save(nodes, weights, (["n", 1, "h", "w"], ["n", 2, "a", "b"]), tmp_path / "half.onnx")
    with pytest.raises(ModelError, match="gives 32 x 32 for an image of 64 x 64"):
        propose(file)


def test_a_batch_that_is_only_nominally_free_is_not_used(tmp_path: Path) -> None:
    """Else slices would be mixed with each other without any error."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "w"], ["y"]),
    ]
    weights = {"w": np.ones((2, 1, 1, 1), np.float32)}
    file = save(nodes, weights, (["n", 1, "h", "w"], ["n", 2, "h", "w"]), tmp_path / "net.onnx")
    proposal = propose(file)
    assert proposal.manifest["inference"]["batch"] == 1 and any("one is run at a time" in g for g in proposal.guesses)
    assert "batch" not in propose(u_net(tmp_path / "free.onnx", 1)).manifest["inference"]


# -- values -------------------------------------------------------------------------------------------------

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def classifier(path: Path, first: list[Any], weights: dict[str, Any], channels: int = 3) -> Path:
    """``first`` leads from ``x`` to ``s``; then a mean over the image and six scores."""
    nodes = [
        *first,
        helper.make_node("GlobalAveragePool", ["s"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["y"]),
    ]
    weights = {k: np.asarray(v, np.float32) for k, v in weights.items()} | {"fc": np.ones((channels, 6), np.float32)}
    return save(nodes, weights, (["n", channels, 64, 64], ["n", 6]), path)


def per_channel(values: np.ndarray) -> np.ndarray:
    return values.reshape(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("first", "weights", "wanted", "said"),
    [
        ([("Identity", ["x"], "s")], {}, "display window to 0..1", "three channels"),
        ([("Div", ["x", "a"], "s")], {"a": 255.0}, "display window to 0..255", "divides its input by 255"),
        ([("Mul", ["x", "a"], "s")], {"a": 1 / 255}, "display window to 0..255", "divides its input by 255"),
        (
            [("Mul", ["x", "a"], "m"), ("Sub", ["m", "b"], "s")], {"a": 1 / 127.5, "b": 1.0},
            "display window to 0..255", "-1 to 1",
        ),
        (
            [("Sub", ["x", "a"], "m"), ("Div", ["m", "b"], "s")], {"a": per_channel(MEAN), "b": per_channel(STD)},
            "display window to 0..1", "ImageNet's mean (Sub and Div, RGB): it wants 0 to 1",
        ),
        (
            [("Sub", ["x", "a"], "m"), ("Div", ["m", "b"], "s")],
            {"a": per_channel(255 * MEAN[::-1]), "b": per_channel(255 * STD[::-1])},
            "display window to 0..255", "BGR): it wants 0 to 255",
        ),
        (
            [("Div", ["x", "a"], "m"), ("Sub", ["m", "b"], "n"), ("Div", ["n", "c"], "s")],
            {"a": 255.0, "b": per_channel(MEAN), "c": per_channel(STD)},
            "display window to 0..255", "it wants 0 to 255",
        ),
        (
            [("Sub", ["x", "a"], "s")], {"a": per_channel(np.array([103.939, 116.779, 123.68]))},
            "display window to 0..255", "it wants 0 to 255",
        ),
        (
            [("BatchNormalization", ["x", "one", "zero", "mean", "variance"], "s")],
            {"one": np.ones(3), "zero": np.zeros(3), "mean": MEAN, "variance": STD**2},
            "display window to 0..1", "BatchNormalization",
        ),
    ],
)  # fmt: skip
def test_what_the_graph_does_to_its_input_decides_the_proposal(
    tmp_path: Path, first: Any, weights: dict[str, Any], wanted: str, said: str
) -> None:
    """An ImageNet-style classifier silently got a z-score over the volume."""
    nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in first]
    proposal = propose(classifier(tmp_path / "net.onnx", nodes, weights))
    (intensity,) = [q for q in proposal.questions if q.id == "intensity"]
    assert intensity.default == wanted and any(said in g for g in proposal.guesses), proposal.guesses
    kinds = [s["step"] for s in proposal.answered({})["preprocessing"]]
    assert "zscore" not in kinds and "to_rgb" in kinds


@pytest.mark.parametrize(("answers", "low", "high"), [({}, 0, 255), ({"window": "brain"}, 0, 255)])
def test_the_network_gets_the_range_that_it_wants(tmp_path: Path, answers: dict[str, str], low: int, high: int) -> None:
    from medseg.pipeline.explain import explain

    node = [helper.make_node("Div", ["x", "a"], ["s"])]
    file = classifier(tmp_path / "net.onnx", node, {"a": 255.0})
    made = import_with_manifest(file, propose(file).answered(answers), tmp_path / "made")
    (tensor,) = explain(load_model(made), volume((3, 64, 64)), monitor=Monitor()).tensors.values()
    assert tensor.min() == pytest.approx(low, abs=1e-3) and tensor.max() == pytest.approx(high, rel=1e-3)


def test_yes_says_every_answer_and_the_card_keeps_them(tmp_path: Path) -> None:
    file = u_net(tmp_path / "net.onnx", 2)
    done = CliRunner().invoke(
        app, ["models", "import", str(file), "-o", str(tmp_path / "made"), "--yes", "--answer", "plane=coronal"]
    )
    assert done.exit_code == 0, done.output
    for words in ("intensity: zscore (proposed, not confirmed)", "plane: coronal (as answered)", "multiples of 4"):
        assert words in done.output
    card = json.loads((tmp_path / "made" / "manifest.json").read_text())["card"]
    assert "intensity: zscore (proposed, not confirmed)" in card["assumptions"]
    shown = CliRunner().invoke(app, ["models", "show", str(tmp_path / "made")])
    assert "intensity: zscore (proposed, not confirmed)" in shown.output


# -- demonstration models -----------------------------------------------------------------------------------


def test_models_that_only_know_drawings_are_called_demonstration_and_come_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ich-compact alarms on 20 of 28 slices of a real CT without bleeding."""
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path / "models"))
    package(tmp_path / "models" / "zz", id="zz-own")
    listed = json.loads(CliRunner().invoke(app, ["models", "list", "--json"]).stdout)["models"]
    drawings = [m["id"] for m in listed if m["demonstration"]]
    assert drawings == ["cmb-compact", "ich-compact", "lungs-compact"]
    assert [m["id"] for m in listed][-3:] == drawings
    assert "(demonstration)" in CliRunner().invoke(app, ["models", "list"]).output
    assert "trained on drawings" in CliRunner().invoke(app, ["models", "show", "ich-compact"]).output
