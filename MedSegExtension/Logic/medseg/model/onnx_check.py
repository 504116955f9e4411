"""Reads an ONNX file without running it: is it whole and safe? (Whether it fits its manifest: `medseg.model.onnx_fit`.)

Everything here happens before ONNX Runtime sees the file. Allowed are operators of ``ai.onnx``, ``ai.onnx.ml`` and
``com.microsoft`` (the contrib operators that ONNX Runtime ships), and functions defined inside the model out of
these. Of ``com.microsoft`` those are refused that load or call something from outside the graph (`REFUSED_CONTRIB`).
Weights in extra files must lie in the model's own folder.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from ..errors import ModelError
from .package_files import inside

METADATA_KEY = "medseg_manifest"
ALLOWED_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
# EPContext and Snpe load compiled binaries; the others call into the hosting Python or Torch process.
REFUSED_CONTRIB = {"EPContext", "Snpe", "PythonOp", "PythonOpGrad", "ATen", "TritonOp", "ExternalOutputs", "YieldOp"}
SIZE_LIMIT = (1 << 31) - 1


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model in ``path`` without its external data; `ModelError` where it is not a whole ONNX model."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if size == 0:
        raise ModelError(f"{path.name} is empty; download or copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path.name} is a Git LFS pointer, not the model; run 'git lfs pull' where it came from.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path.name} is a web page, not a model; download the file itself.")
    if head[4:8] == b"ORTM":
        raise ModelError(f"{path.name} is in ORT format; MedSeg needs the ONNX file that it was made from.")
    if size > SIZE_LIMIT:
        raise ModelError(f"{path.name} is larger than 2 GB, which an ONNX file cannot be; store weights externally.")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf and onnx raise several kinds for damaged bytes
        raise ModelError(
            f"{path.name} is not a whole ONNX model ({_first_line(error)}); it is damaged, cut short or of another "
            "kind. Download or export it again."
        ) from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path.name} holds no network (no operators or no outputs); export it again.")
    return model


def check_safe(model: onnx.ModelProto, path: Path, folder: Path | None) -> list[str]:
    """Refuse foreign operators, external data outside ``folder`` (None: any), damage, and too new an opset.

    Returns the external data files, relative to the folder of ``path``, sorted.
    """
    own = {function.domain for function in model.functions}
    for node in _nodes(model):
        domain = node.domain
        if domain in ALLOWED_DOMAINS - {"com.microsoft"} or (domain in own and _is_local(model, node)):
            continue
        if domain != "com.microsoft" or node.op_type in REFUSED_CONTRIB:
            raise ModelError(
                f"{path.name} uses the operator {domain}::{node.op_type}, which needs code or files that are not part "
                "of ONNX; MedSeg loads none. Export the model with standard ONNX operators only."
            )
    files: dict[str, int] = {}
    for tensor in _tensors(model):
        _check_tensor(tensor, path, folder, files)
    try:
        # The path form finds external data beside the model; they were checked above.
        onnx.checker.check_model(str(path) if files else model)
    except Exception as error:  # text that is not UTF-8 is no ValidationError
        raise ModelError(f"{path.name} is not a valid ONNX model: {_first_line(error)}. Export it again.") from error
    _check_runtime(model, path.name)
    return sorted(files)


def embedded_manifest(model: onnx.ModelProto) -> str | None:
    """The manifest text in the model's own metadata, or None."""
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return str(entry.value)
    return None


def _is_local(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return any(f.domain == node.domain and f.name == node.op_type for f in model.functions)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """All graphs: the main one, training graphs (never run, but checked), subgraphs of If, Loop, Scan."""
    stack = [model.graph]
    for info in model.training_info:
        stack += [info.initialization, info.algorithm]
    for function in model.functions:
        for node in function.node:
            stack += _subgraphs(node)
    while stack:
        graph = stack.pop()
        yield graph
        for node in graph.node:
            stack += _subgraphs(node)


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.HasField("g")] + [g for a in node.attribute for g in a.graphs]


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    attributes: list[onnx.AttributeProto] = [a for node in _nodes(model) for a in node.attribute]
    attributes += [a for function in model.functions for a in function.attribute_proto]
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in [attribute.sparse_tensor, *attribute.sparse_tensors]:
            yield from (sparse.values, sparse.indices)


def _check_tensor(tensor: onnx.TensorProto, path: Path, folder: Path | None, files: dict[str, int]) -> None:
    """Whole raw data; external data in the package and inside its file. Adds the file to ``files``."""
    external = tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0
    size = _bytes_of(tensor)
    if any(d < 0 for d in tensor.dims):
        raise ModelError(f"{path.name}: the weights {tensor.name!r} have a negative size; the file is damaged.")
    if not external:
        if size is not None and tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise ModelError(f"{path.name}: the weights {tensor.name!r} are not complete; the file is damaged.")
        return
    where = {entry.key: entry.value for entry in tensor.external_data}
    # Text of a damaged file that is no UTF-8 comes as bytes.
    if not all(isinstance(word, str) for entry in where.items() for word in entry):
        raise ModelError(f"{path.name}: where the weights {tensor.name!r} lie is not readable; the file is damaged.")
    location = where.get("location", "")
    what = f"{path.name}: weights stored in an extra file"
    if folder is None:
        raise ModelError(
            f"{path.name} keeps weights in an extra file ({location[:80]!r}), but a single-file model holds "
            "everything; make a package folder of both files, or export without external data."
        )
    # safe_name refuses '*' too: ONNX Runtime takes the location '*/_ORT_MEM_ADDR_/*' for an address in memory.
    data = inside(path.parent, location, what)
    if not data.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{what}: {location[:80]!r} lies outside the package.")
    total = data.stat().st_size
    try:
        offset = int(where.get("offset") or 0)
        length = int(where["length"]) if where.get("length") else (size if size is not None else total - offset)
    except ValueError:
        raise ModelError(f"{what}: offset or length of {tensor.name!r} is not a number; the file is damaged.") from None
    if offset < 0 or length < 0 or offset + length > total or size not in (None, length):
        raise ModelError(
            f"{what}: {location} holds {total} bytes, too few or not those that {tensor.name!r} needs; get it again."
        )
    files[location] = total


def _bytes_of(tensor: onnx.TensorProto) -> int | None:
    """Bytes of the raw data; None for strings, unknown types and types packed below one byte."""
    packed = {"UNDEFINED", "STRING", "UINT4", "INT4", "FLOAT4E2M1", "UINT2", "INT2"}
    try:
        if TensorProto.DataType.Name(tensor.data_type) in packed:
            return None
        return int(math.prod(tensor.dims)) * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except (KeyError, ValueError, TypeError):
        return None


@functools.lru_cache(maxsize=32)
def _runtime_refusal(opsets: tuple[tuple[str, int], ...], ir_version: int) -> str:
    """What ONNX Runtime says of a one-operator model with these versions; "" where it takes them."""
    import onnxruntime

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "versions", value[:1], value[1:])
    tiny = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets])
    tiny.ir_version = ir_version
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(tiny.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exception classes share no public base
        return str(error)
    return ""


def _check_runtime(model: onnx.ModelProto, name: str) -> None:
    """`ModelError` where the installed ONNX Runtime cannot know the model's opset or IR version."""
    import onnxruntime

    opsets = {o.domain: o.version for o in model.opset_import if o.domain in ("", "ai.onnx.ml")}
    opsets.setdefault("", 1 if model.ir_version < 3 else 13)
    text = _runtime_refusal(tuple(sorted(opsets.items())), model.ir_version)
    if not text:
        return
    version = onnxruntime.__version__
    if found := re.search(r"max supported IR version: (\d+)", text):
        what = f"ONNX IR version {model.ir_version}, but onnxruntime {version} knows up to {found[1]}"
    elif found := re.search(r"domain (\S+) is till opset (\d+)", text):
        domain = found[1].rstrip(".")
        theirs = opsets["" if domain == "ai.onnx" else domain]
        what = f"opset {theirs} of {domain}, but onnxruntime {version} knows up to {found[2]}"
    else:
        raise ModelError(f"{name} cannot be read by onnxruntime {version}: {_first_line(text)}")
    raise ModelError(f"{name} needs {what}; update onnxruntime, or export the model with an older opset.")


def _first_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300].rstrip(".")
