"""What is known of each published model on this computer: installed, importable, or waiting for weights."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...errors import MedSegError
from ...model.card import ModelCard
from ...model.store import installed_models
from ...monitor import Monitor
from .listing import catalogue_entries
from .schema import Entry
from .store import is_downloaded

if TYPE_CHECKING:
    from ..importer.recipe import Recipe

State = Literal["installed", "importable", "needs weights", "no converter", "broken"]
SYSTEMS = {
    "wmh": "white matter hyperintensities, FLAIR",
    "chest-x-ray": "chest X-ray",
    "microbleeds": "cerebral microbleeds, SWI/T2*",
    "haemorrhage": "intracranial haemorrhage, head CT",
    "brain": "brain, T1",
    "body": "whole body, CT",
    "": "other installed models",
}
# What a throw-away environment with TensorFlow or PyTorch takes while a conversion runs.
_ENVIRONMENT_BYTES = 2_000_000_000
_PYTHONS = ((3, 10), (3, 13))


@dataclass(frozen=True)
class ModelState:
    """One line of the table of models.

    ``state``: ``installed``; ``importable`` (its weights are public or already downloaded, and can be converted here);
    ``needs weights`` (nobody publishes them: bring the file); ``no converter`` (public, but cannot be converted here,
    ``problem`` says why); ``broken`` (installed, ``problem`` says what is wrong). ``formats``: files that its recipe
    takes. ``size``: bytes, of the installed model or of the download, None where unknown. ``how``: the command that
    gets it, "" where it is installed. ``first_stage``: the network before a two-stage model's own file, else "".
    """

    id: str
    title: str
    system: str
    task: str
    state: State
    downloadable: bool = False
    downloaded: bool = False
    formats: tuple[str, ...] = ()
    size: int | None = None
    about: str = ""
    license: str = ""
    source: str = ""
    how: str = ""
    problem: str = ""
    first_stage: str = ""


def catalogue_states(catalogues: Sequence[str | Path] = (), *, monitor: Monitor | None = None) -> list[ModelState]:
    """A line for every model with a recipe, in a catalogue, or installed; systems in the order of `SYSTEMS`.

    A catalogue or recipe that cannot be read is told to ``monitor``; the list is never refused because of it.
    """
    from ..importer.recipe import recipes

    monitor = monitor or Monitor()
    known: dict[str, Recipe] = {}
    entries: dict[str, Entry] = {}
    try:
        known = recipes()
    except MedSegError as error:
        monitor.warn(f"The recipes are not listed: {error}")
    try:
        entries = catalogue_entries(catalogues, monitor=monitor)
    except MedSegError as error:
        monitor.warn(f"What can be downloaded is not listed: {error}")
    cards = {card.id: card for card in installed_models()}
    ids = list(dict.fromkeys([*known, *entries, *cards]))
    states = [_state(id, known.get(id), entries.get(id), cards.get(id)) for id in ids]
    order = {system: n for n, system in enumerate(SYSTEMS)}
    return sorted(states, key=lambda s: (order.get(s.system, len(order) - 1.5), s.system, s.id))


def converter_problem(kind: str) -> str:
    """Why files of ``kind`` (onnx, tfjs, keras, torch, package) cannot be converted here; "" where they can."""
    if kind in ("onnx", "tfjs", "package"):
        return "" if importlib.util.find_spec("onnx") else "the Python package onnx is not installed"
    if not _PYTHONS[0] <= sys.version_info[:2] <= _PYTHONS[1]:
        return f"TensorFlow and PyTorch are not published for Python {sys.version_info[0]}.{sys.version_info[1]}"
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        return "this Python cannot make virtual environments (venv and ensurepip are missing)"
    try:
        free = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return "there is no folder for temporary files"
    if free < _ENVIRONMENT_BYTES:
        return f"it needs {_ENVIRONMENT_BYTES / 1e9:.0f} GB for temporary files, and {free / 1e9:.1f} GB are free"
    return ""


def markdown_table(states: Sequence[ModelState]) -> str:
    """The table for a README: what there is and how to get it, without what is installed on this computer."""
    lines = ["| system | id | model | weights | how to get it |", "|---|---|---|---|---|"]
    shown = ""
    for state in states:
        system = SYSTEMS.get(state.system, state.system)
        first = "" if system == shown else system
        weights = f"public, {size_words(state)}, {state.license}" if state.downloadable else "bring your own"
        lines.append(f"| {first} | `{state.id}` | {state.title} | {weights} | `{how_to_get(state)}` |")
        shown = system
    return "\n".join(lines) + "\n"


def how_to_get(state: ModelState) -> str:
    """The command that installs the model of ``state`` on any computer."""
    if state.downloadable:
        return f"medseg models install {state.id}"
    return f"medseg models import FILE --recipe {state.id} -o PACKAGE"


def size_words(state: ModelState) -> str:
    """The size for a reader."""
    if state.size is None:
        return state.about or "size unknown"
    return f"{state.size / 1e6:.0f} MB" if state.size >= 10_000_000 else f"{max(state.size / 1e6, 0.1):.1f} MB"


def _state(id: str, recipe: Recipe | None, entry: Entry | None, card: ModelCard | None) -> ModelState:
    manifest = recipe.manifest if recipe else {}
    formats = tuple(recipe.accepts) if recipe else ()
    kind = entry.kind if entry else ""
    problem = converter_problem(kind) if entry else ""
    word: State
    if card is not None and not card.error and card.has_weights:
        word, problem = "installed", ""
    elif card is not None:
        word, problem = "broken", card.error or "its weights are missing"
    elif entry is None:
        word = "needs weights"
        reasons = [converter_problem(f) for f in formats]
        problem = next((r for r in reasons if r), "") if formats and all(reasons) else ""
    else:
        word = "no converter" if problem else "importable"
    state = ModelState(
        id=id,
        title=str(manifest.get("title") or (entry.title if entry else "") or (card.title if card else id)),
        system=recipe.system if recipe else entry.system if entry else "",
        task=str(manifest.get("task") or (entry.task if entry else card.task if card else "")),
        state=word,
        downloadable=entry is not None,
        downloaded=entry is not None and is_downloaded(entry),
        formats=formats,
        size=card.size if card is not None and card.size else entry.size if entry else None,
        about=entry.about if entry else "",
        license=(entry.license if entry else "") or str(manifest.get("license") or (card.license if card else "")),
        source=(entry.source if entry else "") or str(manifest.get("source") or (card.source if card else "")),
        problem=problem,
        first_stage=recipe.keras.backbone.application if recipe and recipe.keras.backbone else "",
    )
    if word == "installed" or (card is not None and entry is None and recipe is None):
        return state
    return replace(state, how=how_to_get(state))
