"""Which models come first for the chosen volume, and which one is chosen by itself."""

from __future__ import annotations

from typing import Any, Protocol

import qt
import slicer

from medseg.model.card import ModelCard

from .inputs import InputsSection
from .kinds import kind_of, misfit
from .model import ModelSection

_KEY = "MedSeg/LastModel/{kind}"


class Chooser(Protocol):
    """The Segment tab, as far as it is needed here."""

    inputs: InputsSection
    model: ModelSection

    @property
    def open(self) -> bool: ...

    @property
    def busy(self) -> bool: ...

    def take(self, model_id: str) -> None: ...


class Suggestion:
    """Sorts the list when another kind of volume is chosen, and takes the model that ran last on such a one."""

    def __init__(self, tab: Chooser) -> None:
        self._tab = tab
        self._kind, self._due = "", False

    def look_later(self) -> None:
        """Volumes may have changed. The list is not sorted anew while a click on it is being handled."""
        if not self._due:
            self._due = True
            qt.QTimer.singleShot(0, self._look)

    def remember(self, card: ModelCard) -> None:
        """The user runs this model on the chosen volume."""
        kind = kind_of(self._tab.inputs.first())
        if kind:
            slicer.app.settings().setValue(_key(kind), card.id)

    def _look(self) -> None:
        self._due = False
        if not self._tab.open:
            return
        volume = self._tab.inputs.first()
        before, self._kind = self._kind, kind_of(volume)
        if self._kind == before:
            return
        self._tab.model.set_volume(volume)
        card, last = self._tab.model.card, last_model(self._kind)
        # A model that the user chose before there was a volume, or that came with a scene, stays.
        unfit = card is None or (bool(before) and misfit(card, volume) > 2)
        if unfit and not self._tab.busy and self._tab.model.usable(last):
            self._tab.take(last)


def last_model(kind: str) -> str:
    """The id of the model that ran last on a volume of this kind (`kinds.kind_of`), or ""."""
    value: Any = slicer.app.settings().value(_key(kind)) if kind else ""
    return str(value or "")


def _key(kind: str) -> str:
    # A slash would make a group of its own; a star is not allowed in the registry of Windows.
    return _KEY.format(kind=kind.replace("/", "_").replace("*", "star"))
