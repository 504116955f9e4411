"""The keys of a review, and the card that shows them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import qt
import slicer

#: A key that is held comes again after at most this time, in milliseconds; then at least so often.
_FIRST_REPEAT, _NEXT_REPEATS = 900, 200


@dataclass(frozen=True)
class Key:
    """``name``: as of QKeySequence. ``held``: works as long as it is held."""

    name: str
    words: str
    work: Callable[[], None]
    held: bool = False


class Keys:
    """Shortcuts of the whole window, which work only while the tab is seen and nobody types in a field."""

    def __init__(self, parent: Any, keys: list[Key]) -> None:
        """``parent``: the tab's widget; where there is a main window, keys work while a slice view has the focus."""
        self._keys = keys
        self._enabled, self._lent = False, frozenset[str]()
        window = slicer.util.mainWindow() or parent
        self._shortcuts = []
        for key in keys:
            shortcut = qt.QShortcut(qt.QKeySequence(key.name), window)
            shortcut.autoRepeat = key.held
            shortcut.enabled = False
            shortcut.connect("activated()", key.work)
            self._shortcuts.append(shortcut)

    def set_enabled(self, enabled: bool) -> None:
        """Let the keys work, or leave them to Slicer."""
        self._enabled = enabled
        for key, shortcut in zip(self._keys, self._shortcuts, strict=True):
            shortcut.enabled = enabled and key.name not in self._lent

    def lend(self, names: Iterable[str]) -> None:
        """Leave these keys to somebody else, until other ones are lent."""
        self._lent = frozenset(names)
        self.set_enabled(self._enabled)

    def remove(self) -> None:
        """The module goes away; the window stays."""
        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.deleteLater()
        self._keys, self._shortcuts = [], []

    def card(self) -> str:
        """The key card as rich text."""
        rows = "".join(
            f"<tr><td><b>{html.escape(k.name)}</b>&nbsp;&nbsp;</td><td>{k.words}</td></tr>" for k in self._keys
        )
        return f"<table cellpadding='3'>{rows}</table>"


class Held:
    """Turns the repeated signals of a held key into one ``on_press()`` and one ``on_release()``.

    Qt tells a shortcut's press and repetitions, not its release; a key that does not come again was let go.
    """

    def __init__(self, parent: Any, on_press: Callable[[], None], on_release: Callable[[], None]) -> None:
        self._on_press, self._on_release = on_press, on_release
        self._down = False
        self._timer = qt.QTimer(parent)
        self._timer.connect("timeout()", self._released)

    def pressed(self) -> None:
        """The key was pressed, or is held on."""
        self._timer.start(_NEXT_REPEATS if self._down else _FIRST_REPEAT)
        if not self._down:
            self._down = True
            self._on_press()

    def _released(self) -> None:
        self._timer.stop()
        self._down = False
        self._on_release()
