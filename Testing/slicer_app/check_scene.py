"""The scene while a run goes on and after it: closed, saved, nodes removed, transforms, undo, tables and plot."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import common
import numpy as np
import slicer
import vtk
from check_runs import common_name
from session import Session, equal, true

_HEADLESS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy
from medseg import load_model, read_volume, run
numpy.save(sys.argv[4], run(load_model(sys.argv[2]), read_volume(sys.argv[3])).layers[0].labels)
"""


def check_scene_closed_while_running(session: Session) -> str:
    """The run stops, nothing comes into the new scene, and the next run works."""
    common.choose(session.widget, "slow", session.slow_volume())
    session.apply()
    session.stage("infer")
    slicer.mrmlScene.Clear(0)
    true(common.wait(lambda: not session.panel.runs.running, 5), "the run goes on")
    said = session.widget.ui.progressLabel.text
    common.pause(1)
    equal(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0, "segmentations in the new scene")
    equal(session.errors, [], "messages")
    again = session.run("bright", session.volume())
    true("Done" in again, again)
    return said


def check_input_removed_while_running(session: Session) -> str:
    """The run stops and says why."""
    volume = session.slow_volume()
    common.choose(session.widget, "slow", volume)
    session.apply()
    session.stage("infer")
    slicer.mrmlScene.RemoveNode(volume)
    true(common.wait(lambda: not session.panel.runs.running, 5), "the run goes on")
    said = session.widget.ui.progressLabel.text
    true("removed" in said, said)
    again = session.run("bright", session.volume(name="Other"))
    true("Done" in again, again)
    return said


def check_scene_saved_while_running(session: Session) -> str:
    """A scene that is saved in a run loads back with the module's choices; the run is not disturbed."""
    volume = session.slow_volume()
    common.choose(session.widget, "slow", volume)
    session.apply()
    session.stage("infer")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "scene.mrb")
        true(slicer.util.saveScene(path), "the scene could not be saved")
        said = common.run_ended(session.widget)
        true("Done" in said, said)
        true(slicer.util.saveScene(str(Path(folder) / "after.mrb")), "the scene could not be saved after the run")
        voxels = int((session.labels() != 0).sum())
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(path)
        common.pause(0.5)
        equal(session.panel.model.card.id if session.panel.model.card else "", "slow", "the model of the loaded scene")
        equal([v.GetName() for v in session.panel.inputs.volumes()], ["CT"], "the input of the loaded scene")
        slicer.mrmlScene.Clear(0)
        slicer.util.loadScene(str(Path(folder) / "after.mrb"))
        common.pause(0.5)
    node = session.segmentation
    true(node is not None, "the loaded scene has lost the result")
    volume = session.panel.inputs.volumes()[0]
    loaded = slicer.util.arrayFromSegmentBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0), volume)
    equal(int((loaded != 0).sum()), voxels, "voxels of the loaded result")
    kinds = [common_name(t) for t in session.panel.results._tables()]
    true("segments" in kinds, "the loaded scene has lost the tables")
    return f"{said.splitlines()[0]} Loaded back: {voxels} voxels, tables {kinds}"


def check_labels_equal_a_headless_run(session: Session) -> str:
    """An oblique, anisotropic file under a linear transform: the labels of a run without Slicer, voxel for voxel."""
    real = common.REAL_DATA / "images" / "t1" / "t1_1.75mm_LAS.nii.gz"
    model = "meshnet-gwm-light"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "oblique.nrrd"
        if real.exists() and (session.widget and (session.models / model).exists()):
            source = slicer.util.loadVolume(str(real))
            array = slicer.util.arrayFromVolume(source)[10:-8].astype(np.int16)
            slicer.mrmlScene.RemoveNode(source)
        else:
            model, array = "bright", common.blob((30, 60, 50))
        turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
        matrix = np.eye(4)
        matrix[:3, :3] = turn @ np.diag([1.7, 1.75, 1.8])
        matrix[:3, 3] = 12, -30, 44
        node = common.add_volume(array, "oblique", "MR", matrix)
        true(slicer.util.exportNode(node, str(path)), "the volume could not be written")
        slicer.mrmlScene.RemoveNode(node)
        node = slicer.util.loadVolume(str(path))
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turned")
        shift = vtk.vtkTransform()
        shift.RotateX(20)
        shift.Translate(5, 6, 7)
        transform.SetMatrixTransformToParent(shift.GetMatrix())
        node.SetAndObserveTransformNodeID(transform.GetID())
        said = session.run(model, node)
        true("Done" in said, said)
        equal(session.segmentation.GetTransformNodeID(), transform.GetID(), "the transform of the result")
        labels = Path(folder) / "labels.npy"
        subprocess.run(
            [
                common.python(),
                "-c",
                _HEADLESS,
                str(common.MODULE.parent / "Logic"),
                str(session.models / model),
                str(path),
                str(labels),
            ],
            check=True,
            env=slicer.util.startupEnvironment(),
        )
        expected = np.load(labels)
    equal(session.labels(), expected, "labels")
    segment = session.segmentation.GetSegmentation()
    for number in range(segment.GetNumberOfSegments()):
        identifier = segment.GetNthSegmentID(number)
        own = slicer.util.arrayFromSegmentBinaryLabelmap(session.segmentation, identifier, node)
        value = segment.GetSegment(identifier).GetLabelValue()
        equal(own != 0, expected == value, f"voxels of segment {identifier} on the volume")
    found = {int(v): int(n) for v, n in zip(*np.unique(expected, return_counts=True), strict=True)}
    return f"{model} on {'x'.join(map(str, array.shape[::-1]))} oblique voxels, 0 of {expected.size} differ, {found}"


def check_undo(session: Session) -> str:
    """Undo brings back the segmentation as it was, and removes one that was new."""
    volume = session.volume()
    session.run("bright", volume)
    node, first = session.segmentation, session.labels().copy()
    other = slicer.vtkSegment()
    other.SetName("Mine")
    node.GetSegmentation().AddSegment(other, "mine")
    slicer.util.arrayFromVolume(volume)[:, :, :64] = 0
    slicer.util.arrayFromVolumeModified(volume)
    session.apply()
    common.run_ended(session.widget)
    true(session.segmentation is node, "the second result did not go into the same segmentation")
    true(int(session.labels().astype(bool).sum()) < int(first.astype(bool).sum()), "the second run changed nothing")
    session.widget.ui.undoButton.click()
    common.pause(0.2)
    equal(common.labels_of(node), first, "labels after undo")
    true(node.GetSegmentation().GetSegment("mine") is not None, "the user's own segment is gone")
    slicer.mrmlScene.Clear(0)
    volume = session.volume()
    before = session.nodes()
    session.run("bright", volume)
    session.widget.ui.undoButton.click()
    common.pause(0.2)
    left = {k: v for k, v in session.nodes().items() if k not in before}
    left = {k: v for k, v in left.items() if "Segmentation" in k or "Table" in k}
    equal(left, {}, "nodes that stayed")
    return "the earlier labels and the user's own segment came back; a new segmentation was removed"


def check_table_click(session: Session) -> str:
    """A click on a lesion moves all slice views to its centre, through the parent transform."""
    volume = session.volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    shift = vtk.vtkTransform()
    shift.Translate(11, -7, 5)
    transform.SetMatrixTransformToParent(shift.GetMatrix())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    session.run("bright", volume)
    lesions = next(t for t in session.panel.results._tables() if common_name(t) == "lesions")
    centre = [float(lesions.GetTable().GetColumnByName(f"centre_{c}_mm").GetValue(0)) for c in "ras"]
    expected = np.add(centre, [11, -7, 5])
    ui = session.widget.ui
    ui.tableSelector.setCurrentIndex(ui.tableSelector.findText("lesions"))
    for n in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
        slicer.mrmlScene.GetNthNodeByClass(n, "vtkMRMLSliceNode").JumpSliceByCentering(90, 90, 90)
    ui.tableView.selectRow(0)
    common.pause(0.3)
    ui.tableView.clicked(ui.tableView.currentIndex())
    common.pause(0.3)
    places = {}
    for n, axis in (("Red", 2), ("Yellow", 0), ("Green", 1)):
        matrix = slicer.app.layoutManager().sliceWidget(n).mrmlSliceNode().GetSliceToRAS()
        places[n] = matrix.GetElement(axis, 3)
        true(abs(places[n] - expected[axis]) < 1, f"{n} is at {places[n]}, the lesion at {expected[axis]}")
    return f"lesion at {[round(float(v), 1) for v in expected]}, views at {places}"


def check_plot(session: Session) -> str:
    """A classifier gives a table of its slices and a plot, which is shown on request; a point leads to its slice."""
    session.run("scores", session.volume())
    ui = session.widget.ui
    true(ui.showPlotButton.enabled, "there is no plot")
    ui.showPlotButton.click()
    common.pause(0.5)
    manager = slicer.app.layoutManager()
    true(manager.plotViewCount > 0, "no plot view is shown")
    slices = next(t for t in session.panel.results._tables() if common_name(t) == "slices")
    series = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotSeriesNode")
    ids, picked, points = vtk.vtkStringArray(), vtk.vtkCollection(), vtk.vtkIdTypeArray()
    ids.InsertNextValue(series.GetID())
    points.InsertNextValue(3)
    picked.AddItem(points)
    manager.plotWidget(0).plotView().dataSelected(ids, picked)
    common.pause(0.3)
    wanted = slices.GetTable().GetColumnByName("centre_s_mm").GetValue(3)
    offset = manager.sliceWidget("Red").mrmlSliceNode().GetSliceToRAS().GetElement(2, 3)
    true(abs(offset - wanted) < 0.6, f"the red view is at {offset}, the slice at {wanted}")
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    return f"{slices.GetNumberOfRows()} slices, point 3 leads to S {offset:.1f} mm"


def check_windowing(session: Session) -> str:
    """*Show as the model sees it* sets the views, one window after the other, and gives them back."""
    volume = session.volume()
    session.panel.model.refresh()
    if "ich-compact" not in session.panel.model._items:
        return "skipped: ich-compact is not installed"
    common.choose(session.widget, "ich-compact", volume)
    display = volume.GetScalarVolumeDisplayNode()
    before = (display.GetLevel(), display.GetWindow())
    ui = session.widget.ui
    seen = []
    ui.showAsModelButton.click()
    for _ in range(3):
        seen.append((display.GetLevel(), display.GetWindow()))
        ui.nextChannelButton.click()
    equal(seen, [(40.0, 80.0), (80.0, 200.0), (40.0, 380.0)], "level and width of the views")
    ui.showAsModelButton.click()
    equal((display.GetLevel(), display.GetWindow()), before, "the views were not given back")
    return f"{seen}, then {before}"
