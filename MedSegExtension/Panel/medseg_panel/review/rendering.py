"""Views drawn once for what a reader did, however much of the scene changed on the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import slicer

_P = ParamSpec("_P")
_R = TypeVar("_R")


def drawn_once(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """``work``, during which no view is drawn; afterwards each that changed is, once.

    Else a view that is due is drawn in the middle of the changes, and a second time after them.
    """

    @wraps(work)
    def paused(*arguments: _P.args, **named: _P.kwargs) -> _R:
        slicer.app.pauseRender()
        try:
            return work(*arguments, **named)
        finally:
            slicer.app.resumeRender()

    return paused
