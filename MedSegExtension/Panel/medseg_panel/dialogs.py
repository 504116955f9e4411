"""Message boxes and file dialogs of the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer

_LIST_SIZE = (1060, 460)
_MAX_COLUMN = 470
_FORM_SIZE = (640, 620)
_CARD_SIZE = (560, 620)


class SlicerDialogs:
    """`seams.Dialogs` in Slicer. The folder that was used last is remembered."""

    def __init__(self, parent: Any = None) -> None:
        self._parent = parent

    def error(self, message: str, details: str = "") -> None:
        """Tell what went wrong; under ``--testing`` it is only logged."""
        slicer.util.errorDisplay(message, windowTitle="MedSeg", parent=self._parent, **_details(details))

    def show(self, title: str, text: str) -> None:
        """Rich text to read."""
        dialog = text_dialog(self._parent, title, text)
        dialog.exec_()
        dialog.deleteLater()

    def confirm(self, question: str, details: str = "") -> bool:
        """Ask; under ``--testing`` the answer is yes."""
        return bool(
            slicer.util.confirmOkCancelDisplay(question, windowTitle="MedSeg", parent=self._parent, **_details(details))
        )

    def open_file(self, title: str, filters: str) -> str:
        """A file to read, "" where none was chosen."""
        return self._remember(qt.QFileDialog.getOpenFileName(self._parent, title, self._last(), filters))

    def save_file(self, title: str, name: str, filters: str) -> str:
        """A file to write, "" where none was chosen."""
        return self._remember(qt.QFileDialog.getSaveFileName(self._parent, title, f"{self._last()}/{name}", filters))

    def folder(self, title: str) -> str:
        """A folder, "" where none was chosen."""
        return self._remember(qt.QFileDialog.getExistingDirectory(self._parent, title, self._last()))

    def choose(
        self,
        title: str,
        text: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        accept: str,
        details: Sequence[str] = (),
    ) -> int:
        """A list with one row to choose; its number, -1 where none was chosen. ``details``: rich text for each row."""
        dialog, rows_shown = list_dialog(self._parent, title, text, columns, rows, accept, details)
        accepted = dialog.exec_() == qt.QDialog.Accepted
        chosen = rows_shown.indexOfTopLevelItem(rows_shown.currentItem()) if rows_shown.selectedItems() else -1
        dialog.deleteLater()
        return chosen if accepted else -1

    def ask(
        self, title: str, text: str, questions: Sequence[dict[str, Any]], answers: dict[str, str], accept: str
    ) -> dict[str, str] | None:
        """Several questions at once, answered with what is known so far; None where the user gave up."""
        dialog, read = question_dialog(self._parent, title, text, questions, answers, accept)
        accepted = dialog.exec_() == qt.QDialog.Accepted
        given = read()
        dialog.deleteLater()
        return given if accepted else None

    def _last(self) -> str:
        return str(qt.QSettings().value("MedSeg/LastFolder") or "")

    def _remember(self, path: str) -> str:
        if path:
            qt.QSettings().setValue("MedSeg/LastFolder", qt.QFileInfo(path).absolutePath())
        return path


def text_dialog(parent: Any, title: str, text: str) -> Any:
    """The dialog of `SlicerDialogs.show`, not shown yet."""
    dialog = qt.QDialog(parent) if parent is not None else qt.QDialog()
    dialog.windowTitle = title
    layout = qt.QVBoxLayout(dialog)
    shown = qt.QTextBrowser()
    shown.setHtml(text)
    layout.addWidget(shown)
    buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Close)
    buttons.connect("rejected()", dialog.reject)
    layout.addWidget(buttons)
    dialog.resize(*_CARD_SIZE)
    return dialog


def question_dialog(
    parent: Any, title: str, text: str, questions: Sequence[dict[str, Any]], answers: dict[str, str], accept: str
) -> tuple[Any, Callable[[], dict[str, str]]]:
    """The dialog of `SlicerDialogs.ask`, not shown yet, and what reads its answers."""
    dialog = qt.QDialog(parent) if parent is not None else qt.QDialog()
    dialog.windowTitle = title
    layout = qt.QVBoxLayout(dialog)
    inside, scroll = qt.QWidget(), qt.QScrollArea()
    form = qt.QVBoxLayout(inside)
    form.addWidget(_words(text))
    fields: list[tuple[str, Any, bool]] = []
    for question in questions:
        form.addWidget(_words(question["text"], bold=True))
        answer = answers.get(question["id"], question["default"])
        listed = bool(question["choices"])
        if listed:
            field = qt.QComboBox()
            field.addItems(list(question["choices"]))
            field.setCurrentText(answer)
        else:
            field = qt.QLineEdit(answer)
        field.objectName = f"answer_{question['id']}"
        field.toolTip = question["why"]
        form.addWidget(field)
        if question["why"]:
            form.addWidget(_words(question["why"]))
        form.addSpacing(6)
        fields.append((question["id"], field, listed))
    form.addStretch(1)
    scroll.widgetResizable = True
    scroll.setWidget(inside)
    layout.addWidget(scroll)
    buttons, take = qt.QDialogButtonBox(), qt.QPushButton(accept)
    buttons.addButton(take, qt.QDialogButtonBox.AcceptRole)
    buttons.addButton(qt.QDialogButtonBox.Cancel)
    buttons.connect("accepted()", dialog.accept)
    buttons.connect("rejected()", dialog.reject)
    layout.addWidget(buttons)
    # Few questions need no large window; the scroll area holds what does not fit.
    lines = sum(1 + len(line) // 80 for words in (text, *(q["why"] for q in questions)) for line in words.split("\n"))
    dialog.resize(_FORM_SIZE[0], min(_FORM_SIZE[1], 110 + 20 * lines + 80 * len(questions)))

    def read() -> dict[str, str]:
        return {id: field.currentText if listed else field.text for id, field, listed in fields}

    return dialog, read


def _words(text: str, bold: bool = False) -> Any:
    label = qt.QLabel(text)
    label.wordWrap = True
    label.textFormat = qt.Qt.PlainText
    if bold:
        label.setStyleSheet("font-weight: bold")
    return label


def list_dialog(
    parent: Any,
    title: str,
    text: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    accept: str,
    details: Sequence[str] = (),
) -> tuple[Any, Any]:
    """The dialog of `SlicerDialogs.choose`, not shown yet, and its list."""
    dialog = qt.QDialog(parent) if parent is not None else qt.QDialog()
    dialog.windowTitle = title
    layout = qt.QVBoxLayout(dialog)
    label = qt.QLabel(text)
    label.wordWrap = True
    layout.addWidget(label)
    shown = qt.QTreeWidget()
    shown.rootIsDecorated = False
    shown.alternatingRowColors = True
    shown.setHeaderLabels(list(columns))
    for row in rows:
        item = qt.QTreeWidgetItem()
        for column, cell in enumerate(row):
            item.setText(column, cell)
            item.setToolTip(column, cell)
        shown.addTopLevelItem(item)
    for column in range(len(columns)):
        shown.resizeColumnToContents(column)
        shown.setColumnWidth(column, min(shown.columnWidth(column), _MAX_COLUMN))
    layout.addWidget(shown, 3)
    card = qt.QTextBrowser()
    card.objectName = "details"
    card.openLinks = False
    card.setVisible(bool(details))
    layout.addWidget(card, 2)
    buttons, take = qt.QDialogButtonBox(), qt.QPushButton(accept)
    buttons.addButton(take, qt.QDialogButtonBox.AcceptRole)
    buttons.addButton(qt.QDialogButtonBox.Cancel)
    take.enabled = False

    def chosen() -> None:
        take.enabled = bool(shown.selectedItems())
        row = shown.indexOfTopLevelItem(shown.currentItem()) if shown.selectedItems() else -1
        card.setHtml(details[row] if 0 <= row < len(details) else "")

    def double_clicked() -> None:
        if shown.selectedItems():
            dialog.accept()

    shown.connect("itemSelectionChanged()", chosen)
    shown.connect("itemDoubleClicked(QTreeWidgetItem*,int)", double_clicked)
    buttons.connect("accepted()", dialog.accept)
    buttons.connect("rejected()", dialog.reject)
    layout.addWidget(buttons)
    dialog.resize(*_LIST_SIZE)
    return dialog, shown


def _details(text: str) -> dict[str, str]:
    return {"detailedText": text} if text else {}
