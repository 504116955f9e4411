"""*Export to DICOM*: the result as objects of the patient's study, into a folder or Slicer's DICOM database.

The objects are made in the worker, from what the segmentation node and the tables hold now, corrections included.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from medseg.errors import MedSegError, OutputError
from medseg.model.card import MANIFEST_NAME, ModelCard
from medseg.result import Result
from medseg.worker.transfer import result_message
from medseg_mrml import table_from_node
from medseg_mrml.arrays import grid_of
from medseg_mrml.dicom_files import database, source_files
from medseg_mrml.reviewed import masks_of

from ..collaborators import Collaborators
from .menus import add_action


class DicomExport:
    """Two entries of a menu. ``shown()`` gives volume, segmentation (or None) and tables of the result on show."""

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
        self._busy = False
        add_action(menu, _("DICOM objects into a folder..."), self.into_folder)
        add_action(menu, _("DICOM objects into Slicer's DICOM database"), self.into_database)

    def into_folder(self) -> None:
        """Ask for a folder and whether the patient is named, and write the objects there."""
        ready = self._ready()
        folder = self._dialogs.folder(_("Export DICOM objects into a folder")) if ready is not None else ""
        if ready is None or not folder:
            return
        if any(Path(folder).glob("*.dcm")):
            self._dialogs.error(_("{name} holds DICOM files already; choose another folder.").format(
                name=Path(folder).name))  # fmt: skip
            return
        named = self._dialogs.confirm(
            _("The objects name the patient as the images do. Go on? Cancel writes objects that name nobody.")
        )
        self._write(ready, Path(folder), not named, lambda files: self._log(
            _("Written: {files}").format(files=", ".join(files))))  # fmt: skip

    def into_database(self) -> None:
        """Put the objects into the patient's study in Slicer's DICOM database."""
        if database() is None:
            self._dialogs.error(
                _("Slicer's DICOM database is not open; open the DICOM module once, or export into a folder.")
            )
            return
        ready = self._ready()
        question = _("The objects are copied into Slicer's DICOM database, into the study of this patient. Go on?")
        if ready is None or not self._dialogs.confirm(question):
            return
        folder = Path(tempfile.mkdtemp(prefix="medseg-"))
        self._write(ready, folder / "dicom", False, lambda files: self._imported(folder, files), folder)

    # -- steps ------------------------------------------------------------------------------------------------

    def _ready(self) -> tuple[Any, Any, list[Any], list[str]] | None:
        """Volume, segmentation, tables and source files; None where something is missing, which is told."""
        if self._busy:
            self._dialogs.error(_("A DICOM export is under way; wait for it."))
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

    def _write(
        self, ready: tuple[Any, Any, list[Any], list[str]], output: Path, deidentified: bool,
        done: Callable[[list[str]], None], remove: Path | None = None,
    ) -> None:  # fmt: skip
        volume, segmentation, tables, files = ready
        exchange = Path(tempfile.mkdtemp(prefix="medseg-"))

        def end(tell: Callable[[], None]) -> None:
            self._busy = False
            shutil.rmtree(exchange, ignore_errors=True)
            tell()
            if remove is not None:
                shutil.rmtree(remove, ignore_errors=True)

        try:
            result = self._result(volume, segmentation, tables)
            message = result_message(result, exchange)
        except (MedSegError, OSError) as error:
            sentence = str(error)
            end(lambda: self._dialogs.error(sentence))
            return
        self._busy = True
        self._log(_("Writing DICOM objects..."))
        self._others.worker.query(
            "dicom",
            lambda answer: end(lambda: done([str(f) for f in answer["files"]])),
            lambda error: end(lambda: self._dialogs.error(error["message"])),
            on_warning=self._log,
            folder=str(exchange), result=message, images=files, output=str(output), deidentified=deidentified,
        )  # fmt: skip

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

    def _imported(self, folder: Path, files: list[str]) -> None:
        from DICOMLib import DICOMUtils

        if DICOMUtils.importDicom(str(folder / "dicom"), database(), True):
            self._log(_("In Slicer's DICOM database now: {files}").format(files=", ".join(files)))
        else:
            self._dialogs.error(
                _("Slicer's DICOM database did not take the objects; export them into a folder and import that.")
            )


def _model(card: ModelCard) -> dict[str, str]:
    """What objects say of the model: as a run's provenance has it."""
    digest = ""
    try:
        raw = json.loads((Path(card.folder) / MANIFEST_NAME).read_text(encoding="utf-8-sig"))
        digest = str(raw.get("weights", {}).get("sha256") or "")
    except (OSError, ValueError, AttributeError):
        pass
    return {"id": card.id, "title": card.title, "version": card.version, "sha256": digest}
