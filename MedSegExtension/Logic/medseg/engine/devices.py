"""Which devices truly run a network here, and which versions are installed.

``onnxruntime.get_available_providers()`` lists what was built in, not what works: a provider whose libraries or driver
are missing silently becomes the CPU. So each provider is tried once with a tiny convolution, and what really ran is
read from the session. A device id is a provider's short name and, where there are several, a number: ``cuda:0``.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnxruntime

from . import openvino_engine
from .machine import cpu_name, nvidia_cards, nvidia_smi, total_memory
from .providers import PROVIDERS, WORDS, parse_device, providers_for, session_options

# TensorRT builds an engine for minutes and CoreML has no 3D convolution: these two only when asked for.
AUTOMATIC = ("cuda", "directml", "openvino:gpu", "cpu")


@dataclass(frozen=True)
class Device:
    """A device. ``reason``: why it does not work, "" where it does. ``memory_bytes``: 0 where it is not known."""

    id: str
    name: str
    provider: str
    memory_bytes: int = 0
    works: bool = True
    reason: str = ""


# -- ids and options ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def prepare_runtime() -> None:
    """Once before the first session: CUDA's libraries from the Python packages, no log lines, no telemetry."""
    onnxruntime.set_default_logger_severity(4)
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    if PROVIDERS["cuda"] in onnxruntime.get_available_providers() and hasattr(onnxruntime, "preload_dlls"):
        with _quiet_stdout():
            onnxruntime.preload_dlls(directory="")


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """preload_dlls prints what it misses; stdout carries the worker's messages and the command line's JSON."""
    with redirect_stdout(io.StringIO()):
        yield


# -- probing ------------------------------------------------------------------------------------------------


@functools.cache
def probe(device: str) -> str:
    """Why ``device`` does not truly run a network; "" where it does. Tried once per process."""
    kind, which = parse_device(device)
    if kind == "openvino" and by_openvino_itself(which):
        return _probe_openvino()
    provider = PROVIDERS[kind]
    if provider not in onnxruntime.get_available_providers():
        return f"the installed {' and '.join(runtime_packages()) or 'onnxruntime'} was built without {WORDS[kind]}"
    prepare_runtime()
    lines: list[str] = []
    try:
        with _captured_stderr(lines):
            options = session_options(kind, 1)
            options.log_severity_level = 3
            onnxruntime.set_default_logger_severity(3)
            session = onnxruntime.InferenceSession(
                _tiny_model(), options, providers=providers_for(device), enable_fallback=0
            )
            session.disable_fallback()
            ran = session.get_providers()
            output = session.run(None, {"x": np.ones((1, 1, 8, 8), np.float32)})[0]
    except Exception as error:  # ONNX Runtime's exception classes share no public base
        return _reason([*lines, str(error)])
    finally:
        onnxruntime.set_default_logger_severity(4)
    if not ran or ran[0] != provider:
        return _reason(lines) or f"ONNX Runtime silently used {', '.join(ran)} instead"
    if abs(float(output[0, 0, 4, 4]) - 9.0) > 0.05:
        return "it computes a convolution wrongly"
    return ""


def by_openvino_itself(which: str) -> bool:
    """Whether ``openvino:<which>`` is run by the package ``openvino``, not by a provider of ONNX Runtime."""
    built = PROVIDERS["openvino"] in onnxruntime.get_available_providers()
    return which in ("", "cpu") and not built and openvino_engine.installed()


def _probe_openvino() -> str:
    try:
        network = openvino_engine.OpenVinoNetwork(_tiny_model(), threads=1)
        output = network.run({"x": np.ones((1, 1, 8, 8), np.float32)})["y"]
    except Exception as error:  # OpenVINO's exceptions share no public base
        return plain_words(error)
    return "" if abs(float(output[0, 0, 4, 4]) - 9.0) <= 0.05 else "it computes a convolution wrongly"


@functools.lru_cache(maxsize=1)
def _tiny_model() -> bytes:
    """A 3x3 convolution of ones: on CUDA it needs the driver, cuBLAS and cuDNN."""
    from onnx import TensorProto, helper

    shape = [1, 1, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


@contextmanager
def _captured_stderr(lines: list[str]) -> Iterator[None]:
    """Append to ``lines`` what native code writes to stderr inside; ONNX Runtime says there why a provider fails."""
    try:
        saved = os.dup(2)
    except OSError:  # a windowed program has no stderr
        yield
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


def _reason(lines: list[str]) -> str:
    """The telling part of ONNX Runtime's log lines, short."""
    text = " ".join(line.strip() for line in lines if line.strip())
    for pattern in (
        r"with error: ([^:\s]+): cannot open shared object file",
        r"(?:depends on|loading) \"?([\w.-]+\.dll)\"? which is missing",
    ):
        if found := re.search(pattern, text):
            return f"the library {found[1]} is missing"
    if "Please install TensorRT libraries" in text:
        return "the TensorRT libraries are missing"
    if found := re.search(r"(CUDA (?:failure|error) \d+: [^;]+)|(CUDA driver version is insufficient[^;.]*)", text):
        return found[0].strip()
    if found := re.search(r"Require (cuDNN [\d.*]+ and CUDA [\d.*]+)", text):
        return f"it needs {found[1].replace('.*', '')}"
    return plain_words(text)


def plain_words(error: object) -> str:
    """ONNX Runtime's message without log prefix, error class, source file and C++ signature; at most 300 letters."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    text = re.sub(r"\S+ \S+ \[[A-Z]:onnxruntime:[^\]]*\] ", "", text)
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = text.rpartition(" Status Message: ")[2]
    text = re.sub(r"\S+\.(?:cc|cpp|h|cu):\d+ [^()]*\([^()]*\)(?: const)?(?: \[with [^\]]*\])? ?", "", text)
    text = re.sub(r"\[(?:ERROR|OpenVINO|OpenVINO-EP)\] ", "", text)
    return text[:300].strip(" .:")


# -- what is there ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def available_devices() -> tuple[Device, ...]:
    """All devices of this machine that MedSeg knows to use, working or not, best first; the CPU is the last."""
    devices: list[Device] = []
    built = onnxruntime.get_available_providers()
    cards = nvidia_cards()
    for kind in ("cuda", "tensorrt"):
        if PROVIDERS[kind] in built or (cards and kind == "cuda"):
            for number, (name, memory) in enumerate(cards or [("NVIDIA card", 0)]):
                label = name if kind == "cuda" else f"{name} (TensorRT)"
                devices.append(_probed(f"{kind}:{number}", label, memory))
    for id, name in (
        ("directml:0", "Graphics card (DirectML)"), ("coreml", "Apple (CoreML)"),
        ("openvino:gpu", "Intel graphics (OpenVINO)"), ("openvino:cpu", f"{cpu_name()} (OpenVINO)"),
    ):  # fmt: skip
        if PROVIDERS[parse_device(id)[0]] in built or (id == "openvino:cpu" and by_openvino_itself("cpu")):
            devices.append(_probed(id, name, 0))
    return (*devices, _probed("cpu", cpu_name(), total_memory()))


def _probed(id: str, name: str, memory: int) -> Device:
    reason = probe(id)
    return Device(id, name, PROVIDERS[parse_device(id)[0]], memory, not reason, reason)


def runtime_packages() -> list[str]:
    """Names of the installed ONNX Runtime packages; two of them overwrite each other's files."""
    names = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in importlib.metadata.distributions()}
    other = ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools", "onnxruntime-ep", "onnxruntime-plugin")
    return sorted(n for n in names if re.match(r"(onnxruntime|ort-nightly)(-|$)", n) and not n.startswith(other))


def support_report() -> dict[str, Any]:
    """Versions and devices for a support request; plain JSON values, nothing of any patient, user or path."""
    versions: dict[str, str] = {}
    own = ("openvino",) if openvino_engine.installed() else ()
    known = ("numpy", "SimpleITK", "scipy", "onnx", "pydantic", "pydicom", "slicer-core")
    for name in (*known, *own, *runtime_packages()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    packages = runtime_packages()
    drivers = sorted({row[0] for row in nvidia_smi("driver_version") if row})
    problems = []
    if len(packages) > 1:
        problems.append(
            f"{' and '.join(packages)} are installed together and overwrite each other's files; uninstall all of them "
            "and install one."
        )
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
        "onnxruntime_packages": packages,
        "onnxruntime_providers": onnxruntime.get_available_providers(),
        "nvidia_driver": ", ".join(drivers),
        "devices": [asdict(d) for d in available_devices()],
        "problems": problems,
    }
