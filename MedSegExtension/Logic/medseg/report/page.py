"""`write_page`: the review of one case as one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
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
from ..review.slices import ANSWERS, SliceReview
from .origin import card_line
from .pictures import key_image, window_of

_MOST_ROWS = 200
_STATES = ("accepted", "rejected", "uncertain", "not reviewed")
#: Words for answers that are too long for a column.
_SAID = {ANSWERS[""]: "open"}
#: Pixels of 1/96 inch that a key image takes at most.
_WIDE, _HIGH = 190, 165


def page(
    kept: CaseReview,
    review: Review,
    volume: Volume,
    *,
    pictures: int = 6,
    warnings: tuple[str, ...] = (),
    origin: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as HTML text. ``pictures``: of so many findings, accepted ones first, then the largest.

    ``origin``: further (name, words) on where the mask comes from (`origin.run_lines`). The HTML is such that Qt's
    QTextDocument prints it too: on one page of A4 where there are up to about 20 findings.

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
    rows = [
        {
            "id": f.id, "name": review.class_of(f.id), "size": _size(f),
            "centre": " ".join(f"{v:.0f}" for v in f.centre), "extent": " x ".join(f"{v:.0f}" for v in f.extent),
            "decision": _decision(review, f.id),
        }
        for f in findings
    ]  # fmt: skip
    model = kept.model or review.model.model_id
    lines = [
        ("image", kept.image or volume.name), ("mask", kept.mask or review.model.name),
        ("model", card_line(model) or model or "unknown: the mask does not say"), *origin,
        ("grid", str(volume.grid)), ("saved versions", _versions(kept)),
        ("minutes read", f"{kept.seconds / 60:.1f}"), ("made with", f"MedSeg {__version__}"),
    ]  # fmt: skip
    colors = {c.name: c.color for layer in review.model.layers for c in layer.classes}
    return template.render(
        case=kept,
        rating="" if kept.rating is None else f"{kept.rating}: {RATINGS[kept.rating]}",
        pictures=_pictures(review, volume, pictures),
        findings=rows,
        slices=_slices(review) if isinstance(review, SliceReview) else None,
        classes=_classes(review),
        states=_STATES,
        changed=kept.changed.replace("T", " ")[:16],
        origin=lines,
        colors=[(name, "#" + "".join(f"{round(255 * v):02x}" for v in color)) for name, color in colors.items()],
        size="ml" if review.model.layers else "slices",
        warnings=warnings,
        most=_MOST_ROWS,
    )


def _classes(review: Review) -> list[dict[str, Any]]:
    """A row a class: its findings by decision, and, where there are voxels, its volume and what the reader changed."""
    states = Counter((review.class_of(id), review.decision(id).state or _STATES[-1]) for id in review.findings)
    changes = {c.name: c for c in review.changes()}
    volumes: Counter[str] = Counter()
    for layer, labels in zip(review.model.layers, review.labels, strict=True):
        for c in layer.classes:
            volumes[c.name] += int(np.count_nonzero(labels == c.value))
    names = list(dict.fromkeys([*changes, *(name for name, _ in states)]))
    ml = review.grid.voxel_volume / 1000
    return [
        {"name": name, "counts": [states[name, state] for state in _STATES], "change": changes.get(name),
         "ml": f"{volumes[name] * ml:.3g}"}
        for name in names
    ]  # fmt: skip


def _slices(review: SliceReview) -> dict[str, Any]:
    """``classes`` that were found anywhere, and ``rows``: of each slice in a finding its number and, for each class,
    the score and the reader's answer."""
    names = [name for name in review.classes if any(name in (review.class_of(f.id), f.name) for f in review.listed())]
    table = review.answers()
    answers = [[str(cell) for cell in table.column(f"{name} reviewed")] for name in names]
    rows = []
    for n in range(len(table.rows)):
        said = [column[n] for column in answers]
        if any(said):
            number, scores = review.scores_at(n)
            cells = [(f"{scores[name]:.2f}", _SAID.get(one, one)) for name, one in zip(names, said, strict=True)]
            rows.append({"number": number, "cells": cells})
    return {"classes": names, "rows": rows, "all": len(table.rows)}


def _size(finding: Finding) -> str:
    """Its volume in ml; of a classifier's finding how many slices it has."""
    return f"{finding.volume_ml:.3g}" if finding.volume_ml else str(finding.voxels)


def _versions(kept: CaseReview) -> str:
    if not kept.versions:
        return "none"
    last = max(kept.versions, key=lambda v: v.number)
    return f"{len(kept.versions)}, the last {last.time}{f' by {last.reader}' if last.reader else ''}"


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
        box = f.box if review.labels else None
        picture = key_image(array, labels, volume.grid, f.centre, colors, window, box=box, crop=True)
        measure = f"{_size(f)} ml" if review.labels else f"score {f.probability or 0:.2f}, {f.voxels} slices"
        words = f"{f.id}: {review.class_of(f.id)}, {measure}, {picture.plane}, {_decision(review, f.id)}"
        data = base64.b64encode(picture.png).decode("ascii")
        width, height = _shown_size(picture.size)
        shown.append({"data": data, "letters": picture.letters, "words": words, "width": width, "height": height})
    return shown


def _overlay(review: Review, f: Finding) -> tuple[npt.NDArray[Any], dict[int, tuple[float, float, float]]]:
    """Labels (K, J, I) and the colour of each value; a classifier has none."""
    if not review.labels:
        return np.zeros(review.grid.shape, np.uint8), {}
    layer = review.model.layers[f.layer]
    # A rejected finding is shown as it was.
    rejected = review.decision(f.id).state == "rejected"
    return layer.labels if rejected else review.labels[f.layer], {c.value: c.color for c in layer.classes}


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height in the page: three beside each other on A4."""
    scale = min(_WIDE / size[0], _HIGH / size[1])
    return round(size[0] * scale), round(size[1] * scale)


def write_page(path: str | Path, html: str) -> Path:
    """Write the page, all or nothing. Raises `OutputError`."""
    return save_text(path, html)
