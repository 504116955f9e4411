"""Folders of predictions against references: the right files are paired, one bad case costs one row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medseg.compare.cohort import CasePair, Evaluation, evaluate, mean_interval, pair_folders, versus
from medseg.compare.masks import Matching
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.monitor import Monitor
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass

GRID = Grid((12, 10, 8), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def write(path: Path, seed: int, *, more: int = 0) -> Path:
    labels = (np.random.default_rng(seed).random(GRID.shape) < 0.3).astype(np.uint8)
    labels.ravel()[np.random.default_rng(seed + 100).choice(labels.size, more, replace=False)] = 1
    return save_segmentation(path, [Layer(labels, (SegmentClass(1, "lesion", (1.0, 0.0, 0.0)),))], GRID)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("case{}/segmentation.seg.nrrd", "case{}_gt.seg.nrrd"),
        ("sub-{}_pred.seg.nrrd", "sub-{}.seg.nrrd"),
        ("a/sub-{}/mask.seg.nrrd", "a/sub-{}/manual.seg.nrrd"),
        ("{}.seg.nrrd", "{}-label.seg.nrrd"),
    ],
)
def test_files_of_one_case_are_paired_whatever_programs_call_them(tmp_path: Path, ours: str, theirs: str) -> None:
    for n in (2, 10, 1):
        write(tmp_path / "p" / ours.format(n), n)
        write(tmp_path / "r" / theirs.format(n), n)
    write(tmp_path / "p" / "only_here.seg.nrrd", 5)
    found = pair_folders(tmp_path / "p", tmp_path / "r")
    assert [p.name[-2:].strip("-e/") for p in found.pairs] == ["1", "2", "10"]
    assert [p.name for p in found.only_predictions] == ["only_here.seg.nrrd"] and not found.only_references


def test_two_files_of_one_case_and_folders_without_a_pair_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "p" / "a_pred.seg.nrrd", 1)
    write(tmp_path / "p" / "a_seg.seg.nrrd", 1)
    write(tmp_path / "r" / "b.seg.nrrd", 1)
    with pytest.raises(InputError, match="two files of the case a"):
        pair_folders(tmp_path / "p", tmp_path / "r")
    (tmp_path / "p" / "a_seg.seg.nrrd").unlink()
    with pytest.raises(InputError, match="No file of p belongs to one of r"):
        pair_folders(tmp_path / "p", tmp_path / "r")


def test_a_damaged_case_costs_its_row_and_is_told(tmp_path: Path) -> None:
    pairs = [
        CasePair(str(n), write(tmp_path / f"p{n}.seg.nrrd", n, more=20), write(tmp_path / f"r{n}.seg.nrrd", n))
        for n in range(4)
    ]
    pairs[2].prediction.write_bytes(b"nothing")
    monitor = Monitor()
    found = evaluate(pairs, matching=Matching(), monitor=monitor)
    assert list(found.failed) == ["2"] and any(w.startswith("2: p2.seg.nrrd") for w in monitor.warnings)
    table = found.table()
    assert table.column("case") == ["0", "1", "3", "2"] and table.column("problem")[3]
    (dice,) = [row for row in found.summary().rows if row[1] == "dice"]
    values = list(found.values("lesion", "dice").values())
    assert dice[3] == 3 and dice[5] == pytest.approx(np.mean(values)) and dice[6] <= dice[5] <= dice[7]


def test_the_interval_is_scipy_s_and_defined_for_few_and_equal_values() -> None:
    values = np.array([0.5, 0.7, 0.9, 0.6, 0.8])
    expected = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0))
    assert mean_interval(values) == (expected.confidence_interval.low, expected.confidence_interval.high)
    assert mean_interval([0.4]) == (None, None) and mean_interval([0.4, 0.4]) == (0.4, 0.4)


def test_two_models_are_compared_case_by_case() -> None:
    """The better model must be named by the figure's own direction: a smaller distance is better."""
    first = Evaluation([(str(n), "a", {"dice": 0.8 + 0.01 * n, "hd95": 3.0}) for n in range(8)])
    second = Evaluation([(str(n), "a", {"dice": 0.7 + 0.01 * n + 0.001 * n * n, "hd95": 2.0}) for n in range(8)])
    dice, hd95 = versus(first, second).rows
    difference = np.array([0.1 - 0.001 * n * n for n in range(8)])
    assert dice[1] == "dice" and dice[2] == 8 and dice[5] == pytest.approx(difference.mean())
    assert dice[8] == pytest.approx(stats.wilcoxon(difference).pvalue) and dice[9] == 1 and dice[10] == "first"
    assert hd95[1] == "hd95" and hd95[9] == 1 and hd95[10] == "second"
    same = versus(first, first).rows[0]
    assert same[8] is None and same[10] == ""
