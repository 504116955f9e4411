"""Small networks that take a whole volume: opened for each run, so that what the run took in memory goes with it.

ONNX Runtime's arena makes such a run a fifth faster, but keeps its hundreds of megabytes until the session is closed.
Opening one of these networks takes milliseconds. Where memory does not suffice for it, they run without.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .machine import memory_ran_out

# Opened in about 20 ms; the weights are there three times during a run.
_SMALL_BYTES = 16 << 20
# The key by which an ONNX file names another file with weights.
_WEIGHTS_ELSEWHERE = b"location"


def small_network(path: Path) -> bytes | None:
    """The ONNX file ``path``, where it is small and has its weights in it, else None."""
    if path.stat().st_size > _SMALL_BYTES:
        return None
    network = path.read_bytes()
    return None if _WEIGHTS_ELSEWHERE in network else network


class Reopened:
    """Stands for an ``onnxruntime.InferenceSession``. ``make`` opens one; the first never runs, so it takes little.

    ``make_frugal``: one without the arena, which needs less memory. ``tell`` hears where that is needed.
    """

    def __init__(self, make: Callable[[], Any], make_frugal: Callable[[], Any], tell: Callable[[str], None]) -> None:
        self._make, self._make_frugal, self._tell = make, make_frugal, tell
        first = make()
        self.get_inputs, self.get_outputs, self.get_providers = first.get_inputs, first.get_outputs, first.get_providers

    def run(self, names: list[str], feeds: dict[str, Any], options: Any) -> list[Any]:
        """As ``InferenceSession.run``."""
        try:
            return self._run(names, feeds, options)
        except Exception as error:
            if self._make is self._make_frugal or not memory_ran_out(error):
                raise
        self._tell("Memory is short: the network runs with less of it, which takes longer.")
        self._make = self._make_frugal
        return self._run(names, feeds, options)

    def _run(self, names: list[str], feeds: dict[str, Any], options: Any) -> list[Any]:
        session = self._make()
        try:
            return list(session.run(names, feeds, options))
        except Exception as error:
            # Its frames hold the session for as long as someone holds the error, just when memory is short.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            del session
