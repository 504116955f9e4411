"""MONAI bundles: metadata, configuration and network (``model.pt``, ``model.ts``, ONNX) -> a package."""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...errors import InputError, ModelError
from ...monitor import Monitor
from . import onnx_tidy
from .bundles import Raw, bundle_network, manifest_of, named_classes, plain_id, read_description
from .converted import Converted, ImportOptions, Probe
from .environment import Interpreter, environment, run_script
from .monai_chain import chain_of, finished, loaded, probe
from .monai_config import INFERENCE, TRAIN, Code, Config, find, read_config, target_name
from .monai_output import Postprocessing, inferer, network_definition, turned_for_slices
from .monai_transforms import Preprocessing

REQUIREMENTS = "monai-requirements.txt"
MODULES = "torch, onnx, monai, nibabel"
#: MONAI's networks that give one map for each class, built with literal arguments.
NETWORKS = frozenset({
    "UNet", "Unet", "BasicUNet", "BasicUnet", "BasicUNetPlusPlus", "BasicUnetPlusPlus", "DynUNet", "DynUnet",
    "SegResNet", "SegResNetVAE", "SegResNetDS", "SegResNetDS2", "SwinUNETR", "UNETR", "VNet", "AttentionUnet",
    "FlexibleUNet", "FlexUNet", "HighResNet", "AHNet", "RegUNet", "MedNeXt", "MedNext",
    *(f"{name}{size}" for name in ("MedNeXt", "MedNext") for size in ("S", "B", "M", "L")),
    *(f"{name}{size}" for name in ("MedNeXt", "MedNext") for size in ("Small", "Base", "Medium", "Large")),
})  # fmt: skip
#: As many labels as a segmentation can have.
_MOST_CHANNELS = 1024
_MOST_CLASSES = 2048


def convert_monai(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of a MONAI bundle's folder.

    Options: ``weights`` (``pt``, ``ts`` or ``onnx``; default: the first of these that is there and can be read),
    ``skip=NAME,...`` (transforms that MedSeg does not know and the user says do no harm), ``onnx=FILE``, ``output=N``
    (which of several outputs of the network are the classes, from 0).
    """
    root = bundle_root(path if path.is_dir() else path.parent)
    return _Bundle(root, options, monitor).convert()


def bundle_root(folder: Path) -> Path:
    """The bundle that ``folder`` is, lies in or holds."""
    root = folder.parent if folder.name == "configs" else folder
    if not (root / "configs").is_dir() and not (root / "metadata.json").is_file():
        root = next((f.parent.parent for f in root.glob("*/configs/metadata.json")), root)
    return root


def bundle_place(root: Path) -> Path:
    """Where a bundle's descriptions are."""
    return root / "configs" if (root / "configs" / "metadata.json").is_file() else root


def tensors_of(metadata: Raw) -> tuple[Raw, Raw]:
    """What ``metadata.json`` says of the one input and of the first output."""
    data = metadata.get("network_data_format", {})
    inputs, outputs = list(data.get("inputs", {}).values()), list(data.get("outputs", {}).values())
    if len(inputs) != 1 or not outputs:
        raise ModelError("metadata.json: network_data_format with one input and an output is expected.")
    return inputs[0], outputs[0]


def takes_flat_images(given: Raw, config: Config) -> bool:
    """Whether the bundle's images are flat: 2D, and no inferer that cuts volumes into slices."""
    return len(given.get("spatial_shape", [])) == 2 and target_name(config.get("inferer")) != "SliceInferer"


def channels_of(given: Raw, before: Preprocessing) -> list[Raw]:
    """Name and modality codes of each channel."""
    count = int(given.get("num_channels", 1))
    if not 1 <= count <= _MOST_CHANNELS:
        raise ModelError(f"metadata.json: an input of {count:.6g} channels is not possible; get the bundle again.")
    named = given.get("channel_def") or {}
    names = [str(named.get(str(n), f"image {n + 1}")) for n in range(count)]
    if len(before.keys) == count > 1:
        names = before.keys
    codes = [str(given["modality"]).upper()] if given.get("modality") in ("CT", "MR", "CR", "DX") else []
    return [{"name": name, "modality": codes} for name in names]


def classes_of(result: Raw, after: Postprocessing) -> tuple[list[str], str, float]:
    """Names of the classes, activation, and the threshold of overlapping ones."""
    count = int(result.get("num_channels", 1))
    if not 1 <= count <= _MOST_CLASSES:
        raise ModelError(f"metadata.json: an output of {count:.6g} channels is not possible; get the bundle again.")
    named = result.get("channel_def") or {}
    names = [str(named.get(str(n), f"Class {n}")) for n in range(count)]
    limit = 0.5 if after.threshold is None else after.threshold
    overlapping = after.activation == "sigmoid" and not after.argmax
    if after.activation is None and not after.argmax:
        overlapping = count == 1 or ("background" not in names[0].lower() and bool(named))
    if overlapping or count == 1:
        return names, "sigmoid", limit
    return names[1:], "softmax", limit


def weights_of(root: Path) -> dict[str, Path]:
    """The files that hold a bundle's network, by the word that chooses them, in the order in which they are tried."""
    found: dict[str, Path] = {}
    for place in (root / "models", root):
        for ending in ("pt", "ts"):
            if (place / f"model.{ending}").is_file():
                found.setdefault(ending, place / f"model.{ending}")
    onnx_files = sorted(root.rglob("*.onnx"))
    return {**found, "onnx": onnx_files[0]} if onnx_files else found


class _Bundle:
    def __init__(self, root: Path, options: ImportOptions, monitor: Monitor) -> None:
        self.root, self.options, self.monitor = root, options, monitor
        self.place = bundle_place(root)
        self.metadata = read_description(self.place / "metadata.json")
        self.notes: list[str] = []
        self.given, self.result = tensors_of(self.metadata)

    def convert(self) -> tuple[Raw, Converted]:
        with ExitStack() as stack:
            self.stack = stack
            self._interpreter: Interpreter | None = None
            inference, train = find(self.place, INFERENCE), find(self.place, TRAIN)
            read = self._yaml([p for p in (inference, train) if p is not None])
            self.config, self.training = read_config(inference, read), read_config(train, read)
            if inference is None:
                self.notes.append(
                    "The bundle has no inference.json: orientation, spacing and intensity steps are not known to it."
                )
            self.flat = takes_flat_images(self.given, self.config)
            steps = self.config.get("preprocessing", "preprocessing_transforms", "pre_transforms")
            before = Preprocessing(steps, self.flat)
            after = Postprocessing(self.config.get("postprocessing", "postprocessing_transforms", "post_transforms"))
            ours, theirs, odd = self._inferer(before)
            self._ask({**before.unknown, **after.unknown, **odd})
            self.notes += after.notes
            channels = channels_of(self.given, before)
            names, activation, limit = classes_of(self.result, after)
            converted = self._network(before, after, ours, theirs, len(channels), activation)
        return self._manifest(before, after, ours, channels, names, activation, limit, converted), converted

    # -- files ----------------------------------------------------------------------------------------------

    def _yaml(self, paths: list[Path]) -> dict[str, Raw]:
        wanted = {p.name: str(p.resolve()) for p in paths if p.suffix != ".json"}
        if not wanted:
            return {}
        with tempfile.TemporaryDirectory(prefix="medseg-convert-") as scratch:
            return run_script(
                self.interpreter, "monai_convert.py", {"yaml": wanted}, Path(scratch), self.monitor,
                "The bundle's YAML files could not be read",
            )  # fmt: skip

    @property
    def interpreter(self) -> Interpreter:
        """The environment, made when it is first needed."""
        if self._interpreter is None:
            self._interpreter = self.stack.enter_context(
                environment(
                    REQUIREMENTS,
                    MODULES,
                    python=self.options.environment,
                    wheels=self.options.wheels,
                    monitor=self.monitor,
                )
            )
        return self._interpreter

    def _ask(self, unknown: dict[str, str]) -> None:
        skip = {name.strip() for name in self.options.choices.get("skip", "").split(",") if name.strip()}
        open_ones = [f"{name} ({why})" for name, why in unknown.items() if name not in skip]
        if open_ones:
            raise InputError(
                f"The bundle's configuration has what MedSeg does not understand: {'; '.join(open_ones)}. Without it "
                "the result may be wrong. Where you know that it does not change what the network sees or gives, "
                "leave it out with the option skip=NAME,NAME."
            )
        self.notes += [f"The transform {name} was left out, as you said ({why})." for name, why in unknown.items()]

    # -- parts ----------------------------------------------------------------------------------------------

    def _inferer(self, before: Preprocessing) -> tuple[Raw, Raw, dict[str, str]]:
        item = self.config.get("inferer")
        if item is None:
            self.notes.append("The bundle names no inferer: the whole image is given to the network at once.")
        ours, theirs, odd = inferer(item, self.flat)
        slices = theirs.get("kind") == "SliceInferer"
        self.dims = 2 if self.flat or slices else 3
        if slices:
            before.steps.append({"step": "permute", "axes": turned_for_slices(theirs["spatial_dim"])})
        if self.flat:
            self.notes.append(
                "The bundle is for flat images. Of a volume each slice is run; values are normalised over all of it."
            )
        return ours, theirs, odd

    # -- network --------------------------------------------------------------------------------------------

    def _network(
        self, before: Preprocessing, after: Postprocessing, ours: Raw, theirs: Raw, channels: int, activation: str
    ) -> Converted:
        file, definition = self._file()
        if file is None:
            model = bundle_network(self.root, self.options, "Without models/model.pt or model.ts, MONAI bundles")
            onnx_tidy.open_batch(model)
            return Converted(
                model,
                notes=self.notes,
                facts={"framework": "MONAI bundle", "monai": self.metadata.get("monai_version")},
            )
        patch, fixed = self._patch(before, ours)
        with tempfile.TemporaryDirectory(prefix="medseg-convert-") as scratch:
            place = Path(scratch)
            request: dict[str, Any] = {
                "file": str(file.resolve()), "program": definition is None, "network": definition,
                "take": self._output_asked(),
                "allowed": sorted(NETWORKS), "channels": channels, "patch": patch, "fixed": fixed,
                "output": str(place / "model.onnx"), "probe": str(place / "probe.npz"),
                "chain": str(place / "chain.npz"), "keys": before.keys, "image_key": before.image,
                "images": channels, "inferer": theirs, "image": probe(before, patch, flat=self.flat),
                "before": loaded(before), "after": finished(after, activation),
            }  # fmt: skip
            answer = run_script(
                self.interpreter,
                "monai_convert.py",
                request,
                place,
                self.monitor,
                f"{file.name} could not be converted",
            )
            model = onnx.load(request["output"])
            with np.load(place / "probe.npz", allow_pickle=False) as stored:
                fed = Probe(str(answer["framework"]), [stored["feed"]], stored["output"])
            chain = chain_of(place / "chain.npz", f"MONAI {answer['monai']}", activation)
        if definition is None:
            self.notes.append(
                f"{file.name} is TorchScript, a program that was run to convert it; use only files you trust."
            )
        if answer["not_compared"]:
            self.notes.append(f"The whole chain was not compared with MONAI: {answer['not_compared']}.")
        facts = {"framework": f"MONAI {answer['monai']}, {answer['framework']}", "weights": file.name}
        if definition is not None:
            facts["network"] = definition["name"]
        if request["take"] is not None:
            facts["output"] = str(request["take"])
        return Converted(model, int(answer["parameters"]), fed, self.notes, facts, chain)

    def _output_asked(self) -> int | None:
        given = self.options.choices.get("output", "")
        if given and not (given.isascii() and given.isdigit()):
            raise InputError(f"output={given}: the number of the network's output is needed, 0 for the first.")
        if given:
            self.notes.append(f"Of the network's outputs the one with the number {int(given)} was taken, as you said.")
        return int(given) if given else None

    def _file(self) -> tuple[Path | None, Raw | None]:
        """The file of weights and the network to build, or a program and None; (None, None) for ONNX."""
        wanted = self.options.choices.get("weights", "")
        if wanted not in ("", "pt", "ts", "onnx"):
            raise InputError(f"weights={wanted}: pt, ts or onnx is needed.")
        if wanted == "onnx" or self.options.choices.get("onnx"):
            return None, None
        found = weights_of(self.root)
        if wanted and wanted not in found:
            raise InputError(f"{self.root.name} has no models/model.{wanted}.")
        why = ""
        if "pt" in found and wanted != "ts":
            if _is_program(found["pt"]):
                return found["pt"], None
            definition, why = self._definition()
            if definition is not None:
                return found["pt"], definition
        if "ts" in found and wanted != "pt":
            return found["ts"], None
        if why and not any(self.root.rglob("*.onnx")):
            raise ModelError(
                f"{found['pt'].name} holds weights only, and the network cannot be built: {why}. Give the bundle with "
                "model.ts, or export the network to ONNX."
            )
        return None, None

    def _definition(self) -> tuple[Raw | None, str]:
        why = "no configuration names a network"
        for config in (self.config, self.training):
            for name in ("network_def", "network", "net", "model"):
                item = config.get(name)
                if item is None or isinstance(item, Code):
                    continue
                found, why = network_definition(item, NETWORKS)
                if found is not None:
                    return found, ""
        return None, why

    def _patch(self, before: Preprocessing, ours: Raw) -> tuple[list[int], bool]:
        """(size x, y and z that the network is traced with, whether it can take no other)."""
        if ours["mode"] == "sliding_window":
            return list(reversed(ours["patch"]))[3 - self.dims :], True
        size: list[int | None] = [None] * 3
        for step in before.steps:
            if step["step"] in ("resize_within", "crop_centre", "pad") and step.get("size"):
                size = [new if new is not None else old for new, old in zip(step["size"], size, strict=True)]
        if all(size[: self.dims]):
            last = next((s for s in reversed(before.steps) if s["step"] in ("resize_within", "crop_centre")), None)
            return [int(n or 0) for n in reversed(size[: self.dims])], last is not None
        shape = [n if isinstance(n, int) else 64 for n in self.given.get("spatial_shape", [64] * self.dims)]
        return shape, False

    # -- manifest -------------------------------------------------------------------------------------------

    def _manifest(
        self, before: Preprocessing, after: Postprocessing, ours: Raw, channels: list[Raw], names: list[str],
        activation: str, limit: float, converted: Converted,
    ) -> Raw:  # fmt: skip
        metadata, model = self.metadata, converted.model
        title = str(metadata.get("name") or metadata.get("task") or self.root.name)
        classes = named_classes(names)
        if activation == "sigmoid" and limit != 0.5:
            classes = [{**c, "threshold": limit} for c in classes]
        logits = not _ends_active(model)
        output: Raw = {"activation": activation, "logits": logits}
        restore = after.restore if logits or after.restore != "logits" else "probabilities"
        output |= {"way_back": "steps", "restore": restore}
        onnx_tidy.open_batch(model)
        return manifest_of(
            plain_id(title), title, "segmentation", model, self.dims,
            version=str(metadata.get("version", "1.0.0")),
            source=str(metadata.get("data_source") or "MONAI bundle"),
            license=self._licence(),
            card={
                "description": str(metadata.get("description", "")),
                "intended_use": str(metadata.get("intended_use") or "Research only."),
                "training_data": str(metadata.get("data_source", "")),
                "limitations": list(self.notes),
                "figures": {str(k): str(v) for k, v in (metadata.get("eval_metrics") or {}).items()},
                "citation": "; ".join(str(r) for r in metadata.get("references", [])),
            },
            channels=channels,
            preprocessing=before.steps,
            inference=ours, output=output, classes=classes,
            postprocessing=_cleaning(after.cleaning, classes),
        )  # fmt: skip

    def _licence(self) -> str:
        for key in ("license", "licence"):
            if self.metadata.get(key):
                return str(self.metadata[key])
        text = next((f for f in (self.root / "LICENSE", self.root / "docs" / "LICENSE") if f.is_file()), None)
        if text is not None:
            with text.open(encoding="utf-8", errors="replace") as file:
                first = next((line.strip() for line in file if line.strip()), "")
            return f"{first[:80]} (the bundle's LICENSE)" if first else "see the bundle"
        return "see the bundle"


def _is_program(path: Path) -> bool:
    """Whether a ``.pt`` file is TorchScript and not a checkpoint."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in n or n.endswith("constants.pkl") for n in archive.namelist())


def _cleaning(steps: list[Raw], classes: list[Raw]) -> list[Raw]:
    made = []
    for step in steps:
        labels = step.pop("labels")
        names = [c["name"] for c in classes if labels is None or c["value"] in labels]
        made.append({**step, "segments": names})
    return made


def _ends_active(model: onnx.ModelProto) -> bool:
    name = model.graph.output[0].name
    return any(name in node.output and node.op_type in ("Softmax", "Sigmoid") for node in model.graph.node)
