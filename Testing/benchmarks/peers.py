"""MedSeg and the programs that people use, taken alternately in one run: seconds of both, their ratio, equal labels.

Each case makes both sides ready, lets each run once, then times them in turn, so that other work on the machine meets
both. The others run in a child process of their own environment (`peers_child`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from limits import operations, peak
from random_networks import noise, package_of, unet_2d

from medseg import Volume, load_model, read_volume, run
from medseg.engine import lower_precision, openvino_engine
from medseg.engine.session_cache import SessionCache
from medseg.geometry.grid import Grid
from medseg.library.importer import ImportOptions, import_model
from medseg.monitor import Monitor
from medseg.pipeline.infer import window_plan
from medseg.pipeline.preprocess import prepare

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.nnunet_onnx import plain_unet, read_weights
from support.real_data import REAL_DATA

NNUNET = REAL_DATA / "nnunet/Dataset901_T1/nnUNetTrainer__nnUNetPlans__3d_fullres"
HEAD = REAL_DATA / "images/t1/t1_conformed_256.nii.gz"
#: Seconds of all counted rounds of a case, about.
LONG = 360.0
#: Labels that must be equal before a lower precision than float32 is used.
LABELS_EQUAL = lower_precision.EQUAL


@dataclass
class Row:
    """A line of the table. ``value``: seconds, or a ratio. ``target``: at least or at most (``least``).

    ``why``: why it was skipped or missed. ``more``: further figures; ``refused`` in it: faster, but MedSeg does not
    use it, since labels differ too much. ``part``: of the table; ``when``: the day and the machine's load then.
    """

    what: str
    target: float | None
    least: bool
    unit: str = ""
    value: float | None = None
    spread: tuple[float, float] | None = None
    why: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    part: str = ""
    when: str = ""

    @property
    def verdict(self) -> str:
        """met, missed, refused, skipped, or nothing where there is no target."""
        if self.value is None:
            return "skipped"
        if self.more.get("refused"):
            return "refused"
        if self.target is None:
            return ""
        return "met" if (self.value >= self.target if self.least else self.value <= self.target) else "missed"


class Peer:
    """The other programs' process. ``python``: the interpreter of their environment."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._folder = folder
        child = Path(__file__).with_name("peers_child.py")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [str(python), str(child)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            stderr=(folder / "peers.log").open("a"),
        )  # fmt: skip

    def ask(self, **content: Any) -> dict[str, Any]:
        """Its answer; `RuntimeError` with its words where it fails."""
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with contextlib.suppress(OSError):  # it ended
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"it ended; see {self._folder / 'peers.log'}"}
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def labels(self) -> tuple[float, Any]:
        """Seconds of a run, and its labels (K, J, I)."""
        path = self._folder / "labels.npy"
        seconds = float(self.ask(do="run", labels=str(path))["seconds"])
        return seconds, np.load(path)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(60)


def against(
    peer: Peer, what: str, ours: dict[str, Callable[[], Any]], targets: dict[str, float], runs: int
) -> list[Row]:
    """A row for each of ``ours`` (by engine): how many times as fast as what ``peer`` is ready for.

    The first round makes both sides ready, ``runs`` rounds are counted; fewer where a round takes minutes, and only the
    first where it takes longer than `LONG`.
    """
    mine: dict[str, list[float]] = {name: [] for name in ours}
    theirs: list[float] = []
    labels: dict[str, Any] = {}
    wanted, done = None, 0
    while done < runs + 1:
        began = time.perf_counter()
        seconds, wanted = peer.labels()
        theirs.append(seconds)
        for name, work in ours.items():
            started = time.perf_counter()
            labels[name] = work()
            mine[name].append(time.perf_counter() - started)
        runs = min(runs, int(LONG / (time.perf_counter() - began)))
        done += 1
    # The first round counts only where there is no other.
    first = min(1, len(theirs) - 1)
    rows = []
    for name, seconds_each in mine.items():
        ratios = sorted(t / s for t, s in zip(theirs[first:], seconds_each[first:], strict=True))
        equal = float(np.mean(labels[name] == wanted))
        more: dict[str, Any] = {
            "ours_s": round(statistics.median(seconds_each[first:]), 3),
            "theirs_s": round(statistics.median(theirs[first:]), 3), "labels_equal": equal, "runs": len(ratios),
        }  # fmt: skip
        if name.startswith("bfloat16") and equal < LABELS_EQUAL:
            more["refused"] = True
        spread = (round(ratios[0], 2), round(ratios[-1], 2))
        rows.append(Row(f"{what}, {name}", targets[name], True, "times", round(statistics.median(ratios), 2), spread,
                        more=more))  # fmt: skip
    return rows


def _engines(float32: float, bfloat16: float) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Options of a run, and targets, by name."""
    chosen: dict[str, dict[str, Any]] = {"float32, engine chosen by itself": {"device": "auto"}}
    if openvino_engine.installed() and "bfloat16" in openvino_engine.fast_precisions():
        chosen["bfloat16"] = {"device": "openvino:cpu", "precision": "bfloat16"}
    return chosen, {"float32, engine chosen by itself": float32, "bfloat16": bfloat16}


def _ours(model: Any, volume: Callable[[], Volume], options: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Our runs by engine; each keeps its network open, as the other program does."""

    def one(chosen: dict[str, Any]) -> Callable[[], Any]:
        kept = SessionCache()
        return lambda: run(model, volume(), open_session=kept.open, **chosen, **more).layers[0].labels

    return {name: one(chosen) for name, chosen in options.items()}


def limited(rows: list[Row], network: Path, shape: tuple[int, ...], count: int) -> list[Row]:
    """``rows`` with the ratio that this processor's peak would allow, for ``count`` inputs of ``shape`` alone."""
    for row in rows:
        precision = "bfloat16" if row.what.endswith("bfloat16") else "float32"
        least = count * operations(network, shape) / peak(precision)
        row.more |= {"limit": round(row.more["theirs_s"] / least, 2), "peak_gflops": round(peak(precision) / 1e9)}
    return rows


def nnunet(peer: Peer, folder: Path, runs: int, mirror: bool) -> list[Row]:
    """A real nnU-Net on a whole head, file to labels (ours with the tables)."""
    source = folder / f"nnunet-{mirror}"
    source.mkdir()
    for name in ("plans.json", "dataset.json"):
        shutil.copy(NNUNET / name, source / name)
    plan = json.loads((source / "plans.json").read_text())["configurations"]["3d_fullres"]
    onnx.save(plain_unet([read_weights(NNUNET / "fold_0/checkpoint_final.pth")], plan), str(source / "model.onnx"))
    made = import_model(
        source, None, folder / f"package-{mirror}", options=ImportOptions(choices={"onnx": "model.onnx"})
    )
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["inference"]["mirror_axes"] = [0, 1, 2]
    (made / "manifest.json").write_text(json.dumps(manifest))
    peer.ask(do="nnunet", folder=str(NNUNET), image=str(HEAD), mirror=mirror)
    options, targets = _engines(2.5, 5.0)
    model = load_model(made)
    ours = _ours(model, lambda: read_volume(HEAD), options, mirror=mirror)
    words = "on" if mirror else "off"
    rows = against(peer, f"nnU-Net's predictor, whole head, mirroring {words}", ours, targets, runs)
    patch = tuple(manifest["inference"]["patch"])[::-1]
    size = prepare(model.manifest, [read_volume(HEAD)], monitor=Monitor()).grid.shape
    calls = len(window_plan(size, patch, 0.5, manifest["inference"]["placement"])) * (8 if mirror else 1)
    return limited(rows, model.onnx_path, (1, 1, *patch), calls)


def monai(peer: Peer, folder: Path, runs: int, small: bool) -> list[Row]:
    """MONAI's residual U-Net in windows of 96^3."""
    size = (128, 128, 96) if small else (256, 256, 180)
    network, array = folder / "residual.onnx", folder / "monai.npy"
    volume = read_volume(noise(folder / "monai.nrrd", size[::-1]))
    values = (volume.array - volume.array.mean()) / volume.array.std()
    np.save(array, values.astype(np.float32))
    peer.ask(do="monai", array=str(array), patch=96, onnx=str(network))
    plan = {"mode": "sliding_window", "patch": [96] * 3, "overlap": 0.5, "blending": "gaussian_floor"}
    model = load_model(package_of(folder / "residual", network, "y", "NCDHW", plan, preprocessing=[]))
    given = Volume(values.astype(np.float32), Grid(size, (1, 1, 1), (0, 0, 0), np.eye(3)), "MR", "noise")
    options, targets = _engines(2.5, 5.0)
    what = f"MONAI's sliding_window_inference, residual U-Net, {'x'.join(map(str, size))}"
    rows = against(peer, what, _ours(model, lambda: given, options), targets, runs)
    calls = len(window_plan(size[::-1], (96, 96, 96), 0.5))
    return limited(rows, model.onnx_path, (1, 1, 96, 96, 96), calls)


def keras(peer: Peer, folder: Path, runs: int, small: bool) -> list[Row]:
    """A 2D U-Net of 31 M parameters, slice by slice."""
    slices = 4 if small else 40
    source = unet_2d(folder / "unet-2d", 64)
    path = noise(folder / "keras.nrrd", (slices, 256, 256))
    model, array = load_model(source), folder / "keras.npy"
    np.save(array, np.asarray(prepare(model.manifest, [read_volume(path)], monitor=Monitor()).array)[0])
    peer.ask(do="keras", array=str(array), onnx=str(model.onnx_path))
    options, targets = _engines(1.5, 4.0)
    ours = _ours(model, lambda: read_volume(path), options)
    rows = against(peer, f"Keras predict, 2D U-Net of 31 M, {slices} slices of 256", ours, targets, runs)
    return limited(rows, model.onnx_path, (1, 1, 256, 256), slices)


#: Parts of the table that need the other programs, and what each row is called where it cannot be measured.
PROGRAMS = {
    "nnunet": "nnU-Net's predictor, whole head, mirroring off",
    "mirrored": "nnU-Net's predictor, whole head, mirroring on",
    "monai": "MONAI's sliding_window_inference",
    "keras": "Keras predict",
}


def compare(name: str, python: Path | None, folder: Path, runs: int, small: bool) -> list[Row]:
    """The rows of ``name`` (of `PROGRAMS`); those that cannot be measured say why."""
    what = PROGRAMS[name]
    work: Callable[[Peer], list[Row]] = {
        "nnunet": lambda p: nnunet(p, folder, runs, False),
        "mirrored": lambda p: nnunet(p, folder, runs, True),
        "monai": lambda p: monai(p, folder, runs, small),
        "keras": lambda p: keras(p, folder, runs, small),
    }[name]
    missing = _no_head() if name in ("nnunet", "mirrored") else ""
    if name == "mirrored" and small:
        missing = missing or "takes eight times as long; not with --small"
    if python is None:
        missing = "no environment with the other programs (--peers)"
    if missing:
        return [Row(what, None, True, why=missing)]
    assert python is not None
    peer = Peer(python, folder)
    # To measure what a refused precision would take as well; that it is refused is told by the labels.
    lower_precision.EQUAL = 0.0
    try:
        return work(peer)
    except Exception as error:  # a row that fails must not cost the others
        return [Row(what, None, True, why=f"{type(error).__name__}: {error}"[:300])]
    finally:
        lower_precision.EQUAL = LABELS_EQUAL
        peer.close()


def _no_head() -> str:
    return "" if NNUNET.is_dir() and HEAD.is_file() else "the real test data is not here (MEDSEG_TEST_DATA)"
