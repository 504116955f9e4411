"""``medseg evaluate`` of a classifier: its scores of slices held against a reader's answers or a table of truths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..output.files import save_text
from ..result import Column, Table
from .console import Command, rows_of

FILES = ("classes.csv", "calibration.csv", "summary.csv")


def evaluate_tables(command: Command, predictions: Path, references: Path, output: Path, threshold: float) -> int:
    """Tell and write how good the scores of ``predictions`` are; see `compare.scores` for what may be given."""
    from ..compare.scores import evaluate_scores, read_values

    monitor = command.monitor()
    found = evaluate_scores(
        read_values(predictions, monitor), read_values(references, monitor), threshold=threshold
    )  # fmt: skip
    for sentence in found.notes:
        monitor.note(sentence)
    classes = found.table()
    columns = (
        Column("cases", "int"), Column("threshold", "float"),
        Column("weighted_log_loss", "float", "", "of the RSNA 2019 challenge, where its six classes are there"),
    )  # fmt: skip
    summary = Table("summary", columns, ((found.cases, found.threshold, found.weighted),))
    tables = dict(zip(FILES, (classes, found.calibration(), summary), strict=True))
    for name, table in tables.items():
        save_text(output / name, table.to_csv())
    command.document.update(
        classes=rows_of(classes), calibration=rows_of(tables["calibration.csv"]), weighted_log_loss=found.weighted,
        files=list(tables), warnings=monitor.warnings, notes=monitor.notes,
    )  # fmt: skip
    shown = ["class", "slices", "positive", "auc", "sensitivity", "specificity", "log_loss", "calibration_error"]
    cells = zip(*(classes.column(name) for name in shown), strict=True)
    command.table(shown, [[_text(v) for v in row] for row in cells], right=tuple(range(1, len(shown))))
    loss = "" if found.weighted is None else f", weighted log loss {found.weighted:.4f}"
    command.say(f"{found.cases} cases, threshold {threshold:g}{loss}. {output}: {', '.join(tables)}")
    return 0


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
