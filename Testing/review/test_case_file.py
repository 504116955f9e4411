"""What is kept of a review: no decision is lost by a crash, a full disk or a damaged file; versions can be taken

back.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError, OutputError
from medseg.geometry.grid import Grid
from medseg.io import Segmentation, read_segmentation
from medseg.monitor import Monitor
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import (
    CaseReview,
    give_decisions,
    load_version,
    newest_mask,
    read_case,
    save_version,
    take_decisions,
    write_case,
)
from medseg.review.decisions import Review

GRID = Grid((20, 16, 6), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))


def segmentation(shift: int = 0) -> Segmentation:
    labels = np.zeros(GRID.shape, np.uint8)
    for n, (k, j, i) in enumerate(((1, 2, 2), (3, 8, 4), (4, 3, 12))):
        labels[k, j + shift : j + 3 + shift, i : i + 2 + n] = 1 + n % 2
    classes = (SegmentClass(1, "a", (1.0, 0.0, 0.0), lesion=True), SegmentClass(2, "b", (0.0, 1.0, 0.0), lesion=True))
    return Segmentation(GRID, (Layer(labels, classes),), "mask.seg.nrrd")


def test_decisions_are_found_again_after_reopening(tmp_path: Path) -> None:
    work = Review(segmentation())
    one, two, three = (f.id for f in work.listed("size"))
    work.decide(one, "accepted")
    work.decide(two, "rejected")
    work.relabel(three, "b" if work.class_of(three) == "a" else "a")
    kept = CaseReview("case-1", reader="AB", rating=4, comment="=1+1", finding=two)
    take_decisions(kept, work)
    write_case(tmp_path, kept)
    again = read_case(tmp_path)
    assert again is not None and (again.rating, again.comment, again.finding) == (4, "=1+1", two)
    other = Review(segmentation())
    assert give_decisions(again, other) == []
    assert other.decisions == work.decisions and (other.labels[0] == work.labels[0]).all()
    told = give_decisions(again, Review(segmentation(shift=5)))
    assert "3 decisions" in told[0], "decisions of another mask must not be taken for those of this one"


def test_a_write_that_fails_or_is_cut_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_case(tmp_path, CaseReview("c", rating=3))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="make room"):
        write_case(tmp_path, CaseReview("c", rating=5))
    monkeypatch.undo()
    kept = read_case(tmp_path)
    assert kept is not None and kept.rating == 3 and [p.name for p in tmp_path.iterdir()] == ["review.json"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b'{"medseg_review": 1}', b'{"medseg_review": 1, "case": "c", "rating": 9}',
     # Read, these would fail when the next decision is written.
     b'{"medseg_review": 1, "case": "c", "image": "\\ud800"}', b'{"medseg_review": 1, "case": "c", "x": 1e999}'],
)  # fmt: skip
def test_of_a_damaged_file_the_one_before_is_taken_and_told(tmp_path: Path, damage: bytes) -> None:
    for rating in (2, 4):
        write_case(tmp_path, CaseReview("c", rating=rating))
    (tmp_path / "review.json").write_bytes(damage)
    monitor = Monitor()
    kept = read_case(tmp_path, monitor)
    assert kept is not None and kept.rating == 2 and "before the last decision" in monitor.warnings[0]
    (tmp_path / "review.json.bak").write_bytes(damage)
    with pytest.raises(InputError, match=r"review\.json"):
        read_case(tmp_path)


def test_a_file_of_a_newer_medseg_is_not_guessed_at(tmp_path: Path) -> None:
    write_case(tmp_path, CaseReview("c"))
    write_case(tmp_path, CaseReview("c"))
    raw = json.loads((tmp_path / "review.json").read_text())
    (tmp_path / "review.json").write_text(json.dumps(raw | {"medseg_review": 2}))
    with pytest.raises(InputError, match="newer MedSeg"):
        read_case(tmp_path)
    assert read_case(tmp_path / "nothing") is None
    with pytest.raises(InputError, match="initials"):
        write_case(tmp_path, CaseReview("c", reader="Dr. Mustermann"))


def test_every_version_is_kept_listed_and_can_be_taken_back(tmp_path: Path) -> None:
    kept = CaseReview("c", reader="AB")
    masks = [segmentation(), segmentation(1), segmentation(2)]
    for mask in masks:
        save_version(tmp_path, kept, mask, "after drawing")
    again = read_case(tmp_path)
    assert again is not None and [v.number for v in again.versions] == [1, 2, 3] and again.versions[0].reader == "AB"
    for number, mask in enumerate(masks, start=1):
        found = load_version(tmp_path, again, number)
        assert (found.layers[0].labels == mask.layers[0].labels).all()
        assert [c.name for c in found.classes] == ["a", "b"]
    assert (read_segmentation(tmp_path / "reviewed.seg.nrrd").layers[0].labels == masks[2].layers[0].labels).all()
    with pytest.raises(InputError, match="no version 7"):
        load_version(tmp_path, again, 7)


def test_the_newest_mask_that_can_be_read_is_loaded(tmp_path: Path) -> None:
    kept: Any = CaseReview("c")
    assert newest_mask(tmp_path, kept) is None
    for shift in (0, 1):
        save_version(tmp_path, kept, segmentation(shift))
    (tmp_path / "reviewed.seg.nrrd").write_bytes(b"cut")
    monitor = Monitor()
    found = newest_mask(tmp_path, kept, monitor)
    assert found is not None and (found.layers[0].labels == segmentation(1).layers[0].labels).all()
    assert "cannot be read" in monitor.warnings[0]


@pytest.mark.parametrize("moment", range(6))
def test_a_program_that_dies_while_it_saves_leaves_a_whole_review(
    tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment a file takes another's place: what is on disk is the review before, or the one after."""
    before, after = segmentation(), segmentation(shift=4)
    kept = CaseReview("c", rating=3)
    save_version(tmp_path, kept, before)
    replace, done = Path.replace, 0

    def dies(path: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done == moment + 1:
            raise KeyboardInterrupt
        return replace(path, target)

    kept.rating = 5
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        try:
            save_version(tmp_path, kept, after)
        except KeyboardInterrupt:
            assert moment < 4
    monitor = Monitor()
    again = read_case(tmp_path, monitor)
    assert again is not None and again.rating == (5 if moment >= 4 else 3), (moment, monitor.warnings)
    found = newest_mask(tmp_path, again, monitor)
    assert found is not None
    same = [all((found.mask(c) == one.mask(c)).all() for c in "ab") for one in (before, after)]
    assert any(same) and all((tmp_path / v.file).is_file() for v in again.versions)
