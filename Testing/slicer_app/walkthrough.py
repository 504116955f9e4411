"""A walk through the module in a running Slicer: ``Slicer --python-script Testing/slicer_app/walkthrough.py``.

On the real head T1 with a real model where the real test data is, else on phantoms with the shipped models.
Pictures of each step go to test-output/slicer_app. The packages of the worker must be installed (press Apply once).
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path("Testing/slicer_app").resolve()
sys.path.insert(0, str(HERE))

import common  # noqa: E402
import slicer  # noqa: E402
from session import Session  # noqa: E402


def say(step: str, what: object = "") -> None:
    """One line a step."""
    print(f"{time.strftime('%H:%M:%S')} {step}: {what}", flush=True)


def show_in_panel(widget: Any, *names: str) -> None:
    """Open these sections and close the others."""
    for section in ("windowing", "advanced"):
        getattr(widget.ui, f"{section}Section").collapsed = section not in names
    common.pause(0.3)


def head(session: Session) -> tuple[str, Any]:
    """A segmentation model and a volume for it."""
    t1 = common.REAL_DATA / "images" / "t1" / "t1_conformed_256.nii.gz"
    if t1.exists() and (session.models / "meshnet-gwm-light").exists():
        volume = slicer.util.loadVolume(str(t1))
        volume.SetAttribute("DICOM.Modality", "MR")
        return "meshnet-gwm-light", volume
    from medseg.phantoms import flair
    from medseg_mrml import node_from_volume

    volume = node_from_volume(flair(seed=1).volume, slicer.mrmlScene)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return "wmh-compact", volume


def segmentation(session: Session) -> None:
    """Choose, apply, progress, result, a click on a row, cancel, second run."""
    widget = session.widget
    common.make_room()
    model, volume = head(session)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    common.pause(0.5)
    common.picture("1-opened")
    common.choose(widget, model, volume)
    say("chosen", widget.ui.fitLabel.text)
    show_in_panel(widget)
    common.picture("2-chosen")
    session.apply()
    start = time.perf_counter()
    session.stage("infer", 120)
    say("inference began after", f"{time.perf_counter() - start:.2f} s")
    common.wait(lambda: widget.ui.progressBar.value > 20 or not session.panel.runs.running, 60)
    say("progress", f"{widget.ui.progressBar.value} %, {widget.ui.progressLabel.text}")
    common.picture("3-running")
    say("result", common.run_ended(widget, 600))
    show_in_panel(widget)
    common.picture("4-result")
    widget.ui.tableView.selectRow(0)
    common.pause(0.3)
    views = [slicer.app.layoutManager().sliceWidget(name) for name in ("Red", "Yellow", "Green")]
    say("row 0, red, yellow and green at", [round(v.mrmlSliceNode().GetSliceOffset(), 1) for v in views])
    widget.ui.show3DButton.checked = True
    common.pause(3)
    slicer.app.layoutManager().threeDWidget(0).threeDView().resetFocalPoint()
    common.picture("5-row-and-3D")
    show_in_panel(widget)
    session.apply()
    say("second run, inference began after", f"{session.stage('infer', 120):.2f} s")
    start = time.perf_counter()
    widget.ui.cancelButton.click()
    common.wait(lambda: not session.panel.runs.running, 5)
    say("cancelled after", f"{time.perf_counter() - start:.2f} s: {widget.ui.progressLabel.text}")
    common.picture("6-cancelled")


def classification(session: Session) -> None:
    """Windows as the model sees them, scores of slices, plot."""
    from medseg.phantoms import head_ct
    from medseg_mrml import node_from_volume

    widget = session.widget
    slicer.mrmlScene.Clear(0)
    volume = node_from_volume(head_ct(seed=3).volume, slicer.mrmlScene, name="Head CT phantom")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    common.choose(widget, "ich-compact", volume)
    show_in_panel(widget, "windowing")
    view = widget.panel.segment.view
    widget.ui.showAsModelButton.click()
    common.wait(lambda: not view.running, 60)  # what the model sees is made by the worker
    common.picture("7-window-1")
    widget.ui.nextChannelButton.click()
    common.picture("8-window-2")
    widget.ui.showAsModelButton.click()
    common.wait(lambda: not view.running, 10)
    session.apply()
    say("scores", common.run_ended(widget, 300))
    show_in_panel(widget, "windowing")
    slicer.util.findChildren(widget.ui.readerWindowsWidget, text="Brain*")[0].click()
    widget.ui.showPlotButton.click()
    common.pause(0.5)
    widget.ui.tableSelector.setCurrentIndex(widget.ui.tableSelector.findText("slices"))
    common.pause(0.3)
    slices = next(t for t in session.panel.results._tables() if t.GetAttribute("MedSeg.Table") == "slices")
    scores = slicer.util.arrayFromTableColumn(slices, "any")
    widget.ui.tableView.selectRow(int(scores.argmax()))
    common.pause(0.5)
    common.picture("9-table-and-plot")


session = Session()
failed = 0
try:
    segmentation(session)
    session.panel.model.refresh()
    if "ich-compact" in session.panel.model._items:
        classification(session)
    session.end()
except Exception:
    traceback.print_exc()
    failed = 1
say("messages", session.errors or "none")
session.cleanup()
# Slicer deletes this name when it loads a module, and wants it when the script ends.
import sys  # noqa: E402

common.exit_with(failed)
