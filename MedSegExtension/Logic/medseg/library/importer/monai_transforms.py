"""MONAI's transforms by name as steps of a manifest. MONAI's axes are x, y, z; a manifest counts k, j, i for them.

A flat image has x, y: a manifest counts j, i for them, and k for the slices, which are images of their own.

`preprocessing_steps` gives the steps, what MONAI is to run beside them, and the transforms that have no meaning here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .bundles import Raw
from .monai_config import Above, Code, target_name

#: They change neither values nor places.
NOTHING = {
    "LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst", "EnsureType", "ToTensor", "CastToType",
    "ToDevice", "SelectItems", "DeleteItems", "Identity", "ConcatItems", "FromMetaTensor", "ToMetaTensor",
}  # fmt: skip


class NotMapped(Exception):
    """Why a transform has no step; a few words."""


class Arguments:
    """A transform's literal arguments, those that were looked at and those that must have their default.

    ``flat``: the transform is given flat images.
    """

    def __init__(self, values: Raw, flat: bool = False) -> None:
        self.flat = flat
        self.values = {k: v for k, v in values.items() if k not in ("_target_", "_disabled_", "keys", "key", "_desc_")}
        self.used: set[str] = {"allow_missing_keys", "lazy", "overwriting_keys", "_mode_", "_requires_"}

    def get(self, name: str, default: Any = None) -> Any:
        self.used.add(name)
        value = self.values.get(name, default)
        if isinstance(value, Code):
            raise NotMapped(f"{name} is {value!r}")
        return value

    def one(self, name: str, default: Any = None) -> Any:
        """As `get`, of a value that may stand in a list for each key."""
        value = self.get(name, default)
        if isinstance(value, list):
            if len({str(v) for v in value}) != 1:
                raise NotMapped(f"{name} differs from image to image")
            return value[0]
        return value

    def axes(self, name: str, default: Any = None, *, still: float) -> list[Any]:
        """The argument's numbers for i, j, k; of flat images ``still`` for k, what changes nothing there."""
        value = self.get(name, default)
        if not self.flat:
            return triple(value, name)
        values = list(value) if isinstance(value, list | tuple) else [value] * 2
        if len(values) != 2:
            raise NotMapped(f"{name} = {value}, where the network takes flat images")
        return triple([still, *values], name)

    def must(self, **defaults: Any) -> None:
        """`NotMapped` where one of these has another value than its default."""
        for name, default in defaults.items():
            if self.one(name, default) not in (default, None):
                raise NotMapped(f"{name} = {self.values[name]}")

    def finish(self) -> None:
        left = set(self.values) - self.used
        if left:
            raise NotMapped(f"its argument {sorted(left)[0]} is not known")


def triple(value: Any, what: str) -> list[Any]:
    """Three numbers in the order i, j, k of MONAI's x, y, z."""
    values = list(value) if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise NotMapped(f"{what} = {value}")
    return values[::-1]


def _size(a: Arguments, name: str) -> list[int | None]:
    return [int(v) if v > 0 else None for v in a.axes(name, still=-1)]


def _orientation(a: Arguments) -> list[Raw]:
    if a.flat:
        raise NotMapped("it turns flat images")
    code = "RAS" if a.one("as_closest_canonical", False) else str(a.get("axcodes", ""))
    a.used |= {"axcodes", "labels"}
    code = code.upper()
    if sorted(("RL".find(c) >= 0 and "R") or ("A" if c in "AP" else "S" if c in "SI" else "?") for c in code) != [
        "A", "R", "S",
    ]:  # fmt: skip
        raise NotMapped(f"axcodes = {code}")
    return [{"step": "orient", "code": code[::-1]}]


def _spacing(a: Arguments) -> list[Raw]:
    a.must(diagonal=False, scale_extent=False, recompute_affine=False, padding_mode="border", ensure_same_shape=True)
    a.used |= {"align_corners", "dtype"}
    mode = str(a.one("mode", "bilinear"))
    if mode not in ("bilinear", "nearest"):
        raise NotMapped(f"mode = {mode}")
    values = a.axes("pixdim", still=-1)
    step: Raw = {
        "step": "resample_from_first",
        "spacing": [float(v) if v > 0 else None for v in values],
        "interpolation": "linear" if mode == "bilinear" else "nearest",
    }
    ends = ("min_pixdim", "max_pixdim")
    if any(a.get(name) is not None for name in ends):
        step["unless_between"] = [
            [None] * 3 if a.get(name) is None else [float(v) for v in a.axes(name, still=0)] for name in ends
        ]
    return [step]


def _range(a: Arguments) -> list[Raw]:
    low, high = float(a.get("a_min")), float(a.get("a_max"))
    bottom, top = a.get("b_min"), a.get("b_max")
    a.used |= {"dtype"}
    if high == low:
        raise NotMapped("a_min equals a_max")
    clip = bool(a.get("clip", False))
    if bottom is None or top is None:
        if clip:
            raise NotMapped("clip without b_min and b_max")
        return [{"step": "affine", "scale": 1 / (high - low), "offset": -low / (high - low)}]
    scale = (float(top) - float(bottom)) / (high - low)
    made: list[Raw] = [{"step": "clip", "minimum": min(low, high), "maximum": max(low, high)}] if clip else []
    return [*made, {"step": "affine", "scale": scale, "offset": float(bottom) - low * scale}]


def _percentiles(a: Arguments) -> list[Raw]:
    a.must(relative=False)
    a.used |= {"dtype"}
    ends = [float(a.get("b_min")), float(a.get("b_max"))]
    return [
        {
            "step": "rescale", "percentiles": [float(a.get("lower")), float(a.get("upper"))], "output": ends,
            "clip": bool(a.get("clip", False)), "together": not a.get("channel_wise", False),
        }
    ]  # fmt: skip


def _clip_percentiles(a: Arguments) -> list[Raw]:
    a.must(sharpness_factor=None, return_clipping_values=False)
    a.used |= {"dtype"}
    if not a.get("channel_wise", False):
        raise NotMapped("channel_wise = False")
    return [{"step": "clip", "percentiles": [float(a.get("lower")), float(a.get("upper"))]}]


def _scale(a: Arguments) -> list[Raw]:
    a.used |= {"dtype"}
    low, high = a.get("minv", 0.0), a.get("maxv", 1.0)
    if low is None or high is None:
        factor = a.get("factor")
        if factor is None:
            raise NotMapped("neither minv and maxv nor factor")
        return [{"step": "affine", "scale": 1 + float(factor)}]
    a.must(factor=None)
    return [{"step": "rescale", "output": [float(low), float(high)], "together": not a.get("channel_wise", False)}]


def _normalise(a: Arguments) -> list[Raw]:
    a.used |= {"dtype"}
    wise = bool(a.get("channel_wise", False))
    step: Raw = {"step": "standardise", "nonzero": bool(a.get("nonzero", False)), "together": not wise}
    for name, field in (("subtrahend", "subtract"), ("divisor", "divide")):
        value = a.get(name)
        if value is not None:
            values = [float(v) for v in value] if isinstance(value, list) else [float(value)]
            if not wise and len(values) > 1:
                raise NotMapped(f"{name} has several numbers without channel_wise")
            step[field] = values
    return [step]


def _foreground(a: Arguments, keys: list[str]) -> list[Raw]:
    a.must(mode="constant", return_coords=False, value=0, constant_values=0)
    a.used |= {"start_coord_key", "end_coord_key"}
    chosen = a.get("select_fn")
    if chosen is not None and not isinstance(chosen, Above):
        raise NotMapped(f"select_fn = {chosen}")
    step: Raw = {
        "step": "crop_box", "above": chosen.limit if isinstance(chosen, Above) else 0.0,
        "margin": [int(v) for v in a.axes("margin", 0, still=0)], "beyond": not a.get("allow_smaller", False),
        "divisible": [int(v) for v in a.axes("k_divisible", 1, still=1)],
    }  # fmt: skip
    source, channels = a.get("source_key"), a.get("channel_indices")
    if channels is not None:
        step["channels"] = [int(c) for c in (channels if isinstance(channels, list) else [channels])]
    elif len(keys) > 1 and source in keys:
        step["channels"] = [keys.index(source)]
    return [step]


def _padding(a: Arguments, rule: Raw) -> Raw:
    mode = str(a.one("mode", "constant"))
    known = {"constant": "constant", "edge": "edge", "replicate": "edge", "reflect": "reflect"}
    if mode not in known:
        raise NotMapped(f"mode = {mode}")
    where = str(a.get("method", "symmetric"))
    if where not in ("symmetric", "end"):
        raise NotMapped(f"method = {where}")
    value = float(a.get("value", a.get("constant_values", 0)) or 0)
    return {
        "step": "pad", **rule, "where": "end" if where == "end" else "both", "mode": known[mode], "value": value,
    }  # fmt: skip


def _pad_or_crop(a: Arguments) -> list[Raw]:
    size = _size(a, "spatial_size")
    return [_padding(a, {"size": size}), {"step": "crop_centre", "size": size}]


def _resize(a: Arguments) -> list[Raw]:
    a.must(size_mode="all", anti_aliasing=False, anti_aliasing_sigma=None, align_corners=False)
    a.used |= {"dtype"}
    mode = str(a.one("mode", "area"))
    known = {"area": "area", "bilinear" if a.flat else "trilinear": "linear", "nearest": "nearest"}
    if mode not in known:
        raise NotMapped(f"mode = {mode}")
    size = _size(a, "spatial_size")
    return [{"step": "resize_within", "size": size, "interpolation": known[mode]}]


_STEPS: dict[str, Callable[[Arguments], list[Raw]]] = {
    "Orientation": _orientation,
    "Spacing": _spacing,
    "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles,
    "ClipIntensityPercentiles": _clip_percentiles,
    "ScaleIntensity": _scale,
    "NormalizeIntensity": _normalise,
    "SpatialPad": lambda a: [_padding(a, {"size": _size(a, "spatial_size")})],
    "BorderPad": lambda a: [_padding(a, {"border": [int(v) for v in a.axes("spatial_border", still=0)]})],
    "DivisiblePad": lambda a: [_padding(a, {"multiple": _size(a, "k")})],
    "CenterSpatialCrop": lambda a: [{"step": "crop_centre", "size": _size(a, "roi_size")}],
    "ResizeWithPadOrCrop": _pad_or_crop,
    "Resize": _resize,
}


def bare(name: str) -> str:
    """A transform's name without the ending of its dictionary form."""
    for ending in ("Dict", "D", "d"):
        if name.endswith(ending) and name[: -len(ending)] in {*_STEPS, *NOTHING, "CropForeground"}:
            return name.removesuffix(ending)
    return name


def transforms_of(block: Any) -> list[Any]:
    """The items of a ``Compose``, those that are switched off left out."""
    found = block.get("transforms", []) if isinstance(block, dict) else block
    items = found if isinstance(found, list) else [] if found is None else [found]
    return [i for i in items if not (isinstance(i, dict) and i.get("_disabled_") is True)]


class Preprocessing:
    """``steps`` of the manifest; ``kept``: the transforms that MONAI runs beside them, literal; ``unknown``: words.

    ``flat``: the images are flat.
    """

    def __init__(self, block: Any, flat: bool = False) -> None:
        self.flat = flat
        self.steps: list[Raw] = []
        self.kept: list[Raw] = []
        self.unknown: dict[str, str] = {}
        items = transforms_of(block)
        first = next((i for i in items if target_name(i).startswith("LoadImage")), None)
        self.keys = [k for k in _keys(first) if k not in ("label", "mask", "seg")] or ["image"]
        self.image = self.keys[0]
        for item in items:
            self._take(item)
        if not any(s["step"] == "orient" for s in self.steps):
            # MONAI takes an image in the order x, y, z in which it is stored.
            self.steps.insert(0, {"step": "permute", "axes": [1, 0, 2] if flat else [2, 1, 0]})

    def _take(self, item: Any) -> None:
        name = target_name(item)
        if not name:
            self.unknown[repr(item)[:60]] = "it is no transform by name"
            return
        kind, keys = bare(name), _keys(item)
        if keys and not set(keys) & {*self.keys, self.image}:
            return
        try:
            if kind in NOTHING:
                if kind == "ConcatItems":
                    self.image = str(item.get("name", "image"))
                self.kept.append(literal(item))
                return
            if keys and self.image == self.keys[0] and not set(self.keys) <= set(keys):
                raise NotMapped("it is applied to some of the images only")
            if isinstance(item.get("_disabled_"), Code):
                raise NotMapped("whether it is switched on is an expression")
            arguments = Arguments(item, self.flat)
            if kind == "CropForeground":
                self.steps += _foreground(arguments, self.keys)
            elif kind in _STEPS:
                made = _STEPS[kind](arguments)
                if len(self.keys) > 1 and self.image == self.keys[0]:
                    # Images that are not joined yet are treated each on its own.
                    made = [{**s, "together": False} if "together" in s else s for s in made]
                self.steps += made
            else:
                raise NotMapped("it is not known to MedSeg")
            arguments.finish()
            self.kept.append(literal(item))
        except NotMapped as why:
            self.unknown[name] = str(why)
        except (TypeError, ValueError, KeyError):
            self.unknown[name] = "its arguments are not understood"


def _keys(item: Any) -> list[str]:
    keys = item.get("keys", []) if isinstance(item, dict) else []
    return [str(k) for k in keys] if isinstance(keys, list) else [str(keys)] if isinstance(keys, str) else []


def literal(value: Any) -> Any:
    """``value`` as JSON; a threshold becomes ``{"above": number}``. `NotMapped` where code is left."""
    if isinstance(value, Above):
        return {"above": value.limit}
    if isinstance(value, Code):
        raise NotMapped(f"it holds {value!r}")
    if isinstance(value, dict):
        return {k: literal(v) for k, v in value.items()}
    return [literal(v) for v in value] if isinstance(value, list | tuple) else value
