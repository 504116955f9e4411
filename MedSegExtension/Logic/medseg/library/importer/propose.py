"""A manifest for an ONNX model of which nothing is known but its file: what can be read, what is guessed, what to ask.

`propose` reads shapes, types, operators and metadata; it asks nobody and writes nothing. Command line and panel put its
questions one by one and give the answers to `Proposal.answered`, which returns the manifest as far as it is known.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx

from ...errors import InputError, ModelError, damage_is
from ...model.onnx_check import check_safe, embedded_manifest, read_onnx
from ...model.package import parse_manifest, read_json
from . import onnx_tidy
from .answers import APPLY, DISPLAY_1, DISPLAY_255, PALETTE, WINDOWS, ordered
from .input_scale import wanted_scale
from .size_probe import SizeProbe

AnswerKind = Literal["choice", "text", "numbers", "names"]


@dataclass(frozen=True)
class Question:
    """One open question. ``id``: key of the answer. ``default``: as text; "" for none. ``why``: what depends on it."""

    id: str
    text: str
    kind: AnswerKind
    default: str = ""
    choices: tuple[str, ...] = ()
    why: str = ""


@dataclass
class Proposal:
    """``manifest``: complete and valid with all defaults. ``guesses``: what was assumed, in sentences."""

    manifest: dict[str, Any]
    questions: list[Question] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)

    def answered(self, answers: dict[str, str]) -> dict[str, Any]:
        """The manifest with ``answers`` (question id -> text; what is missing takes its default).

        Raises `InputError` that says which answer is not understood, `ModelError` where the whole does not fit.
        """
        raw = copy.deepcopy(self.manifest)
        known = {q.id: q for q in self.questions}
        unknown = sorted(set(answers) - set(known))
        if unknown:
            raise InputError(f"{unknown[0]!r} was not asked; the questions are: {', '.join(known)}.")
        for id, question in known.items():
            text = answers.get(id, "").strip() or question.default
            if question.choices and text not in question.choices:
                raise InputError(f"{id}: {text!r} is not one of {', '.join(question.choices)}.")
            APPLY[id](raw, text)
        raw["preprocessing"] = ordered(raw["preprocessing"])
        raw["card"]["assumptions"] = [*self.guesses, *(f"{q}: {text}" for q, text in self.taken(answers))]
        parse_manifest(raw, "proposal")
        return raw

    def taken(self, answers: dict[str, str]) -> list[tuple[str, str]]:
        """Each question's id with the answer that holds, and whether it was given or is the proposal's own."""
        found = []
        for question in self.questions:
            given = answers.get(question.id, "").strip()
            text = given or question.default or "(nothing)"
            found.append((question.id, f"{text} ({'as answered' if given else 'proposed, not confirmed'})"))
        return found


def propose(path: Path) -> Proposal:
    """What can be said of the ONNX file ``path``. `ModelError` for unsafe or damaged files and for networks that MedSeg
    cannot run (several dynamic inputs, no image input)."""
    path = Path(path)
    model = read_onnx(path)
    check_safe(model, path, path.parent)
    text = embedded_manifest(model)
    if text is not None:
        raw = read_json(text.encode(), path.name)
        raw["weights"] = {"file": "model.onnx"}
        parse_manifest(raw, path.name)
        return Proposal(raw, [], [f"{path.name} holds a manifest of its own, which is taken as it is."])
    with damage_is(ModelError, path.name):
        return _Reader(model, path).proposal()


class _Reader:
    """Works out one proposal."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self.model, self.path = model, path
        self.guesses: list[str] = []
        self.questions: list[Question] = []
        self.metadata = {e.key.lower(): e.value for e in model.metadata_props}

    def guess(self, sentence: str) -> None:
        self.guesses.append(sentence)

    def ask(self, *question: Any, **more: Any) -> None:
        self.questions.append(Question(*question, **more))

    def proposal(self) -> Proposal:
        inputs = onnx_tidy.real_inputs(self.model)
        images = [v for v in inputs if len(onnx_tidy.sizes(v) or ()) in (4, 5)]
        if len(inputs) != 1 or not images:
            shapes = ", ".join(f"{v.name} {onnx_tidy.sizes(v)}" for v in inputs)
            raise ModelError(
                f"{self.path.name}: a manifest can be proposed for a network with one image input of 4 or 5 axes; this "
                f"one has {shapes}. Write its manifest by hand."
            )
        value = images[0]
        shape = onnx_tidy.sizes(value) or ()
        layout, channels, space = self._layout(value.name, shape)
        dims = len(space)
        steps = self._space(dims, space)
        output, activation, logits, count, out_layout, task = self._output(dims, layout)
        inference = self._inference(dims, space) | self._tried(layout, channels, space, output, task, shape[0])
        quantised = self._quantisation(output)
        several = [f"image {n + 1}" for n in range(channels)]
        raw: dict[str, Any] = {
            "medseg_manifest": 1,
            "id": re.sub(r"[^a-z0-9._-]+", "-", self.path.stem.lower()).strip("-._") or "model",
            "version": "1.0.0",
            "title": self.metadata.get("name") or self.path.stem,
            "task": task,
            "license": self.metadata.get("license") or "unknown",
            "source": self.metadata.get("source") or self.path.name,
            "card": {
                "description": self.metadata.get("description") or self.model.doc_string or "",
                "intended_use": "Research only.",
                "limitations": ["This manifest was proposed from the ONNX file; confirm it against a known result."],
            },
            "weights": {"file": "model.onnx"},
            "channels": [{"name": name} for name in (["image"] if channels in (1, 3) else several)],
            "preprocessing": steps,
            "inputs": [{"name": value.name, "layout": layout, **self._dtype(value)}],
            "inference": inference,
            "output": {"tensor": output, "layout": out_layout, "activation": activation, "logits": logits, **quantised},
            "classes": self._classes(count, activation, task),
        }  # fmt: skip
        if channels == 3:
            raw["preprocessing"].append({"step": "to_rgb"})
            self.guess("The input has three channels: one volume is taken, repeated as red, green and blue.")
        self._ask_intensity(value.name, channels)
        self._ask_modality()
        self.ask(
            "license", "What is the model's licence?", "text", raw["license"], why="It is shown on the model's card."
        )
        return Proposal(raw, self.questions, self.guesses)

    # -- input ----------------------------------------------------------------------------------------------

    def _layout(self, name: str, shape: onnx_tidy.Sizes) -> tuple[str, int, list[int | None]]:
        first, last = shape[1], shape[-1]
        dims = len(shape) - 2
        small = [n is not None and n <= 8 for n in (first, last)]
        if small[1] and not small[0]:
            layout, channels, space = ("NHWC" if dims == 2 else "NDHWC"), last, list(shape[1:-1])
        elif small[0] or first is not None:
            layout, channels, space = ("NCHW" if dims == 2 else "NCDHW"), first, list(shape[2:])
        else:
            layout, channels, space = ("NCHW" if dims == 2 else "NCDHW"), 1, list(shape[2:])
            self.guess(f"The input {name!r} does not state its channels; one is assumed.")
        self.guess(f"The input {name!r} has the shape {_words(shape)}: read as {layout} with {channels} channel(s).")
        if channels is not None and channels > 8:
            raise ModelError(f"The input {name!r} has {channels} channels; write its manifest by hand.")
        return layout, int(channels or 1), space

    def _dtype(self, value: onnx.ValueInfoProto) -> dict[str, str]:
        kinds = onnx.TensorProto
        names: dict[int, str] = {kinds.FLOAT16: "float16", kinds.UINT8: "uint8", kinds.DOUBLE: "double"}
        name = names.get(value.type.tensor_type.elem_type)
        return {"dtype": name} if name else {}

    def _space(self, dims: int, space: list[int | None]) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        code = "LPS"
        if dims == 3:
            self.ask(
                "orientation",
                "Which anatomical directions do the three axes i, j, k of the volume grow to?",
                "text", code, why="A wrong orientation gives wrong or mirrored labels without any error.",
            )  # fmt: skip
            self.ask(
                "spacing", "Which voxel spacing (mm) was the network trained at? (i j k, or empty to keep the image's)",
                "numbers", self.metadata.get("spacing", ""), why="Networks see sizes in voxels, not in millimetres.",
            )  # fmt: skip
            steps.append({"step": "orient", "code": code})
        else:
            self.ask(
                "plane", "Which slices does the network take?", "choice", "axial",
                ("axial", "coronal", "sagittal", "acquisition"), why="acquisition: as stored, for X-rays and head CT.",
            )  # fmt: skip
        if all(n is not None for n in space):
            fixed = [int(n) for n in reversed(space) if n is not None]
            size = [*fixed, None] if dims == 2 else fixed
            self.ask(
                "fit", f"The network takes images of exactly {_words(reversed(fixed))}. How do images get that size?",
                "choice", "resize", ("resize", "crop_or_pad", *(("sliding_window",) if dims == 3 else ())),
                why="resize changes the scale, crop_or_pad cuts or pads around the middle.",
            )  # fmt: skip
            steps.append({"step": "resize", "size": size})
        return steps

    def _inference(self, dims: int, space: list[int | None]) -> dict[str, Any]:
        if dims == 2:
            return {"mode": "slicewise", "plane": "axial"}
        if any(n is None for n in space):
            self.guess("The space is open: the whole volume is given at once.")
        return {"mode": "whole"}

    def _tried(
        self, layout: str, channels: int, space: list[int | None], output: str, task: str, batch: int | None
    ) -> dict[str, Any]:
        """What running the network on small images shows: the multiple that sizes must be of, whether batches work."""
        opens = any(n is None for n in space)
        if not opens and batch is not None:
            return {}
        probe = SizeProbe(self.path, tuple(space), channels, layout.endswith("C"), output, task == "classification")
        tried = probe.look(self.path.name)
        found: dict[str, Any] = {}
        if opens and tried.multiple is None:
            found["multiple_of"] = 16
            self.guess(f"Which sizes the network takes was not found out: {tried.reason}. Multiples of 16 are assumed.")
        elif opens and tried.multiple == 1:
            self.guess("The network was run on small images: it takes any size.")
        elif opens:
            found["multiple_of"] = tried.multiple
            self.guess(
                f"The network was run on small images: it takes sizes that are multiples of {tried.multiple}; others "
                "are padded."
            )
        if len(space) == 2 and tried.batch is False:
            found["batch"] = 1
            self.guess("Several images at once do not give what each gives alone: one is run at a time.")
        return found

    # -- output ---------------------------------------------------------------------------------------------

    def _output(self, dims: int, layout: str) -> tuple[str, str, bool, int, str, str]:
        outputs = list(self.model.graph.output)
        ranked = [v for v in outputs if len(onnx_tidy.sizes(v) or ()) == dims + 2] or [
            v for v in outputs if len(onnx_tidy.sizes(v) or ()) in (1, 2, dims + 1)
        ]
        if not ranked:
            raise ModelError(f"{self.path.name}: no output is an image, labels or scores; write its manifest by hand.")
        value = ranked[0]
        if len(outputs) > 1:
            self.guess(
                f"Of the outputs {', '.join(v.name for v in outputs)} the first that fits, {value.name!r}, is taken."
            )
        shape = onnx_tidy.sizes(value) or ()
        kinds = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.UINT8)
        whole = value.type.tensor_type.elem_type in kinds
        if len(shape) == dims + 1 or (whole and len(shape) == dims + 2):
            self.guess(f"The output {value.name!r} has the shape {_words(shape)}: ready labels.")
            names = ("NHW" if dims == 2 else "NDHW") if len(shape) == dims + 1 else layout
            return value.name, "labels", False, 1, names, "segmentation"
        if len(shape) <= 2:
            count = int((shape[-1] if len(shape) == 2 else 1) or 1)
            activation, logits = self._activation(value.name, count)
            self.guess(f"The output {value.name!r} has the shape {_words(shape)}: scores of a classification.")
            return value.name, activation, logits, count, "NC" if len(shape) == 2 else "N", "classification"
        last = layout.endswith("C")
        first, end = shape[1], shape[-1]
        if last and end is None and first is not None:
            last = False
        count = int((end if last else first) or 1)
        out = {(2, True): "NHWC", (2, False): "NCHW", (3, True): "NDHWC", (3, False): "NCDHW"}[(dims, last)]
        activation, logits = self._activation(value.name, count)
        return value.name, activation, logits, count, out, "segmentation"

    def _activation(self, tensor: str, count: int) -> tuple[str, bool]:
        """From the last operator: Softmax or Sigmoid in the graph, else logits."""
        nodes = {o: n for n in self.model.graph.node for o in n.output}
        kind, name = "", tensor
        while name in nodes:
            kind = nodes[name].op_type
            if kind not in ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"):
                break
            name = nodes[name].input[0]
        if kind in ("Softmax", "Sigmoid"):
            self.guess(f"The network ends in {kind}: its values are probabilities.")
            return kind.lower(), False
        natural = "sigmoid" if count == 1 else "softmax"
        self.guess(f"The network ends in {kind or 'an unknown operator'}, so its values are taken as logits.")
        self.ask(
            "activation", f"The network's {count} channel(s) have no activation. Which belongs to them?", "choice",
            natural, ("softmax", "sigmoid", "sigmoid, already applied"),
            why="softmax: one class a voxel, channel 0 is background; sigmoid: classes may overlap.",
        )  # fmt: skip
        return natural, True

    def _quantisation(self, tensor: str) -> dict[str, Any]:
        """Scale and zero point of a quantised output, from the operator that makes it."""
        weights = {w.name: w for w in self.model.graph.initializer}
        for node in self.model.graph.node:
            if tensor in node.output and node.op_type == "QuantizeLinear" and {*node.input[1:]} <= set(weights):
                scale, zero = (onnx.numpy_helper.to_array(weights[n]).ravel() for n in node.input[1:3])
                if scale.size == zero.size == 1:
                    self.guess(f"The output {tensor!r} is quantised: scale {scale[0]:g}, zero point {zero[0]}.")
                    return {"dequantise": {"scale": float(scale[0]), "zero_point": int(zero[0])}}
        return {}

    def _classes(self, count: int, activation: str, task: str) -> list[dict[str, Any]]:
        background = activation == "softmax" and task == "segmentation"
        number = 1 if activation == "labels" else max(1, count - background)
        names = _names_in(self.metadata)
        if names and len(names) == number + background:
            names = names[background:]
        if len(names) != number:
            names = [f"Class {n + 1}" for n in range(number)]
        else:
            self.guess(f"The names of the classes are from the file's metadata: {', '.join(names[:8])}.")
        if activation == "labels":
            self.guess("How many labels there are cannot be seen in the file; give all names.")
        self.ask(
            "classes",
            f"What are the names of the {number} class(es), in the network's order"
            + (", without the background" if background else "") + "? (separated by commas)",
            "names", ", ".join(names), why="They become the names of the segments or of the score columns.",
        )  # fmt: skip
        return [
            {"value": n + 1, "name": name, "color": list(PALETTE[n % len(PALETTE)])} for n, name in enumerate(names)
        ]

    # -- values ---------------------------------------------------------------------------------------------

    def _ask_intensity(self, name: str, channels: int) -> None:
        scale = wanted_scale(self.model, name, channels)
        if scale.sentence:
            self.guess(scale.sentence)
        elif channels != 3:
            self.guess("Nothing in the file says how values are scaled before the network; a z-score is proposed.")
        default = {1: DISPLAY_1, 255: DISPLAY_255}.get(scale.highest, DISPLAY_1 if channels == 3 else "zscore")
        self.ask(
            "window", "Which CT windows does the network see? (none for MR and films)", "choice", "none",
            tuple(k for k, v in WINDOWS.items() if v is None or len(v) == channels or len(v) == 1),
            why="A window cuts HU to its range and scales it to 0..1.",
        )  # fmt: skip
        self.ask(
            "intensity", "How are the values scaled before the network?", "choice", default,
            (
                "none", "zscore", "zscore per slice", "minmax", "minmax per slice", DISPLAY_1, DISPLAY_255,
                "divide by 255", "imagenet",
            ),
            why="A network that sees another scale than in training gives meaningless results.",
        )  # fmt: skip

    def _ask_modality(self) -> None:
        self.ask(
            "modality", "Which modality was it trained on? (DICOM codes, separated by commas; empty for any)", "names",
            self.metadata.get("modality", ""), why="Another modality gives a warning.",
        )  # fmt: skip


def _words(shape: Any) -> str:
    return " x ".join("?" if n is None else str(n) for n in shape)


def _names_in(metadata: dict[str, str]) -> list[str]:
    """Class names in the metadata: ``names: {0: 'a', 1: 'b'}`` (as YOLO writes), a JSON list, or commas."""
    text = next((metadata[k] for k in ("names", "classes", "class_names", "labels") if k in metadata), "")
    quoted = re.findall(r"'([^']+)'|\"([^\"]+)\"", text)
    if quoted:
        return [a or b for a, b in quoted]
    return [part.strip() for part in text.strip("[]{}").split(",") if part.strip()]
