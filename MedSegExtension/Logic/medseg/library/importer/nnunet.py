"""nnU-Net v2 result folders and exported zips: checkpoints (or an exported ONNX file) and descriptions -> a package."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx

from ...errors import InputError, ModelError
from ...monitor import Monitor
from . import nnunet_manifest as parts
from . import onnx_tidy
from .bundles import Raw, bundle_network, manifest_of, plain_id, read_description
from .converted import Chain, Converted, ImportOptions, Probe
from .environment import environment, run_script

REQUIREMENTS = "nnunet-requirements.txt"
MODULES = "torch, onnx, dynamic_network_architectures"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_LIMIT = 32 << 30


def convert_nnunet(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of an nnU-Net v2 result folder or exported zip.

    Options: ``configuration`` (where there are several), ``folds`` (``0,1`` or ``all``; default: all), ``checkpoint``
    (a file name; default: final, else best), ``onnx`` (an exported file in place of the checkpoints).
    """
    if path.is_file() and zipfile.is_zipfile(path):
        with _unpacked(path) as folder:
            return _convert(folder, path.stem, options, monitor)
    folder = path if path.is_dir() else path.parent
    return _convert(folder, folder.name, options, monitor)


def _convert(root: Path, called: str, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    folder = _result_folder(root, options)
    plans, dataset = read_description(folder / "plans.json"), read_description(folder / "dataset.json")
    name, plan = _configuration(folder, plans, options)
    channels = parts.channel_names(dataset)
    classes, output = parts.labels(dataset)
    steps = parts.preprocessing(plan, plans, channels)
    checkpoints = _checkpoints(folder, options)
    if checkpoints:
        heads = len(classes) + (output["activation"] == "softmax")
        converted, mirror_axes = _from_checkpoints(
            checkpoints, plan, plans, dataset, name, len(channels), heads, options, monitor
        )
    else:
        model = bundle_network(folder, options, "Without fold_0/checkpoint_final.pth, nnU-Net results")
        onnx_tidy.open_batch(model)
        converted, mirror_axes = Converted(model, facts={"framework": "nnU-Net v2", "configuration": name}), []
        converted.notes.append(
            "Along which axes the network was trained on mirrored images stands in its checkpoint, which was not "
            "given; mirroring can not be chosen."
        )
    title = str(dataset.get("name") or plans.get("dataset_name") or called)
    raw = manifest_of(
        plain_id(f"{title}-{name}"), f"{title} (nnU-Net, {name})", "segmentation", converted.model,
        len(plan["patch_size"]),
        source=str(dataset.get("reference") or "nnU-Net v2 result folder"),
        card={
            "description": str(dataset.get("description") or f"nnU-Net v2, configuration {name}."),
            "intended_use": "Research only.",
            "training_data": f"{dataset.get('numTraining', 'an unknown number of')} cases of {title}.",
            "limitations": [
                *converted.notes,
                *(["Averaging over mirrored images, which nnU-Net does by default, is off until it is asked for."]
                  if mirror_axes else []),
                "Images are taken in the axis order in which they are stored, as nnU-Net does.",
            ],
        },
        channels=[{"name": c, "modality": ["CT"] if c.upper() == "CT" else []} for c in channels],
        preprocessing=steps, inference=parts.inference(plan, mirror_axes),
        output={**output, "logits": True, "restore": "logits"}, classes=classes,
    )  # fmt: skip
    licence = dataset.get("licence") or dataset.get("license")
    if licence:
        raw["license"] = str(licence)
    return raw, converted


def _from_checkpoints(
    checkpoints: list[Path],
    plan: Raw,
    plans: Raw,
    dataset: Raw,
    name: str,
    channels: int,
    heads: int,
    options: ImportOptions,
    monitor: Monitor,
) -> tuple[Converted, list[int]]:
    """The network of all folds as one ONNX graph, and nnU-Net's axes of mirroring."""
    folds = [c.parent.name.removeprefix("fold_") for c in checkpoints]
    for file in checkpoints:
        if not zipfile.is_zipfile(file):
            raise ModelError(
                f"{file.parent.name}/{file.name} is no checkpoint of PyTorch, or is cut off; get it again."
            )
    with (
        environment(
            REQUIREMENTS, MODULES, python=options.environment, wheels=options.wheels, monitor=monitor
        ) as interpreter,
        tempfile.TemporaryDirectory(prefix="medseg-convert-") as scratch,
    ):
        place = Path(scratch)
        request: dict[str, Any] = {
            "checkpoints": [str(c.resolve()) for c in checkpoints],
            "plan": plan, "plans": plans, "dataset": dataset, "configuration": name,
            "patch": [int(n) for n in plan["patch_size"]], "channels": channels, "outputs": heads,
            "output": str(place / "model.onnx"), "probe": str(place / "probe.npz"), "chain": str(place / "chain.npz"),
        }  # fmt: skip
        answer = run_script(
            interpreter, "nnunet_convert.py", request, place, monitor, "The checkpoints could not be converted"
        )
        model = onnx.load(request["output"])
        with np.load(place / "probe.npz", allow_pickle=False) as stored:
            probe = Probe(str(answer["framework"]), [stored["feed"]], stored["output"])
        chain = _chain(place / "chain.npz", plans, str(answer["nnunet"]))
    facts = {
        "framework": f"nnU-Net v2, {answer['framework']}", "configuration": name, "folds": folds,
        "checkpoint": checkpoints[0].name, "trainer": answer["trainer"],
    }  # fmt: skip
    notes = [f"The whole chain was not compared with nnU-Net: {answer['not_compared']}."] if chain is None else []
    return Converted(model, int(answer["parameters"]), probe, notes, facts, chain), list(answer["mirror_axes"])


def _chain(path: Path, plans: Raw, version: str) -> Chain | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        spacing = [float(s) for s in reversed(stored["spacing"].tolist())]
        orientation = "RAS" if "Reorient" in str(plans.get("image_reader_writer", "")) else "LPS"
        return Chain(
            f"nnU-Net {version}", stored["image"], (spacing[0], spacing[1], spacing[2]), orientation, stored["labels"]
        )


# -- files --------------------------------------------------------------------------------------------------


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The descriptions, checkpoints and ONNX files of an archive in a folder that vanishes again."""
    with tempfile.TemporaryDirectory(prefix="medseg-nnunet-") as scratch, zipfile.ZipFile(path) as archive:
        wanted = [i for i in archive.infolist() if i.filename.endswith((".json", ".pth", ".onnx")) and not i.is_dir()]
        if sum(i.file_size for i in wanted) > _LIMIT:
            raise ModelError(f"{path.name}: what it unpacks to is larger than {_LIMIT >> 30} GB.")
        for info in wanted:
            inner = PurePosixPath(info.filename.replace("\\", "/"))
            if inner.is_absolute() or ".." in inner.parts or ":" in info.filename:
                raise ModelError(f"{path.name}: {info.filename!r} would be written outside its folder.")
            target = Path(scratch).joinpath(*inner.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
        yield Path(scratch)


def _result_folder(root: Path, options: ImportOptions) -> Path:
    """The folder of one trained configuration in ``root`` (itself, or a data set's folder with several of them)."""
    found = result_folders(root)
    wanted = options.choices.get("configuration")
    fitting = [f for f in found if f.name.split("__")[-1] == wanted] if wanted and len(found) > 1 else found
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f.name for f in found)
    if not found:
        raise InputError(f"{root.name} holds no nnU-Net v2 result (a folder with plans.json and dataset.json).")
    raise InputError(
        f"{root.name} holds several results ({names}); choose one of these folders, or its configuration "
        "(configuration=NAME)."
    )


def result_folders(root: Path) -> list[Path]:
    """Folders with ``plans.json`` and ``dataset.json``: ``root`` itself, or those below it."""
    if (root / "plans.json").is_file() and (root / "dataset.json").is_file():
        return [root]
    below = [p.parent for pattern in ("*/plans.json", "*/*/plans.json", "*/*/*/plans.json") for p in root.glob(pattern)]
    return sorted(p for p in below if (p / "dataset.json").is_file())


def _checkpoints(folder: Path, options: ImportOptions) -> list[Path]:
    """One checkpoint of each chosen fold; none where an ONNX file was chosen, or there are no checkpoints."""
    if options.choices.get("onnx"):
        return []
    asked = options.choices.get("checkpoint")
    names = (asked,) if asked else CHECKPOINTS
    present: dict[str, Path] = {}
    for place in sorted(folder.glob("fold_*")):
        file = next((place / n for n in names if (place / n).is_file() and "/" not in n and "\\" not in n), None)
        if file is not None:
            present[place.name.removeprefix("fold_")] = file
    wanted = options.choices.get("folds", "")
    if wanted in ("", "all"):
        # The network trained on all cases is a fold called "all"; it is no part of the ensemble of the others.
        numbered = {k: v for k, v in present.items() if k != "all"}
        return list((numbered or present).values())
    chosen_names = [w.strip().removeprefix("fold_") for w in wanted.split(",") if w.strip()]
    missing = [w for w in chosen_names if w not in present]
    if missing:
        raise InputError(
            f"{folder.name} has no checkpoint of the fold {missing[0]!r}; it has {', '.join(present) or 'none'} "
            f"({' or '.join(str(n) for n in names)})."
        )
    return [present[w] for w in dict.fromkeys(chosen_names)]


def _configuration(folder: Path, plans: Raw, options: ImportOptions) -> tuple[str, Raw]:
    known = plans.get("configurations", {})
    named = folder.name.split("__")[-1]
    name = options.choices.get("configuration") or (named if named in known else "")
    if not name:
        name = next((c for c in ("3d_fullres", "2d") if c in known), "")
    if name not in known:
        raise InputError(
            f"plans.json has the configurations {', '.join(known) or 'none'}; choose one (configuration=NAME)."
        )
    plan: Raw = {}
    chain, at = [], name
    while at and at not in chain:
        chain.append(at)
        at = known.get(at, {}).get("inherits_from", "")
    for step in reversed(chain):
        plan |= known[step]
    if plan.get("previous_stage"):
        raise ModelError(f"The configuration {name} is a cascade that needs another stage's result; choose another.")
    for field in ("patch_size", "spacing", "normalization_schemes"):
        if field not in plan:
            raise ModelError(f"plans.json: the configuration {name} has no {field}.")
    return name, plan
