"""The report as PDF: a reader who has only Slicer gets a page to hand on, complete, or a sentence."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6", reason="PySide6 is not installed (pip install 'medseg[dev]')")

from medseg.errors import OutputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.io import Segmentation
from medseg.report.page import page
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview
from medseg.review.decisions import Review
from qt_host.fixtures import host  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def html(findings: int) -> str:
    """A page with so many findings, each of two voxels."""
    grid = Grid((60, 60, 24), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))
    labels = np.zeros(grid.shape, np.uint8)
    for n in range(findings):
        k, j = divmod(n, 14)
        labels[1 + 2 * k, 2 + 4 * j, 20:22] = 1
    classes = (SegmentClass(1, "lesion", (0.84, 0.37, 0.0), lesion=True),)
    review = Review(Segmentation(grid, (Layer(labels, classes),), "m.seg.nrrd"))
    volume = Volume(np.arange(labels.size, dtype=np.int16).reshape(labels.shape), grid, "MR", "flair")
    return page(CaseReview("case 7", rating=4, comment="seen"), review, volume)


def images(pdf: bytes) -> int:
    return len(re.findall(rb"/Subtype /Image\b", pdf))


def fonts_drawn(pdf: bytes) -> int:
    """Text operators in the pages' streams."""
    count = 0
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        try:
            count += zlib.decompress(stream).count(b" Tj")
        except zlib.error:
            continue
    return count


def test_a_usual_case_is_one_page_with_its_pictures_and_text(host: Any, tmp_path: Path) -> None:
    from medseg_panel.review.pdf import write_pdf

    assert write_pdf(tmp_path / "case.pdf", html(14), "case 7") == 1
    pdf = (tmp_path / "case.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-") and images(pdf) >= 6 and fonts_drawn(pdf) > 50
    assert [p.name for p in tmp_path.iterdir()] == ["case.pdf"]


def test_many_findings_go_on_to_further_pages_and_none_is_cut_off(host: Any, tmp_path: Path) -> None:
    from medseg_panel.review.pdf import write_pdf

    assert write_pdf(tmp_path / "case.pdf", html(120), "case 7") > 1


def test_a_page_that_cannot_be_written_leaves_the_one_before(host: Any, tmp_path: Path) -> None:
    from medseg_panel.review.pdf import write_pdf

    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        write_pdf(tmp_path / "file" / "case.pdf", html(2), "case 7")
