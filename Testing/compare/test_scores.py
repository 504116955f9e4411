"""A classifier held against a reader: the figures are those of scikit-learn, and no slice is compared with another."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.compare.classification import log_loss, roc_auc, weighted_log_loss
from medseg.compare.scores import RSNA, evaluate_scores, is_scores, read_values
from medseg.errors import InputError
from medseg.monitor import Monitor

HEAD = "slice,centre_r_mm,centre_a_mm,centre_s_mm,any,subdural,sop_instance_uid\n"


def batch(folder: Path) -> Path:
    for n, case in enumerate(("a", "b")):
        (folder / case).mkdir(parents=True)
        rows = [f"{k + 1},0,0,{5 * k},{0.1 * k + 0.05 * n:.2f},{0.9 - 0.1 * k:.2f},1.2.{n}.{k}\n" for k in range(6)]
        (folder / case / "slices.csv").write_text(HEAD + "".join(rows))
    return folder


def reviews(folder: Path) -> Path:
    answers = {"a": ["", "", "no", "yes", "yes", "unsure"], "b": ["", "not reviewed", "", "yes", "no", "yes"]}
    for case, said in answers.items():
        (folder / case).mkdir(parents=True)
        rows = [f"{k + 1},0.1,{word},0.2,\n" for k, word in enumerate(said)]
        head = "slice,any,any reviewed,subdural,subdural reviewed\n"
        (folder / case / "slices_reviewed.csv").write_text(head + "".join(rows))
    return folder


def test_a_readers_answers_are_the_truth_of_the_slices_of_their_case(tmp_path: Path) -> None:
    monitor = Monitor()
    scores, truth = read_values(batch(tmp_path / "out")), read_values(reviews(tmp_path / "reader"), monitor)
    assert "2 answers of reader are unsure or not reviewed" in monitor.warnings[0]
    found = evaluate_scores(scores, truth)
    y = [0, 0, 0, 1, 1, 0, 0, 1, 0, 1]
    p = [0.0, 0.1, 0.2, 0.3, 0.4, 0.05, 0.25, 0.35, 0.45, 0.55]
    row = dict(zip([c.name for c in found.table().columns], found.table().rows[0], strict=True))
    assert (row["class"], row["slices"], row["positive"], found.cases) == ("any", 10, 4, 2)
    assert row["auc"] == pytest.approx(roc_auc(y, p)) and row["log_loss"] == pytest.approx(log_loss(y, p))
    assert row["sensitivity"] == 0.25 and row["specificity"] == 1.0 and found.weighted is None
    assert found.table().column("auc")[1] is None, "no slice is subdural by the reader: the curve is not defined"
    assert sum(n for n in found.calibration().column("slices") if isinstance(n, int)) == 10 + 12


def test_the_challenges_own_tables_give_its_loss(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    truth, scores = rng.integers(0, 2, (5, 6)), rng.random((5, 6)).round(3)
    for name, values in (("truth", truth), ("scores", scores)):
        rows = [f"ID_{n}_{c},{values[n, k]}\n" for n in range(5) for k, c in enumerate(RSNA)]
        (tmp_path / f"{name}.csv").write_text("ID,Label\n" + "".join(rows))
    done = CliRunner().invoke(
        app,
        ["evaluate", str(tmp_path / "scores.csv"), str(tmp_path / "truth.csv"), "-o", str(tmp_path / "o"), "--json"],
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["weighted_log_loss"] == pytest.approx(weighted_log_loss(truth, scores), abs=1e-6)
    assert [row["class"] for row in told["classes"]] == list(RSNA)
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"classes.csv", "calibration.csv", "summary.csv"}


def test_tables_that_have_nothing_in_common_are_refused(tmp_path: Path) -> None:
    scores = read_values(batch(tmp_path / "out"))
    assert is_scores(tmp_path / "out") and not is_scores(tmp_path / "empty")
    with pytest.raises(InputError, match="no slice in common"):
        evaluate_scores(scores, {("c", "1"): {"any": 1.0}})
    with pytest.raises(InputError, match="no class in common"):
        evaluate_scores(scores, {("a", "1"): {"stroke": 1.0}})
    with pytest.raises(InputError, match="neither 0 nor 1"):
        evaluate_scores(scores, {("a", "1"): {"any": 0.5}})
    (tmp_path / "bad.csv").write_text("case,slice,any\na,1,7\n")
    with pytest.raises(InputError, match="no value from 0 to 1"):
        read_values(tmp_path / "bad.csv")
    with pytest.raises(InputError, match="no table of slices"):
        read_values(tmp_path / "empty")
