"""How many threads work that is bound by the processor is worth."""

from __future__ import annotations

import os

_MOST_THREADS = 8


def cores() -> int:
    """Cores that this process may use, at least one and at most eight."""
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, count))
