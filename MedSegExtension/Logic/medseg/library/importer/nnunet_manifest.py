"""nnU-Net v2's ``plans.json`` and ``dataset.json`` as the parts of a manifest.

nnU-Net's arrays are in the order z, y, x of the image as stored, then transposed by ``transpose_forward``; spacing,
patch and mirroring axes in its files are in that order, those of a manifest in the order i, j, k.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ModelError
from .bundles import Raw, named_classes

# nnU-Net's own names -> (order of the data, order of the logits) where plans state none.
_RESAMPLING = {"resample_data_or_seg_to_shape": (3, 1), "resample_torch_fornnunet": (1, 1)}
# Its planner without resampling: the network sees the voxels as they are, whatever spacing the plan says.
_NONE = "no_resampling_hack"


def preprocessing(plan: Raw, plans: Raw, channels: Sequence[str]) -> list[Raw]:
    """All steps from the image as read to the network's grid, in nnU-Net's order; `ModelError` names an unknown one."""
    steps: list[Raw] = []
    if "Reorient" in str(plans.get("image_reader_writer", "")):
        steps.append({"step": "orient", "code": "RAS"})
    forward = [int(n) for n in plans.get("transpose_forward", [0, 1, 2])]
    if forward != [0, 1, 2]:
        # Axis d of nnU-Net is the array axis forward[d] of (z, y, x); in i, j, k order that is mirrored.
        steps.append({"step": "permute", "axes": [2 - forward[2 - n] for n in range(3)]})
    steps.append({"step": "crop_to_nonzero"})
    steps.append({"step": "normalise_channels", "channels": _schemes(plan, plans, channels)})
    steps.append(_resampling(plan))
    return steps


def inference(plan: Raw, mirror_axes: Sequence[int]) -> Raw:
    """Windows as nnU-Net's predictor takes them (step 0.5, its Gaussian); a 2D patch is a tile of each slice."""
    patch = [int(n) for n in plan["patch_size"]]
    if len(patch) not in (2, 3):
        raise ModelError(f"plans.json: patch_size: {patch} is neither 2D nor 3D.")
    return {
        "mode": "sliding_window", "patch": [*reversed(patch), *([1] if len(patch) == 2 else [])], "overlap": 0.5,
        "placement": "even", "blending": "gaussian_filter", "sums": "float16",
        "mirror_axes": sorted(len(patch) - 1 - int(a) for a in mirror_axes),
    }  # fmt: skip


def channel_names(dataset: Raw) -> list[str]:
    """Names of the input channels in their order."""
    found = dataset.get("channel_names") or dataset.get("modality") or {"0": "image"}
    return [str(found[k]) for k in sorted(found, key=int)]


def foreground(dataset: Raw) -> list[int]:
    """All labels but the background and ``ignore``, rising: what the stage before a cascade may have found."""
    given = {k: v for k, v in dataset.get("labels", {}).items() if k != "ignore"}
    if all(str(k).isdigit() for k in given):
        return sorted({int(k) for k in given} - {0})
    return sorted(set().union(*(_numbers(v) for v in given.values())) - {0})


def append_labels(plan: Raw, dataset: Raw, before: str) -> Raw:
    """The step that gives a cascade's second stage the labels of the stage ``before``."""
    name = str(plan.get("resampling_fn_seg", "resample_data_or_seg_to_shape"))
    if name != "resample_data_or_seg_to_shape":
        raise ModelError(f"plans.json: the resampling {name!r} of labels is not known; they could not be repeated.")
    given = plan.get("resampling_fn_seg_kwargs") or {}
    step: Raw = {
        "step": "append_labels", "of": before, "values": foreground(dataset), "order": int(given.get("order", 1)),
    }  # fmt: skip
    force = given.get("force_separate_z", None if not given else False)
    if force is not False:
        ratio = None if force else float(given.get("separate_z_anisotropy_threshold", 3.0))
        step["thick_axis"] = {"ratio": ratio, "order": int(given.get("order_z", 0))}
    return step


def _resampling(plan: Raw) -> Raw:
    spacing = [float(n) for n in plan["spacing"]]
    if {plan.get("resampling_fn_data"), plan.get("resampling_fn_probabilities")} == {_NONE}:
        return {"step": "resample_extent", "spacing": [None] * 3}
    step: Raw = {
        "step": "resample_extent", "spacing": [*reversed(spacing), *([None] if len(spacing) == 2 else [])],
    }  # fmt: skip
    for kind, order, thick in (
        ("data", "order", "thick_axis"),
        ("probabilities", "restore_order", "restore_thick_axis"),
    ):
        name = str(plan.get(f"resampling_fn_{kind}", "resample_data_or_seg_to_shape"))
        if name not in _RESAMPLING:
            raise ModelError(f"plans.json: the resampling {name!r} is not known, so its results could not be repeated.")
        given = plan.get(f"resampling_fn_{kind}_kwargs") or {}
        step[order] = int(given.get("order", _RESAMPLING[name][kind == "probabilities"]))
        force = given.get("force_separate_z", None if not given or name.endswith("nnunet") else False)
        if force is not False:
            ratio = None if force else float(given.get("separate_z_anisotropy_threshold", 3.0))
            step[thick] = {"ratio": ratio, "order": int(given.get("order_z", 0))}
    return step


def _schemes(plan: Raw, plans: Raw, channels: Sequence[str]) -> list[Raw]:
    names = [str(n) for n in plan.get("normalization_schemes", [])]
    masked = [bool(m) for m in plan.get("use_mask_for_norm", [False] * len(names))]
    if len(names) != len(channels) or len(masked) != len(channels):
        raise ModelError(
            f"plans.json: it normalises {len(names)} channels, but dataset.json names {len(channels)} "
            f"({', '.join(channels)})."
        )
    measured = (
        plans.get("foreground_intensity_properties_per_channel")
        or plans.get("foreground_intensity_properties_by_modality")
        or plan.get("foreground_intensity_properties_per_channel")
        or {}
    )
    return [_scheme(name, mask, measured.get(str(n))) for n, (name, mask) in enumerate(zip(names, masked, strict=True))]


def _scheme(name: str, masked: bool, measured: Any) -> Raw:
    if name == "ZScoreNormalization":
        return {"scheme": "zscore", "nonzero": masked}
    if name == "CTNormalization":
        try:
            return {
                "scheme": "fixed", "minimum": float(measured["percentile_00_5"]),
                "maximum": float(measured["percentile_99_5"]), "mean": float(measured["mean"]),
                "std": max(float(measured["std"]), 1e-8),
            }  # fmt: skip
        except (TypeError, KeyError) as error:
            raise ModelError(
                "plans.json: CTNormalization needs the channel's intensity properties; they lack."
            ) from error
    plain: dict[str, Raw] = {
        "RescaleTo01Normalization": {"scheme": "minmax"},
        "RGBTo01Normalization": {"scheme": "divide", "by": 255.0},
        "NoNormalization": {"scheme": "none"},
    }
    if name not in plain:
        raise ModelError(f"plans.json: the normalisation {name!r} is not known; put it into the ONNX graph.")
    return plain[name]


def labels(dataset: Raw) -> tuple[list[Raw], Raw]:
    """Classes, and the output's activation. Regions become one label map, as nnU-Net writes it: the last one holds.

    The label ``ignore`` only says where nobody annotated; the network has no channel for it.
    """
    given: Raw = {k: v for k, v in dataset.get("labels", {}).items() if k != "ignore"}
    if not given:
        raise ModelError("dataset.json: it has no labels.")
    if all(str(k).isdigit() for k in given):  # the order of nnU-Net v1: {"0": "background"}
        given = {str(v): int(k) for k, v in given.items()}
    foreground = {str(k): _numbers(v) for k, v in given.items() if _numbers(v) != {0}}
    if any(isinstance(v, (list, tuple)) and len(v) > 1 for v in given.values()):
        return _regions(foreground, dataset.get("regions_class_order")), {"activation": "sigmoid", "exclusive": True}
    ordered = sorted(foreground, key=lambda k: min(foreground[k]))
    if [min(foreground[k]) for k in ordered] != list(range(1, len(ordered) + 1)):
        raise ModelError("dataset.json: the labels are not 1, 2, 3, ... without gaps.")
    return named_classes(ordered), {"activation": "softmax"}


def _numbers(value: Any) -> set[int]:
    return {int(v) for v in value} if isinstance(value, (list, tuple)) else {int(value)}


def _regions(regions: dict[str, set[int]], order: Any) -> list[Raw]:
    names = list(regions)
    if not isinstance(order, list) or len(order) != len(names):
        raise ModelError(
            f"dataset.json: regions_class_order: one label for each of the {len(names)} regions is needed."
        )
    values = [int(v) for v in order]
    if len(set(values)) != len(values):
        raise ModelError(f"dataset.json: regions_class_order: {values} names a label twice.")
    shown = []
    for n, name in enumerate(names):
        inside = [other for other in names[n + 1 :] if regions[other] & regions[name]]
        shown.append(f"{name} without {', '.join(inside)}" if inside else name)
    classes = named_classes(shown)
    return [c | {"value": value, "channel": n} for n, (c, value) in enumerate(zip(classes, values, strict=True))]
