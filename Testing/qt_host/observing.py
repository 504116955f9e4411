"""Scene and node observers that end with the widget that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Observing:
    """Mixin: each (object, event) is observed once; `unobserve` ends all."""

    _observed: dict[tuple[Any, Any], tuple[Any, int]]

    def observe(self, subject: Any, event: Any, callback: Callable[..., None]) -> None:
        observed = self.__dict__.setdefault("_observed", {})
        key = (subject.GetAddressAsString("vtkObject"), event)
        if key not in observed:
            observed[key] = (subject, subject.AddObserver(event, callback))

    def unobserve(self) -> None:
        observed = self.__dict__.setdefault("_observed", {})
        for subject, tag in observed.values():
            subject.RemoveObserver(tag)
        observed.clear()
