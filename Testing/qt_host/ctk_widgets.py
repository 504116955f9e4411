"""Stand-ins for the CTK widgets that the panel uses. Names follow CTK, so naming rules of Python do not apply."""

from __future__ import annotations

from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A section: a header that folds the widgets laid out below it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._hidden_before: dict[QtWidgets.QWidget, bool] = {}
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda checked: self._fold(not checked))
        self._header = self.fontMetrics().height() + 8
        self.setContentsMargins(0, self._header, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)

    def _fold(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        children = [c for c in self.children() if isinstance(c, QtWidgets.QWidget)]
        if collapsed:
            self._hidden_before = {c: c.isHidden() for c in children}
        for child in children:
            child.setVisible(not collapsed and not self._hidden_before.get(child, False))
        self.setMaximumHeight(self._header if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _get_collapsed, _set_collapsed)

    def sizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        header = QtCore.QSize(self.fontMetrics().horizontalAdvance(self.text()) + 40, self._header)
        return header if self._collapsed or layout is None else layout.totalSizeHint().expandedTo(header)

    def minimumSizeHint(self) -> QtCore.QSize:
        layout = self.layout()
        return QtCore.QSize(0, self._header) if self._collapsed or layout is None else layout.totalMinimumSize()

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() <= self._header

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self._header)
        style = QtWidgets.QStyle
        painter.drawControl(style.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, (self._header - 10) // 2, 10, 10)
        painter.drawPrimitive(
            style.PrimitiveElement.PE_IndicatorArrowRight
            if self._collapsed
            else style.PrimitiveElement.PE_IndicatorArrowDown,
            arrow,
        )
        painter.drawText(option.rect.adjusted(22, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, self.text())


class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group whose tick box folds it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.setCheckable(True)
        self.toggled.connect(self._unfold)

    def _unfold(self, opened: bool) -> None:
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(opened)
        self.setMaximumHeight(16777215 if opened else self.fontMetrics().height() + 6)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))


class ctkSearchBox(QtWidgets.QLineEdit):
    """A line edit with a clear button."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.setClearButtonEnabled(True)
        self.setPlaceholderText("Search...")

    def _get_icon(self) -> bool:
        return True

    showSearchIcon = Property(bool, _get_icon, lambda self, value: None)


class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box that is written down and answered at once: nobody sits before the test host."""

    shown: ClassVar[list[str]] = []
    answer = QtWidgets.QMessageBox.StandardButton.Ok

    def exec(self) -> Any:
        text = "\n".join(t for t in (self.text(), self.informativeText(), self.detailedText()) if t)
        type(self).shown.append(text)
        return type(self).answer

    exec_ = exec

    dontShowAgainSettingsKey = Property(str, lambda self: "", lambda self, value: None)


CTK = {
    cls.__name__: cls
    for cls in (
        ctkCollapsibleButton,
        ctkCollapsibleGroupBox,
        ctkSearchBox,
        ctkMessageBox,
    )
}
