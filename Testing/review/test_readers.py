"""Two readers: the second reads blinded, each disagreement is found, and the list of them can be read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.io import Segmentation
from medseg.monitor import Monitor
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, save_version, take_decisions, write_case
from medseg.review.cases import case_folder, find_cases, reader_folder, reviews_in, states
from medseg.review.decisions import Review
from medseg.review.readers import compare_readers, write_disagreements

GRID = Grid((24, 20, 8), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
CLASSES = (SegmentClass(1, "lesion", (1.0, 0.0, 0.0), lesion=True),)


def mask() -> Segmentation:
    """Four lesions of 18, 8, 4 and 2 voxels: findings 1 to 4, from the lowest slice up."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[0:2, 2:5, 2:5], labels[3, 10:14, 4:6], labels[5, 2:4, 15:17], labels[7, 15, 20:22] = 1, 1, 1, 1
    return Segmentation(GRID, (Layer(labels, CLASSES),), "m.seg.nrrd")


def read(root: Path, reader: str, case: str, states_: dict[int, str], *, rating: int = 4, draw: Any = None,
         save: bool = True) -> Path:  # fmt: skip
    """A finished review; ``draw``: (index, value) of voxels that the reader changed."""
    review = Review(mask())
    for id, state in states_.items():
        review.decide(id, state)  # type: ignore[arg-type]
    if draw is not None:
        drawn = review.labels[0].copy()
        drawn[draw[0]] = draw[1]
        review.edited(0, drawn)
    kept = CaseReview(case, f"{case}.nii.gz", "m.seg.nrrd", reader=reader, state="done", rating=rating)
    take_decisions(kept, review)
    folder = case_folder(root, case, reader)
    if save:
        save_version(folder, kept, review.reviewed())
    else:
        write_case(folder, kept)
    return folder


ALL = {1: "accepted", 2: "accepted", 3: "accepted", 4: "rejected"}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Reader AB and CD: the same on case 1; on case 2 a decision, a drawn lesion and the rating differ."""
    for case in ("case 1", "case2"):
        read(tmp_path, "AB", case, ALL)
    read(tmp_path, "CD", "case 1", ALL)
    read(tmp_path, "CD", "case2", ALL | {1: "rejected"}, rating=2, draw=((6, slice(4, 7), slice(4, 7)), 1))
    return tmp_path


def test_each_disagreement_of_two_readers_is_found(two: Path) -> None:
    found = compare_readers(reader_folder(two, "AB"), reader_folder(two, "CD"))
    assert (found.one, found.other, found.missing) == ("AB", "CD", ())
    same, differ = found.cases
    assert same.why(0.8) == [] and same.classes[0].dice == 1 and len(same.decisions) == 4
    assert differ.differ == [(1, "lesion", "accepted", "rejected")]
    assert (differ.only_one, differ.only_other) == (0, 1), "the drawn lesion is only the second reader's"
    counts = differ.classes[0].lesions.counts
    assert (counts.tp, counts.fp, counts.fn) == (2, 1, 1)
    assert differ.classes[0].dice == pytest.approx(2 * 12 / (30 + 21))
    assert found.lesion_f1 == pytest.approx(2 * 5 / (2 * 5 + 2)) and found.ratings.cases == 2
    decided = found.decisions
    assert len(decided) == 8 and found.decisions_kappa == pytest.approx((7 / 8 - 36 / 64) / (1 - 36 / 64))
    other = compare_readers(reader_folder(two, "CD"), reader_folder(two, "AB"))
    assert other.lesion_f1 == found.lesion_f1 and other.mean_dice == found.mean_dice, "neither reader is the truth"


def test_the_second_reader_sees_nothing_of_the_first(two: Path, tmp_path: Path) -> None:
    """Also where reviews are kept inside the folder of images, and whatever letters the initials are typed in."""
    save_segmentation(tmp_path / "images" / "case2_seg.seg.nrrd", mask().layers, GRID)
    read(tmp_path / "images" / "reviews", "AB", "case2_seg", ALL)
    cases = find_cases(tmp_path / "images")
    assert [(c.name, c.mask and c.mask.name) for c in cases] == [("case2_seg", "case2_seg.seg.nrrd")]
    assert [s.state for s in states(cases, tmp_path / "images" / "reviews", "CD")] == ["to do"]
    assert [s.state for s in states(cases, tmp_path / "images" / "reviews", "ab")] == ["done"]
    mine = reviews_in(two, "CD")
    assert {one.reader for one in mine} == {"CD"} and len(mine) == 2
    assert reviews_in(two, "EF") == []
    # A case without initials is another reader, and two cases never share a folder.
    assert len({case_folder(two, c, r) for c in ("a b", "a-b", "a/b") for r in ("", "AB")}) == 6


def test_cases_on_which_readers_differ_are_a_case_list(two: Path, tmp_path: Path) -> None:
    found = compare_readers(reader_folder(two, "AB"), reader_folder(two, "CD"))
    names = write_disagreements(tmp_path / "out" / "again.csv", found, reader_folder(two, "AB"))
    assert names == ["case2"]
    (case,) = find_cases(tmp_path / "out" / "again.csv")
    assert case.name == "case2" and case.image is None
    assert case.mask == (case_folder(two, "case2", "AB") / "reviewed.seg.nrrd").resolve()
    image = save_segmentation(tmp_path / "first.seg.nrrd", mask().layers, GRID)
    (tmp_path / "list.csv").write_text("case,image,mask\ncase2,first.seg.nrrd,first.seg.nrrd\n")
    listed = find_cases(tmp_path / "list.csv")
    write_disagreements(tmp_path / "out" / "again.csv", found, reader_folder(two, "AB"), listed)
    assert find_cases(tmp_path / "out" / "again.csv")[0].image == image.resolve()


def test_masks_that_are_missing_or_damaged_cost_only_their_figures(two: Path) -> None:
    read(two, "AB", "case3", ALL)
    read(two, "CD", "case3", ALL | {2: "uncertain"}, save=False)
    monitor = Monitor()
    found = compare_readers(reader_folder(two, "AB"), reader_folder(two, "CD"), monitor=monitor)
    third = found.cases[-1]
    assert third.classes == () and "reader CD saved none" in third.problem and len(third.differ) == 1
    assert any("case3" in w for w in monitor.warnings)
    assert found.table().column("problem")[-1] == third.problem
    with pytest.raises(InputError, match="no review"):
        compare_readers(reader_folder(two, "AB"), reader_folder(two, "EF"))
    with pytest.raises(InputError, match="two reviews of the case"):
        compare_readers(two, reader_folder(two, "AB"))


def test_the_command_prints_and_writes_it(two: Path, tmp_path: Path) -> None:
    one, other = (str(reader_folder(two, r)) for r in ("AB", "CD"))
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["review", "agreement", one, other, "-o", out, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["disagreements"] == ["case2"] and told["decisions"]["equal"] == 7
    assert (tmp_path / "out" / "agreement.csv").read_text().startswith("case,rating_one,rating_other,")
    assert find_cases(tmp_path / "out" / "disagreements.csv")[0].name == "case2"
    again = CliRunner().invoke(app, ["review", "agreement", one, other, "-o", out])
    assert again.exit_code != 0 and "already holds" in again.output
    shown = CliRunner().invoke(app, ["review", "agreement", one, other])
    assert "kappa of decisions" in shown.output and "1 decision differs" in " ".join(shown.output.split())
    assert CliRunner().invoke(app, ["review", "agreement", one, str(two / "x.csv")]).exit_code == 2
