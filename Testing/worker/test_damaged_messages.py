"""What comes over the worker's line is not trusted: each request is answered, and only its own folders are removed."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.worker import process
from medseg.worker.process import Channel, Worker
from medseg.worker.requests import exchange_folder_of, run_options_of, text_of
from medseg.worker.transfer import map_array, result_from, save_array


def told(*lines: str | bytes) -> list[dict[str, Any]]:
    out = io.BytesIO()
    worker = Worker(Channel(out))
    for line in lines:
        if worker.take(line):
            worker.answer_next()
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    "line",
    [b"{", b"\xff\xfe", "[]", "7", '{"id": 1}', '{"command": ["run"]}', '{"command": "expect", "folder": "/"}',
     '{"command": "expect"}', '{"command": "cancel", "run": "x"}', '{"command": "cancel", "run": {}}', "[" * 9000],
)  # fmt: skip
def test_a_message_that_is_none_is_told_and_the_next_is_answered(line: str | bytes) -> None:
    said = told(line, '{"id": 2, "command": "dance"}')
    assert [m["type"] for m in said] == ["error", "error"]
    assert said[0]["kind"] == "InputError" and said[1]["id"] == 2 and "knows no command" in said[1]["message"]


@pytest.mark.parametrize(
    "request_of",
    [{"folder": "/home"}, {"folder": "relative/medseg-x"}, {"folder": 3}, {"options": {"batch": -1}}, {"inputs": 3},
     {"options": {"spam": 1}}, {"options": []}, {"inputs": [{"array": {}}]}, {"model": None}],
)  # fmt: skip
def test_a_run_that_is_asked_for_wrongly_is_no_fault_of_the_worker(tmp_path: Path, request_of: dict[str, Any]) -> None:
    folder = tmp_path / "medseg-exchange"
    folder.mkdir()
    request = {"id": 1, "command": "run", "model": "x", "folder": str(folder), "inputs": [], "options": {}}
    (said,) = told(json.dumps(request | request_of))
    assert said["type"] == "error" and said["kind"] in ("InputError", "ModelError"), said


def test_a_full_disk_is_no_fault_of_medseg_and_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "labels")

    def full(request: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr(process, "run_options_of", full)
    monkeypatch.setattr(process, "exchange_folder_of", lambda request: tmp_path)
    (said,) = told(json.dumps({"id": 1, "command": "run", "folder": str(tmp_path)}))
    assert said["kind"] == "OutputError" and file in said["message"] and "TMPDIR" in said["message"]


def test_options_are_given_on_as_the_pipeline_wants_them() -> None:
    options = {"device": "cpu", "patch": [8, 16, 32], "windows": [[40, 80]], "batch": None, "choices": {"a": "b"}}
    assert run_options_of({"options": options}) == {
        "device": "cpu", "patch": (8, 16, 32), "windows": ((40.0, 80.0),), "choices": {"a": "b"}
    }  # fmt: skip
    with pytest.raises(InputError, match="windows"):
        run_options_of({"options": {"windows": [[float("nan"), 1]]}})
    with pytest.raises(InputError, match="model"):
        text_of({"model": "a\0b"}, "model")


def test_only_folders_of_ours_are_taken_since_they_are_removed(tmp_path: Path) -> None:
    (tmp_path / "medseg-1").mkdir()
    assert exchange_folder_of({"folder": str(tmp_path / "medseg-1")}) == tmp_path / "medseg-1"
    (tmp_path / "medseg-2").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "medseg-2", Path("medseg-3")):
        with pytest.raises(InputError, match="folder"):
            exchange_folder_of({"folder": str(folder)})


def test_arrays_are_mapped_from_the_folder_alone(tmp_path: Path) -> None:
    message = save_array(np.zeros((2, 3), np.uint8), tmp_path, "a.raw")
    assert map_array(message, tmp_path).shape == (2, 3)
    for change in ({"file": "../a.raw"}, {"shape": [-2, -3]}, {"dtype": "O"}, {"shape": [2, 4]}):
        with pytest.raises(ValueError):
            map_array(message | change, tmp_path)
    with pytest.raises(ValueError, match="damaged"):
        result_from({"grid": None}, tmp_path)
