"""What a reader works with: masks of any origin with tables of names, and what is kept of a review."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.geometry.grid import Grid
from medseg.io.label_names import read_table
from medseg.io.segmentations import Segmentation, read_segmentation
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, newest_mask, read_case, save_version, take_decisions
from medseg.review.cases import find_cases
from medseg.review.cohort import read_segmentation_review
from medseg.review.decisions import Review
from medseg.review.form import read_form
from medseg.review.readers import compare_readers
from medseg.review.resuming import open_review
from support.io_samples import nifti_bytes

from .kind import Files, Kind

#: A case of these kinds reads and writes several files.
_TESTED = 30
_GRID = Grid((8, 7, 5), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))
_CLASSES = (SegmentClass(1, "a", (1.0, 0.0, 0.0), lesion=True), SegmentClass(2, "b", (0.0, 1.0, 0.0), lesion=True))
_LABELS = np.zeros((5, 7, 8), np.uint8)
_LABELS[1, 1:3, 1:3], _LABELS[3, 4:6, 5] = 1, 2


def _mask() -> Segmentation:
    return Segmentation(_GRID, (Layer(_LABELS.copy(), _CLASSES),), "mask.seg.nrrd")


def _fresh() -> Review:
    return Review(_mask())


def _files(make: Callable[[Path], object]) -> Files:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- masks --------------------------------------------------------------------------------------------------


def _segmentation(layers: int) -> Callable[[], Files]:
    def sample() -> Files:
        every = [Layer((n < _LABELS).astype(np.uint8), (_CLASSES[n],)) for n in range(layers)]
        if layers == 2:
            every[1] = Layer(every[1].labels, (SegmentClass(1, "b", (0.0, 1.0, 0.0)),))
        return _files(lambda folder: save_segmentation(folder / "s.seg.nrrd", every, _GRID, "model"))

    return sample


def _read_segmentation(folder: Path) -> Any:
    return Review(read_segmentation(folder / "s.seg.nrrd")).findings


def _with_table(name: str, table: bytes) -> Callable[[], Files]:
    def sample() -> Files:
        data = nifti_bytes(_LABELS.astype(np.int16), sform=np.eye(4), sform_code=1)
        return {"labels.nii": data, name: table}

    return sample


_TABLES = {
    "labels.csv": b"Label,Name,R,G,B\n1,left,255,0,0\n2,\"right, side\",0,255,0\n",
    "labels.tsv": b"index\tname\tcolor\n1\tleft\t#ff0000\n2\tright\t#00ff00\n",
    "labels.ctbl": b"# Color table\n1 left 255 0 0 255\n2 right 0 255 0 255\n",
    "labels.txt": b"1 255 0 0 1 1 1 \"left\"\n2 0 255 0 1 1 1 \"right\"\n",
    "labels.json": b'{"labels": {"background": 0, "left": 1, "right": 2}}',
}  # fmt: skip


# -- reviews ------------------------------------------------------------------------------------------------


def _kept(folder: Path) -> None:
    """A finished case, its versions and steps."""
    opened = open_review(folder, _fresh(), CaseReview("c", "c.nii", "m.seg.nrrd", reader="AB"))
    opened.journal.decide(1, "rejected")
    opened.journal.relabel(2, "a")
    drawn = opened.review.labels[0].copy()
    drawn[0, 0, 0:3] = 2
    opened.journal.edited(0, drawn)
    opened.journal.undo()
    opened.journal.redo()
    opened.kept.fields, opened.kept.rating = {"motion": True, "side": "left"}, 3
    take_decisions(opened.kept, opened.review)
    save_version(folder, opened.kept, opened.review.reviewed(), "drawn")


def _case_files() -> Files:
    files = _files(_kept)
    return {name: data for name, data in files.items() if not name.endswith(".bak")}


def _reopen(folder: Path) -> Any:
    """As the panel does: the review goes on, or a sentence says why not. What is read can be written again."""
    opened = open_review(folder, _fresh(), CaseReview("c"))
    opened.review.undo()
    newest_mask(folder, opened.kept)
    take_decisions(opened.kept, opened.review)
    return save_version(folder, opened.kept, opened.review.reviewed())


def _two_readers() -> Files:
    files = _case_files()
    return {f"reader-{r}/c/{name}": data for r in ("AB", "CD") for name, data in files.items()}


def _agree(folder: Path) -> Any:
    return compare_readers(folder / "reader-AB", folder / "reader-CD").table().to_csv()


_FORM = {
    "questions": [
        {"name": "motion", "text": "Motion?", "type": "yes/no"},
        {"name": "side", "type": "choice", "choices": ["left", "right"], "required": True},
        {"name": "age", "type": "number", "minimum": 0, "maximum": 120},
    ]
}


def _case_list() -> Files:
    return {
        "cases.csv": b"case,image,mask\nc1,a.nii,a_seg.nii\nc2,b.nii,\n",
        "a.nii": b"",
        "a_seg.nii": b"",
        "b.nii": b"",
    }


_PEER = b'Filename,Rating,Comments,Mask_filename,Mask_status\nc1.nii.gz,5,"a, b",m1,done\nc2.nii.gz,2,,m2,done\n'


def _table_kind(name: str, table: bytes) -> Kind:
    def read(folder: Path) -> Any:
        return read_table(folder / name), read_segmentation(folder / "labels.nii", names=folder / name)

    return Kind(f"names-{name.split('.')[-1]}", "volumes", _with_table(name, table), read, damage=(name,))


_EVERY = [
    Kind("mask-layers", "volumes", _segmentation(2), _read_segmentation),
    Kind("mask-labelled", "volumes", _segmentation(1), _read_segmentation),
    *(_table_kind(name, table) for name, table in _TABLES.items()),
    Kind("review", "messages", _case_files, _reopen, json=True, damage=("review.json",)),
    Kind("review-bytes", "messages", _case_files, _reopen, damage=("review.json", "reviewed.seg.nrrd")),
    Kind("review-steps", "messages", _case_files, _reopen, damage=("steps.jsonl",)),
    Kind("review-readers", "messages", _two_readers, _agree, json=True, damage=("reader-AB/c/review.json",)),
    Kind("review-alone", "messages", _case_files, lambda folder: read_case(folder), json=True, damage=("review.json",)),
    Kind("form", "messages", lambda: {"form.json": json.dumps(_FORM).encode()}, lambda f: read_form(f / "form.json"),
         json=True),
    Kind("case-list", "messages", _case_list, lambda f: find_cases(f / "cases.csv"), damage=("cases.csv",)),
    Kind("peer-csv", "messages", lambda: {"p.csv": _PEER}, lambda f: read_segmentation_review(f / "p.csv")),
]  # fmt: skip
KINDS = [replace(kind, tested=_TESTED) for kind in _EVERY]
