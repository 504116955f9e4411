"""What the answers to the questions of a proposal do to its manifest."""

from __future__ import annotations

import re
from typing import Any

from ...errors import InputError

PALETTE = [
    (216, 101, 79), (128, 174, 128), (111, 184, 210), (241, 214, 145), (177, 122, 101), (144, 238, 144), (192, 104, 88),
    (220, 245, 20), (78, 63, 0), (255, 250, 220), (230, 220, 70), (200, 200, 235), (250, 250, 210), (244, 214, 49),
]  # fmt: skip
WINDOWS = {
    "none": None,
    "brain": [(40, 80)],
    "brain, subdural, soft tissue": [(40, 80), (80, 200), (40, 380)],
    "lung": [(-600, 1500)],
    "abdomen": [(40, 400)],
    "bone": [(600, 2800)],
}


DISPLAY_1, DISPLAY_255 = "display window to 0..1", "display window to 0..255"


def _numbers(id: str, text: str) -> list[float]:
    try:
        values = [float(part) for part in re.split(r"[\s,x]+", text.strip()) if part]
    except ValueError:
        raise InputError(f"{id}: {text!r} is not a list of numbers.") from None
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or min(values) <= 0:
        raise InputError(f"{id}: {text!r} is not one or three positive numbers (i j k).")
    return values


def _orientation(raw: dict[str, Any], text: str) -> None:
    code = text.upper()
    axes = [next((n for n, pair in enumerate(("LR", "PA", "SI")) if c in pair), -1) for c in code]
    if sorted(axes) != [0, 1, 2]:
        raise InputError(f"orientation: {text!r} is no orientation code such as LPS or RAS.")
    for step in raw["preprocessing"]:
        if step["step"] == "orient":
            step["code"] = code


def _spacing(raw: dict[str, Any], text: str) -> None:
    if text:
        raw["preprocessing"].append({"step": "resample", "spacing": _numbers("spacing", text)})


def _plane(raw: dict[str, Any], text: str) -> None:
    raw["inference"]["plane"] = text
    codes = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIL"}
    raw["preprocessing"] = [s for s in raw["preprocessing"] if s["step"] != "orient"]
    if text in codes:
        # In-plane: columns to the patient's left (sagittal: back), rows downwards, as on the screen.
        raw["preprocessing"].insert(0, {"step": "orient", "code": codes[text]})


def _fit(raw: dict[str, Any], text: str) -> None:
    for n, step in enumerate(raw["preprocessing"]):
        if step["step"] in ("resize", "crop_or_pad"):
            if text == "sliding_window":
                raw["inference"] = {"mode": "sliding_window", "patch": step["size"]}
                del raw["preprocessing"][n]
            else:
                step["step"] = text
            return


def _activation_answer(raw: dict[str, Any], text: str) -> None:
    before = raw["output"]["activation"]
    raw["output"]["activation"] = text.split(",")[0]
    raw["output"]["logits"] = "already" not in text
    after = raw["output"]["activation"]
    if raw["task"] == "segmentation" and before != after:
        step = 1 if after == "sigmoid" else -1
        count = len(raw["classes"]) + step
        if count < 1:
            raise InputError("activation: softmax needs two channels or more.")
        raw["classes"] = [
            {"value": n + 1, "name": f"Class {n + 1}", "color": list(PALETTE[n % len(PALETTE)])} for n in range(count)
        ]


def _classes_answer(raw: dict[str, Any], text: str) -> None:
    names = [part.strip() for part in text.split(",") if part.strip()]
    labels = raw["output"]["activation"] == "labels"
    defaults = all(c["name"].startswith("Class ") for c in raw["classes"])
    if not labels and len(names) != len(raw["classes"]):
        if defaults and all(n.startswith("Class ") for n in names):
            return
        raise InputError(f"classes: {len(names)} names were given for {len(raw['classes'])} classes.")
    raw["classes"] = [
        {"value": n + 1, "name": name, "color": list(PALETTE[n % len(PALETTE)])} for n, name in enumerate(names)
    ]


def _window(raw: dict[str, Any], text: str) -> None:
    windows = WINDOWS[text]
    if windows is None:
        return
    if len(windows) > 1:
        raw["preprocessing"] = [s for s in raw["preprocessing"] if s["step"] != "to_rgb"]
    raw["preprocessing"].append(
        {"step": "window", "windows": [{"level": level, "width": width} for level, width in windows]}
    )


def _display(highest: float) -> dict[str, Any]:
    """What a viewer shows: from the darkest to the brightest, but for half a percent at each end."""
    return {"step": "minmax", "scope": "volume", "percentiles": [0.5, 99.5], "output": [0.0, highest], "clip": True}


def _intensity(raw: dict[str, Any], text: str) -> None:
    windowed = any(s["step"] == "window" for s in raw["preprocessing"])
    steps: dict[str, list[dict[str, Any]]] = {
        DISPLAY_1: [] if windowed else [_display(1.0)],
        DISPLAY_255: [{"step": "affine", "scale": 255.0}] if windowed else [_display(255.0)],
        "none": [],
        "zscore": [{"step": "zscore", "scope": "volume"}],
        "zscore per slice": [{"step": "zscore", "scope": "slice"}],
        "minmax": [{"step": "minmax", "scope": "volume"}],
        "minmax per slice": [{"step": "minmax", "scope": "slice"}],
        "divide by 255": [{"step": "affine", "scale": 1 / 255}],
        "imagenet": [{"step": "imagenet", "style": "torch"}],
    }
    if text == "imagenet" and not any(s["step"] == "to_rgb" for s in raw["preprocessing"]):
        raise InputError("intensity: imagenet needs the three channels of a picture; this network does not take one.")
    # A window has scaled the values already; a second scaling is only added where it was chosen on purpose.
    raw["preprocessing"] += steps[text]


def _modality(raw: dict[str, Any], text: str) -> None:
    codes = [part.strip().upper() for part in text.split(",") if part.strip()]
    for channel in raw["channels"]:
        channel["modality"] = codes


def _license(raw: dict[str, Any], text: str) -> None:
    raw["license"] = text or "unknown"


APPLY: dict[str, Any] = {
    "orientation": _orientation,
    "spacing": _spacing,
    "plane": _plane,
    "fit": _fit,
    "activation": _activation_answer,
    "classes": _classes_answer,
    "window": _window,
    "intensity": _intensity,
    "modality": _modality,
    "license": _license,
}
_ORDER = ["orient", "resample", "resize", "crop_or_pad", "window", "to_rgb", "zscore", "minmax", "affine", "imagenet"]


def ordered(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(steps, key=lambda s: _ORDER.index(s["step"]))
