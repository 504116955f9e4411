"""A reader's work on one segmentation: decisions on findings, corrections of voxels, undo and redo without limit.

The model's own mask is never changed. The reviewed one starts as its copy: voxels of a rejected finding leave it,
those of a relabelled one change their class. A decision touches the box of its finding only, so it is done at once
however large the volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.components import Box, difference, joined
from ..io.segmentations import Segmentation
from ..result import Layer
from .changes import Change, ChangeCounts
from .findings import ORDERS, Finding, components_of, measure, reviewed_classes

State = Literal["", "accepted", "rejected", "uncertain"]
STATES: tuple[State, ...] = ("accepted", "rejected", "uncertain")
Labels = npt.NDArray[Any]


@dataclass(frozen=True)
class Decision:
    """``name``: the class that the reader gave it, "" where it keeps the model's. ``added``: drawn by the reader."""

    state: State = ""
    name: str = ""
    added: bool = False


@dataclass(eq=False)
class Step:
    """What undoing needs: decisions and findings before and after, and the voxels of a box before and after."""

    before: dict[int, tuple[Finding | None, Decision | None]]
    after: dict[int, tuple[Finding | None, Decision | None]]
    layer: int = 0
    box: Box | None = None
    labels: tuple[Labels, Labels] | None = None
    numbers: tuple[Labels, Labels] | None = None


class Review:
    """One segmentation under review. ``findings`` and ``decisions`` are by id.

    ``probabilities``: class name -> map (K, J, I) on the segmentation's grid, where they were kept.
    """

    def __init__(
        self,
        segmentation: Segmentation,
        *,
        probabilities: Mapping[str, Labels] | None = None,
        connectivity: int = 26,
    ) -> None:
        self.model = segmentation
        self.grid = segmentation.grid
        self.labels: list[Labels] = [layer.labels.copy() for layer in segmentation.layers]
        self.findings: dict[int, Finding] = {}
        self.decisions: dict[int, Decision] = {}
        self._probabilities = dict(probabilities or {})
        self._connectivity = connectivity
        self._classes = reviewed_classes(segmentation)
        self._numbers: list[npt.NDArray[np.int32]] = []
        self._undo: list[Step] = []
        self._redo: list[Step] = []
        #: (layer, box) of the voxels that the last step, undo or redo changed, None where it changed none.
        self.touched: tuple[int, Box] | None = None
        #: The findings that it was about, without those that it removed.
        self.concerned: tuple[int, ...] = ()
        for n, labels in enumerate(self.labels):
            numbers, value_of = components_of(labels, self._values(n), connectivity)
            base = self._next
            if base > 1:
                numbers[numbers > 0] += base - 1
            self._numbers.append(numbers)
            wanted = {c + base - 1: (c + base - 1, self._name(n, v), n, v) for c, v in value_of.items()}
            self.findings |= {f.id: f for f in self._measured(numbers, wanted)}
        self._last = max(self.findings, default=0)
        voxels = {(n, value): 0 for n, value, _ in self._classes}
        for f in self.findings.values():
            voxels[f.layer, f.value] += f.voxels
        self._counts = ChangeCounts(segmentation.layers, self.grid.voxel_volume / 1000, voxels)

    # -- what there is ------------------------------------------------------------------------------------------

    def decision(self, id: int) -> Decision:
        """The reader's decision on a finding; an empty one where there is none yet."""
        return self.decisions.get(id, Decision())

    def listed(
        self, order: str = "size", *, name: str | None = None, unreviewed: bool = False, least_ml: float = 0.0
    ) -> list[Finding]:
        """The findings as a list shows them. ``order``: one of `ORDERS`; ``name``: of one class only."""
        chosen = [
            f
            for f in self.findings.values()
            if (name is None or self.class_of(f.id) == name)
            and not (unreviewed and self.decision(f.id).state)
            and f.volume_ml >= least_ml
        ]
        return sorted(chosen, key=ORDERS[order])

    def mask(self, id: int) -> npt.NDArray[np.bool_]:
        """The voxels of a finding within its box (`Finding.slices`); a rejected one has those that it had."""
        finding = self._known(id)
        return np.asarray(self._numbers[finding.layer][finding.slices] == id)

    def at(self, layer: int, index: tuple[int, int, int]) -> int:
        """The id of the finding at a voxel (k, j, i), 0 where there is none."""
        return int(self._numbers[layer][index])

    def classes_beside(self, id: int) -> list[str]:
        """Names that `relabel` takes for a finding, in the order of the labels."""
        return [c.name for c in self.model.layers[self._known(id).layer].classes]

    def class_of(self, id: int) -> str:
        """The class of a finding, as the reader has it."""
        return self.decision(id).name or self.findings[id].name

    @property
    def left(self) -> int:
        """How many findings have no decision."""
        return len(self.findings) - sum(bool(d.state) for id, d in self.decisions.items() if id in self.findings)

    def reviewed(self) -> Segmentation:
        """The reviewed segmentation, with the model's names, colours and codes."""
        layers = [Layer(a, layer.classes) for a, layer in zip(self.labels, self.model.layers, strict=True)]
        return replace(self.model, layers=tuple(layers))

    def changes(self) -> list[Change]:
        """Each class held against the model's mask, as it stands; counted with each step, so this is at once."""
        return self._counts.changes()

    # -- decisions ----------------------------------------------------------------------------------------------

    def decide(self, id: int, state: State) -> None:
        """Accept, reject or leave open a finding; "" takes the decision back."""
        finding, before = self._known(id), self.decision(id)
        if state not in ("", *STATES):
            raise InputError(f"{state!r} is no decision; they are: {', '.join(STATES)}.")
        self._settle(finding, replace(before, state=state))

    def relabel(self, id: int, name: str) -> None:
        """Give a finding another class of its layer, and accept it."""
        finding = self._known(id)
        if self._value(finding.layer, name) is None:
            names = ", ".join(c.name for c in self.model.layers[finding.layer].classes)
            raise InputError(f"There is no class {name!r} beside {finding.name}; there are: {names}.")
        kept = "" if name == finding.name else name
        self._settle(finding, Decision("accepted", kept, self.decision(id).added))

    def _settle(self, finding: Finding, decision: Decision) -> None:
        before = self.decision(finding.id)
        if decision == before:
            return
        box = finding.slices
        inside = self._numbers[finding.layer][box] == finding.id
        old = self.labels[finding.layer][box].copy()
        new = old.copy()
        value = self._value(finding.layer, decision.name) if decision.name else finding.value
        new[inside] = 0 if decision.state == "rejected" else value
        step = Step({finding.id: (finding, before)}, {finding.id: (finding, decision)}, finding.layer, box, (old, new))
        self._do(step)

    # -- corrections of voxels ------------------------------------------------------------------------------------

    def edited(self, layer: int, labels: Labels) -> list[int]:
        """Take over ``labels`` (K, J, I), drawn by the reader in place of `labels` of that layer; ids of the new
        findings.

        Added voxels become findings, accepted since the reader drew them. A finding that was split or merged keeps the
        decision of the one that it overlaps most.
        """
        current = self.labels[layer]
        if labels.shape != current.shape:
            raise InputError(f"The drawing of shape {labels.shape} does not fit the volume's {current.shape}.")
        box = difference(labels, current)
        return [] if box is None else self.edited_in(layer, box, labels[box])

    def edited_in(self, layer: int, box: Box, drawn: Labels) -> list[int]:
        """As `edited`, where only the voxels of ``box`` were drawn: ``drawn`` has its shape. The time does not depend
        on the size of the volume.
        """
        current = self.labels[layer]
        if drawn.shape != current[box].shape:
            raise InputError(f"The drawing of shape {drawn.shape} does not fit its box.")
        if np.array_equal(drawn, current[box]):
            return []
        touched = self._touched(layer, box)
        whole: Box | None = box
        for id in touched:
            whole = joined(whole, self.findings[id].slices)
        assert whole is not None
        k, j, i = (slice(b.start - w.start, b.stop - w.start) for b, w in zip(box, whole, strict=True))
        box = whole
        old_labels, old_numbers = current[box].copy(), self._numbers[layer][box].copy()
        new_labels = old_labels.copy()
        new_labels[k, j, i] = drawn
        ours = np.isin(old_numbers, list(touched)) if touched else np.zeros(old_labels.shape, bool)
        # What the reader rejected, or gave a class without findings, stays where it was not drawn over, so that it can
        # be taken back.
        differs = new_labels != old_labels
        resting = {id: value for id in touched if (value := self._resting(id)) is not None}
        asleep = np.zeros(ours.shape, bool)
        if resting:
            value_at = np.full(int(old_numbers.max(initial=0)) + 1, -1, np.int32)
            value_at[list(resting)] = list(resting.values())
            asleep = value_at[old_numbers] == new_labels
        kept = set(resting)
        fresh = np.where((ours & ~asleep) | differs, new_labels, 0)
        components, value_of = components_of(fresh, self._values(layer), self._connectivity)
        wanted, decisions = self._inherited(components, value_of, old_numbers, layer, touched - kept)
        ids = np.zeros(len(value_of) + 1, old_numbers.dtype)
        for component, (id, _, _, _) in wanted.items():
            ids[component] = id
        numbers = np.where(components > 0, ids[components], np.where(ours & ~asleep, 0, old_numbers))
        before: dict[int, tuple[Finding | None, Decision | None]] = {
            id: (self.findings[id], self.decisions.get(id)) for id in touched - kept
        }
        after: dict[int, tuple[Finding | None, Decision | None]] = dict.fromkeys(before, (None, None))
        offset = (box[0].start, box[1].start, box[2].start)
        for finding in self._measured(components, wanted, offset):
            after[finding.id] = (finding, decisions[finding.id])
            before.setdefault(finding.id, (None, None))
        covered = {int(n) for n in np.unique(old_numbers[ours & ~asleep])} & kept
        rest = {id: (id, (f := self.findings[id]).name, layer, f.value) for id in covered}
        left = {f.id: f for f in self._measured(np.where(asleep, old_numbers, 0), rest, offset)} if rest else {}
        for id in covered:
            before[id] = (self.findings[id], self.decisions.get(id))
            after[id] = (left[id], self.decisions.get(id)) if id in left else (None, None)
        self._do(Step(before, after, layer, box, (old_labels, new_labels), (old_numbers, numbers)))
        return [id for id in after if before[id] == (None, None)]

    def _resting(self, id: int) -> int | None:
        """The label of a finding that no component of its layer is: 0 where it is rejected; None where one is."""
        if self.decision(id).state == "rejected":
            return 0
        finding = self.findings[id]
        value = self._value(finding.layer, self.class_of(id))
        return None if value in self._values(finding.layer) else value

    def _touched(self, layer: int, box: Box) -> set[int]:
        """Findings in or beside a box."""
        k, j, i = (slice(max(0, s.start - 1), s.stop + 1) for s in box)
        return {int(n) for n in np.unique(self._numbers[layer][k, j, i]) if n}

    def _inherited(
        self,
        components: npt.NDArray[np.int32],
        value_of: Mapping[int, int],
        old: Labels,
        layer: int,
        touched: set[int],
    ) -> tuple[dict[int, tuple[int, str, int, int]], dict[int, Decision]]:
        """Each component's id and decision: those of the finding that it overlaps most, where no larger one took

        them.
        """
        both = (components > 0) & (old > 0)
        span = int(old.max(initial=0)) + 1
        pairs, voxels = np.unique(components[both].astype(np.int64) * span + old[both], return_counts=True)
        overlaps = [
            (int(v), int(pair // span), int(pair % span))
            for pair, v in zip(pairs, voxels, strict=True)
            if int(pair % span) in touched
        ]
        wanted, decisions, taken = {}, {}, set()
        parent: dict[int, int] = {}
        for _, component, id in sorted(overlaps, reverse=True):
            parent.setdefault(component, id)
            if component not in wanted and id not in taken:
                taken.add(id)
                wanted[component] = (id, self._name(layer, value_of[component]), layer, value_of[component])
        for component, value in value_of.items():
            if component not in wanted:
                self._last += 1
                wanted[component] = (self._last, self._name(layer, value), layer, value)
            id = wanted[component][0]
            if component in parent:
                inherited = self.decision(parent[component])
                decisions[id] = replace(inherited, name="")  # the drawing says which class it is
            else:
                decisions[id] = Decision("accepted", added=True)
        return wanted, decisions

    # -- undo -----------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many steps can be undone."""
        return len(self._undo)

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    def undo(self) -> bool:
        """Take the last step back; False where there is none."""
        if not self._undo:
            return False
        step = self._undo.pop()
        self._apply(step, 0, step.before)
        self._redo.append(step)
        return True

    def redo(self) -> bool:
        """Do again what was taken back last; False where there is nothing."""
        if not self._redo:
            return False
        step = self._redo.pop()
        self._apply(step, 1, step.after)
        self._undo.append(step)
        return True

    def _do(self, step: Step) -> None:
        self._apply(step, 1, step.after)
        self._undo.append(step)
        self._redo.clear()

    def _apply(self, step: Step, side: int, entries: Mapping[int, tuple[Finding | None, Decision | None]]) -> None:
        self.touched = None if step.box is None else (step.layer, step.box)
        self.concerned = tuple(id for id, (finding, _) in entries.items() if finding is not None)
        if step.box is not None and step.labels is not None:
            self._counts.replaced(step.layer, step.box, self.labels[step.layer][step.box], step.labels[side])
            self.labels[step.layer][step.box] = step.labels[side]
        if step.box is not None and step.numbers is not None:
            self._numbers[step.layer][step.box] = step.numbers[side]
        for id, (finding, decision) in entries.items():
            if finding is None:
                self.findings.pop(id, None)
            else:
                self.findings[id] = finding
            if decision is None or decision == Decision():
                self.decisions.pop(id, None)
            else:
                self.decisions[id] = decision

    # -- names and numbers ------------------------------------------------------------------------------------------

    @property
    def _next(self) -> int:
        return max(self.findings, default=0) + 1

    def _known(self, id: int) -> Finding:
        if id not in self.findings:
            raise InputError(f"There is no finding {id}; there are {len(self.findings)}.")
        return self.findings[id]

    def _values(self, layer: int) -> list[int]:
        return [value for n, value, _ in self._classes if n == layer]

    def _name(self, layer: int, value: int) -> str:
        return next(c.name for c in self.model.layers[layer].classes if c.value == value)

    def _value(self, layer: int, name: str) -> int | None:
        return next((c.value for c in self.model.layers[layer].classes if c.name == name), None)

    def _measured(
        self,
        numbers: npt.NDArray[np.int32],
        wanted: Mapping[int, tuple[int, str, int, int]],
        offset: tuple[int, int, int] = (0, 0, 0),
    ) -> list[Finding]:
        return measure(numbers, wanted, self.grid, offset, self._probabilities.get)
