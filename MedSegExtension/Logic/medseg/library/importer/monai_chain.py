"""What MONAI itself is asked to run beside an imported bundle: its transforms, on a probe image, to compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol

import numpy as np

from .bundles import Raw
from .converted import Chain
from .monai_output import Postprocessing
from .monai_transforms import Preprocessing


class Steps(Protocol):
    """Something with the ``steps`` of a manifest."""

    steps: list[Raw]


def probe(before: Steps, patch: list[int], bounds: list[float] | None = None, *, flat: bool = False) -> Raw:
    """Size and spacing (x, y, z; x, y where ``flat``) of the probe image, and the range of its values.

    ``patch``: x, y, z, or of a network of slices two of them.
    """
    if len(patch) == 2:
        patch = [*patch, 1] if flat else [max(patch)] * 3
    spacing = [1.0, 1.0, 1.0]
    code = "SAR"
    low, high = (float(bounds[0]), float(bounds[1])) if bounds else (0.0, 200.0)
    for step in before.steps:
        if step["step"] == "orient":
            code = step["code"]
        elif step["step"] == "resample_from_first":
            spacing = [float(s or 1.0) for s in reversed(step["spacing"])]
        elif step["step"] == "clip" and step.get("minimum") is not None:
            low, high = step["minimum"], step["maximum"]
    size = [n + max(5, round(n * f)) for n, f in zip((patch * 3)[:3], (0.35, 0.1, 0.2), strict=True)]
    # A NIfTI header holds single precision: the spacing that MONAI reads is that, and halves are then no ties.
    own = [float(np.float32(s * f)) for s, f in zip(spacing, (0.9, 1.15, 0.85), strict=True)]
    size = [max(8, math.ceil(n * s / o)) for n, s, o in zip(size, spacing, own, strict=True)]
    if flat:
        return {"size": size[:2], "spacing": own[:2], "low": low, "high": high}
    # The image's own axes are L, P, S; those of the network go in the order of the code.
    axes = [next(a for a, pair in enumerate(("RL", "AP", "SI")) if c in pair) for c in reversed(code)]
    back = [axes.index(a) for a in range(3)]
    return {"size": [size[a] for a in back], "spacing": [own[a] for a in back], "low": low, "high": high}


def loaded(before: Preprocessing) -> list[Raw]:
    """The transforms that MONAI runs, its loader first where the bundle leaves it out."""
    kept = [{**t, "keys": t.get("keys", before.keys)} for t in before.kept]
    if not kept or not str(kept[0]["_target_"]).split(".")[-1].startswith("LoadImage"):
        kept.insert(0, {"_target_": "LoadImaged", "keys": before.keys})
    for item in kept:
        name = str(item["_target_"]).split(".")[-1]
        if name.startswith("LoadImage"):
            item.pop("reader", None)
            item["image_only"] = True
        elif name.startswith("EnsureType") or name.startswith("ToDevice"):
            item.pop("device", None)
        elif name.startswith("Orientation"):
            item.pop("labels", None)
    channel = ("EnsureChannelFirst", "AddChannel", "AsChannelFirst")
    if not any(str(t["_target_"]).split(".")[-1].startswith(channel) or t.get("ensure_channel_first") for t in kept):
        kept.insert(1, {"_target_": "EnsureChannelFirstd", "keys": before.keys})
    return [t for t in kept if not str(t["_target_"]).split(".")[-1].startswith("ToDevice")]


def finished(after: Postprocessing, activation: str) -> list[Raw]:
    """The transforms that MONAI runs after the network; classes decided and brought back where the bundle does not."""
    kept = [t if t["_target_"] == "Invertd" else {**t, "keys": "pred"} for t in after.kept]
    kept = [t for t in kept if not str(t["_target_"]).split(".")[-1].startswith(("SelectItems", "DeleteItems"))]
    names = [str(t["_target_"]).split(".")[-1] for t in kept]
    if not after.decided:
        decide: Raw = {"_target_": "AsDiscreted", "keys": "pred"}
        decide |= {"argmax": True} if activation == "softmax" else {"threshold": 0.5}
        more = [] if after.activation or activation == "softmax" else [{"_target_": "Activationsd", "keys": "pred",
                                                                        "sigmoid": True}]  # fmt: skip
        at = names.index("Invertd") if after.inverted == "nearest" else len(kept)
        kept[at:at] = [*more, decide]
    if after.inverted is None:
        kept.append({"_target_": "Invertd", "nearest_interp": True})
    return kept


def chain_of(path: Path, framework: str, activation: str) -> Chain | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        spacing = [*(float(s) for s in stored["spacing"].tolist()), 1.0]
        # Flat images have no third axis.
        volumes = [a if a.ndim == 4 else a[..., np.newaxis] for a in (stored["result"], stored["image"])]
        result, image = (a.transpose(0, 3, 2, 1) for a in volumes)
    labels = result if activation == "sigmoid" else result[0]
    return Chain(framework, image, (spacing[0], spacing[1], spacing[2]), "LPS", labels)
