"""Results that are written while the next case runs: one at a time, and never half of one.

A result is in its folder when it is whole (`medseg.output.folder`). On Ctrl-C the one that is being written while the
next case runs is kept, without what its sinks had not finished; the one that is waited for is not.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..monitor import Event, Monitor
from .interrupt import claimed

if TYPE_CHECKING:
    from ..geometry.volume import Volume
    from ..model.package import Model
    from ..result import Result
    from .console import Command


class Writing:
    """One result on its way into ``folder``; `finish` waits for it. ``check``: called when it is written; may raise."""

    def __init__(
        self, command: Command, folder: Path, monitor: Monitor, result: Result, check: Callable[[], None] | None = None
    ) -> None:
        self.folder = folder
        self.result = result
        self.behind = False
        self._command = command
        self._monitor = monitor.continued(self._tell)
        self._check = check
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def begin(self, volume: Volume, model: Model, *, force: bool, sinks: Any) -> None:
        """Start to write; ``sinks`` as `medseg.output.folder.write_result` takes them."""
        self._command.cancelling.append(self._monitor.cancel)
        self._thread = threading.Thread(
            target=self._run, args=(volume, model, force, sinks), name="medseg-write", daemon=True
        )
        self._thread.start()

    def fall_behind(self) -> None:
        """The next case begins: from now on Ctrl-C costs what the sinks make, not the result."""
        self.behind = True

    def wait(self) -> None:
        """Until it is written or has failed."""
        if self._thread is not None:
            self._thread.join()

    def finish(self) -> dict[str, Any]:
        """The summary of the written result (``result.json``). Raises what writing raised."""
        self.wait()
        with suppress(ValueError):
            self._command.cancelling.remove(self._monitor.cancel)
        if self._error is not None:
            raise self._error
        summary: dict[str, Any] = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        return summary

    def _run(self, volume: Volume, model: Model, force: bool, sinks: Any) -> None:
        from ..output.folder import write_result

        try:
            with claimed(self.folder, self._command.on_abandon):
                write_result(
                    self.result, self.folder, volume=volume, model=model, force=force, monitor=self._monitor,
                    sinks=sinks, keep=lambda: self.behind,
                )  # fmt: skip
            if self._check is not None:
                self._check()
        except BaseException as error:  # raised by `finish`
            self._error = error

    def _tell(self, event: Event) -> None:
        # While the next case runs the progress shown is that case's.
        if event.kind in ("warning", "note") or not self.behind:
            self._command.reporter(event)


class OneBehind:
    """Takes results to write; at most one is written while the next case runs."""

    def __init__(self) -> None:
        self._open: list[tuple[Writing, Callable[[Writing], None]]] = []

    def begin(self, writing: Writing, then: Callable[[Writing], None], **how: Any) -> None:
        """Start ``writing`` once the one before is done; ``then`` is called with it by `settle`."""
        for earlier, _ in self._open:
            earlier.wait()
        writing.begin(**how)
        self._open.append((writing, then))

    def settle(self, *, all_but: int = 0) -> None:
        """Wait for the results and call their ``then``, except for the last ``all_but``, which fall behind."""
        while len(self._open) > all_but:
            writing, then = self._open.pop(0)
            writing.wait()
            then(writing)
        for writing, _ in self._open:
            writing.fall_behind()
