"""One open case: its nodes, its review, and what keeps the two in step. No widgets here.

Imported when the first case is opened, since it brings scipy and the readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import slicer
from slicer.i18n import tr as _

from medseg.geometry.grid import Grid
from medseg.io.segmentations import Segmentation
from medseg.monitor import Monitor
from medseg.review.case_file import CaseReview, save_slices, save_version, take_decisions, write_case
from medseg.review.decisions import Review
from medseg.review.regrow import all_regrown, grown, regrown
from medseg.review.resuming import OpenCase, open_review, take_mask
from medseg.review.slices import SliceReview
from medseg_mrml.arrays import array_of, grid_of
from medseg_mrml.looking import Faded, Spotlight, Turned, look_at, plane_in_view
from medseg_mrml.reviewed import ReviewedNode

from .work import Work, regions_of

Labels = npt.NDArray[Any]


class Reviewing:
    """An open case. ``on_change(ids)`` is told of findings that changed, None where any may have.

    ``on_drawn()``: somebody drew on the node; `take_drawing` is to be called when the editor is done.
    """

    def __init__(
        self, scene: Any, work: Work, on_change: Callable[[set[int] | None], None], on_drawn: Callable[[], None]
    ) -> None:
        """Opens the case as its reader left it. Raises `MedSegError` where it cannot."""
        self.scene, self.work, self.volume = scene, work, work.volume
        self._on_change, self._on_drawn = on_change, on_drawn
        self._own = False
        #: Layer -> `ReviewedNode.state` when its drawing was last taken over.
        self._known: dict[int, Any] = {}
        self._maps: dict[str, Labels] = {}
        self._unused: list[str] = []
        self._observers: list[Any] = []
        self._spotlight, self._faded, self._turned = Spotlight(scene), Faded(), Turned()
        self._source_shown: bool | None = None
        #: Names of segments that were removed from the node and came back, until somebody is told.
        self.brought_back: list[str] = []
        monitor = Monitor()
        self.opened: OpenCase = open_review(work.folder, self._fresh(), self._new_kept(), monitor=monitor)
        self.warnings = [*self._unused, *monitor.warnings, *self.opened.warnings]
        self.review: Review = self.opened.review
        self.kept: CaseReview = self.opened.kept
        self.current = self.kept.finding if self.kept.finding in self.review.findings else 0
        self.regions = regions_of(self.review, work.lesions)
        #: True where there are steps that no saved version holds.
        self.unsaved = self.review.steps > 0
        self.shown: ReviewedNode | None = self._show() if work.masks is not None else None
        #: Degrees by which the slice views were turned into the planes of the image.
        self.turned = self._turned.turn(scene, work.volume)

    def _fresh(self) -> Review:
        work = self.work
        if work.masks is None:
            assert work.slices is not None
            return SliceReview(work.slices, grid_of(work.volume), work.case, work.model_id)
        maps = {name: _map(node, work.masks.grid) for name, node in (work.probabilities or {}).items()}
        self._maps = {name: array for name, array in maps.items() if array is not None} | dict(work.maps or {})
        words = _("The probabilities of {name} are gone or lie on another grid than the mask; they are not used.")
        self._unused = [words.format(name=name) for name, array in maps.items() if array is None]
        return Review(work.masks, probabilities=self._maps)

    def _new_kept(self) -> CaseReview:
        work = self.work
        mask = work.mask_file or (work.masks.name if work.masks is not None else "")
        return CaseReview(work.case, work.image_file or work.case, mask, work.model_id, work.reader)

    def _show(self) -> ReviewedNode:
        name = f"{self.work.case} " + _("reviewed")
        layers = self.review.reviewed().layers
        shown = ReviewedNode(layers, self.scene, self.volume, name, self.work.model_id)
        if self.work.source is not None and self.work.source.GetDisplayNode() is not None:
            display = self.work.source.GetDisplayNode()
            self._source_shown = bool(display.GetVisibility())
            display.SetVisibility(False)
        segmentation = shown.node.GetSegmentation()
        for event in (
            slicer.vtkSegmentation.SourceRepresentationModified,
            slicer.vtkSegmentation.RepresentationModified,
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
        ):
            self._observers.append((segmentation, segmentation.AddObserver(event, self._node_changed)))
        return shown

    # -- decisions ----------------------------------------------------------------------------------------------

    def decide(self, id: int, state: str) -> None:
        """Accept, reject, leave open, or ("") take a decision back."""
        self.take_drawing()
        self.opened.journal.decide(id, state)
        self._after({id})

    def relabel(self, id: int, name: str) -> None:
        """Give a finding another class."""
        self.take_drawing()
        self.opened.journal.relabel(id, name)
        self._after({id})

    def next_class(self, id: int) -> str:
        """The class after the present one of a finding, "" where there is no other."""
        names = self.review.classes_beside(id)
        now = self.review.class_of(id)
        return names[(names.index(now) + 1) % len(names)] if now in names and len(names) > 1 else ""

    def undo(self) -> bool:
        """Take the last step back, decision or drawing; its finding is the one that is looked at then."""
        self.take_drawing()
        return self._stepped(self.opened.journal.undo())

    def redo(self) -> bool:
        """Do again what was taken back."""
        self.take_drawing()
        return self._stepped(self.opened.journal.redo())

    def _stepped(self, done: bool) -> bool:
        if done:
            self.current = next(iter(self.review.concerned), self.current)
            self._after(None)
        return done

    def _after(self, ids: set[int] | None) -> None:
        self.unsaved = True
        if self.shown is not None and self.review.touched is not None:
            layer, box = self.review.touched
            taken = self.shown.state(layer) == self._known.get(layer)
            self._own = True
            try:
                self.shown.show(layer, box, self.review.labels[layer][box])
            finally:
                self._own = False
            if taken:
                self._known[layer] = self.shown.state(layer)
        if self.current not in self.review.findings:
            self.current = 0
        self._on_change(ids)

    # -- slices of a classifier -----------------------------------------------------------------------------------

    @property
    def of_slices(self) -> bool:
        """Whether findings are slices with scores, and there is no mask."""
        return isinstance(self.review, SliceReview)

    def row_in_view(self) -> int:
        """The row of the table whose slice is in view, -1 where none is."""
        seen = plane_in_view(self.scene, self.volume)
        return -1 if seen is None or not isinstance(self.review, SliceReview) else self.review.nearest_row(*seen)

    def add_slice(self, name: str) -> int:
        """The reader sees ``name`` on the slice in view; the new finding's number, 0 where no slice is in view."""
        row = self.row_in_view()
        if row < 0:
            return 0
        id = self.opened.journal.add_slices(name, row, row + 1)
        self.current = id
        self._after(None)
        return id

    def end_at_view(self, id: int, *, first: bool) -> bool:
        """Let a finding begin (``first``) or end at the slice in view; False where that would leave nothing of it."""
        row = self.row_in_view()
        if row < 0 or not isinstance(self.review, SliceReview):
            return False
        start, stop = self.review.rows_of(id)
        start, stop = (row, stop) if first else (start, row + 1)
        if start >= stop:
            return False
        self.opened.journal.stretch(id, start, stop)
        self._after({id})
        return True

    def at_threshold(self, threshold: float) -> None:
        """List the slices of another threshold; what was decided stays."""
        self.opened.journal.at_threshold(threshold)
        self._after(None)

    # -- drawing ------------------------------------------------------------------------------------------------

    def _node_changed(self, caller: Any = None, event: Any = None) -> None:
        if not self._own:
            self._on_drawn()

    def take_drawing(self, *, thorough: bool = False) -> list[int]:
        """Take over what was drawn on the node; numbers of the new findings. Segments that were removed come back.

        A layer that VTK says was not modified is compared only with ``thorough``, as before a version is saved.
        """
        if self.shown is None or self.shown.node.GetScene() is None:
            return []
        self._own = True
        try:
            self.brought_back += self.shown.bring_back(self.review.labels)
        finally:
            self._own = False
        new: list[int] = []
        changed = False
        for n, labels in enumerate(self.review.labels):
            state = self.shown.state(n)
            if state == self._known.get(n) and not thorough:
                continue
            before = self.review.steps
            new += self.opened.journal.edited(n, self.shown.drawn(n, labels))
            self._known[n] = state
            changed = changed or self.review.steps != before
        if changed:
            self.unsaved = True
            if self.current not in self.review.findings:
                self.current = 0
            self._on_change(None)
        return new

    def draw(self, layer: int, labels: Labels) -> None:
        """Make ``labels`` (K, J, I) the reviewed ones of a layer, as one step."""
        self.take_drawing()
        self.opened.journal.edited(layer, labels)
        self._after(None)

    # -- thresholds ---------------------------------------------------------------------------------------------

    def probability_of(self, id: int) -> Labels | None:
        """The map (K, J, I) of a finding's class, None where it was not kept."""
        return self._maps.get(self.review.class_of(id)) if id in self.review.findings else None

    def preview(self, id: int, threshold: float) -> None:
        """Outline a finding as it would be at ``threshold``."""
        probability, seed = self.probability_of(id), self.review.mask(id)
        if probability is not None and seed.any():
            self.outline(*grown(probability, self.review.findings[id].slices, seed, threshold))

    def regrow(self, id: int, threshold: float) -> None:
        """Give a finding the shape that it has at ``threshold``, as one step."""
        self.take_drawing()
        probability = self.probability_of(id)
        if probability is None:
            return
        finding, seed = self.review.findings[id], self.review.mask(id)
        box, mask = grown(probability, finding.slices, seed, threshold)
        labels = self.review.labels[finding.layer]
        self.draw(finding.layer, regrown(labels, self.value_of(id), finding.slices, seed, box, mask))

    def regrow_all(self, id: int, threshold: float) -> None:
        """Give all findings of the class of ``id`` the shape that they have at ``threshold``, as one step."""
        self.take_drawing()
        probability, layer = self.probability_of(id), self.review.findings[id].layer
        if probability is not None:
            self.draw(layer, all_regrown(self.review.labels[layer], self.value_of(id), probability, threshold))

    def take_version(self, mask: Segmentation) -> list[str]:
        """Make a saved mask the reviewed one, as steps that can be undone; sentences of what was left out."""
        self.take_drawing()
        told = take_mask(self.opened.journal, mask)
        if self.shown is not None:
            whole = tuple(slice(0, n) for n in self.review.grid.shape)
            self._own = True
            try:
                for n, labels in enumerate(self.review.labels):
                    self.shown.show(n, whole, labels)  # type: ignore[arg-type]
            finally:
                self._own = False
        self.unsaved = True
        self._on_change(None)
        return told

    def value_of(self, id: int) -> int:
        """The label value that a finding has now."""
        name, layer = self.review.class_of(id), self.review.findings[id].layer
        return next(c.value for c in self.review.model.layers[layer].classes if c.name == name)

    def segment_to_add(self) -> str:
        """The segment that a missed finding is drawn on: of the current finding's class, else the first class."""
        if self.shown is None:
            return ""
        if self.current:
            return self.shown.segment_of(self.review.findings[self.current].layer, self.value_of(self.current))
        every = [(n, c) for n, layer in enumerate(self.review.model.layers) for c in layer.classes]
        lesions = [one for one in every if one[1].lesion] or every
        return self.shown.segment_of(lesions[0][0], lesions[0][1].value) if lesions else ""

    def intensities(self, id: int) -> tuple[float, float] | None:
        """The range of a finding's intensities, widened by half of it at both ends; None where there are none."""
        finding = self.review.findings[id]
        image = array_of(self.volume.GetImageData())
        inside = self.review.mask(id)
        if image.ndim != 3 or image.shape != self.review.grid.shape or not inside.any():
            return None
        values = image[finding.slices][inside]
        values = values[np.isfinite(values)]
        if not values.size:
            return None
        low, high = (float(v) for v in np.percentile(values, (5, 95)))
        margin = max((high - low) / 2, 1e-6 * max(abs(high), 1.0))
        return low - margin, high + margin

    # -- looking ------------------------------------------------------------------------------------------------

    def go(self, id: int, *, zoom: bool = True) -> None:
        """Show a finding: views move there, its outline stands out, the others fade."""
        finding = self.review.findings[id]
        self.current = id
        look_at(self.scene, self.volume, self.place_of(id), finding.extent, zoom=zoom and self.shown is not None)
        self.mark()

    def mark(self) -> None:
        """Let the outline of the finding that is looked at stand out, as the finding is now."""
        finding = self.review.findings.get(self.current)
        if self.shown is not None and finding is not None:
            self._spotlight.show(self.volume, self.review.grid, finding.slices, self.review.mask(finding.id))

    def place_of(self, id: int) -> tuple[float, float, float]:
        """RAS mm: the voxel in the middle of a finding, so that the views show a slice as it is, none between two."""
        grid, flip = self.review.grid, np.array([-1.0, -1.0, 1.0])
        index = np.rint(grid.to_index(np.array(self.review.findings[id].centre) * flip))
        r, a, s = (float(v) for v in grid.to_physical(np.clip(index, 0, np.array(grid.size) - 1)) * flip)
        return (r, a, s)

    def outline(self, box: tuple[slice, slice, slice], mask: npt.NDArray[np.bool_]) -> None:
        """Outline other voxels than a finding's, as a preview."""
        self._spotlight.show(self.volume, self.review.grid, box, mask)

    def fade(self, on: bool) -> None:
        """Let all but the outline fade, or not."""
        if on and self.shown is not None:
            self._faded.fade(self.shown.node)
        else:
            self._faded.undo(self.scene)

    # -- files --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write ``review.json``. Raises `OutputError`."""
        take_decisions(self.kept, self.review)
        self.kept.finding = self.current
        if self.kept.state == "to do":
            self.kept.state = "in progress"
        write_case(self.work.folder, self.kept)

    def save(self, comment: str = "") -> str:
        """Save the reviewed mask as a new version, or the answers of each slice; its file. Raises `OutputError`."""
        self.take_drawing(thorough=True)
        take_decisions(self.kept, self.review)
        self.kept.finding = self.current
        if isinstance(self.review, SliceReview):
            self.unsaved = False
            return save_slices(self.work.folder, self.kept, self.review).name
        file = save_version(self.work.folder, self.kept, self.review.reviewed(), comment).file
        self.unsaved = False
        return file

    def close(self, *, keep_node: bool = False) -> None:
        """Leave the case: the views' helpers go, the mask that was hidden is seen again."""
        for segmentation, tag in self._observers:
            segmentation.RemoveObserver(tag)
        self._observers = []
        self._faded.undo(self.scene)
        self._turned.undo(self.scene)
        self._spotlight.remove()
        source = self.work.source
        if self._source_shown and source is not None and source.GetScene() is not None:
            source.GetDisplayNode().SetVisibility(True)
        if self.shown is not None and not keep_node:
            self.shown.remove()


def _map(node: Any, grid: Grid) -> Labels | None:
    """The voxels of a probability volume, None where it is gone or lies on another grid."""
    if node is None or node.GetScene() is None or node.GetImageData() is None or not grid_of(node).same_as(grid):
        return None
    return array_of(node.GetImageData())
