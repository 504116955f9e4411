"""On a cluster workers, nodes and drivers die; a cohort must come out as if none had. Two nodes, on this computer."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from medseg.cohort.drive import run_cohort
from medseg.cohort.local import run_local
from medseg.cohort.on_ray import RayPlace, _Cluster, run_on_ray
from medseg.cohort.one_case import Job, Record, Runner
from medseg.errors import DeviceError, InputError, ModelError
from medseg.pipeline.options import RunOptions
from support.cohorts import differences, make_images

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(find_spec("ray") is None, reason='needs the package ray: pip install "medseg[cohort]"'),
]
MODEL, OPTIONS = "ich-compact", RunOptions(device="cpu", modality="CT", threads=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_health_check_period_ms", "500")
    from ray.cluster_utils import Cluster

    store = 80 << 20
    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "num_gpus": 0, "include_dashboard": False, "object_store_memory": store},
    )
    made.second = made.add_node(num_cpus=1, num_gpus=1, object_store_memory=store)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("images"), 10, (32, 32, 3))


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    runner = Runner(MODEL, OPTIONS)
    run_cohort(runner, MODEL, jobs_of(images, out), out, 1, told=lambda *_: None, tell=print, crew=run_local)
    return out


def jobs_of(images: Path, out: Path) -> list[Job]:
    return [Job(p.name[:9], {"head CT": p}, out / "cases" / p.name[:9]) for p in sorted(images.iterdir())]


def workers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::CaseWorker" in " ".join(p.info["cmdline"] or [])]


def command(cluster: Any, images: Path, out: Path) -> list[str]:
    words = ["cohort", MODEL, str(images), "-o", str(out), "--device", "cpu", "--modality", "CT"]
    return [sys.executable, "-m", "medseg.cli", *words, "--ray", cluster.address]


def test_a_killed_driver_loses_nothing(cluster: Any, images: Path, undisturbed: Path, tmp_path: Path) -> None:
    driver = subprocess.Popen(command(cluster, images, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("cases/*/result.json")):
        assert driver.poll() is None
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    done = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cases/*/result.json")}
    assert 0 < len(done) < 10
    again = subprocess.run(command(cluster, images, tmp_path), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "did not end by itself" in again.stderr and "10 of 10 done" in again.stdout
    assert all(p.stat().st_mtime_ns == when for p, when in done.items()), "a finished case was run again"
    assert differences(undisturbed, tmp_path) == []


def test_ctrl_c_ends_a_cluster_that_was_started_for_the_run(images: Path, tmp_path: Path) -> None:
    """Else each cancelled run leaves servers behind on a user's computer."""
    words = ["cohort", MODEL, str(images), "-o", str(tmp_path), "--device", "cpu", "--modality", "CT", "--ray", "local"]
    driver = subprocess.Popen([sys.executable, "-m", "medseg.cli", *words], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "cohort.jsonl").exists() or not (tmp_path / "cohort.jsonl").read_bytes():
        assert driver.poll() is None
        time.sleep(0.05)
    started = [p for p in psutil.Process(driver.pid).children(recursive=True) if "raylet" in " ".join(p.cmdline())]
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130 and "finished cases are kept" in said
    assert started and not any(p.is_running() for p in started) and (tmp_path / "cohort.lock").read_bytes() == b""


def test_shares_of_a_card_and_what_a_worker_sees_of_it(cluster: Any) -> None:
    """Four workers that were promised a quarter must lie on one card, and those without a share must see none."""

    def visible(worker: Any) -> str | None:
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    for gpus, fit, seen in ((0.5, 1, "0"), (0.0, 2, "")):
        with _Cluster(RayPlace(cluster.address, gpus=gpus)) as on:
            assert on.room() == fit  # a worker also needs a core, and there is one on each node
            actor = on.start(MODEL, OPTIONS)
            assert on.ray.get(actor.__ray_call__.remote(visible)) == seen
    with _Cluster(RayPlace(cluster.address, cpus=0, gpus=0.25)) as on:
        assert on.room() == 4
    with _Cluster(RayPlace(cluster.address, gpus=2)) as on, pytest.raises(DeviceError, match="--gpus-per-worker"):
        on.room()


def test_what_a_cluster_cannot_do_is_said(cluster: Any, images: Path, tmp_path: Path) -> None:
    place = RayPlace(cluster.address)
    jobs = jobs_of(images, tmp_path)
    with pytest.raises(ModelError, match="another MedSeg or another model"):
        list(run_on_ray(MODEL, OPTIONS, jobs, 1, print, place=place, work="other"))
    with pytest.raises(ModelError, match="cannot load the model"):
        list(run_on_ray("no-such-model", OPTIONS, jobs, 1, print, place=place, work=""))
    with pytest.raises(InputError, match="cannot be used"):
        list(run_on_ray(MODEL, OPTIONS, jobs, 1, print, place=RayPlace("127.0.0.1:1"), work=""))


def test_a_worker_and_a_node_that_die_cost_no_case(
    cluster: Any, images: Path, undisturbed: Path, tmp_path: Path
) -> None:  # fmt: skip
    """The last test: the node is gone afterwards."""
    runner, told = Runner(MODEL, OPTIONS), []
    killed: list[int] = []

    def harm(done: int, known: int, record: Record | None) -> None:
        if done == 2:
            (victim, *_) = workers()
            victim.kill()
            killed.append(victim.pid)
        if done == 4:
            cluster.remove_node(cluster.second, allow_graceful=False)

    crew = functools.partial(run_on_ray, place=RayPlace(cluster.address), work=runner.work)
    assert (
        run_cohort(runner, MODEL, jobs_of(images, tmp_path), tmp_path, 2, told=harm, tell=told.append, crew=crew) == 0
    )
    assert killed and len([words for words in told if "another one" in words]) >= 2, told
    assert differences(undisturbed, tmp_path) == []
