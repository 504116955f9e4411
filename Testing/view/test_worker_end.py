"""The page's end of the worker: a file or a run that goes wrong must leave the page alive, and say why."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import load_model, phantoms, read_volume, run
from medseg.errors import Cancelled, MedSegError
from medseg.phantoms.dicom import write_dicom_series
from medseg.worker.transfer import result_from
from medseg_view.worker import WorkerProcess


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "medseg-view" / "medseg-case-1").mkdir(parents=True)
    return tmp_path / "medseg-view"


def test_a_run_through_the_worker_is_the_run(tmp_path: Path, home: Path) -> None:
    series = tmp_path / "series"
    write_dicom_series(phantoms.head_ct(3), series)
    folder, heard = home / "medseg-case-1", []

    async def both() -> dict[str, Any]:
        worker = WorkerProcess(home)
        try:
            read = await worker.ask("read", heard.append, folder=str(folder), path=str(series))
            return await worker.ask(
                "run", heard.append, folder=str(folder), model="ich-compact", options={}, inputs=[read["volume"]]
            )
        finally:
            await worker.close()

    there = result_from(asyncio.run(both()), folder)
    here = run(load_model("ich-compact"), read_volume(series))
    names = [c.name for c in here.tables["slices"].columns if c.type == "float"]
    for name in names:
        np.testing.assert_allclose(there.tables["slices"].column(name), here.tables["slices"].column(name), atol=1e-6)
    assert {"progress"} <= {message["type"] for message in heard}


def test_a_refusal_is_told_and_the_next_request_is_answered(tmp_path: Path, home: Path) -> None:
    broken = tmp_path / "broken.nii"
    broken.write_bytes(bytes(400))

    async def ask() -> dict[str, Any]:
        worker = WorkerProcess(home)
        try:
            with pytest.raises(MedSegError, match=r"broken\.nii"):
                await worker.ask("read", print, folder=str(home / "medseg-case-1"), path=str(broken))
            return await worker.ask("versions", print)
        finally:
            await worker.close()

    assert asyncio.run(ask())["report"]


def test_a_worker_that_dies_is_told_and_replaced(home: Path) -> None:
    async def ask() -> dict[str, Any]:
        worker = WorkerProcess(home)
        try:
            await worker.ask("check", print, model="ich-compact")
            assert worker._process is not None
            waiting = asyncio.create_task(worker.ask("devices", print))
            await asyncio.sleep(0)
            os.kill(worker._process.pid, signal.SIGKILL)
            with pytest.raises(MedSegError, match="ended by the system"):
                await waiting
            return await worker.ask("check", print, model="ich-compact")
        finally:
            await worker.close()

    assert asyncio.run(ask())["id"] == "ich-compact"


def test_cancel_ends_a_request_within_two_seconds_also_when_it_does_not_listen(home: Path) -> None:
    async def ask() -> float:
        worker = WorkerProcess(home)
        loop = asyncio.get_running_loop()
        try:
            await worker.ask("check", print, model="ich-compact")
            assert worker._process is not None
            os.kill(worker._process.pid, signal.SIGSTOP)  # as native code that does not return
            waiting = asyncio.create_task(worker.ask("devices", print))
            await asyncio.sleep(0.05)
            start = loop.time()
            stopping = asyncio.create_task(worker.cancel())
            with pytest.raises(Cancelled):
                await waiting
            needed = loop.time() - start
            await stopping
            return needed
        finally:
            await worker.close()

    assert asyncio.run(ask()) < 3.0


def test_should_the_page_be_killed_the_worker_removes_what_the_visitor_gave(home: Path) -> None:
    """Images of a patient must not stay in the temporary folder."""
    (home / "medseg-case-1" / "volume.raw").write_bytes(b"voxels")

    async def ask() -> None:
        worker = WorkerProcess(home)
        await worker.ask("check", print, model="ich-compact")
        assert worker._process is not None and worker._process.stdin is not None
        worker._process.stdin.close()  # what the system does with the pipe of a killed process
        await worker._process.wait()

    asyncio.run(ask())
    assert not home.exists()
