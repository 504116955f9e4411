"""The DICOM studies of a cohort, remembered: reading all headers of an archive takes longer than many a network."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .case import Case
from .series_pick import card_of, picked

if TYPE_CHECKING:
    from ..model.manifest.schema import Manifest

FILE = "cohort-studies.jsonl"
_OTHERWISE = "Name the folder of the right one in a CSV, or move the others away"


class Studies:
    """The cases in folders below ``top`` for one model; those of a folder that did not change are read back.

    They are kept in ``own``, the folder of the cohort, a line for each. ``work``: hash of model and options, since
    another model takes other series. What cannot be written is looked at again the next time, which is all it costs.
    """

    def __init__(self, manifest: Manifest, work: str, top: Path, own: Path) -> None:
        self._manifest, self._work, self._top, self._file = manifest, work, top, own / FILE
        self._known: dict[str, bytes] = {}
        with suppress(OSError), self._file.open("rb") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # cut off, or none of ours
                    kept = json.loads(line)
                    if kept["work"] == work:
                        self._known[kept["folder"]] = line

    def of(self, folder: Path) -> list[Case]:
        """The cases of one folder, in the order of its studies. One without images is a case that is refused."""
        from ..cohort.one_case import Job, seen_input, settled

        job, started = Job("", {"": folder}, folder), time.time()
        seen = seen_input(job)
        kept = json.loads(self._known.get(str(folder), b"{}"))
        if kept.get("seen") == seen:
            with suppress(KeyError, TypeError, ValueError):
                return [
                    Case(name, {c: Path(p) for c, p in files.items()}, self._top, series, refused=refused)
                    for name, files, series, refused in kept["cases"]
                ]
        cases = _studies(self._manifest, folder, self._top)
        if settled(job, started):
            self._keep(folder, seen, cases)
        return cases

    def _keep(self, folder: Path, seen: str, cases: list[Case]) -> None:
        plain = [[c.name, {n: str(p) for n, p in c.files.items()}, c.series, c.refused] for c in cases]
        line = json.dumps({"work": self._work, "folder": str(folder), "seen": seen, "cases": plain})
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def _studies(manifest: Manifest, folder: Path, top: Path) -> list[Case]:
    """The studies in a folder, called after the folder that all their files are in; never after what a file says."""
    from ..io.series_facts import by_study, series_facts

    channels, card = [c.name for c in manifest.channels], card_of(manifest)
    try:
        facts = series_facts(folder)
    except InputError as error:
        return [Case(_name(folder, top), {channels[0]: folder}, top, refused=str(error))]
    cases = []
    for study in by_study(facts):
        place = _common(file for one in study for file in one.info.files)
        case = Case(_name(place, top), dict.fromkeys(channels, place), top)
        if len(study) > 1 or len(channels) > 1:
            case = picked(card, case, study, _OTHERWISE)
        else:
            case = replace(case, series={channels[0]: study[0].info.uid})
        # A series lies in a folder of its own more often than not; then only that is read and hashed.
        of = {one.info.uid: _common(one.info.files) for one in study}
        files = {name: of.get(case.series.get(name, ""), place) for name in channels}
        cases.append(replace(case, files=files))
    return cases


def _common(files: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([str(Path(file).absolute().parent) for file in files]))


def _name(folder: Path, top: Path) -> str:
    return "_".join(folder.relative_to(top).parts) or top.name
