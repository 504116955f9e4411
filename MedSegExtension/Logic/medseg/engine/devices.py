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
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ..errors import InputError
from ..model.package_files import cache_folder

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
CPU = PROVIDERS["cpu"]
WORDS = {
    "cuda": "CUDA", "tensorrt": "TensorRT", "directml": "DirectML", "coreml": "CoreML", "openvino": "OpenVINO",
    "cpu": "CPU",
}  # fmt: skip
# TensorRT builds an engine for minutes and CoreML has no 3D convolution: these two only when asked for.
AUTOMATIC = ("cuda", "directml", "openvino:gpu", "cpu")
_ALIASES = {"dml": "directml", "trt": "tensorrt", "gpu": "auto"}


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


def parse_device(device: str) -> tuple[str, str]:
    """``("cuda", "0")`` for ``cuda:0``; ``("auto", "")``. `InputError` for what is no device id."""
    kind, _, which = device.strip().lower().partition(":")
    kind = _ALIASES.get(kind, kind)
    valid = {"": True, "openvino": which in ("", "cpu", "gpu", "npu")}.get(kind, which == "" or which.isdecimal())
    if (kind != "auto" and kind not in PROVIDERS) or not valid or (kind in ("auto", "cpu", "coreml") and which):
        raise InputError(
            f"{device!r} is not a device; choose auto, cpu, cuda, cuda:1, tensorrt, directml, coreml, openvino:gpu or "
            "openvino:cpu."
        )
    return kind, which


def providers_for(device: str, precision: str = "auto") -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers and their options for a device id, the CPU last.

    ``precision``: ``float32`` forbids TF32; ``float16`` is for TensorRT and OpenVINO only; ``auto`` is the provider's
    usual single precision.
    """
    kind, which = parse_device(device)
    number = which if which.isdecimal() else "0"
    half = precision == "float16"
    cuda = {
        "device_id": number,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0" if precision == "float32" else "1",
    }
    options: dict[str, list[tuple[str, dict[str, str]]]] = {
        "cuda": [(PROVIDERS["cuda"], cuda)],
        "directml": [(PROVIDERS["directml"], {"device_id": number})],
        "coreml": [(PROVIDERS["coreml"], {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"})],
        # OpenVINO computes in half precision on graphics cards unless told otherwise.
        "openvino": [
            (PROVIDERS["openvino"], {"device_type": which.upper() or "AUTO", "precision": "FP16" if half else "FP32"})
        ],
        "cpu": [],
    }
    if kind == "tensorrt":
        engines = cache_folder() / "tensorrt"
        engines.mkdir(exist_ok=True, mode=0o700)
        tensorrt = {
            "device_id": number,
            "trt_fp16_enable": str(half),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(engines),
        }
        options["tensorrt"] = [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)]
    return [*options[kind], (CPU, {})]


def session_options(kind: str, threads: int | None = None, *, whole: bool = False) -> onnxruntime.SessionOptions:
    """Quiet options: ONNX Runtime writes nothing to stderr, what matters is told through the monitor.

    ``whole``: whole volumes are run. Without arena and pattern the peak is half as high and the memory is given back
    (MeshNet at 192^3: 368 instead of 759 MB), for about the same time; 2D batches would take a third longer.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # A file that is both ONNX and ORT format must be read as what was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.intra_op_num_threads = threads if threads is not None else physical_cores()
    options.inter_op_num_threads = 1
    if kind == "directml" or whole:
        options.enable_mem_pattern = False
    if whole:
        options.enable_cpu_mem_arena = False
    return options


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
    kind, _ = parse_device(device)
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
        if PROVIDERS[parse_device(id)[0]] in built:
            devices.append(_probed(id, name, 0))
    return (*devices, _probed("cpu", cpu_name(), total_memory()))


def _probed(id: str, name: str, memory: int) -> Device:
    reason = probe(id)
    return Device(id, name, PROVIDERS[parse_device(id)[0]], memory, not reason, reason)


@functools.lru_cache(maxsize=1)
def nvidia_cards() -> tuple[tuple[str, int], ...]:
    """(name, bytes) of each NVIDIA card that this process may use, by ``nvidia-smi``; empty where there is none."""
    rows = _nvidia_smi("name,memory.total")
    cards = [(row[0], int(row[1]) << 20 if row[1].isdecimal() else 0) for row in rows if len(row) == 2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and all(v.strip().isdecimal() for v in visible.split(",") if v):
        cards = [cards[int(v)] for v in visible.split(",") if v and int(v) < len(cards)]
    return tuple(cards)


def _nvidia_smi(fields: str) -> list[list[str]]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    # No console window may flash up in Slicer on Windows.
    flags = getattr(subprocess, "CREATE_NO_WINDOW", 0)
    try:
        done = subprocess.run(
            [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=10, check=False, creationflags=flags,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    if done.returncode != 0:
        return []
    return [[c.strip() for c in line.split(",")] for line in done.stdout.splitlines() if line]


@functools.lru_cache(maxsize=1)
def cpu_name() -> str:
    """The processor's name."""
    names = [entry["model name"] for entry in _processors() if "model name" in entry]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"


def _processors() -> list[dict[str, str]]:
    """The blocks of Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    blocks = [[line.split(":", 1) for line in block.splitlines() if ":" in line] for block in text.split("\n\n")]
    return [{key.strip(): value.strip() for key, value in block} for block in blocks if block]


def total_memory() -> int:
    """Bytes of main memory, 0 where it cannot be told."""
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):  # MEMORYSTATUSEX
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
                (f"bytes{n}", ctypes.c_ulonglong) for n in range(7)
            ]

        status = Status()
        status.length = ctypes.sizeof(Status)
        found = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.bytes0) if found else 0
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return 0


@functools.lru_cache(maxsize=1)
def physical_cores() -> int:
    """Physical cores that this process may use (affinity and container quota counted); 0: ONNX Runtime decides."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = os.sched_getaffinity(0)
    cores = {
        (entry.get("physical id"), entry["core id"])
        for entry in _processors()
        if "core id" in entry and entry.get("processor", "").isdecimal() and int(entry["processor"]) in allowed
    }
    count = len(cores) or len(allowed)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()[:2]
        if quota.isdecimal():
            count = min(count, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(count, 1)


def runtime_packages() -> list[str]:
    """Names of the installed ONNX Runtime packages; two of them overwrite each other's files."""
    names = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in importlib.metadata.distributions()}
    other = ("onnxruntime-extensions", "onnxruntime-genai", "onnxruntime-tools", "onnxruntime-ep", "onnxruntime-plugin")
    return sorted(n for n in names if re.match(r"(onnxruntime|ort-nightly)(-|$)", n) and not n.startswith(other))


def support_report() -> dict[str, Any]:
    """Versions and devices for a support request; plain JSON values, nothing of any patient, user or path."""
    versions: dict[str, str] = {}
    for name in ("numpy", "SimpleITK", "scipy", "onnx", "pydantic", "pydicom", "slicer-core", *runtime_packages()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    packages = runtime_packages()
    drivers = sorted({row[0] for row in _nvidia_smi("driver_version") if row})
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
