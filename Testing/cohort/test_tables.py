"""What a cohort is read from: all measurements, in forms that others open, and which case to look at first."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

from medseg.cohort.drive import run_cohort
from medseg.cohort.one_case import Job, Record, columns_hash, failed
from medseg.cohort.outliers import compared_as, modified_z
from medseg.pipeline.options import RunOptions
from medseg.result import Column, Table
from medseg.review.cases import find_cases

SEGMENTS = (Column("segment", "str"), Column("volume_ml", "float", "ml", "volume"), Column("mean", "float", "HU"))
LESIONS = (Column("segment", "str"), Column("lesion", "int"), Column("volume_mm3", "float", "mm3"))
VOLUMES = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2, 0.8, 1.0, 1.15, 0.85, 60.0, 1.02]


class Drawn:
    """A runner without a network: each case has the volume that it is told, and ``lesions`` rows."""

    work = "work"
    options = RunOptions()

    class model:
        class manifest:
            title = "A model <b>with a name</b>"

    def __init__(self, masks: bool = True) -> None:
        self.masks = masks

    def do(self, job: Job) -> Record:
        if job.refused:
            return failed(job, job.refused)
        n = int(job.name[4:])
        job.folder.mkdir(parents=True)
        tables = {
            "segments": Table("segments", SEGMENTS, (("=lesion", VOLUMES[n], None if n == 1 else 40.0 + n % 3),)),
            "lesions": Table("lesions", LESIONS, tuple(("=lesion", k, 100.5 * k) for k in range(1, n % 3 + 1))),
        }
        described = {name: [vars(c) for c in t.columns] for name, t in tables.items()}
        for name, table in tables.items():
            (job.folder / f"{name}.csv").write_text(table.to_csv(), encoding="utf-8", newline="")
        (job.folder / "result.json").write_text(json.dumps({"tables": described}), encoding="utf-8")
        if self.masks:
            (job.folder / "segmentation.seg.nrrd").write_bytes(b"mask")
        row = {"device": "CPU", "warnings": int(n == 2), "segments.=lesion.volume_ml": VOLUMES[n],
               "segments.=lesion.mean": None if n == 1 else 40.0 + n % 3, "lesions.rows": n % 3}  # fmt: skip
        return failed(job, "") | {
            "state": "done", "seconds": 1.0 + n, "row": row, "seen": "x",
            "tables": {name: columns_hash(d) for name, d in described.items()},
            "warnings": [f"{next(iter(job.files.values())).name} is <i>strange</i>."] if n == 2 else [],
        }  # fmt: skip


def run(tmp_path: Path, runner: Any, told: list[str]) -> Path:
    def crew(source: str, options: RunOptions, jobs: Iterable[Job], workers: int, tell: Any) -> Iterator[Record]:
        yield from map(runner.do, reversed(list(jobs)))

    out = tmp_path / "out"
    jobs = []
    for n in range(len(VOLUMES)):
        (tmp_path / f"image{n}.nii").write_bytes(b"image")
        jobs.append(Job(f"case{n}", {"CT": tmp_path / f"image{n}.nii"}, out / "cases" / f"case{n}"))
    jobs.append(Job("bad", {"CT": tmp_path / "image0.nii"}, out / "cases" / "bad", refused="It is <u>no image</u>."))
    assert run_cohort(runner, "", jobs, out, 1, told=lambda *_: None, tell=told.append, crew=crew) == 1
    return out


def test_parquet_and_csv_hold_all_rows_with_their_types_and_units(tmp_path: Path) -> None:
    told: list[str] = []
    out = run(tmp_path, Drawn(), told)
    assert told == []
    table = parquet.read_table(out / "cohort.parquet")
    assert table.column("case").to_pylist() == [*(f"case{n}" for n in range(12)), "bad"], "in the order of the source"
    assert table.column("segments.=lesion.volume_ml").to_pylist() == [*VOLUMES, None]
    assert table.column("segments.=lesion.mean").to_pylist()[:3] == [40.0, None, 42.0]
    assert table.schema.field("segments.=lesion.volume_ml").metadata[b"unit"] == b"ml"
    assert str(table.schema.field("lesions.rows").type) == "int64"
    lesions = parquet.read_table(out / "tables" / "lesions.parquet")
    assert lesions.column_names == ["case", "segment", "lesion", "volume_mm3"]
    assert lesions.slice(0, 3).to_pylist() == [
        {"case": "case1", "segment": "=lesion", "lesion": 1, "volume_mm3": 100.5},
        {"case": "case2", "segment": "=lesion", "lesion": 1, "volume_mm3": 100.5},
        {"case": "case2", "segment": "=lesion", "lesion": 2, "volume_mm3": 201.0},
    ]
    with (out / "tables" / "lesions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + lesions.num_rows and rows[1] == ["case1", "'=lesion", "1", "100.5"], "no formula runs"


def test_failed_and_odd_cases_stand_first_on_the_page_and_in_the_list_for_review(tmp_path: Path) -> None:
    out = run(tmp_path, Drawn(), [])
    page = (out / "cohort.html").read_text(encoding="utf-8")
    assert "13 cases: 12 done, 1 failed. 1 with warnings, 1 odd" in page
    odd = page[page.index("<h2>Odd cases") : page.index("<h2>Warnings")]
    assert "case10" in odd and "segments.=lesion.volume_ml (ml) 60 (median 1.01" in odd and odd.count("</td></tr>") == 1
    assert "A model &lt;b&gt;" in page and "&lt;u&gt;no image" in page and "<i>strange" not in page, "all is escaped"
    assert "(file) is &lt;i&gt;strange" in page, "a warning that differs in the file's name only is one"
    assert page.count("<svg") == 4 and "http://www.w3.org" in page and 'src="' not in page, "nothing beside it"
    listed = find_cases(out / "cases.csv")
    assert [case.name for case in listed][:2] == ["bad", "case10"] and len(listed) == 13
    assert listed[0].mask is None and listed[1].mask == out / "cases" / "case10" / "segmentation.seg.nrrd"


def test_a_classifiers_list_has_no_column_of_masks(tmp_path: Path) -> None:
    """With an empty one every case would be taken for one whose mask was lost."""
    out = run(tmp_path, Drawn(masks=False), [])
    assert (out / "cases.csv").read_text(encoding="utf-8").startswith("case,image,oddness\n")
    assert all(case.mask is None and case.image is not None for case in find_cases(out / "cases.csv"))


def test_what_is_not_installed_is_told_and_costs_only_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    for name in ("pyarrow", "pyarrow.parquet", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    told: list[str] = []
    out = run(tmp_path, Drawn(), told)
    assert [words.partition(" was left out")[0] for words in told] == ["cohort.parquet", "cohort.html"]
    assert {p.name for p in out.iterdir()} >= {"cohort.csv", "cases.csv", "tables"} and not (
        out / "cohort.html"
    ).exists()


def test_the_modified_z_score_is_that_of_iglewicz_and_hoaglin() -> None:
    """A score by another formula would put other cases before a reader than the page says."""
    values = np.array([2.1, 2.6, 2.4, 2.5, 2.3, 2.1, 2.3, 2.6, 8.2, 8.3, np.nan])
    z = modified_z(values)
    median, mad = 2.45, 0.15
    assert np.allclose(z[:-1], 0.6745 * (values[:-1] - median) / mad) and np.isnan(z[-1])
    assert set(np.flatnonzero(np.abs(z) > 3.5)) == {8, 9}
    mostly = np.array([0.0] * 9 + [1.0])  # MAD is 0
    assert np.allclose(modified_z(mostly), mostly / (1.253314 * 0.1))
    assert not modified_z(np.ones(5)).any()


def test_a_score_is_odd_by_what_it_says_not_by_how_small_the_others_are() -> None:
    """Where nearly all scores are .005 a score of .02 is no finding, .9 is; a tiny one is no odder than .001."""
    scores = np.array([0.004, 0.006, 0.005, 0.003, 0.007, 0.005, 0.004, 0.006, 0.02, 0.9, 1e-9])
    plain, z = modified_z(scores), modified_z(compared_as("scores.subdural.maximum", scores))
    assert plain[8] > 3.5 and z[9] > 3.5
    assert z[9] > 3 * z[8] and plain[9] > 50 * plain[8]
    assert compared_as("scores.x.maximum", np.array([1e-9]))[0] == compared_as("scores.x.maximum", np.array([0.001]))[0]
    assert np.allclose(compared_as("segments.x.volume_ml", np.array([0.0, 9.0])), np.log([1, 10]))
