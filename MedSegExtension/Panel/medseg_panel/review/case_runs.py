"""The chosen model on the cases of a list that have no mask yet, one after the other, while the reader reads another.

Imported when the first list is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from slicer.i18n import tr as _

from medseg.result import Result

from ..seams import ApartRuns
from .case_loading import Files, Reading, ReadingProcess, Saving


def slices_of(mask: Path) -> Path:
    """Where the scores of a case's slices go, whose mask would go to ``mask``."""
    from medseg.io.slice_scores import FILE

    return mask.with_name(mask.name.removesuffix(".seg.nrrd")) / FILE


class MaskRuns:
    """``files(n)``: the image of a case; ``place(n)``: where its mask goes.

    ``on_end(n, why)`` is called when a case is over: ``why`` is "" where there is a mask now.
    """

    def __init__(
        self,
        runs: ApartRuns,
        files: Callable[[int], Files],
        place: Callable[[int], Path],
        on_end: Callable[[int, str], None],
    ) -> None:
        self._runs, self._files, self._place, self._on_end = runs, files, place, on_end
        self._process = ReadingProcess()
        self._reading: Reading | None = None
        self._saving: Saving | None = None
        self._model = ""
        self.waiting: list[int] = []
        #: The case that is read or run now, -1 where none is.
        self.current = -1

    @property
    def left(self) -> int:
        """Cases that are not over."""
        return len(self.waiting) + (self.current >= 0)

    def add(self, cases: list[int], *, first: bool = False) -> None:
        """Run on these too; ``first``: before those that wait already."""
        new = [n for n in cases if n != self.current]
        kept = [n for n in self.waiting if n not in new]
        self.waiting = [*new, *kept] if first else [*kept, *new]
        self._go_on()

    def cancel(self) -> None:
        """Forget what waits, and end the run under way."""
        self.waiting = []
        waits = self._reading or self._saving
        if waits is not None:
            waits.drop()
            self._reading = self._saving = None
            self._over(_("Cancelled."))
        elif self.current >= 0:
            self._runs.cancel()

    def _go_on(self) -> None:
        if self.current >= 0:
            return
        if not self.waiting:
            self._process.close()
            return
        self.current = self.waiting.pop(0)
        self._reading = Reading(self._files(self.current), self._read)
        self._process.start(self._reading)

    def _read(self) -> None:
        reading, self._reading = self._reading, None
        if reading is None:
            return
        if reading.case is None:
            self._over(reading.why)
            return
        card = self._runs.model
        self._model = card.id if card is not None else ""
        if why := self._runs.start(reading.case.volume, self._done, self._over):
            # What stands in the way of this one stands in the way of all.
            self.waiting = []
            self._over(why)

    def _done(self, result: Result) -> None:
        if not result.layers:
            self._over(self._save_slices(result))
            return
        try:
            self._saving = Saving(self._place(self.current), result, self._model, self._saved)
        except OSError as error:
            self._over(
                _("The mask could not be handed over ({error}); is the temporary folder full?").format(error=error)
            )
            return
        self._process.start(self._saving)

    def _save_slices(self, result: Result) -> str:
        """Keep a classifier's scores where the mask would go; why they cannot be, "" where they are."""
        from medseg.io.slice_scores import write_slices

        if "slices" not in result.tables:
            return _("This model gives no mask and no scores of slices; run it in the Segment tab.")
        try:
            write_slices(slices_of(self._place(self.current)), result.tables["slices"], self._model)
        except OSError as error:
            return _("The scores could not be saved: {error}").format(error=error.strerror or error)
        return ""

    def _saved(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None:
            self._over(saving.why)

    def _over(self, why: str) -> None:
        n, self.current = self.current, -1
        self._on_end(n, why)
        self._go_on()
