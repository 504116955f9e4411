"""The list of findings: sorted, filtered, filled little by little so that thousands of rows never stop the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .layout import fit_columns, fit_rows, plain_table

#: Rows that are filled at a time: some milliseconds of work.
_ROWS = 60
_COLUMNS = ("", _("No."), _("Name"), _("Volume"), _("Prob."), _("Region"))
MARKS = {"": "", "accepted": "\u2714", "rejected": "\u2716", "uncertain": "?"}
_WORDS = {"": _("not reviewed"), "accepted": _("accepted"), "rejected": _("rejected"), "uncertain": _("uncertain")}
_ORDERS = (
    ("size", _("Largest first")),
    ("probability", _("Most probable first")),
    ("position", _("From the top down")),
    ("region", _("By region")),
)


class FindingsList:
    """``on_chosen(id)`` is called when the reader chooses a row. ``widget`` is put into the tab."""

    def __init__(self, on_chosen: Callable[[int], None]) -> None:
        self._on_chosen = on_chosen
        self._reviewing: Any = None
        self._ids: list[int] = []
        self._filled = 0
        self._own = False
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for filters in self._filters():
            layout.addLayout(filters)
        self.table = plain_table("findingsTable", _COLUMNS, 120)
        self.table.connect("currentCellChanged(int,int,int,int)", self._row_chosen)
        self.table.connect("cellClicked(int,int)", self._row_clicked)
        layout.addWidget(self.table)
        self._timer = qt.QTimer(self.widget)
        self._timer.interval = 0
        self._timer.connect("timeout()", self._fill_more)

    def _filters(self) -> tuple[Any, Any]:
        first, second = qt.QHBoxLayout(), qt.QHBoxLayout()
        self.order = qt.QComboBox()
        for key, words in _ORDERS:
            self.order.addItem(words, key)
        self.order.toolTip = _("How the findings are sorted.")
        self.of_class = qt.QComboBox()
        self.of_class.toolTip = _("Only findings of one class.")
        self.least = qt.QDoubleSpinBox()
        self.least.decimals, self.least.maximum, self.least.singleStep = 3, 1000.0, 0.01
        self.least.suffix = " ml"
        self.least.prefix = _("at least") + " "
        self.least.toolTip = _("Only findings of at least this volume.")
        self.open_only = qt.QCheckBox(_("Only not reviewed"))
        self.open_only.toolTip = _("Only findings that were not reviewed yet.")
        for box in (self.order, self.of_class):
            box.setSizeAdjustPolicy(qt.QComboBox.AdjustToMinimumContentsLengthWithIcon)
            box.minimumContentsLength = 7
            first.addWidget(box, 1)
            box.connect("currentIndexChanged(int)", self._refilter)
        second.addWidget(self.least, 1)
        second.addWidget(self.open_only, 1)
        self.least.connect("valueChanged(double)", self._refilter)
        self.open_only.connect("toggled(bool)", self._refilter)
        return first, second

    # -- what is shown ------------------------------------------------------------------------------------------

    def show(self, reviewing: Any) -> None:
        """Show the findings of an open case, or none."""
        self._reviewing = reviewing
        self._own = True
        self.of_class.clear()
        self.of_class.addItem(_("All classes"), "")
        review = reviewing.review if reviewing is not None else None
        names = sorted({review.class_of(id) for id in review.findings}) if review is not None else []
        for name in names:
            self.of_class.addItem(name, name)
        self.of_class.enabled = len(names) > 1
        self.least.enabled = reviewing is None or not reviewing.of_slices
        self._own = False
        self.refresh()

    def refresh(self, ids: set[int] | None = None) -> None:
        """The findings ``ids`` changed, or any of them."""
        if self._reviewing is None:
            self._start([])
            return
        if ids is not None and not self.open_only.checked:
            for id in ids & set(self._ids):
                row = self._ids.index(id)
                if row < self._filled:
                    self._fill_row(row)
            return
        self._start(self._wanted())
        self.select(self._reviewing.current)

    def _wanted(self) -> list[int]:
        review, order = self._reviewing.review, self.order.itemData(self.order.currentIndex)
        name = self.of_class.itemData(self.of_class.currentIndex) or None
        filters = {
            "name": name,
            "unreviewed": self.open_only.checked,
            "least_ml": self.least.value if self.least.enabled else 0.0,
        }
        if order != "region":
            return [f.id for f in review.listed(order, **filters)]
        regions = self._reviewing.regions
        return [f.id for f in sorted(review.listed("size", **filters), key=lambda f: regions.get(f.id, "\uffff"))]

    def _refilter(self, value: Any = None) -> None:
        if not self._own:
            self.refresh()

    def _start(self, ids: list[int]) -> None:
        self._own = True
        self._ids, self._filled = ids, 0
        self.table.setRowCount(len(ids))
        self._own = False
        self._fill_more()
        if self._reviewing is not None:
            found = list(self._reviewing.review.findings.values())
            of_slices = self._reviewing.of_slices
            self.table.setHorizontalHeaderItem(3, qt.QTableWidgetItem(_("Slices") if of_slices else _("Volume")))
            self.table.setColumnHidden(3, not (of_slices or any(f.volume_ml for f in found)))
            self.table.setColumnHidden(4, not any(f.probability is not None for f in found))
            self.table.setColumnHidden(5, not self._reviewing.regions)
        fit_columns(self.table)
        if self._filled < len(ids):
            self._timer.start()

    def font_changed(self) -> None:
        """Nothing is cut in another size of letters."""
        fit_rows(self.table)
        fit_columns(self.table)

    def _fill_more(self) -> None:
        stop = min(self._filled + _ROWS, len(self._ids))
        for row in range(self._filled, stop):
            self._fill_row(row)
        self._filled = stop
        if stop >= len(self._ids):
            self._timer.stop()

    def _fill_row(self, row: int) -> None:
        review, id = self._reviewing.review, self._ids[row]
        finding, decision = review.findings[id], review.decision(id)
        mark = MARKS[decision.state] + ("+" if decision.added else "")
        volume = f"{finding.volume_ml:.3g} ml" if finding.volume_ml else ""
        if self._reviewing.of_slices:
            volume = " - ".join(map(str, dict.fromkeys(review.numbers_of(id))))
        score = "" if finding.probability is None else f"{finding.probability:.2f}"
        texts = (mark, str(id), review.class_of(id), volume, score, self._reviewing.regions.get(id, ""))
        words = _WORDS[decision.state] + (_(", drawn by the reader") if decision.added else "")
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(f"{id}: {review.class_of(id)}, {volume or score}: {words}")
            self.table.setItem(row, column, item)

    # -- which is chosen ----------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self._ids)

    def select(self, id: int) -> None:
        """Mark a finding's row, without telling anybody."""
        self._own = True
        if id in self._ids:
            row = self._ids.index(id)
            while self._filled <= row:
                self._fill_more()
            self.table.setCurrentCell(row, 1)
        else:
            self.table.clearSelection()
        self._own = False

    def after(self, id: int, step: int = 1, *, undecided: bool = False) -> int:
        """The finding ``step`` rows on, 0 where the list ends; with ``undecided`` the next without a decision.

        That one is looked for from the row on to the end, then from the start.
        """
        if not self._ids:
            return 0
        row = self._ids.index(id) if id in self._ids else -1 if step > 0 else len(self._ids)
        if not undecided:
            wanted = row + step
            return self._ids[wanted] if 0 <= wanted < len(self._ids) else 0
        review = self._reviewing.review
        order = [*self._ids[row + 1 :], *self._ids[: max(row, 0)]]
        return next((n for n in order if not review.decision(n).state), 0)

    def _row_chosen(self, row: int) -> None:
        if not self._own and 0 <= row < len(self._ids):
            self._on_chosen(self._ids[row])

    def _row_clicked(self, row: int) -> None:
        # Also where the row was the current one already: the views may have been moved away.
        if not self._own and 0 <= row < len(self._ids) and self._ids[row] == self._reviewing.current:
            self._on_chosen(self._ids[row])
