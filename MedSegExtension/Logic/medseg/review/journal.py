"""Each step of a review, written down when it is done, so that a killed program loses none of them.

``steps.jsonl`` has one step a line, the first line says of which mask they are. Done again in their order on that mask
they give the same review, numbers of findings and undo included. A line that was cut off by a crash is left out. Steps
that could not be written follow with the next one that can, so that none is missing in between.
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

from ..errors import InputError, OutputError, not_written
from ..geometry.components import Box, difference
from ..output.files import save_text
from .decisions import Review
from .slices import SliceReview

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
    They are written with the first later step that can be.
    """

    def __init__(self, folder: str | Path, review: Review) -> None:
        """``review``: new, without a step."""
        self.review = review
        self.problem = ""
        self._path = Path(folder) / FILE
        self._mask = fingerprint(review)
        self._begun = False
        self._due: list[str] = []
        #: Bytes of whole steps in the file, and its size when it was last looked at (None: after a write that failed).
        self._size = 0
        self._seen: int | None = 0

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

    def add_slices(self, name: str, start: int, stop: int) -> int:
        """As `slices.SliceReview.add`."""
        id = self._of_slices().add(name, start, stop)
        self._write({"add": [name, start, stop]})
        return id

    def stretch(self, id: int, start: int, stop: int) -> None:
        """As `slices.SliceReview.stretch`; where nothing differs nothing is done."""
        review = self._of_slices()
        if (start, stop) != review.rows_of(id):
            review.stretch(id, start, stop)
            self._write({"stretch": [id, start, stop]})

    def at_threshold(self, threshold: float) -> None:
        """As `slices.SliceReview.at_threshold`."""
        review = self._of_slices()
        before = review.steps
        review.at_threshold(threshold)
        if review.steps != before:
            self._write({"threshold": threshold})

    def _of_slices(self) -> SliceReview:
        return _of_slices(self.review)

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
        try:
            if not self._path.is_file():
                return []
            return self._resumed(*_read(self._path))
        except OSError as error:
            words = error.strerror or error
            raise OutputError(f"{FILE} of {self._path.parent.name} cannot be read or put aside: {words}.") from error

    def _resumed(self, steps: Sequence[dict[str, Any]], bad: int, after: int) -> list[str]:
        """``steps``: those before the first bad line, if there are ``bad`` ones; ``after``: lines behind it."""
        if not steps and not after:  # killed before the first step was whole
            self._seen = self._path.stat().st_size
            return ["The first step was cut off when the program ended, and is left out."] if bad else []
        if not steps or steps[0].get("mask") != self._mask:
            aside = _put_aside(self._path)
            if not steps:
                return [
                    f"The steps of the earlier review are damaged and could not be done; they were kept as {aside}."
                ]
            return [
                "The mask is not the one that was reviewed before. The steps of the earlier review were kept as "
                f"{aside}; decisions were taken over where a finding lies at the same place."
            ]
        done, why = 1, ""
        try:
            for step in steps[1:]:
                _again(self.review, step)
                done += 1
        except (InputError, KeyError, TypeError, ValueError, IndexError, zlib.error) as error:
            why = f"({error})"
        if why or after:
            total = len(steps) - 1 + bad + after
            aside = _put_aside(self._path)
            self._rewrite(steps[:done])
            where = f"Step {done} of {total} is damaged {why or '(no line of its form)'}"
            return [f"{where}; the steps before it were done. All of them are kept as {aside}."]
        self._begun = True
        if bad:
            self._rewrite(steps)
            return ["The last step was cut off when the program ended, and is left out."]
        self._size = self._seen = self._path.stat().st_size
        return []

    def _rewrite(self, steps: Sequence[dict[str, Any]]) -> None:
        try:
            save_text(self._path, "".join(_line(step) for step in steps))
            self._begun = True
            self._size = self._seen = self._path.stat().st_size
        except (OSError, OutputError) as error:
            self._due = [_line(step) for step in steps[1:]]
            self.problem = str(error)

    def _write(self, step: dict[str, Any]) -> None:
        self._due.append(_line(step))
        head = "" if self._begun else _line({"medseg_steps": _VERSION, "mask": self._mask})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file:
                if self._seen not in (None, file.seek(0, os.SEEK_END)):
                    self.problem = (
                        f"{FILE} was changed by another program: this case is open twice. Close it in one of them; "
                        "what you decide here is kept when you save it."
                    )
                    return
                self._seen = None
                file.truncate(self._size)  # what a write that failed half way left behind
                file.write((head + "".join(self._due)).encode())
                file.flush()
                os.fsync(file.fileno())
                self._size = self._seen = file.tell()
            self._begun, self._due, self.problem = True, [], ""
        except OSError as error:
            self.problem = not_written(self._path, error)


def _line(step: dict[str, Any]) -> str:
    return json.dumps(step, separators=(",", ":"), allow_nan=False) + "\n"


def _read(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    """The steps before the first line that is none, whether there is one (1), and how many lines follow it.

    Raises `InputError` for a file of a newer MedSeg, `OSError` where it cannot be read.
    """
    lines = path.read_bytes().split(b"\n")
    whole, rest = lines[:-1], lines[-1]
    steps: list[dict[str, Any]] = []
    for line in whole:
        try:
            step = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(step, dict):
            break
        steps.append(step)
    version = steps[0].get("medseg_steps") if steps else _VERSION
    if isinstance(version, int) and version > _VERSION:
        raise InputError(f"{path.name} of {path.parent.name} was written by a newer MedSeg; update MedSeg.")
    bad = len(whole) - len(steps) + bool(rest)
    return steps, min(bad, 1), max(0, bad - 1)


def _put_aside(path: Path) -> str:
    n = 1
    while (aside := path.with_name(f"steps-{n}.jsonl")).exists():
        n += 1
    path.replace(aside)
    return aside.name


def _packed(labels: npt.NDArray[Any], box: Box) -> dict[str, Any]:
    packed = base64.b85encode(zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)).decode("ascii")
    return {"box": [[s.start, s.stop] for s in box], "type": labels.dtype.str, "labels": packed}


def _of_slices(review: Review) -> SliceReview:
    """The review of a classifier's slices. Raises `InputError` where it is one of masks."""
    if not isinstance(review, SliceReview):
        raise InputError("A mask has no slices with scores.")
    return review


def _again(review: Review, step: dict[str, Any]) -> None:
    if "decide" in step:
        review.decide(int(step["decide"][0]), step["decide"][1])
    elif "relabel" in step:
        review.relabel(int(step["relabel"][0]), str(step["relabel"][1]))
    elif "add" in step:
        name, start, stop = step["add"]
        _of_slices(review).add(str(name), int(start), int(stop))
    elif "stretch" in step:
        id, start, stop = map(int, step["stretch"])
        _of_slices(review).stretch(id, start, stop)
    elif "threshold" in step:
        _of_slices(review).at_threshold(float(step["threshold"]))
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
