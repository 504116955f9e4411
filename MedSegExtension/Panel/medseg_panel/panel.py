"""The panel: its tabs, and what one tab hands to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from .collaborators import Collaborators, slicer_collaborators
from .review.tab import ReviewTab
from .seams import FinishedRun, Neighbours, Tab
from .segment.runs import sentence_of
from .segment.tab import SegmentTab

__all__ = ["OTHER_TABS", "Collaborators", "Panel", "slicer_collaborators"]

# What stands beside *Segment*, in this order. Each makes its tab from what `seams.Neighbours` offers.
OTHER_TABS: tuple[Callable[[Neighbours], Tab], ...] = (ReviewTab,)


class Panel:
    """Holds the tabs and tells each of them what happens to the module and the scene.

    The first tab is *Segment*, whose widgets are in the .ui file. Where there is no other tab, no tab bar is shown.
    """

    def __init__(
        self,
        ui: Any,
        scene: Any,
        others: Collaborators,
        tabs: Sequence[Callable[[Neighbours], Tab]] | None = None,
    ) -> None:
        self._ui = ui
        self._entered = False
        self.segment = SegmentTab(ui, scene, others, self._run_finished)
        self.tabs: list[Tab] = [self.segment]
        self._shown: Tab = self.segment
        for make in OTHER_TABS if tabs is None else tabs:
            try:
                tab = make(Neighbours(scene, others.dialogs, others.store, others.later, self.segment, self.show))
            except Exception as error:  # a tab that cannot be made must not take the others with it
                told = _("A tab of MedSeg could not be made: {error}").format(error=sentence_of(error))
                self.segment.run.log(told)
                others.dialogs.error(told)
                continue
            ui.tabs.addTab(tab.widget, tab.title)
            self.tabs.append(tab)
        ui.tabs.connect("currentChanged(int)", self._tab_chosen)

    def show(self, tab: Tab) -> None:
        """Bring ``tab`` to the front."""
        self._ui.tabs.currentIndex = self.tabs.index(tab)

    def _tab_chosen(self, index: int) -> None:
        left, self._shown = self._shown, self.tabs[index]
        if self._entered and left is not self._shown:
            left.exit()
            self._shown.enter()

    def _run_finished(self, run: FinishedRun) -> None:
        for tab in self.tabs[1:]:
            tab.run_finished(run)

    @property
    def busy(self) -> bool:
        """Something is under way that would end with the module: a run, an import, an export, a comparison."""
        return self.segment.results.dicom.busy or any(tab.busy for tab in self.tabs)

    # -- the module is entered and left, the scene changes ------------------------------------------------------

    def enter(self) -> None:
        """The user came to the module."""
        self._entered = True
        self._shown.enter()

    def exit(self) -> None:
        """The user went to another module."""
        self._entered = False
        self._shown.exit()

    def cleanup(self) -> None:
        """The module's widget goes away."""
        for tab in self.tabs:
            tab.cleanup()

    def set_parameters(self, parameters: Any) -> None:
        """Show the choices kept in ``parameters``; None while there is no parameter node (the scene closes)."""
        for tab in self.tabs:
            tab.set_parameters(parameters)

    def parameters_changed(self) -> None:
        """The parameter node was changed, by a widget, a script or a loaded scene."""
        for tab in self.tabs:
            tab.parameters_changed()

    def scene_closing(self) -> None:
        """The scene is about to be closed."""
        for tab in self.tabs:
            tab.scene_closing()

    def scene_closed(self) -> None:
        """All nodes are gone."""
        for tab in self.tabs:
            tab.scene_closed()

    def scene_changed(self) -> None:
        """A volume was added."""
        for tab in self.tabs:
            tab.scene_changed()

    def node_removed(self, node: Any) -> None:
        """A node was removed."""
        for tab in self.tabs:
            tab.node_removed(node)
