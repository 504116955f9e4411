"""The module loads quickly and lightly, reloads, and its own test can fail."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import common
import qt
import slicer
from session import Session, true

# Seconds after which a Slicer that stands still is woken.
_LATE = 60.0


def check_module_loads(session: Session) -> str:
    """Nothing heavy comes with the module, and Slicer's start does not wait for it."""
    before = [n for n in common.HEAVY if n in sys.modules]
    loading = common.load_module()
    spec = importlib.util.spec_from_file_location("medseg_once_more", common.MODULE)
    start = time.perf_counter()
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    again = time.perf_counter() - start
    after = [n for n in common.HEAVY if n in sys.modules]
    true(after == before, f"the module's file imports {set(after) - set(before)}")
    seconds = loading if loading is not None else again
    true(seconds < 0.1, f"the module takes {1000 * seconds:.0f} ms to load")
    how = f"registered and loaded in {1000 * loading:.0f} ms" if loading is not None else "loaded with Slicer"
    return f"{how}, file executed in {1000 * again:.1f} ms, heavy packages: {after or 'none'}"


def check_panel_opens(session: Session) -> str:
    """The panel is there and has not loaded the worker's packages into Slicer."""
    start = time.perf_counter()
    true(session.widget.panel is not None, "the panel was not made")
    seconds = time.perf_counter() - start
    heavy = [n for n in ("onnxruntime", "onnx", "pydantic") if n in sys.modules]
    true(not heavy, f"opening the panel imported {heavy}")
    return f"opened in {seconds:.2f} s (making the test models included), {len(session.panel.model._cards)} models"


def check_reload(session: Session) -> str:
    """Reload works twice, ends the old worker, and the panel still runs."""
    session.run("bright", session.volume())
    old = session.panel._worker._process.pid
    for _ in range(2):
        session.widget.onReload()
        common.pause(0.5)
    true(not _alive(old), "the worker of the panel before the reload is still there")
    said = session.run("bright", session.volume(name="After reload"))
    true("Done" in said, said)
    return said.splitlines()[0]


def check_self_test(session: Session) -> str:
    """The module's own test passes, and fails where no model is installed."""
    module = sys.modules["MedSegExtension"]
    start = time.perf_counter()
    module.MedSegExtensionTest().runTest()
    seconds = time.perf_counter() - start
    from medseg.model import store as model_store

    with mock.patch.object(model_store, "installed_models", return_value=[]):
        try:
            module.MedSegExtensionTest().runTest()
        except AssertionError as error:
            return f"passed in {seconds:.1f} s; without models it fails: {str(error).splitlines()[0][:90]}"
    raise AssertionError("the self test passes although nothing ran")


def check_watched_file_changes(session: Session) -> str:
    """A file that Slicer watches changes while what the worker said opens a dialog; Slicer does not stand still.

    Slicer watches the file of its DICOM database, which objects are imported into when the worker has written them.
    Qt 5 then read an empty pipe and never returned (`medseg_panel.worker.process`); a late change ends that here.
    """
    true(session.widget is not None, "the module has no widget")
    from medseg_panel.worker.process import QtWorkerProcess

    if not sys.platform.startswith("linux"):
        return "left out: other systems tell Qt of changed files in other ways"
    closed: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "watched"
        file.write_text("a", encoding="ascii")

        def hear(message: dict[str, Any]) -> None:
            if message["type"] == "ready":
                dialog = qt.QEventLoop()
                watcher.connect("fileChanged(QString)", lambda *_: dialog.quit())
                file.write_text("b", encoding="ascii")
                dialog.exec_()
                closed.append(time.perf_counter())

        process = QtWorkerProcess(hear, lambda *_: None)
        process.start()
        watcher = qt.QFileSystemWatcher()
        watcher.addPath(str(file))
        late = subprocess.Popen(["sh", "-c", f"sleep {_LATE:g}; echo >> '{file}'"])
        try:
            true(common.wait(lambda: closed, _LATE / 2), "the worker did not start")
            common.pause(0.3)
            seconds = time.perf_counter() - closed[0]
        finally:
            late.kill()
            late.wait()
            watcher.removePath(str(file))
            process.close()
    true(seconds < 5, f"Slicer stood still for {seconds:.1f} s when the dialog was closed")
    return f"events were handled {seconds:.2f} s after the dialog was closed"


def check_worker_ends_with_slicer(session: Session) -> str:
    """A worker whose Slicer was killed ends by itself: its input ends."""
    code = (
        "import subprocess, sys, time\n"
        f"sys.path.insert(0, {str(common.MODULE.parent / 'Logic')!r})\n"
        "from pathlib import Path\n"
        "start = 'import sys; sys.path.insert(0, sys.argv[1]); from medseg.worker.process import main; main()'\n"
        "child = subprocess.Popen([sys.executable, '-c', start, sys.path[0]], stdin=-1, stdout=-1)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [common.python(), "-c", code], stdout=subprocess.PIPE, text=True, env=slicer.util.startupEnvironment()
    ) as host:
        worker = int(host.stdout.readline())
        host.kill()
    start = time.perf_counter()
    true(common.wait(lambda: not _alive(worker), 5), "the worker outlived the process that started it")
    return f"ended {time.perf_counter() - start:.2f} s after its host was killed"


def _alive(pid: int) -> bool:
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text("ascii", errors="replace")
    except OSError:
        return False
