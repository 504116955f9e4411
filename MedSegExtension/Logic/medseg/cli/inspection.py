"""``medseg models``, ``medseg explain`` and ``medseg devices``: what is there and what would happen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError
from .cases import parse_frame, parse_named, plan_cases
from .console import Command

if TYPE_CHECKING:
    from ..model.card import ModelCard
    from ..pipeline.run import RunOptions
    from ..result import Result


def list_command(command: Command) -> int:
    """All installed models, one line each, then the published ones by system."""
    from ..model.store import installed_models
    from .models_catalogue import show_published

    cards = sorted(installed_models(), key=lambda c: (c.demonstration, c.id))
    command.document["models"] = [card_document(c) for c in cards]
    rows = [[c.id, _title(c), c.task, ", ".join(c.modality), c.version, _size(c), c.license] for c in cards]
    command.table(["id", "title", "task", "modality", "version", "size", "licence"], rows, right=(5,))
    if not cards:
        command.say("No models are installed.")
    command.say()
    return show_published(command, [])


def _title(card: ModelCard) -> str:
    return card.error or card.title + (" (demonstration)" if card.demonstration else "")


def show_command(command: Command, model: str, weights: Path | None) -> int:
    """The card of a model; of a published one that is not installed the card of its recipe, and how to get it."""
    from ..model.card import card_from, read_card
    from ..model.package import load_model, manifest_dict
    from ..model.package_files import user_path

    path = user_path(model)
    more: dict[str, str] = {}
    if path.is_file() and path.suffix.lower() != ".json":
        loaded = load_model(
            path, weights=weights
        )  # a zip or a single ONNX file has no manifest to look at from outside
        card = card_from(manifest_dict(loaded.manifest), loaded.onnx_path.parent, loaded.manifest.id)
    elif path.exists():
        card = read_card(path)
    else:
        card, more = _card_of_id(command, model)
    command.document["model"] = card_document(card)
    command.say(f"{card.title or card.id} ({card.id} {card.version})")
    if card.error:
        command.say(f"This model cannot be used: {card.error}")
    for word, value in (
        ("demonstration", "trained on drawings only, to show the software" if card.demonstration else ""),
        ("description", card.description), ("intended use", card.intended_use), ("task", card.task),
        ("body part", card.body_part), ("modality", ", ".join(card.modality)),
        ("inputs", "; ".join(f"{c.name} {'/'.join(c.modality)} {c.description}".strip() for c in card.channels)),
        ("classes", ", ".join(c.name for c in card.classes)),
        ("expects", ", ".join(f"{k} {v}" for k, v in card.expects.items())),
        ("requires", ", ".join(f"{r.model} (as {r.name})" for r in card.requires)),
        ("trained on", card.training_data), ("limitations", " ".join(card.limitations)),
        ("assumed", "\n                 ".join(card.assumptions)),
        ("figures", "; ".join(f"{k}: {v}" for k, v in card.figures.items())),
        ("made from", "; ".join(f"{k} {v}" for k, v in card.made_from)), ("source", card.source),
        ("licence", card.license), ("citation", card.citation), ("size", _size(card)),
        ("folder", "" if more else str(card.folder)),
        *more.items(),
    ):  # fmt: skip
        if value:
            command.say(f"  {word + ':':<14} {value}")
    return 3 if card.error else 0


def _card_of_id(command: Command, id: str) -> tuple[ModelCard, dict[str, str]]:
    """The card of the installed model ``id`` and {}, else of the recipe ``id`` and what to know before getting it."""
    from ..library.catalogue.states import catalogue_states
    from ..library.importer.recipe import recipes
    from ..model.card import card_from, read_card
    from ..model.store import find_model, installed_models

    recipe = recipes().get(id)
    if recipe is None or id in {card.id for card in installed_models()}:
        return read_card(find_model(id)), {}
    state = next(s for s in catalogue_states(monitor=command.monitor()) if s.id == id)
    command.document["state"] = asdict(state)
    more = {"contract": recipe.checked, "weights": recipe.obtain, "state": state.state, "get it": state.how}
    return card_from(recipe.manifest, Path(), id), more


def check_command(command: Command, model: str, weights: Path | None, device: str) -> int:
    """All checks of a package, and that ONNX Runtime truly opens the network."""
    from ..engine.session import Session as Network
    from ..model.package import load_model

    loaded = load_model(model, weights=weights)
    monitor = command.monitor()
    for sentence in loaded.warnings:
        monitor.warn(sentence)
    with Network.open(loaded, device, monitor=monitor) as network:
        where = network.device
        shapes = {**network.input_shapes, **network.output_shapes}
    manifest = loaded.manifest
    command.document.update(
        model=manifest.id, version=manifest.version, sha256=loaded.sha256, device=where,
        tensors={name: list(shape) for name, shape in shapes.items()}, warnings=list(monitor.warnings),
    )  # fmt: skip
    command.say(f"{manifest.title} ({manifest.id} {manifest.version}) can be used; opened on {where}.")
    command.say(f"  SHA-256 {loaded.sha256}")
    for name, shape in shapes.items():
        command.say(f"  {name}: {' x '.join('any' if n is None else str(n) for n in shape)}")
    return 0


def explain_command(
    command: Command, model: str, inputs: list[Path], named: list[str], *, weights: Path | None, series: str | None,
    frame: str | None, tensors: Path | None, view: Path | None, options: RunOptions,
) -> int:  # fmt: skip
    """The plan of a run in words, and optionally the exact network input as a file."""
    from ..io import read_volume
    from ..model.package import load_model
    from ..pipeline.explain import explain
    from ..pipeline.network_view import network_view

    loaded = load_model(model, weights=weights)
    case = plan_cases(loaded.manifest, inputs[:1] if len(loaded.manifest.channels) == 1 else inputs,
                      parse_named(named), Path())[0]  # fmt: skip
    with command.reporter:
        command.reporter.begin(case.name)
        monitor = command.monitor()
        if len(inputs) > len(loaded.manifest.channels):
            monitor.warn(f"Only the first of {len(inputs)} inputs is explained.")
        with monitor.stage("read"):
            number = None if frame is None else parse_frame(frame)
            volumes = {
                name: read_volume(path, series=series, frame=number, monitor=monitor)
                for name, path in case.files.items()
            }
        explanation = explain(loaded, volumes, options, monitor=monitor)
        if view is not None:
            command.document["volumes"] = _write_view(command, network_view(loaded, volumes, options), view)
    shapes = {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in explanation.tensors.items()}
    command.document.update(lines=list(explanation.lines), warnings=list(explanation.warnings), tensors=shapes)
    for line in explanation.lines:
        command.say(line)
    for name, shape in shapes.items():
        command.say(f"network input {name}: {shape['dtype']} {'x'.join(map(str, shape['shape']))}")
    if tensors is not None:
        partial = tensors.with_name(f".{tensors.name}.part.npz")
        try:
            with command.on_abandon(lambda: partial.unlink(missing_ok=True)):
                explanation.save_tensors(partial)
                partial.replace(tensors)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{tensors} cannot be written: {error.strerror or error}.") from error
        command.document["file"] = str(tensors)
        command.say(f"written to {tensors}")
    return 0


def _write_view(command: Command, result: Result, target: Path) -> list[str]:
    """The network's input as image files, one for each channel (their number in the name where there are several)."""
    import SimpleITK as sitk

    if not target.name.lower().endswith((".nrrd", ".nii", ".nii.gz", ".mha")):
        raise OutputError(f"{target.name}: the network's input is written as .nrrd, .nii, .nii.gz or .mha.")
    suffix = ".nii.gz" if target.name.lower().endswith(".nii.gz") else target.suffix
    files = []
    for number, (name, array) in enumerate(result.probabilities.items(), start=1):
        several = len(result.probabilities) > 1
        file = target.with_name(f"{target.name[: -len(suffix)]}_{number}{suffix}") if several else target
        image = sitk.GetImageFromArray(array)
        result.grid.place(image)
        try:
            sitk.WriteImage(image, str(file), useCompression=True)
        except RuntimeError as error:
            raise OutputError(f"{file} cannot be written; is the folder there and writable?") from error
        command.say(f"network input {name} as a volume: {file}")
        files.append(str(file))
    return files


def devices_command(command: Command) -> int:
    """What is installed, what truly runs, versions."""
    from ..engine.devices import support_report

    report = support_report()
    command.document.update(report)
    rows = [
        [d["id"], d["name"], f"{d['memory_bytes'] / 2**30:.0f} GiB" if d["memory_bytes"] else "", _state(d)]
        for d in report["devices"]
    ]
    command.table(["device", "name", "memory", "state"], rows, right=(2,))
    command.say()
    command.say(f"{report['system']}, Python {report['python']}")
    command.say(", ".join(f"{name} {version}" for name, version in report["versions"].items()))
    command.say(f"ONNX Runtime was built with: {', '.join(report['onnxruntime_providers'])}")
    if report["nvidia_driver"]:
        command.say(f"NVIDIA driver {report['nvidia_driver']}")
    for problem in report["problems"]:
        command.reporter.line(f"warning: {problem}")
    return 0


def card_document(card: ModelCard) -> dict[str, Any]:
    """A card as JSON values."""
    return asdict(card)


def _state(device: dict[str, Any]) -> str:
    return "works" if device["works"] else f"does not run: {device['reason']}"


def _size(card: ModelCard) -> str:
    return f"{card.size / 1e6:.1f} MB" if card.size else "no weights"
