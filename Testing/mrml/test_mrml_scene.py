"""Files that 3D Slicer opens, and the picture: a user sees the wrong side, the wrong voxels, or nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.monitor import Monitor
from medseg.output.files import write_segmentation
from medseg.output.folder import discover_sinks, write_result
from medseg.result import Layer, Result, SegmentClass
from medseg_mrml import scene as scene_sink

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")
# Rendering without a screen; read when the first render window is made.
os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow" if sys.platform.startswith("linux") else "")
from medseg_mrml import node_from_volume, table_from_node, volume_from_node  # noqa: E402
from medseg_mrml.focus import focus_of  # noqa: E402
from medseg_mrml.headless import HeadlessScene  # noqa: E402
from medseg_mrml.views import SliceView, letter  # noqa: E402
from support.geometry import rotation  # noqa: E402
from support.mrml_samples import BLEED, CLASSES, OBLIQUE, labels, overlapping, result, scores, tables, volume  # noqa: E402


def mask_of(node: Any, identifier: str, reference: Any) -> np.ndarray:
    """The segment's voxels on the reference volume's grid, by the application's own function."""
    scene = node.GetScene()
    labelmap = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.ExportSegmentsToLabelmapNode(node, [identifier], labelmap, reference)
    mask = volume_from_node(labelmap).array > 0
    scene.RemoveNode(labelmap)
    return mask


def as_read(array: np.ndarray, written: Grid, read: Grid) -> np.ndarray:
    """``array`` in the order of ``read``: Slicer turns left-handed volumes over when it reads them, place unchanged."""
    back = np.rint(written.index_map_from(read)).astype(int)
    assert np.allclose(back, written.index_map_from(read), atol=1e-3)
    assert np.array_equal(np.abs(back[:3, :3]), np.eye(3))
    return array[tuple(slice(None, None, int(back[a, a])) for a in (2, 1, 0))]


def only(scene: Any, class_name: str) -> Any:
    nodes = scene.GetNodesByClass(class_name)
    assert nodes.GetNumberOfItems() == 1
    return nodes.GetItemAsObject(0)


# -- segmentation.seg.nrrd through the application's own reader -------------------------------------------------


@pytest.mark.parametrize("given", [result(), overlapping()], ids=["one layer", "two layers"])
def test_segmentation_file_opens_as_the_same_segments(tmp_path: Path, given: Result) -> None:
    path = tmp_path / "x.seg.nrrd"
    write_segmentation(path, given.layers, given.grid, "model")
    scene = HeadlessScene(tmp_path).scene
    reference = node_from_volume(volume(), scene)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(node)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == len(given.layers)
    assert list(segmentation.GetSegmentIDs()) == [f"model_{c.value}" for c in given.classes]
    for item, identifier in zip(given.classes, segmentation.GetSegmentIDs(), strict=True):
        segment = segmentation.GetSegment(identifier)
        assert segment.GetName() == item.name
        assert segment.GetColor() == pytest.approx(item.color)
        assert segment.GetLabelValue() == item.value
        assert np.array_equal(mask_of(node, identifier, reference), given.mask(item.name))
        if item.terminology:
            assert segment.GetTerminology() == item.terminology
    geometry = segmentation.GetConversionParameter("Reference image geometry")
    image = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image, False)
    assert image.GetDimensions() == given.grid.size
    assert image.GetOrigin() == pytest.approx(tuple(np.array(given.grid.origin) * (-1, -1, 1)))


# -- scene.mrb ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result folder as the command line writes it, by the installed sink's own code."""
    target = tmp_path_factory.mktemp("written") / "case"
    monitor = Monitor()
    write_result(result(), target, volume=volume(), monitor=monitor, sinks={"scene": scene_sink.write_scene})
    assert monitor.warnings == []
    return target


def test_scene_opens_with_the_same_voxels_names_and_terminology(folder: Path, tmp_path: Path) -> None:
    scene = HeadlessScene(tmp_path).scene
    assert scene.ReadFromMRB(str(folder / "scene.mrb"))
    image = only(scene, "vtkMRMLScalarVolumeNode")
    read = volume_from_node(image)
    assert image.GetName() == "head"
    assert np.array_equal(read.array, as_read(volume().array, OBLIQUE, read.grid))
    assert read.modality == "CT"
    node = only(scene, "vtkMRMLSegmentationNode")
    segmentation = node.GetSegmentation()
    assert list(segmentation.GetSegmentIDs()) == ["ich-demo_1", "ich-demo_7"]
    for item, identifier in zip(CLASSES, segmentation.GetSegmentIDs(), strict=True):
        assert segmentation.GetSegment(identifier).GetName() == item.name
        expected = as_read(labels() == item.value, OBLIQUE, read.grid)
        assert np.array_equal(mask_of(node, identifier, image), expected)
    assert segmentation.GetSegment("ich-demo_1").GetTerminology() == BLEED
    assert table_from_node(only(scene, "vtkMRMLTableNode")) == tables()["segments"]


def test_scene_shows_the_finding_when_it_opens(folder: Path, tmp_path: Path) -> None:
    scene = HeadlessScene(tmp_path).scene
    assert scene.ReadFromMRB(str(folder / "scene.mrb"))
    image = only(scene, "vtkMRMLScalarVolumeNode")
    point = np.array(focus_of(result(), OBLIQUE).point) * (-1, -1, 1)
    for name in ("Red", "Green", "Yellow"):
        node = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        composite = scene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
        assert composite.GetBackgroundVolumeID() == image.GetID()
        matrix = node.GetSliceToRAS()
        normal = np.array([matrix.GetElement(r, 2) for r in range(3)])
        origin = np.array([matrix.GetElement(r, 3) for r in range(3)])
        assert abs(normal @ (point - origin)) < 0.51 * max(OBLIQUE.spacing)
    layout = scene.GetSingletonNode("vtkMRMLLayoutNode", "vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView
    view = scene.GetSingletonNode("TableView1", "vtkMRMLTableViewNode")
    assert view.GetTableNodeID() == only(scene, "vtkMRMLTableNode").GetID()


def test_scores_open_as_a_plot(tmp_path: Path) -> None:
    target = tmp_path / "case"
    monitor = Monitor()
    write_result(scores(), target, volume=volume(), monitor=monitor, sinks={"scene": scene_sink.write_scene})
    assert monitor.warnings == []
    scene = HeadlessScene(tmp_path).scene
    assert scene.ReadFromMRB(str(target / "scene.mrb"))
    chart = only(scene, "vtkMRMLPlotChartNode")
    names = [chart.GetNthPlotSeriesNode(n).GetYColumnName() for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == ["any", "subdural"]
    assert chart.GetNthPlotSeriesNode(0).GetTableNode() is not None
    view = scene.GetSingletonNode("PlotView1", "vtkMRMLPlotViewNode")
    assert view.GetPlotChartNodeID() == chart.GetID()


# -- pictures ---------------------------------------------------------------------------------------------------


def test_preview_shows_every_segment_in_its_colour(folder: Path) -> None:
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "preview.png"))).astype(int)
    assert picture.shape[0] > 800
    assert picture.shape[1] > 1500
    for item in CLASSES:
        wanted = np.array(item.color) * 255
        # On the slices (left of the legend): outlines have the segment's own colour.
        near = np.abs(picture[44:, :1200] - wanted).max(axis=2) < 12
        assert near.sum() > 20, f"{item.name} is not on the slices"


def bright_corner(grid: Grid, side: str) -> Volume:
    """A dark volume with a bright box at the patient's ``side`` (two or three letters of RASLPI)."""
    k, j, i = np.indices(grid.shape)
    lps = grid.to_physical(np.stack([i, j, k], axis=-1)) - grid.to_physical((np.array(grid.size) - 1) / 2)
    inside = np.ones(grid.shape, bool)
    for one in side:
        axis, sign = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}[one]
        inside &= lps[..., axis] * sign > 8
    return Volume((inside * 1000).astype(np.int16), grid, "MR", "corner")


@pytest.mark.parametrize("code", ["LPS", "RAS", "LIA", "SAR"])
@pytest.mark.parametrize(("plane", "corner", "row", "column"), [
    ("Axial", "RA", "top", "left"), ("Coronal", "LS", "top", "right"), ("Sagittal", "AI", "bottom", "left"),
])  # fmt: skip
def test_view_keeps_radiological_convention(
    tmp_path: Path, code: str, plane: str, corner: str, row: str, column: str
) -> None:
    """Patient right on the left of the image: a picture the other way round shows the wrong side of the patient."""
    grid = Grid((40, 44, 36), (1.1, 1.0, 1.2), (-20, -22, -21), rotation((0.05, -0.04, 0.06))).reoriented(code)
    headless = HeadlessScene(tmp_path)
    node = node_from_volume(bright_corner(grid, corner), headless.scene)
    middle = grid.to_physical((np.array(grid.size) - 1) / 2) * (-1, -1, 1)
    view = SliceView(headless, "Red", 120)
    view.show(node, plane, middle)
    picture = view.picture()[20:-20, 20:-20, 0]
    bright = np.argwhere(picture > 200).mean(axis=0) - 40
    assert bright[0] < -5 if row == "top" else bright[0] > 5
    assert bright[1] < -5 if column == "left" else bright[1] > 5


def test_thick_slices_keep_their_proportions(tmp_path: Path) -> None:
    grid = Grid((64, 64, 8), (1.0, 1.0, 8.0), (-31.5, -31.5, -28), np.eye(3))
    array = np.zeros(grid.shape, np.int16)
    array[2:6, 16:48, 16:48] = 1000  # 32 mm in every direction
    headless = HeadlessScene(tmp_path)
    node = node_from_volume(Volume(array, grid), headless.scene)
    node.GetDisplayNode().SetInterpolate(False)
    view = SliceView(headless, "Red", 200)
    for plane in ("Axial", "Coronal", "Sagittal"):
        view.show(node, plane, (0.0, 0.0, 0.0))
        rows, columns = np.nonzero(view.picture()[34:-34, 34:-34, 0] > 200)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert height == pytest.approx(width, abs=4), plane


def test_overlay_lies_on_the_anatomy(tmp_path: Path) -> None:
    """Oblique, left-handed grid: the coloured pixels are those of the bright box that was segmented."""
    from medseg_mrml import apply_result

    grid = Grid((40, 36, 20), (1.0, 1.1, 2.0), (-20, 14, -21), rotation((0.3, -0.2, 0.4)) @ np.diag([1, -1, 1]))
    box = np.zeros(grid.shape, np.uint8)
    box[6:14, 8:20, 10:30] = 1
    headless = HeadlessScene(tmp_path)
    node = node_from_volume(Volume(box.astype(np.int16) * 1000, grid), headless.scene)
    node.GetDisplayNode().SetInterpolate(False)
    view = SliceView(headless, "Red", 200)
    middle = grid.to_physical([19, 13, 9]) * (-1, -1, 1)
    view.show(node, "Axial", middle)
    anatomy = view.picture()[24:-24, 24:-24].min(axis=2) > 200
    applied = apply_result(
        Result(grid, (Layer(box, (SegmentClass(1, "box", (1.0, 0.0, 0.0)),)),)), headless.scene, reference_node=node
    )
    applied.node.GetDisplayNode().SetOpacity2DFill(1.0)
    overlay = view.picture()[24:-24, 24:-24].astype(int)
    red = (overlay[..., 0] - overlay[..., 1]) > 50
    assert anatomy.sum() > 1000
    assert 2 * (anatomy & red).sum() / (anatomy.sum() + red.sum()) > 0.95


def test_letters_name_the_patients_sides() -> None:
    assert [letter(v) for v in np.eye(3)] == ["R", "A", "S"]
    assert [letter(-v) for v in np.eye(3)] == ["L", "P", "I"]


# -- where to look ----------------------------------------------------------------------------------------------


def test_focus_is_in_the_largest_lesion() -> None:
    array = np.zeros(OBLIQUE.shape, np.uint8)
    array[1, 1, 1] = 1
    array[4:6, 5:8, 6:10] = 1
    given = Result(OBLIQUE, (Layer(array, CLASSES),), plane="acquisition")
    i, j, k = np.rint(OBLIQUE.to_index(focus_of(given, OBLIQUE).point)).astype(int)
    assert array[k, j, i] == 1
    assert k in (4, 5)


def test_focus_of_scores_is_the_slice_of_the_maximum() -> None:
    focus = focus_of(scores(), OBLIQUE)
    assert OBLIQUE.to_index(focus.point)[2] == pytest.approx(4, abs=1e-6)
    levels = [round(float(OBLIQUE.to_index(p)[2])) for p in focus.levels]
    assert len(levels) == len(set(levels)) == 3
    assert 4 not in levels
    assert "any" in focus.finding


@pytest.mark.parametrize("given", [
    Result(OBLIQUE, (Layer(np.zeros(OBLIQUE.shape, np.uint8), CLASSES),)), Result(OBLIQUE), result(), overlapping(),
])  # fmt: skip
def test_there_is_always_somewhere_to_look(given: Result) -> None:
    focus = focus_of(given, OBLIQUE)
    for point in (focus.point, *focus.levels):
        index = OBLIQUE.to_index(point)
        assert np.all(index > -0.51)
        assert np.all(index < np.array(OBLIQUE.size) - 0.49)


# -- windows ------------------------------------------------------------------------------------------------------


def test_window_of_the_model_comes_first() -> None:
    window = SimpleNamespace(level=40.0, width=80.0)
    model = SimpleNamespace(manifest=SimpleNamespace(display_windows=[SimpleNamespace(windows=[window])]))
    assert scene_sink.display_window(volume(), model) == (40.0, 80.0)
    tagged = Volume(volume().array, OBLIQUE, "CT", "x", {"WindowCenter": 50.0, "WindowWidth": 100.0})
    assert scene_sink.display_window(tagged, None) == (50.0, 100.0)
    assert scene_sink.display_window(volume(), None) == (40.0, 400.0)


def test_bright_fat_does_not_darken_the_organ() -> None:
    grid = Grid((40, 40, 20), (1, 1, 1), (0, 0, 0), np.eye(3))
    array = np.zeros(grid.shape, np.float32)
    array[:, 5:35, 5:35] = 300.0
    array[:, 5:7, 5:35] = 5000.0
    window = scene_sink.display_window(Volume(array, grid, "MR", "x"), None)
    assert window is not None
    assert window[0] + window[1] / 2 < 600


# -- failures -----------------------------------------------------------------------------------------------------


def test_sink_is_announced_or_the_package_is_not_installed() -> None:
    found = discover_sinks()
    if "scene" in found:
        assert found["scene"].load() is scene_sink.write_scene


def test_missing_library_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_sink.importlib.util, "find_spec", lambda name: None)
    monitor = Monitor()
    scene_sink.write_scene(result(), volume(), tmp_path, None, monitor)
    assert "pip install slicer-core" in monitor.warnings[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("behaviour", "reason"), [
    ("import os; os.abort()", "ended the process"),
    ("import sys; sys.exit('no EGL device')", "no EGL device"),
])  # fmt: skip
def test_crash_of_the_graphics_library_costs_a_picture_not_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, reason: str
) -> None:
    monkeypatch.setattr(scene_sink, "CHILD", ["-c", f"import sys; sys.stdin.buffer.read(); {behaviour}"])
    monitor = Monitor()
    target = tmp_path / "case"
    write_result(result(), target, volume=volume(), monitor=monitor, sinks={"scene": scene_sink.write_scene})
    assert (target / "segmentation.seg.nrrd").is_file()
    assert not (target / "scene.mrb").exists()
    assert len(monitor.warnings) == 1
    assert reason in monitor.warnings[0]


def test_sink_does_not_load_slicer_into_the_running_process() -> None:
    import subprocess

    code = "import sys, medseg_mrml.scene; sys.exit(any(m in sys.modules for m in ('slicer', 'vtk', 'vtkmodules')))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.real_data
def test_real_flair_with_real_masks(shared: Path, tmp_path: Path) -> None:
    """Oblique thick-slice FLAIR of a patient: all sinks, the maximum of the mask at the focus."""
    case = shared / "images" / "wmh" / "105074"
    image = sitk.ReadImage(str(case / "flair.nii.gz"))
    mask = (sitk.GetArrayFromImage(sitk.ReadImage(str(case / "abWMH.nii.gz"))) > 0).astype(np.uint8)
    grid = Grid.from_sitk(image)
    lesions = SegmentClass(1, "Abnormal WMH", (1.0, 0.3, 0.2), lesion=True)
    given = Result(grid, (Layer(mask, (lesions,)),), plane="axial")
    monitor = Monitor()
    flair = Volume(sitk.GetArrayFromImage(image), grid, "MR", "flair")
    write_result(given, tmp_path / "case", volume=flair, monitor=monitor, sinks={"scene": scene_sink.write_scene})
    assert monitor.warnings == []
    i, j, k = np.rint(grid.to_index(focus_of(given, grid).point)).astype(int)
    assert mask[k, j, i] == 1
    scene = HeadlessScene(tmp_path).scene
    assert scene.ReadFromMRB(str(tmp_path / "case" / "scene.mrb"))
    node, reference = only(scene, "vtkMRMLSegmentationNode"), only(scene, "vtkMRMLScalarVolumeNode")
    expected = as_read(mask > 0, grid, volume_from_node(reference).grid)
    assert np.array_equal(mask_of(node, node.GetSegmentation().GetNthSegmentID(0), reference), expected)
