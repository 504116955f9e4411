"""``preview.png``: three planes through the finding, three levels, and a legend with volumes or scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from medseg.geometry.volume import Volume
from medseg.result import Result

from .focus import Focus, score_columns
from .headless import HeadlessScene
from .tables import color_series
from .views import Picture, SliceView, grab, offscreen, text

_ORIENTATION = {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal"}
_GAP, _LEGEND, _TITLE, _ROW = 4, 340, 44, 26
_GREY = (0.75, 0.75, 0.75)
_TO_RAS = np.array([-1.0, -1.0, 1.0])


def render_preview(
    headless: HeadlessScene, view: SliceView, volume_node: Any, result: Result, focus: Focus, title: str, volume: Volume
) -> Picture:
    """The picture (height, width, 3) of ``result`` over ``volume_node``; ``view`` is left on another slice."""
    point, grid = np.array(focus.point) * _TO_RAS, volume.grid
    thin = [n for n in range(3) if grid.size[n] == 1]
    if thin:
        plane = ("Sagittal", "Coronal", "Axial")[grid.anatomical_axes[thin[0]][0]]
        view.show(volume_node, plane, point)
        overlay = view.picture("result", position=False)
        _show_segments(headless, False)
        body = np.hstack([view.picture("image", position=False), _gap(overlay.shape[0]), overlay])
        _show_segments(headless, True)
    else:
        rows = []
        first = ["axial", "sagittal", "coronal"]
        rows.append([(_ORIENTATION[p], p, point) for p in first])
        rows.append([
            (f"{_ORIENTATION[focus.plane]} {n + 1} of {len(focus.levels)}", focus.plane, np.array(level) * _TO_RAS)
            for n, level in enumerate(focus.levels)
        ])  # fmt: skip
        lines = []
        for row in rows:
            pictures: list[Picture] = []
            for caption, plane, at in row:
                view.show(volume_node, _ORIENTATION[plane], at)
                pictures += [view.picture(caption), _gap(view.size)]
            pictures += [np.zeros((view.size, view.size, 3), np.uint8), _gap(view.size)] * (len(first) - len(row))
            lines += [np.hstack(pictures[:-1])]
        body = np.vstack([lines[0], _bar(lines[0].shape[1]), lines[1]])
    legend = _legend(result, volume, body.shape[0])
    page = np.hstack([body, legend])
    return np.vstack([_title(f"{title}: {focus.finding}", page.shape[1]), page])


def _show_segments(headless: HeadlessScene, visible: bool) -> None:
    nodes = headless.scene.GetNodesByClass("vtkMRMLSegmentationDisplayNode")
    for n in range(nodes.GetNumberOfItems()):
        nodes.GetItemAsObject(n).SetVisibility(visible)


def _gap(height: int) -> Picture:
    return np.full((height, _GAP, 3), 60, np.uint8)


def _bar(width: int) -> Picture:
    return np.full((_GAP, width, 3), 60, np.uint8)


def _title(words: str, width: int) -> Picture:
    window, renderer = offscreen(width, _TITLE)
    renderer.AddViewProp(text(words, (12, _TITLE // 2), 20, "left", "centre", shadow=False))
    note = "Research use only"
    renderer.AddViewProp(text(note, (width - 12, _TITLE // 2), 15, "right", "centre", _GREY, shadow=False))
    return grab(window)


def legend_rows(result: Result, volume: Volume, limit: int) -> list[tuple[str, str, tuple[float, float, float] | None]]:
    """Name, volume or score, and colour of each class; the largest ``limit`` of them where there are more."""
    rows: list[tuple[float, str, str, tuple[float, float, float] | None]] = []
    for layer in result.layers:
        # Slice after slice: counted at once, the labels would be held again as 64-bit numbers.
        most = max(c.value for c in layer.classes) + 1
        counts = np.zeros(max(most, int(layer.labels.max(initial=0)) + 1), np.int64)
        for plane in layer.labels:
            counts += np.bincount(plane.ravel(), minlength=counts.size)
        for c in layer.classes:
            rows.append((float(counts[c.value]), c.name, _amount(int(counts[c.value]), volume), c.color))
    table = result.tables.get("slices")
    columns = score_columns(table)
    summary = result.tables.get("scores")
    if not rows and table is None and summary is not None:
        names = [str(v) for v in summary.column("class")]
        colors = color_series(names)
        rows = [
            (float(score or 0.0), name, f"{float(score or 0.0):.3f}", colors[name])
            for name, score in zip(names, summary.column("maximum"), strict=True)
        ]
    if not rows and table is not None:
        colors = color_series(columns)
        for name in columns:
            scores = [float(v or 0.0) for v in table.column(name)]
            best = int(np.argmax(scores))
            where = f" (slice {best + 1})" if len(scores) > 1 else ""
            rows.append((scores[best], name, f"{scores[best]:.3f}{where}", colors[name]))
    if len(rows) > limit:
        kept = sorted(rows, key=lambda row: -row[0])[: limit - 1]
        left = len(rows) - len(kept)
        return [(n, v, c) for _, n, v, c in kept] + [(f"and {left} more in the tables", "", None)]
    return [(n, v, c) for _, n, v, c in rows]


def _amount(voxels: int, volume: Volume) -> str:
    """Volume in ml; of a single slice the area in cm2, or pixels where the spacing is not known."""
    grid = volume.grid
    thin = [n for n in range(3) if grid.size[n] == 1]
    if thin and not volume.pixel_spacing_known:
        return f"{voxels} pixels"
    if thin:
        return f"{voxels * grid.voxel_volume / grid.spacing[thin[0]] / 100:.4g} cm²"
    return f"{voxels * grid.voxel_volume / 1000:.4g} ml"


def _legend(result: Result, volume: Volume, height: int) -> Picture:
    window, renderer = offscreen(_LEGEND, height)
    renderer.SetBackground(0.12, 0.12, 0.12)
    table = result.tables.get("slices")
    columns = score_columns(table) if not result.layers else []
    chart_height = 320 if table is not None and columns and len(table.rows) > 1 else 0
    limit = max(1, (height - chart_height - 40) // _ROW)
    y = height - 30
    for name, value, color in legend_rows(result, volume, limit):
        if color is not None:
            renderer.AddViewProp(_swatch(14, y, color))
        room = 26 if value else 34
        shown = name if len(name) <= room else name[: room - 1] + "…"
        renderer.AddViewProp(text(shown, (40, y), 15, "left", "centre", shadow=False))
        renderer.AddViewProp(text(value, (_LEGEND - 12, y), 15, "right", "centre", shadow=False))
        y -= _ROW
    lesions = result.tables.get("lesions")
    if lesions is not None:
        count = f"{len(lesions.rows)} lesion{'' if len(lesions.rows) == 1 else 's'}"
        renderer.AddViewProp(text(count, (40, y), 15, "left", "centre", _GREY, shadow=False))
        y -= _ROW
    areas = result.tables.get("areas")
    for ratio in areas.column("left_right_ratio") if areas is not None else ():
        if ratio is not None:
            words = f"left / right area {float(ratio):.2f}"
            renderer.AddViewProp(text(words, (40, y), 15, "left", "centre", _GREY, shadow=False))
            y -= _ROW
    picture = grab(window)
    if chart_height and table is not None:
        scores = {name: [float(v or 0.0) for v in table.column(name)] for name in columns}
        picture[-chart_height:] = _chart(scores, chart_height)
    return picture


def _swatch(x: int, y: int, color: tuple[float, float, float]) -> Any:
    points = vtk.vtkPoints()
    for px, py in ((0, -8), (16, -8), (16, 8), (0, 8)):
        points.InsertNextPoint(x + px, y + py, 0)
    cells = vtk.vtkCellArray()
    cells.InsertNextCell(4, [0, 1, 2, 3])
    data = vtk.vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(cells)
    mapper = vtk.vtkPolyDataMapper2D()
    mapper.SetInputData(data)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(*color)
    return actor


def _chart(scores: dict[str, list[float]], height: int) -> Picture:
    """Scores against the slice number, one line a class."""
    window, renderer = offscreen(_LEGEND, height)
    renderer.SetBackground(0.12, 0.12, 0.12)
    chart = vtk.vtkChartXY()
    chart.SetAutoSize(True)
    table = vtk.vtkTable()
    count = len(next(iter(scores.values())))
    for name, values in {"slice": [float(n + 1) for n in range(count)], **scores}.items():
        array = vtk.vtkFloatArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue(value)
        table.AddColumn(array)
    for n, color in enumerate(color_series(list(scores)).values()):
        line = chart.AddPlot(vtk.vtkChart.LINE)
        line.SetInputData(table, 0, n + 1)
        line.SetColorF(*color)
        line.SetWidth(2.0)
    for which, title in ((vtk.vtkAxis.BOTTOM, "slice"), (vtk.vtkAxis.LEFT, "score")):
        axis = chart.GetAxis(which)
        axis.SetTitle(title)
        axis.GetTitleProperties().SetColor(1, 1, 1)
        axis.GetLabelProperties().SetColor(1, 1, 1)
        axis.GetPen().SetColorF(0.6, 0.6, 0.6)
        axis.GetGridPen().SetColorF(0.3, 0.3, 0.3)
    left = chart.GetAxis(vtk.vtkAxis.LEFT)
    left.SetRange(0, 1)
    left.SetBehavior(vtk.vtkAxis.FIXED)
    scene = vtk.vtkContextScene()
    scene.AddItem(chart)
    actor = vtk.vtkContextActor()
    actor.SetScene(scene)
    scene.SetRenderer(renderer)
    renderer.AddViewProp(actor)
    return grab(window)
