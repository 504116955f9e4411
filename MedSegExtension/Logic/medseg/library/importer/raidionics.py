"""Raidionics model folders: an ONNX file and ``pre_processing.ini`` become a package.

What each setting does was read in raidionics_seg_lib 1.5 (MIT licence). Its arrays have the axes x, y, z of an image on
axes Right, Anterior, Superior; sizes and patches in its file are in that order, in a manifest reversed.
"""

from __future__ import annotations

import configparser
from pathlib import Path

import onnx

from ...errors import InputError, ModelError
from ...monitor import Monitor
from . import onnx_tidy
from .bundles import Raw, bundle_network, manifest_of, named_classes, plain_id
from .converted import Converted, ImportOptions

INI = "pre_processing.ini"
_KNOWN = {
    "default": {"imaging_modality", "training_backend", "task"},
    "preprocessing": {
        "library", "output_spacing", "intensity_clipping_values", "intensity_clipping_range", "intensity_final_range",
        "background_cropping", "new_axial_size", "slicing_plane", "swap_training_input", "normalization_method",
        "number_inputs", "diffloader_pairs", "channels_order",
    },
    "training": {
        "nb_classes", "classes", "slab_size", "patch_size", "patch_offset", "optimal_thresholds", "deep_supervision",
        "activation_layer_included", "activation_layer_type",
    },
    "mri": {"perform_bias_correction"},
    "ct": {"fix_orientation"},
}  # fmt: skip
_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
_LIMIT = 1 << 20


class Settings:
    """``pre_processing.ini`` by section and name, comments behind ``#`` taken off; what is empty is not there."""

    def __init__(self, path: Path) -> None:
        if not path.is_file() or path.stat().st_size > _LIMIT:
            raise InputError(f"{path.parent.name} holds no {INI}; choose the folder of one model.")
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(path.read_text(encoding="utf-8-sig"))
        except (configparser.Error, UnicodeDecodeError) as error:
            first = str(error).splitlines()[0]
            raise ModelError(f"{INI} cannot be read ({first}); get the file again.") from error
        self._values = {
            (section.lower(), name.lower()): value.split("#")[0].strip()
            for section in parser.sections()
            for name, value in parser.items(section)
        }

    def unknown(self) -> list[tuple[str, str, str]]:
        """(section, name, value) of settings that have a value and no meaning here."""
        return [(s, n, v) for (s, n), v in self._values.items() if v and n not in _KNOWN.get(s, set())]

    def of(self, section: str) -> list[tuple[str, str]]:
        """(name, value) of a section's settings that have a value."""
        return [(n, v) for (s, n), v in self._values.items() if s == section and v]

    def text(self, section: str, name: str, default: str = "") -> str:
        return self._values.get((section, name), "") or default

    def yes(self, section: str, name: str, default: bool = False) -> bool:
        return self.text(section, name, str(default)).lower() == "true"

    def numbers(self, section: str, name: str) -> list[float]:
        text = self.text(section, name)
        try:
            return [float(part) for part in text.split(",") if part.strip()]
        except ValueError:
            raise ModelError(f"{INI}: {name} = {text!r} is not a list of numbers.") from None

    def whole(self, section: str, name: str) -> list[int]:
        return [int(v) for v in self.numbers(section, name)]


def settings_file(folder: Path) -> Path:
    """The one file of settings in ``folder``."""
    found = sorted(folder.rglob(INI))
    if not found:
        raise InputError(f"{folder.name} holds no {INI}; choose the folder of one Raidionics model.")
    if len(found) > 1:
        names = ", ".join(f.parent.name for f in found[:8])
        raise InputError(f"{folder.name} holds several models ({names}); choose one of these folders.")
    return found[0]


def convert_raidionics(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of a Raidionics folder.

    Options: ``skip=NAME,...`` (settings that MedSeg does not know and the user says do no harm), ``mask=MODEL`` (the
    installed model that finds the brain or the lungs, where the folder crops to them), ``overlap=0..1`` (of patches),
    ``reconstruction=argmax|thresholding``, ``order=resample_first|resample_second``, ``onnx=FILE``.
    """
    folder = path if path.is_dir() else path.parent
    file = settings_file(folder)
    folder, settings = file.parent, Settings(file)
    skipped = _ask_unknown(settings, options)
    model = bundle_network(folder, options, "Raidionics models")
    notes = [f"The setting {name} was left out, as you said." for name in skipped]
    return _Folder(folder, settings, model, options, notes).manifest(), Converted(
        model, notes=notes, facts={"framework": "ONNX", "raidionics": folder.name}
    )


def _ask_unknown(settings: Settings, options: ImportOptions) -> list[str]:
    skip = [name.strip().lower() for name in options.choices.get("skip", "").split(",") if name.strip()]
    open_ones = [f"[{s}] {n} = {v}" for s, n, v in settings.unknown() if n not in skip]
    if open_ones:
        raise InputError(
            f"{INI} has settings that MedSeg does not know: {'; '.join(open_ones)}. Where you know that they do not "
            "change what the network sees or gives, leave them out with the option skip=NAME,NAME."
        )
    return skip


class _Folder:
    def __init__(
        self, folder: Path, settings: Settings, model: onnx.ModelProto, options: ImportOptions, notes: list[str]
    ) -> None:
        self.folder, self.settings, self.model, self.options, self.notes = folder, settings, model, options, notes
        self.modality = settings.text("default", "imaging_modality").upper()
        self.requires: list[Raw] = []

    def manifest(self) -> Raw:
        text, model = self.settings.text, self.model
        if self.modality not in ("MRI", "CT"):
            raise ModelError(f"{INI}: imaging_modality = {self.modality or 'nothing'}; MRI and CT are known.")
        if text("default", "task", "segmentation") != "segmentation":
            raise ModelError(f"{INI}: task = {text('default', 'task')}; only segmentations are read.")
        if self.settings.yes("mri", "perform_bias_correction"):
            raise ModelError(f"{INI}: perform_bias_correction; correct the images' bias field first, and set it False.")
        steps = self._foreground() + self._space()
        inference, turn, padding = self._inference()
        steps += [*turn, *self._values(), *padding]
        output, classes = self._output()
        title = f"{self.folder.name.replace('_', ' ')} (Raidionics)"
        inputs = int(text("preprocessing", "number_inputs", "1"))
        onnx_tidy.open_batch(model)
        raw = manifest_of(
            plain_id(f"raidionics-{self.folder.name}"), title, "segmentation", model, 3,
            source="Raidionics model folder",
            license="see the model's publication",
            card={
                "description": f"Raidionics model {self.folder.name}.",
                "intended_use": "Research only.",
                "limitations": list(self.notes),
            },
            channels=[
                {"name": "image" if inputs == 1 else f"input {n + 1}",
                 "modality": ["MR" if self.modality == "MRI" else "CT"]} for n in range(inputs)
            ],
            preprocessing=steps, inference=inference, output=output, classes=classes,
        )  # fmt: skip
        last = text("preprocessing", "channels_order", "channels_last") == "channels_last"
        layout = "NDHWC" if last else "NCDHW"
        raw["inputs"][0]["layout"] = raw["output"]["layout"] = layout
        if self.requires:
            raw["requires"] = self.requires
        return raw

    # -- before the network ---------------------------------------------------------------------------------

    def _foreground(self) -> list[Raw]:
        how = self.settings.text("preprocessing", "background_cropping").lower()
        if how in ("", "none", "false"):
            return []
        if how == "minimum" and self.modality == "MRI":
            return [{"step": "crop_box", "range_fraction": 0.2}]
        fitting = ("brain_clip", "brain_mask") if self.modality == "MRI" else ("lungs_clip", "lungs_mask")
        if how not in fitting:
            raise ModelError(f"{INI}: background_cropping = {how} for {self.modality} is not known.")
        organ = "brain" if self.modality == "MRI" else "lungs"
        mask = self.options.choices.get("mask")
        if not mask:
            raise InputError(
                f"The model sees the {organ} only ({how}). Which installed model finds the {organ}? Name it with the "
                f"option mask=MODEL{' (for example mask=meshnet-brain-mask)' if organ == 'brain' else ''}."
            )
        self.requires.append({"name": organ, "model": mask})
        steps: list[Raw] = [{"step": "apply_mask", "of": organ}] if how == "brain_mask" else []
        return [*steps, {"step": "crop_to_mask", "of": organ}]

    def _space(self) -> list[Raw]:
        spacing = self.settings.numbers("preprocessing", "output_spacing")
        if spacing and len(spacing) != 3:
            raise ModelError(f"{INI}: output_spacing needs three numbers.")
        steps: list[Raw] = [{"step": "resample_to_ras", "spacing": list(reversed(spacing)) if spacing else [None] * 3}]
        size = self._axial_size()
        if size:
            plane = self._plane()
            if len(size) == 2:
                # Sagittal and coronal stacks get as many slices as they have rows.
                size = [size[0], size[1], 0] if plane == "axial" else [size[0], size[0], size[1]]
            step: Raw = {"step": "resize_within", "size": [n or None for n in reversed(size)], "antialias": True,
                         "edges": "mirror", "back": "corners"}  # fmt: skip
            if not size[2]:
                step["follow"] = 1
            steps.append(step)
        pairs = self.settings.text("preprocessing", "diffloader_pairs")
        if pairs:
            try:
                read = [[int(n) for n in pair.split(",")] for pair in pairs.split(";")]
            except ValueError:
                raise ModelError(f"{INI}: diffloader_pairs = {pairs!r} is not a list of pairs.") from None
            steps.append({"step": "append_difference", "pairs": read})
        return steps

    def _values(self) -> list[Raw]:
        steps: list[Raw] = [{"step": "clip", "minimum": 0.0}] if self.modality == "MRI" else []
        shares = self.settings.numbers("preprocessing", "intensity_clipping_range") or [0.0, 100.0]
        values = self.settings.numbers("preprocessing", "intensity_clipping_values")
        if shares[1] - shares[0] != 100:
            steps.append({"step": "clip", "percentiles": shares[:2]})
        elif len(values) == 2 and values[1] > values[0]:
            steps.append({"step": "clip", "minimum": values[0], "maximum": values[1]})
        method = self.settings.text("preprocessing", "normalization_method").lower()
        known: dict[str, list[Raw]] = {
            "": [], "none": [], "zeromean": [{"step": "zscore"}], "default": [{"step": "minmax"}],
            "zeromean_nonzero": [{"step": "zscore", "above": 0.0, "apply_outside": False}],
        }  # fmt: skip
        if method not in known or (method == "zeromean_nonzero" and self.modality == "CT"):
            raise ModelError(f"{INI}: normalization_method = {method} for {self.modality} is not known.")
        target = self.settings.numbers("preprocessing", "intensity_final_range")
        if target and target != [0.0, 1.0]:
            self.notes.append(
                f"intensity_final_range = {target[0]:g} to {target[-1]:g} is not applied, as raidionics_seg_lib 1.5 "
                "does not apply it."
            )
        return steps + known[method]

    # -- windows --------------------------------------------------------------------------------------------

    def _axial_size(self) -> list[int]:
        size = self.settings.whole("preprocessing", "new_axial_size")
        if len(size) not in (0, 2, 3):
            raise ModelError(f"{INI}: new_axial_size needs two or three numbers.")
        return size

    def _plane(self) -> str:
        plane = self.settings.text("preprocessing", "slicing_plane", "axial").lower()
        if plane not in _AXIS:
            raise ModelError(f"{INI}: slicing_plane = {plane} is not known.")
        return plane

    def _inference(self) -> tuple[Raw, list[Raw], list[Raw]]:
        """Inference, the step that brings x, y, z into the network's order, and the one that pads to the windows."""
        size, swap = self._axial_size(), self.settings.yes("preprocessing", "swap_training_input")
        order = [1, 0, 2] if swap else [0, 1, 2]
        turned = [2, 0, 1]
        slabs = len(size) == 2
        if slabs and self._plane() != "axial":
            order = [order[n] for n in ((1, 2, 0) if self._plane() == "sagittal" else (0, 2, 1))]
        if len(size) == 3:
            axes = [order[n] for n in turned] if swap else order
            return {"mode": "whole"}, _permuted(axes), []
        ratio = self._overlap()
        if slabs:
            slab = int(self.settings.text("training", "slab_size", "0"))
            if slab < 1:
                raise ModelError(f"{INI}: new_axial_size with two numbers needs slab_size.")
            plane = self._plane()
            whole = [size[0], size[1], slab] if plane == "axial" else [size[0], size[0], size[1]]
            whole[_AXIS[plane]] = slab
            stride = list(whole)
            stride[_AXIS[plane]] = slab if ratio is None else max(1, int(slab - ratio * slab))
            pads = [1, 1, 1]
            pads[_AXIS[plane]] = slab
            axes = order
            if self.settings.yes("ct", "fix_orientation"):
                axes = [axes[n] for n in turned]
            if swap:
                axes = [axes[n] for n in turned]
            padding: list[Raw] = [{"step": "pad", "multiple": _ijk(pads, axes), "where": "end", "mode": "edge"}]
            patch, stride = _ijk(whole, axes), _ijk(stride, axes)
        else:
            given = self.settings.whole("training", "patch_size")
            if len(given) != 3:
                raise ModelError(f"{INI}: neither new_axial_size nor a patch_size of three numbers is given.")
            offset = self.settings.whole("training", "patch_offset") or [0, 0, 0]
            if ratio is not None:
                offset = [int(ratio * n) for n in given]
            # The patch is in the order of the swapped array; the network's axes are turned once more.
            local = turned if swap else [0, 1, 2]
            axes = [order[n] for n in local]
            patch = [given[n] for n in reversed(local)]
            stride = [given[n] - offset[n] for n in reversed(local)]
            if min(stride) < 1:
                raise ModelError(f"{INI}: patch_offset is as large as the patch.")
            padding = [{"step": "pad", "size": patch, "where": "both_up", "mode": "edge"}]
        return (
            {"mode": "sliding_window", "patch": patch, "stride": stride, "blending": "maximum"},
            _permuted(axes),
            padding,
        )

    def _overlap(self) -> float | None:
        given = self.options.choices.get("overlap")
        if given is None:
            return None
        try:
            ratio = float(given)
        except ValueError:
            ratio = -1.0
        if not 0 <= ratio < 1:
            raise InputError(f"overlap={given}: a number from 0 to below 1 is needed.")
        return ratio

    # -- after the network ----------------------------------------------------------------------------------

    def _output(self) -> tuple[Raw, list[Raw]]:
        read = self.settings
        count = int(read.text("training", "nb_classes", "0"))
        names = [n.strip() for n in read.text("training", "classes").split(",") if n.strip()]
        if count < 1:
            raise ModelError(f"{INI}: nb_classes is missing.")
        if len(names) != count:
            raise ModelError(f"{INI}: {len(names)} names are given for {count} classes.")
        kind = read.text("training", "activation_layer_type", "softmax").lower()
        included = read.yes("training", "activation_layer_included", True)
        thresholds = read.numbers("training", "optimal_thresholds")
        method = self.options.choices.get("reconstruction") or (
            "thresholding" if thresholds or kind == "sigmoid" else "argmax"
        )
        if kind not in ("softmax", "sigmoid") or method not in ("argmax", "thresholding"):
            raise ModelError(f"{INI}: activation {kind} with reconstruction {method} is not known.")
        order = self.options.choices.get("order", "resample_first")
        if order not in ("resample_first", "resample_second"):
            raise InputError(f"order={order}: resample_first or resample_second is needed.")
        restore = "labels" if order == "resample_second" else "probabilities"
        output: Raw = {"activation": "softmax", "logits": not included, "restore": restore, "way_back": "steps"}
        if method == "argmax" and kind == "softmax":
            return output, named_classes(names[1:])
        if method == "argmax":
            self.notes.append("Where several of the network's classes are above one half, all of them are kept.")
        limits = thresholds if len(thresholds) == count else (thresholds[:1] or [0.5]) * count
        output["activation"] = "sigmoid"
        if kind == "softmax" and not included:
            if self.options.choices.get("overlap") or read.whole("training", "patch_offset"):
                raise InputError(
                    "Overlapping patches of a network without activation cannot be cut at thresholds; choose "
                    "reconstruction=argmax."
                )
            onnx_tidy.append_softmax(self.model, 4 if read.text("preprocessing", "channels_order") in
                                     ("", "channels_last") else 1)  # fmt: skip
            output["logits"] = False
        first = 0 if kind == "sigmoid" else 1
        classes = named_classes(names[first:])
        for item, limit in zip(classes, limits[first:], strict=True):
            # Raidionics takes values at the threshold too.
            item |= {"channel": item["value"] - 1 + first, "threshold": limit - 1e-6}
        return output, classes


def _ijk(sizes: list[int], axes: list[int]) -> list[int]:
    """Sizes along x, y, z in the order i, j, k of an array with the axes ``axes`` (the first is k)."""
    return [sizes[a] for a in reversed(axes)]


def _permuted(axes: list[int]) -> list[Raw]:
    """The step that brings x, y, z (k, j, i) into the order ``axes``; none where they are in it."""
    return [] if axes == [0, 1, 2] else [{"step": "permute", "axes": [2 - a for a in reversed(axes)]}]


def reads(folder: Path) -> bool:
    """Whether ``folder`` holds a Raidionics model."""
    return (folder / INI).is_file() or any(folder.glob(f"*/{INI}"))
