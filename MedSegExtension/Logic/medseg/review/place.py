"""Where a reader was, so that a program that was killed goes on there: the list of cases, the reader, the case.

The finding is in the case's own ``review.json``. Cases are called after their files; no file holds a patient's name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..output.files import file_name, save_text

FILE, LIST = "last-list.json", "list.json"
_VERSION = 1


@dataclass(frozen=True)
class Place:
    """``kind``: of the source (files, database). ``source``: its path, "" where it has none; ``images``: a folder of

    the images that go with it, "" where it has its own. ``number``: of the case, from 1. ``image_names``,
    ``mask_names``: patterns of names that the reader gave for a folder.
    """

    kind: str
    source: str
    images: str = ""
    reader: str = ""
    case: str = ""
    number: int = 0
    count: int = 0
    image_names: str = ""
    mask_names: str = ""


def write_place(root: str | Path, place: Place) -> None:
    """Keep ``place`` in ``root``, all or nothing. Raises `OutputError`."""
    save_text(Path(root) / FILE, json.dumps({"medseg_place": _VERSION, **asdict(place)}, indent=1) + "\n")


def read_place(root: str | Path) -> Place | None:
    """The place that was kept last, None where there is none; what cannot be read counts as none."""
    raw = _read(Path(root) / FILE)
    if raw is None or raw.get("medseg_place") != _VERSION:
        return None
    values = {name: raw[name] for name in Place.__dataclass_fields__ if name in raw}
    try:
        place = Place(**values)
    except TypeError:
        return None
    texts = (
        place.kind,
        place.source,
        place.images,
        place.reader,
        place.case,
        place.image_names,
        place.mask_names,
    )
    good = all(isinstance(t, str) for t in texts) and all(isinstance(n, int) for n in (place.number, place.count))
    return place if good else None


def forget_place(root: str | Path) -> None:
    """The reader closed the list: nothing is offered at the next start."""
    try:
        (Path(root) / FILE).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{FILE} cannot be removed ({error.strerror or error}).") from error


def list_folder(root: str | Path, title: str, source: str, names: Sequence[str], *, moved: bool | None = None) -> Path:
    """The folder of the reviews of a list, made where it is new; it is called after the list.

    A list that is found at another place than before (another drive letter, a copied folder) and one that only has the
    same name look alike where cases have the same names: then the caller must say whether it ``moved``.
    Raises `InputError`, which names the other place, where that is not said, and `OutputError`.
    """
    base = Path(root) / (file_name(title) or "list")
    taken: list[Path] = []
    while (folder := base if not taken else base.with_name(f"{base.name}-{len(taken) + 1}")).exists():
        known = _read(folder / LIST) or {}
        if known.get("source") == source:
            break
        taken.append(folder)
    else:
        folder = _folder_of_another(taken, names, moved) or folder
    content = {"medseg_list": _VERSION, "source": source, "cases": list(names)}
    if _read(folder / LIST) != content:
        save_text(folder / LIST, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return folder


def _folder_of_another(taken: Sequence[Path], names: Sequence[str], moved: bool | None) -> Path | None:
    """The folder that a list of the same cases has already, where it is this one that moved."""
    for folder in taken:
        known = _read(folder / LIST) or {}
        cases = known.get("cases")
        if isinstance(cases, list) and set(map(str, cases)) & set(names):
            if moved is None:
                raise InputError(
                    f"Reviews of a list of this name with cases of the same names are kept already; that list was at "
                    f"{known.get('source') or 'another place'}."
                )
            return folder if moved else None
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None
