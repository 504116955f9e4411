"""A run from Apply to its end: results, cancel, a killed worker, and what the user does meanwhile."""

from __future__ import annotations

import os
import random
import signal
import stat
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import slicer
from session import Session, equal, true


def check_result_is_shown(session: Session) -> str:
    """Apply gives a segmentation with the right voxels, visible in the slice views, and tables."""
    volume = session.volume()
    said = session.run("bright", volume)
    true("Done" in said, said)
    expected = slicer.util.arrayFromVolume(volume) > 500
    equal(session.labels() != 0, expected, "labels")
    identifier = session.segmentation.GetSegmentation().GetNthSegmentID(0)
    own = slicer.util.arrayFromSegmentBinaryLabelmap(session.segmentation, identifier, volume)
    equal(own != 0, expected, "labels through slicer.util")
    tables = session.panel.results._tables()
    true({common_name(t) for t in tables} >= {"segments", "lesions"}, "tables are missing")
    true(session.segmentation.GetDisplayNode().GetVisibility() == 1, "the segmentation is hidden")
    return f"{said.splitlines()[0]} {int(expected.sum())} voxels, tables {[common_name(t) for t in tables]}"


def check_progress_arrives(session: Session) -> str:
    """Progress is told while the run goes on, not at its end."""
    common.choose(session.widget, "slow", session.slow_volume())
    seen: list[tuple[float, str]] = []
    bar = session.widget.ui.progressBar
    session.apply()
    start = time.perf_counter()
    while session.panel.runs.running and time.perf_counter() - start < 120:
        common.pause(0.02)
        if not seen or seen[-1][1] != str(bar.value):
            seen.append((time.perf_counter() - start, str(bar.value)))
    total = time.perf_counter() - start
    inside = [t for t, _ in seen if 0.1 * total < t < 0.9 * total]
    true(len(inside) > 3, f"only {len(inside)} changes of the bar in the middle of the run: {seen}")
    return f"{len(seen)} values of the bar in {total:.1f} s, {len(inside)} of them in the middle"


def check_cancel(session: Session) -> str:
    """Cancel ends the run within two seconds at any stage; nothing was added; the next run works."""
    times = []
    for stage in ("read", "prepare", "infer", "infer"):
        volume = session.slow_volume()
        common.choose(session.widget, "slow", volume)
        before = session.nodes()
        session.apply()
        session.stage(stage)
        start = time.perf_counter()
        session.widget.ui.cancelButton.click()
        true(common.wait(lambda: not session.panel.runs.running, 5, 5), "the run was not cancelled")
        times.append(time.perf_counter() - start)
        equal(session.nodes(), before, "nodes after the cancelled run")
        true("ancel" in session.widget.ui.progressLabel.text, session.widget.ui.progressLabel.text)
        said = session.run("bright", volume)
        true("Done" in said, said)
    true(max(times) < 2, f"cancelling took {max(times):.1f} s")
    return "cancelled after " + ", ".join(f"{t:.2f} s" for t in times) + "; the next runs worked"


def check_second_run_is_warm(session: Session) -> str:
    """The second run begins inference within 0.3 s (1 s on a busy computer), also with a volume of the usual size."""
    busy = common.busy()
    shapes = {"128x128x24": (24, 128, 128), "256x256x60": (60, 256, 256)}
    told = []
    for name, shape in shapes.items():
        volume = session.volume(shape, name)
        session.run("slow" if name.startswith("128") else "bright", volume)
        pid = session.panel._worker._process.pid
        session.apply()
        seconds = session.stage("infer")
        common.run_ended(session.widget)
        equal(session.panel._worker._process.pid, pid, "the worker")
        told.append(f"{name}: {seconds:.2f} s")
        true(seconds < (1.0 if busy else 0.3), f"inference began after {seconds:.2f} s")
    return "inference began after " + ", ".join(told) + (f" ({busy})" if busy else "")


def check_killed_worker(session: Session) -> str:
    """Killed at ten moments: a clear message, an unchanged scene, and the next run works."""
    rng = random.Random(7)
    volume = session.slow_volume()
    session.run("bright", volume)
    labels = session.labels().copy()
    start = time.perf_counter()
    session.run("slow", volume)
    duration = time.perf_counter() - start
    session.run("bright", volume)
    said = []
    for _ in range(10):
        common.choose(session.widget, "slow", volume)
        before, number = session.nodes(), len(session.errors)
        session.apply()
        common.pause(rng.uniform(0, 0.9 * duration))
        process = session.panel._worker._process
        if not session.panel.runs.running:
            continue
        # In the first moments the worker is not ready yet; then its launcher is killed.
        os.kill(process.pid or int(process._process.processId()), signal.SIGKILL)
        true(common.wait(lambda: not session.panel.runs.running, 5), "the run did not end when its worker was killed")
        equal(len(session.errors), number + 1, "messages")
        said.append(session.errors[-1])
        equal(session.nodes(), before, "nodes")
        equal(common.labels_of(slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")), labels, "labels")
        done = session.run("bright", volume)
        true("Done" in done, done)
    true(len(said) >= 8, f"only {len(said)} kills met a run")
    true(all("pply" in s for s in said), f"a message does not say what to do: {said}")
    return f"{len(said)} kills within {duration:.1f} s; e.g. {said[0]}"


def check_launcher(session: Session) -> str:
    """PythonSlicer may be a launcher with Python behind it: cancelling and ending reach the Python too."""
    real = common.python()
    with tempfile.TemporaryDirectory() as folder:
        launcher = Path(folder) / "PythonSlicer"
        launcher.write_text(f'#!/bin/sh\n"{real}" "$@"\nexit $?\n', "ascii")
        launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
        path = os.environ["PATH"]
        os.environ["PATH"] = f"{folder}{os.pathsep}{path}"
        try:
            session.panel._worker.restart()
            volume = session.slow_volume()
            true("Done" in session.run("bright", volume), "the run behind a launcher failed")
            process = session.panel._worker._process
            true(process.pid != int(process._process.processId()), "this is no launcher")
            first = process.pid
            common.choose(session.widget, "slow", volume)
            session.apply()
            session.stage("infer")
            os.kill(first, signal.SIGSTOP)
            session.widget.ui.cancelButton.click()
            true(common.wait(lambda: not session.panel.runs.running, 3), "a stopped worker was not ended")
            true(common.wait(lambda: not Path(f"/proc/{first}").exists(), 3), "the Python behind the launcher lives on")
            true("Done" in session.run("bright", volume), "the next run failed")
        finally:
            os.environ["PATH"] = path
            session.panel._worker.restart()
    return "run, hard cancel and end reach the Python behind a launcher"


def check_two_quick_applies(session: Session) -> str:
    """Two clicks give one run and one result."""
    volume = session.volume()
    common.choose(session.widget, "bright", volume)
    session.apply()
    session.widget.ui.applyButton.click()
    session.panel.apply()
    said = common.run_ended(session.widget)
    equal(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 1, "segmentations")
    equal(session.errors, [], "messages")
    return said.splitlines()[0]


def check_model_changed_while_running(session: Session) -> str:
    """The run goes on with the model that was chosen when Apply was pressed."""
    volume = session.slow_volume()
    common.choose(session.widget, "slow", volume)
    session.apply()
    session.stage("infer")
    common.choose(session.widget, "scores", None)
    said = common.run_ended(session.widget)
    name = session.panel.results._segmentation().GetName()
    true("Done" in said and "slowly" in name, f"{name}: {said}")
    equal(session.labels() != 0, np.asarray(slicer.util.arrayFromVolume(volume) > 500), "labels")
    again = session.run("scores", volume)
    true("scores of 2" in again, again)
    return f"{said.splitlines()[0]} Then: {again.splitlines()[0]}"


def common_name(table: object) -> str:
    """The kind of a table node."""
    return str(table.GetAttribute("MedSeg.Table"))  # type: ignore[attr-defined]
