"""The ONNX check: no foreign operator reaches the runtime, and a network that does not fit its manifest says where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medseg.errors import ModelError
from medseg.model.manifest import Manifest
from medseg.model.onnx_check import check_safe, read_onnx
from medseg.model.onnx_fit import check_fits
from support.packages import manifest, network


def safe(model: onnx.ModelProto, folder: Path) -> list[str]:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return check_safe(read_onnx(path), path, folder)


def fits(model: onnx.ModelProto, **changes: Any) -> list[str]:
    return check_fits(model, Manifest.model_validate(manifest(**changes)), "model.onnx")


def identity(domain: str, op: str = "Custom") -> list[onnx.NodeProto]:
    return [helper.make_node(op, ["x"], ["y"], domain=domain)]


# -- safety -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "op"),
    [
        ("ai.onnx.contrib", "PyOp"),
        ("my.ops", "Custom"),
        ("com.microsoft.extensions", "AzureOp"),
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "PythonOp"),
        ("org.pytorch.aten", "ATen"),
        ("com.microsoft.nchwc", "Conv"),
    ],
)
def test_operators_that_need_foreign_code_are_refused(tmp_path: Path, domain: str, op: str) -> None:
    with pytest.raises(ModelError, match=f"{domain}::{op}"):
        safe(network(nodes=identity(domain, op), opsets={"": 17, domain: 1}), tmp_path)


def test_foreign_operators_are_found_in_subgraphs_and_functions(tmp_path: Path) -> None:
    """They would otherwise be smuggled in below an If."""
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Custom", ["x"], ["b"], domain="my.ops")], "branch", [], [value])
    harmless = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], [value])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=harmless),
    ]
    with pytest.raises(ModelError, match=r"my\.ops::Custom"):
        safe(network(nodes=nodes, opsets={"": 17, "my.ops": 1}), tmp_path)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    inner = helper.make_node("Custom", ["a"], ["b"], domain="my.ops")
    function = helper.make_function("local", "F", ["a"], ["b"], [inner], opsets)
    model = network(nodes=identity("local", "F"), opsets={"": 17, "local": 1, "my.ops": 1}, functions=[function])
    with pytest.raises(ModelError, match=r"my\.ops::Custom"):
        safe(model, tmp_path)


def test_functions_of_standard_operators_and_contrib_operators_are_welcome(tmp_path: Path) -> None:
    """PyTorch's exporter writes functions, optimised models use contrib operators; both are data."""
    inner = helper.make_node("Relu", ["a"], ["b"])
    function = helper.make_function("pkg.torch", "F", ["a"], ["b"], [inner], [helper.make_opsetid("", 17)])
    assert (
        safe(network(nodes=identity("pkg.torch", "F"), opsets={"": 17, "pkg.torch": 1}, functions=[function]), tmp_path)
        == []
    )
    assert safe(network(nodes=identity("com.microsoft", "Gelu"), opsets={"": 17, "com.microsoft": 1}), tmp_path) == []
    assert safe(network(opsets={"": 17, "ai.onnx.training": 1, "unused.domain": 3}), tmp_path) == []


def test_an_opset_or_ir_version_that_the_runtime_does_not_know_is_named(tmp_path: Path) -> None:
    future = network()
    future.opset_import[0].version = 20_000
    with pytest.raises(ModelError):
        safe(future, tmp_path)
    future = network()
    future.ir_version = 500
    with pytest.raises(ModelError):
        safe(future, tmp_path)


def test_a_released_opset_beyond_the_runtime_says_which_it_knows(tmp_path: Path) -> None:
    """onnx is often ahead of onnxruntime: the user must learn that the runtime is the older one."""
    newest = onnx.defs.onnx_opset_version()
    model = network(nodes=[helper.make_node("Relu", ["x"], ["y"])], opsets={"": newest})
    try:
        safe(model, tmp_path)
    except ModelError as error:
        assert f"opset {newest} of ai.onnx, but onnxruntime" in str(error) and "update onnxruntime" in str(error)


def test_weights_that_were_cut_are_found(tmp_path: Path) -> None:
    model = network()
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    with pytest.raises(ModelError, match="'w' are not complete"):
        safe(model, tmp_path)
    model = network()
    model.graph.initializer[0].dims[0] = -2
    with pytest.raises(ModelError, match="negative"):
        safe(model, tmp_path)


def test_a_graph_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        safe(network(nodes=[helper.make_node("Conv", ["nowhere", "w"], ["y"])]), tmp_path)
    empty = network()
    del empty.graph.node[:]
    with pytest.raises(ModelError, match="holds no network"):
        safe(empty, tmp_path)


def test_ort_format_under_an_onnx_name_is_refused(tmp_path: Path) -> None:
    """The runtime's own format is not what was checked."""
    (tmp_path / "model.onnx").write_bytes(b"\x20\0\0\0ORTM" + bytes(100))
    with pytest.raises(ModelError, match="ORT format"):
        read_onnx(tmp_path / "model.onnx")


# -- fit ----------------------------------------------------------------------------------------------------


def test_a_network_that_fits_gives_no_warning() -> None:
    assert fits(network()) == []
    assert fits(network(classes=4)) == []


WINDOWS = {"step": "window", "windows": [{"level": 40, "width": 80}, {"level": 80, "width": 200}]}
SLICES = {"mode": "slicewise", "plane": "axial"}
IN_2D: dict[str, Any] = {
    "inference": SLICES,
    "inputs": [{"name": "x", "layout": "NCHW"}],
    "output": {"tensor": "y", "layout": "NCHW", "activation": "softmax"},
}
MISFITS: list[tuple[str, onnx.ModelProto, dict[str, Any], str]] = [
    ("rank", network((None, 1, None, None)), {}, r"inputs\[0\]\.layout: NCDHW has 5 axes, but 'x' .* has 4"),
    (
        "type",
        network(),
        {"inputs": [{"name": "x", "layout": "NCDHW", "dtype": "uint8"}]},
        r"dtype: uint8, but .* float32",
    ),
    ("channels from windows", network(), {"preprocessing": [WINDOWS]}, "gives 2 channel.*takes 1"),
    ("two volumes", network(), {"channels": [{"name": "T1"}, {"name": "FLAIR"}]}, "gives 2 channel"),
    (
        "neighbours",
        network((None, 1, None, None)),
        {**IN_2D, "inference": {**SLICES, "neighbours": 1}},
        "gives 3 channel",
    ),
    ("channel index", network(), {"inputs": [{"name": "x", "layout": "NCDHW", "channels": [1]}]}, "do not exist"),
    ("channels last", network((1, 1, None, None, 8)), {"inputs": [{"name": "x", "layout": "NDHWC"}]}, "takes 8"),
    (
        "patch",
        network((1, 1, 96, 96, 96)),
        {"inference": {"mode": "sliding_window", "patch": [96, 96, 64]}},
        "96 x 96 x 64 .i, j, k., but model.onnx takes 96 x 96 x 96",
    ),
    (
        "patch order",
        network((1, 1, 16, 32, 64)),
        {"inference": {"mode": "sliding_window", "patch": [16, 32, 64]}},
        "takes 16",
    ),
    (
        "resize",
        network((1, 1, 64, 64, 64)),
        {"preprocessing": [{"step": "resize", "size": [64, 64, 32]}]},
        "gives 32 x 64 x 64",
    ),
    (
        "resize in 2D",
        network((None, 1, 256, 256)),
        {**IN_2D, "preprocessing": [{"step": "resize", "size": [224, 224, None]}]},
        "takes 256 x 256",
    ),
    (
        "head fit",
        network((None, 1, 256, 256)),
        {**IN_2D, "preprocessing": [{"step": "fit_head", "size": 192}]},
        "192 x 192",
    ),
    (
        "class beyond the channels",
        network(),
        {"classes": [{"value": 2, "name": "b"}]},
        "'b' has the value 2 and needs 3",
    ),
    ("softmax of one", network(classes=1), {}, "use sigmoid"),
    (
        "sigmoid class",
        network(),
        {"output": {"tensor": "y", "layout": "NCDHW", "activation": "sigmoid"}, "classes": [{"value": 3, "name": "c"}]},
        "needs 3 channels",
    ),
    (
        "labels of two",
        network(),
        {"output": {"tensor": "y", "layout": "NCDHW", "activation": "labels"}},
        "has 2 channels",
    ),
]


@pytest.mark.parametrize(("model", "changes", "words"), [m[1:] for m in MISFITS], ids=[m[0] for m in MISFITS])
def test_a_misfit_is_named(model: onnx.ModelProto, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        fits(model, **changes)


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ((1, 1, 64, 32, 16), {"inference": {"mode": "sliding_window", "patch": [16, 32, 64]}}),
        (
            (1, 1, 64, 64, 64),
            {
                "inference": {"mode": "whole", "multiple_of": 16},
                "preprocessing": [{"step": "resize", "size": [60, 64, 50]}],
            },
        ),
        ((1, 1, 32, 64, 64), {"preprocessing": [{"step": "resize", "size": [64, 64, 32]}]}),
        ((None, 1, 256, 192), {**IN_2D, "preprocessing": [{"step": "resize", "size": [192, None, 256]}]}),
        (
            (None, 1, 256, 256),
            {
                **IN_2D,
                "preprocessing": [{"step": "crop_or_pad", "size": [256, 256, None]}, {"step": "fit_head", "size": 256}],
            },
        ),
        (
            (4, 3, 256, 256),
            {**IN_2D, "inference": {**SLICES, "neighbours": 1}, "preprocessing": [{"step": "fit_head", "size": 256}]},
        ),
    ],
)
def test_sizes_in_the_right_order_fit(shape: tuple[Any, ...], changes: dict[str, Any]) -> None:
    """A false refusal would keep a good model from being used."""
    assert fits(network(shape), **changes) == []


def test_a_size_that_only_the_volume_decides_is_a_warning() -> None:
    (warning,) = fits(network((1, 1, 64, 64, 64)))
    assert "exactly 64 x 64 x 64" in warning


def test_an_input_that_nobody_feeds_is_named() -> None:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match="also needs 'age'"):
        fits(model)


def test_whole_numbers_need_their_scale() -> None:
    model = network()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(ModelError, match=r"output\.dequantise: is missing"):
        fits(model)
