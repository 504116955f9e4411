"""`open_review`: a case as its reader left it, from whatever is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..io.segmentations import Segmentation
from ..monitor import Monitor
from .case_file import CaseReview, give_decisions, newest_mask, read_case
from .decisions import Review
from .journal import FILE, Journal


@dataclass(eq=False)
class OpenCase:
    """``kept``: what `case_file.write_case` writes; ``warnings``: what could not be taken up again, as sentences."""

    folder: Path
    kept: CaseReview
    review: Review
    journal: Journal
    warnings: list[str]


def open_review(
    folder: str | Path,
    review: Review,
    new: CaseReview,
    *,
    monitor: Monitor | None = None,
) -> OpenCase:
    """Begin ``review``, which has no step yet, in ``folder``, or go on with the one that is kept there.

    ``new``: what is kept of a case that was not begun. Where the steps are there they are done again; else decisions
    are taken over by their place, and voxels from the newest mask that was saved.
    Raises `InputError` where ``review.json`` or the folder cannot be read.
    """
    try:
        return _opened(Path(folder), review, new, monitor)
    except OSError as error:
        raise InputError(
            f"The review of {new.case} cannot be opened: {folder} cannot be read ({error.strerror or error})."
        ) from error


def _opened(folder: Path, review: Review, new: CaseReview, monitor: Monitor | None) -> OpenCase:
    kept = read_case(folder, monitor) or new
    journal = Journal(folder, review)
    warnings = [] if not (folder / FILE).is_file() else journal.resume()
    if review.steps == 0 and (kept.findings or kept.versions):
        warnings += give_decisions(kept, review, journal)
        if review.labels and (saved := newest_mask(folder, kept, monitor)) is not None:
            warnings += take_mask(journal, saved)
            drawn = replace(kept, findings=[one for one in kept.findings if one.get("added")])
            warnings += give_decisions(drawn, review, journal)
    return OpenCase(folder, kept, review, journal, warnings)


def take_mask(journal: Journal, mask: Segmentation) -> list[str]:
    """Make ``mask`` (a version, a correction made elsewhere) the reviewed one, class by class, as steps to undo.

    Sentences of what of it could not be taken. Raises `InputError` where it lies on another grid.
    """
    review = journal.review
    if not mask.grid.same_as(review.grid):
        raise InputError(f"{mask.name} lies on another grid than the mask under review, so it cannot take its place.")
    known = {_plain(c.name) for layer in review.model.layers for c in layer.classes}
    there = {_plain(c.name): c.name for c in mask.classes}
    for n, layer in enumerate(review.model.layers):
        labels = np.zeros_like(review.labels[n])
        for c in layer.classes:
            if _plain(c.name) in there:
                labels[mask.mask(there[_plain(c.name)])] = c.value
        journal.edited(n, labels)
    told = []
    if further := [c.name for c in mask.classes if _plain(c.name) not in known]:
        told.append(f"{mask.name} has classes that the mask under review lacks: {', '.join(further)}.")
    if emptied := sorted(known - set(there)):
        told.append(f"{mask.name} lacks classes of the mask under review, which are empty now: {', '.join(emptied)}.")
    return told


def _plain(name: str) -> str:
    """A name as a file keeps it."""
    return " ".join(name.split())
