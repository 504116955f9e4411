"""Small whole-volume networks: a run's memory is given back although it ran with ONNX Runtime's arena."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from medseg.engine import reopened
from medseg.engine.reopened import Reopened, small_network
from medseg.engine.session import Session
from medseg.errors import ModelError
from medseg.model.package import Model, load_model
from medseg.monitor import Monitor
from support.packages import external, package

X = np.arange(64, dtype=np.float32).reshape(1, 1, 4, 4, 4)


@pytest.fixture
def whole(tmp_path: Path) -> Model:
    return load_model(package(tmp_path / "whole", inference={"mode": "whole"}))


class Watched(onnxruntime.InferenceSession):  # type: ignore[misc]
    """An `InferenceSession` of which is known whether it is still there, and which options it was opened with."""

    alive: list[weakref.ref[Any]]

    def __init__(self, source: Any, options: Any, **more: Any) -> None:
        super().__init__(source, options, **more)
        self.arena = options.enable_cpu_mem_arena
        self.alive.append(weakref.ref(self))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    monkeypatch.setattr(Watched, "alive", [], raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    return Watched.alive


def test_after_a_run_nothing_that_ran_is_left(whole: Model, opened: list[weakref.ref[Any]]) -> None:
    """Hundreds of megabytes would stay in Slicer's worker between two runs."""
    gc.disable()
    try:
        with Session.open(whole, "cpu", monitor=Monitor()) as session:
            del opened[:-1]  # the device was tried out with another network
            first = session.run({"x": X})["y"]
            assert [network() is None for network in opened] == [False, True]
            assert np.array_equal(session.run({"x": X})["y"], first)
            with pytest.raises(ModelError):
                session.run({"x": X[0]})
            assert [network() is None for network in opened] == [False, True, True, True], "nor after an error"
            assert opened[0]().arena
    finally:
        gc.enable()


def test_a_package_that_is_replaced_meanwhile_does_not_change_an_open_network(whole: Model) -> None:
    """The result would name weights that did not run."""
    with Session.open(whole, "cpu", monitor=Monitor()) as session:
        first = session.run({"x": X})["y"]
        Path(whole.onnx_path).write_bytes(b"another")
        assert np.array_equal(session.run({"x": X})["y"], first)


def test_where_memory_is_short_a_volume_that_fits_without_the_arena_still_runs(
    whole: Model, opened: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that could be run before would end in an error."""
    real, arenas, told = Watched.run, [], Monitor()

    def short(self: Watched, *args: Any) -> Any:
        arenas.append(self.arena)
        if self.arena:
            raise RuntimeError("bad allocation")
        return real(self, *args)

    with Session.open(whole, "cpu", monitor=told) as session:
        expected = session.run({"x": X})["y"]
        monkeypatch.setattr(Watched, "run", short, raising=False)
        assert np.array_equal(session.run({"x": X})["y"], expected)
        assert np.array_equal(session.run({"x": X})["y"], expected)
    assert arenas == [True, False, False]
    assert [note for note in told.notes if "Memory is short" in note] == [
        "Memory is short: the network runs with less of it, which takes longer."
    ]


def test_large_networks_and_those_with_weights_elsewhere_stay_open(
    whole: Model, tmp_path: Path, opened: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading hundreds of megabytes of weights for each run would cost more than the arena gains."""
    elsewhere = load_model(external(tmp_path / "external"))
    assert small_network(Path(elsewhere.onnx_path)) is None
    monkeypatch.setattr(reopened, "_SMALL_BYTES", 10)
    with Session.open(whole, "cpu", monitor=Monitor()) as session:
        assert not isinstance(session._session, Reopened)
        del opened[:-1]
        session.run({"x": X})
        assert not opened[0]().arena and len(opened) == 1, "its memory is given back run by run"
