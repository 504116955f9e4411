"""A Python environment that exists for one conversion and vanishes after it.

TensorFlow and PyTorch have no place in Slicer's Python. They are installed at pinned versions into a temporary virtual
environment, a script that imports nothing of MedSeg runs there, and the whole is removed, whatever happens.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError, ModelError
from ...monitor import Monitor

HERE = Path(__file__).resolve().parent
_FOREIGN_CODE = ("PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "LD_PRELOAD")
_INSTALLING = 80
_HOME = ("PYTHONHOME", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Interpreter:
    """How to run a script: the words before its name, and the child's variables.

    ``share``: percent of the conversion's time that making the environment took, for the progress.
    """

    command: list[str]
    variables: dict[str, str]
    share: int = 0


@contextmanager
def environment(
    requirements: str, modules: str, *, python: Path | None, wheels: Path | None, monitor: Monitor
) -> Iterator[Interpreter]:
    """An interpreter that has ``requirements`` (a file name in this folder).

    ``python``: an interpreter that the user says has them; only tried (``modules``: what must be importable), never
    changed. ``wheels``: install from this folder, without network. A throw-away environment needs about 1.5 GB for
    the time of the conversion. Raises `InputError` where there is no such environment, `Cancelled`.
    """
    if python is not None:
        yield Interpreter([str(given_environment(python, modules)), "-I"], clean_environment())
        return
    with tempfile.TemporaryDirectory(prefix="medseg-convert-") as folder:
        place, base = Path(folder), _base_python()
        try:
            if bound_to_its_home(base):
                yield install_beside(base, place / "site", HERE / requirements, wheels, monitor)
            else:
                made = make_environment(place / "venv", HERE / requirements, wheels, monitor)
                yield Interpreter([str(made), "-I"], clean_environment(), _INSTALLING)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def bound_to_its_home(python: str) -> bool:
    """Whether an interpreter only runs with variables that its launcher sets, as Slicer's does: no copy of it works."""
    return "PYTHONHOME" in os.environ or Path(python).name.lower().startswith(("python-real", "pythonslicer"))


def given_environment(python: Path, modules: str) -> Path:
    """The interpreter that ``python`` (or the environment folder) is; `InputError` where it lacks ``modules``."""
    chosen = python
    if python.is_dir():
        found = [p for p in (python / "bin" / "python", python / "Scripts" / "python.exe") if p.exists()]
        if not found:
            raise InputError(f"{python} is no Python environment: there is no bin/python in it.")
        chosen = found[0]
    if not chosen.exists():
        raise InputError(f"{python}: there is no such interpreter or environment.")
    run = subprocess.run(
        [str(chosen), "-c", f"import {modules}"], capture_output=True, text=True, env=clean_environment(), check=False
    )
    if run.returncode:
        raise InputError(f"{python} lacks what the conversion needs ({modules}): {last_line(run.stderr)}")
    return chosen


def _base_python() -> str:
    """An interpreter that can make environments: in Slicer it is PythonSlicer, not the application."""
    if Path(sys.executable).name.lower().startswith("python"):
        return sys.executable
    for name in ("PythonSlicer", "python-real", "python3", "python"):
        for folder in (Path(sys.prefix) / "bin", Path(sys.executable).parent, Path(sys.prefix)):
            for candidate in (folder / name, folder / f"{name}.exe"):
                if candidate.is_file():
                    return str(candidate)
    found = shutil.which("python3") or shutil.which("python")
    if not found:
        raise InputError("No Python interpreter was found for the conversion; name one as the environment.")
    return found


def make_environment(folder: Path, requirements: Path, wheels: Path | None, monitor: Monitor) -> Path:
    """Make a virtual environment in ``folder`` with the ``requirements`` file; its interpreter."""
    monitor.progress(0, 100, "making a throw-away environment")
    run_child([_base_python(), "-m", "venv", str(folder)], monitor, "The throw-away environment could not be made")
    python = next(p for p in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if p.exists())
    _install([str(python), "-m", "pip", "install"], requirements, wheels, monitor, clean_environment())
    return python


def install_beside(python: str, folder: Path, requirements: Path, wheels: Path | None, monitor: Monitor) -> Interpreter:
    """``python`` itself with the ``requirements`` in ``folder``; its own packages are out of sight and not touched."""
    variables = clean_environment(keep_home=True)
    _install([python, "-m", "pip", "install", "--target", str(folder)], requirements, wheels, monitor, variables)
    # -S: without the interpreter's own site-packages, so that only the pinned versions are seen.
    return Interpreter([python, "-S", "-s"], {**variables, "PYTHONPATH": str(folder)}, _INSTALLING)


def _install(
    command: list[str], requirements: Path, wheels: Path | None, monitor: Monitor, variables: dict[str, str]
) -> None:
    command = [*command, "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
    command += ["--progress-bar", "off", "--requirement", str(requirements)]
    if wheels is not None:
        if not wheels.is_dir():
            raise InputError(f"{wheels}: there is no such folder of wheels.")
        command += ["--no-index", "--find-links", str(wheels)]
    done = 0

    def line(text: str) -> None:
        nonlocal done
        if text.startswith(("Collecting", "Downloading", "Installing", "Using cached", "Processing")):
            done += 1
            monitor.progress(min(done, 80), 100, " ".join(text.split()[:2]))

    hint = (
        "The conversion's libraries could not be installed (no network, or no version for this Python or computer). "
        "Give a folder of wheels, or an environment that has them"
    )
    run_child(command, monitor, hint, on_line=line, variables=variables)


def clean_environment(*, keep_home: bool = False) -> dict[str, str]:
    """The variables of a child: the user's, without what would make it load other code, and quiet.

    ``keep_home``: with what an interpreter needs that only runs under its launcher.
    """
    dropped = _FOREIGN_CODE if keep_home else _FOREIGN_CODE + _HOME
    kept = {k: v for k, v in os.environ.items() if k not in dropped}
    kept |= {"PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}
    # No graphics card: a conversion is small, and its numbers should not depend on one.
    kept |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    return kept


def run_child(
    command: list[str],
    monitor: Monitor,
    failure: str,
    *,
    on_line: Callable[[str], None] | None = None,
    variables: dict[str, str] | None = None,
) -> None:
    """Run ``command`` to its end; `ModelError` of ``failure`` and its last words; ended at once on cancel."""
    last: deque[str] = deque(maxlen=200)
    spoken: queue.SimpleQueue[str] = queue.SimpleQueue()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        env=variables or clean_environment(), stdin=subprocess.DEVNULL, start_new_session=os.name != "nt",
    ) as child:  # fmt: skip

        def read() -> None:
            assert child.stdout is not None
            for text in child.stdout:
                last.append(text.rstrip())
                spoken.put(text.rstrip())

        def drain() -> None:
            while not spoken.empty():
                text = spoken.get()
                if on_line is not None:
                    on_line(text)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            with monitor.on_cancel(lambda: _end(child)):
                while child.poll() is None:
                    time.sleep(0.05)
                    drain()
                    monitor.checkpoint()
        except BaseException:
            _end(child)
            raise
        reader.join(timeout=5)
        drain()
    if child.returncode:
        raise ModelError(f"{failure}: {_reason(list(last))}")


def _end(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if os.name != "nt":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def _reason(lines: list[str]) -> str:
    """The script's own sentence, else its last line."""
    own = [text.removeprefix("refused: ") for text in lines if text.startswith("refused: ")]
    return own[-1] if own else last_line("\n".join(lines))


def last_line(text: str) -> str:
    """The last line that is not empty, at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "it said nothing")[:300]


def run_script(
    interpreter: Interpreter, script: str, request: dict[str, Any], folder: Path, monitor: Monitor, failure: str
) -> dict[str, Any]:
    """Run ``script`` (in this folder) with ``request`` as JSON file in ``folder``; its answer, JSON too."""
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(request), encoding="utf-8")

    def line(text: str) -> None:
        found = re.fullmatch(r"progress: (?:(\d+)/(\d+) )?(.*)", text)
        if found is None:
            return
        done, total = (int(found[1]), max(int(found[2]), 1)) if found[1] else (1, 2)
        monitor.progress(round(interpreter.share + (95 - interpreter.share) * done / total), 100, found[3])

    command = [*interpreter.command, str(HERE / script), str(asked), str(answered)]
    run_child(command, monitor, failure, on_line=line, variables=interpreter.variables)
    answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    return answer
