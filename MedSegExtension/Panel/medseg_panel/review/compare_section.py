"""Two masks, or one patient at two dates, held against each other: what differs as segments, a table, a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg_mrml import reading_node, table_from_node

from ..seams import Dialogs
from ..segment import views
from .folder_evaluation import FolderEvaluation
from .layout import button, row, selector

_SEGMENTATION, _VOLUME = ["vtkMRMLSegmentationNode"], ["vtkMRMLScalarVolumeNode"]
_POSITION = ("centre_r_mm", "centre_a_mm", "centre_s_mm")


class CompareSection:
    """``section`` is put into the tab, folded. ``say`` tells the reader. The nodes made go with *Remove*."""

    def __init__(self, scene: Any, dialogs: Dialogs, say: Callable[[str], None]) -> None:
        self._scene, self._dialogs, self._say = scene, dialogs, say
        self._nodes: Any = None
        self._preview: Any = None
        self._shown: Any = None
        self._volume: Any = None
        #: The masks that are compared, hidden while the comparison is seen.
        self._hidden: list[Any] = []
        self.section = ctk.ctkCollapsibleButton()
        self.section.text = _("Compare")
        self.section.setObjectName("compareSection")
        layout = qt.QVBoxLayout(self.section)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.setSpacing(4)
        self.mode = qt.QComboBox()
        self.mode.addItem(_("Two masks of one image"))
        self.mode.addItem(_("One patient at two dates"))
        self.mode.addItem(_("Many cases, in two folders"))
        self.mode.toolTip = _("What is held against what.")
        self.mode.connect("currentIndexChanged(int)", self._mode_chosen)
        layout.addWidget(self.mode)
        layout.addWidget(self._of_masks())
        layout.addWidget(self._of_dates())
        self.folders = FolderEvaluation(dialogs, say, self._show_evaluation)
        layout.addWidget(self.folders.widget)
        layout.addWidget(self._result())
        self.section.collapsed = True
        self._mode_chosen(0)

    def _of_masks(self) -> Any:
        self._masks = qt.QWidget()
        form = qt.QFormLayout(self._masks)
        form.setContentsMargins(0, 0, 0, 0)
        self.image = selector(self._scene, _VOLUME, _("The image that both masks belong to."), _("Choose an image"))
        self.one = selector(self._scene, _SEGMENTATION, _("For example the model's mask."), _("Choose a mask"))
        self.other = selector(self._scene, _SEGMENTATION, _("For example a reader's mask."), _("Choose a mask"))
        form.addRow(_("Image:"), self.image)
        form.addRow(_("Mask A:"), self.one)
        form.addRow(_("Mask B:"), self.other)
        form.addRow(button(_("Compare"), _("Show what agrees, what is only in A, what is only in B."), self.compare))
        return self._masks

    def _of_dates(self) -> Any:
        self._dates = qt.QWidget()
        form = qt.QFormLayout(self._dates)
        form.setContentsMargins(0, 0, 0, 0)
        first = _("The earlier image; it stays where it is.")
        later = _("The later image; it is moved onto the earlier one.")
        self.first_image = selector(self._scene, _VOLUME, first, _("Choose an image"))
        self.first_mask = selector(self._scene, _SEGMENTATION, _("Lesions at the earlier date."), _("Choose a mask"))
        self.later_image = selector(self._scene, _VOLUME, later, _("Choose an image"))
        self.later_mask = selector(self._scene, _SEGMENTATION, _("Lesions at the later date."), _("Choose a mask"))
        form.addRow(_("Earlier:"), self.first_image)
        form.addRow(_("Its mask:"), self.first_mask)
        form.addRow(_("Later:"), self.later_image)
        form.addRow(_("Its mask:"), self.later_mask)
        align = button(_("1. Align"), _("Move the later image onto the earlier one; look whether it fits."), self.align)
        tip = _("The images fit: list new, gone, grown, shrunk and stable lesions.")
        self.accept = button(_("2. It fits: compare"), tip, self.follow_up)
        self.accept.enabled = False
        form.addRow(row(align, self.accept))
        return self._dates

    def _result(self) -> Any:
        self._found = qt.QWidget()
        layout = qt.QVBoxLayout(self._found)
        layout.setContentsMargins(0, 0, 0, 0)
        self.which = qt.QComboBox()
        self.which.toolTip = _("The table that is shown.")
        self.which.connect("currentIndexChanged(int)", self._table_chosen)
        self.table = slicer.qMRMLTableView()
        self.table.setMinimumHeight(150)
        self.table.connect("clicked(QModelIndex)", self._row_clicked)
        self.plots = qt.QComboBox()
        self.plots.toolTip = _("What Plot shows.")
        plot = button(_("Plot"), _("Show this plot in the views."), self._plot)
        remove = button(_("Remove"), _("Take the comparison's nodes out of the scene."), self.remove)
        layout.addWidget(self.which)
        layout.addWidget(self.table)
        layout.addLayout(row(self.plots, plot, remove, stretch=0))
        return self._found

    def _mode_chosen(self, index: int) -> None:
        self._masks.visible = index == 0
        self._dates.visible = index == 1
        self.folders.widget.visible = index == 2
        self._found.visible = self._nodes is not None

    def offer(self, volume: Any, one: Any, other: Any) -> None:
        """Propose what is compared: the open case's image and masks; None leaves what is chosen."""
        for box, node in ((self.image, volume), (self.one, one), (self.other, other)):
            if node is not None and node.GetScene() is not None:
                box.setCurrentNode(node)

    # -- two masks ----------------------------------------------------------------------------------------------

    def compare(self) -> None:
        """Compare the two masks on the grid of the image."""
        volume, one, other = (box.currentNode() for box in (self.image, self.one, self.other))
        if volume is None or one is None or other is None or one is other:
            self._say(_("Choose an image and two different masks."))
            return
        from medseg_mrml.comparison import compare_nodes, show_comparison

        def work() -> Any:
            names = (one.GetName(), other.GetName())
            return show_comparison(compare_nodes(one, other, volume), self._scene, volume, names=names)

        self._make(work, volume, (one, other))

    # -- two dates ----------------------------------------------------------------------------------------------

    def align(self) -> None:
        """Align the later image, and show it over the earlier one."""
        first, later = self.first_image.currentNode(), self.later_image.currentNode()
        if first is None or later is None or first is later:
            self._say(_("Choose two different images."))
            return
        from medseg.compare.align import align
        from medseg_mrml import volume_from_node
        from medseg_mrml.followup import show_alignment

        self._forget_preview()

        def work() -> Any:
            return show_alignment(align(volume_from_node(first), volume_from_node(later)), self._scene, first, later)

        self._preview = self._waiting(work)
        self.accept.enabled = self._preview is not None
        if self._preview is not None:
            slicer.util.setSliceViewerLayers(background=first, foreground=later, foregroundOpacity=0.5)
            self._say(_("The later image lies over the earlier one. Where they fit, go on with step 2."))

    def follow_up(self) -> None:
        """List what became of the lesions."""
        first, later = self.first_mask.currentNode(), self.later_mask.currentNode()
        baseline, volume = self.first_image.currentNode(), self.later_image.currentNode()
        if self._preview is None or first is None or later is None:
            self._say(_("Align the images and choose both masks."))
            return
        from medseg.compare.followup import follow_up
        from medseg_mrml.comparison import lesion_mask, segmentation_of
        from medseg_mrml.followup import show_follow_up

        def work() -> Any:
            before, after = segmentation_of(first, baseline), segmentation_of(later, volume)
            alignment = self._preview.alignment()
            found = follow_up(_("lesions"), lesion_mask(before), before.grid, lesion_mask(after), after.grid, alignment)
            return show_follow_up(found, self._scene, baseline, (baseline.GetName(), volume.GetName()))

        self._make(work, baseline, (first, later))

    def _forget_preview(self) -> None:
        if self._preview is not None:
            self._preview.take_back()
        self._preview = None
        self.accept.enabled = False

    # -- many cases -----------------------------------------------------------------------------------------------

    def _show_evaluation(self, name: str, evaluation: Any, warnings: list[str]) -> None:
        from medseg_mrml.box_plots import show_evaluation

        self._make(lambda: show_evaluation({name: evaluation}, self._scene, None), None, ())
        if self._nodes is not None:
            self._plot()
            words = _("Compared: {name}. Each dot is a case.").format(name=self._nodes.name)
            self._say(" ".join([words, *warnings]))

    # -- result -------------------------------------------------------------------------------------------------

    def _waiting(self, work: Callable[[], Any]) -> Any:
        """What ``work`` gives, None where it failed, which is told."""
        slicer.app.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            return work()
        except MedSegError as error:
            self._dialogs.error(str(error))
            return None
        finally:
            slicer.app.restoreOverrideCursor()

    def _make(self, work: Callable[[], Any], volume: Any, compared: Sequence[Any]) -> None:
        nodes = self._waiting(work)
        if nodes is None:
            return
        self._clear()
        self._hide(compared)
        self._nodes, self._volume = nodes, volume
        self.which.clear()
        for key in nodes.tables:
            if not key.startswith("plot of") and not nodes.tables[key].GetHideFromEditors():
                self.which.addItem(_(key), key)
        self.plots.clear()
        for key in nodes.charts:
            self.plots.addItem(_(key), key)
        self._found.visible = True
        self._table_chosen(0)
        self._say(_("Compared: {name}. A click on a row goes there.").format(name=nodes.name))

    def _table_chosen(self, index: int) -> None:
        node = self._node()
        self._shown = reading_node(table_from_node(node)) if node is not None else None
        self.table.setMRMLTableNode(self._shown)
        if node is not None:
            self.table.resizeColumnsToContents()

    def _node(self) -> Any:
        key = self.which.itemData(self.which.currentIndex)
        node = self._nodes.tables.get(key) if self._nodes is not None and key else None
        return node if node is not None and node.GetScene() is not None else None

    def _row_clicked(self, index: Any) -> None:
        node = self._node()
        if node is None or not index.isValid() or self._volume is None or self._volume.GetScene() is None:
            return
        table = table_from_node(node)
        number = self.table.sortFilterProxyModel().mapToSource(index).row()
        if {*_POSITION} <= {c.name for c in table.columns} and 0 <= number < len(table.rows):
            place = [table.column(name)[number] for name in _POSITION]
            if all(isinstance(p, int | float) for p in place):
                views.jump(self._scene, [float(p) for p in place if isinstance(p, int | float)], self._volume)

    def _plot(self) -> None:
        key = self.plots.itemData(self.plots.currentIndex)
        chart = self._nodes.charts.get(key) if self._nodes is not None and key else None
        if chart is not None and chart.GetScene() is not None:
            views.show_chart(chart)

    def remove(self) -> None:
        """Take the comparison out of the scene; a moved image goes back."""
        self._forget_preview()
        self._clear()

    def _hide(self, masks: Sequence[Any]) -> None:
        """Three colours over those of two masks could not be told apart."""
        shown = [m for m in masks if m.GetDisplayNode() is not None and m.GetDisplayNode().GetVisibility()]
        for mask in shown:
            mask.GetDisplayNode().SetVisibility(False)
        self._hidden = shown

    def _clear(self) -> None:
        if self._nodes is not None:
            self._nodes.remove()
        for mask in self._hidden:
            if mask.GetScene() is not None and mask.GetDisplayNode() is not None:
                mask.GetDisplayNode().SetVisibility(True)
        self._hidden = []
        self._nodes = self._volume = None
        self.table.setMRMLTableNode(None)
        self._found.visible = False

    def scene_closed(self) -> None:
        """All nodes are gone."""
        self._preview = self._nodes = self._volume = None
        self._hidden = []
        self.accept.enabled = False
        self.table.setMRMLTableNode(None)
        self._found.visible = False
