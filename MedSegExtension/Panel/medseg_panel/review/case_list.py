"""Many cases, one after the other: where they come from, a table of what is done, next, previous, skip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError

from ..seams import Neighbours
from .case_menu import TABLES, CaseMenu
from .case_table import CaseTable
from .host import ReviewHost
from .keys import Key, Keys
from .layout import button, row
from .names_row import NamesRow
from .rating import RatingSection

_READER_SETTING = "MedSeg/ReviewReader"
#: Milliseconds: how often the open case's row is looked at, and after which pause ``cohort.csv`` is written.
_LOOK, _COHORT = 1000, 2000


class CaseList:
    """``place``: the layout that it is put into. The tab tells it of `enter`, `exit`, `cleanup` and `case_left`."""

    def __init__(self, place: Any, host: ReviewHost, neighbours: Neighbours, rating: RatingSection) -> None:
        self._host, self._neighbours, self._rating = host, neighbours, rating
        self._dialogs = neighbours.dialogs
        self.session: Any = None
        self._offered: Any = None
        self.words = ""
        self.widget = qt.QWidget()
        self.widget.setObjectName("caseList")
        self._layout = qt.QVBoxLayout(self.widget)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(4)
        self._add_bar()
        self._add_offer()
        self._add_section()
        place.addWidget(self.widget)
        rating.on_change = self.case_changed
        keys = [
            Key("Ctrl+N", _("save, and open the next case of the list"), self.next),
            Key("Ctrl+P", _("the previous case"), self.previous),
        ]
        self.keys = Keys(self.widget, keys)
        self._look = self._timer(_LOOK, self._look_at_case)
        self._cohort = self._timer(_COHORT, self._write_cohort, once=True)
        self.update()

    def _timer(self, milliseconds: int, work: Callable[[], None], *, once: bool = False) -> Any:
        timer = qt.QTimer(self.widget)
        timer.interval = milliseconds
        timer.setSingleShot(once)
        timer.connect("timeout()", work)
        return timer

    # -- widgets ------------------------------------------------------------------------------------------------

    def _add_bar(self) -> None:
        self.menu = CaseMenu(self, self._dialogs, self._rating)
        self.previous_button = button(
            _("Previous"), _("Save, and open the case before this one. Ctrl+P."), self.previous
        )
        self.next_button = button(_("Next case"), _("Save, and open the next case. Ctrl+N."), self.next)
        self.skip_button = button(_("Skip"), _("Leave this case as skipped, and open the next."), self.skip)
        self._layout.addLayout(row(self.menu.button, self.previous_button, self.next_button, self.skip_button))

    def _add_offer(self) -> None:
        self.offer = qt.QWidget()
        inside = qt.QHBoxLayout(self.offer)
        inside.setContentsMargins(0, 0, 0, 0)
        self.offer_words = qt.QLabel()
        self.offer_words.wordWrap = True
        inside.addWidget(self.offer_words, 1)
        self.offer_button = button(_("Go on"), _("Open the list that was open last, at the same case."), self.go_on)
        inside.addWidget(self.offer_button)
        self._layout.addWidget(self.offer)
        self.offer.visible = False

    def _add_section(self) -> None:
        self.section = ctk.ctkCollapsibleButton()
        self.section.setObjectName("casesSection")
        inside = qt.QVBoxLayout(self.section)
        inside.setContentsMargins(2, 2, 2, 2)
        inside.setSpacing(2)
        self.table = CaseTable(self.open, self.update)
        inside.addWidget(self.table.widget)
        self.names = NamesRow(self.open_by_names)
        inside.addWidget(self.names.widget)
        self.reader = qt.QLineEdit()
        self.reader.maxLength = 8
        self.reader.setPlaceholderText(_("Reader's initials"))
        self.reader.toolTip = _(
            "Optional, up to eight letters or digits. Each reader sees only what the same initials decided, so a "
            "second reader reads blinded."
        )
        self.reader.text = str(slicer.app.userSettings().value(_READER_SETTING) or "")
        self.reader.connect("editingFinished()", self._reader_typed)
        self.status = qt.QLabel()
        self.status.wordWrap = True
        self.status.setObjectName("casesStatus")
        inside.addLayout(row(qt.QLabel(_("Reader:")), self.reader, stretch=1))
        inside.addWidget(self.status)
        self._layout.addWidget(self.section)

    # -- a list is opened and closed ----------------------------------------------------------------------------

    def open_folder(self) -> None:
        """Open the cases of a folder."""
        if folder := self._dialogs.folder(_("Folder of images and masks")):
            self.open_files(folder)

    def open_batch(self) -> None:
        """Open the results of a batch; where they lie apart from the images, the folder of those is asked for."""
        from .case_sources import names_its_images

        folder = self._dialogs.folder(_("Output folder of the batch"))
        if folder:
            known = names_its_images(folder)
            self.open_files(folder, "" if known else self._dialogs.folder(_("Folder of the images of the batch")))

    def open_table(self) -> None:
        """Open the cases of a CSV."""
        if file := self._dialogs.open_file(_("Table of images and masks"), TABLES):
            self.open_files(file)

    def open_files(self, path: str, images: str = "", *, image_names: str = "", mask_names: str = "") -> bool:
        """Open the cases of a folder or table; False where there are none, which is told.

        ``image_names``, ``mask_names``: patterns of names in a folder, where they do not speak for themselves."""
        return self._open_source("files", path, images, names=(image_names, mask_names))

    def open_database(self) -> bool:
        """Open the image series of Slicer's DICOM database."""
        return self._open_source("database")

    def open_by_names(self, image_names: str, mask_names: str) -> bool:
        """Open the cases of the same folder again, by patterns of their names."""
        source = self.session.source if self.session is not None else None
        if source is None or not source.by_names:
            return False
        return self._open_source(source.kind, source.place, source.images, names=(image_names, mask_names))

    def _open_source(
        self, kind: str, place: str = "", images: str = "", case: str = "", names: tuple[str, str] = ("", "")
    ) -> bool:
        from .case_session import CaseSession
        from .case_sources import open_source

        slicer.app.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            source = open_source(kind, place, images, *names)
        except MedSegError as error:
            self._dialogs.error(str(error))
            self.names.show(self.session.source if self.session is not None else None)
            return False
        finally:
            slicer.app.restoreOverrideCursor()
        self.close_list(forget=False)
        try:
            folder = self._list_folder(source)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return False
        scene, runs = self._neighbours.scene, self._neighbours.segmenter.apart
        self.session = CaseSession(
            self._host, scene, runs, source, folder, self._initials(), self.table.shown, self._changed
        )
        self._offered = None
        self.words = " ".join(source.told)
        self.names.show(source)
        self.menu.read_form()
        self.table.show(self.session)
        self.section.collapsed = False
        self._look.start()
        self.update()
        first = self.session.list.number_of(case) if case else -1
        if first >= 0:
            self.open(first)
        return True

    def _list_folder(self, source: Any) -> Path:
        from medseg.errors import InputError
        from medseg.review.place import list_folder

        names = [case.name for case in source.cases]
        try:
            return list_folder(self._host.root, source.title, source.place, names)
        except InputError as error:
            moved = self._dialogs.confirm(
                f"{error} "
                + _("Is this the same list at a new place? OK goes on with its reviews, Cancel begins anew.")
            )
            return list_folder(self._host.root, source.title, source.place, names, moved=moved)

    def close_list(self, *, forget: bool = True) -> None:
        """Save and leave the open case, and close the list."""
        if self.session is None:
            return
        from medseg.review.place import forget_place

        self._look.stop()
        self._cohort.stop()
        session, self.session = self.session, None
        session.close()
        if forget:
            try:
                forget_place(self._host.root)
            except MedSegError as error:
                self._host.say(str(error))
        self.table.show(None)
        self._rating.set_questions(())
        self.words = ""
        self.update()

    def go_on(self) -> None:
        """Open the list that was open when the program ended."""
        place, self._offered = self._offered, None
        if place is not None:
            self.reader.text = place.reader
            names = (place.image_names, place.mask_names)
            self._open_source(place.kind, place.source, place.images, place.case, names)
        self.update()

    def _look_for_place(self) -> None:
        from medseg.review.place import read_place

        place = read_place(self._host.root) if (Path(self._host.root) / "last-list.json").is_file() else None
        if place is None or (place.source and not Path(place.source).exists()):
            return
        self._offered = place
        words = _("Go on with case {n} of {count} ({case})?")
        self.offer_words.text = words.format(n=place.number, count=place.count, case=place.case)

    # -- cases --------------------------------------------------------------------------------------------------

    def open(self, n: int) -> None:
        """Open case ``n``."""
        self._go(lambda: self.session.open(n))

    def next(self) -> None:
        """Save, and open the next case that is shown."""
        self._go(lambda: self.session.step(1))

    def previous(self) -> None:
        """Save, and open the previous case that is shown."""
        self._go(lambda: self.session.step(-1))

    def skip(self) -> None:
        """Leave the case as skipped."""
        self._go(self.session.skip if self.session is not None else lambda: None)

    def _go(self, work: Callable[[], Any]) -> None:
        if self.session is None:
            return
        if work() is False:
            self.session.leave()
            self._host.say(_("This was the last case of the list."))
        self.update()

    def case_left(self) -> None:
        """The tab closed the open case."""
        if self.session is not None:
            self.session.case_left()

    def case_changed(self) -> None:
        """Rating or comment of the open case changed."""
        if self.session is not None and self.session.current >= 0:
            self.table.refresh(self.session.current)
            self._cohort.start()

    def _changed(self, n: int) -> None:
        if self.session is None:
            return
        if n >= 0:
            self.table.refresh(n)
        if self.session.current >= 0:
            self.table.select(self.session.current)
        self.update()

    def _look_at_case(self) -> None:
        if self.session is not None and self.session.current >= 0 and self._host.reviewing is not None:
            from medseg.review.case_file import take_decisions

            reviewing = self._host.reviewing
            if self.table.left_changed(reviewing.review.left):
                take_decisions(reviewing.kept, reviewing.review)
                self._cohort.start()
            self.table.refresh(self.session.current)

    def _write_cohort(self) -> None:
        if self.session is not None:
            self.session.write_cohort()

    # -- readers ------------------------------------------------------------------------------------------------

    def _initials(self) -> str:
        return "".join(c for c in str(self.reader.text) if c.isascii() and c.isalnum())[:8]

    def _reader_typed(self) -> None:
        initials = self._initials()
        self.reader.text = initials
        slicer.app.userSettings().setValue(_READER_SETTING, initials)
        if self.session is not None and self.session.list.reader != initials:
            source = self.session.source
            names = (source.image_names, source.mask_names)
            self._open_source(source.kind, source.place, source.images, names=names)

    # -- the tab ------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Show what there is."""
        session = self.session
        is_open = session is not None
        self.section.visible = is_open
        self.previous_button.visible = self.next_button.visible = self.skip_button.visible = is_open
        self.skip_button.enabled = is_open and session.current >= 0
        running = is_open and session.masks.left > 0
        self.menu.update(is_open, running)
        self.offer.visible = self._offered is not None and not is_open
        if not is_open:
            return
        counts = session.list.counts()
        words = _("Cases: {done} of {count} done")
        self.section.text = words.format(done=counts.get("done", 0) + counts.get("skipped", 0), count=len(session.list))
        lines = [self.words]
        if running:
            lines.append(_("The model runs on {n} more cases.").format(n=session.masks.left))
        if failed := len(session.list.problems):
            lines.append(_("{n} cases have a problem; it stands in the column Comment.").format(n=failed))
        self.status.text = " ".join(line for line in lines if line)
        self.status.visible = bool(self.status.text)

    def enter(self) -> None:
        """The tab is seen: keys work, and a list that was open last is offered."""
        self.keys.set_enabled(True)
        self._rating.keys.set_enabled(True)
        if self.session is None and self._offered is None:
            self._look_for_place()
            self.update()

    def exit(self) -> None:
        """The tab is not seen any more."""
        self.keys.set_enabled(False)
        self._rating.keys.set_enabled(False)

    def cleanup(self) -> None:
        """The module goes away; the list is offered at the next start."""
        self.close_list(forget=False)
        self.keys.remove()
        self._rating.keys.remove()
