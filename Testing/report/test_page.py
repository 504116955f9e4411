"""The report: right side of the patient at the left of the picture, nothing from a file is run, and it stands alone."""

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.io import Segmentation
from medseg.report import pictures
from medseg.report.page import page
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview
from medseg.review.decisions import Review

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
    assert "1 rejected" in html
    assert "1 not reviewed" in html
    assert "For research use only" in html
    assert second in {f.id for f in review.listed("size", unreviewed=True)}


def test_an_image_of_another_grid_is_refused() -> None:
    kept, review, _ = case()
    other = Grid((20, 20, 6), (2.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    with pytest.raises(InputError, match="different grids"):
        page(kept, review, Volume(np.zeros(other.shape), other))


def test_png_bytes_are_the_picture() -> None:
    assert pictures.png_of(np.zeros((4, 5, 3), np.uint8)).startswith(b"\x89PNG")
    assert sitk.Version()
