"""The cases a reader goes through: image and mask of each, found in a folder, a table, or the output of a batch.

A case is called after its file or folder, never after what a file says inside. A BIDS layout (bids-specification:
``sub-*/[ses-*/]anat/*_<suffix>.nii.gz``, derivatives with ``_dseg``, ``_mask`` or ``_label-*``) is one that file names
explain, so it needs no rules of its own beyond them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError
from ..monitor import Monitor
from ..result import text_of_csv
from .case_file import FILE, RATINGS, CaseReview, read_case

_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
_RUN = "segmentation.seg.nrrd"
_LIST = "list.json"
#: Words at the end of a file's name (before the suffix) that say it is a mask.
_MASK_WORD = re.compile(
    r"[ _.-]+(seg|segmentation|dseg|mask|masks|label|labels|label-[A-Za-z0-9]+|lesion|lesions)$", re.I
)
#: Words that say which kind of image it is; left out when a mask looks for its image.
_SUFFIX_WORD = re.compile(r"[ _.-]+(flair|t1w|t2w|t1|t2|pd|ct|mr|image|img|bold|dwi|0000)$", re.I)
_ENTITY = re.compile(r"_(space|desc|res|label|den|hemi)-[A-Za-z0-9]+")
_IMAGE, _MASK = ("image", "filename", "volume", "case"), ("mask", "mask_filename", "segmentation")


@dataclass(frozen=True)
class Case:
    """``mask``: None where the case is to be run first. ``name``: unique in its list. Paths are absolute.

    ``series``: UID of the DICOM series that is meant, where ``image`` is a folder of several and a table says it.
    """

    name: str
    image: Path | None
    mask: Path | None = None
    series: str = ""


def find_cases(source: str | Path, monitor: Monitor | None = None) -> list[Case]:
    """The cases of a folder or CSV file, by name. Raises `InputError` where there are none."""
    path = Path(source).resolve()
    if path.is_dir():
        found = _of_folder(path, monitor)
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
    images = [case for case in _of_folder(Path(folder).resolve(), None) if case.image is not None]
    found: dict[str, Path | None] = {}
    for of in (str.casefold, _key):  # the very name counts more than what it has in common with others
        for case in images:
            for name in (case.name, _stem(case.image)):  # type: ignore[arg-type]
                found.setdefault(of(name), case.image)
    given = []
    for case in cases:
        names = [case.name, case.mask.parent.name] if case.mask is not None else []
        keys = [*map(str.casefold, names), *map(_key, names)]
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


def _stem(path: Path) -> str:
    low = path.name.lower()
    return next((path.name[: -len(s)] for s in _SUFFIXES if low.endswith(s)), path.stem)


def _key(stem: str) -> str:
    """What the file names of an image and of its mask have in common."""
    key = _MASK_WORD.sub("", _ENTITY.sub("", stem))
    return _SUFFIX_WORD.sub("", _ENTITY.sub("", key)).casefold()


def _is_mask(path: Path) -> bool:
    return path.name.lower().endswith(".seg.nrrd") or bool(_MASK_WORD.search(_stem(path)))


def _of_folder(folder: Path, monitor: Monitor | None) -> list[Case]:
    files, series = [], []
    paths = sorted(folder.rglob("*"))
    reviews = {p.parent for p in paths if p.name == _LIST and p.parent != folder}
    for path in paths:
        inside = path.relative_to(folder).parts
        if any(part.startswith(".") for part in inside) or "versions" in inside[:-1] or not path.is_file():
            continue
        if not reviews.isdisjoint(path.parents):  # masks that were made for a list, kept with its reviews
            continue
        low = path.name.lower()
        if low.endswith(".dcm"):
            if path.parent not in series:
                series.append(path.parent)
        elif low.endswith(_SUFFIXES) and low != "reviewed.seg.nrrd":
            files.append(path)
    runs = [p for p in files if p.name == _RUN]
    in_run = {p.parent for p in runs}
    found = [Case(_run_name(p, folder), _run_image(p.parent), p) for p in runs]
    files = [p for p in files if p.parent not in in_run]
    masks, images = [p for p in files if _is_mask(p)], [p for p in files if not _is_mask(p)]
    if not masks and not found:
        bare = [*(_case(p, folder, None) for p in images), *(Case(_name(p, folder), p) for p in series)]
        return sorted(bare, key=lambda c: _natural(c.name))
    used: set[Path] = set()
    for mask in masks:
        partners = [p for p in images if _key(_stem(p)) == _key(_stem(mask))]
        near = [p for p in partners if p.parent == mask.parent] or partners
        if not near and (alone := [p for p in images if p.parent == mask.parent]) and len(alone) == 1:
            near = alone
        if len(near) > 1 and monitor is not None:
            monitor.note(f"{mask.name} fits {len(near)} images; {near[0].name} was taken.")
        image = near[0] if near else None
        if image is None and monitor is not None:
            monitor.warn(f"{mask.name} has no image of its name in {folder.name}; it is shown without one.")
        if image is not None:
            used.add(image)
        found.append(_case(image or mask, folder, mask) if image else Case(_stem(mask), None, mask))
    found += [_case(p, folder, None) for p in images if p not in used]
    return sorted([*found, *(Case(_name(p, folder), p) for p in series)], key=lambda c: _natural(c.name))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts case2 before case10."""
    return [(int(p), "") if p.isdecimal() else (-1, p.casefold()) for p in re.split(r"(\d+)", name)]


def _name(path: Path, folder: Path) -> str:
    return "_".join(path.relative_to(folder).parts) or folder.name


def _case(image: Path, folder: Path, mask: Path | None) -> Case:
    """A file is called after its folder too where its own name says little (``flair.nii.gz`` of each patient)."""
    stem, inside = _stem(image), image.relative_to(folder).parts[:-1]
    plain = inside and not stem.startswith("sub-") and not any(c.isdigit() for c in stem)
    return Case("_".join([*inside, stem]) if plain else stem, image, mask)


def _run_name(path: Path, folder: Path) -> str:
    return _name(path.parent, folder)


def _run_image(folder: Path) -> Path | None:
    """The image a run was made of, where its folder keeps one."""
    kept = [
        p for p in sorted(folder.iterdir()) if p.is_file() and p.name.lower().endswith(_SUFFIXES) and not _is_mask(p)
    ]
    named = [p for p in kept if _stem(p).lower() in ("input", "image", "volume")]
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
    if image is None and mask is None:
        raise InputError(f"{path.name} needs the columns image and mask; it has {', '.join(columns) or 'none'}.")
    found, missing = [], []
    for row in rows:
        places = [_place(path, row.get(column, "") if column else "") for column in (image, mask)]
        if places == [None, None]:
            continue
        missing += [p.name for p in places if p is not None and not _is_there(p)]
        first = places[0] or places[1]
        assert first is not None
        found.append(Case(row.get("case") or _stem(first), places[0], places[1], row.get("series", "")))
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
        image, mask = ("" if p is None else p.name for p in (case.image, case.mask))
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
