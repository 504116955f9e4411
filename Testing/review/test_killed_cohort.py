"""A reader goes through a cohort and the program is killed in the middle of a write: no decision may be lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from medseg.io import read_segmentation
from medseg.review.cases import case_folder, find_cases, reader_folder, reviews_in, states
from medseg.review.cohort import cohort_table
from medseg.review.readers import compare_readers
from review import make_cohort as cohort


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_reader_who_is_killed_goes_on_where_he_was_and_a_second_one_is_compared(tmp_path: Path) -> None:
    cohort.make(tmp_path, 3, real=False, size=(48, 48, 10))
    told: list[str] = []
    assert cohort.read(tmp_path, "AB", most=1, told=told.append) == 1
    cases = find_cases(tmp_path / "images")
    # Writes of the child are, in turn, of steps.jsonl and of review.json: once each is cut.
    for write in (3, 4):
        told += cohort.read_and_die(tmp_path, "AB", write)
        assert cohort.lost(tmp_path, "AB", told) == []
        now = states(cases, tmp_path / "reviews", "AB")
        assert [k.state for k in now] == ["done", "in progress", "to do"]
    decided = {tuple(line.split()[1:3]) for line in told if line.startswith("decided")}
    further: list[str] = []
    assert cohort.read(tmp_path, "AB", told=further.append) == 2
    assert further[0].startswith("open phantom-02 ") and not further[0].startswith("open phantom-02 0 ")
    again = {tuple(line.split()[1:3]) for line in further if line.startswith("decided")}
    # What was kept in the steps but not yet told when the program was killed is not asked again either.
    assert not again & decided
    reviews = reviews_in(tmp_path / "reviews", "AB")
    table = cohort_table(reviews)
    assert table.column("state") == ["done"] * 3 and table.column("left") == [0] * 3
    for case in cases:
        kept = read_segmentation(case_folder(tmp_path / "reviews", case.name, "AB") / "reviewed.seg.nrrd")
        truth = read_segmentation(tmp_path / "truth" / f"{case.name}.seg.nrrd")
        assert (kept.mask("WMH") == truth.mask("WMH")).all(), "false ones rejected, the missed one drawn"
    cohort.read(tmp_path, "CD", strict=True, told=lambda line: None)
    found = compare_readers(*(reader_folder(tmp_path / "reviews", r) for r in ("AB", "CD")))
    assert len(found.cases) == 3 and any(case.differ for case in found.cases)
    assert found.mean_dice is not None and 0 < found.mean_dice < 1
