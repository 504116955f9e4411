"""A second Slicer, started by a check with a script of its own; what it says is read as it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import common
import slicer


class AnotherSlicer:
    """Runs a script of this folder; a context manager, which ends it. ``environment``: variables set for it."""

    def __init__(self, script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        launcher = str(slicer.app.launcherExecutableFilePath or "")
        behind = launcher if launcher and Path(launcher).is_file() else str(slicer.app.applicationFilePath())
        own = slicer.util.startupEnvironment() if behind == launcher else dict(os.environ)
        command = [behind, "--no-splash", "--disable-settings", "--python-script", str(common.HERE / script)]
        number, name = tempfile.mkstemp(suffix=".log")
        self._output, self._log = os.fdopen(number, "w"), Path(name)
        self._process = subprocess.Popen(
            [*command, *arguments], env={**own, **(environment or {})}, stdout=self._output, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> AnotherSlicer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._output.close()
        self._log.unlink(missing_ok=True)

    @property
    def lines(self) -> list[str]:
        """What it said so far."""
        return self._log.read_text("utf-8", errors="replace").splitlines()

    def said(self, start: str) -> list[str]:
        """Its lines that begin with ``start``, without that."""
        return [line.removeprefix(start).strip() for line in self.lines if line.startswith(start)]

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self._process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.wait(20)

    def ended(self, seconds: float) -> int:
        """Wait for its end; its exit code."""
        if not common.wait(lambda: self._process.poll() is not None, seconds, 200):
            raise AssertionError(f"the second Slicer did not end in {seconds:g} s:\n" + "\n".join(self.lines[-30:]))
        return int(self._process.returncode)
