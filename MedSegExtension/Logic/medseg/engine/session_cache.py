"""Sessions that stay open between runs: a second run of the same model on the same device starts at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ..model.package import Model
from ..monitor import Monitor
from .remote import open_network
from .session import Session


class SessionCache:
    """The last opened sessions, by model, device and precision; the oldest is closed where there are too many."""

    def __init__(self, limit: int = 2) -> None:
        self._sessions: OrderedDict[tuple[Any, ...], Session] = OrderedDict()
        self._limit = limit

    def open(self, model: Model, device: str = "auto", *, monitor: Monitor, **options: Any) -> Session:
        """As `medseg.engine.remote.open_network`, or the session that is already open."""
        key = (model.sha256, device, *sorted(options.items(), key=str))
        session = self._sessions.pop(key, None)
        if session is not None and session.fell_back:
            # It ran out of memory once, or its server failed; what was asked for is tried again for this volume.
            session.close()
            session = None
        if session is None:
            session = open_network(model, device, monitor=monitor, **options)
        else:
            session.attach(monitor)
        self._sessions[key] = session
        while len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)[1].close()
        return session

    def clear(self) -> None:
        """Close all, for example after an error that may have left one broken."""
        while self._sessions:
            self._sessions.popitem()[1].close()
