"""Tables of a result as table nodes with typed columns, and per-slice scores as a plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import slicer
import vtk

from medseg.result import Cell, Column, SegmentClass, Table

from .arrays import unique_name
from .hierarchy import place_beside

NAME_ATTRIBUTE = "MedSeg.Table"
_KIND = "MedSeg.ColumnType"
_INT_LIMIT = 2**31 - 1
_LEGEND_FONT = 11

# Distinct without relying on red against green alone; used where the classes have no colours of their own.
_PALETTE = (
    (0.12, 0.47, 0.71), (0.89, 0.47, 0.05), (0.17, 0.63, 0.50), (0.80, 0.20, 0.22),
    (0.55, 0.36, 0.72), (0.45, 0.34, 0.29), (0.86, 0.44, 0.73), (0.45, 0.45, 0.45),
)  # fmt: skip


def table_to_node(
    table: Table, scene: Any, *, name: str | None = None, reference_node: Any = None, node: Any = None
) -> Any:
    """A table node with the columns of ``table``: string, int, double or bit arrays, with unit and description.

    ``node``: an earlier table node that is filled anew, so that views that show it follow. A missing value (None) is an
    empty text or NaN; a column of whole numbers with missing values is stored as double.
    """
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", unique_name(scene, name or table.name))
    modified = node.StartModify()
    try:
        node.RemoveAllColumns()
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetAttribute(NAME_ATTRIBUTE, table.name)
        for n, column in enumerate(table.columns):
            node.AddColumn(_column_array(column, [row[n] for row in table.rows]))
            node.SetColumnTitle(column.name, heading(column))
            if column.unit:
                node.SetColumnUnitLabel(column.name, column.unit)
            if column.description:
                node.SetColumnDescription(column.name, column.description)
            node.SetColumnProperty(column.name, _KIND, column.type)
    finally:
        node.EndModify(modified)
    if reference_node is not None:
        place_beside(scene, node, reference_node)
    return node


def heading(column: Column) -> str:
    """What a table view calls the column; the view adds the unit itself, which is in the name of the CSV column."""
    return column.name.removesuffix(f"_{column.unit}") if column.unit else column.name


def table_from_node(node: Any) -> Table:
    """The table that `table_to_node` stored, for export and comparison."""
    data = node.GetTable()
    columns, cells = [], []
    for n in range(node.GetNumberOfColumns()):
        array = data.GetColumn(n)
        title = array.GetName()
        kind: Any = node.GetColumnProperty(title, _KIND) or _kind_of(array)
        unit, text = node.GetColumnUnitLabel(title), node.GetColumnDescription(title)
        columns.append(Column(title, kind, unit or "", text or ""))
        cells.append([_cell(array, row, kind) for row in range(array.GetNumberOfValues())])
    name = node.GetAttribute(NAME_ATTRIBUTE) or node.GetName()
    return Table(name, tuple(columns), tuple(zip(*cells, strict=True)))


def color_series(names: Sequence[str], classes: Sequence[SegmentClass] = ()) -> dict[str, tuple[float, float, float]]:
    """A colour for each name: that of the class of this name, else the next of a palette that stays distinct."""
    own = {c.name: c.color for c in classes}
    return {name: own.get(name, _PALETTE[n % len(_PALETTE)]) for n, name in enumerate(names)}


def plot_table(
    node: Any,
    scene: Any,
    *,
    x: str,
    columns: Sequence[str],
    colors: Mapping[str, tuple[float, float, float]] | None = None,
    name: str | None = None,
    x_title: str | None = None,
    y_title: str = "Score",
    reference_node: Any = None,
) -> Any:
    """A plot chart node of ``columns`` of the table node ``node`` against its column ``x``, one series a column.

    Scores are drawn from 0 to 1. The chart refers to its series nodes, which refer to the table: change the table and
    the plot follows.
    """
    colors = colors or color_series(columns)
    title = name or f"{node.GetName()} plot"
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", unique_name(scene, title))
    unit = node.GetColumnUnitLabel(x)
    chart.SetTitle(title)
    chart.SetXAxisTitle(x_title or (f"{x} ({unit})" if unit else x))
    chart.SetYAxisTitle(y_title)
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(0.0, 1.0)
    # The default of 20 covers a third of a usual plot view.
    chart.SetLegendFontSize(_LEGEND_FONT)
    for column in columns:
        series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", unique_name(scene, column))
        series.SetAndObserveTableNodeID(node.GetID())
        series.SetXColumnName(x)
        series.SetYColumnName(column)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
        series.SetLineWidth(2)
        series.SetColor(*colors[column])
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
        if reference_node is not None:
            place_beside(scene, series, reference_node)
    if reference_node is not None:
        place_beside(scene, chart, reference_node)
    return chart


def _column_array(column: Column, cells: Sequence[Cell]) -> Any:
    array: Any
    if column.type == "str":
        array = vtk.vtkStringArray()
    elif column.type == "bool" and None not in cells:
        array = vtk.vtkBitArray()
    elif column.type == "int" and all(v is not None and abs(int(v)) <= _INT_LIMIT for v in cells):
        array = vtk.vtkIntArray()
    else:
        array = vtk.vtkDoubleArray()
    array.SetName(column.name)
    array.SetNumberOfValues(len(cells))
    for row, value in enumerate(cells):
        if column.type == "str":
            array.SetValue(row, "" if value is None else str(value))
        elif isinstance(array, vtk.vtkDoubleArray):
            array.SetValue(row, math.nan if value is None else float(value))
        else:
            array.SetValue(row, int(value or 0))
    return array


def _kind_of(array: Any) -> str:
    if isinstance(array, vtk.vtkStringArray):
        return "str"
    if isinstance(array, vtk.vtkBitArray):
        return "bool"
    return "int" if array.GetDataType() in (vtk.VTK_INT, vtk.VTK_LONG_LONG, vtk.VTK_LONG) else "float"


def _cell(array: Any, row: int, kind: str) -> Cell:
    value = array.GetValue(row)
    if kind == "str":
        return str(value)
    if isinstance(value, float) and math.isnan(value):
        return None
    return bool(value) if kind == "bool" else int(value) if kind == "int" else float(value)
