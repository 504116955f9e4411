"""What the scripts of this folder share: the module, waiting, the longest gap of the event loop, models and volumes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import qt
import slicer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.real_data import REAL_DATA, REPOSITORY

HERE = Path(__file__).resolve().parent
MODULE = REPOSITORY / "MedSegExtension" / "MedSegExtension.py"
OUTPUT = REPOSITORY / "test-output" / "slicer_app"
HEAVY = ("onnxruntime", "onnx", "pydantic", "SimpleITK", "scipy", "pydicom", "medseg", "medseg_mrml", "medseg_panel")


def load_module() -> float | None:
    """Load the module beside this folder where Slicer has none; the seconds that took, else None."""
    if hasattr(slicer.modules, "medsegextension"):
        return None
    factory = slicer.app.moduleManager().factoryManager()
    start = time.perf_counter()
    factory.registerModule(qt.QFileInfo(str(MODULE)))
    factory.loadModules([MODULE.stem])
    return time.perf_counter() - start


def open_panel() -> Any:
    """Show the module; returns its widget (``.panel``, ``.ui``)."""
    load_module()
    slicer.util.selectModule(MODULE.stem)
    return slicer.modules.MedSegExtensionWidget


def wait(condition: Callable[[], Any], seconds: float, step_ms: int = 20) -> bool:
    """Let Slicer handle events until ``condition()`` is true; False where it is not within ``seconds``."""
    end = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > end:
            return False
        loop = qt.QEventLoop()
        qt.QTimer.singleShot(step_ms, loop.quit)
        loop.exec_()
    return True


def pause(seconds: float) -> None:
    """Let Slicer handle events for a while."""
    wait(lambda: False, seconds)


@dataclass
class Gap:
    """A time without events: seconds, when it began, and how much of it Slicer's main thread computed or queued.

    ``queued``: it could have run, but other processes had the processor (Linux; 0 elsewhere).
    """

    seconds: float
    at: float
    computed: float
    queued: float


class Gaps:
    """The times in which Slicer handled no events, measured by a timer of 10 ms: a context manager."""

    def __enter__(self) -> Gaps:
        self.gaps: list[Gap] = []
        self._last = self._start = time.perf_counter()
        self._used = _processor_times()
        self._timer = qt.QTimer()
        self._timer.setTimerType(qt.Qt.PreciseTimer)
        self._timer.setInterval(10)
        self._timer.connect("timeout()", self._tick)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._tick()

    def _tick(self) -> None:
        now, used = time.perf_counter(), _processor_times()
        computed, queued = (a - b for a, b in zip(used, self._used, strict=True))
        self.gaps.append(Gap(now - self._last, self._last - self._start, computed, queued))
        self._last, self._used = now, used

    @property
    def longest_ms(self) -> float:
        """The longest gap in milliseconds."""
        return 1000 * max(g.seconds for g in self.gaps)

    @property
    def longest_own_ms(self) -> float:
        """The longest gap in milliseconds without the time in which other processes had the processor."""
        return 1000 * max(g.seconds - g.queued for g in self.gaps)

    def worst(self, count: int = 4) -> str:
        """The longest gaps, when they began, and what was computed and queued in them."""
        longest = sorted(self.gaps, key=lambda g: -g.seconds)[:count]
        texts = []
        for gap in longest:
            total, computed, queued = (round(1000 * v) for v in (gap.seconds, gap.computed, gap.queued))
            texts.append(f"{total} ms at {gap.at:.1f} s ({computed} computed, {queued} queued)")
        return "; ".join(texts)


def _processor_times() -> tuple[float, float]:
    """Seconds that this thread ran and that it waited for a processor."""
    try:
        ran, queued, _ = Path("/proc/thread-self/schedstat").read_text("ascii").split()
    except OSError:
        return time.thread_time(), 0.0
    return int(ran) / 1e9, int(queued) / 1e9


def busy() -> str:
    """How busy other programs keep this computer, where that makes waiting times meaningless; "" where it is quiet."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return f"load {load:.1f} on {os.cpu_count()} processors" if load > 1.5 * (os.cpu_count() or 1) else ""


def python() -> str:
    """Slicer's own interpreter."""
    return shutil.which("PythonSlicer") or sys.executable


def make_models() -> Path:
    """A temporary folder of small models, which the panel lists from now on (``MEDSEG_MODELS``)."""
    folder = Path(tempfile.mkdtemp(prefix="medseg-models-"))
    script = Path(__file__).with_name("make_models.py")
    environment = slicer.util.startupEnvironment()
    subprocess.run([python(), str(script), str(folder)], check=True, env=environment)
    real = REAL_DATA / "models" / "meshnet-gwm-light" / "model.onnx"
    if real.exists():
        package = folder / "meshnet-gwm-light"
        package.mkdir()
        shutil.copyfile(real, package / "model.onnx")
        manifest = json.loads((REPOSITORY / "Testing" / "real_models" / "meshnet-gwm-light.json").read_text("utf-8"))
        (package / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    os.environ["MEDSEG_MODELS"] = str(folder)
    return folder


def add_volume(array: np.ndarray, name: str, modality: str, matrix: np.ndarray | None = None) -> Any:
    """A scalar volume node of ``array`` (K, J, I); ``matrix``: 4x4, index to RAS."""
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    if matrix is not None:
        ijk_to_ras = vtk.vtkMatrix4x4()
        ijk_to_ras.DeepCopy([float(v) for v in matrix.ravel()])
        node.SetIJKToRASMatrix(ijk_to_ras)
    node.CreateDefaultDisplayNodes()
    node.SetAttribute("DICOM.Modality", modality)
    return node


def blob(shape: tuple[int, int, int], dtype: type = np.int16) -> np.ndarray:
    """A bright ellipsoid of half the size of the volume (K, J, I) with its centre in the middle, 1000 inside."""
    axes = [np.linspace(-2, 2, n, dtype=np.float32) ** 2 for n in shape]
    distance = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return np.where(distance < 1, 1000, 0).astype(dtype)


def choose(widget: Any, model: str, volume: Any) -> None:
    """Choose a model in the list and a volume in the first selector, as a user does."""
    panel, ui = widget.panel.segment, widget.ui
    panel.model.refresh()
    item = panel.model._items[model]
    ui.modelList.clearSelection()
    ui.modelList.setCurrentItem(item)
    if volume is not None:
        panel.inputs._rows[0][1].setCurrentNode(volume)


def run_ended(widget: Any, seconds: float = 120) -> str:
    """Wait for the end of the run; returns what is written under the bar."""
    if not wait(lambda: not widget.panel.segment.runs.running, seconds):
        return "(the run did not end)"
    return str(widget.ui.progressLabel.text)


def labels_of(segmentation: Any) -> np.ndarray:
    """The labels (K, J, I) of the first layer of a segmentation node, on its own grid."""
    from medseg_mrml.arrays import array_of

    segment = segmentation.GetSegmentation().GetSegment(segmentation.GetSegmentation().GetNthSegmentID(0))
    return array_of(segment.GetRepresentation("Binary labelmap"))


def make_room() -> None:
    """A window of the size of the screen, without the data probe, so that the panel shows more."""
    window = slicer.util.mainWindow()
    screen = window.screen().availableGeometry if hasattr(window, "screen") else None
    window.resize(*((screen.width() - 40, screen.height() - 40) if screen is not None else (1500, 950)))
    probe = slicer.util.findChildren(window, "DataProbeCollapsibleWidget")
    if probe:
        probe[0].collapsed = True


def picture(name: str, widget: Any = None) -> Path:
    """Save what the main window (or ``widget``) shows as PNG in `OUTPUT`."""
    slicer.util.forceRenderAllViews()
    pause(0.5)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / f"{name}.png"
    (widget or slicer.util.mainWindow()).grab().save(str(path))
    print(f"picture {path.relative_to(REPOSITORY)}", flush=True)
    return path


def exit_with(code: int) -> None:
    """End Slicer as a user closes it, with an exit code and without the question for unsaved nodes."""
    sys.stdout.flush()
    sys.stderr.flush()
    slicer.util.exit(code)
