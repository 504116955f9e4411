"""Message boxes and file dialogs of the application."""

from __future__ import annotations

from typing import Any

import qt
import slicer


class SlicerDialogs:
    """`seams.Dialogs` in Slicer. The folder that was used last is remembered."""

    def __init__(self, parent: Any = None) -> None:
        self._parent = parent

    def error(self, message: str, details: str = "") -> None:
        """Tell what went wrong; under ``--testing`` it is only logged."""
        slicer.util.errorDisplay(message, windowTitle="MedSeg", parent=self._parent, **_details(details))

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

    def _last(self) -> str:
        return str(qt.QSettings().value("MedSeg/LastFolder") or "")

    def _remember(self, path: str) -> str:
        if path:
            qt.QSettings().setValue("MedSeg/LastFolder", qt.QFileInfo(path).absolutePath())
        return path


def _details(text: str) -> dict[str, str]:
    return {"detailedText": text} if text else {}
