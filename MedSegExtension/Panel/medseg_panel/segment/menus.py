"""Menus of buttons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


def add_action(menu: Any, text: str, work: Callable[[], None], tip: str = "") -> Any:
    """Add an entry that calls ``work``; returns it (a ``QAction`` that the menu owns)."""
    action = qt.QAction(text, menu)
    action.toolTip = tip or text
    action.connect("triggered()", work)
    menu.addAction(action)
    return action
