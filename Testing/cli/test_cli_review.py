"""``medseg review`` as typed: any mask has findings; two readers' tables are compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from typer.testing import CliRunner

from medseg.cli import app
from medseg.geometry.grid import Grid
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["review", *arguments])


def test_findings_of_a_mask_are_listed_largest_first(tmp_path: Path) -> None:
    labels = np.zeros((6, 12, 14), np.uint8)
    labels[1, 2:4, 2], labels[3, 5:9, 6:9] = 1, 1
    grid = Grid((14, 12, 6), (1.0, 1.0, 5.0), (0.0, 0.0, 0.0), np.eye(3))
    mask = save_segmentation(tmp_path / "m.seg.nrrd", [Layer(labels, (SegmentClass(1, "WMH", (1, 0, 0)),))], grid)
    done = run("findings", str(mask), "--json", "-o", str(tmp_path / "f.csv"))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["findings"]
    assert [f["voxels"] for f in told] == [12, 2] and abs(told[0]["volume"] - 0.06) < 1e-9
    assert (tmp_path / "f.csv").read_text().splitlines()[0].startswith("finding,class,voxels,volume")
    assert len(json.loads(run("findings", str(mask), "--json", "--least", "0.05").stdout)["findings"]) == 1
    assert "2 findings" in run("findings", str(mask)).output
    assert run("findings", str(mask), "--order", "beauty").exit_code == 2


def test_two_readers_tables_give_kappa_and_the_cases_that_differ(tmp_path: Path) -> None:
    """The table is that of the extension SegmentationReview, which many annotators have."""
    head = "Filename,Rating,Comments,Mask_filename,Mask_status\n"
    (tmp_path / "a.csv").write_text(head + "c1.nii.gz,5,,m1,done\nc2.nii.gz,2,poor,m2,done\nc3.nii.gz,,,m3,\n")
    (tmp_path / "b.csv").write_text(head + "c1.nii.gz,5,,m1,done\nc2.nii.gz,4,,m2,done\n")
    done = run("agreement", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["cases"] == 2 and told["exact"] == 0.5 and told["differ"] == [["c2.nii.gz", 2, 4]]
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    assert run("agreement", str(tmp_path / "a.csv"), str(tmp_path / "c.csv")).exit_code == 2


SLICES = (
    "slice,centre_r_mm,centre_a_mm,centre_s_mm,any,subdural\n"
    "1,0,0,0,0.1,0\n2,0,0,5,0.7,0.2\n3,0,0,10,0.9,0.6\n4,0,0,15,0.2,0\n"
)


def test_a_classifiers_findings_are_runs_of_slices(tmp_path: Path) -> None:
    (tmp_path / "slices.csv").write_text(SLICES)
    told = json.loads(run("findings", str(tmp_path), "--json").stdout)["findings"]
    assert [(f["class"], f["first"], f["last"], f["score"]) for f in told] == [
        ("any", 2, 3, 0.9),
        ("subdural", 3, 3, 0.6),
    ]
    done = run("findings", str(tmp_path / "slices.csv"), "--threshold", "0.65", "-o", str(tmp_path / "f.csv"))
    assert "1 findings on 4 slices" in done.output and "2-3" in done.output
    assert (tmp_path / "f.csv").read_text().startswith("finding,class,first,last,score")


def test_a_classifiers_run_has_a_page_too(tmp_path: Path) -> None:
    """Its folder holds no mask, which was an error that asked for one."""
    image = sitk.GetImageFromArray(np.zeros((4, 8, 8), np.float32))
    sitk.WriteImage(image, str(tmp_path / "head.nii.gz"))
    head = "slice,centre_r_mm,centre_a_mm,centre_s_mm,any,subdural"
    rows = [f"{n + 1},-3.5,-3.5,{n},{any_},0.1" for n, any_ in enumerate((0.2, 0.9, 0.8, 0.1))]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "slices.csv").write_text("\n".join([head, *rows]) + "\n")
    command = ["report", str(tmp_path / "head.nii.gz"), str(tmp_path / "run"), "-o", str(tmp_path / "page.html")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "1 findings" in done.output, done.output
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "2 of 4 slices" in html and "0.90 <b>open</b>" in html


def test_the_list_says_what_has_no_partner_and_takes_patterns(tmp_path: Path) -> None:
    for name in ("p1.nii", "p2.nii", "drawn-p1.nii", "out/p2/slices.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SLICES if name.endswith("csv") else "")
    done = run("list", str(tmp_path), "--masks", "drawn-*", "-o", str(tmp_path / "out" / "list.csv"))
    assert done.exit_code == 0 and "2 cases, 0 without a mask" in done.output
    again = json.loads(run("list", str(tmp_path / "out" / "list.csv"), "--json").stdout)["cases"]
    assert [(c["case"], c["mask"]) for c in again] == [("p1", "drawn-p1.nii"), ("p2", "slices.csv")]
    assert (tmp_path / "out" / "list.csv").read_text().endswith(",p2/slices.csv\n")
    assert run("list", str(tmp_path), "--masks", "painted-*").exit_code == 2
