"""The report: right side of the patient at the left of the picture, nothing from a file is run, and it stands alone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.io import Segmentation
from medseg.report import pictures
from medseg.report.origin import card_line, run_lines
from medseg.report.page import page
from medseg.result import Column, Layer, SegmentClass, Table
from medseg.review.case_file import CaseReview
from medseg.review.decisions import Review
from medseg.review.slices import SliceReview

CLASSES = (SegmentClass(1, "<b>lesion", (1.0, 0.0, 0.0), lesion=True),)


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAS", "SRA"])
def test_the_patients_right_front_is_at_the_upper_left(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((20, 30, 12), (1.0, 1.0, 3.0), (-10.0, -15.0, 0.0), np.eye(3))
    array = np.zeros(grid.shape, np.float32)
    array[6, 2:5, 2:5] = 1  # low L and low P: right and anterior
    turned = grid.reoriented(code)
    from medseg.geometry.resample import resample

    array = resample(array, grid, turned, interpolation="nearest")
    ras = tuple(float(v) for v in grid.affine_ras[:3] @ [3, 3, 6, 1])
    seen = {}
    monkeypatch.setattr(pictures, "png_of", lambda p: seen.setdefault("picture", p).tobytes())
    labels = (array > 0).astype(np.uint8)
    made = pictures.key_image(array, labels, turned, ras, {1: (1.0, 0.0, 0.0)}, (0, 1), 300)
    rows, columns = np.nonzero(seen["picture"][..., 1] > 200)
    assert made.plane == "axial"
    assert made.letters == "RLAP"
    assert rows.mean() < 60
    assert columns.mean() < 60
    assert seen["picture"].shape == (300, 200, 3)
    red = (seen["picture"] == (255, 0, 0)).all(axis=2)
    assert red.sum() > 50


def case() -> tuple[CaseReview, Review, Volume]:
    grid = Grid((20, 20, 6), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2, 3:6, 3:6] = 1
    labels[4, 10:12, 10:12] = 1
    review = Review(Segmentation(grid, (Layer(labels, CLASSES),), "m.seg.nrrd"))
    return CaseReview("c1", comment="<script>alert(1)</script>", rating=4), review, Volume(labels * 1.0, grid)


def test_the_page_stands_alone_and_says_what_was_decided() -> None:
    kept, review, volume = case()
    first, second = (f.id for f in review.listed("size"))
    review.decide(first, "rejected")
    html = page(kept, review, volume)
    assert html.count("data:image/png;base64,iVBOR") == 2
    assert "<script" not in html
    assert "<b>lesion" not in html
    assert "http" not in html
    row = html[html.index("Summary</h2>") :]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", row)[1:5] == ["0", "1", "0", "1"], "accepted, rejected, uncertain, open"
    assert "For research use only" in html
    assert second in {f.id for f in review.listed("size", unreviewed=True)}


def test_a_classifiers_page_has_each_slice_with_the_readers_answer() -> None:
    """Who reads the report of a head CT asks on which slices the bleeding is, and what the reader said of each."""
    grid = Grid((20, 20, 6), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    names = ("slice", "centre_r_mm", "centre_a_mm", "centre_s_mm", "any", "<b>subdural", "epidural")
    columns = tuple(Column(name, "int" if name == "slice" else "float") for name in names)
    scores = [(0.1, 0.0), (0.7, 0.2), (0.9, 0.6), (0.2, 0.1), (0.8, 0.1), (0.1, 0.0)]
    rows = tuple((n + 1, 0.0, 0.0, 3.0 * n, *two, 0.01) for n, two in enumerate(scores))
    review = SliceReview(Table("slices", columns, rows), grid, "head", "ich")
    for finding in review.listed():
        if finding.name == "any":
            review.decide(finding.id, "accepted" if finding.voxels == 2 else "rejected")
    review.add("<b>subdural", 4, 5)
    html = page(CaseReview("c1"), review, Volume(np.zeros(grid.shape), grid))
    told = re.sub(r" +", " ", html[html.index("Each slice of a finding") : html.index('class="use"')])
    assert "3 of 6 slices" in told
    cells = [re.sub("<[^>]*>", "", c) for c in re.findall(r"<td[^>]*>(.*?)</td>", told)]
    assert cells == ["2", "0.70 yes", "0.20", "3", "0.90 yes", "0.60 open", "5", "0.80 no", "0.10 yes"]
    assert "&lt;b&gt;subdural" in told and "epidural" not in told, "a class without any finding takes no room"
    kept, with_mask, volume = case()
    assert "Each slice of a finding" not in page(kept, with_mask, volume)


def test_an_image_of_another_grid_is_refused() -> None:
    kept, review, _ = case()
    other = Grid((20, 20, 6), (2.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    with pytest.raises(InputError, match="different grids"):
        page(kept, review, Volume(np.zeros(other.shape), other))


def test_png_bytes_are_the_picture() -> None:
    assert pictures.png_of(np.zeros((4, 5, 3), np.uint8)).startswith(b"\x89PNG")
    assert sitk.Version()


@pytest.mark.parametrize("code", ["LPS", "LSA", "ARI", "SRA"])
def test_the_named_finding_is_marked_and_the_air_is_left_out(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small lesion among others: without the corners nobody knows which one the words are about."""
    from medseg.geometry.resample import resample

    grid = Grid((60, 50, 12), (1.0, 1.0, 3.0), (-10.0, -15.0, 0.0), np.eye(3))
    body = np.zeros(grid.shape, np.float32)
    body[:, 10:45, 20:50] = 50
    labels = np.zeros(grid.shape, np.uint8)
    labels[6, 20:24, 30:36] = 1
    turned = grid.reoriented(code)
    body, labels = (resample(a, grid, turned, interpolation="nearest") for a in (body, labels))
    box = tuple((int(a.min()), int(a.max()) + 1) for a in np.nonzero(labels))
    ras = tuple(float(v) for v in grid.affine_ras[:3] @ [33, 22, 6, 1])
    seen = {}
    monkeypatch.setattr(pictures, "png_of", lambda p: seen.setdefault("picture", p).tobytes())
    made = pictures.key_image(body, labels, turned, ras, {1: (1.0, 0.0, 0.0)}, (0, 100), 370, box=box, crop=True)
    picture = seen["picture"]
    assert picture.shape[:2] == (made.size[1], made.size[0]) == (370, 320), "35 + 2 by 30 + 2 voxels"
    yellow, red = ((picture == color).all(axis=2) for color in (pictures._YELLOW, (255, 0, 0)))
    (top, bottom), (left, right) = ((int(a.min()), int(a.max())) for a in np.nonzero(yellow))
    rows, columns = np.nonzero(red)
    for least, greatest, low, high in (
        (top, bottom, rows.min(), rows.max()),
        (left, right, columns.min(), columns.max()),
    ):
        assert 3 <= low - least <= 10 and 3 <= greatest - high <= 10, "around the outline, on all sides"


def test_card_and_run_are_said(tmp_path: Path) -> None:
    words = card_line("wmh-compact")
    assert "wmh-compact" in words and "trained on" in words and words.endswith(".")
    assert card_line("nothing-of-this-name") == card_line("") == ""
    assert run_lines(tmp_path) == []
    record = {"medseg": "0.1.0", "model": {"sha256": "ab" * 32}, "provider": "CPUExecutionProvider", "warnings": ["w"]}
    (tmp_path / "result.json").write_text(json.dumps(record))
    assert run_lines(tmp_path) == [("weights", "SHA-256 abababababababab"), ("run on", "CPUExecutionProvider"),
                                   ("run by", "MedSeg 0.1.0"), ("the run warned", "w")]  # fmt: skip
    made_from = {"framework": "nnU-Net v2", "folds": "0, 1"}
    record = {"model": {"made_from": made_from}, "inference": {"mirrored_along": ["i", "k"]}}
    (tmp_path / "result.json").write_text(json.dumps(record))
    assert run_lines(tmp_path) == [("made from", "framework nnU-Net v2; folds 0, 1"),
                                   ("mirrored images", "averaged, along i, k")]  # fmt: skip
    assert run_lines(tmp_path / "other.nii.gz") == [], "a mask beside it is not of that run"
    for damage in ("{", "[]", '{"model": 3, "warnings": {}, "provider": [1]}', '{"inference": {"mirrored_along": 3}}'):
        (tmp_path / "result.json").write_text(damage)
        if damage.startswith('{"'):
            assert run_lines(tmp_path) == []
        else:
            with pytest.raises(InputError, match=r"result\.json"):
                run_lines(tmp_path)
