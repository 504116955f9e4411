"""The table of speeds: what it says of a row, and that README keeps its words around it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).resolve().parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)

import peers  # noqa: E402
import table  # noqa: E402

sys.path.remove(BENCHMARKS)  # its review.py would hide the folder of the same name from other tests


@pytest.mark.parametrize(
    ("value", "target", "least", "verdict"),
    [
        (2.6, 2.5, True, "met"),
        (2.4, 2.5, True, "missed"),
        (1.1, 1.15, False, "met"),
        (1.2, 1.15, False, "missed"),
        (1.2, None, False, ""),
        (None, 1.15, False, "skipped"),
    ],
)
def test_a_miss_is_never_told_as_met(value, target, least, verdict):
    """A ratio of speed is met above its aim, a time below it; what was not measured is skipped."""
    row = peers.Row("x", target, least, "s", value)
    assert row.verdict == verdict
    assert f"| {verdict} |" in table.as_markdown([row], "a machine")


def test_a_miss_tells_where_the_time_went():
    row = peers.Row("x", 1.0, False, "s", 2.0, more={"stages_s": {"infer": 1.5, "measure": 0.3, "total": 2.0}})
    assert table.explained(row).why == "infer 1.50 s, measure 0.30 s"


def test_the_table_goes_between_its_marks_and_touches_nothing_else(tmp_path, monkeypatch):
    """README is written by hand but for that table."""
    text = table.README.read_text(encoding="utf-8")
    copy = tmp_path / "README.md"
    copy.write_text(text, encoding="utf-8")
    monkeypatch.setattr(table, "README", copy)
    table.write_readme("| a |")
    found = copy.read_text(encoding="utf-8")
    before, rest = text.split(table.BEGIN)
    assert found == f"{before}{table.BEGIN}\n| a |\n{table.END}{rest.split(table.END)[1]}"


def test_programs_that_are_not_there_are_rows_that_say_so(tmp_path):
    """A stranger without the other programs, or without data, still gets the rest of the table."""
    for part in ("nnunet", "monai", "keras"):
        for row in peers.compare(part, None, tmp_path, 1, True):
            assert row.verdict == "skipped" and row.why


def test_a_program_that_ends_costs_its_row_and_no_more(tmp_path):
    """The other side may lack a package, or die."""
    missing = tmp_path / "python"
    missing.write_text("#!/bin/sh\nexit 3\n")
    missing.chmod(0o755)
    (row,) = peers.compare("monai", missing, tmp_path, 1, True)
    assert row.verdict == "skipped" and row.why
