"""Masks of many cases held against their references, for the panel: it takes minutes, so not in Slicer's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..monitor import Monitor
from .requests import text_of
from .transfer import table_message


def evaluate_folders(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """Hold each mask below ``predictions`` against the one of its case below ``references``.

    The answer has ``rows`` and ``failed`` of `medseg.compare.cohort.Evaluation` and its table ``summary``. Raises
    `MedSegError`: nothing is paired, or none of the cases could be compared.
    """
    from ..compare.cohort import evaluate, pair_folders
    from ..compare.masks import Matching

    pairing = pair_folders(Path(text_of(request, "predictions")), Path(text_of(request, "references")))
    alone = [path.name for path in (*pairing.only_predictions, *pairing.only_references)]
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        monitor.warn(f"Left out, since they have no partner: {', '.join(alone[:3])}{more}.")
    with monitor.stage("compare"):
        found = evaluate(pairing.pairs, matching=Matching(overlap=1), monitor=monitor)
        monitor.progress(1, 1, "intervals")
        return {"rows": found.rows, "failed": found.failed, "summary": table_message(found.summary())}
