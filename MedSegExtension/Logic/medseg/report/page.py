"""`write_page`: the review of one case as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..errors import InputError
from ..geometry.volume import Volume
from ..output.files import save_text
from ..review.case_file import RATINGS, CaseReview
from ..review.decisions import Review
from ..review.findings import Finding
from .pictures import key_image, window_of

_MOST_ROWS = 200


def page(kept: CaseReview, review: Review, volume: Volume, *, pictures: int = 6, warnings: tuple[str, ...] = ()) -> str:
    """The page as HTML text. ``pictures``: of so many findings, accepted ones first, then the largest.

    Raises `InputError` where image and mask lie on different grids, or Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise InputError("A report needs the package Jinja2: pip install jinja2, or medseg with [report].") from error
    if not volume.grid.same_as(review.grid):
        raise InputError(
            f"{volume.name} and the mask of {kept.case} lie on different grids; give the image it was made of."
        )
    findings = review.listed("size")
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    # Names of files, classes and comments are anybody's: all are escaped.
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html.j2")
    states = Counter(review.decision(f.id).state or "not reviewed" for f in findings)
    rows = [
        {
            "id": f.id, "name": review.class_of(f.id), "ml": f"{f.volume_ml:.3g}",
            "centre": " ".join(f"{v:.0f}" for v in f.centre), "extent": " x ".join(f"{v:.0f}" for v in f.extent),
            "decision": _decision(review, f.id),
        }
        for f in findings
    ]  # fmt: skip
    origin = [
        ("image", kept.image or volume.name), ("mask", kept.mask or review.model.name),
        ("model", kept.model or review.model.model_id or "unknown: the mask does not say"),
        ("grid", str(volume.grid)), ("saved versions", str(len(kept.versions))),
        ("minutes read", f"{kept.seconds / 60:.1f}"), ("made with", f"MedSeg {__version__}"),
    ]  # fmt: skip
    return template.render(
        case=kept,
        rating="" if kept.rating is None else f"{kept.rating}: {RATINGS[kept.rating]}",
        pictures=_pictures(review, volume, pictures),
        findings=rows,
        counts=sorted(states.items()),
        changes=review.changes(),
        origin=origin,
        warnings=warnings,
        most=_MOST_ROWS,
    )


def _decision(review: Review, id: int) -> str:
    decision = review.decision(id)
    words: str = decision.state or "not reviewed"
    words += f", was {review.findings[id].name}" if decision.name else ""
    return words + (", added by the reader" if decision.added else "")


def _pictures(review: Review, volume: Volume, most: int) -> list[dict[str, Any]]:
    array = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
    window = window_of(array, volume.modality)
    order = sorted(review.listed("size"), key=lambda f: review.decision(f.id).state != "accepted")
    shown = []
    for f in order[:most]:
        labels, colors = _overlay(review, f)
        picture = key_image(array, labels, volume.grid, f.centre, colors, window)
        size = f"{f.volume_ml:.3g} ml" if review.labels else f"score {f.probability or 0:.2f}"
        words = f"{f.id}: {review.class_of(f.id)}, {size}, {picture.plane}, {_decision(review, f.id)}"
        data = base64.b64encode(picture.png).decode("ascii")
        shown.append({"data": data, "letters": picture.letters, "words": words})
    return shown


def _overlay(review: Review, f: Finding) -> tuple[npt.NDArray[Any], dict[int, tuple[float, float, float]]]:
    """Labels (K, J, I) and the colour of each value; a classifier has none."""
    if not review.labels:
        return np.zeros(review.grid.shape, np.uint8), {}
    layer = review.model.layers[f.layer]
    # A rejected finding is shown as it was.
    rejected = review.decision(f.id).state == "rejected"
    return layer.labels if rejected else review.labels[f.layer], {c.value: c.color for c in layer.classes}


def write_page(path: str | Path, html: str) -> Path:
    """Write the page, all or nothing. Raises `OutputError`."""
    return save_text(path, html)
