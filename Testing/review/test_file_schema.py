"""The published form of review.json: other programs rely on it, and what it refuses must not be read as a review."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.io import Segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, Version, read_case, save_version, take_decisions, write_case
from medseg.review.decisions import Review
from medseg.review.file_schema import PATH, SCHEMA, problem, schema_text

GRID = Grid((9, 8, 4), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))


def reviewed(folder: Path) -> dict[str, Any]:
    """What is written of a case with everything in it."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1, 1:3, 1:3], labels[3, 5:7, 4] = 1, 2
    classes = (SegmentClass(1, "a", (1, 0, 0), lesion=True), SegmentClass(2, "b", (0, 1, 0), lesion=True))
    review = Review(Segmentation(GRID, (Layer(labels, classes),), "mask.seg.nrrd"))
    kept = CaseReview("c", "c.nii.gz", "m.seg.nrrd", "wmh", "AB", "in progress", 4, "seen", {"motion": True}, 2, 12.5)
    review.decide(1, "rejected")
    review.relabel(2, "a")
    drawn = review.labels[0].copy()
    drawn[0, 0, 0] = 1
    review.edited(0, drawn)
    take_decisions(kept, review)
    save_version(folder, kept, review.reviewed(), "drawn")
    found: dict[str, Any] = json.loads((folder / "review.json").read_text(encoding="utf-8"))
    return found


def test_the_published_schema_is_that_of_the_code() -> None:
    assert PATH.read_text(encoding="utf-8") == schema_text(), "run python -m medseg.review.file_schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == {"medseg_review", *CaseReview.__dataclass_fields__}
    assert set(SCHEMA["properties"]["versions"]["items"]["properties"]) == set(Version.__dataclass_fields__)


def test_what_is_written_fits_the_schema_and_is_read_again(tmp_path: Path) -> None:
    raw = reviewed(tmp_path)
    jsonschema.validate(raw, SCHEMA)
    assert problem(raw) == "" and len(raw["findings"]) == 3 and len(raw["versions"]) == 1
    assert set(raw["findings"][0]) | {"slices"} == set(SCHEMA["properties"]["findings"]["items"]["properties"])
    write_case(tmp_path / "bare", CaseReview("bare"))
    jsonschema.validate(json.loads((tmp_path / "bare" / "review.json").read_text()), SCHEMA)
    kept = read_case(tmp_path)
    assert kept is not None and kept.versions[0].comment == "drawn" and kept.findings[0]["state"] == "rejected"


_ANY = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 7), st.floats(-2, 9), st.text(max_size=9), st.just("AB"), st.just([]),
    st.just({}), st.just("accepted"), st.just([1.0, 2.0, 3]), st.just("versions/1.seg.nrrd"),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_our_check_refuses_what_the_schema_library_refuses(data: st.DataObject, tmp_path_factory: Any) -> None:
    """The reader's computer may have no such library, so the check is ours."""
    if not hasattr(test_our_check_refuses_what_the_schema_library_refuses, "raw"):
        raw = reviewed(tmp_path_factory.mktemp("case"))
        test_our_check_refuses_what_the_schema_library_refuses.raw = raw  # type: ignore[attr-defined]
    value = copy.deepcopy(test_our_check_refuses_what_the_schema_library_refuses.raw)  # type: ignore[attr-defined]
    place = value
    for _ in range(3):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        deeper = isinstance(place[key], dict | list) and len(place[key]) and data.draw(st.booleans())
        if not deeper:
            if data.draw(st.booleans()) and isinstance(place, dict):
                del place[key]
            else:
                place[key] = data.draw(_ANY)
            break
        place = place[key]
    fits = jsonschema.Draft202012Validator(SCHEMA).is_valid(value)
    assert (problem(value) == "") == fits, problem(value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"medseg_review": 2}, "newer MedSeg"),
        ({"medseg_review": 0}, "no version"),
        ({"medseg_review": "1"}, "no version"),
        ({"rating": 9}, "rating is '9'"),
        ({"findings": [{"id": 1, "centre": [0, 0]}]}, r"findings\[0\]\.centre has 2 entries"),
        ({"versions": [{"number": 1, "file": "../../secret.seg.nrrd", "reader": "", "time": ""}]}, "file is"),
        ({"reader": "Dr. Mustermann"}, "reader is"),
    ],
)
def test_what_cannot_be_read_is_said_by_the_field(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """A path that leads out of the folder, a name in place of initials, a form of the future."""
    raw = reviewed(tmp_path) | change
    (tmp_path / "review.json").write_text(json.dumps(raw))
    (tmp_path / "review.json.bak").unlink(missing_ok=True)
    with pytest.raises(InputError, match=words):
        read_case(tmp_path)


def test_fields_of_other_programs_do_not_hinder_reading(tmp_path: Path) -> None:
    raw = reviewed(tmp_path)
    raw |= {"further": 1}
    raw["versions"][0]["further"] = raw["findings"][0]["further"] = [1]
    (tmp_path / "review.json").write_text(json.dumps(raw))
    kept = read_case(tmp_path)
    assert kept is not None and kept.rating == 4
