"""What is kept of a review and what comes out of it: versions of the mask, the report, where all of it lies."""

from __future__ import annotations

import html
import importlib.util
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError

from ..seams import Dialogs
from ..segment.menus import add_action
from .actions import Desk

_FOLDER_SETTING = "MedSeg/ReviewFolder"


class Keeping:
    """``button`` opens a menu; ``root`` is where reviews of nodes are kept."""

    def __init__(self, desk: Desk, dialogs: Dialogs) -> None:
        self._desk, self._dialogs = desk, dialogs
        self.button = qt.QPushButton(_("More"))
        self.button.toolTip = _("Versions, report, folder of the review, keys.")
        self.menu = qt.QMenu(self.button)
        self.button.setMenu(self.menu)
        self._of_case = [
            add_action(self.menu, _("Save a version (S)"), desk.save),
            add_action(self.menu, _("Versions: take one back..."), self.take_back),
            add_action(self.menu, _("Versions: compare with one..."), self.compare),
            add_action(self.menu, _("Report (PDF, HTML)..."), self.report),
        ]
        self.menu.addSeparator()
        add_action(self.menu, _("Keep reviews in..."), self.choose_folder)

    def update(self) -> None:
        """Show what can be done now."""
        for action in self._of_case:
            action.enabled = self._desk.reviewing is not None

    # -- where --------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        """The folder that the reader chose, else one in the user's documents."""
        kept = slicer.app.userSettings().value(_FOLDER_SETTING)
        return Path(str(kept)) if kept else Path.home() / "Documents" / "MedSeg reviews"

    def choose_folder(self) -> None:
        """Let the reader say where reviews are kept from now on."""
        folder = self._dialogs.folder(_("Keep reviews in"))
        if folder:
            slicer.app.userSettings().setValue(_FOLDER_SETTING, folder)
            self._desk.say(_("Reviews that are begun from now on are kept in {folder}.").format(folder=folder))

    # -- versions -----------------------------------------------------------------------------------------------

    def take_back(self) -> None:
        """The chosen version becomes the reviewed mask, which can be undone."""
        words = _("Take a version back: it becomes the reviewed mask. This can be undone.")
        version, mask = self._chosen(words, _("Take back"))
        if mask is None:
            return
        try:
            told = self._desk.reviewing.take_version(mask)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self._desk.say(" ".join([_("Version {n} was taken back.").format(n=version), *told]))

    def compare(self) -> None:
        """Say how the mask as it is now differs from the chosen version."""
        from medseg.compare.pairs import compare_segmentations

        version, mask = self._chosen(_("Compare the mask as it is now with a version."), _("Compare"))
        if mask is None:
            return
        self._desk.reviewing.take_drawing()
        try:
            found = compare_segmentations(self._desk.reviewing.review.reviewed(), mask)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        head = (_("class"), "Dice", _("only now (ml)"), _("only in version {n} (ml)").format(n=version))
        voxel = found.grid.voxel_volume / 1000
        rows = []
        for c in found.classes:
            more, less = (int((a & ~b).sum()) for a, b in ((c.prediction, c.reference), (c.reference, c.prediction)))
            dice = _rounded(c.figures.values().get("dice"))
            rows.append((c.name, dice, f"{voxel * more:.3g}", f"{voxel * less:.3g}"))
        self._dialogs.show(_("Now and version {n}").format(n=version), html_table(head, rows))

    def _chosen(self, words: str, accept: str) -> tuple[int, Any]:
        """Number and mask of the version that the reader chose; mask None where none was, or it cannot be read."""
        from medseg.review.case_file import load_version

        reviewing = self._desk.reviewing
        versions = list(reversed(reviewing.kept.versions)) if reviewing is not None else []
        if not versions:
            self._dialogs.show(_("Versions"), _("No version was saved yet."))
            return 0, None
        rows = [(str(v.number), v.reader, v.time.replace("T", " ")[:16], v.comment) for v in versions]
        columns = (_("No."), _("Reader"), _("Saved (UTC)"), _("Comment"))
        chosen = self._dialogs.choose(_("Versions"), words, columns, rows, accept)
        if chosen < 0:
            return 0, None
        number = versions[chosen].number
        try:
            return number, load_version(reviewing.work.folder, reviewing.kept, number)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return number, None

    # -- report -------------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Write the case's page, and open it."""
        reviewing = self._desk.reviewing
        if reviewing is None or not self._has_jinja():
            return
        path = self._dialogs.save_file(_("Report"), f"{reviewing.work.folder.name}.pdf", "PDF (*.pdf);;HTML (*.html)")
        if not path:
            return
        try:
            self.write_report(Path(path))
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self._desk.say(_("Report: {file}").format(file=Path(path).name))
        if not slicer.app.testingEnabled():
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))

    def write_report(self, path: Path) -> None:
        """Write the page of the open case to ``path``. Raises `MedSegError` where it cannot."""
        from medseg.report.page import page, write_page
        from medseg.review.case_file import take_decisions
        from medseg_mrml import volume_from_node

        reviewing = self._desk.reviewing
        reviewing.take_drawing()
        take_decisions(reviewing.kept, reviewing.review)
        volume = volume_from_node(reviewing.volume)
        text = page(reviewing.kept, reviewing.review, volume, warnings=tuple(reviewing.warnings))
        if path.suffix.lower() == ".pdf":
            from .pdf import write_pdf  # brings SimpleITK

            write_pdf(path, text, reviewing.work.case)
        else:
            write_page(path, text)

    def _has_jinja(self) -> bool:
        if importlib.util.find_spec("jinja2") is not None:
            return True
        question = _(
            "A report needs the Python package Jinja2 (page templates, BSD licence, under 1 MB). Install it now?"
        )
        if not self._dialogs.confirm(question):
            self._desk.say(_("Without Jinja2 no report was made."))
            return False
        try:
            slicer.util.pip_install("jinja2>=3.1")
        except Exception as error:
            self._dialogs.error(_("Jinja2 could not be installed: {error}").format(error=error))
            return False
        return True


def _rounded(value: Any) -> str:
    return "" if value is None else f"{float(value):.3f}"


def html_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table as rich text."""
    lines = ["".join(f"<th align='left'>{html.escape(h)}&nbsp;&nbsp;</th>" for h in head)]
    lines += ["".join(f"<td>{html.escape(cell)}&nbsp;&nbsp;</td>" for cell in row) for row in rows]
    return f"<table cellpadding='3'>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
