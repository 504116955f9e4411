"""One long request in a worker process of its own, so that it waits for no run and no run for it; it ends with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .process import QtWorkerProcess


class Errand:
    """``command``: of the worker. One of ``on_answer(answer)`` and ``on_error(sentence)`` is called, unless cancelled.

    ``on_progress(text, fraction or None)`` is called before. ``warnings``: what the worker warned of so far.
    """

    def __init__(
        self,
        command: str,
        on_answer: Callable[[dict[str, Any]], None],
        on_error: Callable[[str], None],
        on_progress: Callable[[str, float | None], None],
        **content: Any,
    ) -> None:
        self._on_answer, self._on_error, self._on_progress = on_answer, on_error, on_progress
        self.warnings: list[str] = []
        self._process: QtWorkerProcess | None = QtWorkerProcess(self._message, self._ended)
        self._process.start()
        self._process.send({"id": 1, "command": command, **content})

    def cancel(self) -> None:
        """End it at once; nothing is called any more."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.close()

    def _message(self, message: dict[str, Any]) -> None:
        if self._process is None:
            return
        kind = message.get("type")
        if kind == "progress":
            self._on_progress(str(message["text"]), message["fraction"])
        elif kind == "warning":
            self.warnings.append(str(message["text"]))
        elif kind == "answer":
            self.cancel()
            self._on_answer(message["answer"])
        elif kind == "error":
            self.cancel()
            self._on_error(str(message["message"]))

    def _ended(self, code: int, crashed: bool, stderr: str) -> None:
        if self._process is None:
            return
        self._process = None
        tail = stderr.strip().splitlines()[-1][:200] if stderr.strip() else ""
        words = _("The process that did this ended unexpectedly (code {code}), often because memory ran out. {tail}")
        self._on_error(words.format(code=code, tail=tail).strip())
