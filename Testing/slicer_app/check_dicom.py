"""A study from Slicer's DICOM database and back: segmented by right-click, exported, found in the study, read."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import qt
import slicer
from session import Session, equal, true

from support.real_data import REAL_DATA

# Runs outside the application, whose process must stay light: masks of an object on the frames, and their images.
_READ = """
import sys
sys.path[:0] = sys.argv[1:2]
import numpy
from medseg.dicom_out.reading import masks_on_frames
from medseg.io.dicom_source import read_source
source = read_source(sys.argv[3:])
masks = masks_on_frames(sys.argv[2], source)
numpy.savez(sys.argv[2] + ".npz", uids=[str(f.header.SOPInstanceUID) for f in source.frames], **masks)
"""
# A regular series, which Slicer's own plugin can read the segmentation of.
_SERIES = """
import sys
sys.path[:0] = sys.argv[1:3]
import numpy
from support.dicom_images import write_series
shape = (20, 96, 80)
place = numpy.stack(numpy.meshgrid(*[numpy.linspace(-1.6, 1.6, n) for n in shape], indexing="ij"))
array = (1000 * ((place ** 2).sum(axis=0) < 1)).astype(numpy.int16)
write_series(__import__("pathlib").Path(sys.argv[3]), array, [(-30.0, -40.0, 3.0 * k) for k in range(20)],
             spacing=(0.9, 0.9), thickness=3.0)
"""


def check_dicom_tilted_ct(session: Session) -> str:
    """A tilted, uneven head CT from the database is answered in its study; the masks are the same on each slice."""
    images = REAL_DATA / "images" / "head-ct-tilted"
    if not images.is_dir():
        return f"left out: there is no {images.name} in the folder of test data"
    return _there_and_back(session, images, "tilted")


def check_dicom_regular_series(session: Session) -> str:
    """A regular series; its segmentation is also read by Slicer's own plugin, where its dcmqi is installed."""
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        _outside(_SERIES, str(common.MODULE.parent / "Logic"), str(Path(__file__).parents[1]), str(images))
        return _there_and_back(session, images, "regular")


def _there_and_back(session: Session, images: Path, name: str) -> str:
    from DICOMLib import DICOMUtils

    widget = session.widget
    true(widget is not None, "the module has no widget")
    slicer.util.selectModule("DICOM")  # its browser opens the user's database when it is first shown
    common.pause(1.0)
    with tempfile.TemporaryDirectory() as folder:
        before = DICOMUtils.openTemporaryDatabase(str(Path(folder) / "database"))
        try:
            volume, study = _imported(images, name)
            said = _right_click(session, volume, name)
            wanted = slicer.util.arrayFromVolume(volume) > 500
            equal(session.labels() != 0, wanted, "labels of the run")
            own = _exported_into_folder(session, volume, Path(folder) / "objects", wanted)
            added = _exported_into_database(session, study, name)
            plugin = _by_slicers_plugin(added, volume, wanted, name)
        finally:
            DICOMUtils.closeTemporaryDatabase(before)
    return f"{said.splitlines()[0]} {own}; in the study now: {', '.join(sorted(added))}; {plugin}"


def check_dicom_folder_or_series_is_gone(session: Session) -> str:
    """A folder that may not be written to, a series deleted before or during an export: named, and nothing is left."""
    from DICOMLib import DICOMUtils

    true(session.widget is not None, "the module has no widget")
    slicer.util.selectModule("DICOM")
    common.pause(1.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _outside(_SERIES, str(common.MODULE.parent / "Logic"), str(Path(__file__).parents[1]), str(folder / "images"))
        before = DICOMUtils.openTemporaryDatabase(str(folder / "database"))
        try:
            volume, study = _imported(folder / "images", "gone")
            slicer.util.selectModule(common.MODULE.stem)
            session.run("bright", volume)
            said = [_refused(session, _unwritable(folder / "locked"), lambda: None)]
            output = folder / "output"
            output.mkdir()
            (series,) = slicer.dicomDatabase.seriesForStudy(study)
            said.append(_refused(session, None, lambda: slicer.dicomDatabase.removeSeries(series)))
            equal(slicer.dicomDatabase.patients(), (), "patients of a database without the images")
            said.append(_refused(session, output, lambda: None))
            true(DICOMUtils.importDicom(str(folder / "images"), slicer.dicomDatabase), "not imported again")
            said.append(_refused(session, output, lambda: shutil.rmtree(folder / "images")))
            equal(list(output.iterdir()), [], "what was left in the folder")
        finally:
            DICOMUtils.closeTemporaryDatabase(before)
    return " | ".join(said)


def _unwritable(folder: Path) -> Path:
    """A folder that may not be written to, also by an administrator, who may write to all folders of a disk."""
    folder.mkdir(mode=0o555)
    return Path("/sys") if os.access(folder, os.W_OK) and Path("/sys").is_dir() else folder


def _refused(session: Session, folder: Path | None, meanwhile: Callable[[], Any]) -> str:
    """What is told where the export into ``folder``, or the database, fails; ``meanwhile`` is done once it began."""
    export = session.panel.results.dicom
    session.errors.clear()
    export._dialogs.folder = lambda title: str(folder)
    export._dialogs.ask = lambda title, text, questions, answers, accept: {q["id"]: q["default"] for q in questions}
    (export.into_database if folder is None else export.into_folder)()
    meanwhile()
    true(common.wait(lambda: not export.busy, 120), "the export did not end")
    equal(len(session.errors), 1, f"messages ({session.errors})")
    sentence = session.errors.pop()
    return str(sentence)


# -- steps ----------------------------------------------------------------------------------------------------------


def _imported(images: Path, name: str) -> tuple[Any, str]:
    """The volume, loaded from the database by Slicer's plugin, and the UID of its study."""
    from DICOMLib import DICOMUtils

    database = slicer.dicomDatabase
    true(DICOMUtils.importDicom(str(images), database), "Slicer did not import the images")
    (patient,) = database.patients()
    (study,) = database.studiesForPatient(patient)
    (series,) = database.seriesForStudy(study)
    nodes = [slicer.mrmlScene.GetNodeByID(n) for n in DICOMUtils.loadSeriesByUID([series])]
    volumes = [n for n in nodes if n is not None and n.IsA("vtkMRMLScalarVolumeNode")]
    equal(len(volumes), 1, "volumes that were loaded")
    slicer.util.setSliceViewerLayers(background=volumes[0], fit=True)
    _show_database(f"dicom-{name}-1-imported")
    return volumes[0], str(study)


def _show_database(name: str) -> None:
    slicer.util.selectModule("DICOM")
    common.pause(1.0)
    browser = slicer.modules.DICOMWidget.browserWidget
    browser.dicomBrowser.dicomTableManager().updateTableViews()
    common.pause(0.5)
    for table in ("patientsTable", "studiesTable"):
        for found in slicer.util.findChildren(browser, table):
            found.selectFirst()
    common.pause(1.0)
    true(slicer.dicomDatabase.isOpen, "Slicer's DICOM database was closed")
    common.picture(name)


def _right_click(session: Session, volume: Any, name: str) -> str:
    """*Segment with MedSeg > Bright voxels* in the context menu of the Data module's tree; what is said at the end."""
    slicer.util.selectModule("Data")
    common.pause(1.0)
    (tree, *_) = slicer.util.findChildren(slicer.modules.data.widgetRepresentation(), "SubjectHierarchyTreeView")
    item = slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(volume)
    tree.setCurrentItem(item)
    common.pause(0.3)
    seen: list[str] = []

    def choose() -> None:
        menu = slicer.app.activePopupWidget()
        try:
            offers = next(a.menu() for a in menu.actions() if a.text == "Segment with MedSeg" and a.visible)
            seen.extend(str(entry.text) for entry in offers.actions())
            offers.popup(menu.mapToGlobal(qt.QPoint(menu.width, 0)))
            common.pause(0.3)
            _picture_with(f"dicom-{name}-2-menu", menu, offers)
            next(entry for entry in offers.actions() if entry.text == "Bright voxels").trigger()
            offers.close()
        finally:  # the tree waits until its menu is closed
            if menu is not None:
                menu.close()

    where = tree.visualRect(tree.currentIndex()).center()
    qt.QTimer.singleShot(700, choose)
    event = qt.QContextMenuEvent(qt.QContextMenuEvent.Mouse, where, tree.viewport().mapToGlobal(where))
    slicer.app.sendEvent(tree.viewport(), event)
    true("Bright voxels" in seen, f"the menu offers {seen}")
    common.wait(lambda: session.panel.runs.running, 10)
    said = common.run_ended(session.widget)
    true("Done" in said, said)
    bounds = [0.0] * 6
    session.segmentation.GetRASBounds(bounds)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *[sum(bounds[n : n + 2]) / 2 for n in (0, 2, 4)])
    common.pause(0.5)
    common.picture(f"dicom-{name}-3-result")
    return f"menu offered {len(seen)} models, {said}"


def _picture_with(name: str, *menus: Any) -> None:
    """The main window with ``menus``, which are windows of their own."""
    window = slicer.util.mainWindow()
    shown = window.grab()
    painter = qt.QPainter(shown)
    for menu in menus:
        painter.drawPixmap(window.mapFromGlobal(menu.mapToGlobal(qt.QPoint(0, 0))), menu.grab())
    painter.end()
    common.OUTPUT.mkdir(parents=True, exist_ok=True)
    shown.save(str(common.OUTPUT / f"{name}.png"))
    print(f"picture {name}.png", flush=True)


def _exported_into_folder(session: Session, volume: Any, folder: Path, wanted: np.ndarray) -> str:
    """*DICOM objects into a folder*; the masks are compared on the images, slice by slice."""
    export = session.panel.results.dicom
    folder.mkdir()
    export._dialogs.folder = lambda title: str(folder)
    export._dialogs.ask = lambda title, text, questions, answers, accept: {q["id"]: q["default"] for q in questions}
    export.into_folder()
    _ended(session)
    equal(sorted(p.name for p in folder.iterdir()), ["report.dcm", "segmentation.dcm"], "files of the export")
    instances = volume.GetAttribute("DICOM.instanceUIDs").split()
    files = [slicer.dicomDatabase.fileForInstance(uid) for uid in instances]
    _outside(_READ, str(common.MODULE.parent / "Logic"), str(folder / "segmentation.dcm"), *files)
    with np.load(folder / "segmentation.dcm.npz") as read:
        order = [list(read["uids"]).index(uid) for uid in instances]
        (segment,) = [n for n in read.files if n != "uids"]
        equal(read[segment][order], wanted, "the mask on the images")
    return f"{int(wanted.sum())} voxels on {len(files)} images, the same in the DICOM segmentation"


def _ended(session: Session) -> None:
    true(common.wait(lambda: not session.panel.results.dicom.busy, 120), "the export did not end")
    equal(session.errors, [], "messages of the export")


def _exported_into_database(session: Session, study: str, name: str) -> dict[str, str]:
    """*DICOM objects into Slicer's DICOM database*: modality -> series, of what the study has now that it had not."""
    database = slicer.dicomDatabase
    before = set(database.seriesForStudy(study))
    session.panel.results.dicom.into_database()
    _ended(session)
    common.pause(1.0)
    added = [uid for uid in database.seriesForStudy(study) if uid not in before]
    found = {str(database.fileValue(database.filesForSeries(uid)[0], "0008,0060")): str(uid) for uid in added}
    equal(sorted(found), ["SEG", "SR"], "modalities that came into the study")
    equal(len(database.patients()), 1, "patients in the database")
    _show_database(f"dicom-{name}-4-in-the-study")
    return found


def _by_slicers_plugin(added: dict[str, str], volume: Any, wanted: np.ndarray, name: str) -> str:
    """The segmentation as Slicer's own DICOM plugin loads it, held against the run's, on the volume's grid."""
    from DICOMLib import DICOMPlugin, DICOMUtils

    if "DICOMSegmentationPlugin" not in slicer.modules.dicomPlugins:
        return "this Slicer has no plugin for DICOM segmentations (extension QuantitativeReporting)"
    try:
        DICOMPlugin._dcmqi_binary("segimage2itkimage")
    except Exception as error:
        return f"Slicer's plugin cannot be asked: {error}"
    nodes = [slicer.mrmlScene.GetNodeByID(n) for n in DICOMUtils.loadSeriesByUID([added["SEG"]])]
    loaded = [n for n in nodes if n is not None and n.IsA("vtkMRMLSegmentationNode")]
    if name == "tilted":
        equal(loaded, [], "segmentations of tilted slices that Slicer's plugin (dcmqi) loads")
        return "Slicer's plugin (dcmqi) does not read segmentations of tilted slices; MedSeg does"
    equal(len(loaded), 1, "segmentations that Slicer's plugin loaded")
    segmentation = loaded[0]
    identifier = segmentation.GetSegmentation().GetNthSegmentID(0)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, identifier, volume) != 0
    equal(mask, wanted, "the mask as Slicer's plugin loads it")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer.util.selectModule("Data")
    common.picture(f"dicom-{name}-5-by-slicers-plugin")
    numbers = _report_by_slicers_plugin(added["SR"])
    millilitres = float(mask.sum()) * float(np.prod(volume.GetSpacing())) / 1000
    true(any(abs(n - millilitres) < 1e-3 * millilitres for n in numbers), f"{millilitres} ml is not in {numbers}")
    return (
        f"Slicer's plugins load the same {int(mask.sum())} voxels, as {segmentation.GetName()}, and a table of "
        f"{len(numbers)} numbers with its {millilitres:.4g} ml"
    )


def _report_by_slicers_plugin(series: str) -> list[float]:
    """The numbers in the table that Slicer's plugin for reports (TID 1500) makes."""
    from DICOMLib import DICOMUtils

    nodes = [slicer.mrmlScene.GetNodeByID(n) for n in DICOMUtils.loadSeriesByUID([series])]
    tables = [n for n in nodes if n is not None and n.IsA("vtkMRMLTableNode")]
    true(bool(tables), "Slicer's plugin made no table of the report")
    found = []
    for table in tables:
        for row in range(table.GetNumberOfRows()):
            for column in range(table.GetNumberOfColumns()):
                try:
                    found.append(float(table.GetCellText(row, column)))
                except ValueError:  # a name
                    continue
    return found


def _outside(code: str, *arguments: str) -> None:
    environment = dict(os.environ) if common.python() != "PythonSlicer" else slicer.util.startupEnvironment()
    done = subprocess.run([common.python(), "-c", code, *arguments], capture_output=True, text=True, env=environment)
    true(done.returncode == 0, f"a process beside the application failed: {done.stderr[-1500:]}")
