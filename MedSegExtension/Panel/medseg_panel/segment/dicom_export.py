"""*Export to DICOM*: the result as objects of the patient's study, into a folder or Slicer's DICOM database.

The objects are made in the worker, from what the segmentation node and the tables hold now, corrections included.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from medseg import scratch
from medseg.errors import MedSegError, OutputError
from medseg.model.card import MANIFEST_NAME, ModelCard
from medseg.result import Result
from medseg.worker.transfer import result_message
from medseg_mrml import table_from_node
from medseg_mrml.arrays import grid_of
from medseg_mrml.dicom_files import database, source_files
from medseg_mrml.reviewed import masks_of

from ..collaborators import Collaborators
from . import dicom_questions
from .menus import add_action


class DicomExport:
    """Two entries of a menu. ``shown()`` gives volume, segmentation (or None) and tables of the result on show.

    ``busy``: an export is under way.
    """

    def __init__(
        self,
        menu: Any,
        others: Collaborators,
        log: Callable[[str], None],
        shown: Callable[[], tuple[Any, Any, list[Any]]],
    ) -> None:
        self._others, self._log, self._shown = others, log, shown
        self._dialogs = others.dialogs
        self._installer = others.dicom_installer(log) if others.dicom_installer is not None else None
        self.busy = False
        self._query: int | None = None
        self._folders: list[Path] = []
        add_action(menu, _("DICOM objects into a folder..."), self.into_folder)
        add_action(menu, _("DICOM objects into Slicer's DICOM database"), self.into_database)

    def into_folder(self) -> None:
        """Ask for a folder and what the objects shall say, and write them there."""
        ready = self._ready()
        folder = self._dialogs.folder(_("Export DICOM objects into a folder")) if ready is not None else ""
        if ready is None or not folder:
            return
        if any(Path(folder).glob("*.dcm")):
            self._dialogs.error(_("{name} holds DICOM files already; choose another folder.").format(
                name=Path(folder).name))  # fmt: skip
            return
        questions = [dicom_questions.patient(), *dicom_questions.of_film(ready[0], in_slicer=False)]
        text = _("Two files are written at most: the masks (segmentation.dcm) and the measurements (report.dcm).")
        given = self._dialogs.ask(_("Export DICOM objects"), text, questions, {}, _("Export"))
        if given is None:
            return
        self._write(ready, Path(folder), given, lambda answer: self._log(
            _("Written: {files}").format(files=", ".join(answer["files"]))))  # fmt: skip

    def into_database(self) -> None:
        """Put the objects into the patient's study in Slicer's DICOM database."""
        known = database()
        if known is None:
            self._dialogs.error(
                _("Slicer's DICOM database is not open; open the DICOM module once, or export into a folder.")
            )
            return
        ready = self._ready()
        if ready is None:
            return
        question = _("The objects are copied into Slicer's DICOM database, into the study of this patient. Go on?")
        questions = dicom_questions.of_film(ready[0], in_slicer=True)
        given: dict[str, str] | None = {}
        if questions:
            given = self._dialogs.ask(_("Export DICOM objects"), question, questions, {}, _("Export"))
        elif not self._dialogs.confirm(question):
            given = None
        if given is None:
            return
        where = str(known.databaseFilename)
        folder = self._new_folder()
        self._write(ready, folder / "dicom", given, lambda answer: self._import(folder, answer, where, ready[0]))

    def close(self) -> None:
        """The module's widget goes away: what is of an export under way does not stay in the temporary folder."""
        self._query = None
        self._remove_folders()

    # -- steps ------------------------------------------------------------------------------------------------

    def _ready(self) -> tuple[Any, Any, list[Any], list[str]] | None:
        """Volume, segmentation, tables and source files; None where something is missing, which is told."""
        if self.busy:
            self._offer_to_stop()
            return None
        volume, segmentation, tables = self._shown()
        try:
            if volume is None or (segmentation is None and not tables):
                raise OutputError(_("There is no result to export; run a model first."))
            files = source_files(volume)
            if self._installer is not None and not self._installer.ensure():
                return None
        except MedSegError as error:
            self._dialogs.error(str(error))
            return None
        return volume, segmentation, tables, files

    def _offer_to_stop(self) -> None:
        if self._query is None:  # written, and being imported
            self._dialogs.error(_("The objects are being imported into Slicer's DICOM database; wait for it."))
        elif self._dialogs.confirm(_("A DICOM export is under way. Stop it? Cancel lets it go on.")) and self._query:
            self._others.worker.cancel_query(self._query)

    def _write(
        self, ready: tuple[Any, Any, list[Any], list[str]], output: Path, given: dict[str, str],
        done: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        volume, segmentation, tables, files = ready
        self.busy = True
        try:
            exchange = self._new_folder()
            message = result_message(self._result(volume, segmentation, tables), exchange)
        except (MedSegError, OSError) as error:
            sentence = str(error)
            self._end(lambda: self._dialogs.error(sentence))
            return
        self._log(_("Writing DICOM objects..."))
        self._query = self._others.worker.query(
            "dicom",
            lambda answer: self._end(lambda: done(answer)),
            lambda error: self._end(lambda: self._failed(error, volume)),
            on_warning=self._log,
            folder=str(exchange), result=message, images=files, output=str(output), **dicom_questions.options(given),
        )  # fmt: skip

    def _end(self, tell: Callable[[], None]) -> None:
        """The objects are written, or cannot be; ``tell`` may take a while, in which no other export begins."""
        self._query = None
        try:
            tell()
        finally:
            self.busy = False
            self._remove_folders()

    def _failed(self, error: dict[str, Any], volume: Any) -> None:
        if error.get("kind") == "Cancelled":
            self._log(_("The DICOM export was stopped; nothing was written."))
        else:
            self._dialogs.error(_gone(volume) or error["message"])

    def _new_folder(self) -> Path:
        self._folders.append(scratch.new_folder())
        return self._folders[-1]

    def _remove_folders(self) -> None:
        folders, self._folders = self._folders, []
        for folder in folders:
            scratch.discard(folder)

    def _result(self, volume: Any, segmentation: Any, tables: list[Any]) -> Result:
        found = {t.name: t for t in map(table_from_node, tables)}
        if segmentation is None:
            return Result(grid_of(volume), tables=found, provenance={})
        masks = masks_of(segmentation, volume)
        for sentence in masks.warnings:
            self._log(sentence)
        card = next((c for c in self._others.store.installed_models() if c.id == masks.model_id), None)
        model = _model(card) if card is not None else {"id": masks.model_id}
        return Result(masks.grid, masks.layers, tables=found, provenance={"model": model} if masks.model_id else {})

    def _import(self, folder: Path, answer: dict[str, Any], where: str, volume: Any) -> None:
        """Import what the worker wrote into the database at ``where``, and look whether it took it.

        Nothing is imported where the images of ``volume`` were deleted there meanwhile: objects without them are read
        by nobody.
        """
        known = database()
        if known is None or str(known.databaseFilename) != where:
            self._dialogs.error(
                _("Slicer's DICOM database was closed or changed meanwhile, so nothing was imported. Open it and "
                  "export again.")
            )  # fmt: skip
            return
        if gone := _gone(volume):
            self._dialogs.error(gone)
            return
        from DICOMLib import DICOMUtils

        imported = DICOMUtils.importDicom(str(folder / "dicom"), known, True)
        if imported and known.isOpen and all(known.fileForInstance(uid) for uid in answer["instances"]):
            self._log(_("In Slicer's DICOM database now: {files}").format(files=", ".join(answer["files"])))
        else:
            self._dialogs.error(
                _("Slicer's DICOM database did not take the objects; export them into a folder and import that.")
            )


def _gone(volume: Any) -> str:
    """That the images of ``volume`` were deleted while an export was under way, "" where they are there."""
    try:
        source_files(volume)
    except MedSegError as error:
        return str(_("{why} Nothing was exported.").format(why=error))
    return ""


def _model(card: ModelCard) -> dict[str, str]:
    """What objects say of the model: as a run's provenance has it."""
    digest = ""
    try:
        raw = json.loads((Path(card.folder) / MANIFEST_NAME).read_text(encoding="utf-8-sig"))
        digest = str(raw.get("weights", {}).get("sha256") or "")
    except (OSError, ValueError, AttributeError):
        pass
    return {"id": card.id, "title": card.title, "version": card.version, "sha256": digest}
