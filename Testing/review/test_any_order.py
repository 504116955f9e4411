"""Any order of steps, versions, restarts and crashes: what is on disk is what the reader decided, voxel for voxel.

The expectation is kept apart from the review: label arrays by the rules that the reader is told, changed here.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from medseg.geometry.grid import Grid
from medseg.io import Segmentation, read_segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import MASK, CaseReview, load_version, read_case, save_version, take_decisions, write_case
from medseg.review.decisions import STATES, Review
from medseg.review.journal import FILE
from medseg.review.resuming import OpenCase, open_review, take_mask

GRID = Grid((8, 7, 5), (1.0, 1.0, 2.0), (5.0, -6.0, 7.0), np.eye(3))
LESIONS = (
    SegmentClass(1, "normal", (0.0, 0.5, 1.0), lesion=True),
    SegmentClass(2, "abnormal", (1.0, 0.0, 0.0), lesion=True),
    SegmentClass(3, "vessel", (0.0, 1.0, 0.0)),
)
OVER = (SegmentClass(1, "core", (1.0, 1.0, 0.0), lesion=True),)
Labels = npt.NDArray[Any]
#: What a reader has: the labels of each layer, the state and class name of each finding.
State = tuple[list[Labels], dict[int, Any], dict[int, frozenset[int]]]


def mask(seed: int) -> Segmentation:
    rng = np.random.default_rng(seed)
    one = np.where(rng.random(GRID.shape) < 0.08, rng.integers(1, 4, GRID.shape), 0).astype(np.uint8)
    two = (rng.random(GRID.shape) < 0.03).astype(np.uint8)
    return Segmentation(GRID, (Layer(one, LESIONS), Layer(two, OVER)), "mask.seg.nrrd")


class Reader:
    """A reader of one case, for hours."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.choose = folder, random.Random(seed)
        self.mask = mask(seed)
        self._first = [layer.labels.copy() for layer in self.mask.layers]
        self.opened = self._open()
        self.labels = [layer.labels.copy() for layer in self.mask.layers]
        self.done: list[State] = []
        self.undone: list[State] = []
        self.saved: list[list[Labels]] = []

    def _open(self) -> OpenCase:
        return open_review(self.folder, Review(self.mask), CaseReview("case"))

    @property
    def review(self) -> Review:
        return self.opened.review

    def _voxels(self) -> dict[int, frozenset[int]]:
        """The flat indices of the voxels of each finding."""
        found = {}
        for id, f in self.review.findings.items():
            whole = np.zeros(GRID.shape, bool)
            whole[f.slices] = self.review.mask(id)
            found[id] = frozenset(np.flatnonzero(whole).tolist())
        return found

    def _state(self) -> State:
        return [a.copy() for a in self.labels], dict(self.review.decisions), self._voxels()

    def _pick(self) -> int:
        return self.choose.choice(sorted(self.review.findings))

    def _step(self, before: State, steps: int) -> None:
        """The review has a step more, or there was nothing to do."""
        if self.review.steps > steps:
            self.done.append(before)
            self.undone.clear()

    # -- what a reader does -----------------------------------------------------------------------------------

    def decide(self) -> None:
        if not self.review.findings:
            return
        state: Any = self.choose.choice(("", "rejected", *STATES))
        id, before, steps = self._pick(), self._state(), self.review.steps
        finding = self.review.findings[id]
        name = self.review.class_of(id)
        value = next(c.value for c in self.mask.layers[finding.layer].classes if c.name == name)
        flat = self.labels[finding.layer].reshape(-1)
        flat[sorted(before[2][id])] = 0 if state == "rejected" else value
        self.opened.journal.decide(id, state)
        self._step(before, steps)

    def relabel(self) -> None:
        if not self.review.findings:
            return
        id, before, steps = self._pick(), self._state(), self.review.steps
        finding = self.review.findings[id]
        chosen = self.choose.choice(self.mask.layers[finding.layer].classes)
        self.labels[finding.layer].reshape(-1)[sorted(before[2][id])] = chosen.value
        self.opened.journal.relabel(id, chosen.name)
        assert self.review.class_of(id) == chosen.name and self.review.decision(id).state == "accepted"
        self._step(before, steps)

    def draw(self) -> None:
        choose, layer = self.choose, self.choose.randrange(2)
        before, steps = self._state(), self.review.steps
        value = choose.choice([0, *(c.value for c in self.mask.layers[layer].classes)])
        beside = choose.choice([None, *(f for f in self.review.findings.values() if f.layer == layer)])
        box = []
        for n, size in enumerate(GRID.shape):
            start = choose.randrange(size) if beside is None else max(0, beside.box[n][0] - choose.randrange(2))
            box.append(slice(start, start + choose.randint(1, 3)))
        drawn = self.labels[layer].copy()
        drawn[tuple(box)] = value
        self.labels[layer] = drawn.copy()
        self.opened.journal.edited(layer, drawn)
        self._step(before, steps)

    def undo(self) -> None:
        now = self._state()
        assert self.opened.journal.undo() == bool(self.done)
        if self.done:
            self.undone.append(now)
            self._back_to(self.done.pop())

    def redo(self) -> None:
        now = self._state()
        assert self.opened.journal.redo() == bool(self.undone)
        if self.undone:
            self.done.append(now)
            self._back_to(self.undone.pop())

    def _back_to(self, state: State) -> None:
        self.labels = [a.copy() for a in state[0]]
        assert self.review.decisions == state[1] and self._voxels() == state[2]

    def save(self) -> None:
        take_decisions(self.opened.kept, self.review)
        save_version(self.folder, self.opened.kept, self.review.reviewed())
        self.saved.append([a.copy() for a in self.labels])
        self._is(read_segmentation(self.folder / MASK), self.labels)

    def take_a_version_back(self) -> None:
        if not self.saved:
            return
        number = self.choose.randint(1, len(self.saved))
        version = load_version(self.folder, self.opened.kept, number)
        self._is(version, self.saved[number - 1])
        before, wanted = self._state(), self.saved[number - 1]
        differ = [n for n, (a, b) in enumerate(zip(self.labels, wanted, strict=True)) if not np.array_equal(a, b)]
        assert take_mask(self.opened.journal, version) == []
        # A step for each layer that changed.
        for n in differ:
            self.done.append(before if n == differ[0] else None)  # type: ignore[arg-type]
        self.labels = [a.copy() for a in wanted]
        if differ:
            self.undone.clear()
        if len(differ) > 1:  # between the two steps: known only by undoing
            self.opened.journal.undo()
            middle = [self.review.labels[0].copy(), self.review.labels[1].copy()]
            self.labels, after = middle, self.labels
            self.done[-1] = self._state()
            self.opened.journal.redo()
            self.labels = after

    # -- what the world does ----------------------------------------------------------------------------------

    def leave_and_come_back(self) -> None:
        """Also without a last word (killed)."""
        if self.choose.random() < 0.5:
            take_decisions(self.opened.kept, self.review)
            write_case(self.folder, self.opened.kept)
        before = self.review.findings, self.review.decisions, self._voxels()
        kept = read_case(self.folder)
        self.opened = self._open()
        assert self.opened.warnings == []
        assert (self.review.findings, self.review.decisions, self._voxels()) == before
        assert len((kept or CaseReview("case")).versions) == len(self.saved)

    def killed_while_a_step_is_written(self) -> None:
        """The last line is cut anywhere: that step is lost, and nothing else."""
        path = self.folder / FILE
        whole = path.read_bytes() if path.is_file() else b""
        before, steps = self._state(), self.review.steps
        if self.review.findings:
            id = min(self.review.findings)
            self.opened.journal.decide(id, "uncertain" if self.review.decision(id).state != "uncertain" else "")
        line = path.read_bytes()[len(whole) :] if path.is_file() else b""
        path.write_bytes(whole + line[: self.choose.randrange(max(1, len(line)))])
        self.opened = self._open()
        assert self.review.steps == steps and self.review.decisions == before[1] and self._voxels() == before[2]

    # -- what always holds ------------------------------------------------------------------------------------

    def the_voxels_are_those_that_were_decided(self) -> None:
        for mine, theirs in zip(self.labels, self.review.labels, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        for layer, original in zip(self.mask.layers, self._first, strict=True):
            np.testing.assert_array_equal(layer.labels, original)

    def each_finding_is_where_the_list_says(self) -> None:
        taken: list[set[int]] = [set(), set()]
        for id, voxels in self._voxels().items():
            f = self.review.findings[id]
            assert len(voxels) == f.voxels > 0, f"finding {id} lists {f.voxels} voxels and has {len(voxels)}"
            assert not voxels & taken[f.layer]
            taken[f.layer] |= voxels
            where = np.array(np.unravel_index(sorted(voxels), GRID.shape))
            assert tuple((int(a.min()), int(a.max()) + 1) for a in where) == f.box
            here = set(self.labels[f.layer].reshape(-1)[sorted(voxels)].tolist())
            if self.review.decision(id).state == "rejected":
                assert here == {0}
            else:
                value = next(c.value for c in self.mask.layers[f.layer].classes if c.name == self.review.class_of(id))
                assert here == {value}
        for n, labels in enumerate(self.labels):
            lesions = [c.value for c in self.mask.layers[n].classes if c.lesion]
            lost = set(np.flatnonzero(np.isin(labels, lesions)).tolist()) - taken[n]
            assert not lost, "voxels of a lesion that are no finding"

    def the_figures_are_those_of_all_voxels(self) -> None:
        found = iter(self.review.changes())
        for mine, layer in zip(self.labels, self.mask.layers, strict=True):
            for c in layer.classes:
                change, model = next(found), layer.labels == c.value
                now = mine == c.value
                assert (change.added, change.removed) == (int((now & ~model).sum()), int((model & ~now).sum()))

    def _is(self, found: Segmentation, wanted: list[Labels]) -> None:
        for layer, labels in zip(self.mask.layers, wanted, strict=True):
            for c in layer.classes:
                np.testing.assert_array_equal(found.mask(c.name), labels == c.value)


#: What a reader may do, and how often.
WORK = {"decide": 4, "relabel": 2, "draw": 6, "undo": 3, "redo": 2, "save": 1, "take_a_version_back": 1,
        "leave_and_come_back": 1, "killed_while_a_step_is_written": 1}  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_any_work_in_any_order_is_on_disk_as_it_was_decided(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # nobody cuts the power here
    reader = Reader(tmp_path, seed)
    names, weights = list(WORK), list(WORK.values())
    done = []
    for _ in range(40):
        done += reader.choose.choices(names, weights)
        getattr(reader, done[-1])()
        try:
            reader.the_voxels_are_those_that_were_decided()
            reader.each_finding_is_where_the_list_says()
            reader.the_figures_are_those_of_all_voxels()
        except AssertionError as error:
            raise AssertionError(f"after {', '.join(done)}: {error}") from error
