"""Files that ITK reads (NRRD, MetaImage, pictures, compressed DICOM), read in a process of their own.

ITK's readers are native code; a damaged file that slips past `headers` and crashes one costs this file, not the batch.
The process is started with the first such file (about half a second) and serves all that follow.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, OutputError
from ..scratch import temporary
from ._common import SUPPORTED, Array
from .headers import check_header

log = logging.getLogger("medseg")
_START = (
    "import os, runpy, sys; sys.path[:0] = sys.argv.pop(1).split(os.pathsep); "
    "runpy.run_module('medseg.io.itk_child', run_name='__main__', alter_sys=True)"
)
# A reader that hangs is ended; a slow disk or a network drive is given its time.
_LEAST_SECONDS, _LEAST_BYTES_A_SECOND = 300.0, 1e6

# What ITK says, and what it means to the person who gave the file.
_ITK_MEANINGS = (
    (
        ("Zero-valued spacing", "Negative spacing"),
        "has a voxel spacing that is zero or not a number; correct the file's header",
    ),
    (
        ("determinant is 0",),
        "has a singular direction matrix (two axes point the same way or one is zero), so voxels have no position "
        "in the patient; correct the file's header",
    ),
    (
        ("got only", "bytes but received", "not read completely", "File cannot be read", "truncated", "unexpected end"),
        "is truncated or damaged: it has less image data than its header says; copy or export it again",
    ),
    (
        ("matrix space", "Unable to determine ImageIO", "magic"),
        "is not an image of the format that its name says; check what the file is",
    ),
    (
        ("doesn't match dimension of space",),
        "is a 2D image in a 3D space, which cannot be read; save it as a 3D volume of one slice",
    ),
)


@dataclass(frozen=True, eq=False)
class ItkImage:
    """What ITK read: ``array`` with axes reversed (..., K, J, I[, components]); the rest in ITK's order (i, j, k, ...).

    ``direction`` is a square matrix; ``spacing`` and ``origin`` are in mm, LPS.
    """

    array: Array
    pixel_type: str
    components: int
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Array
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return len(self.size)


def read_itk(path: Path) -> ItkImage:
    """The image in ``path``; `InputError` where it cannot be read, also where reading it ends the reading process."""
    check_header(path)
    with temporary(bytes_in_memory=0) as folder:
        voxels = folder / "voxels"
        seconds = _LEAST_SECONDS + path.stat().st_size / _LEAST_BYTES_A_SECOND
        answer = _child.ask({"path": str(path.absolute()), "array": str(voxels)}, seconds)
        if answer is None:
            raise InputError(
                f"{path.name} made the image reader crash or hang: it is damaged in a way that the reader does not "
                "expect; copy or export it again, or convert it with another program."
            )
        if "error" in answer:
            raise itk_error(path, answer["error"]) from RuntimeError(answer["error"])
        if "memory" in answer:
            raise InputError(f"{path.name} does not fit into the memory of this machine.")
        if "disk" in answer:
            raise OutputError(f"{path.name} was not read: the folder for temporary files: {answer['disk']}.")
        if "complex" in answer["pixel_type"]:
            raise InputError(f"{path.name} has complex values; save their magnitude.")
        array = np.fromfile(voxels, np.dtype(answer["dtype"])).reshape(answer["shape"])
    n = len(answer["size"])
    return ItkImage(
        array,
        answer["pixel_type"],
        answer["components"],
        tuple(answer["size"]),
        tuple(answer["spacing"]),
        tuple(answer["origin"]),
        np.array(answer["direction"]).reshape(n, n),
        answer["metadata"],
    )


def itk_error(path: Path, text: str) -> InputError:
    """The sentence for what ITK could not read; ITK's own text goes to the log."""
    log.debug("ITK on %s: %s", path.name, text)
    for signs, meaning in _ITK_MEANINGS:
        if any(sign in text for sign in signs):
            return InputError(f"{path.name} {meaning}.")
    return InputError(
        f"{path.name} cannot be read: it is damaged or of a kind that is not supported ({SUPPORTED} are)."
    )


class _Child:
    """The reading process, started when it is needed and again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()

    def ask(self, request: dict[str, str], seconds: float) -> dict[str, Any] | None:
        """The child's answer, or None where the request ended it or was not answered within ``seconds``."""
        with self._one_at_a_time:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._process = self._start()
            assert process.stdin is not None and process.stdout is not None
            limit = threading.Timer(seconds, process.kill)
            limit.start()
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except BrokenPipeError:
                line = b""
            except BaseException:  # cancelled half way: the next answer would be this request's
                self.end()
                raise
            finally:
                limit.cancel()
            if not line:
                log.debug("the reading process ended with code %s", process.wait())
                self._process = None
                return None
            answer: dict[str, Any] = json.loads(line)
            return answer

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        # In 3D Slicer's own process the interpreter is PythonSlicer, which may set PYTHONPATH itself.
        python = shutil.which("PythonSlicer") or sys.executable
        paths = os.pathsep.join(p for p in sys.path if p)
        return subprocess.Popen(
            [python, "-c", _START, paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> None:
        """Stop the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


_child = _Child()
atexit.register(_child.end)
