"""Network input that is made slice by slice: the same values, and no more memory than the volume and its labels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from medseg import run
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.package import Model
from medseg.pipeline.preprocess import prepare, run_steps
from medseg.pipeline.preprocess.on_demand import OnDemand
from support import tiny_networks

STEPS = [
    {"step": "orient", "code": "LPS"},
    {"step": "affine", "scale": -1.5, "offset": 20},
    {"step": "clip", "minimum": -900, "maximum": 800},
    {"step": "window", "windows": [{"level": 40, "width": 80}, {"level": -100, "width": 700}], "function": "SIGMOID"},
]


def manifest(steps, **inference):
    return tiny_networks.manifest(
        {"mode": "slicewise", "plane": "axial", **inference}, {}, preprocessing=steps, channels=[{"name": "image"}]
    )


def volume(slices=7, size=20, orientation="LPS", dtype=np.int16):
    rng = np.random.default_rng(1)
    array = rng.integers(-1000 if np.dtype(dtype).kind == "i" else 0, 1000, (slices, size, size + 4)).astype(dtype)
    grid = Grid((size + 4, size, slices), (1, 1, 2), (0, 0, 0), np.eye(3))
    return Volume(array, grid.reoriented(orientation) if orientation != "LPS" else grid, "CT", "ct")


@pytest.fixture
def waiting(monkeypatch):
    """Small volumes are treated as large ones are."""
    monkeypatch.setattr(run_steps, "_WORTH_WAITING", 0)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_slices_made_when_they_are_fed_are_those_made_at_once(monkeypatch, plane, count):
    """A label must not depend on the length of the volume."""
    at_once = prepare(manifest(STEPS[:count], plane=plane), [volume()])
    monkeypatch.setattr(run_steps, "_WORTH_WAITING", 0)
    waits = prepare(manifest(STEPS[:count], plane=plane), [volume()])
    assert isinstance(waits.array, OnDemand) and isinstance(at_once.array, np.ndarray)
    assert waits.array.shape == at_once.array.shape and waits.array.nbytes == at_once.array.nbytes
    assert waits.trace == at_once.trace, "the ranges that the provenance tells"
    positions = np.array([3, 0, 5])
    np.testing.assert_array_equal(waits.slices(positions), at_once.slices(positions))
    np.testing.assert_array_equal(np.asarray(waits.array), at_once.array)
    assert (waits.array.min(), waits.array.max()) == (at_once.array.min(), at_once.array.max())


@pytest.mark.parametrize(
    "step",
    [
        {"step": "zscore"},
        {"step": "minmax"},
        {"step": "clip", "percentiles": [1, 99]},
        {"step": "resize", "size": [8, 8, None]},
    ],
)
def test_steps_that_look_at_more_than_a_voxel_are_done_at_once(waiting, step):
    """Done slice by slice, a mean would be that of a slice."""
    assert isinstance(prepare(manifest([STEPS[1], step]), [volume()]).array, np.ndarray)


def test_the_volume_is_never_changed(waiting):
    """Steps reuse their own arrays; the user's volume, and what is measured in it, stays as it was."""
    given = volume()
    before = given.array.copy()
    prepare(manifest([*STEPS[:2], {"step": "zscore"}, *STEPS[2:]]), [given])
    floats = Volume(before.astype(np.float32), given.grid, "CT", "ct")
    prepare(manifest([{"step": "clip", "minimum": 0}, {"step": "affine", "scale": 2.0}]), [floats])
    np.testing.assert_array_equal(given.array, before)
    np.testing.assert_array_equal(floats.array, before)


class Threshold:
    """A network that needs next to no memory: class 1 where the input is above 0.5."""

    provider, device, fell_back, in_flight = "CPUExecutionProvider", "CPU", False, 1
    input_shapes = {"x": (None, None, None, None)}  # noqa: RUF012

    def run(self, feeds):
        x = feeds["x"][:, :1]
        return {"y": (x > 0.5).astype(np.float32)}

    def __getattr__(self, name):
        return lambda *_, **__: None


def peak(slices: int, tmp_path) -> int:
    """Bytes that a run holds at most, besides its volume. A few batches are under way at once, so they are small."""
    given = volume(slices, 256)
    given.array[:] = -1000
    given.array[:, 20:240, 30:230] = 900  # an organ
    tiny = tiny_networks.manifest(
        {"mode": "slicewise", "plane": "axial", "batch": 1}, {"activation": "sigmoid", "logits": False},
        preprocessing=[STEPS[1], STEPS[2], {"step": "affine", "scale": -0.001}],
    )  # fmt: skip
    model = Model(tiny, tmp_path / "none.onnx", "0" * 64, "test", ())
    session = Threshold()
    tracemalloc.start()
    run(model, given, open_session=lambda *_, **__: session)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_grows_by_the_labels_only(waiting, tmp_path, monkeypatch):
    """A chest CT of 600 slices must fit where one of 300 does but for its voxels and labels; it was 3 GB once.

    Counted: one byte a voxel for the labels, one for the mask that is being measured, and room for a part of another.
    """
    monkeypatch.setattr("medseg.geometry.components._WORTH_RUNS", 0)  # as in a large volume
    monkeypatch.setattr("medseg.measure.statistics._SLAB_VOXELS", 1 << 16)
    peak(2, tmp_path)  # what is loaded at the first run
    short, long = peak(20, tmp_path), peak(40, tmp_path)
    voxels = 20 * 256 * 260
    assert long - short < 3 * voxels
