"""A run from Apply to its nodes: one at a time, frame by frame where a sequence is segmented."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard
from medseg.result import Column, Result, Table
from medseg.worker.transfer import grid_message
from medseg_mrml import volume_from_node

from ..seams import Worker
from . import frames, outcome
from .outcome import Outcome
from .region import region_grid


class RunView(Protocol):
    """Who shows a run (the panel)."""

    def run_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None: ...

    def run_warning(self, sentence: str) -> None: ...

    def run_note(self, sentence: str) -> None: ...

    def run_ended(self, sentence: str, outcome: Outcome | None, failed: bool) -> None: ...


@dataclass
class _Job:
    """What was chosen when Apply was pressed; the panel may change meanwhile."""

    card: ModelCard
    volume_ids: list[str]
    options: dict[str, Any]
    output_id: str
    region: Any
    previous: list[Any]
    frame_numbers: list[int | None]
    position: int = 0
    outcome: Outcome | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    sequence: frames.SegmentationSequence | None = None
    stopped: str = ""


def at_once(work: Callable[[], None]) -> None:
    """Call ``work`` now; in the panel ``later`` calls it after the events that wait."""
    work()


class Runs:
    """Starts, cancels and finishes runs. It is the worker's `seams.Listener`."""

    def __init__(
        self, scene: Any, worker: Worker, view: RunView, later: Callable[[Callable[[], None]], None] = at_once
    ) -> None:
        self._scene, self._worker, self._view, self._later = scene, worker, view, later
        self._job: _Job | None = None
        #: True while the worker runs for somebody else (`apart.Apart`).
        self.taken = False

    @property
    def running(self) -> bool:
        """True from `start` until `RunView.run_ended`."""
        return self._job is not None or self.taken

    def start(
        self,
        card: ModelCard,
        volumes: list[Any],
        options: dict[str, Any],
        *,
        output: Any = None,
        region: Any = None,
        all_frames: bool = False,
        previous: Sequence[Any] = (),
    ) -> bool:
        """Start a run; False where one goes on already. ``options``: fields of `RunOptions`; ``region``: a ROI node.
        ``previous``: tables and plot of the run before (see `outcome.apply`).

        Raises `MedSegError` where a volume can not be read or the region lies outside of it.
        """
        if self.running:
            return False
        count = frames.frame_count(volumes[0]) if all_frames else 1
        numbers: list[int | None] = list(range(count)) if count > 1 else [None]
        output_id = output.GetID() if output is not None else ""
        self._job = _Job(card, [v.GetID() for v in volumes], dict(options), output_id, region, list(previous), numbers)
        try:
            self._start_frame(self._job)
        except BaseException:
            self._job = None
            raise
        return True

    def cancel(self, why: str = "") -> None:
        """Stop the run; ``why`` is told in place of "cancelled"."""
        if self._job is not None:
            self._job.stopped = self._job.stopped or why or _("Cancelled; nothing was changed.")
            self._worker.cancel()

    def cancel_by_user(self) -> None:
        """The user pressed Cancel."""
        self.cancel()
        if self.taken:
            self._worker.cancel()

    def node_removed(self, node: Any) -> None:
        """Stop where ``node`` is an input of the run."""
        if self._job is not None and node.GetID() in self._job.volume_ids:
            self.cancel(
                _("{name} was removed from the scene, so the run was stopped; nothing was changed.").format(
                    name=node.GetName()
                )
            )

    def scene_closing(self) -> None:
        """Stop: the nodes that the result would belong to go away."""
        self.cancel(_("The scene was closed, so the run was stopped."))

    # -- Listener ---------------------------------------------------------------------------------------------

    def on_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        job = self._job
        if job is None:
            return
        if len(job.frame_numbers) > 1:
            text = _("frame {n} of {all}").format(n=job.position + 1, all=len(job.frame_numbers)) + (
                f", {text}" if text else ""
            )
            fraction = None if fraction is None else (job.position + fraction) / len(job.frame_numbers)
        self._view.run_progress(stage, text, fraction, seconds_left)

    def on_warning(self, sentence: str) -> None:
        if self._job is not None:
            self._view.run_warning(sentence)

    def on_note(self, sentence: str) -> None:
        if self._job is not None:
            self._view.run_note(sentence)

    def on_cancelled(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._ended(job, job.stopped or _("Cancelled; nothing was changed."), failed=False)

    def on_error(self, kind: str, sentence: str) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._ended(job, job.stopped or sentence, failed=not job.stopped)

    def on_result(self, result: Result) -> None:
        job = self._job
        if job is None:
            return
        volume = self._scene.GetNodeByID(job.volume_ids[0])
        if job.stopped or volume is None:
            self.on_cancelled()
            return
        try:
            self._apply(job, result, volume)
            job.position += 1
            if job.position < len(job.frame_numbers):
                self._start_frame(job)
                return
        except Exception as error:  # whatever it is, the panel must not wait for ever
            self._job = None
            self._ended(job, sentence_of(error), failed=True)
            return
        # Tables and plot come into the panel after Slicer has drawn the segments: two short breaks, not a long one.
        self._later(lambda: self._done(job, summary(result, job.card, len(job.frame_numbers))))

    # -- steps ------------------------------------------------------------------------------------------------

    def _done(self, job: _Job, sentence: str) -> None:
        if self._job is not job:
            return
        self._job = None
        if self._scene.GetNodeByID(job.volume_ids[0]) is None:
            # Scene or volume went away in between.
            job.outcome, sentence = None, job.stopped
        self._ended(job, sentence, failed=False)

    def _start_frame(self, job: _Job) -> None:
        number = job.frame_numbers[job.position]
        nodes = [self._scene.GetNodeByID(i) for i in job.volume_ids]
        volumes = [frame_volume(node, number) for node in nodes]
        options = dict(job.options)
        if job.region is not None and job.region.GetScene() is self._scene:
            options["region"] = grid_message(region_grid(job.region, nodes[0], volumes[0].grid))
        self._worker.start_run(str(job.card.folder), volumes, options, self)

    def _apply(self, job: _Job, result: Result, volume: Any) -> None:
        number = job.frame_numbers[job.position]
        if number is not None:
            result = replace(result, tables=self._collect(job, result, number))
        warn = self._view.run_warning
        done = job.outcome
        output = done.applied.node if done is not None and done.applied is not None else self._output(job)
        previous = [*done.tables, done.chart] if done is not None else job.previous
        alive = [n for n in previous if n is not None and n.GetScene() is self._scene]
        new = outcome.apply(result, self._scene, volume, job.card, output, warn, alive)
        if done is not None:
            # The first frame knows what was there before the run.
            new.refilled, new.chart_kept = done.refilled, done.chart_kept
            if new.applied is not None and done.applied is not None:
                new.applied = replace(new.applied, before=done.applied.before)
            new.probabilities = [*done.probabilities, *new.probabilities]
        job.outcome = new
        if number is not None and new.applied is not None:
            if job.sequence is None:
                job.sequence = frames.SegmentationSequence(volume, f"{new.applied.node.GetName()} sequence")
            job.sequence.keep(number, new.applied.node)
            if number == job.frame_numbers[-1]:
                job.sequence.show(new.applied.node)

    def _output(self, job: _Job) -> Any:
        return self._scene.GetNodeByID(job.output_id) if job.output_id else None

    def _collect(self, job: _Job, result: Result, number: int) -> dict[str, Table]:
        """The tables of all frames so far, with the frame as first column."""
        for name, table in result.tables.items():
            rows = tuple((number + 1, *row) for row in table.rows)
            before = job.tables.get(name)
            column = Column("frame", "int", "", "number of the frame, from 1")
            job.tables[name] = Table(name, (column, *table.columns), (*(before.rows if before else ()), *rows))
        return job.tables

    def _ended(self, job: _Job, sentence: str, failed: bool) -> None:
        if job.outcome is not None and job.position < len(job.frame_numbers):
            sentence += " " + _("{done} of {all} frames are done and were kept.").format(
                done=job.position, all=len(job.frame_numbers)
            )
        self._view.run_ended(sentence, job.outcome, failed)


def run_options(
    parameters: Any, card: ModelCard, choices: dict[str, str], windows: Sequence[tuple[float, float]] | None
) -> dict[str, Any]:
    """What the worker is asked, from the parameter node; ``windows``: (level, width) each, None for the model's own."""
    options: dict[str, Any] = {
        "device": parameters.device,
        "precision": parameters.precision,
        "probabilities": parameters.probabilities,
    }
    if parameters.batch:
        options["batch"] = parameters.batch
    if parameters.tile and card.expects.get("mode") == "sliding_window":
        options["patch"] = [parameters.tile] * 3
    if parameters.mirror and card.expects.get("mirror_axes"):
        options["mirror"] = True
    if choices:
        options["choices"] = choices
    if windows is not None:
        options["windows"] = [list(w) for w in windows]
    return options


def sentence_of(error: Exception) -> str:
    """What the user is told of ``error``; a fault of MedSeg itself also goes to the Python console."""
    if isinstance(error, MedSegError):
        return str(error)
    logging.exception("MedSeg")
    return _(
        "MedSeg failed unexpectedly ({kind}: {text}); nothing more was changed. The Python console says more."
    ).format(kind=type(error).__name__, text=str(error)[:300])


def frame_volume(node: Any, number: int | None) -> Volume:
    """The voxels of ``node``, or of frame ``number`` where it shows a sequence; name and modality are the node's."""
    if number is None or frames.frame_count(node) <= number:
        return volume_from_node(node)
    shown = volume_from_node(node)
    return replace(volume_from_node(frames.frame(node, number)), name=shown.name, modality=shown.modality)


def summary(result: Result, card: ModelCard, frame_count: int) -> str:
    """One sentence on what came out and how long it took; the provenance says the rest."""
    seconds = float(result.provenance.get("seconds", {}).get("total", 0.0))
    device = result.provenance.get("device") or result.provenance.get("provider") or _("unknown device")
    count = len(result.classes) if result.layers else len(card.classes)
    if result.layers:
        what = _("1 segment") if count == 1 else _("{count} segments").format(count=count)
    else:
        what = _("scores of 1 class") if count == 1 else _("scores of {count} classes").format(count=count)
    if frame_count > 1:
        what += " " + _("in {count} frames").format(count=frame_count)
    took = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return _("Done: {what} in {seconds} s on {device}.").format(
        what=what, seconds=took, device=str(device).split(" (")[0]
    )
