"""Results of a classifier as a list of cases: many heads gone through slice by slice, without a mask anywhere."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from medseg.geometry.grid import Grid
from medseg.io.slice_scores import write_slices
from medseg.result import Column, Result, Table
from panel_review.test_case_list import (  # noqa: F401
    SIZE,
    cohort,
    finish,
    kept,
    opened_case,
    press,
    rows,
    tab,
    wait,
    write_image,
)
from qt_host.fixtures import grid, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

SUBDURAL = (0.0, 0.0, 0.1, 0.7, 0.95, 0.6, 0.1, 0.0, 0.0, 0.8, 0.1, 0.0)


def scores(where: Grid, add: float = 0.0) -> Table:
    """Scores of each slice of ``where``, at the centres of its slices."""
    columns = (
        Column("slice", "int"), *(Column(f"centre_{a}_mm", "float", "mm") for a in "ras"),
        Column("any", "float"), Column("subdural", "float"),
    )  # fmt: skip
    table = []
    for n, score in enumerate(SUBDURAL):
        x, y, z = (float(v) for v in where.to_physical([where.size[0] / 2, where.size[1] / 2, n]))
        table.append((n + 1, -x, -y, z, min(1.0, score + add), score))
    return Table("slices", columns, tuple(table))


def batch(folder: Path, count: int = 3) -> Path:
    """The output folder of a classifier's batch, with the list that the batch writes."""
    cohort(folder / "images", count, masks=False)
    lines = ["case,image,slices"]
    for n in range(count):
        write_slices(folder / "out" / f"case{n}" / "slices.csv", scores(grid(SIZE)), "ich-compact")
        lines.append(f"case{n},{folder}/images/case{n}.nii.gz,case{n}/slices.csv")
    (folder / "out" / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder / "out"


def hidden(widget: Any) -> bool:
    """Whether a widget was hidden itself, whatever it is in."""
    from qt_host.bridge import unwrap

    return bool(unwrap(widget).isHidden())


def cells(tab: Any) -> list[list[str]]:
    table = tab.list.table
    return [[table.item(r, c).text() for c in range(1, 5)] for r in range(table.rowCount)]


def look_at_slice(tab: Any, n: int) -> None:
    """What scrolling the slice view to slice ``n`` does."""
    import slicer

    x, y, z = grid(SIZE).to_physical([5, 5, n])
    slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().JumpSliceByCentering(-float(x), -float(y), float(z))


def test_a_classifiers_batch_is_gone_through_decided_and_written_down(tab: Any, tmp_path: Path) -> None:
    """Without it a reader of 200 heads must load each, run the model again, and write the answers on paper."""
    asked: list[str] = []
    tab._dialogs.folder = lambda title: asked.append(title) or str(batch(tmp_path))
    tab.cases.open_batch()
    assert len(asked) == 1, "the batch says where its images are"
    assert [r[:2] for r in rows(tab)] == [[f"case{n}", "to do"] for n in range(3)]
    press(tab.cases.keys, "Ctrl+N")
    reviewing = opened_case(tab, 0)
    assert reviewing.of_slices and reviewing.shown is None and reviewing.kept.model == "ich-compact"
    tab.list.order.setCurrentIndex(tab.list.order.findData("probability"))
    assert cells(tab)[0] == ["1", "any", "4 - 6", "0.95"] and len(cells(tab)) == 4
    assert hidden(tab.actions.correct_button) and not hidden(tab.slices.widget) and tab.actions.missed_button.enabled
    tab.go(1)
    look_at_slice(tab, 4)
    tab.slices.show_scores()
    assert tab.slices.scores.text.startswith("Slice 5: ") and "subdural 0.95" in tab.slices.scores.text
    look_at_slice(tab, 6)
    press(tab.actions.keys, "T")
    assert reviewing.review.numbers_of(1) == (4, 7), "the bleeding goes on for a slice"
    tab.actions.decide("accepted")
    look_at_slice(tab, 10)
    press(tab.actions.keys, "D")
    new = reviewing.current
    assert reviewing.review.decision(new).added and reviewing.review.numbers_of(new) == (11, 11)
    press(tab.actions.keys, "Z")
    assert new not in reviewing.review.findings
    press(tab.actions.keys, "Y")
    press(tab.rating.keys, "4")
    tab.rating.comment.text = "thin"
    press(tab.cases.keys, "Ctrl+N")
    opened_case(tab, 1)
    root = tab.cases.session.folder
    state = kept(root, "case0")
    assert (state["rating"], state["comment"], state["versions"]) == (4, "thin", [])
    with (root / "reader" / "case0" / "slices_reviewed.csv").open(newline="") as file:
        answers = [row["any reviewed"] for row in csv.DictReader(file)]
    assert answers[3:7] == ["yes"] * 4 and answers[0] == ""
    with (root / "cohort.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["state"], first["accepted"], first["mask"]) == ("done", "2", "slices.csv")


def test_it_goes_on_where_it_was_and_a_second_reader_sees_nothing_of_the_first(tab: Any, tmp_path: Path) -> None:
    out = batch(tmp_path)
    assert tab.cases.open_files(str(out))
    tab.cases.open(1)
    reviewing = opened_case(tab, 1)
    tab.actions.decide("rejected")
    tab.slices.slider.value = 30
    tab.slices._take_threshold()
    assert len(reviewing.review.findings) == 4
    tab._write()
    tab.cases.close_list(forget=False)
    tab.cases.enter()
    assert "case 2 of 3 (case1)" in tab.cases.offer_words.text
    tab.cases.go_on()
    again = opened_case(tab, 1)
    assert [again.review.decision(id).state for id in sorted(again.review.findings)].count("rejected") == 1
    tab.cases.reader.text = "CD"
    tab.cases._reader_typed()
    tab.cases.open(1)
    assert opened_case(tab, 1).review.left == 4
    for _ in range(4):
        tab.actions.decide("accepted")
    tab.cases.close_list()
    from medseg.review.readers import compare_readers

    root = next(p.parent for p in (tmp_path / "reviews").rglob("reader-CD"))
    found = compare_readers(root / "reader", root / "reader-CD")
    assert found.cases[0].problem == "" and len(found.cases[0].differ) == 1


def test_another_threshold_lists_other_slices(tab: Any, tmp_path: Path) -> None:
    tab.cases.open_files(str(batch(tmp_path)))
    tab.cases.open(0)
    reviewing = opened_case(tab, 0)
    tab.slices.slider.value = 75
    tab.slices._take_threshold()
    assert sorted(f.box[0] for f in reviewing.review.findings.values()) == [(4, 5), (4, 5), (9, 10), (9, 10)]
    tab.slices.slider.value = 99
    tab.slices._take_threshold()
    assert not reviewing.review.findings and "no slice is above the threshold" in tab.ui.status.text
    press(tab.actions.keys, "D")
    assert reviewing.review.class_of(reviewing.current) == "any", "what every slice misses can be added"


def test_scores_without_their_image_are_told(tab: Any, tmp_path: Path) -> None:
    out = batch(tmp_path)
    (out / "cases.csv").unlink()
    assert tab.cases.open_files(str(out))
    tab.cases.open(0)
    wait(tab, lambda: tab.cases.session.list.problems.get(0))
    assert "the image they are of is not in the list" in tab.cases.session.list.problems[0]
    assert tab.cases.open_files(str(out), str(tmp_path / "images"))
    tab.cases.open(0)
    assert opened_case(tab, 0).of_slices


def test_the_report_names_slices(tab: Any, tmp_path: Path) -> None:
    tab.cases.open_files(str(batch(tmp_path)))
    tab.cases.open(0)
    opened_case(tab, 0)
    tab.actions.decide("accepted")
    tab.keeping.write_report(tmp_path / "case.html")
    page = (tmp_path / "case.html").read_text()
    assert "score 0.95, 3 slices" in page and "accepted" in page


def test_a_classifier_runs_on_cases_without_a_result(tab: Any, tmp_path: Path) -> None:
    """What the model says of a head without a result is kept like a mask, and found again."""
    tab.cases.open_files(str(cohort(tmp_path / "study", 2, masks=False)))
    session = tab.cases.session
    runs = session.masks
    runs.current, runs._model = 0, "ich-compact"
    runs._done(Result(grid(SIZE), tables={"slices": scores(grid(SIZE))}))
    assert session.files(0).slices is not None and session.without_mask() == [1]
    tab.cases.open(0)
    assert opened_case(tab, 0).kept.model == "ich-compact"


def test_names_that_leave_open_what_is_a_mask_are_asked_for(tab: Any, tmp_path: Path) -> None:
    """Masks called in an unusual way need no table."""
    folder = cohort(tmp_path / "study", 3, masks=False)
    for n in range(3):
        array = np.zeros(SIZE[::-1], np.uint8)
        array[3:5, 3:5, 3:6] = 1
        write_image(folder / f"drawn-{n}.nii.gz", array, grid(SIZE))
    assert tab.cases.open_files(str(folder)) and len(rows(tab)) == 6
    assert hidden(tab.cases.names.widget)
    tab.cases.names.ask()
    tab.cases.names.images.text, tab.cases.names.masks.text = "case*", "painted*"
    finish(tab.cases.names.masks)
    assert len(rows(tab)) == 6, "a pattern that fits nothing leaves the list as it was"
    tab.cases.names.images.text, tab.cases.names.masks.text = "case*", "drawn-*"
    finish(tab.cases.names.masks)
    assert [r[0] for r in rows(tab)] == ["case0", "case1", "case2"] and not hidden(tab.cases.names.widget)
    tab.cases.open(1)
    assert opened_case(tab, 1).kept.mask == "drawn-1.nii.gz"
    tab.cases.close_list(forget=False)
    tab.cases.enter()
    tab.cases.go_on()
    assert opened_case(tab, 1).kept.mask == "drawn-1.nii.gz", "the names are known at the next start"


def test_masks_without_an_image_are_counted_and_the_fields_are_there(tab: Any, tmp_path: Path) -> None:
    folder = cohort(tmp_path / "study", 2)
    (folder / "case1.nii.gz").rename(folder / "other.nii.gz")
    tab.cases.open_files(str(folder))
    assert "1 images have no mask, 1 masks have no image" in tab.cases.status.text
    assert not hidden(tab.cases.names.widget)
