"""The Segment tab: choose a volume and a model, run, look at the result; and what the scene does meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.model.card import ModelCard
from medseg_mrml import rehearse

from ..collaborators import Collaborators
from ..models.more_models import MoreModels
from ..models.packages import PackagesMenu
from ..parameters import set_input_node
from ..seams import FinishedRun
from .apart import Apart
from .choices import ChoicesRows
from .inputs import InputsSection
from .model import ModelSection
from .model_view import ModelView
from .outcome import Outcome
from .report import ReportButton
from .results import ResultsSection
from .run import RunSection
from .runs import Runs, run_options, sentence_of
from .server import ServerSection
from .suggestion import Suggestion
from .windowing import WindowingSection


class SegmentTab:
    """Wires the sections. It is a `seams.Tab`, the `seams.Segmenter` of the other tabs, and the `runs.RunView`.

    ``on_finished(run)`` is told of each run that ended with a result.
    """

    title = _("Segment")

    def __init__(
        self, ui: Any, scene: Any, others: Collaborators, on_finished: Callable[[FinishedRun], None] = lambda run: None
    ) -> None:
        self._ui, self._scene, self._on_finished = ui, scene, on_finished
        self.widget, self._worker, self._dialogs = ui.segmentTab, others.worker, others.dialogs
        self._parameters: Any = None
        self._own_output = ""
        self._warm = self._rehearsed = self._updating = self._look_due = False
        self._running_card: ModelCard | None = None
        self.runs = Runs(scene, others.worker, self, others.later)
        self.run = RunSection(ui, self.apply, self.cancel, self.ask_devices)
        self.choices = ChoicesRows(ui)
        self.server = ServerSection(ui, others, self.run.log)
        self.inputs = InputsSection(ui, scene, self._input_chosen)
        self.view = ModelView(scene, others.worker, self.run.log, self.update)
        self._suggestion = Suggestion(self)
        self.windowing = WindowingSection(ui, scene, self.inputs.volumes, self.update, self._show_input)
        self.results = ResultsSection(ui, scene, others, self.run.log, self.update)
        self.report = ReportButton(ui, scene, others.worker, self.run, lambda: self.model.card)
        self._installer = others.installer(self.run.log)
        self.apart = Apart(self, others.worker, self._installer)
        menu = qt.QMenu(ui.manageModelsButton)
        menu.toolTipsVisible = True
        ui.manageModelsButton.setMenu(menu)
        self.more = MoreModels(
            menu, others.worker, others.dialogs, self.run, self._ready, others.later, self.update, self._model_added
        )
        menu.addSeparator()
        self.model = ModelSection(ui, menu, others.store, others.dialogs, self._model_chosen, self._ask_about_model)
        menu.addSeparator()
        self.packages = PackagesMenu(menu, others, self._installer, self.run.log, self._failed)
        self._show_card(self.model.card)
        self.update()

    # -- the parameter node -----------------------------------------------------------------------------------

    def set_parameters(self, parameters: Any) -> None:
        """Show the choices kept in ``parameters``; None while there is no parameter node (the scene closes)."""
        self._parameters = parameters
        for section in (self.inputs, self.windowing, self.choices, self.run, self.results):
            section.set_parameters(parameters)
        if parameters is not None:
            self.parameters_changed()
            self.inputs.fill()
        self.update()

    def parameters_changed(self) -> None:
        """The parameter node was changed, by a widget, a script or a loaded scene."""
        wanted = self._parameters.modelId if self._parameters is not None else ""
        shown = self.model.card.id if self.model.card is not None else ""
        if self._parameters is not None and wanted != shown:
            self.model.choose(wanted)
            self._show_card(self.model.card)
            if wanted and self.model.card is None:
                self.run.log(_("The model {id} of this scene is not installed here.").format(id=wanted))
        self.choices.refresh()
        self.update()

    def update(self) -> None:
        """Show what fits and whether Apply can be pressed."""
        if self._updating:
            return
        self._updating = True
        self._suggestion.look_later()
        try:
            state = self.inputs.refresh()
            why = self._why_not()
            if not why and state is not None and not state.usable:
                why = state.problems[0]
            busy = self.runs.running or self.more.busy or self.view.running
            self.run.set_state(busy, not why, why or _("Run the model on the chosen volume."))
            self.more.set_enabled(not busy)
            self.packages.set_enabled(not busy)
        finally:
            self._updating = False

    def _why_not(self) -> str:
        card = self.model.card
        if self._parameters is None:
            return _("The scene is being closed.")
        if self.runs.running:
            return _("A run is going on.")
        if self.more.busy:
            return _("A model is being fetched.")
        if self.view.running:
            return _("What the model sees is being made.")
        if card is None:
            return _("Choose a model.")
        if card.error:
            return card.error
        if not card.has_weights:
            return _("The weights of this model are not on this computer; add the model's package.")
        return ""

    # -- the module is entered and left, the scene changes ------------------------------------------------------

    def enter(self) -> None:
        """The user came to the module."""
        if not self._rehearsed:
            self._rehearsed = True
            rehearse(self._scene)
        self.model.refresh()
        self.inputs.fill()
        self.results.refresh()
        self.update()

    def exit(self) -> None:
        """The user went to another module; a run goes on."""
        self.windowing.leave()

    def cleanup(self) -> None:
        """The module's widget goes away: the worker ends with it."""
        self.windowing.leave()
        self.results.cleanup()
        self._worker.shutdown()

    def scene_closing(self) -> None:
        """The scene is about to be closed."""
        self.view.hide()
        self.runs.scene_closing()
        self.windowing.scene_closed()

    def scene_closed(self) -> None:
        """All nodes are gone."""
        self.results.scene_closed()
        self.update()

    def scene_changed(self) -> None:
        """A volume was added; it is looked at when whoever adds it has filled it."""
        if not self._look_due:
            self._look_due = True
            qt.QTimer.singleShot(0, self._look_at_scene)

    def _look_at_scene(self) -> None:
        self._look_due = False
        if self._parameters is not None:
            self.inputs.fill()
            self.update()

    def node_removed(self, node: Any) -> None:
        """A node was removed."""
        self.runs.node_removed(node)
        if node.IsA("vtkMRMLTableNode") or node.IsA("vtkMRMLSegmentationNode") or node.IsA("vtkMRMLPlotChartNode"):
            self.results.refresh()
        self.update()

    # -- model ------------------------------------------------------------------------------------------------

    def take(self, model_id: str) -> None:
        """Choose a model as the user would."""
        self.model.choose(model_id)
        self._model_chosen(self.model.card)

    @property
    def open(self) -> bool:
        """True while there is a scene with parameters."""
        return self._parameters is not None

    def _model_chosen(self, card: ModelCard | None) -> None:
        if self._parameters is not None:
            self._parameters.modelId = card.id if card is not None else ""
        self._show_card(card)
        self._new_output()
        self._warm_up()
        self.update()

    def _warm_up(self) -> None:
        """A model was chosen: the worker starts now, so that Apply finds it ready and the devices are known."""
        if not self._warm and self._installer.satisfied():
            self._warm = True
            self.ask_devices()

    def _input_chosen(self) -> None:
        self._new_output()
        self.update()

    def _new_output(self) -> None:
        """Another model or volume: its result gets a new segmentation, unless the user chose one."""
        output = self._parameters.outputSegmentation if self._parameters is not None else None
        if output is not None and output.GetID() == self._own_output and not self.runs.running:
            self._parameters.outputSegmentation = None

    def _show_card(self, card: ModelCard | None) -> None:
        self.inputs.set_card(card)
        self.windowing.set_card(card)
        self.choices.set_card(card)
        self.run.show_tiles(card is not None and card.expects.get("mode") == "sliding_window")
        self.run.show_mirroring(bool(card and card.expects.get("mirror_axes")))

    def _ask_about_model(self, what: str, model: str) -> None:
        if not self._ready():
            self.model.answered("", _("The packages that check models are not installed."))
            return
        done = {"check": self._checked, "add": self._added}[what]
        self._worker.query(what, done, lambda error: self.model.answered("", error["message"]), model=model)

    def _checked(self, answer: dict[str, Any]) -> None:
        warnings = answer.get("warnings") or []
        self.model.answered("check", _("The model is in order.") if not warnings else " ".join(warnings))

    def _added(self, answer: dict[str, Any]) -> None:
        self._model_added(answer["id"])

    def _model_added(self, model_id: str) -> None:
        """There is a new model: it becomes the chosen one."""
        self.model.refresh()
        self.model.choose(model_id)
        self._model_chosen(self.model.card)

    # -- run --------------------------------------------------------------------------------------------------

    def _show_input(self, shown: bool) -> None:
        """Show the network's real input beside the original, where that can be made now."""
        card, state = self.model.card, self.inputs.checked()
        if not shown:
            self.view.hide()
        elif self._why_not() or card is None or state is None or not state.usable:
            self.run.log(_("Level and width are the model's; its real input cannot be made now."))
        elif not self._installer.satisfied():
            self.run.log(_("Level and width are the model's; its real input needs the packages that Apply installs."))
        else:
            self.view.show(card, self.inputs.volumes(), self.options(card))
        self.update()

    def cancel(self) -> None:
        """The user pressed Cancel."""
        if self.view.running:
            self.view.hide()
        elif self.more.busy:
            self.more.cancel()
        else:
            self.runs.cancel_by_user()

    def apply(self) -> None:
        """Run the chosen model on the chosen volumes."""
        card, state = self.model.card, self.inputs.checked()
        if self.runs.running or self._why_not() or card is None or state is None or not state.usable:
            return
        self._ui.applyButton.enabled = False
        try:
            if self._ready() and self.server.ready():
                self._suggestion.remember(card)
                self.run.begin(_("Running {title}.").format(title=card.title))
                for sentence in state.warnings:
                    self.run.log(sentence)
                if unused := self.windowing.unused():
                    self.run.warn(unused)
                parameters, self._running_card = self._parameters, card
                self.runs.start(
                    card,
                    self.inputs.volumes(),
                    self.options(card),
                    output=parameters.outputSegmentation,
                    region=parameters.regionOfInterest,
                    all_frames=parameters.allFrames,
                    previous=self.results.nodes(),
                )
        except Exception as error:  # whatever it is, the user is told and can go on
            self._failed(sentence_of(error))
        self.update()

    def options(self, card: ModelCard) -> dict[str, Any]:
        """What the worker is asked, as chosen."""
        chosen = run_options(self._parameters, card, self.choices.chosen(), self.windowing.overrides())
        return {**chosen, **self.server.options()}

    def _ready(self) -> bool:
        """True where the worker has its packages, installed now if the user agrees."""
        try:
            if self._installer.ensure():
                return True
            self.run.finish(_("The needed Python packages were not installed, so nothing was run."), done=False)
        except MedSegError as error:
            self._failed(str(error))
        return False

    def run_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        self.run.progress(stage, text, fraction, seconds_left)

    def run_warning(self, sentence: str) -> None:
        self.run.warn(sentence)

    def run_note(self, sentence: str) -> None:
        self.run.note(sentence)

    def run_ended(self, sentence: str, outcome: Outcome | None, failed: bool) -> None:
        # What follows changes the parameter node several times; one look at it afterwards is enough.
        self._updating = True
        try:
            if outcome is not None and self._parameters is not None:
                self.packages.tell_engine(outcome.provenance, self.run)
                self.results.show(outcome)
                if outcome.applied is not None:
                    if self._parameters.outputSegmentation is not outcome.applied.node:
                        self._own_output = outcome.applied.node.GetID()
                    self._parameters.outputSegmentation = outcome.applied.node
        finally:
            self._updating = False
        if failed:
            self._failed(sentence)
        else:
            self.run.finish(sentence, done=outcome is not None)
        self.update()
        if outcome is not None and self._running_card is not None:
            segmentation = outcome.applied.node if outcome.applied is not None else None
            tables, probabilities = tuple(outcome.tables), tuple(outcome.probabilities)
            self._on_finished(FinishedRun(self._running_card, outcome.volume, segmentation, tables, probabilities))

    def _failed(self, sentence: str) -> None:
        self.run.finish(sentence, done=False)
        self._dialogs.error(sentence)

    def run_finished(self, run: FinishedRun) -> None:
        """Not told to this tab, which tells it."""

    # -- asked by other tabs ----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """True while a run goes on or a model is fetched."""
        return bool(self.runs.running or self.more.busy or self.view.running)

    def run_on(self, model_id: str, volume: Any) -> str:
        """Choose model and volume, and run; "" where the run goes on, else why it does not."""
        if self._parameters is None or self.busy:
            return self._why_not()
        self.model.refresh()
        self.model.choose(model_id)
        if self.model.card is None:
            return _("The model {id} is not installed here.").format(id=model_id)
        self._model_chosen(self.model.card)
        for n in range(len(self.model.card.channels)):
            set_input_node(self._parameters, n, volume if n == 0 else None)
        self.inputs.fill()
        self._input_chosen()
        state = self.inputs.checked()
        why = self._why_not() or (state.problems[0] if state is not None and not state.usable else "")
        if not why:
            self.apply()
            why = "" if self.runs.running else self._ui.progressLabel.text
        return why

    # -- devices, packages ----------------------------------------------------------------------------

    def ask_devices(self) -> None:
        """Let the worker try each device."""
        if self._ready():
            self.run.log(_("Trying the devices..."))
            self._worker.query(
                "devices", lambda answer: self.run.set_devices(answer["devices"]), lambda e: self.run.log(e["message"])
            )
