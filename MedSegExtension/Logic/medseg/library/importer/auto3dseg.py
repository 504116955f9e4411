"""Auto3DSeg models as SlicerMONAIAuto3DSeg publishes them: ``model.pt`` with its settings inside, and ``labels.csv``.

The steps are those of that extension's inference script (read in its revision 9cdf2df, MIT licence).
"""

from __future__ import annotations

import csv
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...errors import InputError, ModelError
from ...monitor import Monitor
from . import onnx_tidy
from .bundles import Raw, manifest_of, named_classes, plain_id
from .converted import Converted, ImportOptions, Probe
from .environment import environment, run_script
from .monai import MODULES, NETWORKS, REQUIREMENTS
from .monai_chain import chain_of, probe
from .monai_config import Config
from .monai_output import network_definition

OVERLAP = 0.625
_MODES = ("none", "range", "ct", "meanstd", "mri", "meanstdtanh", "pet")
_LIMIT = 4 << 20


@dataclass
class Plan:
    """``steps``: of the manifest; ``before``: the same as MONAI's transforms; ``keys``: of the images."""

    steps: list[Raw] = field(default_factory=list)
    before: list[Raw] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


def convert_auto3dseg(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of a folder with ``model.pt`` and ``labels.csv``."""
    root = model_folder(path if path.is_dir() else path.parent)
    file = root / "model.pt"
    if not file.is_file() or not zipfile.is_zipfile(file):
        raise InputError(f"{root.name} holds no model.pt of PyTorch; choose the folder of one Auto3DSeg model.")
    labels = read_labels(root / "labels.csv")
    with (
        environment(
            REQUIREMENTS, MODULES, python=options.environment, wheels=options.wheels, monitor=monitor
        ) as python,
        tempfile.TemporaryDirectory(prefix="medseg-convert-") as scratch,
    ):
        place = Path(scratch)
        failure = "model.pt could not be converted"
        settings = run_script(python, "monai_convert.py", {"settings": str(file.resolve())}, place, monitor, failure)
        plan = plan_of(settings)
        definition, why = network_definition(Config({"n": settings.get("network")}).get("n"), NETWORKS)
        if definition is None:
            raise ModelError(f"model.pt: {why}.")
        roi = [int(n) for n in settings["roi_size"]]
        overlapping = bool(settings.get("sigmoid", False))
        after: list[Raw] = [
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "Invertd", "nearest_interp": True},
        ]
        if overlapping:
            after[:1] = [{"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
                         {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]  # fmt: skip
        request: dict[str, Any] = {
            "file": str(file.resolve()), "program": False, "network": definition, "allowed": sorted(NETWORKS),
            "channels": len(plan.keys), "images": len(plan.keys), "patch": roi, "fixed": True,
            "output": str(place / "model.onnx"), "probe": str(place / "probe.npz"), "chain": str(place / "chain.npz"),
            "keys": plan.keys, "image_key": "image", "before": plan.before, "after": after,
            "image": probe(plan, roi, settings.get("intensity_bounds")),
            "inferer": {"kind": "SlidingWindowInferer", "roi_size": roi, "overlap": OVERLAP, "mode": "gaussian"},
        }  # fmt: skip
        answer = run_script(python, "monai_convert.py", request, place, monitor, failure)
        model = onnx.load(request["output"])
        with np.load(place / "probe.npz", allow_pickle=False) as stored:
            fed = Probe(str(answer["framework"]), [stored["feed"]], stored["output"])
        chain = chain_of(
            place / "chain.npz", f"MONAI {answer['monai']}, as SlicerMONAIAuto3DSeg runs it",
            "sigmoid" if overlapping else "softmax",
        )  # fmt: skip
    notes = []
    if answer["not_compared"]:
        notes.append(f"The whole chain was not compared with MONAI: {answer['not_compared']}.")
    if "whole-head" in root.name:
        notes.append("SlicerMONAIAuto3DSeg keeps the two largest components of this model's result; MedSeg keeps all.")
    facts = {"framework": f"MONAI {answer['monai']}, {answer['framework']}", "network": definition["name"]}
    converted = Converted(model, int(answer["parameters"]), fed, notes, facts, chain)
    classes, output = classes_of(labels, int(answer["outputs"]), overlapping, "brats" in root.name.lower())
    onnx_tidy.open_batch(model)
    raw = manifest_of(
        plain_id(root.name), root.name.replace("-", " "), "segmentation", model, 3,
        source="SlicerMONAIAuto3DSeg model",
        license="see the model's page",
        card={"description": f"Auto3DSeg model {root.name}.", "intended_use": "Research only.",
              "limitations": list(notes)},
        channels=[{"name": "image" if len(plan.keys) == 1 else key, "modality": []} for key in plan.keys],
        preprocessing=plan.steps,
        inference={
            "mode": "sliding_window", "patch": roi[::-1], "overlap": OVERLAP, "blending": "gaussian_floor",
            "stride": [max(1, int(n * (1 - OVERLAP))) for n in reversed(roi)],
        },
        output={"activation": "sigmoid" if overlapping else "softmax", "logits": True, "restore": "labels",
                "way_back": "steps", **output},
        classes=classes,
    )  # fmt: skip
    return raw, converted


def model_folder(folder: Path) -> Path:
    """The folder with ``model.pt`` that ``folder`` is or holds."""
    return folder if (folder / "model.pt").is_file() else next((f.parent for f in folder.rglob("model.pt")), folder)


def plan_of(settings: Raw) -> Plan:
    """The steps of the settings in a checkpoint; `ModelError` names what is not known."""
    for name in ("network", "roi_size", "normalize_mode"):
        if name not in settings:
            raise ModelError(f"model.pt: its settings have no {name}; it is no Auto3DSeg model.")
    extra = settings.get("extra_modalities") or {}
    modes = [str(settings["normalize_mode"]), *(str(m) for m in extra.values())]
    odd = [m for m in modes if m not in _MODES]
    if odd:
        raise ModelError(f"model.pt: normalize_mode = {odd[0]} is not known.")
    plan = Plan(keys=[f"image{n + 1}" for n in range(len(modes))])
    bounds = settings.get("intensity_bounds") or [0, 1]
    plan.before.append({"_target_": "LoadImaged", "keys": plan.keys, "ensure_channel_first": True, "dtype": None,
                        "image_only": True})  # fmt: skip
    join: list[Raw] = [
        {"_target_": "ConcatItemsd", "keys": plan.keys, "name": "image", "dim": 0},
        {"_target_": "EnsureTyped", "keys": "image", "data_type": "tensor", "dtype": "float32"},
    ]
    one = len(modes) == 1
    plan.before += join if one else []
    for n, mode in enumerate(modes):
        ours, theirs = _values(mode, bounds, "image" if one else plan.keys[n])
        plan.steps += ours if one else [{**step, "channels": [n]} for step in ours]
        plan.before += theirs
    plan.before += [] if one else join
    # The script looks for the foreground in the first image as loaded; of several, each was normalised in its place.
    at = 0 if one else len(plan.steps)
    if settings.get("orientation_ras", False):
        plan.steps.insert(at, {"step": "orient", "code": "SAR"})
        plan.before.append({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"})
    else:
        plan.steps.insert(at, {"step": "permute", "axes": [2, 1, 0]})
    if settings.get("crop_foreground", True):
        plan.steps.append({"step": "crop_box", "margin": [10, 10, 10], "as_stored": True})
        plan.before.append({"_target_": "CropForegroundd", "keys": "image", "source_key": "image1", "margin": 10,
                            "allow_smaller": True})  # fmt: skip
    resolution = settings.get("resample_resolution")
    if resolution is not None:
        wanted = [float(v) for v in resolution]
        low, high = ([v * f for v in wanted] for f in (0.75, 1.25))
        plan.steps.append(
            {"step": "resample_from_first", "spacing": wanted[::-1], "unless_between": [low[::-1], high[::-1]]}
        )
        plan.before.append({"_target_": "Spacingd", "keys": ["image"], "pixdim": wanted, "mode": ["bilinear"],
                            "dtype": "float32", "min_pixdim": low, "max_pixdim": high})  # fmt: skip
    return plan


def _values(mode: str, bounds: list[float], key: str) -> tuple[list[Raw], list[Raw]]:
    """The steps of one way to normalise, and MONAI's transforms for it."""
    low, high = float(bounds[0]), float(bounds[1])
    if mode in ("range", "ct"):
        return (
            [{"step": "standardise", "subtract": [(low + high) / 2], "divide": [(high - low) / 2]},
             {"step": "squash", "function": "sigmoid"}],
            [{"_target_": "ScaleIntensityRanged", "keys": key, "a_min": low, "a_max": high, "b_min": -1, "b_max": 1,
              "clip": False}, {"_target_": "Squash", "keys": key, "function": "sigmoid"}],
        )  # fmt: skip
    ours: list[Raw] = []
    theirs: list[Raw] = []
    if mode in ("meanstd", "mri", "meanstdtanh"):
        ours.append({"step": "standardise", "nonzero": True})
        theirs.append({"_target_": "NormalizeIntensityd", "keys": key, "nonzero": True, "channel_wise": True})
    if mode == "meanstdtanh":
        ours.append({"step": "squash", "function": "tanh", "scale": 3.0})
        theirs.append({"_target_": "Squash", "keys": key, "function": "tanh"})
    if mode == "pet":
        ours.append({"step": "squash", "function": "pet"})
        theirs.append({"_target_": "Squash", "keys": key, "function": "pet"})
    return ours, theirs


def read_labels(path: Path) -> dict[int, str]:
    """Names by label value of ``labels.csv`` (columns LabelValue and Name); empty where there is none."""
    if not path.is_file():
        return {}
    if path.stat().st_size > _LIMIT:
        raise ModelError(f"{path.name}: larger than {_LIMIT >> 20} MB; this is no table of labels.")
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = list(csv.DictReader(file))
    try:
        return {int(row["LabelValue"]): str(row["Name"]) for row in rows if int(row["LabelValue"]) > 0}
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{path.name}: columns LabelValue (a number) and Name are needed.") from None


def classes_of(labels: dict[int, str], outputs: int, overlapping: bool, brats: bool) -> tuple[list[Raw], Raw]:
    """Classes with the names of ``labels``, and what the output has beside its activation."""
    if overlapping and brats and outputs == 3:
        # Whole tumour, core, enhancing: the script gives them the labels 2, 1, 3, the last one that holds.
        values = (2, 1, 3)
        classes = named_classes([labels.get(v, f"Class {v}") for v in values])
        return [{**c, "value": v, "channel": n} for n, (c, v) in enumerate(zip(classes, values, strict=True))], {
            "exclusive": True
        }
    count = outputs if overlapping else outputs - 1
    return named_classes([labels.get(n + 1, f"Class {n + 1}") for n in range(count)]), {}
