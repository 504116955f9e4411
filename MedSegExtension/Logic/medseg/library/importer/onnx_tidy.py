"""Small, exact changes to a foreign ONNX graph: tensor names, an open batch, labels instead of many scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ...engine.devices import plain_words, prepare_runtime
from ...errors import ModelError

Array = npt.NDArray[Any]
#: Bytes of weights that still go into the ONNX file itself.
EXTERNAL_ABOVE = 3 << 29
Sizes = tuple[int | None, ...]
_NUMPY: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.uint8,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Graph inputs that are not weights."""
    weights = {i.name for i in model.graph.initializer} | {s.values.name for s in model.graph.sparse_initializer}
    return [v for v in model.graph.input if v.name not in weights]


def sizes(value: onnx.ValueInfoProto) -> Sizes | None:
    """Sizes with None where open; None where the rank is not known."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims)


def rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Rename tensors everywhere in the graph, subgraphs included. A name that is taken already is moved away first."""
    names = {old: new for old, new in names.items() if old != new}
    if not names:
        return
    taken = _all_names(model.graph)
    moved = dict(names)
    for new in names.values():
        if new in taken and new not in names:
            away = new
            while away in taken or away in names.values():
                away += "_"
            moved[new] = away
    _rename_graph(model.graph, moved)


def _all_names(graph: onnx.GraphProto) -> set[str]:
    found = {v.name for v in [*graph.input, *graph.output, *graph.initializer]}
    for node in graph.node:
        found |= {*node.input, *node.output}
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                found |= _all_names(inner) if inner.node else set()
    return found


def _rename_graph(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        for n, name in enumerate(node.input):
            node.input[n] = names.get(name, name)
        for n, name in enumerate(node.output):
            node.output[n] = names.get(name, name)
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    _rename_graph(inner, names)


def save(model: onnx.ModelProto, path: Path, above: int | None = None) -> None:
    """Write ``model`` to ``path``; weights of more than ``above`` bytes go into a file of their own beside it.

    One ONNX file holds less than 2 GB. Where the weights are written apart, ``model`` keeps only its graph.
    """
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size <= (EXTERNAL_ABOVE if above is None else above):
        path.write_bytes(model.SerializeToString())
        return
    onnx.save_model(
        model, str(path), save_as_external_data=True, all_tensors_to_one_file=True, location=f"{path.name}.data",
        size_threshold=1024,
    )  # fmt: skip


def session(model: onnx.ModelProto) -> Any:
    """An ONNX Runtime session on the CPU. `ModelError` where ONNX Runtime cannot open the network."""
    return open_network(model.SerializeToString())


def open_network(network: bytes | str) -> Any:
    """As `session`, of the bytes or the path of an ONNX file."""
    prepare_runtime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exception classes share no public base
        raise ModelError(f"ONNX Runtime cannot open the network: {plain_words(error)}. Export it again.") from error


def random_feed(model: onnx.ModelProto, free: int = 32, seed: int = 0) -> dict[str, Array]:
    """Values in [0, 1) (0 to 255 for integers) for each input; open sizes become ``free``, the open batch 1."""
    random = np.random.default_rng(seed)
    feed = {}
    for value in real_inputs(model):
        shape = [n or (1 if axis == 0 else free) for axis, n in enumerate(sizes(value) or ())]
        dtype = _NUMPY.get(value.type.tensor_type.elem_type, np.float32)
        whole = np.issubdtype(dtype, np.integer)
        feed[value.name] = (random.integers(0, 256, shape) if whole else random.random(shape)).astype(dtype)
    return feed


def open_batch(model: onnx.ModelProto) -> bool:
    """Free a batch fixed to 1, where the network then really gives the same for two items at once as one by one.

    True where the batch is open afterwards. The model is left as it was where that fails (a Reshape inside may hold
    the fixed size).
    """
    inputs = real_inputs(model)
    shapes = [sizes(v) for v in inputs]
    if any(not s for s in shapes):
        return False
    if all(s[0] is None for s in shapes if s):
        return True
    if any(s[0] not in (None, 1) for s in shapes if s):
        return False
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in [*real_inputs(changed), *changed.graph.output]:
        dims = value.type.tensor_type.shape.dim
        if dims and (value.name in {v.name for v in inputs} or dims[0].dim_value == 1):
            dims[0].Clear()
            dims[0].dim_param = "N"
    del changed.graph.value_info[:]
    try:
        first, second = random_feed(changed, seed=1), random_feed(changed, seed=2)
        ran = session(changed)
        both = ran.run(None, {k: np.concatenate([first[k], second[k]]) for k in first})
        one_by_one = zip(ran.run(None, first), ran.run(None, second), strict=True)
        for together, (a, b) in zip(both, one_by_one, strict=True):
            if not np.allclose(together, np.concatenate([a, b]), rtol=1e-3, atol=1e-4):
                return False
    except Exception:  # ONNX Runtime's exception classes share no public base
        return False
    model.CopyFrom(changed)
    return True


def append_softmax(model: onnx.ModelProto, axis: int) -> None:
    """Put a Softmax over ``axis`` behind the first output, which keeps its name."""
    graph, name = model.graph, model.graph.output[0].name
    inner = f"{name}_before_softmax"
    for node in graph.node:
        node.output[:] = [inner if o == name else o for o in node.output]
        node.input[:] = [inner if i == name else i for i in node.input]
    graph.node.append(helper.make_node("Softmax", [inner], [name], name="softmax_of_the_output", axis=axis))


def argmax_in_slabs(model: onnx.ModelProto, tensor: str, slabs: int) -> None:
    """Replace the scores ``tensor`` (N, C, D, H, W) by labels (N, D, H, W) of type uint8 or uint16, same name.

    A last 1x1x1 convolution and the argmax are done slab by slab along D, so that only 1 / ``slabs`` of all scores is
    in memory at once. The labels are the same as those of the whole. The volume must have ``slabs`` planes or more.
    """
    graph = model.graph
    output = next(v for v in graph.output if v.name == tensor)
    channels = (sizes(output) or (None, None))[1]
    if channels is None:
        raise ModelError(f"The number of classes of {tensor!r} is not stated in the ONNX file; export it with shapes.")
    nodes = {o: node for node in graph.node for o in node.output}
    last = nodes[tensor]
    dropped = []
    while last.op_type == "Identity":
        dropped.append(last)
        last = nodes[last.input[0]]
    kernel = next((list(a.ints) for a in last.attribute if a.name == "kernel_shape"), [])
    strides = next((list(a.ints) for a in last.attribute if a.name == "strides"), [1])
    pointwise = last.op_type == "Conv" and kernel == [1, 1, 1] and set(strides) == {1}
    source = last.input[0] if pointwise else last.output[0]
    if pointwise:
        dropped.append(last)
    for node in dropped:
        graph.node.remove(node)
    parts = [f"{tensor}_part_{n}" for n in range(slabs)]
    graph.node.append(
        helper.make_node("Split", [source, _slab_sizes(graph, source, slabs)], parts, name="slabs", axis=2)
    )
    kind = TensorProto.UINT8 if channels <= 256 else TensorProto.UINT16
    done = []
    for n, part in enumerate(parts):
        scores = part
        if pointwise:
            node = onnx.NodeProto()
            node.CopyFrom(last)
            node.name, scores = f"{tensor}_scores_{n}", f"{tensor}_scores_{n}"
            node.input[0], node.output[0] = part, scores
            graph.node.append(node)
        best, small = f"{tensor}_best_{n}", f"{tensor}_label_{n}"
        graph.node.append(helper.make_node("ArgMax", [scores], [best], name=best, axis=1, keepdims=0))
        graph.node.append(helper.make_node("Cast", [best], [small], name=small, to=kind))
        done.append(small)
    graph.node.append(helper.make_node("Concat", done, [tensor], name="labels", axis=1))
    shape = sizes(output) or ()
    space: list[int | str] = [s if s is not None else letter for s, letter in zip(shape[2:], "DHW", strict=True)]
    output.CopyFrom(helper.make_tensor_value_info(tensor, kind, ["N", *space]))
    onnx.checker.check_model(model)


def _slab_sizes(graph: onnx.GraphProto, source: str, slabs: int) -> str:
    """Planes of each slab, (n + 1) D / slabs - n D / slabs rounded down each, as a tensor that the graph computes."""
    steps = np.arange(slabs + 1, dtype=np.int64)
    for name, value in (
        ("slab_axis", [2]),
        ("slab_ends", steps[1:]),
        ("slab_starts", steps[:-1]),
        ("slab_count", [slabs]),
    ):
        graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    for kind, inputs, output in (
        ("Shape", [source], "slab_shape"),
        ("Gather", ["slab_shape", "slab_axis"], "slab_planes"),
        ("Mul", ["slab_planes", "slab_ends"], "slab_ends_scaled"),
        ("Mul", ["slab_planes", "slab_starts"], "slab_starts_scaled"),
        ("Div", ["slab_ends_scaled", "slab_count"], "slab_last"),
        ("Div", ["slab_starts_scaled", "slab_count"], "slab_first"),
        ("Sub", ["slab_last", "slab_first"], "slab_sizes"),
    ):
        graph.node.append(helper.make_node(kind, inputs, [output], name=output))
    return "slab_sizes"
