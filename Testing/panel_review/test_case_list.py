"""A list of cases on real nodes and files: opened, read ahead, rated, skipped, killed and gone on with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.geometry.grid import Grid
from medseg.output.files import save_segmentation
from medseg.result import Layer, Result, SegmentClass
from qt_host.fixtures import Opened, grid, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

SIZE = (24, 20, 12)
CLASSES = (
    SegmentClass(1, "normal", (0.0, 0.5, 1.0), "", True),
    SegmentClass(2, "abnormal", (1.0, 0.4, 0.0), "", True),
)


def lesions(n: int) -> np.ndarray:
    """Two lesions, (K, J, I); the first is ``n + 2`` voxels long."""
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:4, 3:5, 4 : 6 + n] = 1
    labels[7:9, 10:12, 15:18] = 2
    return labels


def write_image(path: Path, array: np.ndarray, where: Grid) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    where.place(image)
    sitk.WriteImage(image, str(path))


def cohort(folder: Path, count: int = 4, *, masks: bool = True) -> Path:
    """``count`` images with masks of their own."""
    folder.mkdir(parents=True)
    for n in range(count):
        image = np.random.default_rng(n).integers(0, 50, SIZE[::-1]).astype(np.int16) + 100 * (lesions(n) > 0)
        write_image(folder / f"case{n}.nii.gz", image.astype(np.int16), grid(SIZE))
        if masks:
            save_segmentation(folder / f"case{n}_seg.seg.nrrd", [Layer(lesions(n), CLASSES)], grid(SIZE), "wmh")
    return folder


@pytest.fixture
def tab(opened: Opened, tmp_path: Path) -> Any:
    """The Review tab, seen, before a list is open."""
    import slicer

    slicer.app.userSettings().setValue("MedSeg/ReviewFolder", str(tmp_path / "reviews"))
    opened.ui.tabs.currentIndex = 1
    made = opened.widget.panel.tabs[1]
    made.opened = opened
    made.cases.enter()
    return made


def wait(tab: Any, condition: Any) -> None:
    tab.opened.host.wait_for(condition, 30)


def opened_case(tab: Any, number: int) -> Any:
    """Wait until a case is open; its `Reviewing`."""
    wait(tab, lambda: tab.cases.session.current == number and tab.reviewing is not None)
    return tab.reviewing


def rows(tab: Any) -> list[list[str]]:
    table = tab.cases.table.table
    cells = [[table.item(r, c) for c in range(table.columnCount)] for r in range(table.rowCount)]
    return [[item.text() if item is not None else "" for item in line] for line in cells]


def volumes(tab: Any) -> list[str]:
    scene = tab.opened.scene
    kind = "vtkMRMLScalarVolumeNode"
    return [scene.GetNthNodeByClass(n, kind).GetName() for n in range(scene.GetNumberOfNodesByClass(kind))]


def kept(root: Path, case: str, reader: str = "reader") -> dict[str, Any]:
    return json.loads((root / reader / case / "review.json").read_text())


def press(keys: Any, name: str) -> None:
    next(k for k in keys._keys if k.name == name).work()


def finish(field: Any) -> None:
    """What Enter in a field does."""
    from qt_host.bridge import unwrap

    unwrap(field).editingFinished.emit()


def test_a_cohort_is_read_rated_and_written_down(tab: Any, tmp_path: Path) -> None:
    """Names, colours and codes of the masks survive; each case is saved when it is left, and its nodes go."""
    assert tab.cases.open_files(str(cohort(tmp_path / "study")))
    assert [r[:2] for r in rows(tab)] == [[f"case{n}", "to do"] for n in range(4)]
    press(tab.cases.keys, "Ctrl+N")
    reviewing = opened_case(tab, 0)
    assert [c.name for c in reviewing.work.masks.classes] == ["normal", "abnormal"]
    assert reviewing.work.masks.classes[1].color == pytest.approx(CLASSES[1].color, abs=1e-3)
    assert len(reviewing.review.findings) == 2 and volumes(tab) == ["case0"]
    for _ in range(2):
        tab.actions.decide("accepted")
    press(tab.rating.keys, "4")
    assert "acceptable after small corrections" in tab.rating.meaning.text
    tab.rating.comment.text = "small one missed"
    press(tab.cases.keys, "Ctrl+N")
    opened_case(tab, 1)
    assert volumes(tab) == ["case1"]
    root = tmp_path / "reviews" / "study"
    first = kept(root, "case0")
    assert (first["state"], first["rating"], first["comment"]) == ("done", 4, "small one missed")
    assert (root / "reader" / "case0" / "reviewed.seg.nrrd").is_file()
    tab.cases.skip()
    opened_case(tab, 2)
    press(tab.cases.keys, "Ctrl+P")
    opened_case(tab, 1)
    press(tab.cases.keys, "Ctrl+P")
    again = opened_case(tab, 0)
    assert again.review.left == 0 and tab.rating.comment.text == "small one missed" and tab.rating.buttons[4].checked
    tab.cases.close_list()
    with (root / "cohort.csv").open(newline="") as file:
        table = {row["case"]: row for row in csv.DictReader(file)}
    assert [table[f"case{n}"]["state"] for n in range(4)] == ["done", "skipped", "in progress", "to do"]
    assert table["case0"]["rating"] == "4" and volumes(tab) == [] and not tab.opened.dialogs.errors


def test_the_next_case_is_read_ahead_and_dropped_if_its_file_changed(tab: Any, tmp_path: Path) -> None:
    """A mask that somebody corrected meanwhile must not be reviewed in its old form."""
    folder = cohort(tmp_path / "study")
    tab.cases.open_files(str(folder))
    tab.cases.next()
    opened_case(tab, 0)
    reader = tab.cases.session._cases
    wait(tab, lambda: reader._ahead is not None and reader._ahead.over)
    tab.cases.next()
    assert tab.cases.session.current == 1, "at once, since it was read ahead"
    wait(tab, lambda: reader._ahead.over)
    save_segmentation(folder / "case2_seg.seg.nrrd", [Layer(lesions(9), CLASSES)], grid(SIZE), "wmh")
    tab.cases.next()
    assert tab.cases.session.current == -1
    assert opened_case(tab, 2).review.findings[1].voxels == 2 * 2 * 11


def test_a_killed_program_goes_on_at_the_same_case_and_finding(tab: Any, tmp_path: Path) -> None:
    folder = cohort(tmp_path / "study")
    tab.cases.open_files(str(folder))
    tab.cases.open(2)
    reviewing = opened_case(tab, 2)
    tab.actions.decide("rejected")
    finding = reviewing.current
    wait(tab, lambda: kept(tmp_path / "reviews" / "study", "case2")["finding"] == finding)
    # As after a kill: nothing of this session is saved or used again.
    session, tab.cases.session, tab.reviewing = tab.cases.session, None, None
    session._cases.close()
    reviewing.close()
    tab.cases.enter()
    assert tab.cases.offer_words.text == "Go on with case 3 of 4 (case2)?" and tab.cases.offer.isVisibleTo(tab.widget)
    tab.cases.offer_button.click()
    again = opened_case(tab, 2)
    assert again.current == finding and again.review.left == 1
    tab.cases.close_list()
    tab.cases.enter()
    assert not tab.cases.offer.isVisibleTo(tab.widget), "a list that was closed is not offered"


def test_a_second_reader_is_blinded_and_their_agreement_is_shown(tab: Any, tmp_path: Path) -> None:
    tab.cases.open_files(str(cohort(tmp_path / "study", 2)))
    for n, rating in enumerate((5, 3)):
        tab.cases.next()
        opened_case(tab, n)
        tab.rating.rate(rating)
    tab.leave()
    tab.cases.reader.text = "AB!"
    tab.cases._reader_typed()
    assert tab.cases.reader.text == "AB"
    wait(tab, lambda: len(rows(tab)) == 2 and rows(tab)[1][1] != "")
    assert {r[1] for r in rows(tab)} == {"to do"}
    for n, rating in enumerate((5, 2)):
        tab.cases.open(n)
        assert opened_case(tab, n).kept.rating is None
        tab.rating.rate(rating)
    tab.leave()
    tab.cases.menu.agreement()
    _, page = tab.opened.dialogs.texts[-1]
    assert "50 %" in page and "case1" in page and "case0" not in page
    assert [r[0] for r in rows(tab)] == ["case1"]
    root = tmp_path / "reviews" / "study"
    assert (root / "cohort-AB.csv").is_file()
    assert tab.cases.open_files(str(root / "disagreements.csv")) and [r[0] for r in rows(tab)] == ["case1"]


def test_cases_without_a_mask_are_run_in_the_background(tab: Any, tmp_path: Path) -> None:
    """One that fails says why in the list, and the others go on."""
    worker = tab.opened.worker
    tab.cases.open_files(str(cohort(tmp_path / "study", 3, masks=False)))
    tab.opened.choose("ct-bleeds")
    tab.cases.menu.run_missing()
    for n in range(3):
        wait(tab, lambda n=n: len(worker.runs) == n + 1)
        assert worker.runs[n]["volumes"][0].grid.same_as(grid(SIZE))
        if n == 1:
            worker.listener.on_error("InputError", "Too dark.")
        else:
            worker.listener.on_result(Result(grid(SIZE), (Layer(lesions(n), CLASSES),)))
    wait(tab, lambda: tab.cases.session.without_mask() == [1] and not tab.cases.session.masks.left)
    assert "Too dark." in rows(tab)[1][5]
    assert not tab.opened.panel.busy and tab.opened.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    tab.cases.open(2)
    assert len(opened_case(tab, 2).review.findings) == 2
    tab.cases.open(1)
    assert not opened_case(tab, 1).review.findings and "Too dark." in tab.ui.status.text
    tab.opened.installer.warm = True
    tab.cases.session.list.problems.clear()
    tab.cases.open(1)
    wait(tab, lambda: len(worker.runs) == 4)
    worker.listener.on_result(Result(grid(SIZE), (Layer(lesions(1), CLASSES),)))
    assert len(opened_case(tab, 1).review.findings) == 2


def test_a_thousand_cases_are_there_at_once_and_can_be_searched(tab: Any, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(1000):
        (folder / f"sub-{n:04d}_FLAIR.nii.gz").write_bytes(b"")
    tab.cases.open_files(str(folder))
    assert tab.cases.table.table.rowCount == 1000 and tab.cases.table._filled < 200
    wait(tab, lambda: tab.cases.table._filled == 1000 and not tab.cases.table._timer.isActive())
    tab.cases.table.search.text = "0042"
    assert [r[0] for r in rows(tab)] == ["sub-0042_FLAIR"]
    tab.cases.table.search.text = ""
    tab.cases.table.state.currentIndex = 3
    assert rows(tab) == []
    tab.cases.table.state.currentIndex = 0
    tab.cases.open(7)
    wait(tab, lambda: 7 in tab.cases.session.list.problems)
    assert rows(tab)[7][5] and tab.reviewing is None and tab.cases.session.awaited == -1


def test_time_stops_while_the_reader_is_away(tab: Any, tmp_path: Path) -> None:
    tab.cases.open_files(str(cohort(tmp_path / "study", 1)))
    tab.cases.next()
    reviewing = opened_case(tab, 0)
    now = [1000.0]
    tab.rating._clock = lambda: now[0]
    tab.rating.show(reviewing)
    for _ in range(5):
        now[0] += 10
        reviewing.current = 1 + reviewing.current % 2
        tab.rating.tick()
    assert reviewing.kept.seconds == pytest.approx(50, abs=1)
    now[0] += 3600
    tab.rating._life = tab.rating._signs()
    tab.rating.tick()
    assert reviewing.kept.seconds == pytest.approx(110, abs=1) and "paused" in tab.rating.time.text


def test_further_questions_are_asked_and_kept(tab: Any, tmp_path: Path) -> None:
    form = {
        "questions": [
            {"name": "motion", "text": "Motion artefacts?", "type": "yes/no", "required": True},
            {"name": "side", "type": "choice", "choices": ["left", "right"]},
            {"name": "age", "type": "number", "minimum": 0, "maximum": 120},
            {"name": "remarks", "type": "text"},
        ]
    }
    file = tmp_path / "form.json"
    file.write_text(json.dumps(form))
    tab.cases.open_files(str(cohort(tmp_path / "study", 2)))
    tab.opened.dialogs.path = str(file)
    tab.cases.menu.choose_form()
    tab.cases.next()
    opened_case(tab, 0)
    fields = tab.rating._fields
    fields["side"].currentIndex = 2
    fields["age"].text = "400"
    finish(fields["age"])
    assert "at most 120" in tab.ui.status.text
    fields["age"].text = "64"
    finish(fields["age"])
    tab.cases.next()
    opened_case(tab, 1)
    assert "Motion artefacts?" in tab.ui.status.text and fields["side"].currentIndex == 0
    assert kept(tmp_path / "reviews" / "study", "case0")["fields"] == {"side": "right", "age": 64.0}


def test_ratings_of_segmentationreview_come_in_and_go_out(tab: Any, tmp_path: Path) -> None:
    tab.cases.open_files(str(cohort(tmp_path / "study", 2)))
    table = tmp_path / "peer.csv"
    table.write_text(
        "Filename,Rating,Comments,Mask_filename,Mask_status\n"
        "case1.nii.gz,2,too large,case1_seg.seg.nrrd,original\nother.nii.gz,5,,,original\n"
    )
    tab.opened.dialogs.path = str(table)
    tab.cases.menu.import_peer()
    assert "1 ratings were taken over" in tab.cases.status.text and rows(tab)[1][1:3] == ["done", "2"]
    tab.opened.dialogs.path = str(tmp_path / "out.csv")
    tab.cases.menu.export_peer()
    assert "case1.nii.gz,2,too large,case1_seg.seg.nrrd,original" in (tmp_path / "out.csv").read_text()


def test_slicers_dicom_database_is_a_list_and_its_absence_is_told(tab: Any, monkeypatch: Any) -> None:
    import slicer

    assert not tab.cases.open_database()
    assert "no DICOM database open" in tab.opened.dialogs.errors.pop()

    class Database:
        isOpen = True

        def patients(self) -> list[str]:
            return ["1"]

        def studiesForPatient(self, patient: str) -> list[str]:
            return ["1.2"]

        def seriesForStudy(self, study: str) -> list[str]:
            return ["1.2.3", "1.2.4"]

        def filesForSeries(self, uid: str) -> list[str]:
            return [f"/archive/{uid}/{n}.dcm" for n in range(3)]

        def fieldForSeries(self, field: str, uid: str) -> str:
            return {"Modality": "MR" if uid == "1.2.3" else "SR", "SeriesDescription": "FLAIR of DOE"}[field]

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    assert tab.cases.open_database()
    ((name, *_),) = rows(tab)
    assert name.startswith("MR-") and "DOE" not in name
    assert tab.cases.session.files(0).series == "1.2.3"


def test_a_list_with_the_same_cases_at_another_place_is_asked_about(tab: Any, tmp_path: Path) -> None:
    """Reviews of two cohorts that only have the same names must not be mixed."""
    tab.cases.open_files(str(cohort(tmp_path / "one" / "study", 1)))
    tab.opened.dialogs.agrees = False
    tab.cases.open_files(str(cohort(tmp_path / "two" / "study", 1)))
    assert len(tab.opened.dialogs.questions) == 1 and tab.cases.session.folder.name == "study-2"
    tab.cases.open_files(str(tmp_path / "two" / "study"))
    tab.cases.open_files(str(tmp_path / "one" / "study"))
    assert len(tab.opened.dialogs.questions) == 1 and tab.cases.session.folder.name == "study"


def test_results_of_a_batch_find_their_images(tab: Any, tmp_path: Path) -> None:
    images = cohort(tmp_path / "images", 2, masks=False)
    for n in range(2):
        folder = tmp_path / "batch" / f"case{n}"
        folder.mkdir(parents=True)
        save_segmentation(folder / "segmentation.seg.nrrd", [Layer(lesions(n), CLASSES)], grid(SIZE), "wmh")
    tab.cases.open_files(str(tmp_path / "batch"), str(images))
    assert [c.image.name for c in tab.cases.session.source.cases] == ["case0.nii.gz", "case1.nii.gz"]
    tab.cases.next()
    assert opened_case(tab, 0).work.model_id == "wmh"
