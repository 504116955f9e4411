"""Sessions that stay open between runs: a second run of the same model on the same device starts at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from ..model.package import Model
from ..monitor import Monitor
from .remote import RemoteSession, open_network
from .server import Server, ServerDown
from .session import Session

#: A server that failed is not asked again for so many seconds: each try may cost a case minutes of waiting.
REST_SECONDS = 60.0


class SessionCache:
    """The last opened sessions, by model, device and precision; the oldest is closed where there are too many.

    A server that failed rests for `REST_SECONDS`: meanwhile its rule is followed at once, which each run is told.
    """

    def __init__(self, limit: int = 2) -> None:
        self._sessions: OrderedDict[tuple[Any, ...], Session] = OrderedDict()
        self._limit = limit
        # By address: when it failed, and how.
        self._down: dict[str, tuple[float, str]] = {}

    def open(self, model: Model, device: str = "auto", *, monitor: Monitor, **options: Any) -> Session:
        """As `medseg.engine.remote.open_network`, or the session that is already open."""
        server: Server | None = options.get("server")
        if server is not None:
            for one in self._sessions.values():
                self._remember(one)
            if self._rests(server, monitor):
                options.pop("server")
        key = (model.sha256, device, *sorted(options.items(), key=str))
        session = self._sessions.pop(key, None)
        if session is not None and session.fell_back:
            # It ran out of memory once, or its server failed; what was asked for is tried again for this volume.
            session.close()
            session = None
        if session is None:
            try:
                session = open_network(model, device, monitor=monitor, **options)
            except ServerDown as error:
                if server is not None:
                    self._down[server.url] = (time.monotonic(), str(error))
                raise
        else:
            session.attach(monitor)
        self._sessions[key] = session
        while len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)[1].close()
        return session

    def clear(self) -> None:
        """Close all, for example after an error that may have left one broken."""
        while self._sessions:
            session = self._sessions.popitem()[1]
            self._remember(session)
            session.close()

    def _remember(self, session: Session) -> None:
        if isinstance(session, RemoteSession) and session.down is not None:
            url, (when, how) = session.server.url, session.down
            if when > self._down.get(url, (0.0, ""))[0]:
                self._down[url] = (when, how)

    def _rests(self, server: Server, monitor: Monitor) -> bool:
        """True where this computer is to run in place of ``server``; `ServerDown` where the rule is ``error``."""
        when, how = self._down.get(server.url, (0.0, ""))
        if not how:
            return False
        ago = time.monotonic() - when
        if ago >= REST_SECONDS:
            del self._down[server.url]
            return False
        told = f"{how} That was {ago:.0f} s ago; it is asked again after {REST_SECONDS:.0f} s."
        if server.fallback == "error":
            raise ServerDown(told)
        monitor.warn(f"{told} This computer runs the network, as the fall-back rule local says.")
        return True
