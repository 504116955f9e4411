"""A list of cases as a reader goes through it, and where it is gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import InputError
from medseg.review.case_file import CaseReview, write_case
from medseg.review.cases import Case, case_folder, find_cases, give_images
from medseg.review.findings import components_of, measure
from medseg.review.place import Place, forget_place, list_folder, read_place, write_place
from medseg.review.worklist import WorkList, finished


def worklist(root: Path, reader: str = "") -> WorkList:
    """Five cases: to do, done, skipped, in progress, one whose file is damaged."""
    cases = [Case(name, root / f"{name}.nii.gz") for name in ("one", "two", "three", "four", "five")]
    for case, state in zip(cases[1:4], ("done", "skipped", "in progress"), strict=True):
        write_case(case_folder(root, case.name), CaseReview(case.name, state=state, comment=f"{state} by hand"))
    case_folder(root, "five").mkdir(parents=True)
    (case_folder(root, "five") / "review.json").write_text("{")
    return WorkList(cases, root, reader)


def test_filters_and_steps(tmp_path: Path) -> None:
    """Next must go to a case of the filter, also when the open one left the filter by being done."""
    found = worklist(tmp_path)
    assert found.wanted(words="HAND prog") == [], "comments are searched when they are known"
    while not found.read_some():
        pass
    assert found.wanted(words="HAND prog") == [3]
    assert found.wanted("to do") == [0, 4] and found.wanted(only={"two", "four"}) == [1, 3]
    assert found.counts() == {"to do": 2, "done": 1, "skipped": 1, "in progress": 1}
    assert found.after(1, 1, [0, 4]) == 4 and found.after(1, -1, [0, 4]) == 0 and found.after(4, 1, [0, 4]) == -1
    assert found.first_open() == 0 and found.number_of("three") == 2 and found.number_of("six") == -1


def test_a_damaged_review_is_a_problem_of_its_case_only(tmp_path: Path) -> None:
    found = worklist(tmp_path)
    assert [kept.case for kept in found.all_kept()] == ["one", "two", "three", "four", "five"]
    assert set(found.problems) == {4} and "review.json" in found.problems[4]


def test_a_second_reader_sees_nothing_of_the_first(tmp_path: Path) -> None:
    found = worklist(tmp_path, "AB")
    assert {kept.state for kept in found.all_kept()} == {"to do"} and {k.reader for k in found.all_kept()} == {"AB"}


def test_what_counts_as_done() -> None:
    assert finished(CaseReview("a", rating=1)) and not finished(CaseReview("a"))
    findings = [{"id": n, "centre": [0, 0, 0], "state": "accepted"} for n in range(2)]
    assert finished(CaseReview("a", findings=findings))
    findings[1]["state"] = ""
    assert not finished(CaseReview("a", findings=findings))


def test_a_place_comes_back_and_damage_counts_as_none(tmp_path: Path) -> None:
    assert read_place(tmp_path) is None
    place = Place("files", "/data/study", "", "AB", "case7", 7, 20)
    write_place(tmp_path, place)
    assert read_place(tmp_path) == place
    for damage in ("", "[]", '{"medseg_place": 1}', json.dumps({"medseg_place": 1, "kind": 3, "source": ""})):
        (tmp_path / "last-list.json").write_text(damage)
        assert read_place(tmp_path) is None
    forget_place(tmp_path)
    forget_place(tmp_path)


def test_lists_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    """Ratings of another patient's case1 are worse than none."""
    first = list_folder(tmp_path, "study", "/a/study", ["case1", "case2"])
    assert first.name == "study" and list_folder(tmp_path, "study", "/a/study", ["case1", "case2", "case3"]) == first
    with pytest.raises(InputError, match="/a/study"):
        list_folder(tmp_path, "study", "/b/study", ["case1"])
    assert list_folder(tmp_path, "study", "/b/study", ["case1"], moved=False).name == "study-2"
    assert list_folder(tmp_path, "study", "/b/study", ["case1"]).name == "study-2", "known from now on"
    assert list_folder(tmp_path, "study", "/c/study", ["other"]).name == "study-3"
    assert list_folder(tmp_path, "study", "/d/study", ["case2"], moved=True) == first
    assert list_folder(tmp_path, "study", "/d/study", ["case2"]) == first


def test_cases_stand_in_the_order_that_people_count_in(tmp_path: Path) -> None:
    for n in (10, 2, 1):
        (tmp_path / f"case{n}.nii.gz").touch()
    made = tmp_path / "reviews" / "masks"
    made.mkdir(parents=True)
    (made / "case1.seg.nrrd").touch()
    (made.parent / "list.json").write_text("{}")
    assert [c.name for c in find_cases(tmp_path)] == ["case1", "case2", "case10"], "masks of a list are no cases"


def test_results_of_a_batch_get_the_image_of_their_very_name(tmp_path: Path) -> None:
    for name in ("sub-1_T1w.nii.gz", "sub-1_FLAIR.nii.gz"):
        (tmp_path / name).touch()
    run = tmp_path / "batch" / "sub-1_FLAIR" / "segmentation.seg.nrrd"
    (case,) = give_images([Case("sub-1_FLAIR", None, run)], tmp_path)
    assert case.image is not None and case.image.name == "sub-1_FLAIR.nii.gz"
    (case,) = give_images([Case("sub-2", None, run.parent.parent / "sub-2" / run.name)], tmp_path)
    assert case.image is None


@pytest.mark.parametrize("share", [0.002, 0.3])
def test_findings_are_numbered_as_they_come_in_the_volume(share: float) -> None:
    """Steps that were written down name findings by number: another way to count must give the same numbers."""
    from medseg.geometry.grid import Grid

    rng = np.random.default_rng(3)
    smooth = ndimage.uniform_filter(rng.random((60, 110, 100)), 3)
    labels = (smooth > np.quantile(smooth, 1 - share)).astype(np.uint8)
    labels[:, :50][labels[:, :50] > 0] = 2
    numbers, value_of = components_of(labels, [1, 2])
    count = 0
    for value in (1, 2):
        found, n = ndimage.label(labels == value, np.ones((3, 3, 3)))
        assert np.array_equal(numbers[found > 0], found[found > 0] + count)
        count += n
    assert len(value_of) == count
    grid = Grid((100, 110, 60), (1, 1, 1), (0, 0, 0), np.eye(3))
    findings = measure(numbers, {n: (n, "x", 0, v) for n, v in value_of.items()}, grid)
    boxes = ndimage.find_objects(numbers)
    assert [f.slices for f in findings] == boxes and sum(f.voxels for f in findings) == (numbers > 0).sum()
