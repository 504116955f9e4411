"""Device, exact results, batch and tile, Apply and Cancel, progress and log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .messages import Messages

_STAGES = {
    "read": "Handing over",
    "prepare": "Preparing",
    "open": "Loading the model",
    "infer": "Running the network",
    "restore": "Back to the volume's grid",
    "clean": "Cleaning",
    "measure": "Measuring",
    "write": "Fetching the result",
    "download": "Downloading",
    "convert": "Converting",
}


class RunSection:
    """The controls of a run. It knows nothing of workers: ``on_apply``, ``on_cancel`` and ``on_devices`` are called."""

    def __init__(
        self, ui: Any, on_apply: Callable[[], None], on_cancel: Callable[[], None], on_devices: Callable[[], None]
    ) -> None:
        self._ui = ui
        self._parameters: Any = None
        self._updating = False
        self._devices: list[dict[str, Any]] = []
        self._lines: list[str] = []
        self._warnings: list[str] = []
        self._notes: list[str] = []
        self._details: list[str] = []
        self.messages = Messages(ui)
        ui.applyButton.connect("clicked(bool)", on_apply)
        ui.cancelButton.connect("clicked(bool)", on_cancel)
        ui.refreshDevicesButton.connect("clicked(bool)", on_devices)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._device_chosen)
        ui.exactCheckBox.connect("toggled(bool)", self._exact_chosen)
        self._fill_devices()

    @property
    def log_text(self) -> str:
        """All lines of the log."""
        return "\n".join(self._lines)

    @property
    def devices(self) -> list[dict[str, Any]]:
        """What the worker found; empty before it was asked."""
        return self._devices

    def set_parameters(self, parameters: Any) -> None:
        """Show what is kept in ``parameters``."""
        self._parameters = parameters
        self._fill_devices()
        if parameters is not None:
            self._ui.exactCheckBox.checked = parameters.precision == "float32"

    def set_devices(self, devices: list[dict[str, Any]]) -> None:
        """Offer the devices that truly run; why the others do not is written to the log."""
        self._devices = devices
        for device in devices:
            if not device["works"]:
                self.log(_("{name} cannot be used: {reason}").format(name=device["name"], reason=device["reason"]))
        self._fill_devices()

    def show_tiles(self, tiled: bool) -> None:
        """The tile size means something only for models that slide a window."""
        self._ui.tileSpinBox.enabled = tiled
        self._ui.tileSpinBoxLabel.enabled = tiled

    def show_mirroring(self, possible: bool) -> None:
        """Mirrored images can be averaged only where the model was trained on such."""
        self._ui.mirrorCheckBox.visible = possible

    def set_state(self, running: bool, can_apply: bool, why: str) -> None:
        """Which buttons can be pressed. ``why``: the tool tip of Apply."""
        self._ui.applyButton.enabled = can_apply and not running
        self._ui.applyButton.toolTip = why
        self._ui.cancelButton.enabled = running
        self._ui.cancelButton.toolTip = _("Stop the run; nothing is changed.") if running else _("Nothing is running.")
        self._ui.refreshDevicesButton.enabled = not running

    def progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        """Show how far the run is."""
        if fraction is None:
            self._ui.progressBar.setRange(0, 0)
        else:
            self._ui.progressBar.setRange(0, 100)
            self._ui.progressBar.value = round(100 * fraction)
        words = [_STAGES.get(stage, stage)]
        if text and stage != "read":
            words.append(text)
        if seconds_left is not None:
            words.append(_("{time} left in this stage").format(time=duration(seconds_left)))
        self._ui.progressLabel.text = ", ".join(w for w in words if w)

    def warn(self, sentence: str) -> None:
        """The run fell back on something or met what it did not expect: told now, and when it ends."""
        if sentence in self._warnings:
            return
        self._warnings.append(sentence)
        self.log(_("Warning: {sentence}").format(sentence=sentence))

    def note(self, sentence: str) -> None:
        """A plain fact of the run: told now, and when it ends."""
        if sentence and sentence not in self._notes:
            self._notes.append(sentence)
            self.log(sentence)

    def detail(self, sentence: str) -> None:
        """A plain fact that most do not ask for: in the log, and folded away under the bar."""
        if sentence and sentence not in self._details:
            self._details.append(sentence)
            self.log(sentence)

    def begin(self, sentence: str) -> None:
        """A run starts."""
        self._warnings, self._notes, self._details = [], [], []
        self.messages.clear()
        self.log(sentence)
        self._ui.progressBar.setRange(0, 100)
        self._ui.progressBar.value = 0
        self._ui.progressLabel.text = sentence

    def finish(self, sentence: str, done: bool) -> None:
        """The run ended: ``sentence`` stays under the bar, and what it warned of and noted, in short."""
        self._ui.progressBar.setRange(0, 100)
        self._ui.progressBar.value = 100 if done else 0
        self._ui.progressLabel.text = sentence
        self.messages.show(*((self._warnings, self._notes, self._details) if done else ([], [], [])))
        self._warnings, self._notes, self._details = [], [], []
        self.log(sentence)

    def log(self, sentence: str) -> None:
        """Add a line with the time of day."""
        line = f"{time.strftime('%H:%M:%S')} {sentence}"
        self._lines.append(line)
        self._ui.logText.appendPlainText(line)

    def copy(self, text: str) -> None:
        """Put ``text`` on the clipboard."""
        qt.QApplication.clipboard().setText(text)

    def _fill_devices(self) -> None:
        wanted = self._parameters.device if self._parameters is not None else "auto"
        self._updating = True
        selector = self._ui.deviceSelector
        selector.clear()
        usable = [d for d in self._devices if d["works"]]
        best = f" ({device_text(usable[0])})" if usable else ""
        selector.addItem(_("Automatic") + best, "auto")
        for device in usable:
            selector.addItem(device_text(device), device["id"])
        if selector.findData(wanted) < 0:
            note = _(" (does not run here)") if self._devices else _(" (not tried yet)")
            selector.addItem(wanted + note, wanted)
        selector.currentIndex = selector.findData(wanted)
        self._updating = False

    def _device_chosen(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.device = self._ui.deviceSelector.itemData(index)

    def _exact_chosen(self, exact: bool) -> None:
        if self._parameters is not None and exact != (self._parameters.precision == "float32"):
            self._parameters.precision = "float32" if exact else "auto"


def device_text(device: dict[str, Any]) -> str:
    """Name, id and memory of a device."""
    memory = device.get("memory_bytes") or 0
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    return f"{device['name']} ({device['id']}{size})"


def duration(seconds: float) -> str:
    """Seconds in words: ``8 s``, ``2 min 5 s``."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
