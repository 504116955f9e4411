"""What the Review tab looks like: its widgets, without what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _


def button(text: str, tip: str, work: Callable[[], None]) -> Any:
    """A push button that calls ``work``."""
    made = qt.QPushButton(text)
    made.toolTip = tip
    made.connect("clicked(bool)", lambda: work())
    return made


def selector(scene: Any, kinds: list[str], tip: str, none: str) -> Any:
    """A selector of nodes of the classes ``kinds``; ``none``: the text while nothing is chosen."""
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = kinds
    box.noneEnabled = True
    box.noneDisplay = none
    box.addEnabled = False
    box.removeEnabled = False
    box.renameEnabled = False
    box.toolTip = tip
    box.setMRMLScene(scene)
    return box


def row(*widgets: Any, stretch: int = -1) -> Any:
    """Widgets beside each other; the one of number ``stretch`` takes the room that is left."""
    made = qt.QHBoxLayout()
    made.setSpacing(4)
    for n, widget in enumerate(widgets):
        widget.setMinimumWidth(40)
        made.addWidget(widget, 1 if n == stretch else 0)
    return made


def plain_table(name: str, columns: Sequence[str], least_height: int) -> Any:
    """A table of rows to choose from: nothing is edited in it, one row is chosen at a time."""
    table = qt.QTableWidget(0, len(columns))
    table.setObjectName(name)
    table.setHorizontalHeaderLabels(list(columns))
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    table.verticalHeader().hide()
    fit_rows(table)
    table.horizontalHeader().setStretchLastSection(True)
    table.setWordWrap(False)
    table.setMinimumHeight(least_height)
    return table


def fit_rows(table: Any) -> None:
    """Make rows as high as a line of the font that there is now."""
    table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 6)


def fit_columns(table: Any) -> None:
    """Make columns as wide as what they hold; the last one that is seen takes the room that is left."""
    header = table.horizontalHeader()
    header.setStretchLastSection(False)
    table.resizeColumnsToContents()
    header.setStretchLastSection(True)


class ReviewWidgets:
    """The widgets of the tab from top to bottom; ``page`` holds them all.

    Left to others: `cases_place` (the list of cases), `rating_place`, `compare_place` are empty widgets with a layout.
    """

    def __init__(self, scene: Any) -> None:
        self.page = qt.QWidget()
        self.page.setObjectName("reviewTab")
        self.layout = qt.QVBoxLayout(self.page)
        self.layout.setContentsMargins(4, 4, 4, 4)
        self.layout.setSpacing(4)
        self.cases_place = self._place()
        self.volume = selector(scene, ["vtkMRMLScalarVolumeNode"], _("The image that is read."), _("Choose an image"))
        self.mask = selector(
            scene, ["vtkMRMLSegmentationNode"], _("The mask that is reviewed; it stays as it is."), _("Choose a mask")
        )
        form = qt.QFormLayout()
        form.setSpacing(4)
        form.addRow(_("Image:"), self.volume)
        form.addRow(_("Mask:"), self.mask)
        self.nodes = qt.QWidget()
        self.nodes.setLayout(form)
        self.layout.addWidget(self.nodes)
        #: Seen while a case is open.
        self.desk = qt.QWidget()
        self.work = qt.QVBoxLayout(self.desk)
        self.work.setContentsMargins(0, 0, 0, 0)
        self.work.setSpacing(4)
        #: In its place while none is.
        self.rest = qt.QLabel(
            _(
                "Choose an image and its mask and press Start review, or open a list of cases. The mask stays as it "
                "is; what you decide and draw goes into a reviewed copy, and is kept at once."
            )
        )
        self.rest.wordWrap = True
        self.rest.setAlignment(qt.Qt.AlignTop)
        self.status = qt.QLabel()
        self.status.wordWrap = True
        self.status.setObjectName("reviewStatus")

    def _place(self) -> Any:
        made = qt.QWidget()
        inside = qt.QVBoxLayout(made)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(4)
        self.layout.addWidget(made)
        return made
