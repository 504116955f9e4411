"""One Slicer in which checks follow each other: the module, the models, and what was said and went wrong."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import slicer


class Watched:
    """Standard error, which keeps how many tracebacks went through: errors in slots are seen nowhere else."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.tracebacks = stream, 0

    def write(self, text: str) -> None:
        self.tracebacks += text.count("Traceback (most recent call last)")
        self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


class Session:
    """What a check works with. Message boxes are kept in ``errors`` and ``questions`` (answered with yes)."""

    def __init__(self, *, models: bool = True) -> None:
        """``models``: whether models are made when the module is opened, which takes the package ``onnx``."""
        self._with_models = models
        self.stderr = sys.stderr = Watched(sys.stderr)
        self.errors: list[str] = []
        self.questions: list[str] = []
        slicer.util.errorDisplay = lambda text, *a, **k: self.errors.append(text)
        slicer.util.confirmOkCancelDisplay = lambda text, *a, **k: self.questions.append(text) or True
        self.models: Path | None = None
        self._widget: Any = None

    @property
    def widget(self) -> Any:
        """The module's widget; the module is opened and the models are made on first use."""
        if self._widget is None:
            self.models = common.make_models() if self._with_models else None
            window = slicer.util.mainWindow()
            if window is not None:
                window.resize(1500, 950)
            self._widget = common.open_panel()
        return slicer.modules.MedSegExtensionWidget

    @property
    def panel(self) -> Any:
        return self.widget.panel.segment

    def begin(self) -> None:
        """A new scene."""
        self.errors.clear()
        self.questions.clear()
        self.stderr.tracebacks = 0
        if self._widget is not None:
            slicer.mrmlScene.Clear(0)
            common.pause(0.3)

    def end(self) -> None:
        """Nothing may have been raised in a slot."""
        if self.stderr.tracebacks:
            raise AssertionError(f"{self.stderr.tracebacks} error(s) were raised in slots, see above")

    def volume(self, shape: tuple[int, int, int] = (24, 128, 128), name: str = "CT", **options: Any) -> Any:
        """A shown volume with a bright ellipsoid."""
        node = common.add_volume(common.blob(shape), name, "CT", **options)
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node

    def slow_volume(self) -> Any:
        """One on which the model ``slow`` takes some seconds."""
        return self.volume((40, 256, 256))

    def apply(self) -> None:
        """Press Apply."""
        button = self.widget.ui.applyButton
        if not button.enabled:
            raise AssertionError(f"Apply is disabled: {button.toolTip}")
        button.click()

    def run(self, model: str, volume: Any, seconds: float = 180) -> str:
        """Choose, apply, wait; the sentence at the end."""
        common.choose(self.widget, model, volume)
        self.apply()
        said = common.run_ended(self.widget, seconds)
        common.pause(0.2)
        return said

    def stage(self, name: str, seconds: float = 60) -> float:
        """Wait until the run says that it is in stage ``name``; the seconds that took."""
        seen: list[str] = []
        runs = self.panel.runs
        start = time.perf_counter()
        original = type(runs).on_progress

        def listen(stage: str, *rest: Any) -> None:
            seen.append(stage)
            original(runs, stage, *rest)

        runs.on_progress = listen
        try:
            if not common.wait(lambda: name in seen or not runs.running, seconds, 2) or name not in seen:
                raise AssertionError(f"the run did not come to {name}: {seen}, {self.widget.ui.progressLabel.text}")
        finally:
            del runs.on_progress
        return time.perf_counter() - start

    @property
    def segmentation(self) -> Any:
        """The last result's segmentation node, or None."""
        return self.panel.results._segmentation()

    def labels(self) -> np.ndarray:
        """The labels of the last result."""
        if self.segmentation is None:
            raise AssertionError(f"there is no result: {self.widget.ui.progressLabel.text}")
        return common.labels_of(self.segmentation)

    def nodes(self) -> dict[str, str]:
        """Identifier and name of all nodes of the scene that are saved with it."""
        scene = slicer.mrmlScene
        every = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
        return {n.GetID(): n.GetName() for n in every if n.GetSaveWithScene()}

    def cleanup(self) -> None:
        """Remove the models."""
        if self.models is not None:
            shutil.rmtree(self.models, ignore_errors=True)


def equal(a: Any, b: Any, what: str) -> None:
    """Fail where ``a`` is not ``b``."""
    same = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
    if not same:
        raise AssertionError(f"{what}: {a!r} is not {b!r}")


def true(value: Any, what: str) -> None:
    """Fail where ``value`` is not true."""
    if not value:
        raise AssertionError(what)
