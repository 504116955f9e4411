"""Times of a review: what a reader spends on a case, without the time away from it; when a drawing is to be saved."""

from __future__ import annotations

import math


class ReadingTimer:
    """Counts seconds between signs of life. Times are of one monotonic clock that the caller reads."""

    def __init__(self, seconds: float = 0.0, idle_after: float = 60.0) -> None:
        """``seconds``: spent earlier. A pause longer than ``idle_after`` counts as ``idle_after`` seconds."""
        self._spent, self._idle = seconds, idle_after
        self._last: float | None = None

    def active(self, now: float) -> None:
        """The reader did something: a key, the mouse, a slice."""
        self._spent = self.seconds(now)
        self._last = now

    def stop(self, now: float) -> None:
        """The case was left."""
        self._spent = self.seconds(now)
        self._last = None

    def seconds(self, now: float) -> float:
        """Spent so far."""
        return self._spent if self._last is None else self._spent + min(max(0.0, now - self._last), self._idle)

    def idle(self, now: float) -> bool:
        """True while the timer stands."""
        return self._last is None or now - self._last > self._idle


class Autosave:
    """Says when an unsaved drawing must be written, so that at most ``every`` seconds of it can be lost."""

    def __init__(self, every: float = 60.0) -> None:
        self._every, self._since = every, math.inf

    def drawn(self, now: float) -> None:
        """A voxel was changed."""
        self._since = min(self._since, now)

    def saved(self) -> None:
        """All that was drawn is written."""
        self._since = math.inf

    def due(self, now: float) -> bool:
        """True where it is time to save."""
        return now - self._since >= self._every
