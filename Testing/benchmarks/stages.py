"""Seconds of each stage of a run, and end-to-end time as a ratio to the bare network, for a 2D and a 3D model.

The bare network is ONNX Runtime on exactly the tensors that the run fed, in the same process, session options apart
from its defaults none, taken alternately with the runs. The shipped models run on phantoms, and real models where the
real test data is (`support.real_data`); `table` has these rows in its table.

Both keep their network open, as the worker and a batch do; the seconds of opening are those of the first run. Ratios of
processor time are told beside those of the clock: they vary less where others use the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime

from medseg import Volume, load_model, phantoms, read_volume, run
from medseg.engine.session import Session
from medseg.engine.session_cache import SessionCache
from medseg.model.package import Model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.real_data import REAL_DATA

TARGET = 1.15  # end-to-end / bare network, small models
STAGES = ("read", "prepare", "open", "infer", "restore", "clean", "measure")


class Recording:
    """Opens real sessions and keeps the tensors of the last run."""

    def __init__(self) -> None:
        self.feeds: list[dict[str, Any]] = []

    def open(self, *args: Any, **options: Any) -> Session:
        session = Session.open(*args, **options)
        real = session.run

        def keep(feeds: dict[str, Any]) -> dict[str, Any]:
            self.feeds.append(feeds)
            return real(feeds)

        session.run = keep  # type: ignore[method-assign]
        return session


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock and of processor time, and what ``work`` gave."""
    started, spent = time.perf_counter(), time.process_time()
    given = work()
    return time.perf_counter() - started, time.process_time() - spent, given


def bare_run(network: onnxruntime.InferenceSession, feeds: list[dict[str, Any]]) -> None:
    """Plain ONNX Runtime on ``feeds``."""
    for feed in feeds:
        network.run(None, feed)


def measure(name: str, model: Model, volume: Volume, runs: int) -> dict[str, Any]:
    """Print and return the medians over ``runs`` runs, each followed by the bare network on the same tensors."""
    network = onnxruntime.InferenceSession(str(model.onnx_path), providers=["CPUExecutionProvider"])
    recording, kept = Recording(), SessionCache()
    first = run(model, volume, device="cpu", open_session=recording.open).provenance["seconds"]
    run(model, volume, device="cpu", open_session=kept.open)
    bare_run(network, recording.feeds[:1])
    whole, bare, stages = [], [], []
    for _ in range(runs):
        *seconds, result = timed(lambda: run(model, volume, device="cpu", open_session=kept.open))
        whole.append(seconds)
        bare.append(timed(lambda: bare_run(network, recording.feeds))[:2])
        stages.append({**result.provenance["seconds"], "open": first.get("open", 0.0)})
    kept.clear()
    print(f"{name}: {volume.grid}, {len(recording.feeds)} network call(s)")
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
        f"target at most {TARGET}: {'met' if statistics.median(ratios) <= TARGET else 'missed'}\n",
        flush=True,
    )
    return {
        "name": name,
        "calls": len(recording.feeds),
        "seconds": {s: statistics.median(one.get(s, 0.0) for one in stages) for s in STAGES},
        "total": total,
        "bare": alone,
        "ratio": {"median": statistics.median(ratios), "least": ratios[0], "greatest": ratios[-1], "target": TARGET},
        "cpu_ratio": {"median": statistics.median(by_cpu), "least": by_cpu[0], "greatest": by_cpu[-1]},
    }


def rows(runs: int) -> list[dict[str, Any]]:
    """Measure all models that are there."""
    # The ratio is to the bare network on the same engine; OpenVINO in the run alone would flatter it.
    os.environ["MEDSEG_ENGINE"] = "onnxruntime"
    cases: list[tuple[str, Callable[[], Model], Callable[[], Volume]]] = [
        ("2D ich-compact", lambda: load_model("ich-compact"), lambda: phantoms.head_ct(7).volume),
        ("3D cmb-compact", lambda: load_model("cmb-compact"), lambda: phantoms.swi(5).volume),
    ]
    if REAL_DATA.is_dir():
        manifests = Path(__file__).resolve().parents[1] / "real_models"
        for name, image in (
            ("lungct-unet-small", "lung-ct/slice.dcm"),
            ("hippodeep-head", "t1/t1_1.75mm_LAS.nii.gz"),
            ("meshnet-gwm-light", "t1/t1_conformed_256.nii.gz"),
        ):
            weights = REAL_DATA / "models" / name / "model.onnx"
            cases.append(
                (
                    name,
                    lambda name=name, weights=weights: load_model(manifests / f"{name}.json", weights=weights),
                    lambda image=image: read_volume(REAL_DATA / "images" / image),
                )
            )
    return [measure(name, model(), volume(), runs) for name, model, volume in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    rows(parser.parse_args().runs)


if __name__ == "__main__":
    main()
