"""Seconds of each stage of a run, and end-to-end time as a ratio to the bare network, for 2D and 3D models.

The bare network is the engine that ran, ONNX Runtime or OpenVINO, with its defaults, on exactly the tensors that the
run fed, in the same process, taken alternately with the runs. Small models run on both engines, large networks on the
one that MedSeg chooses. The shipped models run on phantoms, real models where the real test data is
(`support.real_data`); `table` has these rows in its table.

Both keep their network open, as the worker and a batch do; the seconds of opening are those of the first run. Ratios of
processor time are told beside those of the clock: they vary less where others use the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
from random_networks import noise, residual_unet_3d, unet_2d

from medseg import Volume, load_model, phantoms, read_volume, run
from medseg.engine import openvino_engine
from medseg.engine.session import Session
from medseg.engine.session_cache import SessionCache
from medseg.model.package import Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.real_data import REAL_DATA

#: Seconds of all runs of a case, about: at most; and up to which a short case is run more often than asked for.
LONG, SHORT = 240.0, 12.0
#: Seconds before each measurement, in which the threads of the other side stop waiting for work (they spin).
REST = 0.05
STAGES = ("read", "prepare", "open", "infer", "restore", "clean", "measure")


class Recording:
    """Opens real sessions and keeps the tensors of the last run, in the order in which they were made."""

    def __init__(self) -> None:
        self.feeds: list[dict[str, Any]] = []

    def open(self, *args: Any, **options: Any) -> Session:
        session = Session.open(*args, **options)
        real, inside = session.run, threading.local()

        def keep(feeds: dict[str, Any]) -> dict[str, Any]:
            if getattr(inside, "here", False):  # the first input is run anew by the engine that was chosen
                return real(feeds)
            self.feeds.append(feeds)
            inside.here = True
            try:
                return real(feeds)
            finally:
                inside.here = False

        session.run = keep  # type: ignore[method-assign]
        return session


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock and of processor time, and what ``work`` gave."""
    time.sleep(REST)
    started, spent = time.perf_counter(), time.process_time()
    given = work()
    return time.perf_counter() - started, time.process_time() - spent, given


Bare = Callable[[dict[str, Any]], Any]


def bare_onnxruntime(model: Model) -> Bare:
    """Plain ONNX Runtime."""
    network = onnxruntime.InferenceSession(str(model.onnx_path), providers=["CPUExecutionProvider"])
    return lambda feed: network.run(None, feed)


def bare_openvino(model: Model, feed: dict[str, Any]) -> Bare:
    """Plain OpenVINO, compiled for the sizes of ``feed``."""
    import openvino

    core = openvino.Core()
    read = core.read_model(str(model.onnx_path))
    read.reshape({port: openvino.PartialShape(list(feed[port.get_any_name()].shape)) for port in read.inputs})
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(read, "CPU", settings).create_infer_request()
    return lambda given: request.infer(given, share_inputs=True, share_outputs=True)


def measure(name: str, model: Model, volume: Volume, runs: int, target: float, engine: str) -> dict[str, Any]:
    """Print and return the medians over ``runs`` runs, each followed by the bare network on the same tensors.

    ``engine``: ``onnxruntime``, or ``auto`` for the one that MedSeg chooses. More runs where one takes a fraction of a
    second, fewer where one takes minutes.
    """
    # OpenVINO in the run alone would flatter the ratio, in the bare network alone the other way round.
    os.environ["MEDSEG_ENGINE"] = engine
    recording, kept = Recording(), SessionCache()
    first = run(model, volume, device="cpu", open_session=recording.open).provenance["seconds"]
    warm = run(model, volume, device="cpu", open_session=kept.open).provenance
    if warm["provider"].startswith("OpenVINO"):  # the last slices, fewer, are another network to it
        each = {sizes(feed): feed for feed in recording.feeds}
        networks = {size: bare_openvino(model, feed) for size, feed in each.items()}
    else:
        networks = dict.fromkeys(map(sizes, recording.feeds), bare_onnxruntime(model))
    for feed in {sizes(feed): feed for feed in recording.feeds}.values():
        networks[sizes(feed)](feed)
    whole, bare, stages = [], [], []
    seconds = 2 * (warm["seconds"]["total"] + REST)
    runs = max(1, min(max(runs, int(SHORT / seconds)), int(LONG / seconds)))
    for _ in range(runs):
        *seconds, result = timed(lambda: run(model, volume, device="cpu", open_session=kept.open))
        whole.append(seconds)
        bare.append(timed(lambda: [networks[sizes(feed)](feed) for feed in recording.feeds])[:2])
        stages.append({**result.provenance["seconds"], "open": first.get("open", 0.0)})
    kept.clear()
    print(f"{name}: {volume.grid}, {len(recording.feeds)} network call(s), {warm['provider']}")
    for stage in STAGES:
        if any(stage in s for s in stages):
            once = " (once)" if stage == "open" else ""
            print(f"  {stage:<10}{statistics.median(s.get(stage, 0.0) for s in stages):8.3f} s{once}")
    total, alone = (statistics.median(seconds for seconds, _ in rows) for rows in (whole, bare))
    print(f"  {'total':<10}{total:8.3f} s   bare network {alone:.3f} s")
    ratios, by_cpu = (sorted(w[n] / b[n] for w, b in zip(whole, bare, strict=True)) for n in (0, 1))
    print(
        f"  end-to-end / bare network: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}), "
        f"of processor time {statistics.median(by_cpu):.2f} ({by_cpu[0]:.2f} to {by_cpu[-1]:.2f}), "
        f"target at most {target}: {'met' if statistics.median(ratios) <= target else 'missed'}\n",
        flush=True,
    )
    return {
        "name": name,
        "target": target,
        "engine": warm["provider"],
        "runs": runs,
        "calls": len(recording.feeds),
        "seconds": {s: statistics.median(one.get(s, 0.0) for one in stages) for s in STAGES},
        "total": total,
        "bare": alone,
        "ratio": {"median": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1]},
        "cpu_ratio": {"median": statistics.median(by_cpu), "least": by_cpu[0], "greatest": by_cpu[-1]},
    }


def sizes(feed: dict[str, Any]) -> tuple[Any, ...]:
    """The sizes of a network's inputs."""
    return tuple((name, array.shape) for name, array in sorted(feed.items()))


def real(name: str, image: str) -> tuple[Model, Volume]:
    """A real model and an image for it, of the real test data."""
    manifest = Path(__file__).resolve().parents[1] / "real_models" / f"{name}.json"
    model = load_model(manifest, weights=REAL_DATA / "models" / name / "model.onnx")
    return model, read_volume(REAL_DATA / "images" / image)


def rows(runs: int, folder: Path, small: bool = False) -> list[dict[str, Any]]:
    """Measure all models that are there. ``folder``: for the large networks of random weights, which are made there."""
    Case = tuple[str, float, tuple[str, ...], Callable[[], tuple[Model, Volume]]]
    both, chosen = ("onnxruntime", "auto"), ("auto",)
    slices, size = (4, (128, 128, 96)) if small else (40, (160, 160, 140))
    cases: list[Case] = [
        ("ich-compact", 1.15, both, lambda: (load_model("ich-compact"), phantoms.head_ct(7).volume)),
        ("cmb-compact", 1.15, both, lambda: (load_model("cmb-compact"), phantoms.swi(5).volume)),
        ("2D U-Net of 31 M, slices of 256", 1.10, chosen, lambda: (
            load_model(unet_2d(folder / "bare-2d", 64)), read_volume(noise(folder / "2d.nrrd", (slices, 256, 256))))),
        ("3D residual U-Net, windows of 96^3", 1.10, chosen, lambda: (
            load_model(residual_unet_3d(folder / "bare-3d", 32, 96)),
            read_volume(noise(folder / "3d.nrrd", size[::-1])))),
    ]  # fmt: skip
    if REAL_DATA.is_dir():
        cases += [
            ("lungct-unet-small", 1.15, both, lambda: real("lungct-unet-small", "lung-ct/slice.dcm")),
            ("hippodeep-head", 1.15, both, lambda: real("hippodeep-head", "t1/t1_1.75mm_LAS.nii.gz")),
            ("meshnet-gwm-light", 1.15, chosen, lambda: real("meshnet-gwm-light", "t1/t1_conformed_256.nii.gz")),
            ("MeshNet (meshnet-gwm), 256^3", 1.05, chosen, lambda: real("meshnet-gwm", "t1/t1_conformed_256.nii.gz")),
        ]
    found = []
    for name, target, engines, made in cases:
        model, volume = made()
        for engine in engines if openvino_engine.installed() else engines[:1]:
            found.append(measure(name, model, volume, runs, target, engine))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    with tempfile.TemporaryDirectory() as name:
        rows(parser.parse_args().runs, Path(name))


if __name__ == "__main__":
    main()
