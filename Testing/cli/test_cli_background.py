"""Results are written while the next case runs: none may be lost, mixed up or left half-written by that."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from test_cli import package
from typer.testing import CliRunner

import medseg.cli
import medseg.io
from support.io_samples import write_nifti

IMAGE = np.arange(6 * 16 * 16, dtype=np.int16).reshape(6, 16, 16)


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def inputs(tmp_path):
    return [write_nifti(tmp_path / f"{name}.nii", IMAGE + n, qform_code=1) for n, name in enumerate("abc")]


@pytest.fixture
def model(tmp_path):
    return package(tmp_path / "model")


def with_sink(monkeypatch, sink):
    monkeypatch.setattr("medseg.output.folder.discover_sinks", lambda: {"test": SimpleNamespace(load=lambda: sink)})


def run(model, inputs, tmp_path, *more):
    arguments = ["run", model, *inputs, "-o", tmp_path / "out", "--device", "cpu", "--json", *more]
    return CliRunner().invoke(medseg.cli.app, [str(a) for a in arguments])


def left(tmp_path):
    return sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_the_next_case_runs_while_a_scene_is_made(tmp_path, monkeypatch, model, inputs):
    """Waiting for pictures would add seconds to each case of a long night."""
    second_read = threading.Event()
    seen, at_once, most = [], [0], [0]
    real = medseg.io.read_volume

    def read(path, **options):
        if path.name == "b.nii":
            second_read.set()
        return real(path, **options)

    def sink(result, volume, folder, model, monitor):
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        if volume.name.startswith("a"):
            seen.append(second_read.wait(20))
        (folder / "picture.txt").write_text(volume.name)
        at_once[0] -= 1

    monkeypatch.setattr(medseg.io, "read_volume", read)
    with_sink(monkeypatch, sink)
    done = run(model, inputs, tmp_path)
    assert done.exit_code == 0, done.output
    assert seen == [True] and most == [1], "one ahead, and never two at once"
    results = json.loads(done.stdout)["results"]
    assert [r["input"] for r in results] == ["a", "b", "c"]
    for name in "abc":
        assert (tmp_path / "out" / name / "picture.txt").read_text().startswith(name)
        assert "picture.txt" in json.loads((tmp_path / "out" / name / "result.json").read_text())["files"]


def test_a_result_that_cannot_be_written_costs_that_case_only_and_is_told(tmp_path, monkeypatch, model, inputs):
    """A full disk in the background must not look like success."""
    from medseg.errors import OutputError
    from medseg.output import folder as module

    real = module.write_segmentation

    def full(path, layers, grid, *more):
        if "/b/" in path.as_posix():
            raise OutputError("The disk is full.")
        real(path, layers, grid, *more)

    monkeypatch.setattr(module, "write_segmentation", full)
    done = run(model, inputs, tmp_path, "--no-scene")
    assert done.exit_code == OutputError.exit_code
    results = json.loads(done.stdout)["results"]
    assert [("error" in r, r["input"]) for r in results] == [(False, "a"), (True, "b"), (False, "c")]
    assert {p.split("/")[0] for p in left(tmp_path)} == {"a", "c", "cases.csv"}


def test_a_picture_that_fails_in_the_background_is_a_warning_in_its_own_result(tmp_path, monkeypatch, model, inputs):
    """Told for the wrong case, or not at all, nobody would know which scene is missing."""

    def sink(result, volume, folder, model, monitor):
        if volume.name.startswith("b"):
            (folder / "half.txt").write_text("half")
            raise RuntimeError("no graphics")

    with_sink(monkeypatch, sink)
    done = run(model, inputs, tmp_path)
    assert done.exit_code == 0
    for name in "abc":
        summary = json.loads((tmp_path / "out" / name / "result.json").read_text())
        assert any("no graphics" in w for w in summary["warnings"]) == (name == "b")
    assert "b/half.txt" not in left(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process on Windows")
@pytest.mark.parametrize("waited_for", [False, True])
def test_ctrl_c_keeps_what_was_finished_and_leaves_nothing_half_written(
    tmp_path, monkeypatch, model, inputs, waited_for
):
    """Case a is done but for its picture when b is cancelled: its segmentation took a network run. A last case, which
    the user waits for, is cancelled whole."""
    real = medseg.io.read_volume
    drawing = threading.Event()

    def interrupt():
        assert drawing.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    def read(path, **options):
        if path.name == "b.nii":
            interrupt()
            cancelled.wait(20)
        return real(path, **options)

    def sink(result, volume, folder, model, monitor):
        (folder / "half.txt").write_text("half")
        with monitor.on_cancel(cancelled.set):
            drawing.set()
            if waited_for:
                interrupt()
            cancelled.wait(20)
        monitor.checkpoint()

    def end(code):
        raise SystemExit(code)

    cancelled = threading.Event()
    monkeypatch.setattr(medseg.io, "read_volume", read)
    monkeypatch.setattr(sys.modules["medseg.cli.execute"], "end_now", end)
    monkeypatch.setattr("medseg.cli.interrupt.GRACE_SECONDS", 20)  # of a loaded machine
    with_sink(monkeypatch, sink)
    done = run(model, inputs[:1] if waited_for else inputs, tmp_path)
    assert done.exit_code == 130
    if waited_for:
        assert not (tmp_path / "out").exists() or left(tmp_path) == []
        return
    assert left(tmp_path) == ["a/result.json", "a/segmentation.seg.nrrd", "a/segments.csv", "cases.csv"]
    summary = json.loads((tmp_path / "out" / "a" / "result.json").read_text())
    assert any("'test' was not made" in w and "cancelled" in w for w in summary["warnings"])
    assert [r["input"] for r in json.loads(done.stdout)["results"]] == ["a"]


def test_without_a_preview_the_scene_is_still_made(tmp_path, monkeypatch, model, inputs):
    """--no-preview saves the drawing, not the scene that a reader opens; --no-scene saves both."""
    made = []

    def sink(*given):
        made.append("both")

    sink.without_preview = lambda *given: made.append("scene")
    with_sink(monkeypatch, sink)
    assert run(model, inputs[:1], tmp_path).exit_code == 0
    assert run(model, inputs[:1], tmp_path, "--no-preview", "--force").exit_code == 0
    assert run(model, inputs[:1], tmp_path, "--no-scene", "--force").exit_code == 0
    assert made == ["both", "scene"]
