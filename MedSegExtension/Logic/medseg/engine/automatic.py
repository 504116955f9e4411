"""Which engine runs a network fastest on this processor: measured once on a real input, remembered, never at the cost
of the result.

The first input of a network runs on ONNX Runtime, whose result is used, and on OpenVINO. Where OpenVINO is faster and
their decisions agree in at least 99.99 % of the voxels, it runs what follows; so it does from then on, on this machine.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from ..model.manifest.schema import Manifest
from ..model.package_files import cache_folder
from . import openvino_engine, openvino_rewriting
from .machine import cpu_name, physical_cores

Array = npt.NDArray[Any]
#: Decisions that must agree; how much faster an engine must be for the change to be worth it.
AGREEMENT, WORTH = 0.9999, 1.15
_SCORES_DIFFER = 1e-3
#: Seconds of a run that is not repeated for the sake of its time.
_LONG = 5.0
_FILE = "engines.json"
#: Told where an input is not compared.
TOO_LARGE = "ONNX Runtime runs this network: its input is too large to hold it in two engines at once."
#: Set to ``onnxruntime`` it keeps all runs on ONNX Runtime, as ``precision="float32"`` does for one run.
VARIABLE = "MEDSEG_ENGINE"


@dataclass(frozen=True)
class Choice:
    """``engine``: ``openvino`` or ``onnxruntime``. ``seconds``: of one input on each. ``agreement``: 0 to 1.

    ``why``: in words, where OpenVINO is not taken.
    """

    engine: str
    seconds: dict[str, float]
    agreement: float
    why: str = ""


def wanted(kind: str, precision: str) -> bool:
    """Whether engines are to be compared: on the processor, where nobody asked for exactness, and there are two."""
    return (
        kind == "cpu"
        and precision == "auto"
        and os.environ.get(VARIABLE, "auto").lower() != "onnxruntime"
        and openvino_engine.installed()
    )


def telling(feeds: Mapping[str, Array]) -> bool:
    """Whether an input shows anything: on air alone any two engines agree."""
    return any(
        float(np.ptp(array)) > 0 and float(array.std()) > 1e-3 * float(np.ptp(array)) for array in feeds.values()
    )


def key(sha256: str, threads: int | None, feeds: Mapping[str, Array]) -> str:
    """What a choice holds for: network, sizes of its inputs, processor, cores, versions."""
    sizes = [(name, array.shape) for name, array in sorted(feeds.items())]
    versions = (onnxruntime.__version__, openvino_engine.version(), openvino_rewriting.REVISION)
    facts = (sha256, sizes, cpu_name(), threads or physical_cores(), *versions)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def remembered(key: str) -> Choice | None:
    """The choice that was made before, None where there is none or the file is damaged."""
    try:
        raw = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))[key]
        return Choice(str(raw["engine"]), dict(raw["seconds"]), float(raw["agreement"]), str(raw["why"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(key: str, choice: Choice) -> None:
    """Keep a choice; where that cannot be written it is made again next time."""
    path = cache_folder() / _FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    new = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        new.write_text(json.dumps({**known, key: asdict(choice)}, indent=1), encoding="utf-8")
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)


def agreement(manifest: Manifest, one: Mapping[str, Array], other: Mapping[str, Array]) -> float:
    """The share of decisions that are the same in two results of one network, 0 where values are no numbers.

    Decisions are those of the manifest: the greatest channel, each class's threshold, the label; scores of a
    classification must agree within 0.001.
    """
    first, second = one[manifest.output.tensor], other[manifest.output.tensor]
    if first.shape != second.shape or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return 0.0
    if manifest.task == "classification":
        return float(np.abs(first - second).max(initial=0.0) <= _SCORES_DIFFER)
    pairs = zip(_decisions(manifest, first), _decisions(manifest, second), strict=True)
    return min((float((a == b).mean()) for a, b in pairs if a.size), default=1.0)


def _decisions(manifest: Manifest, values: Array) -> list[Array]:
    """What is decided of ``values``, the network's output in its own layout."""
    output = manifest.output
    axis = output.layout.index("C") if "C" in output.layout else None
    if output.activation == "labels" or axis is None:
        return [np.rint(values)]
    if output.activation == "softmax":
        return [values.argmax(axis=axis)]
    decided = []
    for c in manifest.classes:
        level = c.threshold if not output.logits else math.log(c.threshold / (1 - c.threshold))
        if output.dequantise is None and c.sigmoid_channel < values.shape[axis]:
            decided.append(values.take(c.sigmoid_channel, axis=axis) >= level)
    return decided or [np.rint(values)]


def measured(
    manifest: Manifest,
    reference: Callable[[], dict[str, Array]],
    other: Callable[[], dict[str, Array]],
) -> tuple[Choice, dict[str, Array]]:
    """Time both engines on one input and compare; the choice, and the result of ``reference``.

    Each runs twice, since the first run of an engine makes room for the others; once where it takes long.
    """
    seconds, results = {}, {}
    for name, run in (("onnxruntime", reference), ("openvino", other)):
        started = time.perf_counter()
        results[name] = run()
        seconds[name] = time.perf_counter() - started
        if seconds[name] < _LONG:
            started = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    share = agreement(manifest, results["onnxruntime"], results["openvino"])
    faster = seconds["onnxruntime"] / max(seconds["openvino"], 1e-9)
    why = ""
    if share < AGREEMENT:
        why = f"OpenVINO decides {100 * (1 - share):.2g} % of the voxels otherwise"
    elif faster < WORTH:
        why = f"OpenVINO is {faster:.2f} times as fast"
    choice = Choice("onnxruntime" if why else "openvino", seconds, share, why)
    return choice, results["onnxruntime"]


def words(choice: Choice, more: str = "") -> str:
    """The choice as a sentence for the user, with what OpenVINO has to say of the network."""
    if choice.engine == "onnxruntime":
        return f"ONNX Runtime runs this network: {choice.why}."
    faster = choice.seconds["onnxruntime"] / max(choice.seconds["openvino"], 1e-9)
    return (
        f"OpenVINO runs this network, {faster:.1f} times as fast as ONNX Runtime here; on its first input "
        f"{100 * choice.agreement:.6g} % of the decisions were the same. The precision float32 keeps to ONNX Runtime. "
        f"{more}"
    ).strip()
