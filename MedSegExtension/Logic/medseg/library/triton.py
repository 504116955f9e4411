"""A model's networks as a model repository of Triton Inference Server: one folder for each network, beside others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from ..engine.server import network_name
from ..errors import InputError, ModelError, OutputError
from ..model.manifest.other_models import OWN, inside
from ..model.package import Model, load_model

BACKENDS = ("onnxruntime", "python")
_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "TYPE_FP32", onnx.TensorProto.FLOAT16: "TYPE_FP16", onnx.TensorProto.DOUBLE: "TYPE_FP64",
    onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.INT8: "TYPE_INT8", onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.INT64: "TYPE_INT64", onnx.TensorProto.BOOL: "TYPE_BOOL", onnx.TensorProto.UINT16: "TYPE_UINT16",
    onnx.TensorProto.INT16: "TYPE_INT16",
}  # fmt: skip
# For servers without the ONNX Runtime backend: Triton's Python backend runs this beside model.onnx.
_PYTHON = '''"""Runs model.onnx, which lies beside this file, with ONNX Runtime in Triton's Python backend."""

import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        on_card = args["model_instance_kind"] == "GPU"
        card = [("CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]})] if on_card else []
        path = os.path.join(folder, "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=[*card, "CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        try:
            feeds = {n: pb_utils.get_input_tensor_by_name(request, n).as_numpy() for n in self.inputs}
            values = self.session.run(self.outputs, feeds)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        tensors = [pb_utils.Tensor(n, v) for n, v in zip(self.outputs, values)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
'''


def networks_of(model: Model) -> Iterator[Model]:
    """``model`` and all models that it runs: those inside its package and the installed ones that it requires.

    Raises `ModelError` where a required model is not installed.
    """
    yield model
    manifest = model.manifest
    for name in [*(r.model for r in manifest.requires), *(j.model for j in manifest.joined)]:
        if name != OWN:
            yield from networks_of(model.parts[name] if inside(name) else load_model(name))


def export_triton(model: Model, repository: Path, *, backend: str = "onnxruntime", force: bool = False) -> list[Path]:
    """Write the networks of ``model`` into ``repository``; the folder of each.

    ``backend``: ``onnxruntime``, which NVIDIA's images have, or ``python`` (a short ``model.py`` that needs the package
    ``onnxruntime`` on the server). ``force``: replace what is there of the same weights. The hash of the weights is in
    the configuration, and a client compares it. Raises `InputError`, `OutputError`, `ModelError`.
    """
    if backend not in BACKENDS:
        raise InputError(f"{backend!r} is no backend; choose {' or '.join(BACKENDS)}.")
    networks = {network_name(m): m for m in networks_of(model)}
    there = [name for name in networks if (repository / name).exists()]
    if there and not force:
        raise OutputError(f"{repository / there[0]} is already there; replace it with --force.")
    written = []
    try:
        repository.mkdir(parents=True, exist_ok=True)
        for name, one in networks.items():
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=repository))
            try:
                _write(one, name, part, backend)
                shutil.rmtree(repository / name, ignore_errors=True)
                part.chmod(0o755)  # another user may run the server
                written.append(part.rename(repository / name))
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{repository} cannot be written: {error.strerror or error}.") from error
    return written


def _write(model: Model, name: str, folder: Path, backend: str) -> None:
    version = folder / "1"
    version.mkdir()
    shutil.copyfile(model.onnx_path, version / "model.onnx")
    for data in model.data_files:
        (version / data).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.onnx_path.parent / data, version / data)
    if backend == "python":
        (version / "model.py").write_text(_PYTHON, encoding="utf-8")
    (folder / "config.pbtxt").write_text(configuration(model, name, backend), encoding="utf-8")


def configuration(model: Model, name: str, backend: str) -> str:
    """The text of ``config.pbtxt``. Shapes hold the batch axis (``max_batch_size: 0``), as in the ONNX file."""
    graph = onnx.load(str(model.onnx_path), load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    lines = [f"name: {_quoted(name)}", f"backend: {_quoted(backend)}", "max_batch_size: 0"]
    inputs = [v for v in graph.input if v.name not in constants]
    for kind, values in (("input", inputs), ("output", list(graph.output))):
        for value in values:
            lines.append(f"{kind} {{ {_tensor(model, value)} }}")
    lines.append(f'parameters {{ key: "medseg_sha256" value {{ string_value: {_quoted(model.sha256)} }} }}')
    return "\n".join(lines) + "\n"


def _tensor(model: Model, value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES or not tensor.HasField("shape"):
        raise ModelError(
            f"{model.manifest.title}: the tensor {value.name!r} has a type or an unknown shape that a server cannot be "
            "told of; export the network again with shapes."
        )
    sizes = ", ".join(str(d.dim_value) if d.dim_value > 0 else "-1" for d in tensor.shape.dim)
    return f"name: {_quoted(value.name)} data_type: {_TYPES[tensor.elem_type]} dims: [ {sizes} ]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
