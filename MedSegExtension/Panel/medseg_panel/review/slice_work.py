"""A classifier's findings: the scores of the slice in view, where a finding begins and ends, at which threshold."""

from __future__ import annotations

from typing import Any

import qt
import vtk
from slicer.i18n import tr as _

from medseg_mrml.looking import nodes_of

from .actions import Desk
from .layout import button, row

#: Milliseconds: how long views rest before the scores of their slice are shown, and a threshold before it is taken.
_SEEN, _SETTLED = 60, 500
#: Scores that are named beside each other; the others stand in the tool tip.
_NAMED = 3


class SliceWork:
    """``scores``, ``buttons`` and ``widget`` are put into the tab; seen only while the findings are slices."""

    def __init__(self, desk: Desk, scene: Any) -> None:
        self._desk, self._scene = desk, scene
        self._watched: list[tuple[Any, int]] = []
        self.widget = qt.QWidget()
        self.widget.setObjectName("sliceWork")
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.scores = qt.QLabel()
        self.scores.setObjectName("sliceScores")
        self.scores.wordWrap = True
        tip = _("The finding begins at the slice in view. Key F.")
        self.first = button(_("From (F)"), tip, lambda: self.end_here(first=True))
        tip = _("The finding ends at the slice in view. Key T.")
        self.last = button(_("To (T)"), tip, lambda: self.end_here(first=False))
        self.buttons = (self.first, self.last)
        self.label = qt.QLabel()
        self.slider = qt.QSlider(qt.Qt.Horizontal)
        self.slider.minimum, self.slider.maximum, self.slider.value = 1, 99, 50
        self.slider.toolTip = _("Slices whose score is at least this are findings; what was decided stays.")
        layout.addLayout(row(self.label, self.slider, stretch=1))
        self._seen = self._timer(_SEEN, self.show_scores)
        self._settled = self._timer(_SETTLED, self._take_threshold)
        self._taken = 50
        self.slider.connect("valueChanged(int)", self._moved)
        self.show(None)

    def _timer(self, milliseconds: int, work: Any) -> Any:
        timer = qt.QTimer(self.widget)
        timer.setSingleShot(True)
        timer.interval = milliseconds
        timer.connect("timeout()", work)
        return timer

    def show(self, reviewing: Any) -> None:
        """A case was opened (`reviewing.Reviewing`), or left (None)."""
        self._seen.stop()
        self._settled.stop()
        for node, tag in self._watched:
            node.RemoveObserver(tag)
        self._watched = []
        for part in (self.scores, *self.buttons, self.widget):
            part.visible = reviewing is not None and reviewing.of_slices
        self._taken = 50
        self.slider.value = 50
        self._moved(50)
        self._settled.stop()
        if reviewing is None or not reviewing.of_slices:
            return
        for node in nodes_of(self._scene, "vtkMRMLSliceNode"):
            self._watched.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._view_moved)))
        self.show_scores()

    def update(self) -> None:
        """Show what can be done now."""
        reviewing = self._desk.reviewing
        for widget in (self.first, self.last):
            widget.enabled = reviewing is not None and reviewing.of_slices and bool(reviewing.current)

    def _view_moved(self, caller: Any = None, event: Any = None) -> None:
        self._seen.start()

    def show_scores(self) -> None:
        """The scores of the slice in view, greatest first."""
        reviewing = self._desk.reviewing
        row_ = reviewing.row_in_view() if reviewing is not None and reviewing.of_slices else -1
        if row_ < 0:
            self.scores.text = ""
            return
        number, scores = reviewing.review.scores_at(row_)
        words = [f"{name} {score:.2f}" for name, score in sorted(scores.items(), key=lambda one: -one[1])]
        self.scores.text = _("Slice {n}: {scores}").format(n=number, scores=", ".join(words[:_NAMED]))
        self.scores.toolTip = "\n".join(words)

    # -- what the reader does ---------------------------------------------------------------------------------------

    def end_here(self, *, first: bool) -> None:
        """The finding that is looked at begins, or ends, at the slice in view."""
        reviewing = self._desk.reviewing
        if reviewing is None or not reviewing.of_slices or not reviewing.current:
            return
        id = reviewing.current
        if not reviewing.end_at_view(id, first=first):
            self._desk.say(_("That would leave no slice of the finding; reject it (X) where it is none."))
            return
        numbers = dict.fromkeys(reviewing.review.numbers_of(id))
        self._desk.say(_("Finding {id}: slices {numbers}.").format(id=id, numbers=" - ".join(map(str, numbers))))

    def add(self) -> None:
        """The reader sees something on the slice in view: of the class of the finding that is looked at."""
        reviewing = self._desk.reviewing
        review = reviewing.review
        named = review.class_of(reviewing.current) if reviewing.current in review.findings else ""
        id = reviewing.add_slice(named or review.classes[0])
        if not id:
            return
        self._desk.list.select(id)
        words = _(
            "Finding {id} is {name} on slice {n}. C gives it another class, F and T move its ends, Z takes it back."
        )
        self._desk.say(words.format(id=id, name=review.class_of(id), n=review.numbers_of(id)[0]))

    def _moved(self, value: int) -> None:
        self.label.text = _("Threshold {value}").format(value=f"{value / 100:.2f}")
        self._settled.start()

    def _take_threshold(self) -> None:
        reviewing = self._desk.reviewing
        value = int(self.slider.value)
        if reviewing is None or not reviewing.of_slices or value == self._taken:
            return
        self._taken = value
        reviewing.at_threshold(value / 100)
        words = _("{n} findings at the threshold {value}; what was decided stayed. Z takes it back.")
        self._desk.say(words.format(n=len(reviewing.review.findings), value=f"{value / 100:.2f}"))
