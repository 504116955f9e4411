"""``medseg compare``, ``evaluate``, ``followup`` as typed: figures, files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from typer.testing import CliRunner

from medseg.cli import app
from medseg.geometry.grid import Grid
from medseg.io import read_segmentation
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass

GRID = Grid((16, 14, 8), (1.0, 1.0, 3.0), (5.0, 5.0, 5.0), np.eye(3))


def mask(seed: int, shift: int = 0) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    for k, j, i in np.random.default_rng(seed).integers(1, 6, (3, 3)):
        array[k : k + 2, j : j + 4, i + shift : i + 4 + shift] = 1
    return array


def write(path: Path, array: np.ndarray) -> str:
    return str(save_segmentation(path, [Layer(array, (SegmentClass(1, "lesion", (1.0, 0.0, 0.0)),))], GRID))


def image(path: Path, array: np.ndarray) -> str:
    picture: Any = sitk.GetImageFromArray(array.astype(np.float32))
    GRID.place(picture)
    sitk.WriteImage(picture, str(path))
    return str(path)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_two_masks_are_compared_and_the_difference_is_written(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.seg.nrrd", mask(1, 1)), write(tmp_path / "b.seg.nrrd", mask(1))
    done = run("compare", one, other, "-o", str(tmp_path / "out"), "--json")
    assert done.exit_code == 0, done.output
    (figures,) = json.loads(done.stdout)["classes"]
    both = (mask(1, 1) & mask(1)).sum()
    assert abs(figures["dice"] - 2 * both / (mask(1).sum() + mask(1, 1).sum())) < 1e-9 and figures["hd"] == 1
    assert (tmp_path / "out" / "comparison.csv").is_file() and (tmp_path / "out" / "result.json").is_file()
    written = read_segmentation(tmp_path / "out")
    assert written.mask("in both").sum() == both
    assert "dice" in run("compare", one, other).output
    assert run("compare", one, other, "-o", str(tmp_path / "out")).exit_code == 2, "an earlier result is kept"
    assert run("compare", one, other, "--match", "magic").exit_code == 2


def test_folders_are_evaluated_with_intervals_and_a_second_model(tmp_path: Path) -> None:
    for n in range(4):
        write(tmp_path / "r" / f"c{n}_gt.seg.nrrd", mask(n))
        write(tmp_path / "p1" / f"c{n}" / "segmentation.seg.nrrd", mask(n, 1))
        write(tmp_path / "p2" / f"c{n}.seg.nrrd", mask(n, 2))
    out = tmp_path / "out"
    command = ("evaluate", str(tmp_path / "p1"), str(tmp_path / "r"), "-o", str(out), "--versus", str(tmp_path / "p2"))
    done = run(*command)
    assert done.exit_code == 0, done.output
    assert "95 % interval" in done.output and "lesion_f1" in done.output
    names = {"cases.csv", "cases_second.csv", "summary.csv", "versus.csv", "dice.png", "hd95.png", "surface_dice.png"}
    assert names <= {p.name for p in out.iterdir()}
    assert (out / "cases.csv").read_text().count("\n") == 5
    assert run(*command).exit_code == 2 and run(*command, "--force").exit_code == 0
    (tmp_path / "p1" / "c2" / "segmentation.seg.nrrd").write_bytes(b"x")
    assert run(*command, "--force").exit_code == 2, "a case that could not be compared is seen in the exit code"


def test_lesions_are_followed_over_two_dates(tmp_path: Path) -> None:
    grey = np.random.default_rng(1).random(GRID.shape) + 3 * mask(3)
    later = mask(3).copy()
    later[0, 0, 14:16] = 1
    files = (
        image(tmp_path / "i1.nrrd", grey), write(tmp_path / "m1.seg.nrrd", mask(3)),
        image(tmp_path / "i2.nrrd", grey), write(tmp_path / "m2.seg.nrrd", later),
    )  # fmt: skip
    done = run("followup", *files, "-o", str(tmp_path / "out"), "--aligned", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert {row["state"]: row["lesions"] for row in told["changes"]}["new"] == 1
    assert read_segmentation(tmp_path / "out").mask("lesion: new").sum() == 2
    provenance = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "m1.seg.nrrd" in json.dumps(provenance)
