"""The tutorial of ten minutes, step by step by the words on its buttons, in a running Slicer; pictures of each step.

    Slicer --additional-module-paths MedSegExtension --python-script Testing/slicer_app/tutorial.py

With the path the module is there from the start, as an installed one is, and its samples are offered. The packages of
the worker must be installed. Prints "N passed, N failed"; pictures go to test-output/slicer_app.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path("Testing/slicer_app").resolve()
sys.path.insert(0, str(HERE))

import common  # noqa: E402
import qt  # noqa: E402
import slicer  # noqa: E402
from session import Session  # noqa: E402

session = Session()
session.models = Path(tempfile.mkdtemp())  # only the models that come with MedSeg
outcomes: list[bool] = []


def step(work: Callable[[], Any]) -> None:
    """Do one section of the tutorial; what it says, and whether it held."""
    try:
        print(f"ok   {work.__doc__} {work() or ''}".rstrip(), flush=True)
        outcomes.append(True)
    except Exception:
        traceback.print_exc()
        print(f"FAIL {work.__doc__}", flush=True)
        common.picture(f"failed-{work.__name__}")
        outcomes.append(False)


def press(text: str, parent: Any = None) -> None:
    """Click on the button that a reader sees with these words."""
    found = slicer.util.findChildren(parent or slicer.util.mainWindow(), text=text)
    buttons = [b for b in found if hasattr(b, "click") and b.visible and b.enabled]
    if not buttons:
        raise AssertionError(f"no button {text!r} can be pressed (of {len(found)} of that name)")
    buttons[0].click()
    common.pause(0.4)


def panel() -> Any:
    """The module's page."""
    return slicer.modules.MedSegExtensionWidget.ui.tabs


def review() -> Any:
    """The tab Review."""
    return slicer.modules.MedSegExtensionWidget.panel.tabs[1]


def image() -> str:
    """1. An image: a click in Sample Data."""
    window = slicer.util.mainWindow()
    common.make_room()
    slicer.util.selectModule("SampleData")
    common.pause(1)
    for group in slicer.util.findChildren(window, "*CollapsibleGroupBox"):
        group.collapsed = group.title != "MedSeg"
    common.pause(0.5)
    common.picture("tutorial-1-sample-data")
    press("FLAIR, drawn")
    node = slicer.util.getNode("FLAIR, drawn")
    assert node.GetAttribute("DICOM.Modality") == "MR"
    return node.GetName()


def run() -> str:
    """2. Run: the model that fits, Apply, segments and tables."""
    slicer.util.selectModule("MedSegExtension")
    widget = slicer.modules.MedSegExtensionWidget
    common.pause(0.5)
    chosen = widget.panel.segment.inputs.volumes()
    assert [v.GetName() for v in chosen] == ["FLAIR, drawn"], chosen
    common.choose(widget, "wmh-compact", None)
    assert "Fits" in widget.ui.fitLabel.text, widget.ui.fitLabel.text
    press("Apply", panel())
    said = common.run_ended(widget, 600)
    assert said.startswith("Done"), said
    widget.ui.tableSelector.setCurrentIndex(max(0, widget.ui.tableSelector.findText("lesions")))
    widget.ui.tableView.selectRow(0)
    common.pause(0.5)
    common.picture("tutorial-2-result")
    return said.splitlines()[0]


def go_through() -> str:
    """3. Review: accept, reject, unsure, undo by their buttons and keys."""
    panel().currentIndex = 1
    common.pause(0.5)
    from medseg_panel.review import keeping

    # A review of the same image that is kept in the usual place would be gone on with.
    slicer.app.userSettings().setValue(keeping._FOLDER_SETTING, tempfile.mkdtemp())
    press("Start review", panel())
    tab = review()
    assert tab.reviewing is not None
    before = tab.reviewing.review.left
    for button in ("Accept (A)", "Accept (A)", "Reject (X)", "Unsure (U)"):
        press(button, panel())
    assert tab.reviewing.review.left == before - 4
    press("Undo (Z)", panel())
    assert tab.reviewing.review.left == before - 3
    press("Redo (Y)", panel())
    common.picture("tutorial-3-review")
    return tab.ui.status.text


def correct() -> str:
    """4. Correct: Slicer's Segment Editor inside the tab, a version is saved."""
    press("Correct (E)", panel())
    common.pause(1)
    assert review().actions.editor.is_open
    common.picture("tutorial-4-correct")
    press("Done", panel())
    review().rating.rate(4)
    action("More", "Save a version")
    assert "saved" in review().ui.status.text.lower(), review().ui.status.text
    return review().changes.text


def action(button: str, text: str) -> None:
    """Choose an entry of a button's menu."""
    menus = [b.menu() for b in slicer.util.findChildren(panel(), text=button) if hasattr(b, "menu") and b.menu()]
    found = [a for menu in menus for a in menu.actions() if a.text.startswith(text)]
    assert found, f"{button} has no entry {text!r}"
    found[0].trigger()
    common.pause(0.5)


def compare() -> str:
    """5. Compare: the reviewed mask and the model's."""
    section = review().compare
    section.section.collapsed = False
    common.pause(0.3)
    section.compare()
    common.wait(lambda: section._nodes is not None, 60)
    assert section._nodes is not None
    rejected = [id for id, d in review().reviewing.review.decisions.items() if d.state == "rejected"]
    review().go(rejected[0])
    area = section.section.parent()
    while area is not None and not hasattr(area, "ensureWidgetVisible"):
        area = area.parent()
    if area is not None:
        area.ensureWidgetVisible(section.plots)
    common.pause(0.5)
    common.picture("tutorial-5-compare")
    section.remove()
    section.section.collapsed = True
    return ""


def report() -> str:
    """6. Report: one page, and the case is left."""
    page = Path(tempfile.mkdtemp()) / "report.html"
    review().keeping.write_report(page)
    assert page.stat().st_size > 10_000
    press("Leave this case", panel())
    assert review().reviewing is None
    return f"{page.stat().st_size // 1000} kB"


def dicom() -> str:
    """7. DICOM: a series is imported, run, and answered in DICOM objects."""
    from DICOMLib import DICOMUtils

    from medseg.phantoms import head_ct
    from medseg.phantoms.dicom import write_dicom_series

    work = Path(tempfile.mkdtemp())
    write_dicom_series(head_ct(7, bleeds=["intraparenchymal", "subdural"]), work / "series")
    slicer.mrmlScene.Clear(0)
    with DICOMUtils.TemporaryDICOMDatabase(str(work / "database")) as database:
        DICOMUtils.importDicom(str(work / "series"), database)
        nodes = DICOMUtils.loadPatientByUID(database.patients()[0])
        volume = slicer.mrmlScene.GetNodeByID(nodes[0])
        slicer.util.selectModule("MedSegExtension")
        panel().currentIndex = 0
        widget = slicer.modules.MedSegExtensionWidget
        common.choose(widget, "ich-compact", volume)
        press("Apply", panel())
        said = common.run_ended(widget, 600)
        assert said.startswith("Done"), said
        press("Show plot", panel())
        common.picture("tutorial-7-scores")
        dialogs = widget.panel.segment._dialogs
        dialogs.folder = lambda title: str(work)
        dialogs.ask = lambda title, text, questions, answers, accept: {q["id"]: q["default"] for q in questions}
        action("Export", "DICOM objects into a folder...")
        common.wait(lambda: list(work.rglob("*.dcm")) and not widget.panel.segment.results.dicom.busy, 120)
        objects = [p.name for p in work.glob("*.dcm")] + [p.name for p in (work / "dicom").glob("*.dcm")]
    assert objects, widget.panel.segment.run.log_text
    return ", ".join(objects)


for part in (image, run, go_through, correct, compare, report, dicom):
    step(part)
print("messages:", session.errors or "none", session.questions or "")
print(f"{sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed")
_ = qt  # Slicer deletes names of modules that it loads; this one is needed to the end
common.exit_with(0 if all(outcomes) and not session.stderr.tracebacks else 1)
