"""Where the cases of a list come from: files, or Slicer's DICOM database.

Imported when the first list is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from medseg.errors import InputError
from medseg.monitor import Monitor
from medseg.review.cases import Case, find_cases, give_images, with_unique_names

FILES, DATABASE = "files", "database"
_NO_IMAGES = ("SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "REG", "DOC", "ECG", "FID", "M3D")


@dataclass(frozen=True)
class Source:
    """``title``: what the list is called. ``place``: path of the folder or table, "" for the database; ``images``: of

    the folder of images that goes with the results of a batch.

    ``series``: case -> series UID, of cases whose image is a folder of several. ``words``: case -> what only the screen
    shows of it. ``told``: sentences. ``image_names``, ``mask_names``: patterns that the reader gave. ``by_names``:
    names of files say what belongs together, so that patterns may help.
    """

    kind: str
    place: str
    title: str
    cases: list[Case]
    series: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    images: str = ""
    image_names: str = ""
    mask_names: str = ""
    by_names: bool = False


def open_source(kind: str, place: str = "", images: str = "", image_names: str = "", mask_names: str = "") -> Source:
    """The cases of a folder, a table (``FILES``) or the database. Raises `InputError`.

    ``images``: a folder of the images of masks that have none beside them (a batch of runs). ``image_names``,
    ``mask_names``: as of `medseg.review.cases.find_cases`."""
    if kind == DATABASE:
        return _of_database(getattr(slicer, "dicomDatabase", None))
    monitor = Monitor()
    cases = find_cases(place, monitor, images=image_names, masks=mask_names)
    if images:
        cases = give_images(cases, images)
        monitor.warnings[:] = []
        if alone := [case.name for case in cases if case.image is None]:
            words = _("{n} results have no image of their name there: {names}.")
            monitor.warn(words.format(n=len(alone), names=", ".join(alone[:5])))
    path = Path(place).resolve()
    title = path.name if path.is_dir() else path.stem
    series = {case.name: case.series for case in cases if case.series}
    told = [*monitor.warnings, *monitor.notes]
    return Source(
        FILES, str(path), title, cases, series, told=told, images=images, image_names=image_names,
        mask_names=mask_names, by_names=path.is_dir(),
    )  # fmt: skip


def names_its_images(folder: str) -> bool:
    """Whether the output folder of a batch says where its images are, and they are there."""
    try:
        return all(case.image is not None for case in find_cases(folder))
    except InputError:
        return False


def _of_database(database: Any) -> Source:
    """A case for each image series; a DICOM SEG that refers to it is its mask.

    Cases are called after modality and a digest of the series' UID: the database knows names of patients, a review must
    not.
    """
    if database is None or not database.isOpen:
        raise InputError(
            _("Slicer has no DICOM database open; open the module DICOM once, or open a folder of DICOM files instead.")
        )
    images: dict[str, Case] = {}
    segs: dict[str, Path] = {}
    words: dict[str, str] = {}
    uids: dict[str, str] = {}
    for patient in database.patients():
        for study in database.studiesForPatient(patient):
            for uid in database.seriesForStudy(study):
                files = [Path(str(f)) for f in database.filesForSeries(uid)]
                modality = str(database.fieldForSeries("Modality", uid) or "")
                if not files:
                    continue
                if modality == "SEG":
                    for file in files:
                        segs.setdefault(_referred(file), file)
                elif modality not in _NO_IMAGES:
                    name = f"{modality or 'series'}-{hashlib.sha256(str(uid).encode()).hexdigest()[:8]}"
                    place = files[0] if len(files) == 1 else Path(os.path.commonpath([f.parent for f in files]))
                    images[str(uid)] = Case(name, place)
                    uids[name] = str(uid)
                    words[name] = str(database.fieldForSeries("SeriesDescription", uid) or "")
    if not images:
        raise InputError(_("Slicer's DICOM database holds no images; import some in the module DICOM."))
    cases = with_unique_names(Case(case.name, case.image, segs.get(uid)) for uid, case in images.items())
    return Source(DATABASE, "", _("DICOM database"), cases, uids, words)


def _referred(file: Path) -> str:
    """UID of the series that a DICOM SEG refers to, "" where it says none."""
    with contextlib.suppress(Exception):  # pydicom raises nearly anything on damaged files
        import pydicom

        head = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["ReferencedSeriesSequence"])
        return str(head.ReferencedSeriesSequence[0].SeriesInstanceUID)
    return ""
