"""Where a mask comes from, in words: the model's card, and what the run that made it wrote down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError, MedSegError

_RESULT = "result.json"
_LONGEST = 240


def card_line(model_id: str) -> str:
    """What a reader must know of a model, in a line: its card's title, training data, first limit; "" where unknown."""
    from ..model.card import read_card
    from ..model.store import find_model

    if not model_id:
        return ""
    try:
        card = read_card(find_model(model_id))
    except MedSegError:
        return ""
    title = f"{card.title or card.id}{f', version {card.version}' if card.version else ''} ({card.id})"
    parts = [title, f"trained on: {_first(card.training_data)}" if card.training_data else ""]
    parts += [_first(limit) for limit in card.limitations[:1]]
    if card.demonstration:
        parts.insert(1, "a demonstration, not for use on patients")
    return "; ".join(part.rstrip(".; ") for part in parts if part.strip()) + "."


def _first(text: str) -> str:
    """The first sentence."""
    return _cut(text.split(". ")[0].strip())


def run_lines(mask: str | Path) -> list[tuple[str, str]]:
    """(name, words) of the run that made ``mask`` (its folder, or its file in it); none where it left no record.

    Raises `InputError` where the record is damaged.
    """
    path = Path(mask)
    record = (path if path.is_dir() else path.parent) / _RESULT
    if not record.is_file() or not (path.is_dir() or path.name == "segmentation.seg.nrrd"):
        return []
    try:
        raw = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{_RESULT} of {record.parent.name} cannot be read ({type(error).__name__}).") from error
    if not isinstance(raw, dict):
        raise InputError(f"{_RESULT} of {record.parent.name} is not the record of a run.")
    model, told = raw.get("model"), raw.get("warnings")
    seconds = raw.get("seconds")
    inference = raw.get("inference")
    mirrored = inference.get("mirrored_along") if isinstance(inference, dict) else None
    axes = ", ".join(str(a) for a in mirrored) if isinstance(mirrored, list) else ""
    lines = [
        ("weights", f"SHA-256 {_text(model, 'sha256')[:16]}" if _text(model, "sha256") else ""),
        ("made from", _made_from(model)),
        ("mirrored images", f"averaged, along {axes}" if axes else ""),
        ("run on", _text(raw, "provider")),
        ("run by", f"MedSeg {_text(raw, 'medseg')}" if _text(raw, "medseg") else ""),
        ("seconds of the run", _text(seconds, "total")),
    ]
    lines += [("the run warned", _cut(w)) for w in (told if isinstance(told, list) else []) if isinstance(w, str)]
    return [(name, words) for name, words in lines if words]


def _made_from(model: Any) -> str:
    """Framework, folds and checkpoint of an imported model; "" of others."""
    told = model.get("made_from") if isinstance(model, dict) else None
    return _cut("; ".join(f"{name} {words}" for name, words in told.items())) if isinstance(told, dict) else ""


def _text(source: Any, key: str) -> str:
    value = source.get(key, "") if isinstance(source, dict) else ""
    return _cut(str(value)) if isinstance(value, str | int | float) else ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit(" ", 1)[0] + " \u2026"
