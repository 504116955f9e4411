"""Two fields for patterns of names: which files of a folder are images, which are masks, where names do not say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _


class NamesRow:
    """``on_changed(images, masks)`` is called with the patterns when the reader changed one. ``widget``: for it."""

    def __init__(self, on_changed: Callable[[str, str], Any]) -> None:
        self._on_changed = on_changed
        self._known = ("", "")
        self.widget = qt.QWidget()
        self.widget.setObjectName("namesRow")
        layout = qt.QHBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.images, self.masks = self._field("*_flair"), self._field("*_drawn")
        for words, field in ((_("Names of images:"), self.images), (_("masks:"), self.masks)):
            layout.addWidget(qt.QLabel(words))
            layout.addWidget(field, 1)
        self.widget.visible = False

    def _field(self, example: str) -> Any:
        field = qt.QLineEdit()
        field.setMinimumWidth(40)
        field.setPlaceholderText(example)
        field.toolTip = _(
            "A pattern of file names without their ending, or of folder and name (truth/*). * is what image and mask "
            "have in common. Empty: names speak for themselves."
        )
        field.connect("editingFinished()", self._finished)
        return field

    def show(self, source: Any) -> None:
        """Show the patterns of an open list (`case_sources.Source`); seen where they can help: what names left open."""
        self._known = (source.image_names, source.mask_names) if source is not None else ("", "")
        self.images.text, self.masks.text = self._known
        open_ = source is not None and any((case.image is None) != (case.result is None) for case in source.cases)
        some = source is not None and any(case.result is not None for case in source.cases)
        self.widget.visible = bool(source is not None and source.by_names and ((open_ and some) or any(self._known)))

    def ask(self) -> None:
        """Let the reader give patterns, also where nothing is left open."""
        self.widget.visible = True
        self.masks.setFocus()

    def _finished(self) -> None:
        names = (str(self.images.text).strip(), str(self.masks.text).strip())
        if names != self._known:
            self._known = names
            self._on_changed(*names)
