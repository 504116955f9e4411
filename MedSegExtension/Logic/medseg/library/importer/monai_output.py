"""What a MONAI bundle does with its network's output: windows, activation, way back, cleaning."""

from __future__ import annotations

from typing import Any

from .bundles import Raw
from .monai_config import target_name
from .monai_transforms import Arguments, NotMapped, literal, transforms_of

_NOTHING = {
    "EnsureType", "ToTensor", "SaveImage", "ToDevice", "CastToType", "SelectItems", "DeleteItems", "Identity",
    "Decollate", "FromMetaTensor",
}  # fmt: skip
_NAMES = {
    "Activations", "AsDiscrete", "Invert", "KeepLargestConnectedComponent", "FillHoles", "RemoveSmallObjects",
    *_NOTHING,
}  # fmt: skip
_CONNECTIVITY = {None: 26, 3: 26, 2: 18, 1: 6}


class Postprocessing:
    """``activation``: softmax or sigmoid, None where none is named. ``restore``: as in a manifest's output.

    ``threshold``; ``cleaning``: steps with labels in place of names; ``kept``, ``unknown``: as for preprocessing.
    """

    def __init__(self, block: Any) -> None:
        self.activation: str | None = None
        self.decided = False
        self.argmax = False
        self.inverted: str | None = None
        self.threshold: float | None = None
        self.cleaning: list[Raw] = []
        self.kept: list[Raw] = []
        self.unknown: dict[str, str] = {}
        self.notes: list[str] = []
        for item in transforms_of(block):
            self._take(item)

    @property
    def restore(self) -> str:
        """``labels`` where classes are decided before the way back, else what goes back."""
        if self.inverted is None or self.inverted == "nearest":
            return "labels"
        return "probabilities" if self.activation else "logits"

    def _take(self, item: Any) -> None:
        name = target_name(item)
        kind = next((name.removesuffix(e) for e in ("Dict", "D", "d") if name.removesuffix(e) in _NAMES), name)
        keys = item.get("keys") if isinstance(item, dict) else None
        if keys and "pred" not in (keys if isinstance(keys, list) else [keys]) and kind in _NAMES:
            return
        try:
            if kind in _NOTHING:
                if kind not in ("SaveImage", "ToDevice"):
                    self.kept.append(literal(item))
                return
            if kind not in _NAMES:
                raise NotMapped("it is not known to MedSeg")
            item = _for_pred(item)
            self._apply(kind, Arguments(item), item)
        except NotMapped as why:
            self.unknown[name or repr(item)[:60]] = str(why)
        except (TypeError, ValueError, KeyError):
            self.unknown[name] = "its arguments are not understood"

    def _apply(self, kind: str, a: Arguments, item: Raw) -> None:
        if kind == "Activations":
            a.must(other=None)
            a.used |= {"dim", "kwargs"}
            if a.one("softmax", False):
                self.activation = "softmax"
            if a.one("sigmoid", False):
                self.activation = "sigmoid"
        elif kind == "AsDiscrete":
            a.must(rounding=None)
            a.used |= {"to_onehot", "num_classes", "dim", "keepdim", "dtype", "n_classes"}
            self.argmax |= bool(a.one("argmax", False))
            limit = a.one("threshold")
            if limit is not None and not self.argmax:
                self.threshold = float(limit)
            self.decided = True
        elif kind == "Invert":
            # What was decided before is taken to the nearest voxel, whatever else is asked for.
            linear = a.values.get("nearest_interp", True) in (False, [False])
            self.inverted = "linear" if linear and not self.decided else "nearest"
            if linear and self.decided:
                self.notes.append("The bundle interpolates labels on the way back; MedSeg takes the nearest instead.")
            self.kept.append({"_target_": "Invertd", "nearest_interp": self.inverted == "nearest"})
            return
        else:
            self._clean(kind, a)
        a.finish()
        self.kept.append(literal(item))

    def _clean(self, kind: str, a: Arguments) -> None:
        if kind == "KeepLargestConnectedComponent":
            a.must(num_components=1)
            a.used |= {"is_onehot"}
            together = not a.get("independent", True)
            step: Raw = {"step": "largest_component", "connectivity": _CONNECTIVITY[a.get("connectivity")],
                         "together": together}  # fmt: skip
        elif kind == "FillHoles":
            a.used |= {"connectivity"}
            step = {"step": "fill_holes"}
        else:
            a.must(independent_channels=True, by_measure=False, pixdim=None)
            step = {"step": "remove_small", "voxels": int(a.get("min_size", 64)),
                    "connectivity": _CONNECTIVITY[a.get("connectivity", 1)]}  # fmt: skip
        labels = a.get("applied_labels")
        step["labels"] = (
            None if labels is None else [int(v) for v in (labels if isinstance(labels, list) else [labels])]
        )
        if self.inverted is None:
            self.notes.append(f"{kind} is done on the image's own grid, where the bundle does it on the network's.")
        self.cleaning.append(step)


def _for_pred(item: Raw) -> Raw:
    """The arguments for the key ``pred`` alone, where lists have one for each key."""
    keys = item.get("keys")
    if not isinstance(keys, list):
        return {**item, "keys": "pred"}
    at = keys.index("pred")
    lists = ("argmax", "threshold", "to_onehot", "softmax", "sigmoid", "nearest_interp", "rounding")
    own = {k: v[at] if k in lists and isinstance(v, list) and len(v) == len(keys) else v for k, v in item.items()}
    return {**own, "keys": "pred"}


def inferer(item: Any, flat: bool = False) -> tuple[Raw, Raw, dict[str, str]]:
    """(inference of the manifest, the same for MONAI, what is not known); ``flat``: of flat images."""
    kind = target_name(item)
    if kind in ("", "SimpleInferer"):
        whole: Raw = {"mode": "slicewise", "plane": "acquisition", "batch": 1} if flat else {"mode": "whole"}
        return whole, {"kind": "SimpleInferer"}, {}
    if kind not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SliceInferer"):
        return {}, {}, {kind: "this inferer is not known to MedSeg"}
    slices = kind == "SliceInferer"
    a = Arguments(item, flat or slices)
    try:
        a.must(sigma_scale=0.125, padding_mode="constant", roi_weight_map=None, with_coord=False)
        a.used |= {
            "sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps",
            "buffer_dim",
        }  # fmt: skip
        theirs: Raw = {"kind": "SlidingWindowInferer"}
        if slices:
            theirs = {"kind": "SliceInferer", "spatial_dim": int(a.get("spatial_dim", 0))}
            if theirs["spatial_dim"] not in (0, 1, 2):
                raise NotMapped(f"spatial_dim = {theirs['spatial_dim']}")
        patch = [int(v) for v in a.axes("roi_size", still=1)]
        if min(patch) < 1:
            raise NotMapped(f"roi_size = {patch[::-1]}")
        shares = [float(v) for v in a.axes("overlap", 0.25, still=0)]
        mode = str(a.get("mode", "constant"))
        if mode not in ("constant", "gaussian"):
            raise NotMapped(f"mode = {mode}")
        value = float(a.get("cval", 0.0))
        a.finish()
    except NotMapped as why:
        return {}, {}, {kind: str(why)}
    except (TypeError, ValueError):
        return {}, {}, {kind: "its arguments are not understood"}
    # MONAI's step is rounded down from a product in double precision.
    stride = [max(1, int(n * (1 - share))) for n, share in zip(patch, shares, strict=True)]
    ours: Raw = {
        "mode": "sliding_window", "patch": patch, "overlap": shares[0], "stride": stride,
        "blending": "gaussian_floor" if mode == "gaussian" else "constant", "pad_value": value,
    }  # fmt: skip
    first = 1 if a.flat else 0
    theirs |= {"roi_size": patch[::-1][first:], "overlap": shares[::-1][first:], "mode": mode, "cval": value}
    if slices:
        # Of each window's three axes the one that is cut into slices has no overlap.
        theirs["overlap"].insert(theirs["spatial_dim"], 0.0)
    return ours, theirs, {}


def turned_for_slices(spatial_dim: int) -> list[int]:
    """The axes of the ``permute`` after which k is MONAI's axis ``spatial_dim`` and j, i are the other two in order."""
    return {0: [0, 1, 2], 1: [0, 2, 1], 2: [1, 2, 0]}[spatial_dim]


def network_definition(item: Any, allowed: frozenset[str]) -> tuple[Raw | None, str]:
    """(class and literal arguments, "") of a network; None and why where it can not be built."""
    name = target_name(item)
    if not name:
        return None, "its configuration names no network"
    if name not in allowed:
        return None, f"its network {name} is not one of MONAI's own that MedSeg builds"
    arguments = {k: v for k, v in item.items() if k not in ("_target_", "_disabled_", "_desc_", "_mode_")}
    try:
        plain = literal(arguments)
    except NotMapped as why:
        return None, f"the network {name}: {why}"
    if _nested(plain):
        return None, f"the network {name} is made of other objects"
    return {"name": name, "arguments": plain}, ""


def _nested(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_nested(v) for v in value.values())
    return isinstance(value, list) and any(_nested(v) for v in value)
