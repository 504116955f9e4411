"""What a reader does with the finding that is looked at: buttons and keys that decide, draw, undo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from slicer.i18n import tr as _

from medseg_mrml.looking import Curtain

from .editor import EditorSection
from .findings_list import FindingsList
from .keys import Held, Key, Keys
from .layout import button, row
from .rendering import drawn_once

#: Keys that effects of the Segment Editor have for themselves: A ends an outline, X takes its last point back.
_KEYS_OF_EFFECTS = {"Draw": ("A", "X")}


class Slices(Protocol):
    """What is done with the slice in view, where findings are slices (`slice_work.SliceWork`)."""

    def add(self) -> None: ...

    def end_here(self, *, first: bool) -> None: ...


class Desk(Protocol):
    """The tab, as its parts see it. ``reviewing``: the open case, None where there is none."""

    reviewing: Any
    list: FindingsList

    @property
    def slices(self) -> Slices: ...

    def go(self, id: int) -> None:
        """Show a finding in all views."""

    def say(self, words: str) -> None:
        """Tell the reader."""

    def save(self) -> None:
        """Save a version now."""

    def drawing(self, on: bool) -> None:
        """The reader corrects, or is done: what is not wanted meanwhile makes room for the editor."""


class Actions:
    """``widgets``: rows to put into the tab. ``go_on()``: True where a decision also moves to the next finding."""

    def __init__(self, desk: Desk, scene: Any, parent: Any, go_on: Callable[[], bool]) -> None:
        self._desk, self._go_on = desk, go_on
        self.editor = EditorSection(scene, self._drawing_done, self._effect_chosen)
        self.curtain = Curtain(scene)
        held = Held(parent, self.curtain.close, self.curtain.open)
        self.keys = Keys(
            parent,
            [
                Key("A", _("accept the finding, go to the next"), lambda: self.decide("accepted")),
                Key("X", _("reject it: its voxels leave the reviewed mask"), lambda: self.decide("rejected")),
                Key("U", _("unsure: to be looked at again"), lambda: self.decide("uncertain")),
                Key("C", _("the next class (relabel)"), self.relabel),
                Key("N", _("next finding"), lambda: self.step(1)),
                Key("P", _("previous finding"), lambda: self.step(-1)),
                Key("H", _("held: only the image is seen"), held.pressed, held=True),
                Key("E", _("correct the finding in the Segment Editor"), self.correct),
                Key(
                    "D",
                    _("draw a finding that was missed; of a classifier: it is on the slice in view"),
                    self.add_missed,
                ),
                Key("F", _("of a classifier: the finding begins at the slice in view"), lambda: self._end(first=True)),
                Key("T", _("it ends there"), lambda: self._end(first=False)),
                Key("Z", _("undo, without limit"), self.undo),
                Key("Y", _("redo"), self.redo),
                Key("S", _("save a version"), desk.save),
            ],
        )
        accept = button(_("Accept (A)"), _("The finding is right. Key A."), lambda: self.decide("accepted"))
        tip = _("It is none; its voxels leave the reviewed mask. Key X.")
        reject = button(_("Reject (X)"), tip, lambda: self.decide("rejected"))
        unsure = button(_("Unsure (U)"), _("To be looked at again. Key U."), lambda: self.decide("uncertain"))
        self.class_button = button(_("Class (C)"), _("Give it the next class. Key C."), self.relabel)
        self.correct_button = button(_("Correct (E)"), _("Draw on the finding. Key E."), self.correct)
        tip = _("Draw a finding that is not in the list. Key D.")
        self.missed_button = button(_("Add (D)"), tip, self.add_missed)
        self.undo_button = button(_("Undo (Z)"), _("Take the last step back. Key Z."), self.undo)
        self.redo_button = button(_("Redo (Y)"), _("Do it again. Key Y."), self.redo)
        self._decisions = (accept, reject, unsure, self.class_button)
        self.rows = (
            row(*self._decisions),
            row(self.correct_button, self.missed_button, self.undo_button, self.redo_button),
        )

    def update(self) -> None:
        """Show what can be done now."""
        reviewing = self._desk.reviewing
        for widget in self._decisions:
            widget.enabled = reviewing is not None and bool(reviewing.review.findings)
        of_slices = reviewing is not None and reviewing.of_slices
        self.correct_button.enabled = reviewing is not None and reviewing.shown is not None
        self.correct_button.visible = not of_slices
        self.missed_button.enabled = self.correct_button.enabled or of_slices
        self.undo_button.enabled = reviewing is not None and reviewing.review.can_undo
        self.redo_button.enabled = reviewing is not None and reviewing.review.can_redo

    def _current(self) -> int:
        """The finding that is looked at; where there is none the first is shown, and 0 given."""
        reviewing = self._desk.reviewing
        if reviewing is None:
            return 0
        if not reviewing.current:
            if first := self._desk.list.after(0):
                self._desk.go(first)
            return 0
        return int(reviewing.current)

    # -- decisions ----------------------------------------------------------------------------------------------

    @drawn_once
    def decide(self, state: str) -> None:
        """Decide on the finding, and go to the next without a decision."""
        id = self._current()
        if not id:
            return
        desk = self._desk
        following = desk.list.after(id, undecided=True) if self._go_on() else 0
        desk.reviewing.decide(id, state)
        if following:
            desk.go(following)
        elif desk.reviewing.review.left == 0:
            desk.say(_("All findings are reviewed."))

    @drawn_once
    def relabel(self) -> None:
        """Give the finding the next class."""
        id = self._current()
        name = self._desk.reviewing.next_class(id) if id else ""
        if name:
            self._desk.reviewing.relabel(id, name)
            self._desk.say(_("Finding {id} is now called {name}.").format(id=id, name=name))
            self._desk.go(id)

    @drawn_once
    def step(self, step: int) -> None:
        """Go to the next or previous row."""
        if self._desk.reviewing is not None and (id := self._desk.list.after(self._desk.reviewing.current, step)):
            self._desk.go(id)

    @drawn_once
    def undo(self) -> None:
        """Take the last step back."""
        reviewing = self._desk.reviewing
        if reviewing is not None and reviewing.undo():
            self._stepped(_("Taken back."))

    @drawn_once
    def redo(self) -> None:
        """Do again what was taken back."""
        reviewing = self._desk.reviewing
        if reviewing is not None and reviewing.redo():
            self._stepped(_("Done again."))

    def _stepped(self, words: str) -> None:
        self._desk.say(words)
        if self._desk.reviewing.current:
            self._desk.go(self._desk.reviewing.current)

    # -- drawing ------------------------------------------------------------------------------------------------

    def correct(self) -> None:
        """Open the Segment Editor on the finding."""
        id, reviewing = self._current(), self._desk.reviewing
        if id and reviewing.shown is not None:
            finding = reviewing.review.findings[id]
            segment = reviewing.shown.segment_of(finding.layer, reviewing.value_of(id))
            self._edit(segment, max(finding.extent), reviewing.intensities(id))

    def add_missed(self) -> None:
        """Open the Segment Editor to draw a finding that is not in the list."""
        reviewing = self._desk.reviewing
        if reviewing is not None and reviewing.of_slices:
            self._desk.slices.add()
        elif reviewing is not None and reviewing.shown is not None:
            self._edit(reviewing.segment_to_add(), 10.0, None)

    def _end(self, *, first: bool) -> None:
        self._desk.slices.end_here(first=first)

    def _edit(self, segment: str, size: float, intensities: tuple[float, float] | None) -> None:
        reviewing = self._desk.reviewing
        node = reviewing.shown.node
        if not segment or node.GetSegmentation().GetSegment(segment) is None:
            self._desk.say(
                _("The segment of this class was removed from the reviewed mask; leave the case and open it again.")
            )
            return
        self.editor.open(reviewing.volume, node, segment, size, intensities)
        self._desk.drawing(True)

    @drawn_once
    def take_drawing(self) -> None:
        """Take over what was drawn; a new finding is the one that is looked at."""
        reviewing = self._desk.reviewing
        if reviewing is None:
            return
        steps = reviewing.review.steps
        if new := reviewing.take_drawing():
            reviewing.current = new[-1]
            self._desk.list.select(new[-1])
            self._desk.say(_("New findings: {ids}.").format(ids=", ".join(map(str, new))))
        if reviewing.review.steps != steps:
            reviewing.mark()
        if names := reviewing.brought_back:
            words = _("{names} is under review and came back; reject its findings, or erase them.")
            self._desk.say(words.format(names=", ".join(names)))
            reviewing.brought_back = []
        if reviewing.shown is not None and (strangers := reviewing.shown.strangers()):
            words = _("{names}: no class of this mask, so it is not part of the review.")
            self._desk.say(words.format(names=", ".join(strangers)))

    def _effect_chosen(self, effect: str) -> None:
        self.keys.lend(_KEYS_OF_EFFECTS.get(effect, ()))

    def _drawing_done(self) -> None:
        self._desk.drawing(False)
        self.take_drawing()
        if self._desk.reviewing is not None and self._desk.reviewing.current:
            self._desk.go(self._desk.reviewing.current)

    # -- seen and left --------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The case or the tab is left."""
        self.curtain.open()
        self.editor.close()
