"""The case list: each image with its mask, whatever the layout; no review is lost or seen by the wrong reader."""

import errno
import json
import os
from pathlib import Path

import pytest

from medseg.errors import InputError, OutputError
from medseg.monitor import Monitor
from medseg.review.case_file import CaseReview, Version, write_case
from medseg.review.cases import Case, case_folder, find_cases, reviews_in, states, with_unique_names
from medseg.review.cohort import cohort_table, read_segmentation_review, write_cohort, write_segmentation_review
from medseg.review.form import missing, read_form
from medseg.review.timer import Autosave, ReadingTimer


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def pairs(root: Path) -> dict[str, tuple[str, str]]:
    return {c.name: (c.image.name if c.image else "", c.mask.name if c.mask else "") for c in find_cases(root)}


def test_images_find_their_masks_by_name(tmp_path: Path) -> None:
    files(tmp_path, "p1.nii.gz", "p1_mask.nii.gz", "p12.nrrd", "masks/p12.seg.nrrd", "p3.nii.gz")
    assert pairs(tmp_path) == {
        "p1": ("p1.nii.gz", "p1_mask.nii.gz"),
        "p12": ("p12.nrrd", "p12.seg.nrrd"),
        "p3": ("p3.nii.gz", ""),
    }


def test_bids_derivatives_belong_to_their_subject_and_session(tmp_path: Path) -> None:
    files(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz",
        "derivatives/wmh/sub-01/ses-2/anat/sub-01_ses-2_label-lesion_mask.nii.gz",
        "derivatives/wmh/sub-01/ses-1/anat/sub-01_ses-1_space-orig_dseg.nii.gz",
    )
    assert pairs(tmp_path) == {
        "sub-01_ses-1_FLAIR": ("sub-01_ses-1_FLAIR.nii.gz", "sub-01_ses-1_space-orig_dseg.nii.gz"),
        "sub-01_ses-2_FLAIR": ("sub-01_ses-2_FLAIR.nii.gz", "sub-01_ses-2_label-lesion_mask.nii.gz"),
    }


def test_a_batch_of_runs_and_a_folder_of_dicom_series_are_cases(tmp_path: Path) -> None:
    files(tmp_path / "out", "a/segmentation.seg.nrrd", "a/result.json", "b/segmentation.seg.nrrd")
    assert pairs(tmp_path / "out") == {
        "a": ("", "segmentation.seg.nrrd"),
        "b": ("", "segmentation.seg.nrrd"),
    }
    files(tmp_path / "dicom", "x/1.dcm", "x/2.dcm", "y/1.dcm")
    assert [c.name for c in find_cases(tmp_path / "dicom")] == ["x", "y"]


def test_tables_of_images_and_masks_and_a_file_that_is_missing(tmp_path: Path) -> None:
    files(tmp_path, "im/a.nii.gz", "m/a.nii.gz")
    table = tmp_path / "list.csv"
    table.write_text("image;mask\nim/a.nii.gz;m/a.nii.gz\n")
    assert find_cases(table) == [Case("a", (tmp_path / "im/a.nii.gz").resolve(), (tmp_path / "m/a.nii.gz").resolve())]
    table.write_text("Filename,Rating,Comments,Mask_filename,Mask_status\nim/b.nii.gz,,,m/a.nii.gz,\n")
    with pytest.raises(InputError, match=r"b\.nii\.gz"):
        find_cases(table)
    with pytest.raises(InputError, match="no images"):
        find_cases(files(tmp_path / "empty", "readme.txt"))


def test_two_cases_never_share_a_name() -> None:
    named = with_unique_names([Case("a", None), Case("A", None), Case("a", None)])
    assert [c.name for c in named] == ["a", "A_2", "a_3"]


def test_readers_are_kept_apart(tmp_path: Path) -> None:
    cases = [Case("c1", Path("/x/c1.nii")), Case("c2", Path("/x/c2.nii"))]
    write_case(case_folder(tmp_path, "c1", "AB"), CaseReview("c1", reader="AB", state="done", rating=4))
    write_case(case_folder(tmp_path, "c2"), CaseReview("c2", state="skipped"))
    assert [s.state for s in states(cases, tmp_path, "AB")] == ["done", "to do"]
    assert [s.rating for s in states(cases, tmp_path, "CD")] == [None, None]
    assert [s.state for s in states(cases, tmp_path)] == ["to do", "skipped"]
    assert [r.case for r in reviews_in(tmp_path, "AB")] == ["c1"]
    assert len(reviews_in(tmp_path)) == 2


def test_a_case_with_a_very_long_name_can_be_kept(tmp_path: Path) -> None:
    """File systems refuse names of more than 255 bytes; a series description from a scanner may be longer."""
    folders = {case_folder(tmp_path, "T2 " + "long " * 90 + end) for end in "ab"}
    assert len(folders) == 2 and all(len(f.name) < 120 for f in folders)
    for folder in folders:
        write_case(folder, CaseReview("long"))
        assert (folder / "review.json").is_file()


def test_one_damaged_case_does_not_hide_the_others_and_is_told(tmp_path: Path) -> None:
    for name in ("c1", "c2"):
        write_case(case_folder(tmp_path, name), CaseReview(name))
    (case_folder(tmp_path, "c1") / "review.json").write_text("{")
    monitor = Monitor()
    assert [r.case for r in reviews_in(tmp_path, monitor=monitor)] == ["c2"]
    assert "left out" in monitor.warnings[0]


REVIEWS = [
    CaseReview(
        "c1", "c1.nii", "m1.nii", state="done", rating=5, comment='=cmd()|"x",\nline', reader="AB", seconds=61.5,
        fields={"motion": True}, findings=[{"state": "accepted"}, {"state": "rejected"}, {"state": ""}],
        versions=[Version(1, "v", "AB", "t")],
    ),
    CaseReview("c2", "c2.nii"),
]  # fmt: skip


def test_the_cohort_counts_what_was_decided_and_runs_no_formula(tmp_path: Path) -> None:
    table = cohort_table(REVIEWS)
    assert table.column("left") == [1, 0]
    assert table.column("accepted") == [1, 0]
    assert table.column("form motion") == ["True", ""]
    text = write_cohort(tmp_path / "cohort.csv", REVIEWS).read_text()
    assert "'=cmd()" in text


def test_segmentation_reviews_csv_comes_back_as_it_was(tmp_path: Path) -> None:
    path = write_segmentation_review(
        tmp_path / "annotations.csv", [REVIEWS[1], CaseReview("c3", "c3.nii", "m", rating=2, comment="ok,\nso")]
    )
    assert path.read_text().splitlines()[0] == "Filename,Rating,Comments,Mask_filename,Mask_status"
    back = read_segmentation_review(path)
    assert [(r.case, r.rating, r.comment, r.mask, r.state) for r in back] == [
        ("c2.nii", None, "", "", "to do"),
        ("c3.nii", 2, "ok,\nso", "m", "done"),
    ]
    path.write_text("Filename,Rating\na,7\n")
    with pytest.raises(InputError, match="1 to 5"):
        read_segmentation_review(path)


def test_a_full_disk_leaves_the_cohort_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_cohort(tmp_path / "cohort.csv", REVIEWS)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="make room"):
        write_cohort(path, [])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["cohort.csv"]


def test_the_timer_stands_while_the_reader_is_away() -> None:
    timer = ReadingTimer(seconds=10, idle_after=60)
    timer.active(100)
    timer.active(130)
    assert timer.seconds(140) == 50
    assert timer.seconds(10_000) == 100
    assert timer.idle(10_000)
    timer.active(10_000)
    timer.stop(10_005)
    assert timer.seconds(20_000) == 105


def test_a_drawing_is_due_a_minute_after_its_first_unsaved_voxel() -> None:
    save = Autosave()
    assert not save.due(1e9)
    save.drawn(5)
    save.drawn(60)
    assert not save.due(64)
    assert save.due(65)
    save.saved()
    assert not save.due(1e9)


def test_a_form_takes_right_answers_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "form.json"
    path.write_text(
        json.dumps(
            {"questions": [
                {"name": "motion", "text": "Motion?", "type": "yes/no", "required": True},
                {"name": "side", "type": "choice", "choices": ["left", "right"]},
                {"name": "age", "type": "number", "minimum": 0, "maximum": 120},
            ]}
        )
    )  # fmt: skip
    motion, side, age = read_form(path)
    assert (motion.checked(False), side.checked("left"), age.checked("12"), age.checked("")) == (
        False,
        "left",
        12.0,
        None,
    )
    with pytest.raises(InputError, match="at most 120"):
        age.checked(121)
    with pytest.raises(InputError, match="left, right"):
        side.checked("up")
    assert missing((motion, side, age), {"motion": False}) == []
    assert missing((motion, side, age), {}) == ["Motion?"]
    path.write_text('{"questions": [{"name": "x", "type": "colour"}]}')
    with pytest.raises(InputError, match="yes/no"):
        read_form(path)
