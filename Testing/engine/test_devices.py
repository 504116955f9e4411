"""Devices: what truly runs is found by trying, and a provider that silently becomes the CPU is told as not working."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from medseg.engine import devices, machine, providers
from medseg.engine.providers import CPU
from medseg.errors import InputError

CUDA = "CUDAExecutionProvider"
REAL = onnxruntime.InferenceSession
CACHED = (
    devices.probe,
    devices.available_devices,
    devices.prepare_runtime,
    machine.nvidia_cards,
    machine.physical_cores,
)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    for function in CACHED:
        function.cache_clear()
    yield
    for function in CACHED:
        function.cache_clear()


def runtime_with(
    monkeypatch: pytest.MonkeyPatch, *providers: str, log: str = "", error: str = "", ran: bool = False
) -> None:
    """ONNX Runtime as if built with ``providers``: they write ``log`` and become the CPU, raise, or seem to run."""

    class Fake:
        def __init__(self, model: Any, options: Any, providers: Any, **_: Any) -> None:
            asked = providers[0][0]
            if asked != CPU and error:
                raise RuntimeError(error)
            if asked != CPU and log:
                os.write(2, log.encode())
            self.session = REAL(model, options, providers=[CPU])
            self.ran = [asked, CPU] if ran and asked != CPU else [CPU]
            self.run, self.disable_fallback = self.session.run, self.session.disable_fallback

        def get_providers(self) -> list[str]:
            return self.ran

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*providers, CPU])


def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """An nvidia-smi that prints ``text``."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'E'\n{text}\nE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)


def test_the_cpu_truly_runs_here() -> None:
    assert devices.probe("cpu") == ""
    cpu = devices.available_devices()[-1]
    assert cpu.id == "cpu" and cpu.works and cpu.name and cpu.memory_bytes > 1 << 28


LOG = (
    "\x1b[1;31m2026-11-21 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] FAIL : "
    "Failed to load library /x/libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object "
    "file: No such file\n\x1b[m"
)


def test_silent_fallback_to_the_cpu_is_found_with_its_reason(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """The classic fault: CUDA is listed, its libraries are missing, and everything runs on the CPU unnoticed."""
    runtime_with(monkeypatch, CUDA, log=LOG)
    assert devices.probe("cuda") == "the library libcudnn.so.9 is missing"
    assert "libcudnn" not in capfd.readouterr().err, "the reason is told once, not printed raw"
    runtime_with(monkeypatch, CUDA)
    devices.probe.cache_clear()
    assert "silently used CPUExecutionProvider" in devices.probe("cuda")
    card = next(d for d in devices.available_devices() if d.id == "cuda:0")
    assert not card.works and "silently" in card.reason


def test_a_provider_that_raises_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_with(monkeypatch, CUDA, error="[ONNXRuntimeError] : 1 : FAIL : CUDA failure 35: driver is too old ; GPU=0")
    assert devices.probe("cuda") == "CUDA failure 35: driver is too old"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "\x1b[1;31m2026-11-21 08:15:42.2 [E:onnxruntime:Default, provider_bridge_ort.cc:2310 Create] "
            "/onnxruntime/core/openvino_provider_factory.cc:141 std::string "
            "ort::ParseDeviceType(std::shared_ptr<OVCore>, const Options&) "
            "[ERROR] [OpenVINO] Device GPU is not available\x1b[m",
            "Device GPU is not available",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'a' "
            "Status Message: /src/call.cc:12 bool ort::Call(int) [with T = int] "
            "CUDA failure 2: out of memory (GPU) ; GPU=0",
            "CUDA failure 2: out of memory (GPU) ; GPU=0",
        ),
        (
            "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: x.",
            "Got invalid dimensions for input: x",
        ),
    ],
)
def test_messages_of_the_runtime_are_reduced_to_their_words(text: str, words: str) -> None:
    assert devices.plain_words(text) == words


def test_a_provider_that_was_not_built_in_is_told() -> None:
    if "CoreMLExecutionProvider" not in onnxruntime.get_available_providers():
        assert "built without CoreML" in devices.probe("coreml")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_cards_have_their_names_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smi(monkeypatch, tmp_path, "NVIDIA RTX A4000, 16376\nTesla T4, [N/A]")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    runtime_with(monkeypatch, CUDA, ran=True)
    cards = [d for d in devices.available_devices() if d.id.startswith("cuda")]
    assert [(d.id, d.name, d.memory_bytes, d.works) for d in cards] == [
        ("cuda:0", "NVIDIA RTX A4000", 16376 << 20, True), ("cuda:1", "Tesla T4", 0, True),
    ]  # fmt: skip
    machine.nvidia_cards.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.nvidia_cards() == (("Tesla T4", 0),)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for nvidia-smi")
def test_a_card_without_a_cuda_runtime_is_listed_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi(monkeypatch, tmp_path, "NVIDIA RTX A4000, 16376")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    card = devices.available_devices()[0]
    assert card.id == "cuda:0" and not card.works and "built without CUDA" in card.reason


@pytest.mark.parametrize("text", ["gpu0", "cuda:x", "cpu:1", "openvino:7", "", "cuda:-1"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a device"):
        providers.parse_device(text)


def test_provider_options_are_the_documented_ones() -> None:
    (name, options), last = providers.providers_for("cuda:1", "float32")
    assert name == CUDA and last[0] == CPU
    assert options == {
        "device_id": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }
    assert providers.providers_for("openvino:gpu")[0][1]["precision"] == "FP32", "half precision only where asked for"
    assert providers.providers_for("cpu") == [(CPU, {})]


def test_two_runtime_packages_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """They overwrite each other's files; nothing then works as either of them says."""

    class Distribution:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    names = ["onnxruntime", "onnxruntime_gpu", "onnxruntime-extensions", "numpy"]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [Distribution(n) for n in names])
    monkeypatch.setattr(devices, "available_devices", lambda: ())
    report = devices.support_report()
    assert report["onnxruntime_packages"] == ["onnxruntime", "onnxruntime-gpu"]
    assert "onnxruntime and onnxruntime-gpu are installed together" in report["problems"][0]


def test_the_support_report_is_json_without_user_or_paths() -> None:
    report = devices.support_report()
    text = json.dumps(report)
    assert report["versions"]["numpy"] and report["onnxruntime_packages"] and report["devices"][-1]["id"] == "cpu"
    assert str(Path.home()) not in text and str(Path.cwd()) not in text
    assert report["problems"] == [] or len(report["onnxruntime_packages"]) > 1


def test_at_least_one_and_not_more_threads_than_allowed() -> None:
    cores = machine.physical_cores()
    assert 0 <= cores <= (os.cpu_count() or 1)
