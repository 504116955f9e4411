"""Results of a classifier under review: an answer for each slice, and none of them lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.io.slice_scores import read_slices
from medseg.result import Column, Table
from medseg.review.case_file import CaseReview, read_case, save_slices, take_decisions, write_case
from medseg.review.cases import Case, find_cases
from medseg.review.resuming import OpenCase, open_review
from medseg.review.slices import SliceReview

GRID = Grid((8, 8, 6), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), np.eye(3))
ANY = (0.1, 0.7, 0.9, 0.2, 0.8, 0.1)
SUBDURAL = (0.0, 0.2, 0.6, 0.1, 0.1, 0.0)


def scores() -> Table:
    columns = (
        Column("slice", "int"), *(Column(f"centre_{a}_mm", "float", "mm") for a in "ras"),
        Column("any", "float"), Column("subdural", "float"), Column("sop_instance_uid", "str"),
    )  # fmt: skip
    rows = ((n + 1, 0.0, 0.0, 5.0 * n, a, s, f"1.2.{n}") for n, (a, s) in enumerate(zip(ANY, SUBDURAL, strict=True)))
    return Table("slices", columns, tuple(rows))


def begun(folder: Path) -> OpenCase:
    return open_review(folder, SliceReview(scores(), GRID, "head", "ich"), CaseReview("head"))


def answers(opened: OpenCase, name: str) -> list[str]:
    review = opened.review
    assert isinstance(review, SliceReview)
    return [str(v) for v in review.answers().column(f"{name} reviewed")]


def test_each_slice_gets_the_readers_answer_and_a_restart_loses_none(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    journal = opened.journal
    journal.decide(1, "accepted")
    journal.stretch(1, 1, 4)  # the bleeding ends a slice later than the model says
    journal.decide(2, "rejected")
    added = journal.add_slices("subdural", 4, 6)
    assert answers(opened, "any") == ["", "yes", "yes", "yes", "no", ""]
    assert answers(opened, "subdural") == ["", "", "not reviewed", "", "yes", "yes"]
    assert opened.review.decision(added).added and opened.review.findings[added].probability == 0.1
    journal.undo()
    assert answers(opened, "subdural")[4:] == ["", ""]
    journal.redo()
    again = begun(tmp_path)
    assert again.warnings == [] and again.review.findings == opened.review.findings
    assert answers(again, "any") == answers(opened, "any") and answers(again, "subdural") == answers(opened, "subdural")


def test_another_class_takes_the_slices_from_the_models(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    opened.journal.relabel(2, "subdural")
    assert answers(opened, "any")[4] == "no" and answers(opened, "subdural")[4] == "yes"


def test_another_threshold_keeps_what_was_decided(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    opened.journal.decide(1, "rejected")
    opened.journal.at_threshold(0.75)
    listed = sorted((f.name, *f.box[0]) for f in opened.review.findings.values())
    assert listed == [("any", 1, 3), ("any", 4, 5)], "a run under a decision is not listed twice"
    assert opened.review.decision(1).state == "rejected"
    opened.journal.at_threshold(0.15)
    listed = sorted((f.name, *f.box[0]) for f in opened.review.findings.values())
    assert listed == [("any", 1, 3), ("any", 3, 5), ("subdural", 1, 3)]
    again = begun(tmp_path)
    assert again.review.findings == opened.review.findings
    while opened.review.undo():
        pass
    assert sorted(opened.review.findings) == [1, 2, 3] and opened.review.left == 3


def test_decisions_come_back_without_the_steps(tmp_path: Path) -> None:
    """Only review.json was copied to another computer."""
    opened = begun(tmp_path / "a")
    opened.journal.stretch(1, 0, 3)
    opened.journal.decide(1, "accepted")
    opened.journal.decide(3, "uncertain")
    opened.journal.add_slices("subdural", 5, 6)
    take_decisions(opened.kept, opened.review)
    write_case(tmp_path / "b", opened.kept)
    again = begun(tmp_path / "b")
    assert again.warnings == []
    assert answers(again, "subdural") == answers(opened, "subdural")
    assert answers(again, "any")[:4] == ["yes", "yes", "yes", ""]


def test_the_answers_are_a_table_beside_the_review(tmp_path: Path) -> None:
    opened = begun(tmp_path)
    opened.journal.decide(3, "accepted")
    assert isinstance(opened.review, SliceReview)
    text = save_slices(tmp_path, opened.kept, opened.review).read_text()
    assert text.splitlines()[0] == (
        "slice,centre_r_mm,centre_a_mm,centre_s_mm,any,any reviewed,subdural,subdural reviewed,sop_instance_uid"
    )
    assert "3,0,0,10,0.9,not reviewed,0.6,yes,1.2.2" in text and read_case(tmp_path) is not None


def test_a_reader_is_told_which_slices_there_are(tmp_path: Path) -> None:
    review = SliceReview(scores(), GRID, "head")
    assert review.numbers_of(1) == (2, 3)
    assert review.nearest_row((9.0, -3.0, 13.0), (0.0, 0.0, 1.0)) == 3
    with pytest.raises(InputError, match="any, subdural"):
        review.add("epidural", 0, 1)
    with pytest.raises(InputError, match="there are 6"):
        review.stretch(1, 3, 9)


def test_the_results_of_a_classifier_are_cases_with_their_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "slices.csv").write_text(scores().to_csv())
    (tmp_path / "out" / "a" / "result.json").write_text('{"model": {"id": "ich-compact"}}')
    (tmp_path / "a.nii.gz").write_bytes(b"")
    table = (tmp_path / "out" / "a" / "slices.csv").resolve()
    found = find_cases(tmp_path)
    assert found[0] == Case("a", (tmp_path / "a.nii.gz").resolve(), None, slices=table)
    assert [c.name for c in find_cases(tmp_path / "out")] == ["a", "b"]
    (tmp_path / "out" / "cases.csv").write_text("case,image,slices\nhead,../a.nii.gz,a/slices.csv\n")
    (listed,) = find_cases(tmp_path / "out")
    assert listed == Case("head", (tmp_path / "a.nii.gz").resolve(), None, slices=table)
    back, model = read_slices(table.parent)
    assert back == scores() and model == "ich-compact"


@pytest.mark.parametrize(
    "text, words",
    [
        ("slice,any\n1,0.5\n", "no scores of slices"),
        ("slice,centre_r_mm,centre_a_mm,centre_s_mm,any\n1,0,0,x,0.5\n", "no number"),
        ("slice,centre_r_mm,centre_a_mm,centre_s_mm,any\n1,0,0\n", "line 2 has 3 cells"),
        ("slice,centre_r_mm,centre_a_mm,centre_s_mm,any,any\n1,0,0,0,0.5,1\n", "two columns"),
        ("", "cannot be read"),
    ],
)
def test_a_damaged_table_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "slices.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_slices(tmp_path)
