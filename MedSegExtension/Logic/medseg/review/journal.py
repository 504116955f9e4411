"""Each step of a review, written down when it is done, so that a killed program loses none of them.

``steps.jsonl`` has one step a line, the first line says of which mask they are. Done again in their order on that mask
they give the same review, numbers of findings and undo included. A line that was cut off by a crash is left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, OutputError
from ..geometry.components import Box, difference
from ..output.files import save_text
from .decisions import Review

FILE = "steps.jsonl"
_VERSION = 1
#: A drawing that unpacks to more than this is damaged: no step holds more than one label array.
_MOST_BYTES = 1 << 33


def fingerprint(review: Review) -> str:
    """Of the mask (labels, names, grid) and its findings: a review goes on only with the very mask it was begun on."""
    grid = review.grid
    digest = hashlib.sha256(str((grid.size, grid.affine_ras.round(4).tolist())).encode())
    for layer in review.model.layers:
        digest.update(str([(c.value, c.name) for c in layer.classes]).encode())
        digest.update(zlib.crc32(np.ascontiguousarray(layer.labels)).to_bytes(4, "big"))
    digest.update(str([(f.id, f.name, f.voxels, f.box) for f in review.findings.values()]).encode())
    return digest.hexdigest()[:32]


class Journal:
    """Does the steps of a `Review` and writes each down, in ``folder``.

    Steps that cannot be written (a full disk) are done all the same: ``problem`` says what is wrong, "" where nothing.
    """

    def __init__(self, folder: str | Path, review: Review) -> None:
        """``review``: new, without a step."""
        self.review = review
        self.problem = ""
        self._path = Path(folder) / FILE
        self._mask = fingerprint(review)
        self._begun = False

    # -- steps ------------------------------------------------------------------------------------------------

    def decide(self, id: int, state: Any) -> None:
        """As `Review.decide`."""
        self.review.decide(id, state)
        self._write({"decide": [id, state]})

    def relabel(self, id: int, name: str) -> None:
        """As `Review.relabel`."""
        self.review.relabel(id, name)
        self._write({"relabel": [id, name]})

    def edited(self, layer: int, labels: npt.NDArray[Any]) -> list[int]:
        """As `Review.edited`; where nothing differs nothing is done."""
        current = self.review.labels[layer]
        if labels.shape != current.shape:
            raise InputError(f"The drawing of shape {labels.shape} does not fit the volume's {current.shape}.")
        box = difference(labels, current)
        if box is None:
            return []
        drawn = np.ascontiguousarray(labels[box]).astype(current.dtype)
        new = self.review.edited_in(layer, box, drawn)
        self._write({"draw": {"layer": layer, **_packed(drawn, box)}})
        return new

    def undo(self) -> bool:
        """As `Review.undo`."""
        done = self.review.undo()
        if done:
            self._write({"undo": 1})
        return done

    def redo(self) -> bool:
        """As `Review.redo`."""
        done = self.review.redo()
        if done:
            self._write({"redo": 1})
        return done

    # -- file -------------------------------------------------------------------------------------------------

    def resume(self) -> list[str]:
        """Do the steps again that are written down; sentences of what could not be.

        A journal of another mask is put aside under another name, and nothing of it is done.
        """
        if not self._path.is_file():
            return []
        steps, cut = _read(self._path)
        if not steps or steps[0].get("mask") != self._mask:
            aside = _put_aside(self._path)
            return [
                "The mask is not the one that was reviewed before. The steps of the earlier review were kept as "
                f"{aside}; decisions were taken over where a finding lies at the same place."
            ]
        self._begun = True
        done = 1
        try:
            for step in steps[1:]:
                _again(self.review, step)
                done += 1
        except (InputError, KeyError, TypeError, ValueError, IndexError, zlib.error) as error:
            aside = _put_aside(self._path)
            self._begun = False
            self._rewrite(steps[:done])
            where = f"Step {done} of {len(steps) - 1} is damaged ({error})"
            return [f"{where}; the steps before it were done. All of them are kept as {aside}."]
        if cut:
            self._rewrite(steps)
            return ["The last step was cut off when the program ended, and is left out."]
        return []

    def _rewrite(self, steps: Sequence[dict[str, Any]]) -> None:
        try:
            save_text(self._path, "".join(_line(step) for step in steps))
            self._begun = True
        except OutputError as error:
            self.problem = str(error)

    def _write(self, step: dict[str, Any]) -> None:
        head = {"medseg_steps": _VERSION, "mask": self._mask}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a" if self._begun else "w", encoding="utf-8", newline="") as file:
                file.write(("" if self._begun else _line(head)) + _line(step))
                file.flush()
                os.fsync(file.fileno())
            self._begun = True
        except OSError as error:
            self.problem = f"{FILE} cannot be written: {error.strerror or error}; is the disk full?"


def _line(step: dict[str, Any]) -> str:
    return json.dumps(step, separators=(",", ":"), allow_nan=False) + "\n"


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The steps, and whether something at the end was cut off. Raises `InputError` for a file of a newer MedSeg."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path.name} of {path.parent.name} cannot be read ({type(error).__name__}).") from error
    steps: list[dict[str, Any]] = []
    for line in lines[:-1]:
        try:
            step = json.loads(line)
        except (ValueError, RecursionError):
            return steps, True
        if not isinstance(step, dict):
            return steps, True
        steps.append(step)
    version = steps[0].get("medseg_steps") if steps else _VERSION
    if isinstance(version, int) and version > _VERSION:
        raise InputError(f"{path.name} of {path.parent.name} was written by a newer MedSeg; update MedSeg.")
    return steps, bool(lines[-1])


def _put_aside(path: Path) -> str:
    n = 1
    while (aside := path.with_name(f"steps-{n}.jsonl")).exists():
        n += 1
    path.replace(aside)
    return aside.name


def _packed(labels: npt.NDArray[Any], box: Box) -> dict[str, Any]:
    packed = base64.b85encode(zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)).decode("ascii")
    return {"box": [[s.start, s.stop] for s in box], "type": labels.dtype.str, "labels": packed}


def _again(review: Review, step: dict[str, Any]) -> None:
    if "decide" in step:
        review.decide(int(step["decide"][0]), step["decide"][1])
    elif "relabel" in step:
        review.relabel(int(step["relabel"][0]), str(step["relabel"][1]))
    elif "draw" in step:
        drawn = step["draw"]
        layer, box = int(drawn["layer"]), tuple(slice(int(a), int(b)) for a, b in drawn["box"])
        current = review.labels[layer]
        shape = current[box].shape
        packed = base64.b85decode(drawn["labels"])
        kind = np.dtype(drawn["type"])
        size = int(np.prod(shape)) * kind.itemsize
        if kind.kind not in "bu" or size > _MOST_BYTES:
            raise ValueError("no labels")
        plain = zlib.decompressobj().decompress(packed, size + 1)
        if len(plain) != size:
            raise ValueError("a drawing of another size")
        review.edited_in(layer, box, np.frombuffer(plain, kind).reshape(shape))  # type: ignore[arg-type]
    elif "undo" in step:
        review.undo()
    elif "redo" in step:
        review.redo()
    else:
        raise ValueError("an unknown step")
