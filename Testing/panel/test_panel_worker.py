"""The worker's process in Qt's event loop: what it says arrives while a dialog is open, and where it cannot start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qt_host.fixtures import MODULE, Host, host  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


@pytest.fixture
def worker(host: Host) -> Any:
    """The panel's package of the worker's other end."""
    host.load_module(MODULE).python.add_paths()
    from medseg_panel import worker
    from medseg_panel.worker import client, process

    assert client and process
    return worker


# Says two things at once, and a third when it is asked.
_TALKER = """
import sys
sys.stdout.write('{"type": "one"}\\n{"type": "two"}\\n')
sys.stdout.flush()
sys.stdin.readline()
print('{"type": "three"}', flush=True)
sys.stdin.readline()
"""


def test_messages_keep_their_order_while_a_dialog_is_open(
    host: Host, worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's result overtook its warnings where a message box or an import handled events meanwhile.

    In Slicer with Qt 5 such a dialog could also end in a read that never returned (see `check_watched_file_changes`
    in ``Testing/slicer_app``).
    """
    import qt

    (tmp_path / "talker.py").write_text(_TALKER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said: list[str] = []
    ended: list[Any] = []

    def hear(message: dict[str, Any]) -> None:
        said.append(message["type"])
        if message["type"] != "one":
            return
        process.send({})
        loop, timer = qt.QEventLoop(), qt.QTimer()
        timer.connect("timeout()", lambda: loop.quit() if "three" in said else None)
        timer.start(5)
        qt.QTimer.singleShot(30000, loop.quit)
        loop.exec_()
        timer.stop()
        said.append("dialog closed")

    process = worker.process.QtWorkerProcess(hear, lambda *end: ended.append(end), "talker")
    process.start()
    try:
        host.wait_for(lambda: "dialog closed" in said, 60)
    finally:
        process.close()
    assert said == ["one", "two", "three", "dialog closed"]
    host.pump(0.05)
    assert ended == [], "it was closed, and its end is told all the same"


def test_an_interpreter_that_cannot_start_is_told_in_words(
    host: Host, worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, where Qt tells it while it starts, the Review tab waited for ever for a case."""
    import qt

    from medseg_panel.review.case_loading import CaseReader, Files

    def at_once(process: Any) -> None:
        process._failed(qt.QProcess.FailedToStart)

    monkeypatch.setattr(worker.process, "interpreter", lambda: str(tmp_path / "no such python"))
    failed: list[str] = []
    for n, how in enumerate((worker.process.QtWorkerProcess.start, at_once), 1):
        monkeypatch.setattr(worker.process.QtWorkerProcess, "start", how)
        reader = CaseReader()
        try:
            reader.read(Files(tmp_path / "image.nii.gz", None), lambda case: None, failed.append)
            host.wait_for(lambda: len(failed) == n, 20)  # noqa: B023
            assert "ended unexpectedly" in failed[-1]
        finally:
            reader.close()


class _Process:
    def __init__(self) -> None:
        self.kills = 0

    def start(self) -> None: ...
    def close(self) -> None: ...

    def send(self, message: dict[str, Any]) -> None:
        raise AssertionError("it is not ready")

    def kill(self) -> None:
        self.kills += 1


def test_a_silent_worker_is_ended_only_where_slicer_could_have_heard_it(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slicer that stood still for two minutes (a large file was saved) ended a healthy run when it woke."""
    clock = [0.0]
    monkeypatch.setattr(worker.client.time, "monotonic", lambda: clock[0])
    looks: list[Callable[[], None]] = []
    told: list[Callable[[dict[str, Any]], None]] = []
    process = _Process()

    def make(on_message: Any, on_end: Any) -> Any:
        told.append(on_message)
        return process

    client = worker.client.WorkerClient(make, lambda ms, look: looks.append(look))
    client.start()
    clock[0] = 300.0
    looks.pop()()  # Slicer goes on again: the timer comes before what was written into the pipe meanwhile
    assert process.kills == 0
    told[0]({"type": "alive"})
    clock[0] = 305.0
    looks.pop()()
    assert process.kills == 0
    clock[0] = 500.0
    looks.pop()()
    clock[0] = 505.0
    looks.pop()()
    assert process.kills == 1 and not looks, "a worker that hangs is left alone for ever"
