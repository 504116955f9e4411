"""What is kept of the review of one case: ``review.json``, the reviewed mask, and every version that was saved of it.
Of a classifier's result ``slices_reviewed.csv`` is kept in the mask's place.

``review.json`` is written after each decision, all or nothing, and the one before it is kept as ``review.json.bak``. It
holds no name of a patient: a case is called after its file. Its form is `file_schema`'s.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError, damage_is
from ..io.segmentations import Segmentation, read_segmentation
from ..monitor import Monitor
from ..output.files import replacing, save_segmentation, save_text
from .decisions import STATES, Review
from .file_schema import CASE_STATES, INITIALS, RATINGS, VERSION, problem
from .slices import SliceReview

__all__ = ["CASE_STATES", "FILE", "MASK", "RATINGS", "SLICES", "VERSIONS", "CaseReview", "Version", "give_decisions",
           "load_version", "newest_mask", "read_case", "save_slices", "save_version", "take_decisions",
           "write_case"]  # fmt: skip

FILE, MASK, VERSIONS, SLICES = "review.json", "reviewed.seg.nrrd", "versions", "slices_reviewed.csv"
_NUMBER = "medseg_review"


@dataclass(frozen=True)
class Version:
    """A mask that was saved. ``number``: from 1. ``time``: UTC, ISO 8601."""

    number: int
    file: str
    reader: str
    time: str
    comment: str = ""


@dataclass
class CaseReview:
    """``rating``: 1 to 5, None where there is none. ``finding``: where the reader was. ``seconds``: spent on the case.

    ``fields``: answers to a form's questions. ``findings``: id -> decision with the place of its finding.
    """

    case: str
    image: str = ""
    mask: str = ""
    model: str = ""
    reader: str = ""
    state: str = "to do"
    rating: int | None = None
    comment: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    finding: int = 0
    seconds: float = 0.0
    findings: list[dict[str, Any]] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    changed: str = ""


def take_decisions(kept: CaseReview, review: Review) -> None:
    """Put the decisions of ``review`` into ``kept``: with the place of each finding, by which they are found again."""
    found = []
    for id, f in sorted(review.findings.items()):
        one = review.decision(id)
        found.append({
            "id": id, "class": one.name or f.name, "model_class": f.name, "layer": f.layer, "centre": list(f.centre),
            "volume_ml": f.volume_ml, "state": one.state, "name": one.name, "added": one.added,
        })  # fmt: skip
        if isinstance(review, SliceReview):
            found[-1]["slices"] = list(review.rows_of(id))
    kept.findings = found


class Steps(Protocol):
    """What decides: a `Review`, or its `journal.Journal`."""

    def decide(self, id: int, state: Any) -> None: ...

    def relabel(self, id: int, name: str) -> None: ...


def give_decisions(kept: CaseReview, review: Review, steps: Steps | None = None) -> list[str]:
    """Decide in ``review``, made of the same mask, as ``kept`` says; sentences of what was not found again.

    A finding is the same where its number is and it lies at the same place (within a voxel's diagonal); one that the
    reader drew, where one lies at its place. ``steps``: what the decisions go through, ``review`` itself where None.
    """
    through: Steps = steps or review
    if isinstance(review, SliceReview):
        return _give_slices(kept, review, through)
    near = sum(s * s for s in review.grid.spacing) ** 0.5
    lost = 0
    for one in kept.findings:
        state = one.get("state", "")
        if not state and not one.get("name"):
            continue
        place = [float(v) for v in one["centre"]]
        listed = [review.findings.get(int(one["id"]))]
        if one.get("added"):
            listed += [f for f in review.findings.values() if review.decision(f.id).added]
        finding = next((f for f in listed if f is not None and math.dist(f.centre, place) <= near), None)
        if finding is None:
            lost += not one.get("added")
            continue
        if one.get("name"):
            through.relabel(finding.id, str(one["name"]))
        if state in STATES:
            through.decide(finding.id, state)
    return [f"{lost} decisions belong to findings that this mask does not have; they were left out."] if lost else []


def _give_slices(kept: CaseReview, review: SliceReview, through: Any) -> list[str]:
    """As `give_decisions`: a finding is the same where the class is, and the slices that it covers."""
    lost = 0
    add: Callable[[str, int, int], int] = getattr(through, "add_slices", review.add)
    for one in kept.findings:
        state, name, rows = one.get("state", ""), one.get("name", ""), tuple(one.get("slices") or ())
        if not state and not name:
            continue
        places = {(f.name, review.rows_of(id)): id for id, f in review.findings.items()}
        id = places.get((str(one.get("model_class", "")), rows))
        if id is None:
            try:
                id = add(str(one.get("model_class", "")), int(rows[0]), int(rows[1]))
            except (InputError, IndexError, ValueError):
                lost += 1
                continue
        if name:
            through.relabel(id, str(name))
        if state in STATES:
            through.decide(id, state)
    return [f"{lost} decisions are on slices that this table does not have; they were left out."] if lost else []


def read_case(folder: str | Path, monitor: Monitor | None = None) -> CaseReview | None:
    """The review kept in ``folder``, None where there is none.

    A damaged file is replaced by the one before it, which is told. Raises `InputError` where neither can be read, or
    a newer MedSeg wrote it.
    """
    path = Path(folder) / FILE
    if not path.is_file() and not path.with_suffix(".json.bak").is_file():
        return None
    try:
        return _parsed(path)
    except InputError as error:
        older = path.with_suffix(".json.bak")
        if "newer" in str(error) or not older.is_file():
            raise
        kept = _parsed(older)
        if monitor is not None:
            monitor.warn(f"{error} The review as it was before the last decision was taken ({older.name}).")
        return kept


def _parsed(path: Path) -> CaseReview:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path.name} of {path.parent.name} cannot be read ({type(error).__name__}).") from error
    name = f"{path.name} of {path.parent.name}"
    version = raw.get(_NUMBER) if isinstance(raw, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InputError(f"{name} is no review of MedSeg: it states no version of its form.")
    if version > VERSION:
        raise InputError(
            f"{name} was written by a newer MedSeg (version {version}, this one reads {VERSION}); update MedSeg."
        )
    if wrong := problem(raw):
        raise InputError(f"{name} is damaged: {wrong}.")
    try:  # what could not be saved again would fail at the next decision, and lose it
        _json(raw).encode()
    except ValueError as error:
        raise InputError(f"{name} is damaged: it holds a number or a text that cannot be kept.") from error
    with damage_is(InputError, name):
        known = {name: raw[name] for name in CaseReview.__dataclass_fields__ if name in raw}
        known["versions"] = [
            Version(**{name: one[name] for name in Version.__dataclass_fields__ if name in one})
            for one in known.get("versions", [])
        ]
        return CaseReview(**known)


def write_case(folder: str | Path, kept: CaseReview) -> Path:
    """Write ``review.json``, all or nothing; the one before stays beside it. Raises `OutputError`."""
    if not re.search(INITIALS, kept.reader):
        raise InputError(f"{kept.reader!r} are no initials; give up to eight letters, or none.")
    path = Path(folder) / FILE
    kept.changed = _now()
    return save_text(path, _text(kept), keep_as=path.with_suffix(".json.bak"))


def _text(kept: CaseReview) -> str:
    """A field a line, and a finding a line: all are written after each decision, 2,000 of them in about 20 ms."""
    fields: dict[str, Any] = {_NUMBER: VERSION, **vars(kept), "versions": [vars(one) for one in kept.versions]}
    lines = []
    for name, value in fields.items():
        if isinstance(value, list) and value:
            words = "[\n  " + ",\n  ".join(map(_json, value)) + "\n ]"
        else:
            words = _json(value)
        lines.append(f" {_json(name)}: {words}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def save_version(folder: str | Path, kept: CaseReview, segmentation: Segmentation, comment: str = "") -> Version:
    """Save ``segmentation`` as the reviewed mask and as a version of its own, and write the case. Raises

    `OutputError`.
    """
    folder = Path(folder)
    number = max((v.number for v in kept.versions), default=0) + 1
    time = _now()
    stamp = re.sub(r"[^0-9]", "", time)[:14]
    name = f"{number:04d}_{stamp}{'_' + kept.reader if kept.reader else ''}.seg.nrrd"
    version = Version(number, f"{VERSIONS}/{name}", kept.reader, time, comment)
    save_segmentation(folder / VERSIONS / name, segmentation.layers, segmentation.grid, segmentation.model_id)
    with replacing(folder / MASK) as new:
        shutil.copyfile(folder / VERSIONS / name, new)
    kept.versions.append(version)
    write_case(folder, kept)
    return version


def save_slices(folder: str | Path, kept: CaseReview, review: SliceReview) -> Path:
    """Write what the reader says of each slice (`SliceReview.answers`), and the case. Raises `OutputError`."""
    path = save_text(Path(folder) / SLICES, review.answers().to_csv())
    write_case(folder, kept)
    return path


def load_version(folder: str | Path, kept: CaseReview, number: int) -> Segmentation:
    """The mask of version ``number``. Raises `InputError` where there is no such version."""
    for version in kept.versions:
        if version.number == number:
            return read_segmentation(Path(folder) / version.file)
    raise InputError(
        f"{kept.case} has no version {number}; it has {', '.join(str(v.number) for v in kept.versions) or 'none'}."
    )


def newest_mask(folder: str | Path, kept: CaseReview, monitor: Monitor | None = None) -> Segmentation | None:
    """The mask that was saved last and can be read, None where none was saved; a damaged one is told."""
    candidates: Mapping[str, Path] = {"the reviewed mask": Path(folder) / MASK} | {
        f"version {v.number}": Path(folder) / v.file for v in sorted(kept.versions, key=lambda v: -v.number)
    }
    for words, path in candidates.items():
        if not path.is_file():
            continue
        try:
            return read_segmentation(path)
        except InputError as error:
            if monitor is not None:
                monitor.warn(f"{words} of {kept.case} cannot be read ({error}); the one before it was taken.")
    return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
