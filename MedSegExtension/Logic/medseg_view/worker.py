"""The page's end of the worker process (`medseg.worker`), which reads the files and runs the models.

A file that crashes a reader, or a network that takes all memory, ends that process and not the page.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from medseg.errors import Cancelled, MedSegError

#: A message holds tables; a line may be long.
_LONGEST_LINE = 1 << 28
#: What a run gets to stop by itself.
CANCEL_SECONDS = 1.5

OnMessage = Callable[[dict[str, Any]], None]


class WorkerProcess:
    """One request at a time. ``home``: the private folder, which the worker removes should this process be killed."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self._number = 0
        self._lock = asyncio.Lock()
        self._cancelled = False

    async def ask(self, command: str, on_message: OnMessage, **content: Any) -> dict[str, Any]:
        """The answer to a request; ``on_message`` hears progress, warnings and notes.

        Raises `Cancelled`, and `MedSegError` with the worker's sentence, or with why it ended.
        """
        async with self._lock:
            self._cancelled = False
            process = await self._started()
            self._number += 1
            self._send(process, {"id": self._number, "command": command, **content})
            while line := await self._line(process):
                message = json.loads(line)
                if message.get("id") != self._number:
                    continue
                kind = message["type"]
                if kind in ("result", "answer"):
                    answer: dict[str, Any] = message[kind]
                    return answer
                if kind == "error":
                    raise (Cancelled if message["kind"] == "Cancelled" else MedSegError)(message["message"])
                on_message(message)
            code = await process.wait()
            self._process = None
            if self._cancelled:
                raise Cancelled("The run was cancelled.")
            raise MedSegError(_why(code))

    async def cancel(self) -> None:
        """Stop the request under way, within two seconds."""
        process, number = self._process, self._number
        if process is None or not self._lock.locked():
            return
        self._cancelled = True
        self._send(process, {"command": "cancel", "run": number})
        await asyncio.sleep(CANCEL_SECONDS)
        if self._lock.locked() and self._number == number and process.returncode is None:
            process.kill()

    async def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        # What libraries leave in the temporary folder goes with ours.
        environment.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self._home)))
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "medseg.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, limit=_LONGEST_LINE,
        )  # fmt: skip
        self._send(process, {"command": "expect", "folder": str(self._home)})
        return process

    @staticmethod
    async def _line(process: asyncio.subprocess.Process) -> bytes:
        assert process.stdout is not None
        return await process.stdout.readline()

    @staticmethod
    def _send(process: asyncio.subprocess.Process, message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with suppress(ConnectionError):  # it has ended: the next line that is read says so
            process.stdin.write(json.dumps(message).encode() + b"\n")


def _why(code: int) -> str:
    """Why the worker ended, and what to do."""
    if code == -9:
        return "The worker process was ended by the system, most often because memory ran out. Close other programs."
    return f"The worker process ended unexpectedly (code {code}): the file may be damaged. Try another copy of it."
