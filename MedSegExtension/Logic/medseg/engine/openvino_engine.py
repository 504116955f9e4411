"""Networks on OpenVINO, the package ``openvino`` itself: on processors often twice as fast as ONNX Runtime.

Its wheel stands beside any ONNX Runtime wheel (``onnxruntime-openvino`` would take its place), and exists for Linux,
Windows and macOS.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.package_files import cache_folder
from . import openvino_rewriting
from .machine import physical_cores

Array = npt.NDArray[Any]
Shape = tuple[int | None, ...]
#: As `medseg.result` provenance names it, beside ONNX Runtime's provider names.
PROVIDER = "OpenVINO"
#: Networks compiled for one size of input each; sizes beyond these share one that takes any.
_SIZES = 2
_WAIT_MS = 50


def installed() -> bool:
    """Whether the package is there; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


@functools.lru_cache(maxsize=1)
def version() -> str:
    """The version of the package, "" where it is missing."""
    from importlib import metadata

    try:
        return metadata.version("openvino")
    except metadata.PackageNotFoundError:
        return ""


@functools.lru_cache(maxsize=1)
def fast_precisions() -> tuple[str, ...]:
    """Precisions below float32 in which this processor is fast: ``bfloat16`` and ``float16``, or none."""
    listed = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return tuple(name for code, name in (("BF16", "bfloat16"), ("FP16", "float16")) if code in listed)


@functools.lru_cache(maxsize=1)
def _package() -> Any:
    """``openvino`` without its telemetry: that reports each start to a web service, from a forked process that may
    hang for ever and then keeps the worker's pipes open. Without its package OpenVINO takes a stub of its own.
    """
    absent = "openvino_telemetry" not in sys.modules
    if absent:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import openvino
    finally:
        if absent:
            del sys.modules["openvino_telemetry"]
    return openvino


@functools.lru_cache(maxsize=1)
def _core() -> Any:
    return _package().Core()


class OpenVinoNetwork:
    """A network on the processor. All calls must come from one thread but `stop`.

    ``precision``: ``float32``, ``bfloat16`` or ``float16``; weights and results are float32 all the same.
    """

    #: As of `medseg.engine.lower_precision.Compared`.
    refused = False

    def __init__(
        self, path: str | Path | bytes, *, threads: int | None = None, precision: str = "float32", rewrite: bool = True
    ) -> None:
        """``path``: of an ONNX file, or its bytes. ``rewrite``: let `openvino_rewriting` make it faster.

        Raises what OpenVINO raises where it cannot read or compile it.
        """
        self._rewrite, self._exactly = rewrite, precision != "float32"
        self._words = ""
        self._openvino = _package()
        self._model = _core().read_model(path if isinstance(path, bytes) else str(path))
        folder = cache_folder() / "openvino"
        folder.mkdir(exist_ok=True, mode=0o700)
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}[precision],
            "INFERENCE_NUM_THREADS": threads if threads is not None else physical_cores(),
            "CACHE_DIR": str(folder),
        }
        self._requests: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()
        self._any_size: Any = None
        self._stopped = threading.Event()
        self.outputs = [_name(o) for o in self._model.outputs]
        self.input_shapes: dict[str, Shape] = {_name(i): _shape(i) for i in self._model.inputs}
        self.output_shapes: dict[str, Shape] = {_name(o): _shape(o) for o in self._model.outputs}
        if not self._model.is_dynamic():
            self._any_size = self._compiled(self._model.clone())

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """All outputs by name, copies; `InterruptedError` after `stop`."""
        self._stopped.clear()
        request = self._request(feeds)
        request.start_async({name: np.ascontiguousarray(array) for name, array in feeds.items()}, share_inputs=True)
        while not request.wait_for(_WAIT_MS):
            if self._stopped.is_set():
                request.cancel()
                request.wait()
                break
        if self._stopped.is_set():
            raise InterruptedError
        return {name: np.array(request.get_output_tensor(n).data) for n, name in enumerate(self.outputs)}

    def ready(self, feeds: dict[str, Array]) -> None:
        """Compile the network for inputs of these sizes, which `run` else does at their first call."""
        self._request(feeds)

    def words(self) -> str:
        """How the network compiled last differs from what came, as a sentence; "" where it does not."""
        return self._words

    def stop(self) -> None:
        """End the run that goes on, from any thread."""
        self._stopped.set()

    def _request(self, feeds: dict[str, Array]) -> Any:
        """The request for inputs of these sizes. Compiled for a size a network is faster than for any size."""
        if self._any_size is not None and not self._model.is_dynamic():
            return self._any_size
        sizes = tuple(tuple(feeds[name].shape) for name in self.input_shapes)
        if sizes in self._requests:
            return self._requests[sizes]
        if len(self._requests) >= _SIZES:
            self._any_size = self._any_size or self._compiled(self._model)
            return self._any_size
        fixed = self._model.clone()
        fixed.reshape({i: self._openvino.PartialShape(list(size)) for i, size in enumerate(sizes)})
        self._requests[sizes] = self._compiled(fixed)
        return self._requests[sizes]

    def _compiled(self, model: Any) -> Any:
        if self._rewrite and not model.is_dynamic():
            plain = model.clone()
            try:
                done = openvino_rewriting.rewrite(model, exact=self._exactly)
                self._words = openvino_rewriting.words(done)
                # By Winograd's method it is compiled in less than a second; on the disk it would take several times
                # the network's own file.
                dropped = ("CACHE_DIR",) if openvino_rewriting.WINOGRAD in done else ()
                settings = {name: value for name, value in self._settings.items() if name not in dropped}
                return _core().compile_model(model, "CPU", settings).create_infer_request()
            except Exception as error:  # whatever it is, the network as it came is still there
                self._words = f"OpenVINO runs the network as it came, which may be slower ({error})."
                model = plain
        return _core().compile_model(model, "CPU", self._settings).create_infer_request()


def _name(port: Any) -> str:
    return str(port.get_any_name())


def _shape(port: Any) -> Shape:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(d.get_length() if d.is_static else None for d in shape)
