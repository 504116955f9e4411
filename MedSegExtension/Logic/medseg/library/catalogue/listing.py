"""Which catalogues there are, and their entries."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ...errors import InputError, ModelError
from ...model.package import read_json
from ...model.store import shipped_folders
from ...monitor import Monitor
from .schema import Catalogue, Entry

CATALOGUE_NAME = "catalogue.json"
_LIMIT = 1 << 20


def catalogue_files(extra: Sequence[str | Path] = ()) -> list[Path]:
    """Catalogue files in the order in which they count: ``extra``, ``MEDSEG_CATALOGUE``, the shipped one."""
    named = [Path(p).expanduser() for p in os.environ.get("MEDSEG_CATALOGUE", "").split(os.pathsep) if p]
    shipped = [f / CATALOGUE_NAME for f in shipped_folders() if (f / CATALOGUE_NAME).is_file()]
    return list(dict.fromkeys([*(Path(p).expanduser() for p in extra), *named, *shipped]))


def read_catalogue(path: Path) -> Catalogue:
    """The catalogue in the file ``path``; `InputError` where it cannot be read, `ModelError` names the wrong field."""
    try:
        if path.stat().st_size > _LIMIT:
            raise ModelError(f"{path.name} is larger than {_LIMIT >> 20} MB; this is not a catalogue.")
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"The catalogue {path} cannot be read: {reason}. Check its name.") from error
    raw = read_json(content, path.name)
    try:
        return Catalogue.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path.name}: {where}: {first['msg']}. Correct the catalogue file.") from error


def catalogue_entries(extra: Sequence[str | Path] = (), *, monitor: Monitor | None = None) -> dict[str, Entry]:
    """All entries by id; of an id that is in several catalogues the first counts, which ``monitor`` is told."""
    found: dict[str, Entry] = {}
    where: dict[str, Path] = {}
    for path in catalogue_files(extra):
        for entry in read_catalogue(path).entries:
            if entry.id not in found:
                found[entry.id], where[entry.id] = entry, path
            elif monitor is not None and entry != found[entry.id]:
                monitor.warn(f"{entry.id} is in several catalogues; the one in {where[entry.id]} is used.")
    return found


def find_entry(id: str, extra: Sequence[str | Path] = (), *, monitor: Monitor | None = None) -> Entry:
    """The entry ``id``; `InputError` with the nearest ids where there is none."""
    known = catalogue_entries(extra, monitor=monitor)
    if id in known:
        return known[id]
    near = difflib.get_close_matches(id, known, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "It holds: " + (", ".join(known) or "nothing") + "."
    raise InputError(
        f"The catalogue has no model {id!r}. {hint} A model whose weights you have is imported with "
        "'medseg models import'."
    )
