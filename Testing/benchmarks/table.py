"""The whole table of speeds, measured against targets: what `make bench` runs.

    python Testing/benchmarks/table.py [--peers PYTHON] [--small] [--runs N] [--readme] [--only PART,PART]

Prints each row with its target and the machine, writes ``results.json`` and ``profile.txt`` beside this file, and with
``--readme`` the table of README.md between its two marks. Ratios are taken in one run, both sides in turn; seconds mean
something on a quiet machine only, so its load is told. Rows that need the real test data (``MEDSEG_TEST_DATA``), or the
other programs, are said to be skipped where there are none. With ``--only`` the other parts' rows stay as they were
measured before; each row says when, and how busy the machine was.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import onnxruntime
import SimpleITK as sitk
from peers import LABELS_EQUAL, PROGRAMS, REAL_DATA, Row, compare
from random_networks import noise, unet_2d

from medseg import Volume, load_model, phantoms, read_volume, run, write_result
from medseg.engine import openvino_engine
from medseg.engine.machine import cpu_name, physical_cores, total_memory
from medseg.engine.session_cache import SessionCache
from medseg.model.package import Model

HERE = Path(__file__).resolve().parent
RESULTS, PROFILE = HERE / "results.json", HERE / "profile.txt"
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- table of speeds, written by make bench -->", "<!-- end of the table of speeds -->"


def flair_file(folder: Path) -> Path:
    """A FLAIR phantom of 20 slices in a file."""
    volume = phantoms.flair(5).volume
    image: Any = sitk.GetImageFromArray(volume.array)
    volume.grid.place(image)
    image.SetMetaData("modality", volume.modality or "")
    path = folder / "flair.nrrd"
    sitk.WriteImage(image, str(path))
    return path


def one_file(folder: Path, runs: int) -> list[Row]:
    """`wmh-compact` from a file to its written result, in a worker that is warm."""
    path, kept, took = flair_file(folder), SessionCache(), []
    model = load_model("wmh-compact")
    for n in range(runs + 1):
        started = time.perf_counter()
        volume = read_volume(path)
        result = run(model, volume, open_session=kept.open)
        write_result(result, folder / f"wmh-{n}", volume=volume, model=model, sinks=())
        took.append(time.perf_counter() - started)
    took = sorted(took[1:])
    row = Row("`wmh-compact`, 20 slices, file to written result", 2.5, False, "s", round(statistics.median(took), 2))
    row.spread = (round(took[0], 2), round(took[-1], 2))
    row.more = {"stages_s": result.provenance["seconds"], "engine": result.provenance["provider"]}
    return [row]


def bare_ratios(folder: Path, small: bool, runs: int) -> list[Row]:
    """Whole runs against the bare network on the same engine."""
    import stages

    rows = []
    for found in stages.rows(runs, folder, small):
        ratio, cpu = found["ratio"], found["cpu_ratio"]
        engine = "OpenVINO" if found["engine"].startswith("OpenVINO") else "ONNX Runtime"
        what = f"whole run / bare network: {found['name']}, {engine}"
        spread = (round(ratio["least"], 2), round(ratio["greatest"], 2))
        rows.append(Row(
            what, found["target"], False, "times", round(ratio["median"], 2), spread,
            more={"of_processor_time": round(cpu["median"], 2), "stages_s": found["seconds"], "bare_s": found["bare"],
                  "runs": found["runs"]},
        ))  # fmt: skip
    return rows


def checked(folder: Path) -> list[Row]:
    """Networks asked for in bfloat16: how fast, and what MedSeg's own check says on the volume after the first."""
    import stages

    if "bfloat16" not in openvino_engine.fast_precisions():
        return [Row("networks asked for in bfloat16", None, True, why="this processor has no bfloat16")]
    made: dict[str, tuple[Model, Volume]] = {
        "2D U-Net of 31 M (random weights)": (
            load_model(unet_2d(folder / "checked", 64)), read_volume(noise(folder / "checked.nrrd", (8, 256, 256))),
        )
    }  # fmt: skip
    if REAL_DATA.is_dir():
        made["hippodeep-head"] = stages.real("hippodeep-head", "t1/t1_1.75mm_LAS.nii.gz")
    return [_checked(f"{name}, asked for in bfloat16, against float32", *it) for name, it in made.items()]


def _checked(what: str, model: Model, volume: Volume) -> Row:
    took: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    labels: dict[str, list[Any]] = {}
    told: tuple[str, ...] = ()
    for precision, seconds in took.items():
        kept = SessionCache()
        for _ in range(4):
            started = time.perf_counter()
            result = run(model, volume, device="openvino:cpu", precision=precision, open_session=kept.open)
            seconds.append(time.perf_counter() - started)
        labels[precision] = [layer.labels for layer in result.layers]
        told = (*result.warnings, *result.notes)
    equal = min(float((a == b).mean()) for a, b in zip(*labels.values(), strict=True))
    ratios = sorted(a / b for a, b in zip(took["float32"][1:], took["bfloat16"][1:], strict=True))
    spread = (round(ratios[0], 2), round(ratios[-1], 2))
    row = Row(what, None, True, "times", round(statistics.median(ratios), 2), spread)
    row.why = f"MedSeg told: {' '.join(w for w in told if 'bfloat16' in w)}"
    row.more = {"labels_equal": equal, "refused": "bfloat16 is not used" in row.why}
    return row


def around(small: bool, runs: int) -> list[Row]:
    """Everything but the network of a chest CT, cold and warm starts, memory."""
    import around_the_network

    rows = []
    for found in around_the_network.measure((60, 120) if small else (150, 300), runs):
        value, unit = (found["seconds"], "s") if "seconds" in found else (found["ratio"], "times")
        spread = tuple(found["spread"]) if "spread" in found else None
        row = Row(found["what"], found.get("target"), False, unit, round(value, 3), spread)
        row.more = {k: v for k, v in found.items() if k in ("cpu", "stages", "peak_mb", "before_mb") and v is not None}
        rows.append(row)
    return rows


def explained(row: Row) -> Row:
    """A miss with where its time went, read from what was measured."""
    if row.verdict == "refused" and not row.why:
        row.why = f"{100 * LABELS_EQUAL:g} % must be, so MedSeg keeps to float32; measured without that check"
        if "limit" in row.more:
            row.why += f"; {_limit(row)}"
    if row.verdict == "missed" and not row.why:
        stages = row.more.get("stages_s") or row.more.get("stages") or {}
        parts = sorted(((s, n) for n, s in stages.items() if n != "total" and s > 0.005), reverse=True)[:3]
        told = [", ".join(f"{n} {s:.2f} s" for s, n in parts)] if parts else []
        if row.more.get("cpu") is not None:
            told.append(f"{row.more['cpu']:.2f} s of processor time")
        if "of_processor_time" in row.more:
            told.append(f"{row.more['of_processor_time']:.2f} of processor time")
        if "ours_s" in row.more:
            told.append(f"{row.more['ours_s']:.1f} s against {row.more['theirs_s']:.1f} s")
        if row.more.get("limit", row.target) != row.target and row.target is not None:
            told.append(_limit(row))
        row.why = "; ".join(told)
    return row


def _limit(row: Row) -> str:
    return f"the processor's peak of {row.more['peak_gflops']} GFLOP/s allows {row.more['limit']:.2f} times"


def profile(folder: Path) -> str:
    """The twenty functions that a warm run of `wmh-compact` spends most of its time in."""
    path, kept, model = flair_file(folder), SessionCache(), load_model("wmh-compact")
    run(model, read_volume(path), open_session=kept.open)
    watch = cProfile.Profile()
    watch.enable()
    run(model, read_volume(path), open_session=kept.open)
    watch.disable()
    text = StringIO()
    pstats.Stats(watch, stream=text).strip_dirs().sort_stats("tottime").print_stats(20)
    return text.getvalue()


def described() -> str:
    """The machine in a sentence."""
    return (
        f"{cpu_name()}, {physical_cores()} cores, {total_memory() / 2**30:.0f} GB, {platform.system()}, ONNX Runtime "
        f"{onnxruntime.__version__}, OpenVINO {openvino_engine.version() or 'none'}"
    )


def at_real_time() -> bool:
    """Whether all that is measured goes before other work (Linux: ``chrt -r 10``)."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO)


def now() -> str:
    """The day, and how busy the machine is."""
    load = f", load {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else ""
    return date.today().isoformat() + load


_ALONE = (
    "Measured at real-time priority, while other work on the machine waited (the load says how much): as on a machine "
    "without other work, but for the memory and the cache that it uses."
)
_SHARED = "The load is what other work added; seconds mean little where it is more than the cores."


def as_markdown(rows: list[Row], machine: str, alone: bool = False) -> str:
    """The table for README.md. ``alone``: all rows were measured at real-time priority."""
    lines = [
        f"{machine}. {_ALONE if alone else _SHARED}", "",
        "| what | measured (least to greatest) | aim | | labels equal, or where the rest is | when |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        value = "" if row.value is None else f"{row.value:g} {row.unit}".strip()
        if row.spread:
            value += f" ({row.spread[0]:g} to {row.spread[1]:g})"
        aim = "" if row.target is None else f"{'at least' if row.least else 'at most'} {row.target:g}"
        equal = f"{100 * row.more['labels_equal']:.4f} % equal" if "labels_equal" in row.more else ""
        rounds = f"{row.more['runs']} run{'s'[: row.more['runs'] > 1]}" if "runs" in row.more else ""
        told = "; ".join(t for t in (equal, row.why, rounds) if t)
        lines.append(f"| {row.what} | {value} | {aim} | {row.verdict} | {told} | {row.when} |")
    return "\n".join(lines)


def write_readme(table: str) -> None:
    """Put the table between the marks of README.md."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    README.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the interpreter of the environment with the other programs")
    parser.add_argument("--small", action="store_true", help="small volumes, for a first look")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--readme", action="store_true", help="write the table of README.md too")
    parser.add_argument("--only", default="", help=f"some parts: {', '.join(PROGRAMS)}, file, bare, checked, around")
    options = parser.parse_args()
    machine = described() + (", small volumes" if options.small else "")
    print(machine, flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Any] = {
            peer: partial(compare, peer, options.peers, folder, options.runs, options.small) for peer in PROGRAMS
        }
        parts |= {
            "file": partial(one_file, folder, options.runs),
            "bare": partial(bare_ratios, folder, options.small, options.runs),
            "checked": partial(checked, folder),
            "around": partial(around, options.small, options.runs),
        }
        wanted = options.only.split(",") if options.only else list(parts)
        rows: dict[str, list[Row]] = {part: [] for part in parts} | (earlier(machine) if options.only else {})
        for part in wanted:
            when = now()
            rows[part] = [explained(replace(row, part=part, when=when)) for row in parts[part]()]
            print(as_markdown(rows[part], machine, at_real_time()), flush=True)
            kept = [{**asdict(row), "verdict": row.verdict} for some in rows.values() for row in some]
            found = {"machine": machine, "runs": options.runs, "rows": kept}
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        PROFILE.write_text(profile(folder), encoding="utf-8")
    table = as_markdown([row for some in rows.values() for row in some], machine, at_real_time())
    if options.readme:
        write_readme(table)
    print(f"\n{table}\n\nwritten: {RESULTS.name}, {PROFILE.name}" + (", README.md" if options.readme else ""))


def earlier(machine: str) -> dict[str, list[Row]]:
    """Rows by part that were measured on ``machine`` before."""
    rows: dict[str, list[Row]] = {}
    if RESULTS.is_file():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
        for row in found["rows"] if found["machine"] == machine else ():
            row.pop("verdict")
            rows.setdefault(row["part"], []).append(Row(**row))
    return rows


if __name__ == "__main__":
    main()
