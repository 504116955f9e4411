"""Masks of many cases against their references, in a process of its own: a button, progress and Cancel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ..seams import Dialogs
from ..worker.errand import Errand
from .layout import button, row


class FolderEvaluation:
    """``widget`` is put into the section. ``show(name, evaluation, warnings)`` gets what was found."""

    def __init__(
        self, dialogs: Dialogs, say: Callable[[str], None], show: Callable[[str, Any, list[str]], None]
    ) -> None:
        self._dialogs, self._say, self._show = dialogs, say, show
        self._errand: Errand | None = None
        self.widget = qt.QWidget()
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        tip = _("Masks of many cases and their references, paired by name: a table of cases, box plots in the views.")
        self.start = button(_("Choose two folders and compare..."), tip, self.evaluate)
        self.bar = qt.QProgressBar()
        self.bar.setRange(0, 100)
        self.bar.toolTip = _("Slicer stays usable meanwhile.")
        self.cancel = button(_("Cancel"), _("Stop comparing; nothing is shown."), self._cancelled)
        layout.addWidget(self.start)
        layout.addLayout(row(self.bar, self.cancel, stretch=0))
        self._update()

    @property
    def running(self) -> bool:
        """True while cases are being compared."""
        return self._errand is not None

    def evaluate(self) -> None:
        """Hold each mask of a folder against the reference of its name in another one."""
        predictions = self._dialogs.folder(_("Folder of the masks"))
        references = self._dialogs.folder(_("Folder of the reference masks")) if predictions else ""
        if not references or self.running:
            return
        name = Path(predictions).name
        self._errand = Errand(
            "evaluate",
            lambda answer: self._found(name, answer),
            self._failed,
            self._progress,
            predictions=predictions,
            references=references,
        )
        self._progress("", 0.0)
        self._say(_("Comparing the masks of {name}...").format(name=name))
        self._update()

    def stop(self) -> None:
        """End it without a word (the module goes away)."""
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.cancel()

    def _cancelled(self) -> None:
        self.stop()
        self._say(_("Comparing was cancelled."))
        self._update()

    def _progress(self, text: str, fraction: float | None) -> None:
        self.bar.setValue(int(100 * (fraction or 0)))
        self.bar.setFormat(f"{text}  %p %")

    def _found(self, name: str, answer: dict[str, Any]) -> None:
        from medseg.compare.cohort import Evaluation
        from medseg.worker.transfer import table_from

        rows = [(case, kind, figures) for case, kind, figures in answer["rows"]]
        found = Evaluation(rows, answer["failed"], table_from("summary", answer["summary"]))
        warnings = self._over()
        self._show(name, found, warnings)

    def _failed(self, sentence: str) -> None:
        warnings = self._over()
        self._say("")
        self._dialogs.error(sentence, "\n".join(warnings))

    def _over(self) -> list[str]:
        warnings = self._errand.warnings if self._errand is not None else []
        self._errand = None
        self._update()
        return warnings

    def _update(self) -> None:
        self.start.enabled = not self.running
        self.bar.visible = self.cancel.visible = self.running
