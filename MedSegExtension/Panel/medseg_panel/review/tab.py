"""The Review tab: findings one by one by key, corrections, versions, and what changed against the model's mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg_mrml import table_from_node
from medseg_mrml.tables import NAME_ATTRIBUTE

from ..seams import FinishedRun, Neighbours
from ..segment.menus import add_action
from .actions import Actions
from .case_list import CaseList
from .compare_section import CompareSection
from .findings_list import FindingsList
from .keeping import Keeping
from .layout import ReviewWidgets, button, row
from .rating import RatingSection
from .rendering import drawn_once
from .slice_work import SliceWork
from .threshold import ThresholdSection

#: Milliseconds after which a pause in drawing, or in deciding, is taken for its end.
_DRAWN, _COUNTED = 150, 400
#: Milliseconds after which the finding that is looked at is kept as the one to go on with.
_PLACE = 1000
#: Degrees by which views are turned without a word.
_TOLD_DEGREES = 1.0
#: Letters of the status that are shown; all are in its tool tip.
_LONG = 260


class ReviewTab:
    """A `seams.Tab`. One case is open at a time, `reviewing`, or none."""

    title = _("Review")

    def __init__(self, neighbours: Neighbours) -> None:
        self._scene, self._dialogs, self._later = neighbours.scene, neighbours.dialogs, neighbours.later
        self._neighbours = neighbours
        self.reviewing: Any = None
        self._run: FinishedRun | None = None
        self._seen = self._write_due = self._turned_told = False
        self._words = ""
        self.ui = ReviewWidgets(self._scene)
        self.widget = self.ui.page
        self.list = FindingsList(self.go)
        self._add_switches()
        self.actions = Actions(self, self._scene, self.widget, lambda: bool(self.go_on.checked))
        self.threshold = ThresholdSection(self)
        self.slices = SliceWork(self, self._scene)
        self.compare = CompareSection(self._scene, self._dialogs, self.say)
        self._add_widgets()
        self._drawn_timer = self._timer(_DRAWN, self.actions.take_drawing)
        self._count_timer = self._timer(_COUNTED, self._show_changes)
        self._place_timer = self._timer(_PLACE, self._write)
        slicer.app.connect("fontChanged(QFont)", self._font_changed)
        self._update()

    def _timer(self, milliseconds: int, work: Callable[[], None]) -> Any:
        timer = qt.QTimer(self.widget)
        timer.setSingleShot(True)
        timer.interval = milliseconds
        timer.connect("timeout()", work)
        return timer

    def _add_widgets(self) -> None:
        ui = self.ui
        self.start_button = button(_("Start review"), _("Go through the findings of this mask."), self.start)
        ui.layout.addWidget(self.start_button)
        ui.layout.addWidget(ui.status)
        self.changes = qt.QLabel()
        self.changes.wordWrap = True
        self.changes.setObjectName("reviewChanges")
        ui.work.addWidget(self.slices.scores)
        ui.work.addWidget(self.list.widget, 1)
        for widgets in self.actions.rows:
            ui.work.addLayout(widgets)
        for n, made in enumerate(self.slices.buttons):
            self.actions.rows[1].insertWidget(n, made)
        ui.work.addWidget(self.threshold.widget)
        ui.work.addWidget(self.slices.widget)
        ui.work.addWidget(self.actions.editor.section)
        ui.work.addWidget(self.changes)
        ui.work.addLayout(row(self.fade, self.go_on, self.show3d, self.keeping.button, stretch=1))
        self.rating = RatingSection(ui.work, self, self._scene)
        self.cases = CaseList(ui.cases_place.layout(), self, self._neighbours, self.rating)
        ui.layout.addWidget(ui.desk, 1)
        ui.layout.addWidget(ui.rest, 1)
        ui.layout.addWidget(self.compare.section)

    def _add_switches(self) -> None:
        self.fade = qt.QCheckBox(_("Fade others"))
        self.fade.toolTip = _("Only the outline of the finding stands out.")
        self.fade.checked = True
        self.fade.connect("toggled(bool)", lambda on: self._apply_fade())
        self.go_on = qt.QCheckBox(_("Go on"))
        self.go_on.toolTip = _("A decision also moves to the next finding without one.")
        self.go_on.checked = True
        self.show3d = slicer.qMRMLSegmentationShow3DButton()
        self.keeping = Keeping(self, self._dialogs)
        add_action(self.keeping.menu, _("Keys..."), self.show_keys)

    def show_keys(self) -> None:
        """The key card."""
        card = self.actions.keys.card() + self.cases.keys.card() + self.rating.keys.card()
        self._dialogs.show(_("Keys of the review"), card)

    # -- a case is opened and left ------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Many cases are being compared."""
        return self.compare.folders.running

    @property
    def root(self) -> Path:
        """Where reviews of nodes are kept; a case list has a folder of its own."""
        return self.keeping.root

    def start(self) -> None:
        """Review the chosen mask on the chosen image, or leave the case that is open."""
        if self.reviewing is not None:
            self.leave()
            return
        volume, mask = self.ui.volume.currentNode(), self.ui.mask.currentNode()
        if volume is None:
            self.say(_("Choose an image."))
            return
        from .work import work_of_nodes

        run = self._run if self._run is not None and self._run.volume is volume else None
        if run is not None and mask is not None and run.segmentation is not mask:
            run = None
        try:
            work, told = work_of_nodes(
                volume,
                mask,
                self.root,
                slices=self._table(run, "slices") if mask is None else None,
                lesions=self._table(run, "lesions"),
                probabilities=self._probabilities(run),
                model_id=run.model.id if run is not None else "",
            )
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self.open(work, told)

    def open(self, work: Any, told: list[str] | None = None) -> bool:
        """Open a case (`work.Work`), leaving the one that is open; False where it cannot, which is told."""
        from .reviewing import Reviewing

        self.leave()
        slicer.app.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            self.reviewing = Reviewing(self._scene, work, self._findings_changed, self._drawn_timer.start)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return False
        finally:
            slicer.app.restoreOverrideCursor()
        slicer.util.setSliceViewerLayers(background=work.volume)
        self.rating.show(self.reviewing)
        self.list.show(self.reviewing)
        self.slices.show(self.reviewing)
        self.show3d.setSegmentationNode(self._node())
        self._apply_fade()
        self._update()
        self._show_changes()
        sentences = [*(told or []), *self.reviewing.warnings, *self._turned()]
        self.say(" ".join(sentences))  # also where there is nothing: what is there is about another case
        self.compare.offer(work.volume, self._node(), work.source)
        first = self.reviewing.current or self.list.after(0, undecided=True)
        if first:
            self.go(first)
        return True

    def _turned(self) -> list[str]:
        """That the views were turned, where they were: told once, it is no news at the next case."""
        if self._turned_told or self.reviewing.turned < _TOLD_DEGREES:
            return []
        self._turned_told = True
        words = _("The slice views were turned by {degrees} degrees, into the planes of the image.")
        return [words.format(degrees=f"{self.reviewing.turned:.0f}")]

    def leave(self) -> None:
        """Close the open case; a corrected mask is saved as a version first; it stays in the scene where it cannot."""
        if self.reviewing is None:
            return
        self.actions.stop()
        self.rating.before_leaving()
        reviewing = self.reviewing
        words, lost = _("The review is kept in {folder}."), ""
        try:
            if reviewing.unsaved:
                reviewing.save(_("saved on leaving"))
            else:
                reviewing.write()
        except MedSegError as error:
            lost = str(error)
            words = _("The review could not be kept in {folder}.")
            if self._node() is not None:
                words = _(
                    "The review could not be kept in {folder}. The reviewed mask stays in the scene as {node}: save it "
                    "(File > Save Data), or make room and press Start review again."
                )
        words = words.format(folder=reviewing.work.folder, node=self._node().GetName() if self._node() else "")
        if lost:
            self._dialogs.error(f"{lost} {words}")
        self.reviewing = None
        reviewing.close(keep_node=bool(lost))
        self.list.show(None)
        self.slices.show(None)
        self.show3d.setSegmentationNode(None)
        self.changes.text = ""
        self.say(words)
        self.rating.show(None)
        self.cases.case_left()

    def _font_changed(self, font: Any) -> None:
        for table in (self.list, self.cases.table):  # the widgets get it after this signal
            self._later(table.font_changed)

    def _node(self) -> Any:
        return self.reviewing.shown.node if self.reviewing is not None and self.reviewing.shown is not None else None

    @staticmethod
    def _table(run: FinishedRun | None, kind: str) -> Any:
        nodes = [n for n in (run.tables if run is not None else ()) if n.GetAttribute(NAME_ATTRIBUTE) == kind]
        return table_from_node(nodes[0]) if nodes and nodes[0].GetScene() is not None else None

    @staticmethod
    def _probabilities(run: FinishedRun | None) -> dict[str, Any]:
        if run is None:
            return {}
        names = [c.name for c in run.model.classes]
        ends = {name: [n for n in run.probabilities if n.GetName().endswith(f" {name} probability")] for name in names}
        return {name: nodes[0] for name, nodes in ends.items() if nodes}

    @drawn_once
    def go(self, id: int) -> None:
        """Show a finding in all views."""
        if self.reviewing is None or id not in self.reviewing.review.findings:
            return
        self.reviewing.go(id)
        self._place_timer.start()
        self.list.select(id)
        self.threshold.update()
        self._update()

    # -- versions -----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save a version now."""
        if self.reviewing is None:
            return
        try:
            file = self.reviewing.save()
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self.say(_("Saved: {file}").format(file=file))
        self._update()

    def drawing(self, on: bool) -> None:
        """Make room for the editor, or take it back."""
        for widget in (self.rating.widget, self.compare.section, self.start_button):
            widget.visible = not on and (widget is not self.rating.widget or self.reviewing is not None)

    # -- what is said -------------------------------------------------------------------------------------------

    def _findings_changed(self, ids: set[int] | None) -> None:
        self.list.refresh(ids)
        self._update()
        self._count_timer.start()
        if not self._write_due:
            self._write_due = True
            self._later(self._write)

    def _write(self) -> None:
        self._write_due = False
        if self.reviewing is None:
            return
        try:
            self.reviewing.write()
        except MedSegError as error:
            self.say(str(error))
        if self.reviewing.opened.journal.problem:
            self.say(self.reviewing.opened.journal.problem)

    def _show_changes(self) -> None:
        if self.reviewing is None:
            return
        texts = []
        for c in self.reviewing.review.changes():
            if c.added or c.removed:
                dice = "" if c.dice is None else _(", Dice {dice}").format(dice=f"{c.dice:.3f}")
                signed = [f"+{c.added_ml:.3g} ml"] * bool(c.added) + [f"\u2212{c.removed_ml:.3g} ml"] * bool(c.removed)
                texts.append(f"{c.name}: {', '.join(signed)}{dice}")
        self.changes.text = _("Against the model: ") + ("; ".join(texts) or _("unchanged"))
        self.changes.visible = self.reviewing.shown is not None

    def say(self, words: str) -> None:
        """Tell the reader."""
        self._words = words
        self._update()

    def _update(self) -> None:
        open_ = self.reviewing is not None
        review = self.reviewing.review if open_ else None
        self.start_button.text = _("Leave this case") if open_ else _("Start review")
        self.ui.nodes.visible = not open_
        self.actions.update()
        self.slices.update()
        self.ui.desk.visible = open_
        self.ui.rest.visible = not open_
        self.show3d.enabled = self._node() is not None
        self.keeping.update()
        lines = []
        if review is not None:
            words = _("{case}: {left} of {total} findings left.")
            if not review.findings and self.reviewing.of_slices:
                words = _("{case}: no slice is above the threshold. Say where something was missed (D).")
            elif not review.findings:
                words = _("{case}: the mask has no findings. Draw what was missed (D).")
            total = len(review.findings)
            lines.append(words.format(case=self.reviewing.work.case, left=review.left, total=total))
        lines.append(self._words)
        words = " ".join(line for line in lines if line)
        # What reading a difficult series has to say may take half of the tab.
        self.ui.status.text = words if len(words) <= _LONG else words[:_LONG].rsplit(" ", 1)[0] + " ..."
        self.ui.status.toolTip = words

    def _apply_fade(self) -> None:
        if self.reviewing is not None:
            self.reviewing.fade(self.fade.checked)

    # -- the tab ------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        self._seen = True
        self.actions.keys.set_enabled(True)
        self.cases.enter()

    def exit(self) -> None:
        self._seen = False
        self.actions.keys.set_enabled(False)
        self.cases.exit()
        self.actions.stop()

    def cleanup(self) -> None:
        slicer.app.disconnect("fontChanged(QFont)", self._font_changed)
        self.actions.keys.set_enabled(False)
        self.cases.cleanup()
        self.compare.folders.stop()
        self.leave()
        self.actions.keys.remove()

    def set_parameters(self, parameters: Any) -> None:
        """Nothing of this tab is kept in the parameter node: a review has files of its own."""

    def parameters_changed(self) -> None:
        """As `set_parameters`."""

    def scene_closing(self) -> None:
        self.leave()
        self.cases.close_list(forget=False)
        self._run = None

    def scene_closed(self) -> None:
        self.actions.editor.scene_closed()
        self.compare.scene_closed()
        self._update()

    def scene_changed(self) -> None:
        """A volume was added; the selectors see it by themselves."""

    def node_removed(self, node: Any) -> None:
        if self.reviewing is not None and node in (self.reviewing.volume, self._node()):
            self.leave()
            self.say(_("The image or the reviewed mask was removed from the scene; what was decided is kept."))

    def run_finished(self, run: FinishedRun) -> None:
        self._run = run
        if self.reviewing is None:
            self.ui.volume.setCurrentNode(run.volume)
            self.ui.mask.setCurrentNode(run.segmentation)
