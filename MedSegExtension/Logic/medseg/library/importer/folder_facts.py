"""What a MONAI, Auto3DSeg or Raidionics folder says of its model, and what is left to choose; nothing is converted."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ModelError, damage_is
from .auto3dseg import model_folder, read_labels
from .bundles import Raw, named_classes, read_description
from .formats import Kind
from .monai import (
    NETWORKS,
    bundle_place,
    bundle_root,
    channels_of,
    classes_of,
    takes_flat_images,
    tensors_of,
    weights_of,
)
from .monai_config import INFERENCE, TRAIN, Code, find, read_config, target_name
from .monai_output import Postprocessing, inferer, network_definition
from .monai_transforms import Preprocessing, transforms_of
from .propose import Question
from .raidionics import Settings, settings_file
from .unpacking import unpacked

_SHOWN = 40
_TEXT = 200


@dataclass
class Facts:
    """``lines``: (name, text) as they are shown. ``questions``: what the import can be told; "" is its own choice."""

    title: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def say(self, name: str, text: str) -> None:
        if text:
            self.lines.append((name, text))


def facts_of(path: Path, kind: Kind) -> dict[str, Any]:
    """Plain `Facts` of the folder or zip ``path``; `MedSegError` where its description cannot be read."""
    with _opened(path) as folder, damage_is(ModelError, f"The description of {path.name}"):
        return asdict(_READERS[kind](folder))


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    if path.is_file() and zipfile.is_zipfile(path):
        with unpacked(path) as folder:
            yield folder
    else:
        yield path if path.is_dir() else path.parent


def _monai(folder: Path) -> Facts:
    root = bundle_root(folder)
    place = bundle_place(root)
    metadata = read_description(place / "metadata.json")
    facts = Facts(str(metadata.get("name") or metadata.get("task") or root.name))
    given, result = tensors_of(metadata)
    inference, train = find(place, INFERENCE), find(place, TRAIN)
    later = [p.name for p in (inference, train) if p is not None and p.suffix != ".json"]
    config = read_config(None if inference is None or inference.name in later else inference, {})
    training = read_config(None if train is None or train.name in later else train, {})
    steps = config.get("preprocessing", "preprocessing_transforms", "pre_transforms")
    ends = config.get("postprocessing", "postprocessing_transforms", "post_transforms")
    flat = takes_flat_images(given, config)
    before, after = Preprocessing(steps, flat), Postprocessing(ends)
    facts.say("Images", _channels(channels_of(given, before)))
    facts.say("Classes", _listed(classes_of(result, after)[0]))
    if later:
        facts.say("Transforms", f"in {', '.join(later)}; YAML is read when the model is imported")
    elif inference is None:
        facts.say("Transforms", "not known: the bundle has no inference.json")
    else:
        facts.say("Before the network", _names(steps) or "nothing")
        facts.say("After the network", _names(ends) or "nothing")
        item = config.get("inferer")
        windows, _, odd = inferer(item, flat) if item is not None else ({}, {}, {})
        sizes = windows.get("patch", [])[::-1]
        patch = " x ".join(str(n) for n in (sizes[1:] if sizes[:1] == [1] else sizes))
        facts.say("Runs", f"in windows of {patch} voxels" if patch else "on the whole image")
        unknown = {**before.unknown, **after.unknown, **odd}
        if unknown:
            facts.questions.append(_skip(unknown))
    facts.say("Network", _network(config, training))
    facts.say("Version", str(metadata.get("version", "")))
    facts.say("Licence", _licence(root, metadata))
    facts.say("Intended use", str(metadata.get("intended_use", ""))[:_TEXT])
    if ("Network", "SegResNetDS2") in facts.lines:
        facts.questions.append(_OUTPUT)
    weights = weights_of(root)
    if len(weights) > 1:
        facts.questions.append(
            Question(
                "weights", "Which file holds the network", "choice", choices=("", *weights),
                why=f"There are {', '.join(weights)}; left empty, the first that can be read is taken. pt: weights "
                "only; ts: a program, run to convert it; onnx: taken as it is.",
            )
        )  # fmt: skip
    return facts


_OUTPUT = Question(
    "output", "Which of the network's outputs are the classes", "choice", choices=("", "0", "1"),
    why="0: the branch for points, 1: that for classes; which was trained is not written. Left empty, nothing is "
    "imported.",
)  # fmt: skip


def _network(*configs: Any) -> str:
    for config in configs:
        for name in ("network_def", "network", "net", "model"):
            item = config.get(name)
            if item is not None and not isinstance(item, Code):
                found, why = network_definition(item, NETWORKS)
                return (
                    found["name"] if found is not None else f"{target_name(item)} ({why}; model.ts or ONNX is needed)"
                )
    return ""


def _licence(root: Path, metadata: Raw) -> str:
    said = str(metadata.get("license") or metadata.get("copyright") or "")[:_TEXT]
    file = next((f for f in sorted(root.glob("LICEN[CS]E*")) if f.is_file()), None)
    if file is None:
        return said or "not said; see where the bundle came from"
    with file.open(encoding="utf-8", errors="replace") as text:
        first = next((line.strip() for line in text if line.strip()), "")[:_TEXT]
    return "; ".join(filter(None, [said, f"{file.name}: {first}"]))


def _names(block: Any) -> str:
    return ", ".join(target_name(item) or repr(item)[:_TEXT] for item in transforms_of(block))


def _channels(channels: list[Raw]) -> str:
    return ", ".join(" ".join([str(c["name"]), *(f"({m})" for m in c["modality"])]) for c in channels[:_SHOWN])


def _listed(names: list[str]) -> str:
    return f"{len(names)}: " + ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _skip(unknown: dict[str, str]) -> Question:
    words = "; ".join(f"{name} ({why})" for name, why in unknown.items())
    return Question(
        "skip", "Leave out, where you know that it does no harm (names with commas)", "text",
        why=f"MedSeg does not understand {words}. Without it the result may be wrong; left empty, nothing is imported.",
    )  # fmt: skip


def _auto3dseg(folder: Path) -> Facts:
    root = model_folder(folder)
    facts = Facts(root.name.replace("-", " "))
    labels = read_labels(root / "labels.csv")
    facts.say("Classes", _listed(list(labels.values())) if labels else "numbers only: there is no labels.csv")
    facts.say("Images, transforms", "in model.pt, which is opened when the model is imported")
    facts.say("Licence", _licence(root, {}))
    return facts


def _raidionics(folder: Path) -> Facts:
    file = settings_file(folder)
    settings = Settings(file)
    facts = Facts(f"{file.parent.name.replace('_', ' ')} (Raidionics)")
    text = settings.text
    modality = text("default", "imaging_modality", "not said").upper()
    facts.say("Images", f"{text('preprocessing', 'number_inputs', '1')} ({modality})")
    names = [n.strip() for n in text("training", "classes").split(",") if n.strip()]
    facts.say("Classes", _listed([c["name"] for c in named_classes(names[1:])]) if names else "not named")
    for section, title in (("preprocessing", "Before the network"), ("training", "Network")):
        facts.say(title, "; ".join(f"{n} = {v}" for n, v in settings.of(section)))
    facts.say("Licence", _licence(file.parent, {}))
    ask = facts.questions.append
    unknown = {name: f"[{section}] {value}" for section, name, value in settings.unknown()}
    if unknown:
        ask(_skip(unknown))
    how = text("preprocessing", "background_cropping").lower()
    if how.startswith(("brain", "lungs")):
        ask(Question(
            "mask", f"Installed model that finds the {how.split('_')[0]}", "text",
            "meshnet-brain-mask" if how.startswith("brain") else "", why=f"The network sees this organ only ({how}).",
        ))  # fmt: skip
    if text("training", "patch_size"):
        ask(Question("overlap", "Overlap of patches (0 to 1)", "text", why="Left empty: as Raidionics, none."))
    ask(Question(
        "reconstruction", "How classes are decided", "choice", choices=("", "argmax", "thresholding"),
        why="Left empty: as the folder says.",
    ))  # fmt: skip
    ask(Question(
        "order", "What goes back to the image", "choice", choices=("", "resample_first", "resample_second"),
        why="resample_first: probabilities (the default); resample_second: labels.",
    ))  # fmt: skip
    return facts


_READERS: dict[str, Callable[[Path], Facts]] = {"monai": _monai, "auto3dseg": _auto3dseg, "raidionics": _raidionics}
