"""A slider that shows a finding, or all of them, at another threshold of the model's probability."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from .actions import Desk

#: Milliseconds without a movement after which a threshold that was set by keys is taken over.
_SETTLED = 700


class ThresholdSection:
    """``widget`` is put into the tab; seen only where the run kept probabilities."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._own = False
        self.widget = qt.QWidget()
        layout = qt.QHBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self._label = qt.QLabel()
        self.slider = qt.QSlider(qt.Qt.Horizontal)
        self.slider.minimum, self.slider.maximum, self.slider.value = 1, 99, 50
        self.slider.toolTip = _(
            "The finding at another threshold of the probability: its outline follows; let go to take it over."
        )
        self.all = qt.QCheckBox(_("All"))
        self.all.toolTip = _("All findings of this class, not only the one that is looked at.")
        layout.addWidget(self._label)
        layout.addWidget(self.slider, 1)
        layout.addWidget(self.all)
        self._settled = qt.QTimer(self.widget)
        self._settled.setSingleShot(True)
        self._settled.interval = _SETTLED
        self._settled.connect("timeout()", self._take)
        self.slider.connect("valueChanged(int)", self._moved)
        self.slider.connect("sliderReleased()", self._take)
        self.update()

    @property
    def threshold(self) -> float:
        """0 to 1."""
        return float(self.slider.value) / 100

    def update(self) -> None:
        """Another finding is looked at: the slider is back at the model's own threshold."""
        self._settled.stop()
        reviewing = self._desk.reviewing
        known = reviewing is not None and reviewing.current and reviewing.probability_of(reviewing.current) is not None
        self.widget.visible = bool(known)
        self._own = True
        self.slider.value = 50
        self._own = False
        self._show()

    def _show(self) -> None:
        self._label.text = _("Threshold {value}").format(value=f"{self.threshold:.2f}")

    def _moved(self, value: int) -> None:
        self._show()
        if self._own or self._desk.reviewing is None or not self._desk.reviewing.current:
            return
        if not self.all.checked:
            self._desk.reviewing.preview(self._desk.reviewing.current, self.threshold)
        if not self.slider.sliderDown:
            self._settled.start()

    def _take(self) -> None:
        self._settled.stop()
        reviewing = self._desk.reviewing
        if reviewing is None or not reviewing.current or self.threshold == 0.5:
            return
        name = reviewing.review.class_of(reviewing.current)
        if self.all.checked:
            reviewing.regrow_all(reviewing.current, self.threshold)
            words = _("All findings of {name} at the threshold {value}. Z takes it back.")
        else:
            reviewing.regrow(reviewing.current, self.threshold)
            words = _("The finding at the threshold {value}. Z takes it back.")
        self._desk.say(words.format(name=name, value=f"{self.threshold:.2f}"))
