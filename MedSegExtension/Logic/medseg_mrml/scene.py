"""The sink that adds ``scene.mrb`` and ``preview.png`` to a result folder (entry point ``medseg.sinks``).

This module loads neither slicer nor vtk: the work is done in a child process (`medseg_mrml.scene_child`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg.geometry.volume import Volume
from medseg.monitor import Monitor
from medseg.result import Result

from .scene_job import PREVIEW_FILE, SCENE_FILE, Job

TIMEOUT_SECONDS = 300.0
_LINUX_PACKAGES = "on Linux it needs the system packages libegl1 and libgl1-mesa-dri"
CHILD = ["-m", "medseg_mrml.scene_child"]
_CT_WINDOW = (40.0, 400.0)


def write_scene(result: Result, volume: Volume, folder: str | Path, model: Any, monitor: Monitor) -> None:
    """Make ``scene.mrb`` and ``preview.png`` of ``result`` in ``folder``; what cannot be made is a warning.

    ``model``: its manifest's first display window is how the volume is shown; may be None.
    """
    wanted = (SCENE_FILE, PREVIEW_FILE)
    if importlib.util.find_spec("slicer") is None:
        monitor.warn(
            f"{' and '.join(wanted)} were not made: they need 3D Slicer's MRML library. Install it with: "
            f"pip install slicer-core ({_LINUX_PACKAGES})."
        )
        return
    shown = replace(volume, stack=None, tags={})
    light = Result(result.grid, result.layers, {}, result.tables, {"model": result.provenance.get("model", {})},
                   plane=result.plane)  # fmt: skip
    told = result.provenance
    title = str(told.get("model", {}).get("title") or told.get("title") or "MedSeg result")
    job = Job(light, shown, str(Path(folder).absolute()), title, display_window(volume, model))
    made, reason = _run_child(pickle.dumps(job, protocol=5), monitor)
    missing = [name for name in wanted if name not in made]
    for name in missing:
        (Path(folder) / name).unlink(missing_ok=True)
    if missing:
        monitor.warn(f"{' and '.join(missing)} could not be made: {reason}. The segmentation and tables are complete.")


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


def _run_child(job: bytes, monitor: Monitor) -> tuple[set[str], str]:
    """Files that the child finished, and why it did not finish the others."""
    child = subprocess.Popen(
        [sys.executable, *CHILD],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(),
    )  # fmt: skip
    try:
        with monitor.on_cancel(child.kill):
            try:
                out, err = child.communicate(job, timeout=TIMEOUT_SECONDS)
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
    return made, failed


def _environment() -> dict[str, str]:
    """The child's environment: this process's import path, and rendering that needs no screen."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    if sys.platform.startswith("linux"):
        environment.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    return environment
