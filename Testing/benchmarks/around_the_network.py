"""What a run costs besides its network: seconds of each stage, peak memory, start-up.

``measure()`` gives the rows, the command prints them. The CT is a real slice repeated (where the test data is, else
a drawing), with noise; its network is a threshold, which costs next to nothing, so that everything else is seen. Each
length runs in a process of its own, whose peak of resident memory is that of the run. Wall-clock seconds mean something
on a quiet machine only; seconds of processor time are told beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.real_data import REAL_DATA

_LENGTHS = (150, 300, 600)
_REPEATS = 3
_STAGES = ("read", "prepare", "open", "infer", "restore", "clean", "measure")


def measure(lengths: tuple[int, ...] = _LENGTHS, repeats: int = _REPEATS) -> list[dict[str, Any]]:
    """One row for each thing that is measured: ``what``, ``seconds`` (wall), ``cpu``, ``target`` where there is one.

    Rows of a CT also have ``stages`` (seconds) and ``peak_mb`` (resident memory).
    """
    rows: list[dict[str, Any]] = []
    for length in lengths:
        rows += [_median(list(same)) for same in zip(*[_child("ct", str(length)) for _ in range(repeats)], strict=True)]
    rows += _growth(rows)
    rows += [
        _started("import medseg", ["-c", "import medseg"], repeats, 0.15),
        _started("medseg --version", ["-m", "medseg.cli", "--version"], repeats, None),
    ]
    rows += [_median([_child("cold")[0] for _ in range(repeats)])]
    rows += [_median([_child("warm")[0] for _ in range(repeats)])]
    return rows


def _growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How much memory a longer volume takes, per byte of its voxels and labels."""
    found = sorted((r["slices"], r["peak_mb"], r["volume_mb"] + r["labels_mb"]) for r in rows if "without" in r["what"])
    return [
        {
            "what": f"memory from {a[0]} to {b[0]} slices, per byte of voxels and labels added",
            "ratio": round((b[1] - a[1]) / (b[2] - a[2]), 2),
            "target": 1.0,
        }
        for a, b in pairwise(found)
    ]


def _child(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _started(what: str, command: list[str], repeats: int, target: float | None) -> dict[str, Any]:
    """A process from its start to its end."""
    return _median([_timed(what, command, target) for _ in range(repeats)])


def _timed(what: str, command: list[str], target: float | None) -> dict[str, Any]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"what": what, "seconds": time.perf_counter() - started, "cpu": cpu, "target": target}


def _median(rows: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = [key for key in ("seconds", "cpu", "peak_mb") if rows[0].get(key) is not None]
    chosen = {key: round(statistics.median(r[key] for r in rows), 3) for key in numbers}
    return {**rows[0], **chosen, "spread": [round(f(r["seconds"] for r in rows), 3) for f in (min, max)]}


# -- in a process of their own ------------------------------------------------------------------------------------


def chest_ct(slices: int) -> Any:
    """A CT of 512x512 voxels a slice, int16: one slice, shifted from slice to slice, with noise."""
    from medseg import Grid, Volume, read_volume

    if REAL_DATA.is_dir():
        plane = read_volume(REAL_DATA / "images" / "lung-ct" / "slice.dcm").array[0]
    else:
        j, i = np.indices((512, 512)) - 256
        body, lungs = (i / 220) ** 2 + (j / 170) ** 2 < 1, ((abs(i) - 90) / 70) ** 2 + (j / 110) ** 2 < 1
        plane = np.where(lungs, -800, np.where(body, 40, -1000)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-8, 9, (8, *plane.shape), dtype=np.int16)
    array = np.empty((slices, *plane.shape), np.int16)
    for k in range(slices):
        array[k] = np.roll(plane, (k % 7) - 3, axis=0) + noise[k % 8]
    grid = Grid((512, 512, slices), (0.7, 0.7, 1.0), (0, 0, 0), np.eye(3))
    return Volume(array, grid, "CT", "ct")


class Threshold:
    """Stands for a network: class 1 is what has the density of lung, in HU + 1024 as `lungct-unet-small` gets it."""

    provider, device, fell_back = "none", "none", False

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0
        self.input_shapes = {"ct": (None, 1, None, None)}

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        started, spent = time.perf_counter(), time.process_time()
        x = feeds["ct"]
        out = {"prob": ((x > 100) & (x < 650)).astype(np.float32)}
        self.seconds += time.perf_counter() - started
        self.cpu += time.process_time() - spent
        return out

    def to_cpu(self) -> None:
        """It is there already."""

    def close(self) -> None:
        """Nothing is open."""


def _ct(slices: int) -> list[dict[str, Any]]:
    from medseg import run, write_result
    from medseg.model.manifest.schema import Manifest
    from medseg.model.package import Model
    from medseg.monitor import Monitor

    manifests = Path(__file__).resolve().parents[1] / "real_models"
    manifest = Manifest.model_validate_json((manifests / "lungct-unet-small.json").read_text(encoding="utf-8"))
    model = Model(manifest, Path("none.onnx"), "0" * 64, "benchmark", ())
    volume, network, monitor = chest_ct(slices), Threshold(), Monitor()
    before = _resident()
    started, cpu = time.perf_counter(), _cpu()
    result = run(model, volume, monitor=monitor, open_session=lambda *_, **__: network)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_result(result, Path(folder) / "plain", volume=volume, model=model, monitor=monitor, sinks=())
        seconds = time.perf_counter() - started - network.seconds
        stages = {k: round(v, 3) for k, v in monitor.seconds.items()}
        stages["infer"] = round(stages["infer"] - network.seconds, 3)
        row = {"slices": slices, "volume_mb": volume.array.nbytes / 1e6, "labels_mb": volume.array.size / 1e6}
        rows.append({
            "what": f"CT 512x512x{slices} without the network: segmentation and tables written",
            "seconds": round(seconds, 3), "cpu": round(_cpu() - cpu - network.cpu, 3),
            "target": 2.0 if slices == 300 else None, "stages": stages, **row,
            "peak_mb": round(_peak()), "before_mb": round(before),
        })  # fmt: skip
        try:
            from medseg_mrml.scene import get_ready, write_scene
        except ImportError:
            return rows
        get_ready()
        time.sleep(8)  # what the reading and the network of a real run leave it
        warnings = Monitor()
        started, cpu = time.perf_counter(), _cpu(children=True)
        write_scene(result, volume, folder, model, warnings)
        rows.append({
            "what": f"CT 512x512x{slices}: scene.mrb and preview.png more",
            "seconds": round(time.perf_counter() - started, 3), "cpu": round(_cpu(children=True) - cpu, 3),
            "target": 3.0 if slices == 300 else None, "warnings": warnings.warnings,
        })  # fmt: skip
    return rows


def _cold() -> list[dict[str, Any]]:
    """The command from its start until the network is run (the start of Python itself included)."""
    code = (
        "import sys, time\n"
        "import medseg.pipeline.labels as labels\n"
        "def begun(*_, **__):\n"
        "    print(time.time(), time.process_time()); sys.stdout.flush()\n"
        "    import os; os._exit(0)\n"
        "labels.infer = begun\n"
        "import medseg.cli\n"
        "sys.argv = ['medseg', *sys.argv[1:]]\n"
        "medseg.cli.main()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        import SimpleITK as sitk

        from medseg import phantoms

        volume = phantoms.swi(5).volume
        image = sitk.GetImageFromArray(volume.array)
        volume.grid.place(image)
        source = Path(folder) / "swi.nii.gz"
        sitk.WriteImage(image, str(source))
        started = time.time()
        command = ["run", "cmb-compact", str(source), "-o", str(Path(folder) / "out"), "--device", "cpu", "--no-scene"]
        done = subprocess.run(
            [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        begun, cpu = (float(v) for v in done.stdout.split()[-2:])
    what = "cold: medseg run, until the network is run (cmb-compact)"
    return [{"what": what, "seconds": begun - started, "cpu": cpu, "target": 1.5}]


def _warm() -> list[dict[str, Any]]:
    """A second run in the same process, as the worker's: what comes before the network, besides preparing."""
    from medseg import load_model, phantoms, run
    from medseg.engine.session_cache import SessionCache
    from medseg.monitor import Monitor

    volume, cache, seconds, cpu = phantoms.swi(5).volume, SessionCache(), [], []
    for _ in range(4):
        monitor = Monitor()
        started, spent = time.perf_counter(), time.process_time()
        run(load_model("cmb-compact"), volume, device="cpu", monitor=monitor, open_session=cache.open)
        inside = sum(monitor.seconds.get(stage, 0.0) for stage in _STAGES if stage not in ("open", "read"))
        seconds.append(time.perf_counter() - started - inside)
        cpu.append(time.process_time() - spent)
    row = {"what": "warm worker: model and session found again", "seconds": statistics.median(seconds[1:])}
    return [{**row, "seconds": round(row["seconds"], 4), "cpu": None, "target": 0.05}]


def _cpu(children: bool = False) -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> float:
    """Peak of this process's resident memory in MB.

    Linux's `getrusage` would give a child the peak of the process that started it; macOS counts bytes there.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _resident() -> float:
    """Resident memory now in MB, or the peak so far where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return _peak()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        kind, *rest = sys.argv[2:]
        rows = _ct(int(rest[0])) if kind == "ct" else _cold() if kind == "cold" else _warm()
        print(json.dumps(rows))
        return
    for row in measure():
        took = f"{row['seconds']:7.3f} s" if "seconds" in row else f"{row['ratio']:7.2f}  "
        cpu = f" ({row['cpu']:.2f} s of processor time)" if row.get("cpu") is not None else ""
        target = f", target {row['target']}" if row.get("target") is not None else ""
        print(f"{took}  {row['what']}{cpu}{target}")
        if "stages" in row:
            told = ", ".join(f"{name} {value:.2f}" for name, value in row["stages"].items())
            print(f"           {told}; peak {row['peak_mb']} MB, {row['before_mb']} MB of it before the run")
        for sentence in row.get("warnings", ()):
            print(f"           warning: {sentence}")


if __name__ == "__main__":
    main()
