"""``python cohort.py [-n 1000] [--ray]``: what a cohort costs beyond its runs, its memory, two workers against one.

The network is a threshold, so that the rest can be seen; the cases are head CT phantoms. Seconds of the run itself are
those that result.json tells (reading, network, tables, writing). On a shared machine the load is printed beside them.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import onnx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from medseg.cohort.drive import run_cohort
from medseg.cohort.local import run_local
from medseg.cohort.on_ray import RayPlace, run_on_ray
from medseg.cohort.one_case import Job, Record, Runner, finished, quiet_worker, seen_input
from medseg.pipeline.options import RunOptions
from medseg.result import Column, Table
from support import tiny_networks
from support.cohorts import make_images, make_old

SIZE = (64, 64, 12)
BLOOD = 55.0  # HU


def threshold_model(folder: Path) -> Path:
    """A class where a voxel is above `BLOOD`, with tables of segments and lesions."""
    folder.mkdir(parents=True)
    network = tiny_networks.convolution(np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1), [0.0, -BLOOD])
    network.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, ["n", 2, "j", "i"]))
    onnx.save(network, folder / "model.onnx")
    manifest = tiny_networks.manifest(
        {"mode": "slicewise", "plane": "axial"}, {"restore": "labels"}, channels=[{"name": "CT", "modality": ["CT"]}]
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(exclude_none=True), encoding="utf-8")
    return folder


class Watch:
    """Notes when each case was done, and the memory of driver and workers."""

    def __init__(self, cases: int) -> None:
        self.every, self.times, self.runs = max(1, cases // 10), [], []
        self.memory: list[tuple[int, float, list[float]]] = []
        self.began = self.finishing = 0.0
        self.processor = psutil.Process().cpu_times()

    def told(self, done: int, known: int, record: Record | None) -> None:
        now = time.perf_counter()
        if record is None:
            self.began = now
            return
        self.times.append(now)
        self.runs.append(record["seconds"])
        if done % self.every == 0 or len(self.times) == 1:
            processes = psutil.process_iter(["cmdline"])
            crew = [p for p in processes if any("ray::CaseWorker" in w for w in p.info["cmdline"] or [])]
            ours = [p.pid for p in multiprocessing.active_children() if p.name == "medseg-cohort"]
            crew = [psutil.Process(pid) for pid in ours if pid] or crew
            sizes = [p.memory_info().rss / 1e6 for p in crew]
            self.memory.append((done, psutil.Process().memory_info().rss / 1e6, sizes))


def cohort(model: Path, images: Path, out: Path, workers: int, crew: Any, threads: int = 1) -> Watch:
    options = RunOptions(device="cpu", modality="CT", threads=threads)
    runner = Runner(str(model), options)
    if crew is run_on_ray:
        crew = functools.partial(run_on_ray, place=RayPlace("local"), work=runner.work)
    files = sorted(images.iterdir())
    channel = runner.model.manifest.channels[0].name
    jobs = [Job(p.name[:9], {channel: p}, out / "cases" / p.name[:9]) for p in files]
    watch = Watch(len(jobs))
    failed = run_cohort(runner, str(model), jobs, out, workers, told=watch.told, tell=lambda words: None, crew=crew)
    watch.finishing = time.perf_counter() - (watch.times[-1] if watch.times else watch.began)
    assert failed == 0
    return watch


def show(name: str, watch: Watch, workers: int) -> None:
    cases = len(watch.times)
    spent = (watch.times[-1] - watch.times[0]) * workers / (cases - 1)
    now = psutil.Process().cpu_times()
    used = now.user + now.system - watch.processor.user - watch.processor.system
    print(f"\n{name}: {cases} cases, {workers} workers, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"  first case after {watch.times[0] - watch.began:.1f} s (workers start, model is loaded)")
    print(f"  a case {1000 * spent:.1f} ms of a worker, of which its run {1000 * mean(watch.runs):.1f} (median "
          f"{1000 * median(watch.runs):.1f}): {1000 * (spent - mean(watch.runs)):.1f} ms beyond the run")  # fmt: skip
    print(f"  tables and page {watch.finishing:.2f} s, {1000 * watch.finishing / cases:.2f} ms a case; processor time "
          f"of the driver {1000 * used / cases:.2f} ms a case")  # fmt: skip
    for done, driver, crew in watch.memory:
        print(
            f"  after {done:5d}: driver {driver:6.1f} MB, workers {', '.join(f'{m:.1f}' for m in crew)} MB", flush=True
        )


def spin(seconds: float) -> int:
    """How many small sums this process makes in so many seconds."""
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        turns += sum(range(1000)) > 0
    return turns


def machine_ratio(seconds: float = 3.0) -> float:
    """What two processes that only count do against one: no cohort can do better on this machine now."""
    with multiprocessing.Pool(2) as pool:
        one = pool.map(spin, [seconds], chunksize=1)
        two = pool.map(spin, [seconds] * 2, chunksize=1)
    return sum(two) / sum(one)


def processor_time(model: Path, images: Path, out: Path, cases: int) -> None:
    """What a worker spends on a case beyond its run, in processor time, which a busy machine changes little."""
    quiet_worker()
    runner = Runner(str(model), RunOptions(device="cpu", modality="CT", threads=1))
    channel = runner.model.manifest.channels[0].name
    inside, whole, plain = [0.0], [0.0], runner._run

    def timed(job: Job, key: str) -> None:
        started = time.process_time()
        plain(job, key)
        inside[0] += time.process_time() - started

    runner._run = timed  # type: ignore[method-assign]
    files = sorted(images.iterdir())[: cases + 1]
    for n, file in enumerate(files):
        if n == 1:  # the first opens the network
            inside, whole = [0.0], [0.0]
        started = time.process_time()
        assert runner.do(Job(file.name[:9], {channel: file}, out / file.name[:9]))["state"] == "done"
        whole[0] += time.process_time() - started
    per = [1000 * t[0] / cases for t in (whole, inside)]
    beyond = per[0] - per[1]
    print(f"processor time of a case in a worker {per[0]:.2f} ms, of its run {per[1]:.2f}, beyond it {beyond:.2f}")


def many_records(folder: Path, cases: int) -> None:
    """The driver alone: cases whose results are written by hand, 117 segments each; then all found finished."""
    template = folder / "template"
    template.mkdir(parents=True)
    columns = (Column("segment", "str"), Column("volume_ml", "float", "ml"), Column("mean", "float", "HU"))
    table = Table("segments", columns, tuple((f"organ {n}", 10.5 + n, 40.25) for n in range(117)))
    (template / "segments.csv").write_text(table.to_csv(), encoding="utf-8")
    about = {"device": "CPU", "warnings": [], "seconds": {"total": 1.0}, "cohort_key": "k",
             "tables": {"segments": [vars(c) for c in columns]}}  # fmt: skip
    (template / "result.json").write_text(json.dumps(about), encoding="utf-8")
    image, out = folder / "image.nii", folder / "out"
    image.write_bytes(b"image")
    make_old(image)

    def crew(source: str, options: RunOptions, jobs: Any, workers: int, tell: Any) -> Any:
        for job in jobs:
            shutil.copytree(template, job.folder)
            yield finished(job, "k", seen_input(job))

    class Bare:
        work, options = "work", RunOptions()
        model = type("Model", (), {"manifest": type("Manifest", (), {"title": "many"})})

    def turn() -> tuple[float, float]:
        watch, started = Watch(cases), time.process_time()
        run_cohort(Bare(), "", jobs, out, 1, told=watch.told, tell=print, crew=crew)  # type: ignore[arg-type]
        return psutil.Process().memory_info().rss / 1e6, 1000 * (time.process_time() - started) / cases

    before = psutil.Process().memory_info().rss / 1e6
    jobs = [Job(f"case{n:07d}", {"CT": image}, out / "cases" / f"case{n:07d}") for n in range(cases)]
    planned = psutil.Process().memory_info().rss / 1e6
    (ran, first), (again, second) = turn(), turn()
    size = (out / "cohort.jsonl").stat().st_size
    print(f"\nthe driver alone, {cases} cases with 117 segments; of each case:")
    print(f"  planned {1000 * (planned - before) / cases:.2f} kB, run and tables "
          f"{1000 * (max(ran, again) - planned) / cases:.2f} kB, journal {size / cases / 1000:.1f} kB")  # fmt: skip
    print(f"  processor time {first:.2f} ms with the writing of what workers write; {second:.2f} ms to find it "
          "finished and write the tables again")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="cases")
    parser.add_argument("--scaling", type=int, default=60, help="cases of each run of two workers against one")
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of this computer")
    parser.add_argument("--records", type=int, help="only the driver, with so many cases of which no network runs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.records:
            many_records(folder, given.records)
            return
        model = threshold_model(folder / "model")
        images = make_images(folder / "images", given.n, SIZE, different=50)
        processor_time(model, images, folder / "bare", min(200, given.n - 1))
        show("processes", cohort(model, images, folder / "one", 1, run_local), 1)
        started = time.perf_counter()
        again = cohort(model, images, folder / "one", 1, run_local)
        spent = time.perf_counter() - started
        print(
            f"\nresumed with all {given.n} done: {spent:.2f} s in all, of which tables and page {again.finishing:.2f}"
        )
        if given.ray:
            show("Ray", cohort(model, images, folder / "ray", 1, run_on_ray), 1)
        few = make_images(folder / "few", given.scaling, (64, 64, 12))
        print(f"\ntwo workers against one, ich-compact, one thread each, {given.scaling} cases a run:")
        for turn in range(3):
            rates = []
            for workers in (1, 2):
                watch = cohort(Path("ich-compact"), few, folder / f"few{turn}{workers}", workers, run_local)
                rates.append((len(watch.times) - 1) / (watch.times[-1] - watch.times[0]))
            print(f"  {rates[1] / rates[0]:.2f} ({rates[0]:.2f} and {rates[1]:.2f} cases a second); two processes that "
                  f"only count: {machine_ratio():.2f}; load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
