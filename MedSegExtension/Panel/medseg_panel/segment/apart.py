"""Runs of the chosen model on volumes that are in no scene: cases of a list that have no mask yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard
from medseg.result import Result

from ..seams import Installer, Worker
from .runs import Runs


class _Chooser(Protocol):
    """The Segment tab, as far as it is asked."""

    runs: Runs
    model: Any
    server: Any

    @property
    def busy(self) -> bool: ...

    def options(self, card: ModelCard) -> dict[str, Any]: ...

    def update(self) -> None: ...


class Apart:
    """`seams.ApartRuns`: one run at a time, with the model and the options that the Segment tab shows."""

    def __init__(self, tab: _Chooser, worker: Worker, installer: Installer) -> None:
        self._tab, self._worker, self._installer = tab, worker, installer
        self._told: tuple[Callable[[Result], None], Callable[[str], None]] | None = None

    @property
    def model(self) -> ModelCard | None:
        """The model that the Segment tab shows."""
        card: ModelCard | None = self._tab.model.card
        return card

    @property
    def ready(self) -> bool:
        """True where a run would ask nothing: all is installed, and sending the image to a server agreed to."""
        card = self.model
        return card is not None and not self.why_not() and self._installer.satisfied() and self._tab.server.settled

    def why_not(self) -> str:
        """Why the chosen model cannot run on the one image of a case; "" where it can."""
        card = self.model
        if card is None:
            return _("No model is chosen in the Segment tab.")
        if card.error:
            return card.error
        if not card.has_weights:
            return _("The weights of {title} are not on this computer.").format(title=card.title)
        if len(card.channels) > 1:
            words = _("{title} needs {n} images, and a case has one.")
            return words.format(title=card.title, n=len(card.channels))
        return ""

    def start(self, volume: Volume, on_result: Callable[[Result], None], on_error: Callable[[str], None]) -> str:
        """Run on ``volume``; "" where the run goes on, else why it does not. One of the two is called at its end.

        Asks before packages are installed."""
        card = self.model
        why = self.why_not()
        if card is None or why:
            return why
        if self._tab.busy:
            return _("A run is going on.")
        try:
            if not self._installer.ensure():
                return _("The needed Python packages were not installed, so nothing was run.")
            if not self._tab.server.ready():
                return _("The image is not to be sent to the server, so nothing was run.")
            self._told = (on_result, on_error)
            self._tab.runs.taken = True
            self._worker.start_run(str(card.folder), [volume], self._tab.options(card), self)
        except MedSegError as error:
            self._ended()
            return str(error)
        self._tab.update()
        return ""

    def cancel(self) -> None:
        """End the run under way; its ``on_error`` is called."""
        if self._told is not None:
            self._worker.cancel()

    def _ended(self) -> tuple[Callable[[Result], None], Callable[[str], None]] | None:
        told, self._told = self._told, None
        self._tab.runs.taken = False
        self._tab.update()
        return told

    # -- Listener -----------------------------------------------------------------------------------------------

    def on_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        """The list says which case runs; the rest would only move its line."""

    def on_warning(self, sentence: str) -> None:
        """Kept in the result."""

    def on_note(self, sentence: str) -> None:
        """Kept in the result."""

    def on_result(self, result: Result) -> None:
        if (told := self._ended()) is not None:
            told[0](result)

    def on_error(self, kind: str, sentence: str) -> None:
        if (told := self._ended()) is not None:
            told[1](sentence)

    def on_cancelled(self) -> None:
        if (told := self._ended()) is not None:
            told[1](_("Cancelled."))
