"""A long run that is interrupted goes on and ends as if nothing had happened; else days of computing are lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medseg import phantoms
from medseg.cohort.local import run_local
from medseg.cohort.one_case import Job
from medseg.output.files import write_map
from medseg.pipeline.options import RunOptions
from medseg.review.cases import find_cases
from support.cohorts import make_images


def command(source: Path, out: Path) -> list[str]:
    words = [
        "cohort",
        "ich-compact",
        str(source),
        "-o",
        str(out),
        "--device",
        "cpu",
        "--modality",
        "CT",
        "--workers",
        "2",
    ]
    return [sys.executable, "-m", "medseg.cli", *words]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_killed_driver_loses_nothing_and_a_bad_file_costs_a_row(tmp_path: Path) -> None:
    source = tmp_path / "images"
    source.mkdir()
    for n in range(6):
        volume = phantoms.head_ct(n, size=(48, 48, 6)).volume
        write_map(source / f"case{n}.nii.gz", volume.array, volume.grid)
    (source / "case9.nii.gz").write_bytes(b"no image")
    whole = subprocess.run(command(source, tmp_path / "whole"), capture_output=True, text=True, check=False)
    assert whole.returncode == 2, whole.stderr
    out = tmp_path / "broken"
    driver = subprocess.Popen(command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(out.glob("cases/*/result.json")):
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = {p: p.stat().st_mtime_ns for p in out.glob("cases/*/result.json")}
    again = subprocess.run(command(source, out), capture_output=True, text=True, check=False)
    assert again.returncode == 2, again.stderr
    table = (out / "cohort.csv").read_text(encoding="utf-8")
    assert table == (tmp_path / "whole" / "cohort.csv").read_text(encoding="utf-8")
    assert table.count(",done,") == 6 and table.count(",failed,") == 1
    assert all(p.stat().st_mtime_ns == when for p, when in done.items()), "a finished case was run again"
    assert find_cases(out / "cases.csv")[0].name == "case9", "failed cases stand first in the list for Review"


def test_a_killed_worker_costs_no_case(tmp_path: Path) -> None:
    volume = phantoms.head_ct(1, size=(48, 48, 6)).volume
    write_map(tmp_path / "a.nii.gz", volume.array, volume.grid)
    channel = "head CT"
    jobs = [Job(f"case{n}", {channel: tmp_path / "a.nii.gz"}, tmp_path / f"case{n}") for n in range(4)]
    told: list[str] = []
    records = run_local("ich-compact", RunOptions(device="cpu", modality="CT", threads=1), jobs, 1, told.append)
    first = next(records)
    (worker,) = [p for p in multiprocessing.active_children() if p.name == "medseg-cohort"]
    worker.kill()
    worker.join()
    states = {r["case"]: r["state"] + r["problem"] for r in [first, *records]}
    assert states == {job.name: "done" for job in jobs}
    assert any("ended (code -9)" in words for words in told), "a user hears that a process died"


@pytest.mark.skipif(os.name != "posix", reason="named pipes are of POSIX")
def test_a_case_that_ends_its_process_twice_is_a_row_and_the_rest_is_run(tmp_path: Path) -> None:
    """One image that no memory suffices for must not stop a night's work, nor be tried for ever."""
    volume = phantoms.head_ct(1, size=(48, 48, 6)).volume
    write_map(tmp_path / "a.nii.gz", volume.array, volume.grid)
    deadly = tmp_path / "deadly.nii.gz"
    os.mkfifo(deadly)  # who reads it waits, and is killed meanwhile
    files = {"bad": deadly, "good": tmp_path / "a.nii.gz"}
    jobs = [Job(name, {"head CT": path}, tmp_path / name) for name, path in files.items()]
    killed = []

    def kill_its_reader() -> None:
        while len(killed) < 2:
            try:
                end = os.open(deadly, os.O_WRONLY | os.O_NONBLOCK)  # fails until somebody reads
            except OSError:
                time.sleep(0.01)
                continue
            (worker,) = [p for p in multiprocessing.active_children() if p.name == "medseg-cohort"]
            os.kill(worker.pid or 0, signal.SIGKILL)
            killed.append(worker.pid)
            while True:  # until the reader is gone
                try:
                    os.write(end, b"0")
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    break
                time.sleep(0.01)
            os.close(end)

    threading.Thread(target=kill_its_reader, daemon=True).start()
    records = {r["case"]: r for r in run_local("ich-compact", RunOptions(device="cpu", modality="CT"), jobs, 1, print)}
    assert len(set(killed)) == 2
    assert records["bad"]["state"] == "failed" and "ended 2 times" in records["bad"]["problem"]
    assert records["good"]["state"] == "done"


@pytest.mark.skipif(os.name != "posix", reason="SIGINT is of POSIX")
def test_ctrl_c_keeps_what_is_finished_and_says_so(tmp_path: Path) -> None:
    """Who is told that nothing was left behind begins a night's work anew."""
    source = make_images(tmp_path / "images", 200, (32, 32, 3), different=3)
    out = tmp_path / "out"
    driver = subprocess.Popen(command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (out / "cohort.jsonl").exists() or not (out / "cohort.jsonl").read_bytes():
        assert driver.poll() is None
        time.sleep(0.01)
    # enough cases that some are left however slowly this process is told of the first
    driver.send_signal(signal.SIGINT)
    _, words = driver.communicate(timeout=60)
    assert driver.returncode == 130 and "finished cases are kept in" in words
    done = (out / "cohort.jsonl").read_bytes().count(b"\n")
    assert done > 0
    again = subprocess.run([*command(source, out), "--json"], capture_output=True, text=True, check=False)
    assert again.returncode == 0 and json.loads(again.stdout)["known"] >= done
