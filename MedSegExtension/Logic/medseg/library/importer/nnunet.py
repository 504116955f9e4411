"""nnU-Net v2 result folders: ``plans.json`` and ``dataset.json`` become a manifest."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError, ModelError
from ...monitor import Monitor
from . import onnx_tidy
from .bundles import Raw, bundle_network, manifest_of, named_classes, plain_id, read_description
from .converted import Converted, ImportOptions


def convert_nnunet(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of an nnU-Net v2 result folder (``plans.json``, ``dataset.json``, an exported ONNX file).

    nnU-Net's arrays are in the order z, y, x of the image as stored, then transposed by ``transpose_forward``; spacing
    and patch in its plans are in that order. The option ``configuration`` chooses one where the folder's name does not.
    """
    folder = path if path.is_dir() else path.parent
    plans, dataset = read_description(folder / "plans.json"), read_description(folder / "dataset.json")
    name, plan = _configuration(folder, plans, options)
    model = bundle_network(folder, options, "nnU-Net results")
    notes = [
        "Cropping is to values above 0, where nnU-Net crops to values other than 0 and fills holes.",
        "Test-time mirroring is not done; nnU-Net does it by default, so small differences are expected.",
    ]
    patch, spacing = [int(n) for n in plan["patch_size"]], [float(n) for n in plan["spacing"]]
    dims = len(patch)
    forward = [int(n) for n in plans.get("transpose_forward", [0, 1, 2])]
    steps: list[Raw] = []
    if "Reorient" in str(plans.get("image_reader_writer", "")):
        steps.append({"step": "orient", "code": "RAS"})
    if forward != [0, 1, 2]:
        # Axis d of nnU-Net is the array axis forward[d] of (z, y, x); in i, j, k order that is mirrored.
        steps.append({"step": "permute", "axes": [2 - forward[2 - n] for n in range(3)]})
    steps += _nnunet_intensity(plan, plans, dataset, notes)
    order = list(reversed(spacing)) if dims == 3 else [*reversed(spacing), None]
    steps.append({"step": "resample", "spacing": order, "interpolation": "bspline"})
    inference: Raw = {"mode": "sliding_window", "patch": list(reversed(patch)), "overlap": 0.5, "blending": "gaussian"}
    if dims == 2:
        steps.append({"step": "crop_or_pad", "size": [*reversed(patch), None]})
        inference = {"mode": "slicewise", "plane": "acquisition"}
        notes.append(f"Slices larger than {patch[1]} x {patch[0]} are cut to the middle; nnU-Net tiles them.")
    names, activation = _nnunet_labels(dataset)
    channels = dataset.get("channel_names") or dataset.get("modality") or {"0": "image"}
    title = str(dataset.get("name") or plans.get("dataset_name") or folder.name)
    raw = manifest_of(
        plain_id(f"{title}-{name}"), f"{title} (nnU-Net, {name})", "segmentation", model, dims,
        source=str(dataset.get("reference") or "nnU-Net v2 result folder"),
        card={
            "description": str(dataset.get("description") or f"nnU-Net v2, configuration {name}."),
            "intended_use": "Research only.",
            "training_data": f"{dataset.get('numTraining', 'an unknown number of')} cases of {title}.",
            "limitations": [
                *notes,
                "Images are taken in the axis order in which they are stored, as nnU-Net does.",
            ],
        },
        channels=[
            {"name": str(channels[k]), "modality": ["CT"] if str(channels[k]).upper() == "CT" else []}
            for k in sorted(channels, key=int)
        ],
        preprocessing=steps, inference=inference, output={"activation": activation, "logits": True},
        classes=named_classes(names),
    )  # fmt: skip
    licence = dataset.get("licence") or dataset.get("license")
    if licence:
        raw["license"] = str(licence)
    onnx_tidy.open_batch(model)
    return raw, Converted(model, notes=notes, facts={"framework": "nnU-Net v2", "configuration": name})


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


def _nnunet_intensity(plan: Raw, plans: Raw, dataset: Raw, notes: list[str]) -> list[Raw]:
    schemes = set(plan["normalization_schemes"])
    masks = set(plan.get("use_mask_for_norm", [False]))
    if len(schemes) != 1 or len(masks) != 1:
        raise ModelError(
            f"Its channels are normalised in different ways ({', '.join(sorted(schemes))}), which a manifest cannot "
            "say; put the normalisation into the ONNX graph."
        )
    scheme, masked = schemes.pop(), masks.pop()
    if scheme == "CTNormalization":
        values = plans.get("foreground_intensity_properties_per_channel") or plan.get(
            "foreground_intensity_properties_per_channel"
        )
        if not isinstance(values, dict) or len(values) != 1:
            raise ModelError("plans.json: CTNormalization with one channel and its intensity properties is expected.")
        (first,) = values.values()
        spread = max(float(first["std"]), 1e-8)
        return [
            {"step": "clip", "minimum": float(first["percentile_00_5"]), "maximum": float(first["percentile_99_5"])},
            {"step": "affine", "scale": 1 / spread, "offset": -float(first["mean"]) / spread},
        ]
    crop: Raw = {"step": "crop_to_foreground", "above": 0.0}
    if scheme == "ZScoreNormalization":
        score: Raw = {"step": "zscore", "scope": "volume", "epsilon": 1e-8}
        return [crop, score | ({"above": 0.0, "apply_outside": False} if masked else {})]
    if scheme in ("RescaleTo01Normalization", "RGBTo01Normalization"):
        return [crop, {"step": "minmax"} if scheme.startswith("Rescale") else {"step": "affine", "scale": 1 / 255}]
    if scheme == "NoNormalization":
        return [crop]
    raise ModelError(f"plans.json: the normalisation {scheme!r} is not known; put it into the ONNX graph.")


def _nnunet_labels(dataset: Raw) -> tuple[list[str], str]:
    """Class names in channel order and the activation; regions (lists of labels) are sigmoid channels."""
    labels: Raw = {k: v for k, v in dataset.get("labels", {}).items() if k != "ignore"}
    if not labels:
        raise ModelError("dataset.json: it has no labels.")
    if all(str(k).isdigit() for k in labels):  # the order of nnU-Net v1: {"0": "background"}
        labels = {str(v): int(k) for k, v in labels.items()}
    foreground = {k: v for k, v in labels.items() if k != "background"}
    if any(isinstance(v, (list, tuple)) for v in foreground.values()):
        return list(foreground), "sigmoid"
    ordered = sorted(foreground, key=lambda k: int(foreground[k]))
    if [int(foreground[k]) for k in ordered] != list(range(1, len(ordered) + 1)):
        raise ModelError("dataset.json: the labels are not 1, 2, 3, ... without gaps.")
    return ordered, "softmax"
