"""The module's self test: a shipped model runs in the real worker on a phantom, and its nodes are looked at."""

from __future__ import annotations

import time
import unittest
from typing import Any

import qt
import slicer

from medseg.model import store as model_store
from medseg_mrml import node_from_volume, table_from_node

from .segment.outcome import Outcome
from .segment.runs import Runs
from .worker.client import WorkerClient
from .worker.process import QtWorkerProcess

# The first of these that is installed runs, on the phantom of this name in `medseg.phantoms`.
MODELS = {"lungs-compact": "chest_xray", "wmh-compact": "flair", "ich-compact": "head_ct", "cmb-compact": "swi"}
_SECONDS = 240.0


class _Watcher:
    """A `runs.RunView` that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.warnings: list[str] = []
        self.ended: tuple[str, Outcome | None, bool] | None = None

    def run_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        self.stages.append(stage)

    def run_warning(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def run_note(self, sentence: str) -> None:
        pass

    def run_ended(self, sentence: str, outcome: Outcome | None, failed: bool) -> None:
        self.ended = (sentence, outcome, failed)


def run_on_phantom(case: unittest.TestCase, scene: Any = None) -> Outcome:
    """Run; assertions of ``case`` fail where no model is installed, nothing ran, or the result is not in the scene."""
    import medseg.phantoms

    scene = scene or slicer.mrmlScene
    cards = {c.id: c for c in model_store.installed_models() if c.has_weights and not c.error}
    found = [name for name in MODELS if name in cards]
    case.assertTrue(found, f"none of the models {', '.join(MODELS)} is installed")
    card = cards[found[0]]
    phantom = getattr(medseg.phantoms, MODELS[card.id])(seed=1)
    volume = node_from_volume(phantom.volume, scene)
    watcher = _Watcher()
    worker = WorkerClient(QtWorkerProcess, qt.QTimer.singleShot)
    try:
        runs = Runs(scene, worker, watcher)
        case.assertTrue(runs.start(card, [volume], {"device": "cpu"}))
        end = time.monotonic() + _SECONDS
        while watcher.ended is None and time.monotonic() < end:
            slicer.app.processEvents()
            time.sleep(0.002)
    finally:
        worker.shutdown()
    assert watcher.ended is not None, f"{card.id} did not end within {_SECONDS:g} s"
    sentence, outcome, failed = watcher.ended
    case.assertFalse(failed, sentence)
    case.assertIn("infer", watcher.stages, "the network did not run")
    assert outcome is not None, sentence
    case.assertTrue(outcome.tables and table_from_node(outcome.tables[0]).rows, "the result has no table with rows")
    if card.task == "segmentation":
        assert outcome.applied is not None, "the result has no segments"
        segmentation = outcome.applied.node.GetSegmentation()
        case.assertEqual(segmentation.GetNumberOfSegments(), len(card.classes))
        voxels = sum(int(v or 0) for v in table_from_node(_named(outcome, "segments")).column("voxels"))
        case.assertGreater(voxels, 0, f"{card.id} found nothing in a phantom that has lesions")
    return outcome


def _named(outcome: Outcome, name: str) -> Any:
    return next(t for t in outcome.tables if table_from_node(t).name == name)
