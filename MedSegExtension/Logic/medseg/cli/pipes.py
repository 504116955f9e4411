"""Output that nobody reads any more (``| head -1``): the command ends quietly, as one that SIGPIPE ends.

The signal itself would also end a run for a server that hangs up, and leave its files behind.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

#: 128 and the number of SIGPIPE, as shells tell it.
CLOSED = 141


class _Output(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            raise SystemExit(CLOSED) from None


def output(number: int, encoding: str = "utf-8", errors: str = "strict", *, lines: bool = False) -> TextIO:
    """A stream to the file ``number``, which it does not close; ``lines``: each is written at once.

    Writing to it raises ``SystemExit`` with the code `CLOSED`, once, where nobody reads it any more.
    """
    raw = io.BufferedWriter(_Output(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding, errors, line_buffering=lines)


def watch() -> None:
    """Put such streams in the place of stdout and stderr."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        lines = name == "stderr" or stream.isatty()
        setattr(sys, name, output(stream.fileno(), stream.encoding, stream.errors, lines=lines))
