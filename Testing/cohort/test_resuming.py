"""A run that goes on reads no more than it must, and two drivers never work in one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medseg.cohort.drive import run_cohort
from medseg.cohort.journal import FILE, Journal
from medseg.cohort.lock import only_driver
from medseg.cohort.one_case import Job, Record, Runner, seen_result
from medseg.errors import OutputError
from medseg.pipeline.options import RunOptions
from support.cohorts import make_images, make_old


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner("ich-compact", RunOptions(device="cpu", modality="CT", threads=1))


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    images = make_images(tmp_path / "images", 3, (32, 32, 3), different=1)
    return [Job(p.name[:9], {"head CT": p}, tmp_path / "out" / "cases" / p.name[:9]) for p in sorted(images.iterdir())]


def again(runner: Runner, jobs: list[Job], out: Path, tell: Any = print) -> tuple[list[str], list[str]]:
    """Run in this process: the cases that were looked at by a worker, and those of which the network ran."""
    looked: list[str] = []
    before = {job.name: seen_result(job.folder) for job in jobs}

    def crew(source: str, options: RunOptions, todo: Iterable[Job], workers: int, tell: Any) -> Iterator[Record]:
        for job in todo:
            looked.append(job.name)
            yield runner.do(job)

    run_cohort(runner, "ich-compact", jobs, out, 1, told=lambda *_: None, tell=tell, crew=crew)
    return looked, [job.name for job in jobs if seen_result(job.folder) != before[job.name]]


def test_finished_cases_are_known_without_reading_them(runner: Runner, jobs: list[Job], tmp_path: Path) -> None:
    """A resumed night of 10,000 scans must not read terabytes again, and must see every image that was replaced."""
    out, names = tmp_path / "out", [job.name for job in jobs]
    assert again(runner, jobs, out) == (names, names)
    assert again(runner, jobs, out) == ([], [])
    first, second, third = (next(iter(job.files.values())) for job in jobs)
    os.utime(first, (time.time() - 1800,) * 2)  # copied anew: looked at, and found to be the same
    assert again(runner, jobs, out) == (names[:1], [])
    other = make_images(tmp_path / "other", 4, (32, 32, 3))
    second.write_bytes((other / "case00003.nii.gz").read_bytes())
    make_old(second)
    assert again(runner, jobs, out) == (names[1:2], names[1:2])
    (jobs[2].folder / "result.json").unlink()
    assert again(runner, jobs, out) == (names[2:], names[2:])
    third.unlink()
    looked, ran = again(runner, jobs, out)
    assert (looked, ran) == (names[2:], []), "an image that is gone is a row that failed"
    assert ",failed,case00002.nii.gz cannot be read" in (out / "cohort.csv").read_text(encoding="utf-8")


def test_a_file_that_was_just_written_is_not_trusted_by_its_time(
    runner: Runner, jobs: list[Job], tmp_path: Path
) -> None:  # fmt: skip
    """Within the clock's tick a file can change twice and bear one time."""
    file = next(iter(jobs[0].files.values()))
    file.touch()
    again(runner, jobs, tmp_path / "out")
    assert again(runner, jobs, tmp_path / "out") == ([jobs[0].name], [])


def test_a_journal_that_was_cut_costs_only_the_line_that_is_not_whole(
    runner: Runner, jobs: list[Job], tmp_path: Path
) -> None:  # fmt: skip
    out = tmp_path / "out"
    again(runner, jobs, out)
    whole = (out / "cohort.csv").read_bytes()
    journal = out / FILE
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    (out / "cases" / ".medseg-0123456789ab").mkdir()  # what a worker that was killed had half written
    told: list[str] = []
    assert again(runner, jobs, out, told.append) == ([jobs[2].name], [])
    assert any("1 of 3 lines" in words for words in told)
    assert (out / "cohort.csv").read_bytes() == whole
    assert [json.loads(line)["case"] for line in journal.read_bytes().splitlines()] == [job.name for job in jobs]
    assert not list((out / "cases").glob(".medseg-*"))


def test_a_case_that_was_run_often_has_one_line(runner: Runner, jobs: list[Job], tmp_path: Path) -> None:
    """Else the journal of a folder with failing cases grows with every run."""
    out, bad = tmp_path / "out", Job("bad", {"head CT": tmp_path / "none.nii"}, tmp_path / "out" / "cases" / "bad")
    for _ in range(3):
        again(runner, [jobs[0], bad], out)
    with Journal(out, print) as journal:
        assert [r["state"] for r in journal.records([jobs[0], bad])] == ["done", "failed"]
    assert len((out / FILE).read_bytes().splitlines()) == 2


CODE = """
import sys, time
from pathlib import Path
from medseg.cohort.lock import only_driver
with only_driver(Path(sys.argv[1]), print):
    print("inside", flush=True)
    time.sleep(600)
"""


def test_a_second_driver_is_refused_and_the_lock_of_a_dead_one_taken_over(tmp_path: Path) -> None:
    """Two drivers would write one case twice at a time; and nobody should have to remove a lock file by hand."""
    first = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None and first.stdout.readline() == "inside\n"
        with (
            pytest.raises(OutputError, match=f"at work in .* \\(process {first.pid} on "),
            only_driver(tmp_path, print),
        ):
            pass
    finally:
        first.kill()
        first.wait()
    told: list[str] = []
    with only_driver(tmp_path, told.append):
        assert len(told) == 1 and f"process {first.pid}" in told[0] and "did not end by itself" in told[0]
    with only_driver(tmp_path, told.append):
        assert len(told) == 1, "a driver that ended leaves nothing to be told"


def test_another_model_or_option_is_refused_before_anything_is_written(
    runner: Runner, jobs: list[Job], tmp_path: Path
) -> None:  # fmt: skip
    again(runner, jobs, tmp_path / "out")
    other = Runner("ich-compact", RunOptions(device="cpu", modality="CT", precision="float32"))
    with pytest.raises(OutputError, match="another model or of other options"):
        again(other, jobs, tmp_path / "out")
