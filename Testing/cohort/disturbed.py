"""``python disturbed.py [-n 200]``: a cohort on a Ray cluster with a worker, a node and the driver killed, and resumed.

Prints how many cases each step found done, and what differs from an undisturbed run on this computer (nothing may).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.cohorts import differences, make_images

_STORE = 80 << 20


def main() -> int:
    """0 where nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="cases")
    parser.add_argument("--model", default="ich-compact")
    parser.add_argument("--size", type=int, nargs=3, default=(32, 32, 3), help="voxels of a case along i, j, k")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return disturb(Path(folder), given.model, given.n, tuple(given.size))


def disturb(folder: Path, model: str, count: int, size: tuple[int, int, int]) -> int:
    images = make_images(folder / "images", count, size)
    base = [
        sys.executable,
        "-m",
        "medseg.cli",
        "cohort",
        model,
        str(images),
        "--device",
        "cpu",
        "--modality",
        "CT",
        "-o",
    ]
    started = time.monotonic()
    subprocess.run([*base, str(folder / "whole"), "--workers", "2"], check=True, capture_output=True)
    print(
        f"undisturbed, 2 processes: {lines(folder / 'whole')} cases in {time.monotonic() - started:.0f} s", flush=True
    )

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": _STORE}
    )
    second = cluster.add_node(num_cpus=1, object_store_memory=_STORE)
    out = folder / "disturbed"
    command = [*base, str(out), "--ray", cluster.address, "--workers", "2"]
    started = time.monotonic()
    with (folder / "driver.log").open("w") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(out, count // 5, driver)
        (victim, *_) = workers()
        victim.kill()
        print(f"worker {victim.pid} killed with {lines(out)} cases done", flush=True)
        wait_for(out, 2 * count // 5, driver)
        cluster.remove_node(second, allow_graceful=False)
        print(f"a node of two removed with {lines(out)} cases done", flush=True)
        wait_for(out, 3 * count // 5, driver)
        cluster.add_node(num_cpus=1, object_store_memory=_STORE)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    before = {p: p.stat().st_mtime_ns for p in out.glob("cases/*/result.json")}
    print(f"driver killed with {lines(out)} cases in the journal, {len(before)} results; told before:", flush=True)
    told = (folder / "driver.log").read_text().splitlines()
    print(*(f"  {line}" for line in told if line.startswith("note:")), sep="\n")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"resumed on the cluster, {time.monotonic() - started:.0f} s in all, exit code {again.returncode}:")
    print(*(f"  {line}" for line in (again.stderr + again.stdout).splitlines() if "%" not in line), sep="\n")
    repeated = sum(p.stat().st_mtime_ns != when for p, when in before.items())
    found = differences(folder / "whole", out)
    files = sum(1 for p in (out / "cases").rglob("*") if p.is_file())
    print(f"finished cases that were run again: {repeated}; files compared: {files}; differences: {len(found)}")
    print(*found[:20], sep="\n")
    cluster.shutdown()
    return bool(found or repeated or again.returncode)


def lines(out: Path) -> int:
    """Cases in the journal."""
    journal = out / "cohort.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for(out: Path, count: int, driver: subprocess.Popen[Any]) -> None:
    while lines(out) < count:
        if driver.poll() is not None:
            raise SystemExit(f"the driver ended with {driver.returncode} and {lines(out)} cases")
        time.sleep(0.05)


def workers() -> list[psutil.Process]:
    """The processes of a cluster that run cases."""
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::CaseWorker" in " ".join(p.info["cmdline"] or [])]


if __name__ == "__main__":
    raise SystemExit(main())
