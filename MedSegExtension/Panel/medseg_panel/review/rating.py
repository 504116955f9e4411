"""The rating of a case: 1 to 5 with the meaning of each, a comment, further questions, and the time spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg_mrml.looking import nodes_of

from .host import ReviewHost
from .keys import Key, Keys
from .layout import row

_SECOND = 1000
#: Milliseconds after the last letter when a comment is kept.
_TYPED = 800


class RatingSection:
    """``widget`` is put into ``place`` (a layout). ``on_change()``: something was written; the list shows it.

    The timer counts while the reader does something: moves the mouse, a slice, decides. It stops after a minute of none
    of it.
    """

    def __init__(
        self,
        place: Any,
        host: ReviewHost,
        scene: Any,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._scene, self._clock = host, scene, clock
        self.on_change = on_change
        self._reviewing: Any = None
        self._timer: Any = None
        self._life: Any = None
        self._own = False
        self._questions: tuple[Any, ...] = ()
        self._fields: dict[str, Any] = {}
        self.widget = qt.QWidget()
        self.widget.setObjectName("ratingSection")
        self._layout = qt.QVBoxLayout(self.widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._add_widgets()
        place.addWidget(self.widget)
        self._second = self._made_timer(_SECOND, self.tick)
        self._typed = self._made_timer(_TYPED, self._take_texts, once=True)
        keys = [Key(str(n), _("rate the mask {n}").format(n=n), lambda n=n: self.rate(n)) for n in range(5, 0, -1)]
        self.keys = Keys(self.widget, keys)
        self.show(None)

    def _made_timer(self, milliseconds: int, work: Callable[[], None], *, once: bool = False) -> Any:
        timer = qt.QTimer(self.widget)
        timer.interval = milliseconds
        timer.setSingleShot(once)
        timer.connect("timeout()", work)
        return timer

    def _add_widgets(self) -> None:
        self.buttons: dict[int, Any] = {}
        for n in range(1, 6):
            button = qt.QPushButton(str(n))
            button.checkable = True
            # Five buttons of the usual width would make the panel wider than its findings need.
            button.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
            button.connect("clicked(bool)", lambda checked, n=n: self.rate(n))
            self.buttons[n] = button
        self.time = qt.QLabel()
        self.time.setObjectName("ratingTime")
        line = row(qt.QLabel(_("Mask:")), *self.buttons.values(), self.time)
        self._layout.addLayout(line)
        self.meaning = qt.QLabel()
        self.meaning.wordWrap = True
        self._layout.addWidget(self.meaning)
        self.comment = qt.QLineEdit()
        self.comment.setPlaceholderText(_("Comment"))
        self.comment.toolTip = _("Kept with the review; do not write the patient's name.")
        self.comment.connect("textEdited(QString)", lambda text: self._typed.start())
        self.comment.connect("editingFinished()", self._take_texts)
        self._layout.addWidget(self.comment)
        self._form_place = qt.QVBoxLayout()
        self._layout.addLayout(self._form_place)
        self._form: Any = None

    # -- a case is opened and left ------------------------------------------------------------------------------

    def show(self, reviewing: Any) -> None:
        """Show the rating of an open case (`reviewing.Reviewing`), or none."""
        if reviewing is None and self._reviewing is not None:
            self._typed.stop()
        self._reviewing = reviewing
        self.widget.visible = reviewing is not None
        self._second.stop()
        self._timer = None
        if reviewing is None:
            return
        from medseg.review.case_file import RATINGS
        from medseg.review.timer import ReadingTimer

        self._meanings = RATINGS
        for n, button in self.buttons.items():
            button.toolTip = f"{n}: {RATINGS[n]}. " + _("Key {n}.").format(n=n)
        self._own = True
        self.comment.text = reviewing.kept.comment
        for question in self._questions:
            _put(question, self._fields[question.name], reviewing.kept.fields.get(question.name))
        self._own = False
        self._show_rating()
        self._timer = ReadingTimer(reviewing.kept.seconds)
        self._life = None
        self._second.start()
        self.tick()

    def before_leaving(self) -> None:
        """The case is about to be saved and left: what was typed last is part of it."""
        self._typed.stop()
        self._take_texts(write=False)
        self.tick()
        if self._timer is not None:
            self._timer.stop(self._clock())

    def set_questions(self, questions: tuple[Any, ...]) -> None:
        """Ask these further questions (`medseg.review.form.Question`) of each case."""
        if self._form is not None:
            self._form.setParent(None)
            self._form.deleteLater()
            self._form = None
        self._questions, self._fields = questions, {}
        if not questions:
            return
        self._form = qt.QWidget()
        form = qt.QFormLayout(self._form)
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(qt.QFormLayout.WrapLongRows)
        for question in questions:
            field = _field(question, self._answered)
            self._fields[question.name] = field
            label = qt.QLabel(question.text + (" *" if question.required else ""))
            label.wordWrap = True
            form.addRow(label, field)
        self._form_place.addWidget(self._form)
        if self._reviewing is not None:
            self.show(self._reviewing)

    # -- what the reader says -----------------------------------------------------------------------------------

    def rate(self, rating: int) -> None:
        """Give the mask a rating; the same once more takes it back."""
        if self._reviewing is None:
            return
        kept = self._reviewing.kept
        kept.rating = None if kept.rating == rating else rating
        self._show_rating()
        self._write()

    def _show_rating(self) -> None:
        rating = self._reviewing.kept.rating
        for n, button in self.buttons.items():
            button.checked = n == rating
        self.meaning.text = "" if rating is None else f"{rating}: {self._meanings[rating]}"
        self.meaning.visible = rating is not None

    def _take_texts(self, *, write: bool = True) -> None:
        if self._reviewing is None or self._own:
            return
        text = str(self.comment.text).strip()
        if text != self._reviewing.kept.comment:
            self._reviewing.kept.comment = text
            if write:
                self._write()

    def _answered(self, question: Any, answer: Any) -> None:
        if self._reviewing is None or self._own:
            return
        try:
            checked = question.checked(answer)
        except MedSegError as error:
            self._host.say(str(error))
            return
        if checked != self._reviewing.kept.fields.get(question.name):
            self._reviewing.kept.fields[question.name] = checked
            self._write()

    def _write(self) -> None:
        try:
            self._reviewing.write()
        except MedSegError as error:
            self._host.say(str(error))
        self.on_change()

    # -- time ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: look for a sign of life, and show the time."""
        if self._timer is None or self._reviewing is None:
            return
        now, life = self._clock(), self._signs()
        if life != self._life:
            self._life = life
            self._timer.active(now)
        seconds = self._timer.seconds(now)
        self._reviewing.kept.seconds = round(seconds, 1)
        words = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
        idle = self._timer.idle(now)
        self.time.text = _("{time} (paused)").format(time=words) if idle else words
        self.time.toolTip = _("Time spent on this case, in minutes; it stops after a minute without a movement.")

    def _signs(self) -> Any:
        where = qt.QCursor.pos()
        slices = sum(node.GetMTime() for node in nodes_of(self._scene, "vtkMRMLSliceNode"))
        review = self._reviewing.review
        return (where.x(), where.y(), slices, self._reviewing.current, review.steps, str(self.comment.text))


def _field(question: Any, answered: Callable[[Any, Any], None]) -> Any:
    """A widget for a question of a form."""
    if question.type in ("yes/no", "choice"):
        field = qt.QComboBox()
        field.addItem("", None)
        if question.type == "choice":
            for choice in question.choices:
                field.addItem(choice, choice)
        else:
            field.addItem(_("yes"), True)
            field.addItem(_("no"), False)
        field.connect("currentIndexChanged(int)", lambda n: answered(question, field.itemData(n)))
        return field
    field = qt.QLineEdit()
    if question.type == "number":
        bounds = [f"{b:g}" for b in (question.minimum, question.maximum) if b is not None]
        field.setPlaceholderText(_("a number") + (f" ({' - '.join(bounds)})" if len(bounds) == 2 else ""))
    field.connect("editingFinished()", lambda: answered(question, str(field.text).strip()))
    return field


def _put(question: Any, field: Any, answer: Any) -> None:
    """Show an answer that is kept."""
    if question.type in ("yes/no", "choice"):
        numbers = [n for n in range(field.count) if n and field.itemData(n) == answer]
        field.currentIndex = numbers[0] if answer is not None and numbers else 0
    elif isinstance(answer, float):
        field.text = f"{answer:g}"
    else:
        field.text = "" if answer is None else str(answer)
