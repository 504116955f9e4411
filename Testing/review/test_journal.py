"""Steps are written down as they are done: a reader whose Slicer is killed loses neither a decision nor a drawing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.geometry.grid import Grid
from medseg.io import Segmentation
from medseg.result import Column, Layer, SegmentClass, Table
from medseg.review.case_file import CaseReview, load_version, save_version, take_decisions, write_case
from medseg.review.decisions import STATES, Review
from medseg.review.journal import FILE, Journal
from medseg.review.resuming import OpenCase, open_review, take_mask
from medseg.review.slices import SliceReview, slice_findings

GRID = Grid((20, 18, 9), (1.0, 1.0, 2.0), (5.0, -6.0, 7.0), np.eye(3))
CLASSES = (
    SegmentClass(1, "normal", (0.0, 0.5, 1.0), lesion=True),
    SegmentClass(2, "abnormal", (1.0, 0.0, 0.0), lesion=True),
)


def mask(seed: int = 0) -> Segmentation:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(GRID.shape) < 0.05, rng.integers(1, 3, GRID.shape), 0).astype(np.uint8)
    return Segmentation(GRID, (Layer(labels, CLASSES),), "mask.seg.nrrd")


def begin(folder: Path, segmentation: Segmentation) -> OpenCase:
    return open_review(folder, Review(segmentation), CaseReview("case"))


def some_steps(journal: Journal, seed: int, count: int) -> None:
    """Decisions, drawings, undo and redo, as a restless reader does them."""
    choose = random.Random(seed)
    review = journal.review
    for _ in range(count):
        step = choose.choice(["decide", "relabel", "draw", "draw", "undo", "redo"])
        ids = sorted(review.findings)
        if step == "decide" and ids:
            journal.decide(choose.choice(ids), choose.choice(["", *STATES]))
        elif step == "relabel" and ids:
            journal.relabel(choose.choice(ids), choose.choice(["normal", "abnormal"]))
        elif step == "draw":
            drawn = review.labels[0].copy()
            k, j, i = (choose.randrange(n - 3) for n in drawn.shape)
            drawn[k : k + 2, j : j + 3, i : i + 3] = choose.choice([0, 1, 2])
            journal.edited(0, drawn)
        elif step == "undo":
            journal.undo()
        elif step == "redo":
            journal.redo()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_reopened_review_is_the_one_that_was_left(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("case")
    first = begin(folder, mask())
    some_steps(first.journal, seed, 25)
    again = begin(folder, mask())
    assert again.warnings == []
    assert (again.review.labels[0] == first.review.labels[0]).all()
    assert again.review.findings == first.review.findings and again.review.decisions == first.review.decisions
    while first.review.undo():
        assert again.review.undo(), "undo without limit holds across a restart"
        assert (again.review.labels[0] == first.review.labels[0]).all()
    assert not again.review.undo()


def test_a_line_cut_off_by_a_crash_costs_that_step_only(tmp_path: Path) -> None:
    first = begin(tmp_path, mask())
    some_steps(first.journal, 3, 12)
    kept = first.review.labels[0].copy(), dict(first.review.decisions)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + b'{"decide":[1,"acc')
    again = begin(tmp_path, mask())
    assert len(again.warnings) == 1 and "cut off" in again.warnings[0]
    assert (again.review.labels[0] == kept[0]).all() and again.review.decisions == kept[1]
    again.journal.decide(min(again.review.findings), "uncertain")
    assert begin(tmp_path, mask()).warnings == [], "the file is whole again"


@pytest.mark.parametrize(
    "damage",
    [b'{"decide":[99999,"accepted"]}\n', b'{"draw":{"layer":0,"box":[[0,1],[0,1],[0,1]],"type":"|u1","labels":"00"}}\n',
     b'{"draw":{"layer":7}}\n', b'{"dance":1}\n',
     b'{"draw":{"layer":0,"box":[[0,99],[0,1]],"type":"|O","labels":""}}\n'],
)  # fmt: skip
def test_a_damaged_step_ends_the_repetition_and_says_so(tmp_path: Path, damage: bytes) -> None:
    """The steps before it are the reader's work; a program that stopped here would lose all of them."""
    first = begin(tmp_path, mask())
    first.journal.decide(1, "rejected")
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + damage)
    again = begin(tmp_path, mask())
    assert "damaged" in again.warnings[0] and "steps-1.jsonl" in again.warnings[0]
    assert again.review.decision(1).state == "rejected"
    assert begin(tmp_path, mask()).review.decision(1).state == "rejected"


def test_steps_of_another_mask_are_never_done_on_this_one(tmp_path: Path) -> None:
    first = begin(tmp_path, mask())
    first.journal.decide(1, "rejected")
    take_decisions(first.kept, first.review)
    write_case(tmp_path, first.kept)
    other = begin(tmp_path, mask(1))
    assert "not the one" in other.warnings[0] and (tmp_path / "steps-1.jsonl").is_file()
    assert (other.review.labels[0] == mask(1).layers[0].labels).all()


def test_without_the_steps_decisions_and_the_newest_mask_come_back(tmp_path: Path) -> None:
    """A case that was copied from another computer, where only its two published files came along."""
    first = begin(tmp_path, mask())
    some_steps(first.journal, 5, 20)
    take_decisions(first.kept, first.review)
    save_version(tmp_path, first.kept, first.review.reviewed())
    (tmp_path / FILE).unlink()
    again = begin(tmp_path, mask())
    assert (again.review.labels[0] == first.review.labels[0]).all()
    before = {id: d for id, d in first.review.decisions.items() if id in mask_ids() and id in again.review.findings}
    same = [again.review.decision(id).state == d.state for id, d in before.items()]
    assert sum(same) >= 0.8 * len(same) > 0


def mask_ids() -> set[int]:
    return set(Review(mask()).findings)


def test_a_version_is_taken_back_as_one_step_that_can_be_undone(tmp_path: Path) -> None:
    first = begin(tmp_path, mask())
    first.journal.decide(1, "rejected")
    labels = first.review.labels[0].copy()
    assert take_mask(first.journal, mask()) == []
    assert (first.review.labels[0] == mask().layers[0].labels).all()
    first.journal.undo()
    assert (first.review.labels[0] == labels).all()


def test_a_version_of_a_class_with_odd_spaces_in_its_name_is_taken_back(tmp_path: Path) -> None:
    """Files keep no double spaces; the class was taken for another one, and emptied."""
    named = Segmentation(
        GRID, (Layer(mask().layers[0].labels, (SegmentClass(1, "new  lesion ", (1, 0, 0)), CLASSES[1])),), "m"
    )
    first = begin(tmp_path, named)
    save_version(tmp_path, first.kept, first.review.reviewed())
    first.journal.decide(1, "rejected")
    assert take_mask(first.journal, load_version(tmp_path, first.kept, 1)) == []
    assert (first.review.labels[0] == named.layers[0].labels).all()


def test_classes_that_only_one_of_two_masks_has_are_told(tmp_path: Path) -> None:
    first = begin(tmp_path, mask())
    other = Segmentation(GRID, (Layer(mask().layers[0].labels, (CLASSES[0], SegmentClass(2, "new", (0, 1, 0)))),), "m")
    told = take_mask(first.journal, other)
    assert [("new" in t, "abnormal" in t) for t in told] == [(True, False), (False, True)]
    assert not (first.review.labels[0] == 2).any()


def test_a_full_disk_is_told_and_the_step_is_done(tmp_path: Path) -> None:
    first = begin(tmp_path / "file" / "case", mask())
    (tmp_path / "file").write_text("in the way")
    first.journal.decide(1, "rejected")
    assert first.review.decision(1).state == "rejected" and "cannot be written" in first.journal.problem


def test_steps_of_a_full_disk_follow_when_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the steps after it would be done again without it: other voxels than the reader decided."""
    first = begin(tmp_path, mask())
    first.journal.decide(1, "rejected")
    written = (tmp_path / FILE).read_bytes()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        some_steps(first.journal, 4, 6)
    assert "No space left" in first.journal.problem
    # A disk fills up in the middle of a line.
    (tmp_path / FILE).write_bytes(written + b'{"decide":[2,"acc')
    some_steps(first.journal, 5, 6)
    assert first.journal.problem == ""
    again = begin(tmp_path, mask())
    assert again.warnings == [] and again.review.decisions == first.review.decisions
    assert (again.review.labels[0] == first.review.labels[0]).all()


def test_a_case_that_is_open_twice_is_told_and_neither_reader_loses_steps(tmp_path: Path) -> None:
    one, other = begin(tmp_path, mask()), begin(tmp_path, mask())
    one.journal.decide(1, "rejected")
    other.journal.decide(2, "accepted")
    assert "open twice" in other.journal.problem and one.journal.problem == ""
    one.journal.decide(3, "uncertain")
    again = begin(tmp_path, mask())
    assert again.warnings == [] and again.review.decisions == one.review.decisions


@pytest.mark.parametrize("start", [b"", b"{", b'{"medseg_steps":1,"mask":"abc"}'])
def test_a_program_that_is_killed_at_the_very_first_step_costs_that_step(tmp_path: Path, start: bytes) -> None:
    (tmp_path / FILE).write_bytes(start)
    again = begin(tmp_path, mask())
    assert [("cut off" in w) for w in again.warnings] == [True] * bool(start)
    again.journal.decide(1, "rejected")
    assert again.journal.problem == "" and begin(tmp_path, mask()).review.decision(1).state == "rejected"


def test_steps_behind_a_damaged_line_are_kept_aside(tmp_path: Path) -> None:
    """A block of zeros after a power cut: it was told as one step cut off, and all behind it were thrown away."""
    first = begin(tmp_path, mask())
    for id in (1, 2, 3):
        first.journal.decide(id, "rejected")
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join([*lines[:2], b"\0" * 20 + b"\n", *lines[3:]]))
    again = begin(tmp_path, mask())
    assert "Step 2 of 3 is damaged" in again.warnings[0] and "steps-1.jsonl" in again.warnings[0]
    assert lines[3] in (tmp_path / "steps-1.jsonl").read_bytes()
    assert set(again.review.decisions) == {1} and set(begin(tmp_path, mask()).review.decisions) == {1}


def scores() -> Table:
    columns = (Column("slice", "int"), *(Column(f"centre_{a}_mm", "float", "mm") for a in "ras"),
               Column("any", "float"), Column("subdural", "float"))  # fmt: skip
    values = [(0.1, 0.0), (0.7, 0.2), (0.9, 0.6), (0.2, 0.1), (0.8, 0.1)]
    return Table("slices", columns, tuple((n + 1, 0.0, 0.0, 5.0 * n, *v) for n, v in enumerate(values)))


def test_slices_of_a_classifier_are_findings(tmp_path: Path) -> None:
    """A reader of haemorrhage scores goes from one suspicious run of slices to the next, not through all slices."""
    findings = slice_findings(scores(), 0.5)
    assert [(f.name, f.voxels, f.centre[2], f.probability) for f in findings] == [
        ("any", 2, 10.0, 0.9), ("any", 1, 20.0, 0.8), ("subdural", 1, 10.0, 0.6)]  # fmt: skip
    opened = open_review(tmp_path, SliceReview(scores(), GRID, "head"), CaseReview("head"))
    opened.journal.decide(2, "rejected")
    opened.journal.relabel(1, "subdural")
    opened.journal.undo()
    again = open_review(tmp_path, SliceReview(scores(), GRID, "head"), CaseReview("head"))
    assert (
        again.review.decision(2).state == "rejected" and again.review.decision(1).state == "" and again.review.left == 2
    )
    assert again.review.listed("probability")[0].id == 1 and again.review.changes() == []
