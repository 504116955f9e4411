"""Where the result goes, its tables and plot, and the way from a row to the place in the volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.result import Table
from medseg_mrml import reading_node, table_from_node
from medseg_mrml.segmentation import CLASS_TAG
from medseg_mrml.tables import NAME_ATTRIBUTE

from ..collaborators import Collaborators
from . import export, outcome, views
from .dicom_export import DicomExport
from .menus import add_action
from .outcome import Outcome

# Shown first where it has rows: what a reader goes through one by one.
_ORDER = ("lesions", "slices", "scores", "segments")
_SEGMENTATION_FILES = "Segmentation (*.seg.nrrd);;NIfTI labelmap (*.nii.gz)"


class ResultsSection:
    """Shows the last result, which `outcome.remember` keeps in the parameter node; ``log`` gets sentences.

    ``on_undone()`` is called after the user took the result back.
    """

    def __init__(
        self, ui: Any, scene: Any, others: Collaborators, log: Callable[[str], None], on_undone: Callable[[], None]
    ) -> None:
        self._ui, self._scene, self._dialogs, self._log = ui, scene, others.dialogs, log
        self._on_undone = on_undone
        self._parameters: Any = None
        self._undo: Outcome | None = None
        self._filling = False
        self._shown: Any = None  # the node that the view shows; nobody else holds it
        self._plot_views: list[Any] = []
        self._menu = qt.QMenu(ui.exportButton)
        add_action(self._menu, _("Segmentation (seg.nrrd or NIfTI)..."), self._export_segmentation)
        add_action(self._menu, _("This table (CSV)..."), self._export_table)
        add_action(self._menu, _("Everything into a folder..."), self._export_all)
        self.dicom = DicomExport(self._menu, others, log, self._for_dicom)
        ui.exportButton.setMenu(self._menu)
        ui.tableSelector.connect("currentIndexChanged(int)", self._table_chosen)
        ui.tableView.connect("clicked(QModelIndex)", self._row_clicked)
        ui.tableView.connect("selectionChanged()", self._selection_changed)
        ui.showPlotButton.connect("clicked(bool)", self._show_plot)
        ui.undoButton.connect("clicked(bool)", self.undo)

    def set_parameters(self, parameters: Any) -> None:
        """Show the result that ``parameters`` refers to."""
        self._parameters = parameters
        self.refresh()

    def show(self, new: Outcome) -> None:
        """A run ended: its nodes are shown, and can be undone."""
        self._undo = new
        outcome.remember(self._parameters, new)
        self._ui.resultLabel.text = ""
        self.refresh()

    def scene_closed(self) -> None:
        """All nodes are gone."""
        self._undo = None
        self.refresh()

    def cleanup(self) -> None:
        """The module's widget goes away."""
        self._parameters = None
        self.dicom.close()
        for view in self._plot_views:
            view.disconnect("dataSelected(vtkStringArray*,vtkCollection*)", self._points_selected)
        self._plot_views = []

    def refresh(self) -> None:
        """Show which of the result's nodes are still there."""
        tables = self._tables()
        shown = self._table()
        self._filling = True
        self._ui.tableSelector.clear()
        for table in tables:
            self._ui.tableSelector.addItem(_kind(table), table.GetID())
        self._filling = False
        position = tables.index(shown) if shown in tables else _first(tables)
        self._ui.tableSelector.currentIndex = position
        self._table_chosen(position)
        segmentation = self._segmentation()
        self._ui.tableSelector.enabled = bool(tables)
        self._ui.exportButton.enabled = bool(tables) or segmentation is not None
        self._ui.show3DButton.setSegmentationNode(segmentation)
        self._ui.show3DButton.enabled = segmentation is not None
        self._ui.showPlotButton.enabled = self._reference(outcome.CHART_ROLE) is not None
        self._ui.undoButton.enabled = self._undo is not None
        if not tables and segmentation is None:
            self._ui.resultLabel.text = _("No result yet.")

    def nodes(self) -> list[Any]:
        """Tables and plot of the last result."""
        return [*self._tables(), *(n for n in [self._reference(outcome.CHART_ROLE)] if n is not None)]

    def undo(self) -> None:
        """Bring the scene back to how it was before the last run."""
        undone, self._undo = self._undo, None
        if undone is None:
            return
        undone.undo(self._scene)
        outcome.forget(self._parameters)
        if undone.refilled:
            outcome.remember(self._parameters, undone.before())
        self._log(_("The last result was taken back."))
        self.refresh()
        self._on_undone()

    # -- nodes ------------------------------------------------------------------------------------------------

    def _reference(self, role: str) -> Any:
        return self._parameters.parameterNode.GetNodeReference(role) if self._parameters is not None else None

    def _tables(self) -> list[Any]:
        return outcome.tables(self._parameters) if self._parameters is not None else []

    def _segmentation(self) -> Any:
        return self._reference(outcome.SEGMENTATION_ROLE)

    def _table(self) -> Any:
        node_id = self._ui.tableSelector.itemData(self._ui.tableSelector.currentIndex)
        return self._scene.GetNodeByID(node_id) if node_id else None

    def _table_chosen(self, index: int) -> None:
        if self._filling:
            return
        table = self._table() if index >= 0 else None
        lesions = any(_kind(t) == "lesions" for t in self._tables())
        self._shown = reading_node(table_from_node(table), lesions=lesions) if table is not None else None
        self._ui.tableView.setMRMLTableNode(self._shown)
        if table is None:
            return
        self._ui.tableView.resizeColumnsToContents()
        empty = table.GetNumberOfRows() == 0
        words = _("There is nothing in this table.") if empty else _("A click on a row moves the slice views there.")
        self._ui.resultLabel.text = f"{words} {_('For research use only.')}"

    # -- going to places --------------------------------------------------------------------------------------

    def _selection_changed(self) -> None:
        # The current index is set after this signal, which also comes while the application takes its widgets down.
        if self._table() is not None:
            qt.QTimer.singleShot(0, self._go_to_current)

    def _go_to_current(self) -> None:
        if self._parameters is not None:
            self._row_clicked(self._ui.tableView.currentIndex())

    def _row_clicked(self, index: Any) -> None:
        table = self._table()
        if table is None or not index.isValid():
            return
        row = self._ui.tableView.sortFilterProxyModel().mapToSource(index).row()
        self.go_to(table_from_node(table), row)

    def go_to(self, table: Table, row: int) -> bool:
        """Move all slice views to what row ``row`` of ``table`` is about; False where it has no place."""
        if not 0 <= row < len(table.rows):
            return False
        cells = dict(zip((c.name for c in table.columns), table.rows[row], strict=True))
        volume = self._reference(outcome.VOLUME_ROLE)
        position = [cells.get(name) for name in ("centre_r_mm", "centre_a_mm", "centre_s_mm")]
        if all(isinstance(p, (int, float)) for p in position):
            views.jump(self._scene, [float(p) for p in position if p is not None], volume)
            return True
        if "slice" in cells and table.name != "slices":
            return self._go_to_slice(cells["slice"])
        if "segment" in cells:
            return self._go_to_segment(str(cells["segment"]))
        return False

    def _go_to_slice(self, number: Any) -> bool:
        slices = next((t for t in map(table_from_node, self._tables()) if t.name == "slices"), None)
        if slices is None or number not in slices.column("slice"):
            return False
        return self.go_to(slices, slices.column("slice").index(number))

    def _go_to_segment(self, name: str) -> bool:
        node = self._segmentation()
        if node is None:
            return False
        for identifier in node.GetSegmentation().GetSegmentIDs():
            tag = vtk.reference("")
            segment = node.GetSegmentation().GetSegment(identifier)
            if segment.GetTag(CLASS_TAG, tag) and str(tag) == name:
                center = node.GetSegmentCenterRAS(identifier)
                if center is not None:
                    views.jump(self._scene, center)
                    return True
        return False

    # -- plot -------------------------------------------------------------------------------------------------

    def _show_plot(self) -> None:
        chart = self._reference(outcome.CHART_ROLE)
        if chart is None:
            return
        views.show_chart(chart)
        manager = slicer.app.layoutManager()
        for n in range(manager.plotViewCount):
            view = manager.plotWidget(n).plotView()
            if view not in self._plot_views:
                view.connect("dataSelected(vtkStringArray*,vtkCollection*)", self._points_selected)
                self._plot_views.append(view)

    def _points_selected(self, series_ids: Any, selections: Any) -> None:
        if series_ids is None or series_ids.GetNumberOfValues() == 0:
            return
        series = self._scene.GetNodeByID(series_ids.GetValue(0))
        table = series.GetTableNode() if series is not None else None
        rows = selections.GetItemAsObject(0)
        if table is not None and table in self._tables() and rows.GetNumberOfValues() > 0:
            self.go_to(table_from_node(table), int(rows.GetValue(0)))

    # -- export -----------------------------------------------------------------------------------------------

    def _export_segmentation(self) -> None:
        node = self._segmentation()
        if node is None:
            self._dialogs.error(_("There is no segmentation; this model gives scores. Export its table instead."))
            return
        path = self._dialogs.save_file(_("Export the segmentation"), f"{node.GetName()}.seg.nrrd", _SEGMENTATION_FILES)
        if path:
            self._write(lambda: export.write_segmentation(node, path))

    def _export_table(self) -> None:
        table = self._table()
        if table is None:
            return
        path = self._dialogs.save_file(_("Export the table"), f"{table.GetName()}.csv", "CSV (*.csv)")
        if path:
            self._write(lambda: export.write_one_table(table, path))

    def _export_all(self) -> None:
        folder = self._dialogs.folder(_("Export into a folder"))
        if folder:
            self._write(lambda: export.write_all(self._segmentation(), self._tables(), folder))

    def _for_dicom(self) -> tuple[Any, Any, list[Any]]:
        return self._reference(outcome.VOLUME_ROLE), self._segmentation(), self._tables()

    def _write(self, write: Callable[[], Sequence[str]]) -> None:
        try:
            files = write()
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self._log(_("Written: {files}").format(files=", ".join(files)))


def _kind(table: Any) -> str:
    return str(table.GetAttribute(NAME_ATTRIBUTE) or table.GetName())


def _first(tables: list[Any]) -> int:
    """The position of the table that is shown first."""
    kinds = [_kind(t) for t in tables]
    full = [k for k, t in zip(kinds, tables, strict=True) if t.GetNumberOfRows() > 0]
    for kind in _ORDER:
        if kind in full:
            return kinds.index(kind)
    return 0 if tables else -1
