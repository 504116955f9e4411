"""Where lists of cases come from, and what is asked about a case: names, Slicer's database, a form, many masks."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import common
import numpy as np
import slicer
from hands import Hands
from reviews import CASE, flair_and_masks, kept_apart
from session import Session, equal, true

_WMH = common.REAL_DATA / "images" / "wmh"


def patients(folder: Path) -> list[str]:
    """Three patients with a FLAIR, another image, and a mask whose name says nothing; real ones where they are."""
    import SimpleITK as sitk

    found = sorted(p.name for p in _WMH.glob("1*") if (p / "flair.nii.gz").is_file())
    if not found:
        _, node, labels = flair_and_masks()
        array = slicer.util.arrayFromVolume(node)
        slicer.mrmlScene.RemoveNode(node)
        found = [f"10{n}" for n in range(3)]
    for name in found:
        (folder / name).mkdir(parents=True)
        if (_WMH / name).is_dir():
            for new, old in (("flair", "flair"), ("prepared", "prepared_reference"), ("drawing", "abWMH")):
                shutil.copy(_WMH / name / f"{old}.nii.gz", folder / name / f"{name}_{new}.nii.gz")
        else:
            for new, voxels in (("flair", array), ("prepared", array), ("drawing", (labels == 2).astype(np.uint8))):
                sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / name / f"{name}_{new}.nii.gz"))
    return found


def check_review_names_are_asked_for(session: Session) -> str:
    """Names that leave open what is a mask: two fields take patterns, and each mask lies on its own patient."""
    with tempfile.TemporaryDirectory() as name, kept_apart(session) as tab:
        common.make_room()
        names = patients(Path(name))
        true(tab.cases.open_files(name), f"no cases: {session.errors}")
        equal(len(tab.cases.session.source.cases), 3 * len(names), "cases before the names are known")
        tab.cases.names.ask()
        tab.cases.names.images.setText("*_flair")
        tab.cases.names.masks.setText("*_drawing")
        tab.cases.names._finished()
        cases = tab.cases.session.source.cases
        equal([(c.image.parent.name, c.mask.parent.name) for c in cases], [(n, n) for n in names], "pairs")
        form = {"questions": [
            {"name": "motion", "text": "Motion artefacts?", "type": "yes/no", "required": True},
            {"name": "side", "text": "Side", "type": "choice", "choices": ["left", "right", "both"]},
            {"name": "score", "text": "Fazekas score", "type": "number", "minimum": 0, "maximum": 3},
        ]}  # fmt: skip
        (Path(name) / "form.json").write_text(json.dumps(form), "utf-8")
        tab.cases._dialogs.open_file = lambda title, filters: str(Path(name) / "form.json")
        try:
            tab.cases.menu.choose_form()
        finally:
            del tab.cases._dialogs.open_file
        hands = Hands(tab)
        hands.press("Ctrl+N", lambda: tab.reviewing is not None)
        fields = tab.rating._fields
        fields["motion"].setCurrentIndex(fields["motion"].findText("no"))
        fields["score"].setText("2")
        fields["score"].editingFinished.emit() if hasattr(fields["score"].editingFinished, "emit") else None
        hands.press("4")
        common.pause(0.5)
        tab.rating.widget.setFocus()
        for area in slicer.util.findChildren(slicer.util.mainWindow(), className="QScrollArea"):
            if area.isAncestorOf(tab.rating.widget):
                area.ensureWidgetVisible(tab.rating.widget)
        common.picture("review-40-names-and-form")
        kept = tab.reviewing.kept
        equal((kept.rating, kept.fields.get("motion")), (4, False), "rating and answer")
        equal(session.errors, [], "messages")
        return f"{len(names)} pairs by patterns, {len(tab.reviewing.review.findings)} findings; form: {kept.fields}"


def check_review_database_is_a_list(session: Session) -> str:
    """The series of Slicer's DICOM database as cases, called by no name of a patient; the first one opens."""
    from DICOMLib import DICOMUtils

    images = common.REAL_DATA / "images" / "head-ct-tilted"
    if not images.is_dir():
        return f"left out: there is no {images.name} in the folder of test data"
    slicer.util.selectModule("DICOM")
    common.pause(1.0)
    with tempfile.TemporaryDirectory() as folder:
        before = DICOMUtils.openTemporaryDatabase(str(Path(folder) / "database"))
        try:
            true(DICOMUtils.importDicom(str(images), slicer.dicomDatabase), "Slicer did not import the images")
            common.open_panel()
            with kept_apart(session) as tab:
                true(tab.cases.open_database(), f"no cases: {session.errors}")
                (case,) = tab.cases.session.source.cases
                true(case.name.startswith("CT-"), f"the case is called {case.name}")
                Hands(tab).press("Ctrl+N", lambda: tab.cases.session.awaited >= 0 or tab.reviewing is not None)
                true(
                    common.wait(lambda: tab.reviewing is not None, 60), f"not opened: {tab.cases.session.list.problems}"
                )
                common.picture("review-41-database")
                shape = slicer.util.arrayFromVolume(tab.reviewing.volume).shape
        finally:
            DICOMUtils.closeTemporaryDatabase(before)
    return f"one case, {case.name}, {shape}"


def check_review_many_masks_are_compared(session: Session) -> str:
    """Masks of several patients held against others: a table of cases, box plots; the panel stays narrow."""
    if not (_WMH / CASE).is_dir():
        return "left out: there are no manual masks in the folder of test data"
    with tempfile.TemporaryDirectory() as name, kept_apart(session) as tab:
        for patient in sorted(p for p in _WMH.glob("1*") if (p / "abWMH.nii.gz").is_file()):
            for folder, shift in (("reader", 0), ("shifted", 1)):
                (Path(name) / folder).mkdir(exist_ok=True)
                _as_mask(patient / "abWMH.nii.gz", Path(name) / folder / f"{patient.name}.nrrd", shift)
        folders = [str(Path(name) / f) for f in ("reader", "shifted")]
        tab.compare._dialogs.folder = lambda title: folders.pop()
        tab.compare.section.collapsed = False
        tab.compare.mode.setCurrentIndex(2)
        try:
            with common.Gaps() as gaps:
                tab.compare.folders.evaluate()
                common.pause(0.5)
                common.picture("review-42-comparing", tab.widget)
                true(common.wait(lambda: not tab.compare.folders.running, 120), "it never ended")
        finally:
            del tab.compare._dialogs.folder
        equal(session.errors, [], "messages")
        true(tab.compare._nodes is not None and "dice" in tab.compare._nodes.charts, "no box plots")
        common.picture("review-42-box-plots")
        rows, width = tab.compare._shown.GetNumberOfRows(), tab.widget.minimumSizeHint.width()
        tab.compare.remove()
        true(width <= 400, f"the tab wants {width} pixels")
    return f"{rows} cases, {tab.ui.status.text} The tab wants {width} pixels; gaps: {gaps.worst(2)}"


def _as_mask(source: Path, target: Path, shift: int) -> None:
    """A label map of what is set, moved by ``shift`` voxels along i."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(source))
    voxels = np.roll(sitk.GetArrayFromImage(image) > 0, shift, axis=2)
    made = sitk.GetImageFromArray(voxels.astype(np.uint8))
    made.CopyInformation(image)
    sitk.WriteImage(made, str(target))


def check_notes_are_folded(session: Session) -> str:
    """What a run said stands in two lines under its bar; all of it is there on request."""
    images = common.REAL_DATA / "images" / "head-ct-tilted"
    common.make_room()
    if images.is_dir():
        from medseg.io import read_volume
        from medseg_mrml import node_from_volume

        volume = node_from_volume(read_volume(images), slicer.mrmlScene, name="head")
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
    else:
        volume = session.volume()
    said = session.run("ich-compact", volume)
    true("Done" in said, said)
    ui = session.widget.ui
    lines = str(ui.notesLabel.text).split("<br>")
    true(len(lines) <= 3 and not ui.detailsLabel.visible, f"{len(lines)} lines: {ui.notesLabel.text}")
    common.picture("notes-folded")
    session.panel.run.messages._fold(True)
    common.picture("notes-unfolded")
    true(str(ui.offerLabel.text) == "" or ui.offerLabel.visible, "an offer is hidden before it was answered")
    return f"{said} | {' | '.join(lines)}"
