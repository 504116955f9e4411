"""The cases a reader goes through: image and mask of each, found in a folder, a table, or the output of a batch.

A case is called after its file or folder, never after what a file says inside. Which mask belongs to which image is
told by names (`pairing`); a result of a classifier is a case without a mask, with a table of slices.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..io.slice_scores import FILE as SLICES
from ..io.slice_scores import is_slice_table
from ..monitor import Monitor
from ..result import text_of_csv
from .case_file import FILE, RATINGS, CaseReview, read_case
from .pairing import SUFFIXES, key_of, pair, stem_of

_RUN = "segmentation.seg.nrrd"
_LIST, _BATCH = "list.json", "cases.csv"
_IMAGE, _MASK = ("image", "filename", "volume", "case"), ("mask", "mask_filename", "segmentation")
_SLICES = "slices"


@dataclass(frozen=True)
class Case:
    """``mask``: None where the case is to be run first. ``name``: unique in its list. Paths are absolute.

    ``slices``: the table of a classifier's result, whose findings are slices; None where masks are reviewed.
    ``series``: UID of the DICOM series that is meant, where ``image`` is a folder of several and a table says it.
    """

    name: str
    image: Path | None
    mask: Path | None = None
    series: str = ""
    slices: Path | None = None

    @property
    def result(self) -> Path | None:
        """What was made of the image: its mask, or the table of its slices."""
        return self.mask or self.slices


def find_cases(source: str | Path, monitor: Monitor | None = None, *, images: str = "", masks: str = "") -> list[Case]:
    """The cases of a folder or CSV file, by name. Raises `InputError` where there are none.

    ``images``, ``masks``: patterns of names in a folder (`pairing.Pattern`), for names that do not say what they are.
    ``monitor``: is told what names left open, and how many images and masks have no partner.
    """
    path = Path(source).resolve()
    if path.is_dir():
        found = _of_folder(path, monitor or Monitor(), images, masks)
    elif path.suffix.lower() in (".csv", ".tsv"):
        found = _of_table(path)
    else:
        raise InputError(f"{path.name} is neither a folder nor a table (.csv, .tsv) of images and masks.")
    if not found:
        raise InputError(f"{path.name} holds no images (NIfTI, NRRD, MetaImage, DICOM) and no masks.")
    return with_unique_names(found)


def with_unique_names(cases: Iterable[Case]) -> list[Case]:
    """The cases in their order; where two have one name, later ones get a number. Also for a caller's lists."""
    taken: set[str] = set()
    named = []
    for case in cases:
        name, n = case.name, 2
        while name.casefold() in taken:
            name, n = f"{case.name}_{n}", n + 1
        taken.add(name.casefold())
        named.append(replace(case, name=name))
    return named


def give_images(cases: Iterable[Case], folder: str | Path) -> list[Case]:
    """Cases without an image (results of a batch) get the one of their name from ``folder`` and its sub-folders."""
    images = [case for case in _of_folder(Path(folder).resolve(), Monitor(), "", "") if case.image is not None]
    found: dict[str, Path | None] = {}
    for of in (str.casefold, key_of):  # the very name counts more than what it has in common with others
        for case in images:
            for name in (case.name, stem_of(case.image)):  # type: ignore[arg-type]
                found.setdefault(of(name), case.image)
    given = []
    for case in cases:
        names = [case.name, case.result.parent.name] if case.result is not None else []
        keys = [*map(str.casefold, names), *map(key_of, names)]
        image = case.image or next((found[key] for key in keys if key in found), None)
        given.append(replace(case, image=image))
    return given


#: Letters of a case's folder; file systems take 255 bytes, Windows 260 letters of a whole path.
_LONGEST = 100


def case_folder(root: str | Path, case: str, reader: str = "") -> Path:
    """Where the review of a case is kept: each reader has folders of their own, so a second reader reads blinded.

    ``root/reader-AB/case``, ``root/reader/case`` of a reader without initials, whose letters' case does not matter.
    A name with other than letters, digits, ``.``, ``_`` and ``-``, or a long one, gets an ending that keeps two cases
    apart.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", case)[:_LONGEST].strip("-.")
    if safe != case:
        safe = f"{safe or 'case'}-{hashlib.sha256(case.encode()).hexdigest()[:6]}"
    return reader_folder(root, reader) / safe


def reader_folder(root: str | Path, reader: str = "") -> Path:
    """Where all reviews of one reader are kept. Others' are never looked at from there."""
    return Path(root) / (f"reader-{reader.upper()}" if reader else "reader")


# -- folders --------------------------------------------------------------------------------------------------


def _of_folder(folder: Path, monitor: Monitor, image_names: str, mask_names: str) -> list[Case]:
    by_name = image_names.strip() or mask_names.strip()
    if not by_name and (listed := _of_batch(folder / _BATCH, monitor)):
        return listed
    files, series, runs = _files_in(folder)
    found = pair(files, folder, series, images=image_names, masks=mask_names)
    masks_of: Counter[Path] = Counter(image for image, mask in found.pairs if image is not None and mask is not None)
    cases = []
    for image, mask in found.pairs:
        if image is None:
            assert mask is not None
            cases.append(Case(stem_of(mask), None, mask))
        elif mask is not None and masks_of[image] > 1:
            cases.append(Case(stem_of(mask), image, mask))
        else:
            cases.append(_case(image, folder, mask))
    cases = _with_runs(cases, runs, folder)
    for sentence in found.told:
        monitor.warn(sentence)
    return sorted(cases, key=lambda c: _natural(c.name))


def _files_in(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Image files, folders of DICOM images, and results of runs (masks, tables of slices) below a folder."""
    files, series = [], []
    paths = sorted(folder.rglob("*"))
    reviews = {p.parent for p in paths if p.name == _LIST and p.parent != folder}
    runs = {}
    for path in paths:
        inside = path.relative_to(folder).parts
        if any(part.startswith(".") for part in inside) or "versions" in inside[:-1] or not path.is_file():
            continue
        if not reviews.isdisjoint(path.parents):  # masks that were made for a list, kept with its reviews
            continue
        low = path.name.lower()
        if low == _RUN or (low == SLICES and path.parent not in runs and is_slice_table(path)):
            runs[path.parent] = path
        elif low.endswith(".dcm"):
            if path.parent not in series:
                series.append(path.parent)
        elif low.endswith(SUFFIXES) and low != "reviewed.seg.nrrd":
            files.append(path)
    return [p for p in files if not runs.keys() & {p.parent, p.parent.parent}], series, list(runs.values())


def _with_runs(cases: list[Case], runs: Sequence[Path], folder: Path) -> list[Case]:
    """``cases`` with results of runs: of an image without a mask where one has the run's name, else by themselves."""
    bare: dict[str, list[Case]] = {}
    for case in cases:
        if case.mask is None and case.image is not None:
            bare.setdefault(key_of(stem_of(case.image)), []).append(case)
    for path in runs:
        mask, slices = (None, path) if path.name.lower() == SLICES else (path, None)
        image = _run_image(path.parent)
        same = bare.get(key_of(path.parent.name), []) if image is None else []
        if len(same) == 1 and same[0] in cases:
            cases[cases.index(same[0])] = replace(same[0], mask=mask, slices=slices)
        else:
            cases.append(Case(_name(path.parent, folder), image, mask, slices=slices))
    return cases


def _of_batch(table: Path, monitor: Monitor) -> list[Case]:
    """The cases that a batch or a cohort wrote down in its output folder; none where it did not."""
    try:
        columns = set(read_rows(table)[0]) if table.is_file() else set()
    except (InputError, IndexError):
        return []
    if not {"case", "image"} <= columns or columns.isdisjoint({"mask", _SLICES, "oddness"}):
        return []
    try:
        return _of_table(table)
    except InputError as error:
        monitor.warn(f"{error} Results were looked for in the folder instead.")
        return []


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts case2 before case10."""
    return [(int(p), "") if p.isdecimal() else (-1, p.casefold()) for p in re.split(r"(\d+)", name)]


def _name(path: Path, folder: Path) -> str:
    return "_".join(path.relative_to(folder).parts) or folder.name


def _case(image: Path, folder: Path, mask: Path | None) -> Case:
    """A file is called after its folder too where its own name says little (``flair.nii.gz`` of each patient)."""
    if image.is_dir():
        return Case(_name(image, folder), image, mask)
    stem, inside = stem_of(image), image.relative_to(folder).parts[:-1]
    plain = inside and not stem.startswith("sub-") and not any(c.isdigit() for c in stem)
    return Case("_".join([*inside, stem]) if plain else stem, image, mask)


def _run_image(folder: Path) -> Path | None:
    """The image a run was made of, where its folder keeps one."""
    kept = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name.lower().endswith(SUFFIXES)]
    named = [p for p in kept if stem_of(p).lower() in ("input", "image", "volume")]
    return named[0] if named else None


# -- tables ---------------------------------------------------------------------------------------------------


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV (or tab-separated) file by lower-case column name. Raises `InputError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        mark = max("\t;,", key=head.count)
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=mark))
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path.name} cannot be read as a table ({type(error).__name__}).") from error
    return [
        {
            (key or "").strip().lower(): text_of_csv((value or "").strip())
            for key, value in row.items()
            if key is not None
        }
        for row in rows
    ]


def _of_table(path: Path) -> list[Case]:
    rows = read_rows(path)
    columns = list(rows[0]) if rows else []
    image = next((c for c in _IMAGE if c in columns), None)
    mask = next((c for c in _MASK if c in columns), None)
    slices = _SLICES if _SLICES in columns else None
    if image is None and mask is None and slices is None:
        raise InputError(f"{path.name} needs the columns image and mask; it has {', '.join(columns) or 'none'}.")
    found, missing = [], []
    for row in rows:
        places = [_place(path, row.get(column, "") if column else "") for column in (image, mask, slices)]
        if not any(places):
            continue
        missing += [p.name for p in places if p is not None and not _is_there(p)]
        first = next(filter(None, places))
        name = row.get("case") or stem_of(first)
        found.append(Case(name, places[0], places[1], row.get("series", ""), None if places[1] else places[2]))
    if missing:
        listed = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise InputError(f"{path.name} names {len(missing)} files that are not there: {listed}.")
    return found


def _place(table: Path, text: str) -> Path | None:
    """The file that a cell names, None for an empty one. Raises `InputError` for what is no path."""
    try:
        return (table.parent / text).resolve() if text else None
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise InputError(f"{table.name}: {text[:60]!r} is no path of a file.") from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that the system cannot hold
        return False


# -- states ---------------------------------------------------------------------------------------------------


def states(
    cases: Iterable[Case], root: str | Path, reader: str = "", monitor: Monitor | None = None
) -> list[CaseReview]:
    """What ``reader`` did on each case so far, in the order of the cases; "to do" where nothing is kept."""
    kept = []
    for case in cases:
        one = read_case(case_folder(root, case.name, reader), monitor)
        image, mask = ("" if p is None else p.name for p in (case.image, case.result))
        kept.append(one or CaseReview(case.name, image, mask, reader=reader))
    return kept


def reviews_in(root: str | Path, reader: str | None = None, monitor: Monitor | None = None) -> list[CaseReview]:
    """Every review kept below ``root``; of one reader's folders only where ``reader`` is not None.

    A case whose file cannot be read is left out, which is told.
    """
    top = Path(root)
    if reader is not None:
        top = reader_folder(top, reader)
    return [kept for _, kept in _kept_below(top, monitor)]


def reviews_of(folder: str | Path, monitor: Monitor | None = None) -> dict[str, tuple[Path, CaseReview]]:
    """Case -> (its folder, its review) of one reader's folder. A case whose file cannot be read is left out, told.

    Raises `InputError` where there are none, or two of one case: then it holds more than one reader's reviews.
    """
    found: dict[str, tuple[Path, CaseReview]] = {}
    for place, kept in _kept_below(Path(folder), monitor):
        if kept.case in found:
            raise InputError(
                f"{Path(folder).name} holds two reviews of the case {kept.case}; give the folder of one reader "
                "(reader-...)."
            )
        found[kept.case] = place, kept
    if not found:
        raise InputError(f"{Path(folder).name} holds no review (review.json).")
    return found


def _kept_below(top: Path, monitor: Monitor | None) -> list[tuple[Path, CaseReview]]:
    folders = sorted({p.parent for name in (FILE, f"{FILE}.bak") for p in top.rglob(name)})
    found = []
    for folder in folders:
        try:
            one = read_case(folder, monitor)
        except InputError as error:
            if monitor is None:
                raise
            monitor.warn(f"{error} The case was left out.")
            continue
        if one is not None:
            found.append((folder, one))
    return found


def left_of(kept: CaseReview) -> int:
    """Findings of a case without a decision."""
    return sum(not one.get("state") for one in kept.findings)


def rating_words(rating: int | None) -> str:
    """A rating with its meaning."""
    return "" if rating is None else f"{rating} {RATINGS[rating]}"
