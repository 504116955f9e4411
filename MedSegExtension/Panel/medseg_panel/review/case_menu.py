"""The menu of a list of cases: where it comes from, and what is done with all of its cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import qt
from slicer.i18n import tr as _

from medseg.errors import MedSegError

from ..seams import Dialogs
from ..segment.menus import add_action
from .rating import RatingSection

TABLES = _("Tables (*.csv *.tsv)")


class _Cases(Protocol):
    """The list of cases (`case_list.CaseList`), as its menu sees it. ``words``: told below the table."""

    session: Any
    table: Any
    names: Any
    words: str

    def open_folder(self) -> None: ...

    def open_batch(self) -> None: ...

    def open_table(self) -> None: ...

    def open_database(self) -> bool: ...

    def close_list(self) -> None: ...

    def update(self) -> None: ...


class CaseMenu:
    """``button``: opens the menu."""

    def __init__(self, cases: _Cases, dialogs: Dialogs, rating: RatingSection) -> None:
        self._cases, self._dialogs, self._rating = cases, dialogs, rating
        self.button = qt.QPushButton(_("Cases"))
        self.button.toolTip = _("Open a list of cases, or do something with all of them.")
        self.menu = qt.QMenu(self.button)
        self.menu.toolTipsVisible = True
        self.button.setMenu(self.menu)
        tip = _("The images and masks of a folder with its sub-folders: NIfTI, NRRD, DICOM, BIDS.")
        add_action(self.menu, _("Open a folder..."), cases.open_folder, tip)
        tip = _("A table with the columns image and mask; paths may be relative to it.")
        add_action(self.menu, _("Open a table (CSV)..."), cases.open_table, tip)
        tip = _("The output folder of medseg run on many images, or of medseg cohort; classifiers' too.")
        add_action(self.menu, _("Open the results of a batch..."), cases.open_batch, tip)
        add_action(self.menu, _("Open Slicer's DICOM database"), cases.open_database)
        self.menu.addSeparator()
        tip = _("The model of the Segment tab runs in the background on each case that has no mask.")
        run = add_action(self.menu, _("Run the model where masks are missing"), self.run_missing, tip)
        self._stop = add_action(self.menu, _("Stop these runs"), self.stop_runs)
        self.menu.addSeparator()
        tip = _("Which files of the folder are images and which masks, where their names do not say it.")
        names = add_action(self.menu, _("Names of images and masks..."), lambda: cases.names.ask(), tip)
        tip = _("Further questions about each case, from a JSON file.")
        form = add_action(self.menu, _("Further questions..."), self.choose_form, tip)
        tip = _("Ratings, decisions and masks of two readers compared; the list then shows where they differ.")
        agree = add_action(self.menu, _("Agreement with another reader..."), self.agreement, tip)
        taken = add_action(self.menu, _("Import from SegmentationReview..."), self.import_peer)
        given = add_action(self.menu, _("Export for SegmentationReview..."), self.export_peer)
        self.menu.addSeparator()
        close = add_action(self.menu, _("Close the list"), lambda: cases.close_list())
        self._names = names
        self._of_list = (run, form, agree, taken, given, close)

    def update(self, is_open: bool, running: bool) -> None:
        """Which entries can be chosen: where a list is open, where a model runs for it."""
        for action in self._of_list:
            action.enabled = is_open
        self._stop.enabled = running
        self._names.enabled = is_open and self._cases.session.source.by_names

    def run_missing(self) -> None:
        """Run the chosen model on all cases without a mask, in the background."""
        if self._cases.session is not None:
            self._cases.words = self._cases.session.run_missing()
            self._cases.update()

    def stop_runs(self) -> None:
        """End what `run_missing` began."""
        if self._cases.session is not None:
            self._cases.session.masks.cancel()
            self._cases.update()

    def choose_form(self) -> None:
        """Take further questions from a file; they are kept with the list."""
        from medseg.output.files import save_text
        from medseg.review.form import read_form

        file = self._dialogs.open_file(_("Further questions"), "JSON (*.json)")
        if not file:
            return
        try:
            read_form(file)
            save_text(self._cases.session.folder / "form.json", Path(file).read_text(encoding="utf-8"))
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self.read_form()

    def read_form(self) -> None:
        """Ask the questions that are kept with the list."""
        from medseg.review.form import read_form

        path = self._cases.session.folder / "form.json"
        try:
            questions = read_form(path) if path.is_file() else ()
            self._cases.session.questions = questions
            self._rating.set_questions(questions)
        except MedSegError as error:
            self._dialogs.error(str(error))

    def import_peer(self) -> None:
        """Take over a CSV of SegmentationReview."""
        file = self._dialogs.open_file(_("CSV of SegmentationReview"), TABLES)
        if not file:
            return
        try:
            taken, stayed, unknown = self._cases.session.import_peer(file)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        words = _("{taken} ratings were taken over, {stayed} cases stay as they are, {unknown} are not in this list.")
        self._cases.words = words.format(taken=taken, stayed=stayed, unknown=unknown)
        self._cases.table.refilter()
        self._cases.update()

    def export_peer(self) -> None:
        """Write a CSV as SegmentationReview reads it."""
        file = self._dialogs.save_file(_("CSV for SegmentationReview"), "ratings.csv", TABLES)
        if file:
            try:
                self._cases.session.export_peer(file)
                self._cases.words = _("Written: {file}").format(file=file)
            except MedSegError as error:
                self._dialogs.error(str(error))
            self._cases.update()

    def agreement(self) -> None:
        """Hold what was done against another reader's, and show the cases on which they differ."""
        if self._cases.session is not None:
            from .case_agreement import show_agreement

            show_agreement(self._cases.session, self._dialogs, self._cases.table.show_only)
