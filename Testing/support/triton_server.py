"""A real Triton Inference Server on this machine, for tests: found, given a model repository, started, killed.

``MEDSEG_TRITON`` names a Python that has ``nvidia-pytriton`` (which carries the server) and ``onnxruntime``, or an
executable ``tritonserver`` with its ONNX Runtime backend; without it the PATH is searched for ``tritonserver``.
With Debian: ``/usr/bin/python3 -m venv env && env/bin/pip install nvidia-pytriton onnxruntime``, and ``libpython3.11``;
a Python built without a shared library cannot run that server's Python backend.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

VARIABLE = "MEDSEG_TRITON"
_START_SECONDS = 120.0
_WHERE = (
    "import json, pathlib, pytriton, sys, sysconfig; import onnxruntime; "
    "print(json.dumps([str(pathlib.Path(pytriton.__file__).parent / 'tritonserver'), sysconfig.get_path('purelib'), "
    "'.'.join(map(str, sys.version_info[:2]))]))"
)


class Triton:
    """The server; ``backend`` is what a network must be exported for. Skips the test where there is none."""

    def __init__(self) -> None:
        named = os.environ.get(VARIABLE) or shutil.which("tritonserver")
        if not named:
            pytest.skip(f"no Triton server is installed; {VARIABLE} names one (see support/triton_server.py)")
        self.environment = dict(os.environ)
        self.arguments: list[str] = []
        self.backend = "onnxruntime"
        self.program = named
        if "python" in Path(named).name:
            self._pytriton(named)
        self.process: subprocess.Popen[bytes] | None = None

    def _pytriton(self, python: str) -> None:
        found = subprocess.run([python, "-c", _WHERE], capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.fail(f"{VARIABLE}: {python} lacks nvidia-pytriton or onnxruntime: {found.stderr[-300:]}")
        home, packages, version = json.loads(found.stdout)
        self.program, self.backend = f"{home}/bin/tritonserver", "python"
        stub = Path(home) / "python_backend_stubs" / version / "triton_python_backend_stub"
        place = Path(home) / "backends" / "python" / stub.name  # where the backend looks for it
        if not place.exists():
            shutil.copy(stub, place)
        self.arguments = [f"--backend-directory={home}/backends"]
        self.environment["PYTHONPATH"] = packages
        self.environment["PATH"] = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"

    def start(self, repository: Path, log: Path) -> str:
        """Serve ``repository``; the address, when all its networks are ready."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            self.program, f"--model-repository={repository}", "--http-address=127.0.0.1", f"--http-port={port}",
            "--allow-grpc=false", "--allow-metrics=false", *self.arguments,
        ]  # fmt: skip
        with log.open("wb") as file:
            # A group of its own: the processes that run the networks would outlive a server that is killed.
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
        address, end = f"http://127.0.0.1:{port}", time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{address}/v2/health/ready", timeout=2) as answer:
                    if answer.status == 200:
                        return address
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        self.kill()
        raise AssertionError(f"Triton did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End it and what it started, as a power cut does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
