"""The cases of ``medseg cohort``: a folder of images, a BIDS data set, a table, or a tree of DICOM studies."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..monitor import Event
from .case import Case
from .cohort_studies import Studies

if TYPE_CHECKING:
    from ..cohort.one_case import Job, Runner
    from ..model.manifest.schema import Manifest
    from .console import Command

_IMAGE_COLUMNS = ("image", "filename", "volume")
_MASKS = ("dseg", "mask", "probseg")
#: A file name of BIDS: entities (``sub-01_ses-02_run-1``), then a suffix that says what it is.
_BIDS = re.compile(r"(?P<entities>sub-[^_.]+(?:_[a-zA-Z]+-[^_.]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(\.gz)?")


@dataclass(frozen=True)
class Wanted:
    """What of a BIDS data set: ``suffixes`` (``FLAIR``; of several ``CHANNEL=FLAIR``), ``sessions`` (all if none)."""

    suffixes: Sequence[str] = ()
    sessions: Sequence[str] = ()


def plan(command: Command, runner: Runner, source: Path, output: Path, wanted: Wanted) -> list[Job]:
    """The jobs of ``source``, in its order, under names of their own. Raises `InputError` where there are none.

    Files that are missing and studies in which no series fits are jobs that are refused: they cost a row each.
    """
    from ..cohort.one_case import Job
    from ..output.files import file_name

    manifest = runner.model.manifest
    if source.suffix.lower() in (".csv", ".tsv"):
        cases = _of_table(manifest, source)
    elif _is_bids(source):
        cases = _of_bids(manifest, source, wanted)
    else:
        cases = _of_folder(command, runner, source, output.resolve())
    if wanted != Wanted() and not _is_bids(source):
        raise InputError(f"--suffix and --session are for BIDS data sets; {source.name} has no folders sub-*.")
    jobs, taken = [], set()
    for case in cases:
        name, n = file_name(case.name) or "case", 2
        while name.casefold() in taken:
            name, n = f"{file_name(case.name) or 'case'}_{n}", n + 1
        taken.add(name.casefold())
        jobs.append(Job(name, case.files, output / "cases" / name, case.series, case.refused))
    if not jobs:
        raise InputError(f"{source.name} holds no images outside the output folder.")
    return jobs


# -- tables -----------------------------------------------------------------------------------------------------


def _of_table(manifest: Manifest, source: Path) -> list[Case]:
    """A row a case: column ``case`` (a name) and one for each channel, by its name; ``image`` where there is one."""
    from ..review.cases import read_rows

    rows = read_rows(source)
    if not rows:
        raise InputError(f"{source.name} has no rows.")
    columns = {}
    for channel in manifest.channels:
        names = [channel.name.lower(), *(_IMAGE_COLUMNS if len(manifest.channels) == 1 else ())]
        columns[channel.name] = next((n for n in names if n in rows[0]), "")
    if missing := [name for name, column in columns.items() if not column]:
        need = "image" if len(columns) == 1 else ", ".join(columns)
        raise InputError(
            f"{source.name} has no column for {', '.join(missing)}; it needs: case, {need}. It has: "
            f"{', '.join(rows[0])}."
        )
    cases = []
    for number, row in enumerate(rows, start=2):
        cells = {name: row.get(column, "") for name, column in columns.items()}
        if not any(cells.values()):
            continue
        files = {name: (source.parent / text).resolve() for name, text in cells.items() if text and "\0" not in text}
        gone = [n for n in columns if n not in files] + [p.name for p in files.values() if not _is_there(p)]
        refused = f"Row {number} of {source.name}: {', '.join(gone)} is not there." if gone else ""
        first = next(iter(files.values()), Path("case"))
        cases.append(Case(row.get("case") or _stem(first), files or {"": first}, source, refused=refused))
    return cases


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that the system cannot hold
        return False


# -- BIDS -------------------------------------------------------------------------------------------------------


def _is_bids(source: Path) -> bool:
    return source.is_dir() and any(True for _ in _bids_files(source))


def _bids_files(source: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """(path, match of its name) of all images under ``sub-*``; those of ``derivatives`` are others' results."""
    for subject in sorted(source.glob("sub-*")):
        for folder, inside, names in os.walk(subject):
            inside.sort()
            for name in sorted(names):
                if found := _BIDS.fullmatch(name):
                    yield Path(folder) / name, found


def _of_bids(manifest: Manifest, source: Path, wanted: Wanted) -> list[Case]:
    """One channel: each file with its suffix. Several: subject and session, with one file for each channel."""
    channels = [c.name for c in manifest.channels]
    found = [(path, _entities(m["entities"]), m["suffix"]) for path, m in _bids_files(source)]
    if wanted.sessions:
        sessions = {text.removeprefix("ses-") for text in wanted.sessions}
        found = [one for one in found if one[1].get("ses") in sessions]
    counts = Counter(suffix for _, _, suffix in found if suffix not in _MASKS)
    there = ", ".join(f"{suffix} ({n})" for suffix, n in counts.most_common()) or "nothing"
    chosen = _suffixes(channels, wanted.suffixes, counts, f"{source.name} has: {there}")
    if missing := [suffix for suffix in chosen.values() if suffix not in {s for _, _, s in found}]:
        raise InputError(f"No image of {source.name} has the suffix {missing[0]} in these sessions; it has: {there}.")
    if len(channels) == 1:
        files = [path for path, _, suffix in found if suffix == chosen[channels[0]]]
        return [Case(_stem(path), {channels[0]: path}, source) for path in files]
    visits: dict[str, dict[str, list[Path]]] = {}
    for path, entities, suffix in found:
        visit = "_".join(f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities)
        for channel, of in chosen.items():
            if suffix == of:
                visits.setdefault(visit, {}).setdefault(channel, []).append(path)
    cases = []
    for visit, files_of in visits.items():
        wrong = [f"{len(files_of.get(c, []))} images {chosen[c]}" for c in channels if len(files_of.get(c, [])) != 1]
        refused = f"{visit} has {' and '.join(wrong)}, not one each; name the files in a CSV." if wrong else ""
        cases.append(Case(visit, {c: paths[0] for c, paths in files_of.items()}, source, refused=refused))
    return cases


def _entities(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (part.partition("-") for part in text.split("_"))}


def _suffixes(channels: list[str], given: Sequence[str], counts: Counter[str], there: str) -> dict[str, str]:
    """Channel -> suffix."""
    if len(channels) == 1:
        if not given and len(counts) != 1:
            raise InputError(f"Which images? Choose with --suffix. {there}.")
        if len(given) > 1:
            raise InputError("This model takes one image a case; give one --suffix.")
        return {channels[0]: given[0].rpartition("=")[2] if given else next(iter(counts))}
    named = dict(text.partition("=")[::2] for text in given)
    if set(named) != set(channels) or not all(named.values()):
        need = " ".join(f'--suffix "{name}=..."' for name in channels)
        raise InputError(f"This model takes {len(channels)} images a case; give {need}. {there}.")
    return {name: named[name] for name in channels}


# -- folders ----------------------------------------------------------------------------------------------------


def _of_folder(command: Command, runner: Runner, source: Path, own: Path) -> list[Case]:
    """Image files, each a case; and DICOM studies, in each the series that the model takes by rule."""
    from ..review.cases import find_cases

    manifest = runner.model.manifest

    if not source.is_dir():
        raise InputError(f"{source} is neither a folder nor a table (.csv, .tsv).")
    try:
        found = [c for c in find_cases(source, command.monitor()) if c.image and not c.image.is_relative_to(own)]
    except InputError:
        found = []
    names = {c.image: c.name for c in found if c.image}
    files, series = [p for p in names if p.is_file()], [p for p in names if p.is_dir()]
    if files and len(manifest.channels) > 1:
        raise InputError(
            f"{manifest.title} takes {len(manifest.channels)} images a case, and of a plain folder it is not known "
            "which belong together: name them in a CSV, with the columns case, "
            f"{', '.join(c.name for c in manifest.channels)}, or give a BIDS data set or DICOM studies."
        )
    channel = manifest.channels[0].name
    cases = [Case(names[path], {channel: path}, source) for path in files]
    if not files or series:
        top = source.resolve()
        children = sorted(p for p in top.iterdir() if p.is_dir() and p != own and not p.name.startswith("."))
        if series:
            children = [p for p in children if any(one.is_relative_to(p) for one in series)]
        direct = top in series or (not children and not files)
        folders = [top] if direct else children
        studies = Studies(runner.model.manifest, runner.work, top, own)
        for n, folder in enumerate(folders):
            command.reporter.retitle(f"{n} of {len(folders)} folders")
            command.reporter(Event("progress", "looking at headers", "", n / len(folders), None))
            cases += studies.of(folder)
    return cases


def _stem(path: Path) -> str:
    for suffix in (".nii.gz", ".seg.nrrd"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem
