"""A reader's hands: keys and mouse as real events of the X server (``xdotool``), and how many there were.

Where there is no ``xdotool`` (other systems), what a key does is called instead, which is told in `Hands.how`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import common
import numpy as np
import qt
import slicer
import vtk

#: Seconds that a key's effect is waited for.
_PATIENCE = 10.0


class Hands:
    """``tab``: the Review tab, whose keys are pressed. ``presses``: keys pressed so far."""

    def __init__(self, tab: Any) -> None:
        self._tab = tab
        self.presses = 0
        program = shutil.which("xdotool") if os.environ.get("DISPLAY") else None
        self._program = program or ""
        self.how = "keys and mouse of the X server" if program else "no xdotool here: what keys do was called"
        if program:
            self._take_the_focus()

    def _take_the_focus(self) -> None:
        window = slicer.util.mainWindow()
        window.raise_()
        window.activateWindow()
        if not common.wait(lambda: window.isActiveWindow, 2):
            self._do("search", "--pid", str(os.getpid()), "--name", "Slicer", "windowfocus", "--sync")
            common.wait(lambda: window.isActiveWindow, 2)
        window.setFocus()
        common.pause(0.1)

    def _do(self, *arguments: str) -> None:
        subprocess.run([self._program, *arguments], check=True, timeout=20, stdout=subprocess.DEVNULL)

    # -- keys -----------------------------------------------------------------------------------------------------

    def press(self, name: str, until: Callable[[], Any] | None = None) -> None:
        """Press a key (named as on the key card) once; wait until it did what ``until`` asks."""
        self.presses += 1
        sent = None
        if self._program:
            # Not waited for here: Slicer handles the key while the program that sent it still lets it go.
            sent = subprocess.Popen([self._program, "key", _name(name)], stdout=subprocess.DEVNULL)
        else:
            self._work(name)
        if until is None:
            common.pause(0.15)
        elif not common.wait(until, _PATIENCE, 2):
            raise AssertionError(f"the key {name} did not do what it is for within {_PATIENCE:g} s")
        if sent is not None and sent.wait(20):
            raise AssertionError(f"xdotool could not press {name}: it ended with {sent.returncode}")

    def hold(self, name: str, seconds: float, meanwhile: Callable[[], Any]) -> Any:
        """Hold a key; what ``meanwhile()`` gives near the end."""
        self.presses += 1
        if self._program:
            self._do("keydown", _name(name))
            common.pause(seconds)
            seen = meanwhile()
            self._do("keyup", _name(name))
            return seen
        self._work(name)
        common.pause(0.2)
        return meanwhile()

    def _work(self, name: str) -> None:
        """What a key does, where it does something now."""
        tab = self._tab
        for keys in (tab.actions.keys, tab.cases.keys, tab.rating.keys):
            for key, shortcut in zip(keys._keys, keys._shortcuts, strict=True):
                if key.name == name and shortcut.enabled:
                    key.work()

    # -- mouse ----------------------------------------------------------------------------------------------------

    def stroke(self, view: str, places: Sequence[Sequence[float]]) -> bool:
        """Draw with the left button through ``places`` (RAS mm) in a slice view; False where there is no mouse."""
        if not self._program:
            return False
        points = [self._on_screen(view, place) for place in places]
        self._move(points[0])
        self._do("mousedown", "1")
        for point in points[1:]:
            self._move(point)
        self._do("mouseup", "1")
        common.pause(0.4)
        return True

    def click(self, widget: Any, place: Any) -> bool:
        """Click with the left button on ``place`` (QPoint) of a widget; False where there is no mouse."""
        if not self._program:
            return False
        scroll_to(widget)
        there = widget.mapToGlobal(place)
        self._move((there.x(), there.y()))
        self._do("click", "1")
        common.pause(0.4)
        return True

    def _move(self, point: tuple[int, int]) -> None:
        self._do("mousemove", "--sync", str(point[0]), str(point[1]))
        common.pause(0.05)

    @staticmethod
    def _on_screen(view: str, place: Sequence[float]) -> tuple[int, int]:
        widget = slicer.app.layoutManager().sliceWidget(view)
        back = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), back)
        x, y, _, _ = back.MultiplyPoint([*(float(p) for p in place), 1.0])
        shown = widget.sliceView()
        scale = shown.devicePixelRatioF() if hasattr(shown, "devicePixelRatioF") else 1.0
        there = shown.mapToGlobal(qt.QPoint(round(x / scale), round(shown.height - 1 - y / scale)))
        return there.x(), there.y()


def scroll_to(widget: Any) -> None:
    """Bring a widget of the module panel into sight."""
    above = widget.parentWidget()
    while above is not None:
        if above.className() == "QScrollArea":
            above.ensureWidgetVisible(widget)
        above = above.parentWidget()
    common.pause(0.2)


def _name(key: str) -> str:
    """The X server's name of a key of the key card."""
    *modifiers, last = key.split("+")
    return "+".join([*(m.lower() for m in modifiers), last.lower()])


def places_along(centre: Sequence[float], length: float, view: str) -> list[list[float]]:
    """Five places (RAS mm) on a line of ``length`` mm through ``centre``, to the right of a slice view."""
    matrix = slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode().GetSliceToRAS()
    across = np.array([matrix.GetElement(n, 0) for n in range(3)])
    steps = np.linspace(-length / 2, length / 2, 5)
    return [[float(v) for v in np.asarray(centre) + step * across] for step in steps]
