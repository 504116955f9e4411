"""The sink that adds ``scene.mrb`` and ``preview.png`` to a result folder (entry point ``medseg.sinks``).

This module loads neither slicer nor vtk: the work is done in a child process (`medseg_mrml.scene_child`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.geometry.volume import Volume
from medseg.monitor import Monitor
from medseg.result import Result

from .scene_job import SCENE_FILE, Job, pack_job

TIMEOUT_SECONDS = 300.0
_LINUX_PACKAGES = "on Linux it needs the system packages libegl1 and libgl1-mesa-dri"
CHILD = ["-m", "medseg_mrml.scene_child"]
_CT_WINDOW = (40.0, 400.0)

_ready: list[subprocess.Popen[bytes]] = []
_lock = threading.Lock()


def get_ready() -> None:
    """Start the child process now, so that it has loaded its libraries when `write_scene` needs it.

    That takes more than a second of one core. The child ends by itself when this process ends or `stop` is called.
    """
    with _lock:
        if not _ready and importlib.util.find_spec("slicer") is not None:
            _ready.append(_start())


def stop() -> None:
    """End the child that `get_ready` started, if it was not used."""
    with _lock:
        children, _ready[:] = list(_ready), []
    for child in children:
        child.kill()
        child.communicate()


def write_scene(
    result: Result, volume: Volume, folder: str | Path, model: Any, monitor: Monitor, *, preview: bool = True
) -> None:
    """Make ``scene.mrb`` and (with ``preview``) ``preview.png`` of ``result`` in ``folder``; what cannot be made is a
    warning.

    ``model``: its manifest's first display window is how the volume is shown; may be None.
    """
    shown = replace(volume, stack=None, tags={})
    light = Result(result.grid, result.layers, {}, result.tables, {"model": result.provenance.get("model", {})},
                   plane=result.plane)  # fmt: skip
    told = result.provenance
    title = str(told.get("model", {}).get("title") or told.get("title") or "MedSeg result")
    window = display_window(volume, model)
    job = Job(light, shown, str(Path(folder).absolute()), title, window, preview=preview)
    wanted = job.wanted
    if importlib.util.find_spec("slicer") is None:
        monitor.warn(
            f"{' and '.join(wanted)} were not made: they need 3D Slicer's MRML library. Install it with: "
            f"pip install slicer-core ({_LINUX_PACKAGES})."
        )
        return
    made, crashed, reason = _run_child(job, monitor)
    if crashed and SCENE_FILE not in made and preview:
        # What crashed was most likely the drawing; the scene needs none.
        made |= _run_child(replace(job, preview=False), monitor)[0]
    missing = [name for name in wanted if name not in made]
    for name in missing:
        (Path(folder) / name).unlink(missing_ok=True)
    if missing:
        monitor.warn(f"{' and '.join(missing)} could not be made: {reason}. The segmentation and tables are complete.")


def _without_preview(result: Result, volume: Volume, folder: str | Path, model: Any, monitor: Monitor) -> None:
    """As `write_scene`, without ``preview.png``."""
    write_scene(result, volume, folder, model, monitor, preview=False)


# What the command line asks a sink for (`medseg.output.folder.load_sinks`).
for _name, _function in (("get_ready", get_ready), ("stop", stop), ("without_preview", _without_preview)):
    setattr(write_scene, _name, _function)


def display_window(volume: Volume, model: Any) -> tuple[float, float] | None:
    """(level, width) to show ``volume`` with, in its own units; None for colour.

    In this order: the model's first display window; the DICOM window; 40/400 for CT; the whole range for radiographs;
    else from the 0.5th percentile of all voxels to 1.25 times the 97th of the middle of the image, so that bright fat
    does not darken the organ.
    """
    for step in getattr(getattr(model, "manifest", model), "display_windows", None) or []:
        for window in step.windows:
            return (float(window.level), float(window.width))
    if volume.channels > 1:
        return None
    level, width = volume.tags.get("WindowCenter"), volume.tags.get("WindowWidth")
    if isinstance(level, (int, float)) and isinstance(width, (int, float)) and width > 0:
        return (float(level), float(width))
    if volume.modality == "CT":
        return _CT_WINDOW
    array = volume.array.reshape(volume.grid.shape)
    low, high = float(array.min()), float(array.max())
    if 1 not in array.shape:
        middle = array[tuple(slice(n // 4, n - n // 4) for n in array.shape)]
        thin = tuple(max(1, n // 100) for n in array.shape)
        low = float(np.percentile(array[tuple(slice(None, None, s) for s in thin)], 0.5))
        high = min(high, low + 1.25 * (float(np.percentile(middle, 97)) - low))
    return ((low + high) / 2, high - low) if high > low else None


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *CHILD],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(),
    )  # fmt: skip


def _run_child(job: Job, monitor: Monitor) -> tuple[set[str], bool, str]:
    """Files that the child finished, whether it crashed, and why it did not finish the others."""
    with _lock:
        child = _ready.pop() if _ready else None
    if child is None or child.poll() is not None:
        child = _start()
    try:
        with tempfile.TemporaryDirectory(prefix="medseg-job-") as arrays, monitor.on_cancel(child.kill):
            try:
                out, err = child.communicate(pack_job(job, Path(arrays)), timeout=TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                out, err = child.communicate()
                err += f"\nit took longer than {TIMEOUT_SECONDS:.0f} seconds".encode()
        monitor.checkpoint()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    made, failed = set(), ""
    for line in out.decode("utf-8", "replace").splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        made.update([message["made"]] if "made" in message else [])
        failed = message.get("failed", failed)
    lines = [text for text in err.decode("utf-8", "replace").splitlines() if text.strip()]
    code = child.returncode
    if not failed:
        last = lines[-1].strip() if lines else "no message"
        crash = f"the graphics library ended the process (code {code}); {_LINUX_PACKAGES}"
        failed = crash if code < 0 else last
    return made, code < 0, failed


def _environment() -> dict[str, str]:
    """The child's environment: this process's import path, and rendering that needs no screen."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    if sys.platform.startswith("linux"):
        environment.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    return environment
