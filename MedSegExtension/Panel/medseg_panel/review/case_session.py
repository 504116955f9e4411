"""An open list of cases: opens them one by one, keeps what was decided, and what goes on meanwhile. No widgets here.

Imported when the first list is opened, since it brings the readers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from medseg.errors import MedSegError, OutputError
from medseg.geometry.grid import Grid
from medseg.io.segmentations import Segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, write_case
from medseg.review.cases import left_of
from medseg.review.cohort import read_segmentation_review, write_cohort, write_segmentation_review
from medseg.review.form import Question, missing
from medseg.review.place import Place, write_place
from medseg.review.worklist import WorkList, finished

from ..seams import ApartRuns
from .case_loading import CaseReader, Files, ReadCase, remove_volume, volume_node
from .case_runs import MaskRuns, slices_of
from .case_sources import Source
from .host import ReviewHost

_DRAWN_COLOR = (0.9, 0.6, 0.0)


class CaseSession:
    """``folder``: of the list's reviews. ``shown()``: the cases that the list shows. ``on_change(n)``: see `_tell`.

    ``on_change`` is called with the number of a case that changed, -1 where the state of the whole list did.
    """

    def __init__(
        self,
        host: ReviewHost,
        scene: Any,
        runs: ApartRuns,
        source: Source,
        folder: Path,
        reader: str,
        shown: Callable[[], Sequence[int]],
        on_change: Callable[[int], None],
    ) -> None:
        self._host, self._scene, self._shown, self._on_change = host, scene, shown, on_change
        self.source, self.folder, self.runs = source, folder, runs
        self.list = WorkList(source.cases, folder, reader)
        self._cases = CaseReader()
        self.masks = MaskRuns(runs, lambda n: self.files(n, masks=False), self.mask_place, self._run_over)
        #: The open case, -1 where none is; the one that is read or run for the reader, -1 where none is.
        self.current = self.awaited = -1
        self._node: Any = None
        self._cohort_due = False
        #: Further questions (`medseg.review.form.Question`): a case is done when the required ones are answered.
        self.questions: tuple[Question, ...] = ()
        self._notice = ""
        self._skipped = -1
        self._itk_told = False
        self._before: tuple[Any, ...] = ()

    # -- files of a case ------------------------------------------------------------------------------------------

    def mask_place(self, n: int) -> Path:
        """Where the mask goes that a model makes for a case without one."""
        return self.folder / "masks" / f"{self.list.folder(n).name}.seg.nrrd"

    def files(self, n: int, *, masks: bool = True) -> Files:
        """What a case is read from."""
        case = self.source.cases[n]
        mask = case.mask or (self.mask_place(n) if self.mask_place(n).is_file() else None)
        own = slices_of(self.mask_place(n))
        slices = (case.slices or (own if own.is_file() else None)) if mask is None and masks else None
        return Files(case.image, mask if masks else None, self.source.series.get(case.name, ""), slices)

    def without_mask(self) -> list[int]:
        """Cases with an image, and nothing that was made of it."""
        cases = self.source.cases
        return [n for n, case in enumerate(cases) if case.image is not None and not self.has_result(n)]

    def has_result(self, n: int) -> bool:
        """Whether a case has a mask, or the scores of its slices."""
        files = self.files(n)
        return files.mask is not None or files.slices is not None

    # -- cases are opened -----------------------------------------------------------------------------------------

    def open(self, n: int) -> None:
        """Save and leave the open case, and open case ``n`` as soon as it is read."""
        self.leave()
        self.awaited = n
        files = self.files(n)
        if not self.has_result(n) and files.image is not None and self.runs.ready and not self.list.problems.get(n):
            words = _("{model} runs on {case}, which has no mask; it opens then.")
            self._host.say(words.format(model=self.runs.model.title, case=self.source.cases[n].name))  # type: ignore[union-attr]
            self.masks.add([n], first=True)
            self._on_change(-1)
            return
        self._read(n)

    def _read(self, n: int) -> None:
        self._host.say(_("Reading {case}.").format(case=self.source.cases[n].name))
        self._cases.read(self.files(n), lambda case: self._opened(n, case), lambda why: self._failed(n, why))
        self._on_change(-1)

    def _failed(self, n: int, why: str) -> None:
        self.awaited = -1
        self.list.problems[n] = why
        self._host.say(_("{case}: {why}").format(case=self.source.cases[n].name, why=why))
        self._on_change(n)

    def _opened(self, n: int, read: ReadCase) -> None:
        from .work import Work

        self.awaited = -1
        if self.current >= 0:
            self.leave()
        case, files = self.source.cases[n], self.files(n)
        told, masks = self._told(read), read.masks
        node = volume_node(read, self._scene, case.name)
        if masks is None and read.slices is None:
            masks = no_mask(read.volume.grid)
            why = self.list.problems.get(n) or self.runs.why_not()
            told.insert(
                0, _("{case} has no mask, so what you draw is the first. {why}").format(case=case.name, why=why)
            )
        image_file, mask_file = ("" if p is None else p.name for p in (files.image, files.mask or files.slices))
        work = Work(
            case.name, node, masks, self.list.folder(n), slices=read.slices, reader=self.list.reader,
            maps=read.maps, lesions=read.lesions, model_id=read.model, image_file=image_file, mask_file=mask_file,
        )  # fmt: skip
        self._host.say("")
        if not self._host.open(work, [t.strip() for t in told]):
            remove_volume(node, self._scene)
            self._failed(n, _("The case could not be opened."))
            return
        self.current, self._node = n, node
        self.list.problems.pop(n, None)
        kept = self._host.reviewing.kept
        self._before = _done_on(kept)
        if kept.state == "to do":
            kept.state = "in progress"
        self.list.put(n, kept)
        self._write_place()
        self._on_change(n)
        self.read_ahead()

    def _told(self, read: ReadCase) -> list[str]:
        """What is told of a case; that ITK reads NIfTI here is no news at the second one."""
        notice, self._notice = self._notice, ""
        sentences = [notice, *read.told] if notice else read.told
        told = [sentence for sentence in sentences if "nibabel" not in sentence or not self._itk_told]
        self._itk_told = self._itk_told or any("nibabel" in sentence for sentence in told)
        return told

    def read_ahead(self) -> None:
        """Begin to read the case after the open one."""
        following = self.list.after(self.current, 1, self._shown()) if self.current >= 0 else -1
        self._cases.ahead(self.files(following) if following >= 0 else None)

    def step(self, step: int) -> bool:
        """Go to the next (1) or previous (-1) case that is shown; False where there is none."""
        here = self.awaited if self.awaited >= 0 else self.current
        n = self.list.after(here, step, self._shown()) if here >= 0 else self.list.first_open()
        if n >= 0:
            self.open(n)
        return n >= 0

    def skip(self) -> bool:
        """Leave the open case as skipped, and go to the next; False where there is none."""
        if self._host.reviewing is not None and self.current >= 0:
            self._skipped = self.current
            self._host.reviewing.kept.state = "skipped"
        return self.step(1)

    # -- cases are left -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Save and close the open case."""
        self._host.leave()
        self.case_left()

    def case_left(self) -> None:
        """The open case was closed, by whomever: its state is set, its image goes."""
        if self.current < 0:
            return
        n, self.current = self.current, -1
        kept = self.list.kept(n)
        skipped = n == self._skipped or (kept.state == "skipped" and _done_on(kept) == self._before)
        if not skipped and kept.state != "done":
            open_questions = missing(self.questions, kept.fields)
            kept.state = "done" if finished(kept) and not open_questions else "in progress"
            if open_questions:
                words = _("{case} is not done, for want of an answer: {questions}")
                self._notice = words.format(case=kept.case, questions=" ".join(open_questions))
        self._skipped = -1
        try:
            write_case(self.list.folder(n), kept)
        except MedSegError as error:
            self.list.problems[n] = str(error)
        remove_volume(self._node, self._scene)
        self._node = None
        self.write_cohort()
        self._on_change(n)

    # -- masks are made -------------------------------------------------------------------------------------------

    def run_missing(self) -> str:
        """Run the chosen model on all cases without a mask; why not, "" where it goes on."""
        cases = [n for n in self.without_mask() if n != self.current]
        if not cases:
            return _("Every case has a mask.")
        if why := self.runs.why_not():
            return why
        for n in cases:
            self.list.problems.pop(n, None)
        self.masks.add(cases)
        return ""

    def _run_over(self, n: int, why: str) -> None:
        if why:
            self.list.problems[n] = why
        else:
            self.list.problems.pop(n, None)
        if n == self.awaited:
            self._read(n)
        elif not why and n == self.list.after(self.current, 1, self._shown()):
            self.read_ahead()
        self._on_change(n)

    # -- tables and places ------------------------------------------------------------------------------------------

    def write_cohort(self) -> None:
        """Write ``cohort.csv``, or do it when all cases are known."""
        self._cohort_due = True
        if self.list.read_some(0.0):
            self._cohort_due = False
            reader = f"-{self.list.reader}" if self.list.reader else ""
            try:
                write_cohort(self.folder / f"cohort{reader}.csv", self.list.all_kept())
            except OutputError as error:
                self._host.say(str(error))

    def read_some(self) -> bool:
        """Read what is kept of further cases; True where all were read."""
        done = self.list.read_some()
        if done and self._cohort_due:
            self.write_cohort()
        return done

    def export_peer(self, path: str) -> None:
        """Write SegmentationReview's CSV. Raises `OutputError`."""
        write_segmentation_review(path, self.list.all_kept())

    def import_peer(self, path: str) -> tuple[int, int, int]:
        """Take over ratings and comments of SegmentationReview; how many were taken, kept as they were, not found.

        A case that this reader rated already stays as it is. Raises `MedSegError`."""
        taken = stayed = unknown = 0
        by_file: dict[str, int] = {}
        for n, case in enumerate(self.source.cases):
            for file in (case.mask, case.image):
                if file is not None:
                    by_file[file.name] = n
            by_file.setdefault(case.name, n)
        for row in read_segmentation_review(path):
            n = by_file.get(row.image, by_file.get(row.mask, -1))
            if n < 0 or n == self.current:
                unknown += n < 0
                stayed += n >= 0
                continue
            kept = self.list.kept(n)
            if kept.rating is not None or row.rating is None:
                stayed += 1
                continue
            kept.rating, kept.state = row.rating, "done"
            kept.comment = kept.comment or row.comment
            write_case(self.list.folder(n), kept)
            taken += 1
        self.write_cohort()
        return taken, stayed, unknown

    def _write_place(self) -> None:
        n = self.current
        source, name = self.source, self.source.cases[n].name
        place = Place(
            source.kind, source.place, source.images, self.list.reader, name, n + 1, len(self.list),
            source.image_names, source.mask_names,
        )  # fmt: skip
        try:
            write_place(self._host.root, place)
        except OutputError as error:
            self._host.say(str(error))

    def kept(self, n: int) -> CaseReview:
        """What is kept of a case now."""
        return self.list.kept(n)

    def close(self) -> None:
        """The list is closed: the open case is saved, all processes end."""
        self.leave()
        self.masks.cancel()
        self._cases.close()


def _done_on(kept: CaseReview) -> tuple[Any, ...]:
    """What tells whether a reader did something on a case."""
    return kept.rating, kept.comment, len(kept.findings), left_of(kept), len(kept.versions)


def no_mask(grid: Grid) -> Segmentation:
    """An empty mask with one class to draw on."""
    drawn = SegmentClass(1, _("finding"), _DRAWN_COLOR, "", True)
    return Segmentation(grid, (Layer(np.zeros(grid.shape, np.uint8), (drawn,)),), "")
