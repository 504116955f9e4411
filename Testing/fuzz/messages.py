"""What two processes say to each other, tables in files, and settings kept in a scene."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.result import Column, Layer, Result, SegmentClass, Table
from medseg.worker.process import Channel, Worker
from medseg.worker.transfer import result_from, result_message, save_array, volume_message

from .kind import Files, Kind

_GRID = Grid((7, 6, 5), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
_TABLE = Table(
    "lesions",
    (Column("name", "str"), Column("voxels", "int"), Column("volume", "float", "ml"), Column("kept", "bool")),
    (("a", 3, 0.25, True), ("=b", 1, 1.5, False), ("c", None, None, True)),
)


class Broken(Exception):
    """The worker gave no answer, or not the one that its protocol promises."""


def _files(make: Any) -> Files:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        message = make(folder)
        return {
            **{path.name: path.read_bytes() for path in folder.iterdir()},
            "message.json": json.dumps(message).encode(),
        }


def _request(folder: Path) -> dict[str, Any]:
    volume = Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7), _GRID, "MR", "head")
    return {
        "id": 3,
        "command": "run",
        "model": "nothing-of-this-name",
        "folder": "EXCHANGE",
        "options": {"device": "cpu", "batch": 2, "patch": [16, 16, 16], "windows": [[40, 80]], "precision": "auto"},
        "inputs": [volume_message(volume, save_array(volume.array, folder, "input0.raw"))],
    }


def _other_request(folder: Path) -> dict[str, Any]:
    return {
        "id": 4,
        "command": "check",
        "model": "nothing-of-this-name",
        "file": "x",
        "answers": {"a": "b"},
        "recipe": None,
    }


def _answer(folder: Path) -> Any:
    """The worker answers each request with exactly one result, answer or error, and stays alive."""
    text = (folder / "message.json").read_bytes()
    out = io.BytesIO()
    worker = Worker(Channel(out))
    with tempfile.TemporaryDirectory(prefix="medseg-") as exchange:
        for path in folder.iterdir():
            shutil.copy(path, exchange)
        if not worker.take(text.replace(b"EXCHANGE", exchange.encode())):
            return
        worker.answer_next()
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    ends = [m for m in said if m["type"] in ("result", "answer", "error")]
    if len(ends) != 1 or ends[0].get("kind") == "Fault":
        raise Broken(str(ends)[:160])


def _result(folder: Path) -> dict[str, Any]:
    classes = (SegmentClass(1, "a", (1.0, 0.0, 0.0)),)
    layer = Layer(np.ones((5, 6, 7), np.uint8), classes)
    probabilities = {"a": np.ones((5, 6, 7), np.float16)}
    return result_message(Result(_GRID, (layer,), probabilities, {"lesions": _TABLE}, {"model": "m"}), folder)


def _read_result(folder: Path) -> Any:
    text = (folder / "message.json").read_bytes()
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None  # the panel's line reader refuses it before
    return result_from(message, folder)


def _table() -> Files:
    return {"lesions.csv": _TABLE.to_csv().encode()}


def _read_table(folder: Path) -> Any:
    text = (folder / "lesions.csv").read_text(encoding="utf-8", errors="replace")
    return Table.from_csv("lesions", _TABLE.columns, text)


KINDS = [
    Kind("worker-run", "messages", lambda: _files(_request), _answer, json=True, damage=("message.json",)),
    Kind("worker-query", "messages", lambda: _files(_other_request), _answer, json=True, damage=("message.json",)),
    Kind(
        "worker-result",
        "messages",
        lambda: _files(_result),
        _read_result,
        json=True,
        damage=("message.json",),
        allowed=(ValueError, OSError),
    ),
    Kind("table", "messages", _table, _read_table, allowed=(ValueError,)),
]
