"""Which volumes go into the model, and whether they fit."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.geometry.volume import Volume
from medseg.model.card import CardChannel, ModelCard
from medseg_mrml import volume_from_node

from ..parameters import input_nodes, set_input_node
from . import frames, views
from .fit import Fit, expectation, fit

# Shown while no model is chosen: one volume of any kind.
_ANY = (CardChannel("Volume"),)


class InputsSection:
    """One node selector a channel, region of interest, frames of a sequence, and the line that says what fits.

    ``on_change()`` is called after each choice of the user.
    """

    def __init__(self, ui: Any, scene: Any, on_change: Callable[[], None]) -> None:
        self._ui, self._scene, self._on_change = ui, scene, on_change
        self._rows: list[tuple[Any, Any]] = []
        self._card: ModelCard | None = None
        self._parameters: Any = None
        self._updating = False
        self._guessed: dict[int, str] = {}
        ui.framesSelector.addItems([_("The frame that is shown"), _("All frames")])
        ui.framesSelector.connect("currentIndexChanged(int)", self._frames_chosen)

    def set_parameters(self, parameters: Any) -> None:
        """Show the choices kept in ``parameters`` (None: no parameter node at the moment)."""
        self._parameters = parameters
        self.refresh()

    def set_card(self, card: ModelCard | None) -> None:
        """Ask for the channels of ``card``."""
        before, self._card = self._card, card
        self._updating = True
        channels = self._channels()
        for n, channel in enumerate(channels):
            if n == len(self._rows):
                self._add_row(n)
            label, selector = self._rows[n]
            label.text = f"{channel.name}:" if len(channels) > 1 else _("Volume:")
            selector.toolTip = channel.description or _("The volume that the model runs on.")
        shown = len(channels)
        for n, (label, selector) in enumerate(self._rows):
            label.setVisible(n < shown)
            selector.setVisible(n < shown)
        self._updating = False
        self.fill(again=before is None)
        self.refresh()

    def fill(self, again: bool = False) -> None:
        """Choose a fitting volume for each channel that has none: the visible one first, then by modality and name.

        ``again``: what was guessed before is guessed anew, as it always is while no model is chosen.
        """
        if self._parameters is None:
            return
        channels = self._channels()
        chosen = self.volumes()
        if again or self._card is None:
            chosen = [v if v is None or v.GetID() != self._guessed.get(n) else None for n, v in enumerate(chosen)]
        free = [v for v in self._candidates() if v not in chosen]
        background = views.visible_background(self._scene)
        for n, channel in enumerate(channels):
            if chosen[n] is None and free:
                best = max(free, key=lambda v, c=channel: _likely(v, c, v is background))
                free.remove(best)
                set_input_node(self._parameters, n, best)
                self._guessed[n] = best.GetID()

    def first(self) -> Volume | None:
        """The first volume as it is now; None where none is chosen or it cannot be read."""
        node = next(iter(self.volumes()), None)
        try:
            return volume_from_node(node) if node is not None else None
        except MedSegError:
            return None

    def volumes(self) -> list[Any]:
        """The chosen volume nodes in the order of the channels, None where one is missing."""
        return [] if self._parameters is None else input_nodes(self._parameters, len(self._channels()))

    def checked(self) -> Fit | None:
        """What the fit line says of the present choice, None without a model."""
        if self._card is None:
            return None
        volumes: list[Volume | None] = []
        problems: list[str] = []
        for node in self.volumes():
            try:
                volumes.append(volume_from_node(node) if node is not None else None)
            except MedSegError as error:
                problems.append(str(error))
        if problems or len(volumes) != len(self._card.channels):
            return Fit(expectation(self._card), problems=tuple(problems) or (_("Open the module to choose volumes."),))
        return fit(self._card, volumes)

    def refresh(self) -> Fit | None:
        """Show choices and fit as they are now."""
        self._updating = True
        volumes = self.volumes()
        for (_label, selector), node in zip(self._rows, volumes):  # noqa: B905 - there may be more rows than channels
            if selector.currentNode() is not node:
                selector.setCurrentNode(node)
        sequence = bool(volumes) and volumes[0] is not None and frames.frame_count(volumes[0]) > 1
        self._ui.framesLabel.setVisible(sequence)
        self._ui.framesSelector.setVisible(sequence)
        if self._parameters is not None:
            self._ui.framesSelector.currentIndex = 1 if self._parameters.allFrames else 0
        self._updating = False
        state = self.checked()
        self._ui.fitLabel.text = fit_text(state) if state else _("Choose a model.")
        self._ui.fitLabel.toolTip = fit_tip(state) if state else ""
        return state

    def _channels(self) -> Sequence[CardChannel]:
        return self._card.channels if self._card is not None else _ANY

    def _add_row(self, channel: int) -> None:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"]
        selector.showChildNodeTypes = False
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.renameEnabled = True
        selector.noneEnabled = True
        selector.noneDisplay = _("Choose a volume")
        selector.setMRMLScene(self._scene)
        label = qt.QLabel()
        self._ui.channelsWidget.layout().addRow(label, selector)
        self._rows.append((label, selector))
        selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: self._chosen(channel, node))

    def _chosen(self, channel: int, node: Any) -> None:
        if not self._updating and self._parameters is not None:
            self._guessed.pop(channel, None)
            set_input_node(self._parameters, channel, node)
            self._on_change()

    def _frames_chosen(self, index: int) -> None:
        if not self._updating and self._parameters is not None:
            self._parameters.allFrames = index == 1
            self._on_change()

    def _candidates(self) -> list[Any]:
        found = []
        for n in range(self._scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")):
            node = self._scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
            plain = node.GetClassName() in ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode")
            if plain and not node.GetHideFromEditors() and node.GetImageData() is not None:
                found.append(node)
        return found


def _likely(node: Any, channel: CardChannel, visible: bool) -> int:
    """How well a volume seems to suit a channel; higher is better."""
    try:
        volume = volume_from_node(node)
    except MedSegError:
        return -10
    score = 2 if visible else 0
    if channel.name.lower() in (node.GetName() or "").lower():
        score += 3
    if channel.modality and volume.modality is not None:
        score += 4 if volume.modality in channel.modality else -4
    return score - (8 if volume.channels > 1 else 0)


def fit_text(state: Fit) -> str:
    """One sentence as rich text: whether the volume fits, in the reader's words; the rest is in the tool tip."""
    if state.problems:
        return _marked(_("Not possible"), state.problems)
    if state.warnings:
        return _marked(_("Warning"), state.warnings)
    if state.unstated:
        return _marked(_("Please check"), state.unstated)
    return _marked(_("Fits"), [_("this model reads {what}.").format(what=state.reads)])


def fit_tip(state: Fit) -> str:
    """All that is known, as rich text: volumes, warnings, what the network gets."""
    lines = [html.escape(line) for line in (*state.volumes, *state.unstated, *state.problems, *state.warnings)]
    return "<br>".join([*lines, f"<b>{_('The network gets')}:</b> {html.escape(state.expects)}"])


def _marked(word: str, sentences: Sequence[str]) -> str:
    more = _(" (and {count} more, see the tool tip)").format(count=len(sentences) - 1) if len(sentences) > 1 else ""
    return f"<b>{word}:</b> {html.escape(sentences[0])}{more}"
