"""The card of a model, read from its raw manifest with the standard library only.

For lists and for the panel, which must not load pydantic or onnx into Slicer. It is tolerant: a broken manifest gives
a card whose ``error`` says what is wrong. `medseg.model.package.load_model` judges whether a model can be used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST_NAME = "manifest.json"
_MANIFEST_LIMIT = 1 << 20


@dataclass(frozen=True)
class CardChannel:
    """A volume that the user chooses, with the DICOM modality codes it was trained on."""

    name: str
    modality: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class CardWindow:
    """A window in the volume's units. ``step``: index of its preprocessing step, None for a display preset.

    ``override``: the user may change level and width. ``function``: see `medseg.model.manifest.steps.Window`.
    """

    name: str
    level: float
    width: float
    override: bool = False
    step: int | None = None
    function: str = "CLIP"


@dataclass(frozen=True)
class CardClass:
    """One class. ``color``: RGB 0 to 255."""

    name: str
    color: tuple[int, int, int] = (128, 174, 128)
    value: int = 0
    lesion: bool = False


@dataclass(frozen=True)
class CardRequirement:
    """Another model (id) whose output is needed; ``name`` is how the manifest calls it."""

    name: str
    model: str


@dataclass(frozen=True)
class CardChoice:
    """A setting of the model; the user picks one of ``options``."""

    name: str
    description: str = ""
    default: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelCard:
    """What a reader must know of a model.

    ``size``: bytes of the weights file, 0 where it is missing. ``expects``: those of mode, plane, orientation,
    spacing, size, patch that the manifest states (spacing in mm, i, j, k order, None where an axis is kept).
    ``error``: one sentence, "" where the manifest could be read.
    """

    id: str
    folder: Path
    version: str = ""
    title: str = ""
    task: str = ""
    modality: tuple[str, ...] = ()
    body_part: str = ""
    license: str = ""
    source: str = ""
    size: int = 0
    description: str = ""
    intended_use: str = ""
    training_data: str = ""
    limitations: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    made_from: tuple[tuple[str, str], ...] = ()
    demonstration: bool = False
    figures: dict[str, str] = field(default_factory=dict)
    citation: str = ""
    channels: tuple[CardChannel, ...] = ()
    expects: dict[str, Any] = field(default_factory=dict)
    windows: tuple[CardWindow, ...] = ()
    classes: tuple[CardClass, ...] = ()
    requires: tuple[CardRequirement, ...] = ()
    choices: tuple[CardChoice, ...] = ()
    has_weights: bool = False
    error: str = ""


def read_card(folder: str | Path) -> ModelCard:
    """The card of the package ``folder`` (or of a manifest ``.json`` file). Never raises."""
    path = Path(folder)
    manifest = path if path.suffix.lower() == ".json" else path / MANIFEST_NAME
    home = manifest.parent
    name = manifest.stem if manifest is path else path.name
    try:
        if manifest.stat().st_size > _MANIFEST_LIMIT:
            return ModelCard(name, home, title=name, error=f"{manifest.name} is larger than 1 MB.")
        raw = json.loads(manifest.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return ModelCard(name, home, title=name, error=f"{manifest.name} cannot be read: {reason}.")
    except (ValueError, RecursionError) as error:
        return ModelCard(name, home, title=name, error=f"{manifest.name} is not valid JSON: {str(error)[:200]}.")
    if not isinstance(raw, dict):
        return ModelCard(name, home, title=name, error=f"{manifest.name} is not a JSON object.")
    return card_from(raw, home, name)


def card_from(raw: dict[str, Any], folder: Path, name: str) -> ModelCard:
    """The card of a raw manifest; fields of a wrong kind are left empty and named in ``error``."""
    wrong: list[str] = []

    def text(source: dict[str, Any], key: str, needed: bool = False) -> str:
        value = source.get(key, "")
        if not isinstance(value, str) or (needed and not value):
            wrong.append(key)
            return ""
        return value

    def parts(source: dict[str, Any], key: str) -> list[dict[str, Any]]:
        value = source.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            wrong.append(key)
            return []
        return value

    def part(source: dict[str, Any], key: str) -> dict[str, Any]:
        value = source.get(key, {})
        if not isinstance(value, dict):
            wrong.append(key)
            return {}
        return value

    card, weights = part(raw, "card"), part(raw, "weights")
    steps = parts(raw, "preprocessing")
    channels = tuple(
        CardChannel(text(c, "name", True), tuple(_strings(c.get("modality"))), text(c, "description"))
        for c in parts(raw, "channels")
    )
    classes = []
    for c in parts(raw, "classes"):
        given = c.get("value")
        value = given if isinstance(given, int) else 0
        classes.append(CardClass(text(c, "name", True), _color(c.get("color")), value, c.get("lesion") is True))
    windows = [w for n, step in enumerate(steps) if step.get("step") == "window" for w in _windows(step, n, wrong)]
    windows += [w for step in parts(raw, "display_windows") for w in _windows(step, None, wrong)]
    figures = {str(k): str(v) for k, v in part(card, "figures").items()}
    size = _size_of(folder, weights.get("file"))
    version = raw.get("medseg_manifest")
    if version != 1:
        wrong.append(f"medseg_manifest (version {version!r} instead of 1)")
    return ModelCard(
        id=text(raw, "id", True) or name,
        folder=folder,
        version=text(raw, "version"),
        title=text(raw, "title", True) or name,
        task=text(raw, "task", True),
        modality=tuple(dict.fromkeys(m for c in channels for m in c.modality)),
        body_part=text(raw, "body_part"),
        license=text(raw, "license"),
        source=text(raw, "source"),
        size=size,
        description=text(card, "description"),
        intended_use=text(card, "intended_use"),
        training_data=text(card, "training_data"),
        limitations=tuple(_strings(card.get("limitations"))),
        assumptions=tuple(_strings(card.get("assumptions"))),
        made_from=tuple((str(k), str(v)) for k, v in part(card, "made_from").items()),
        demonstration=raw.get("demonstration") is True,
        figures=figures,
        citation=text(card, "citation"),
        channels=channels,
        expects=_expects(part(raw, "inference"), steps),
        windows=tuple(windows),
        classes=tuple(classes),
        requires=tuple(CardRequirement(text(r, "name", True), text(r, "model", True)) for r in parts(raw, "requires")),
        choices=tuple(_choices(part(raw, "choices"), wrong)),
        has_weights=size > 0,
        error=f"The manifest has missing or wrong fields: {', '.join(dict.fromkeys(wrong))}." if wrong else "",
    )


def _strings(value: Any) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _numbers(value: Any) -> tuple[float | None, ...] | None:
    """Three numbers (or null) as a tuple, else None."""
    if not isinstance(value, list) or len(value) != 3:
        return None
    if not all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in value):
        return None
    return tuple(value)


def _color(value: Any) -> tuple[int, int, int]:
    if isinstance(value, list) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value):
        return (value[0], value[1], value[2])
    return (128, 174, 128)


def _windows(step: dict[str, Any], index: int | None, wrong: list[str]) -> list[CardWindow]:
    found = []
    entries = step.get("windows")
    for entry in entries if isinstance(entries, list) else []:
        level, width = (entry.get("level"), entry.get("width")) if isinstance(entry, dict) else (None, None)
        if not isinstance(level, (int, float)) or not isinstance(width, (int, float)):
            wrong.append("windows")
            continue
        name, function = entry.get("name"), step.get("function", "CLIP")
        title = name if isinstance(name, str) and name else f"L {level:g} W {width:g}"
        override = step.get("override") is True
        found.append(CardWindow(title, float(level), float(width), override, index, str(function)))
    return found


def _choices(raw: dict[str, Any], wrong: list[str]) -> list[CardChoice]:
    found = []
    for name, choice in raw.items():
        options = choice.get("options") if isinstance(choice, dict) else None
        default = choice.get("default") if isinstance(choice, dict) else None
        if not isinstance(options, dict) or not isinstance(default, str) or default not in options:
            wrong.append("choices")
            continue
        description = choice.get("description")
        found.append(CardChoice(name, description if isinstance(description, str) else "", default, tuple(options)))
    return found


def _expects(inference: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """What the network wants in the end: the last step of each kind counts."""
    expects: dict[str, Any] = {}
    for key in ("mode", "plane"):
        if isinstance(inference.get(key), str):
            expects[key] = inference[key]
    if _numbers(inference.get("patch")) is not None:
        expects["patch"] = _numbers(inference["patch"])
    axes = inference.get("mirror_axes")
    if isinstance(axes, list) and axes and all(a in (0, 1, 2) for a in axes):
        expects["mirror_axes"] = tuple(axes)
    for step in steps:
        kind = step.get("step")
        if kind == "orient" and isinstance(step.get("code"), str):
            expects["orientation"] = step["code"]
        elif kind == "resample" and _numbers(step.get("spacing")) is not None:
            expects["spacing"] = _numbers(step["spacing"])
        elif kind in ("resize", "crop_or_pad", "crop") and _numbers(step.get("size")) is not None:
            expects["size"] = _numbers(step["size"])
    return expects


def _size_of(folder: Path, name: Any) -> int:
    try:
        return (folder / name).stat().st_size if isinstance(name, str) and name else 0
    except (OSError, ValueError):
        return 0
