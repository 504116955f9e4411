"""What a run said, under its bar: the first sentences in short, all of them on request, an offer once."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

#: Sentences that are seen at once, and letters of each; all of them stand in the details, the tool tip and the log.
_SEEN, _LONG = 2, 90
_OFFERED_SETTING = "MedSeg/Offered"


class Messages:
    """``ui``: has ``notesLabel``, ``detailsLabel`` and ``offerLabel``, one below the other."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._open = False
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._work: Callable[[], None] = _nothing
        for label in (ui.notesLabel, ui.detailsLabel, ui.offerLabel):
            label.setTextFormat(qt.Qt.RichText)
        ui.notesLabel.connect("linkActivated(QString)", lambda link: self._fold(not self._open))
        ui.offerLabel.connect("linkActivated(QString)", self._answered)
        self.clear()

    def clear(self) -> None:
        """A run begins."""
        self.show([], [], [])
        self._ui.offerLabel.visible = False

    def show(self, warnings: list[str], notes: list[str], details: list[str]) -> None:
        """What a run that ended said. ``details``: plain facts that are seen on request only."""
        self._warnings = [_("Warning: {w}").format(w=w) for w in warnings]
        self._notes = [*notes, *details]
        first = [*self._warnings, *notes][:_SEEN]
        every = [*self._warnings, *self._notes]
        self._lines = [html.escape(_short(sentence)) for sentence in first]
        self._more = len(every) > len(first) or any(_short(s) != s for s in first)
        self._ui.notesLabel.toolTip = "\n".join(every)
        self._ui.detailsLabel.text = "<br>".join(html.escape(sentence) for sentence in every)
        self._fold(False)

    def _fold(self, open_: bool) -> None:
        self._open = open_
        lines = [] if open_ else list(self._lines)
        if self._more:
            count = ", ".join(
                words.format(n=n)
                for n, words in ((len(self._warnings), _("{n} warning(s)")), (len(self._notes), _("{n} note(s)")))
                if n
            )
            lines.append(f"{count}: <a href='all'>{_('fold') if open_ else _('show all')}</a>")
        self._ui.notesLabel.text = "<br>".join(lines)
        self._ui.notesLabel.visible = bool(lines)
        self._ui.detailsLabel.visible = open_

    # -- an offer -------------------------------------------------------------------------------------------------

    def offer(self, name: str, sentence: str, accept: str, work: Callable[[], None]) -> None:
        """Offer ``work`` under the name ``name``, unless this user saw the offer before."""
        settings = slicer.app.userSettings()
        known = str(settings.value(_OFFERED_SETTING) or "").split()
        if name in known:
            return
        settings.setValue(_OFFERED_SETTING, " ".join([*known, name]))
        self._work = work
        links = f"<a href='yes'>{html.escape(accept)}</a> &nbsp; <a href='no'>{_('Not now')}</a>"
        self._ui.offerLabel.text = f"{html.escape(sentence)} {links}"
        self._ui.offerLabel.visible = True

    def _answered(self, link: str) -> None:
        self._ui.offerLabel.visible = False
        work, self._work = self._work, _nothing
        if link == "yes":
            work()


def _short(sentence: str) -> str:
    """As much of a sentence as fits on about two lines."""
    return sentence if len(sentence) <= _LONG else sentence[:_LONG].rsplit(" ", 1)[0] + " ..."


def _nothing() -> None:
    pass
