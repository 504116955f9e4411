"""Networks rewritten for OpenVINO give what the original gives; else every result of a U-Net would be wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnxruntime import InferenceSession

from medseg.engine import openvino_engine, openvino_rewriting, transposed_convolutions, winograd
from medseg.engine.openvino_engine import OpenVinoNetwork
from medseg.engine.openvino_rewriting import BLOCKS, JOINED, WINOGRAD
from medseg.engine.session import Session
from medseg.model.package import load_model
from medseg.monitor import Monitor
from support.packages import package

pytest.importorskip("openvino")


class Made:
    """A network of two inputs, ``small`` and ``large``, that is put together node by node."""

    def __init__(self, small: tuple[int, ...], large: tuple[int, ...]) -> None:
        self.sizes = {"small": (1, *small), "large": (1, *large)}
        self.nodes: list[Any] = []
        self.kept: list[Any] = []
        self.random = np.random.default_rng(5)

    def weights(self, *shape: int) -> str:
        name = f"w{len(self.kept)}"
        self.kept.append(numpy_helper.from_array(self.random.normal(size=shape).astype(np.float32), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def network(self, *last: str) -> bytes:
        ends = [helper.make_tensor_value_info(n, 1, s) for n, s in self.sizes.items()]
        outputs = [helper.make_tensor_value_info(n, 1, None) for n in last]
        graph = helper.make_graph(self.nodes, "network", ends, outputs, self.kept)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())


def decoder(
    *, bias: bool = True, stride: tuple[int, ...] = (2, 2, 2), kernel: int = 3, twice: bool = False, cut: int = 0,
    first: bool = True,
) -> bytes:  # fmt: skip
    """A step of a U-Net's decoder: transposed convolution, joined with what the encoder had there, convolution."""
    dims, low = len(stride), (4, 6, 8)[: len(stride)]
    high = tuple(n * s - 2 * cut for n, s in zip(low, stride, strict=True))
    made = Made((8, *low), (5, *high))
    values = [made.weights(8, 3, *stride), *([made.weights(3)] if bias else [])]
    up = made.op("ConvTranspose", "small", *values, strides=list(stride), pads=[cut] * 2 * dims)
    pair = (up, "large") if first else ("large", up)
    joined = made.op("Concat", *pair, axis=1)
    result = made.op("Conv", joined, made.weights(16, 8, *[kernel] * dims), pads=[kernel // 2] * 2 * dims)
    return made.network(made.op("Relu", result), *([made.op("Relu", up)] if twice else []))


def upsampling(kernel: int, pad: int, more: int, stride: int = 2, dims: int = 3) -> bytes:
    """A transposed convolution to two channels."""
    made = Made((16, *(3, 5, 4)[:dims]), (1, 1))
    values = (made.weights(16, 2, *[kernel] * dims), made.weights(2))
    up = made.op(
        "ConvTranspose", "small", *values, strides=[stride] * dims, pads=[pad] * 2 * dims, output_padding=[more] * dims
    )
    return made.network(made.op("Sigmoid", up), made.op("Relu", "large"))


def convolution(size: tuple[int, ...], *, behind: str = "InstanceNormalization", kernel: tuple[int, ...] = ()) -> bytes:
    """A convolution with a bias and what often follows it."""
    dims, made = len(size), Made((32, *size), (1, 1))
    kernel = kernel or (3,) * dims
    result = made.op(
        "Conv", "small", made.weights(32, 32, *kernel), made.weights(32), pads=[k // 2 for k in kernel] * 2
    )
    if behind == "InstanceNormalization":
        result = made.op(behind, result, made.weights(32), made.weights(32))
    elif behind == "both":
        result = made.op("Add", made.op("Relu", result), result)
    elif behind:
        result = made.op(behind, result, *([made.weights(1, *[1] * dims)] if behind == "PRelu" else []))
    after = made.op("Conv", result, made.weights(4, 32, *[1] * dims)) if behind != "" else result
    return made.network(after, made.op("Relu", "large"))


CASES = [
    pytest.param(decoder(), {JOINED: 1}, id="decoder"),
    pytest.param(decoder(bias=False), {JOINED: 1}, id="decoder without a bias"),
    pytest.param(decoder(first=False), {JOINED: 1}, id="the other way round"),
    pytest.param(decoder(stride=(1, 2, 3)), {JOINED: 1}, id="thick slices"),
    pytest.param(decoder(stride=(2, 2), kernel=5), {JOINED: 1}, id="images"),
    pytest.param(decoder(twice=True), {BLOCKS: 1}, id="the upsampled tensor is needed elsewhere"),
    pytest.param(decoder(cut=1), {BLOCKS: 1}, id="its edges are cut off"),
    pytest.param(upsampling(3, 1, 1), {BLOCKS: 1}, id="to few channels"),
    pytest.param(upsampling(2, 0, 0), {BLOCKS: 1}, id="blocks that do not overlap"),
    pytest.param(upsampling(4, 1, 0, dims=2), {BLOCKS: 1}, id="of an image"),
    pytest.param(upsampling(5, 1, 0, stride=3), {BLOCKS: 1}, id="three times as large"),
    pytest.param(upsampling(3, 1, 0), {}, id="a size that blocks do not fill"),
    pytest.param(convolution((4, 6, 8)), {WINOGRAD: 1}, id="three dimensions"),
    pytest.param(convolution((6, 8), behind="Relu"), {WINOGRAD: 1}, id="two dimensions"),
    pytest.param(convolution((6, 12), behind="PRelu"), {WINOGRAD: 1}, id="leaky"),
    pytest.param(convolution((6, 12), behind="both"), {WINOGRAD: 1}, id="two users"),
    pytest.param(convolution((6, 12), behind=""), {WINOGRAD: 1}, id="the result itself"),
    pytest.param(convolution((4, 8), kernel=(1, 3)), {WINOGRAD: 1}, id="along one axis only"),
    pytest.param(convolution((8, 6)), {}, id="a row that fours do not fill"),
    pytest.param(convolution((8, 8), kernel=(3, 1)), {}, id="one weight along the row"),
]


@pytest.mark.parametrize(("made", "wanted"), CASES)
def test_the_result_is_that_of_the_original(
    made: bytes, wanted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it would pay in larger networks is done here as well."""
    always = 1e12
    monkeypatch.setattr(transposed_convolutions, "_WORTH_JOINING", always)
    monkeypatch.setattr(transposed_convolutions, "_WORTH_BLOCKS", always if BLOCKS in wanted or not wanted else 0.0)
    monkeypatch.setattr(winograd, "_WORTH", always if WINOGRAD in wanted or not wanted else 0.0)
    monkeypatch.setattr(winograd, "_LEAST_SAVED", -always)
    random, found = np.random.default_rng(1), []
    real = openvino_rewriting.rewrite

    def counted(*given: Any, **more: Any) -> Counter[str]:
        found.append(real(*given, **more))
        return found[-1]

    monkeypatch.setattr(openvino_rewriting, "rewrite", counted)
    reference = InferenceSession(made, providers=["CPUExecutionProvider"])
    feeds = {i.name: random.normal(size=i.shape).astype(np.float32) for i in reference.get_inputs()}
    network = OpenVinoNetwork(made)
    given, expected = network.run(feeds), reference.run(None, feeds)
    assert found == [Counter(wanted)]
    assert ("rewritten" in network.words()) == bool(wanted)
    for output, right in zip(reference.get_outputs(), expected, strict=True):
        values = given[output.name]
        assert values.shape == right.shape and np.abs(values - right).max() < 1e-4 * max(1, np.abs(right).max())


def test_a_lower_precision_is_left_without_winograds_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sums lose more digits than bfloat16 has to spare."""
    monkeypatch.setattr(winograd, "_WORTH", 1e9)
    monkeypatch.setattr(winograd, "_LEAST_SAVED", -1e9)
    core, made = openvino_engine._core(), convolution((6, 8))
    assert openvino_rewriting.rewrite(core.read_model(made), exact=True) == Counter()
    assert openvino_rewriting.rewrite(core.read_model(made)) == Counter({WINOGRAD: 1})


def test_a_network_that_cannot_be_rewritten_runs_as_it_came_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Counter[str]:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(openvino_rewriting, "rewrite", fail)
    made = convolution((6, 8))
    network = OpenVinoNetwork(made)
    feeds = {name: np.ones(shape, np.float32) for name, shape in network.input_shapes.items()}
    (name, values), *_ = network.run(feeds).items()
    assert np.isfinite(values).all() and name and "no such operator" in network.words()


def test_who_asks_for_openvino_is_told_what_was_rewritten_and_float32_leaves_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_rewriting, "rewrite", lambda model, exact: Counter({JOINED: 3}))
    model = load_model(package(tmp_path / "tiny"))
    for precision, told in (("auto", f"3 {JOINED}"), ("float32", "")):
        monitor = Monitor()
        with Session.open(model, "openvino:cpu", monitor=monitor, precision=precision) as session:
            session.run({name: np.ones((1, 1, 4, 4, 4), np.float32) for name in session.input_shapes})
        assert told in " ".join(monitor.notes) and ("rewritten" in " ".join(monitor.notes)) == bool(told)
