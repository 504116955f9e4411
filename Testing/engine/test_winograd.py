"""Convolutions with fewer multiplications give what convolutions give; else every result of a large U-Net is wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from medseg.engine import winograd
from medseg.engine.openvino_engine import OpenVinoNetwork

pytest.importorskip("openvino")


def network(channels: int, pads: int = 1, stride: int = 1) -> bytes:
    """Two convolutions of ``channels`` with a bias and a ReLU between them, of any size of image."""
    random = np.random.default_rng(3)
    weights = [random.normal(0, 1 / np.sqrt(9 * channels), (channels, channels, 3, 3)) for _ in range(2)]
    values = {"w0": weights[0], "w1": weights[1], "b": random.normal(size=channels)}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b"], ["c"], pads=[pads] * 4, strides=[stride] * 2),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "w1"], ["y"], pads=[1] * 4),
    ]
    ends = [helper.make_tensor_value_info(n, 1, ["n", channels, "h", "w"]) for n in "xy"]
    kept = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def reference(network: bytes, image: np.ndarray) -> np.ndarray:
    return np.asarray(ReferenceEvaluator(onnx.load_from_string(network)).run(None, {"x": image})[0])


@pytest.mark.parametrize(
    ("made", "size", "replaced"),
    [
        pytest.param(network(8), (1, 8, 12), 2, id="both"),
        pytest.param(network(8), (3, 4, 16), 2, id="several images"),
        pytest.param(network(8), (1, 10, 12), 0, id="a size that pieces of four do not fill"),
        pytest.param(network(8, pads=0), (1, 10, 10), 1, id="the first does not keep the size"),
        pytest.param(network(8, stride=2), (1, 8, 8), 1, id="the first has a stride"),
        pytest.param(network(4), (1, 8, 8), 0, id="few channels"),
    ],
)
def test_the_result_is_that_of_the_convolutions(
    made: bytes, size: tuple[int, int, int], replaced: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "LEAST", 8)
    real, counts = winograd.rewrite, []
    monkeypatch.setattr(winograd, "rewrite", lambda model: counts.append(real(model)) or counts[-1])
    images, *plane = size
    channels = onnx.load_from_string(made).graph.initializer[0].dims[0]
    image = np.random.default_rng(1).normal(size=(images, channels, *plane)).astype(np.float32)
    given, expected = OpenVinoNetwork(made).run({"x": image})["y"], reference(made, image)
    monkeypatch.setattr(winograd, "MOST", 4 * 9 * 8 * 8 * 4)
    bounded = OpenVinoNetwork(made).run({"x": image})["y"]
    assert counts == [replaced, min(replaced, 1)], "memory for the weights has a bound"
    assert np.abs(bounded - expected).max() < 1e-4 * expected.std()
    assert given.shape == expected.shape and np.abs(given - expected).max() < 1e-4 * expected.std()
