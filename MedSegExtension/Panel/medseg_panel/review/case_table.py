"""The table of cases: filtered, searched, filled little by little so that thousands of rows never stop the program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from .layout import fit_rows, plain_table

#: Rows that are filled at a time: some milliseconds of work.
_ROWS = 40
_COLUMNS = (_("Case"), _("State"), _("Rating"), _("Left"), _("Time"), _("Comment"))
_STATES = {"to do": _("to do"), "in progress": _("in progress"), "done": _("done"), "skipped": _("skipped")}
#: Wide letters of a case's name that are shown at most; all are in its tool tip.
_LETTERS_OF_NAME = 14


class CaseTable:
    """``on_open(n)``: the reader wants case ``n``. ``on_known()``: all cases are known now. ``widget``: for the tab."""

    def __init__(self, on_open: Callable[[int], None], on_known: Callable[[], None]) -> None:
        self._on_open, self._on_known = on_open, on_known
        self._session: Any = None
        self._rows: list[int] = []
        self._filled = 0
        self._left = -1
        self._only: set[str] | None = None
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.state = qt.QComboBox()
        self.state.addItem(_("All cases"), "")
        for key, words in _STATES.items():
            self.state.addItem(words, key)
        self.state.toolTip = _("Only cases of one state.")
        self.search = qt.QLineEdit()
        self.search.setPlaceholderText(_("Search"))
        self.search.clearButtonEnabled = True
        self.search.toolTip = _("Words of the case's name or comment.")
        filters = qt.QHBoxLayout()
        filters.addWidget(self.state)
        filters.addWidget(self.search, 1)
        layout.addLayout(filters)
        self.everybody = qt.QPushButton(_("Show all cases again"))
        self.everybody.connect("clicked(bool)", lambda: self.show_only(None))
        self.everybody.toolTip = _("Only some cases of the list are shown now.")
        self.everybody.visible = False
        layout.addWidget(self.everybody)
        self.table = plain_table("casesTable", _COLUMNS, 130)
        self.table.horizontalHeader().highlightSections = False
        self.table.toolTip = _("A double click opens a case.")
        self.table.connect("cellDoubleClicked(int,int)", self._chosen)
        layout.addWidget(self.table)
        self._timer = qt.QTimer(self.widget)
        self._timer.interval = 0
        self._timer.connect("timeout()", self._work)
        self.state.connect("currentIndexChanged(int)", lambda n: self.refilter())
        self.search.connect("textChanged(QString)", lambda text: self.refilter())

    # -- what is shown ------------------------------------------------------------------------------------------

    def show(self, session: Any) -> None:
        """Show the cases of an open list (`case_session.CaseSession`), or none."""
        self._session, self._only = session, None
        self.everybody.visible = False
        self._left = -1
        if session is None:
            self._timer.stop()
            self._rows, self._filled = [], 0
            self.table.setRowCount(0)
            return
        self.refilter()
        self._timer.start()

    def show_only(self, names: set[str] | None) -> None:
        """Only these cases, until the reader wants all again."""
        self._only = names
        self.everybody.visible = names is not None
        self.refilter()

    def shown(self) -> Sequence[int]:
        """The numbers of the cases that the filter leaves."""
        return self._rows

    def refilter(self) -> None:
        """The filter changed, or many cases did."""
        if self._session is None:
            return
        state = str(self.state.itemData(self.state.currentIndex) or "")
        self._rows = self._session.list.wanted(state, str(self.search.text), self._only)
        self._filled = 0
        self.table.setRowCount(len(self._rows))
        self._fill_more()
        self._fit_columns()
        self.select(self._session.current)
        self._timer.start()

    def font_changed(self) -> None:
        """Nothing is cut in another size of letters."""
        fit_rows(self.table)
        self._fit_columns()

    def _fit_columns(self) -> None:
        for column in range(len(_COLUMNS) - 1):
            self.table.resizeColumnToContents(column)
        self.table.setColumnWidth(0, min(self.table.columnWidth(0), self._width("M" * _LETTERS_OF_NAME)))
        self.table.setColumnWidth(1, max(map(self._width, _STATES.values())) + 10)

    def _width(self, text: str) -> int:
        return int(self.table.fontMetrics().boundingRect(text).width())

    def _work(self) -> None:
        if self._filled < len(self._rows):
            self._fill_more()
        elif self._session is None or self._session.read_some():
            self._timer.stop()
            self._on_known()

    def _fill_more(self) -> None:
        stop = min(self._filled + _ROWS, len(self._rows))
        for at in range(self._filled, stop):
            self._fill(at)
        self._filled = stop

    def _fill(self, at: int) -> None:
        from medseg.review.cases import left_of, rating_words

        n = self._rows[at]
        kept, problem = self._session.kept(n), self._session.list.problems.get(n, "")
        name = self._session.source.cases[n].name
        minutes = f"{int(kept.seconds) // 60}:{int(kept.seconds) % 60:02d}" if kept.seconds else ""
        texts = (
            name,
            _STATES[kept.state],
            "" if kept.rating is None else str(kept.rating),
            str(left_of(kept)) if kept.findings else "",
            minutes,
            problem or kept.comment,
        )
        words = self._session.source.words.get(name, "")
        lines = [name, words, rating_words(kept.rating), problem, kept.comment]
        tip = "\n".join(line for line in lines if line)
        for column, text in enumerate(texts):
            item = self.table.item(at, column)
            if item is None:
                item = qt.QTableWidgetItem(text)
                self.table.setItem(at, column, item)
            elif item.text() != text:
                item.setText(text)
            item.setToolTip(tip)

    def refresh(self, n: int) -> None:
        """Case ``n`` changed; it stays where it is until the filter is set again."""
        if self._session is not None and n in self._rows:
            at = self._rows.index(n)
            if at < self._filled:
                self._fill(at)

    def left_changed(self, left: int) -> bool:
        """Whether another number of findings is left than when this was asked last."""
        changed = left != self._left
        self._left = left
        return changed

    # -- which is chosen ----------------------------------------------------------------------------------------

    def select(self, n: int) -> None:
        """Mark the row of a case."""
        if n in self._rows:
            at = self._rows.index(n)
            while self._filled <= at:
                self._fill_more()
            self.table.setCurrentCell(at, 0)

    def _chosen(self, at: int, column: int) -> None:
        if 0 <= at < len(self._rows):
            self._on_open(self._rows[at])
