"""The worker must never cost the user more than one run: killed, cancelled, out of disk, or left behind by Slicer."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from medseg import load_model, run, scratch
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.manifest.schema import Manifest
from medseg.worker.transfer import result_from, result_message
from medseg_panel.worker import client as worker_client
from medseg_panel.worker.client import Busy, WorkerClient, exchange_folder
from support.worker_harness import LOGIC, LocalProcess, Loop, Recorder

OBLIQUE = Grid(
    (40, 36, 30), (0.9, 1.1, 2.0), (10, -20, 30), np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
)


def package(folder: Path, name: str = "bright", layers: int = 1) -> Path:
    """A 3D package: bright voxels are the segment. More ``layers`` of identity convolutions take longer."""
    folder = folder / name
    folder.mkdir()
    onnx.save(_deep(layers), folder / "model.onnx")
    manifest = {
        "medseg_manifest": 1,
        "id": name,
        "version": "1",
        "title": "Bright voxels",
        "task": "segmentation",
        "license": "Apache-2.0",
        "weights": {"file": "model.onnx"},
        "channels": [{"name": "image"}],
        "preprocessing": [{"step": "orient", "code": "LPS"}, {"step": "minmax"}],
        "inputs": [{"name": "x", "layout": "NCDHW"}],
        "inference": {"mode": "whole"},
        "output": {"tensor": "y", "layout": "NCDHW", "activation": "softmax", "logits": True},
        "classes": [{"value": 1, "name": "bright"}],
    }
    Manifest.model_validate(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _deep(layers: int) -> onnx.ModelProto:
    from onnx import helper, numpy_helper

    wide = np.zeros((16, 16, 5, 5, 5), np.float32)
    wide[np.arange(16), np.arange(16), 2, 2, 2] = 1
    first = np.zeros((16, 1, 5, 5, 5), np.float32)
    first[:, 0, 2, 2, 2] = 1
    last = np.zeros((2, 16, 5, 5, 5), np.float32)
    last[1, 0, 2, 2, 2] = 10
    weights = {"first": first, "wide": wide, "last": last, "bias": np.array([0, -5], np.float32)}
    pads = [2] * 6
    nodes = [helper.make_node("Conv", ["x", "first"], ["h0"], pads=pads)]
    nodes += [helper.make_node("Conv", [f"h{n}", "wide"], [f"h{n + 1}"], pads=pads) for n in range(layers)]
    nodes += [helper.make_node("Conv", [f"h{layers}", "last", "bias"], ["y"], pads=pads)]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", 1, ["n", 1, "d", "h", "w"])],
        [helper.make_tensor_value_info("y", 1, ["n", 2, "d", "h", "w"])],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def volume(seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).integers(-100, 900, OBLIQUE.shape).astype(np.int16)
    return Volume(array, OBLIQUE, "MR", "test volume")


class Host:
    """What the panel is in Slicer: a loop, a client and the processes that it made."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.processes: list[LocalProcess] = []
        self.client = WorkerClient(self._make, self.loop.schedule)

    def _make(self, on_message, on_end) -> LocalProcess:
        self.processes.append(LocalProcess(self.loop, on_message, on_end))
        return self.processes[-1]

    def run(self, model: Path, what: Volume, seconds: float = 180, **options) -> Recorder:
        recorder = Recorder()
        self.client.start_run(str(model), [what], options, recorder)
        self.loop.until(lambda: recorder.end is not None, seconds)
        return recorder


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "SHARED_MEMORY", tmp_path / "none")
    host = Host()
    yield host
    host.client.shutdown()
    assert not list(tmp_path.glob("medseg-*")), "a run left its files behind"


def test_labels_equal_those_of_a_run_in_this_process(host: Host, tmp_path: Path) -> None:
    model = package(tmp_path)
    kind, result = host.run(model, volume()).end
    assert kind == "result", result
    expected = run(load_model(model), volume())
    assert np.array_equal(result.layers[0].labels, expected.layers[0].labels)
    assert 0 < result.layers[0].labels.mean() < 1
    assert result.grid == OBLIQUE and result.classes == expected.classes
    assert result.tables["segments"].rows == expected.tables["segments"].rows
    assert result.tables["segments"].columns == expected.tables["segments"].columns


def test_voxels_stay_off_the_disk_where_shared_memory_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    disk.mkdir()
    memory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    monkeypatch.setattr(scratch, "SHARED_MEMORY", memory)
    assert exchange_folder([volume()], {}).parent == memory
    # One float32 map a class may be far larger than the volume.
    assert exchange_folder([volume()], {"probabilities": True}).parent == disk
    monkeypatch.setattr(worker_client, "_ROOM", 10**12)
    assert exchange_folder([volume()], {}).parent == disk


def test_a_second_run_is_warm(host: Host, tmp_path: Path) -> None:
    model = package(tmp_path)
    host.run(model, volume())
    second = host.run(model, volume(1))
    assert second.end[0] == "result" and len(host.processes) == 1
    assert second.end[1].provenance["seconds"]["open"] < 0.05, "the session was opened again"


def test_another_model_takes_the_place_of_the_first(host: Host, tmp_path: Path) -> None:
    for name in ("one", "two", "three", "one-more"):
        model = package(tmp_path, name)
        assert host.run(model, volume()).end[1].provenance["model"]["id"] == name


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_costs_one_run_and_says_so(host: Host, tmp_path: Path) -> None:
    model, quick = package(tmp_path, "deep", layers=6), package(tmp_path)
    whole = host.run(model, volume())
    assert whole.end[0] == "result"
    length = time.monotonic() - whole.started
    moments = random.Random(7)
    for _ in range(10):
        recorder = Recorder()
        host.client.start_run(str(model), [volume()], {}, recorder)
        host.loop.schedule(int(1000 * moments.uniform(0, length)), lambda: os.kill(host.processes[-1].child.pid, 9))
        host.loop.until(lambda r=recorder: r.end is not None)
        if recorder.end[0] == "result":
            host.loop.until(lambda: host.client._process is None)
        else:
            assert recorder.end[0] == "Died" and "nothing in the scene was changed" in recorder.end[1]
        assert host.run(quick, volume()).end[0] == "result"


def test_cancel_ends_the_run_within_two_seconds_and_the_next_one_works(host: Host, tmp_path: Path) -> None:
    slow = package(tmp_path, "slow", layers=400)
    recorder = Recorder()
    host.client.start_run(str(slow), [volume()], {}, recorder)
    host.loop.until(lambda: any(stage == "infer" for stage, _ in recorder.progress))
    before = time.monotonic()
    host.client.cancel()
    host.loop.until(lambda: recorder.end is not None)
    assert recorder.end[0] == "cancelled" and time.monotonic() - before < 2.0
    assert host.run(package(tmp_path), volume()).end[0] == "result"


def test_cancel_before_the_volume_was_handed_over(host: Host, tmp_path: Path) -> None:
    recorder = Recorder()
    host.client.start_run(str(package(tmp_path)), [volume()], {}, recorder)
    host.client.cancel()
    host.loop.until(lambda: recorder.end is not None, 2)
    assert recorder.end[0] == "cancelled"


def test_two_quick_applies_run_once(host: Host, tmp_path: Path) -> None:
    model, recorder = package(tmp_path), Recorder()
    host.client.start_run(str(model), [volume()], {}, recorder)
    with pytest.raises(Busy, match="under way"):
        host.client.start_run(str(model), [volume()], {}, Recorder())
    host.loop.until(lambda: recorder.end is not None)
    assert recorder.end[0] == "result"


def test_a_bad_volume_is_an_error_in_words_and_the_worker_lives(host: Host, tmp_path: Path) -> None:
    model = package(tmp_path)
    flat = Volume(np.zeros(OBLIQUE.shape, np.int16), OBLIQUE, "MR", "flat volume")
    kind, sentence = host.run(model, flat).end
    assert kind == "InputError" and "flat volume" in sentence and "same value" in sentence
    assert host.run(model, volume()).end[0] == "result" and len(host.processes) == 1


def test_a_missing_model_is_an_error_in_words(host: Host, tmp_path: Path) -> None:
    kind, sentence = host.run(tmp_path / "nowhere", volume()).end
    assert kind == "ModelError" and "nowhere" in sentence


def test_devices_and_versions_can_be_asked_for(host: Host) -> None:
    answers: list[dict] = []
    for command in ("devices", "versions"):
        host.client.query(command, answers.append, answers.append)
    host.loop.until(lambda: len(answers) == 2)
    assert any(d["works"] and "cpu" in d["id"] for d in answers[0]["devices"])
    assert "onnxruntime" in json.dumps(answers[1]["report"])


def test_what_libraries_print_does_not_break_the_messages() -> None:
    code = (
        "import os, sys, medseg.worker.process as w\n"
        "w.Worker._versions = lambda self, request, monitor: (os.write(1, b'noise\\n'), print('noise'), {'ok': 1})[2]\n"
        "w.main()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(LOGIC)},
    )
    child.stdin.write(b'{"id": 1, "command": "versions"}\nnot json\n{"command": "quit"}\n')
    child.stdin.flush()
    lines = [json.loads(line) for line in child.stdout]
    child.wait(20)
    assert {"type": "answer", "id": 1, "answer": {"ok": 1}} in lines
    assert any(m["type"] == "error" and "broken message" in m["message"] for m in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_it_ends_when_slicer_is_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'medseg.worker'],\n"
        "                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdin.write(sys.argv[1].encode() + b'\\n')\n"
        "child.stdin.flush()\n"
        "print(child.pid, child.stdout.readline(), flush=True)\n"
        "time.sleep(100)"
    )
    # Slicer was still writing the volume, so no run is under way.
    folder = tmp_path / "medseg-handed-over"
    folder.mkdir()
    (folder / "input0.raw").write_bytes(b"voxels")
    expect = json.dumps({"command": "expect", "folder": str(folder)})
    parent = subprocess.Popen(
        [sys.executable, "-c", code, expect], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(LOGIC)}
    )
    worker = psutil.Process(int(parent.stdout.readline().split()[0]))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    worker.wait(5)
    assert not worker.is_running()
    assert not folder.exists(), "voxels of a patient were left behind"


def test_a_result_survives_the_way_between_processes(tmp_path: Path) -> None:
    model = tmp_path / "packages"
    model.mkdir()
    result = run(load_model(package(model)), volume(), probabilities=True)
    back = result_from(json.loads(json.dumps(result_message(result, tmp_path))), tmp_path)
    assert np.array_equal(back.layers[0].labels, result.layers[0].labels)
    assert np.array_equal(back.probabilities["bright"], result.probabilities["bright"])
    assert back.tables == result.tables and back.classes == result.classes and back.grid == result.grid
    assert back.provenance == json.loads(json.dumps(result.provenance))
