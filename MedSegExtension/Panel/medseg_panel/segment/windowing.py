"""The windows that the model sees, and those that readers use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import qt
from slicer.i18n import tr as _

from medseg.model.card import ModelCard
from medseg_mrml.looking import READER_WINDOWS

from ..parameters import set_window_overrides, window_overrides
from . import views


@dataclass(frozen=True)
class Shown:
    """One entry of *Model sees*. ``channel``: of the inputs. ``window``: number in the model's windows, or None."""

    text: str
    channel: int
    level: float | None = None
    width: float | None = None
    window: int | None = None


class WindowingSection:
    """Shows the volume in the views as the network gets it, and lets level and width be changed where that is allowed.

    ``volumes()`` gives the chosen input nodes; ``on_change()`` is called when an override changes, ``on_shown(on)``
    when the user wants to see what the model sees, or no longer.
    """

    def __init__(
        self,
        ui: Any,
        scene: Any,
        volumes: Callable[[], list[Any]],
        on_change: Callable[[], None],
        on_shown: Callable[[bool], None],
    ) -> None:
        self._ui, self._scene, self._volumes = ui, scene, volumes
        self._on_change, self._on_shown = on_change, on_shown
        self._card: ModelCard | None = None
        self._parameters: Any = None
        self._entries: list[Shown] = []
        self._before: views.ViewState | None = None
        self._updating = False
        ui.modelWindowSelector.connect("currentIndexChanged(int)", self._entry_chosen)
        ui.nextChannelButton.connect("clicked(bool)", self._next)
        ui.showAsModelButton.connect("toggled(bool)", self._toggled)
        ui.overrideCheckBox.connect("toggled(bool)", self._override_toggled)
        ui.levelSpinBox.connect("valueChanged(double)", self._edited)
        ui.widthSpinBox.connect("valueChanged(double)", self._edited)
        for n, (name, level, width) in enumerate(READER_WINDOWS):
            button = qt.QPushButton(f"{name} {level:g}/{width:g}")
            button.toolTip = _("Show the first input with level {level} and width {width}.").format(
                level=f"{level:g}", width=f"{width:g}"
            )
            ui.readerWindowsWidget.layout().addWidget(button, n // 3, n % 3)
            button.connect("clicked()", lambda lv=level, wd=width: self._reader_window(lv, wd))

    def set_parameters(self, parameters: Any) -> None:
        """Show what is kept in ``parameters``."""
        self._parameters = parameters
        self.refresh()

    def set_card(self, card: ModelCard | None) -> None:
        """Show the windows of another model; the views go back to what they were."""
        self._ui.showAsModelButton.checked = False
        if self._card is None or card is None or card.id != self._card.id:
            self._ui.windowingSection.collapsed = card is None or not card.windows
        self._card = card
        reads_ct = card is None or "CT" in card.modality
        self._ui.readerWindowsLabel.setVisible(reads_ct)
        self._ui.readerWindowsWidget.setVisible(reads_ct)
        self.refresh()

    def refresh(self) -> None:
        """Fill the list of what the model sees, from the card and the overrides."""
        position = self._ui.modelWindowSelector.currentIndex
        self._entries = _entries(self._card, self._overrides()) if self._card else []
        self._updating = True
        self._ui.modelWindowSelector.clear()
        self._ui.modelWindowSelector.addItems([e.text for e in self._entries])
        if self._entries:
            self._ui.modelWindowSelector.currentIndex = min(max(position, 0), len(self._entries) - 1)
        self._updating = False
        several = len(self._entries) > 1
        self._ui.nextChannelButton.enabled = several
        self._ui.modelWindowSelector.enabled = several
        self._ui.showAsModelButton.enabled = bool(self._entries)
        allowed = any(w.override for w in self._model_windows())
        self._ui.overrideCheckBox.enabled = allowed
        self._ui.overrideCheckBox.toolTip = (
            _("Run with other windows than the model was trained with. It is recorded in the result.")
            if allowed
            else _("This model's windows are part of its training and cannot be changed.")
        )
        self._show_numbers()

    def overrides(self) -> list[tuple[float, float]] | None:
        """(level, width) of each window for the run, None for the model's own."""
        if self._card is None or not any(w.override for w in self._model_windows()):
            return None
        return self._overrides()

    def unused(self) -> str:
        """Why the user's own windows are not used though they are asked for; "" where they are, or are not."""
        if self.overrides() is not None or self._parameters is None or not self._parameters.overrideWindows:
            return ""
        if not self._parameters.windowOverrides or not self._model_windows():
            return ""
        return _("The changed windows are not those of this model, so its own were used.")

    def leave(self) -> None:
        """Bring the views back (the module is left, or the scene closes)."""
        self._ui.showAsModelButton.checked = False

    def scene_closed(self) -> None:
        """The nodes whose state was kept are gone."""
        self._before = None
        self._ui.showAsModelButton.checked = False

    def _model_windows(self) -> list[Any]:
        return [w for w in self._card.windows if w.step is not None] if self._card else []

    def _overrides(self) -> list[tuple[float, float]] | None:
        windows = self._model_windows()
        if self._parameters is None:
            return None
        changed = window_overrides(self._parameters)
        return changed if changed is not None and len(changed) == len(windows) else None

    def _current(self) -> Shown | None:
        position = self._ui.modelWindowSelector.currentIndex
        return self._entries[position] if 0 <= position < len(self._entries) else None

    def _entry_chosen(self, index: int) -> None:
        if not self._updating:
            self._show_numbers()
            self._show()

    def _next(self) -> None:
        if self._entries:
            self._ui.showAsModelButton.checked = True
            selector = self._ui.modelWindowSelector
            selector.currentIndex = (selector.currentIndex + 1) % len(self._entries)

    def _toggled(self, shown: bool) -> None:
        if shown:
            self._before = views.remember(self._scene, self._volumes())
            self._show()
        elif self._before is not None:
            views.bring_back(self._scene, self._before)
            self._before = None
        self._on_shown(shown)

    def _show(self) -> None:
        entry = self._current()
        if entry is None or not self._ui.showAsModelButton.checked:
            return
        volumes = self._volumes()
        volume = volumes[entry.channel] if entry.channel < len(volumes) else None
        if volume is None:
            return
        views.show_volume(self._scene, volume)
        if entry.level is not None and entry.width is not None:
            views.set_window(volume, entry.level, entry.width)

    def _show_numbers(self) -> None:
        entry = self._current()
        editable = entry is not None and entry.window is not None and self._ui.overrideCheckBox.enabled
        self._ui.overrideWidget.enabled = editable and self._ui.overrideCheckBox.checked
        self._ui.overrideWidget.setVisible(entry is not None and entry.level is not None)
        self._updating = True
        if entry is not None and entry.level is not None and entry.width is not None:
            self._ui.levelSpinBox.value = entry.level
            self._ui.widthSpinBox.value = entry.width
        self._updating = False

    def _override_toggled(self, on: bool) -> None:
        if self._parameters is None or self._card is None or self._updating:
            return
        self._parameters.overrideWindows = on
        if on and self._overrides() is None:
            set_window_overrides(self._parameters, [(w.level, w.width) for w in self._model_windows()])
        self.refresh()
        self._show()
        self._on_change()

    def _edited(self, value: float) -> None:
        entry, windows = self._current(), self._overrides()
        if self._updating or entry is None or entry.window is None or windows is None:
            return
        windows[entry.window] = (self._ui.levelSpinBox.value, self._ui.widthSpinBox.value)
        set_window_overrides(self._parameters, windows)
        self.refresh()
        self._show()
        self._on_change()

    def _reader_window(self, level: float, width: float) -> None:
        volumes = [v for v in self._volumes() if v is not None]
        volume = volumes[0] if volumes else views.visible_background(self._scene)
        if volume is not None:
            views.set_window(volume, level, width)


def _entries(card: ModelCard, overrides: list[tuple[float, float]] | None) -> list[Shown]:
    """The model's windows, then its display presets; for models without any, its channels."""
    entries = []
    number = 0
    for window in card.windows:
        level, width = window.level, window.width
        own = window.step is not None
        if own and overrides is not None:
            level, width = overrides[number]
        name = window.name
        text = (
            f"{name}: {level:g}/{width:g}"
            if own
            else _("{name} (for reading): {window}").format(name=name, window=f"{level:g}/{width:g}")
        )
        entries.append(Shown(text, 0, level, width, number if own else None))
        number += own
    channels = [Shown(_("{name}: all values").format(name=c.name), n) for n, c in enumerate(card.channels)]
    if not entries:
        return channels
    return entries + (channels[1:] if len(channels) > 1 else [])
