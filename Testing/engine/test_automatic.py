"""Two engines on one processor: the faster is taken only where it decides the same, and no run fails for it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.engine import automatic, devices, openvino_engine
from medseg.engine import session as session_module
from medseg.engine.automatic import Choice, agreement, measured
from medseg.engine.providers import CPU
from medseg.engine.session import Session
from medseg.errors import Cancelled, DeviceError
from medseg.model.package import Model, load_model
from medseg.monitor import Monitor
from support.packages import package

X = np.arange(64, dtype=np.float32).reshape(1, 1, 4, 4, 4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("MEDSEG_ENGINE", "auto")


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return load_model(package(tmp_path / "tiny"))


class Other:
    """Stands in OpenVINO's place: gives ``values`` of the right answer, or raises."""

    input_shapes = output_shapes = {"x": (1, 1, 4, 4, 4)}  # noqa: RUF012
    change: Any = staticmethod(lambda values: values)
    made = compiled = 0
    ran_compiled = False

    def __init__(self, *_: Any, **__: Any) -> None:
        type(self).made += 1

    def ready(self, feeds: dict[str, Any]) -> None:
        type(self).compiled += 1

    def words(self) -> str:
        return "It was rewritten."

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        type(self).ran_compiled = type(self).compiled > 0
        return {name: type(self).change(values) for name, values in ANSWER.items()}

    def stop(self) -> None: ...


ANSWER: dict[str, Any] = {}


@pytest.fixture
def other(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> type[Other]:
    """The other engine, which need not be faster to be taken, so that the choice does not depend on this machine."""
    with Session.open(tiny, "cpu", monitor=Monitor(), precision="float32") as session:
        ANSWER.update(session.run({next(iter(session.input_shapes)): X}))
    Other.change, Other.made, Other.compiled = staticmethod(lambda values: values), 0, 0
    monkeypatch.setattr(openvino_engine, "installed", lambda: True)
    monkeypatch.setattr(openvino_engine, "version", lambda: "1.0")
    monkeypatch.setattr(session_module, "OpenVinoNetwork", Other)
    monkeypatch.setattr(automatic, "WORTH", 0.0)
    return Other


def feeds(session: Session) -> dict[str, Any]:
    return {next(iter(session.input_shapes)): X}


def test_the_faster_engine_is_taken_and_remembered(tiny: Model, other: type[Other]) -> None:
    monitor = Monitor()
    with Session.open(tiny, "cpu", monitor=monitor) as session:
        session.run(feeds(session))
        assert session.provider == "OpenVINO 1.0" and "times as fast" in monitor.notes[0]
        assert monitor.notes[0].endswith("It was rewritten.")
        session.run(feeds(session))
        second = Monitor()
        session.attach(second)
        assert second.notes == monitor.notes and not second.warnings, "a choice is a fact, no warning"
    kept = json.loads((Path(automatic.cache_folder()) / "engines.json").read_text())
    assert [c["engine"] for c in kept.values()] == ["openvino"]
    again = Monitor()
    with Session.open(tiny, "cpu", monitor=again) as session:
        session.run(feeds(session))
        assert session.provider == "OpenVINO 1.0" and other.made == 2


def test_an_engine_is_timed_once_it_is_compiled(tiny: Model, other: type[Other]) -> None:
    """Compiling took longer than the network, so the slower engine was taken, and remembered for good."""
    with Session.open(tiny, "cpu", monitor=Monitor()) as session:
        session.run(feeds(session))
    assert other.compiled == 1 and other.ran_compiled


def test_an_engine_that_decides_otherwise_is_refused(tiny: Model, other: type[Other]) -> None:
    """Hippodeep in bfloat16 is eight times as fast and wrong in 0.7 % of the voxels."""
    other.change = staticmethod(lambda values: values + np.arange(2, dtype=np.float32).reshape(1, 2, 1, 1, 1))
    monitor = Monitor()
    with Session.open(tiny, "cpu", monitor=monitor) as session:
        session.run(feeds(session))
        assert session.provider == CPU and "otherwise" in monitor.notes[0]
    again = Monitor()
    with Session.open(tiny, "cpu", monitor=again) as session:
        session.run(feeds(session))
        assert session.provider == CPU and again.notes == monitor.notes, "each run says which engine runs it, and why"


def test_an_input_too_large_for_two_engines_is_run_by_one_and_told(
    tiny: Model, other: type[Other], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_MOST_COMPARED", 1)
    monitor = Monitor()
    with Session.open(tiny, "cpu", monitor=monitor) as session:
        session.run(feeds(session))
        assert other.made == 0 and "too large" in monitor.notes[0]


def test_an_engine_that_fails_later_leaves_the_run_to_the_other(tiny: Model, other: type[Other]) -> None:
    monitor = Monitor()
    with Session.open(tiny, "cpu", monitor=monitor) as session:
        right = session.run(feeds(session))

        def fail(values: Any) -> Any:
            raise RuntimeError("the plugin is gone")

        other.change = staticmethod(fail)
        result = session.run(feeds(session))
        assert all(np.array_equal(result[name], right[name]) for name in right)
        assert session.provider == CPU and "the plugin is gone" in monitor.warnings[0]


def test_a_network_that_the_engine_cannot_load_is_no_error(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "installed", lambda: True)

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("unknown operator")

    monkeypatch.setattr(session_module, "OpenVinoNetwork", refuse)
    monitor = Monitor()
    with Session.open(tiny, "cpu", monitor=monitor) as session:
        session.run(feeds(session))
        assert session.provider == CPU and "unknown operator" in monitor.notes[0] and not monitor.warnings


@pytest.mark.parametrize("how", ["precision", "variable", "missing"])
def test_exactness_and_absence_keep_to_onnxruntime(
    tiny: Model, other: type[Other], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "variable":
        monkeypatch.setenv("MEDSEG_ENGINE", "onnxruntime")
    if how == "missing":
        monkeypatch.setattr(openvino_engine, "installed", lambda: False)
    with Session.open(tiny, "cpu", monitor=Monitor(), precision="float32" if how == "precision" else "auto") as session:
        session.run(feeds(session))
        assert session.provider == CPU and other.made == 0


def test_air_alone_decides_nothing(tiny: Model, other: type[Other]) -> None:
    """The first window of a head is air: any two engines agree on it."""
    with Session.open(tiny, "cpu", monitor=Monitor()) as session:
        session.run({name: np.zeros_like(x) for name, x in feeds(session).items()})
        assert session.provider == CPU and other.made == 0
        session.run(feeds(session))
        assert other.made == 1


@pytest.mark.parametrize("text", ["", "[]", '{"k": 3}', '{"k": {"engine": "x"}}', "\x00"])
def test_a_damaged_memory_of_choices_is_no_error(text: str) -> None:
    (automatic.cache_folder() / "engines.json").write_text(text)
    assert automatic.remembered("k") is None
    automatic.remember("k", Choice("openvino", {"openvino": 1.0, "onnxruntime": 2.0}, 1.0))
    assert automatic.remembered("k") == Choice("openvino", {"openvino": 1.0, "onnxruntime": 2.0}, 1.0)


def test_agreement_is_of_decisions(tiny: Model) -> None:
    name = tiny.manifest.output.tensor
    one = {name: np.linspace(0, 1, 2 * 64).reshape(1, 2, 4, 4, 4).astype(np.float32)}
    assert agreement(tiny.manifest, one, {name: one[name] + 1e-7}) == 1
    assert agreement(tiny.manifest, one, {name: one[name][:, ::-1].copy()}) < 0.9
    assert agreement(tiny.manifest, one, {name: np.full_like(one[name], np.nan)}) == 0


def test_the_choice_weighs_time_and_agreement(tiny: Model) -> None:
    name = tiny.manifest.output.tensor
    answer = {name: np.ones((1, 2, 4, 4, 4), np.float32)}

    def slow() -> dict[str, Any]:
        time.sleep(0.05)
        return answer

    assert measured(tiny.manifest, slow, lambda: answer)[0].engine == "openvino"
    assert measured(tiny.manifest, lambda: answer, slow)[0].engine == "onnxruntime"


# -- OpenVINO itself ------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (pip install 'medseg[openvino]')")


def test_openvino_gives_what_onnxruntime_gives(real: None, tiny: Model) -> None:
    devices.available_devices.cache_clear()
    assert "openvino:cpu" in [d.id for d in devices.available_devices() if d.works]
    with Session.open(tiny, "openvino:cpu", monitor=Monitor()) as fast:
        got = fast.run(feeds(fast))
        assert fast.provider.startswith("OpenVINO 20") and "OpenVINO" in fast.device
        with Session.open(tiny, "cpu", monitor=Monitor(), precision="float32") as plain:
            right = plain.run(feeds(plain))
        assert fast.input_shapes == plain.input_shapes and fast.output_shapes == plain.output_shapes
    assert got.keys() == right.keys()
    for name in right:
        np.testing.assert_allclose(got[name], right[name], atol=1e-5)


def test_openvino_takes_inputs_of_any_size(real: None, tiny: Model) -> None:
    with Session.open(tiny, "openvino:cpu", monitor=Monitor()) as session:
        name = next(iter(session.input_shapes))
        if all(session.input_shapes[name]):
            pytest.skip("this network takes one size only")
        for size in (4, 6, 8, 10, 4):
            values = np.random.default_rng(size).random((1, 1, size, size, size)).astype(np.float32)
            assert next(iter(session.run({name: values}).values())).shape[2:] == (size,) * 3


def test_a_run_on_openvino_can_be_cancelled(real: None, tiny: Model) -> None:
    monitor = Monitor()
    with Session.open(tiny, "openvino:cpu", monitor=monitor) as session:
        threading.Timer(0.05, monitor.cancel).start()
        with pytest.raises(Cancelled):
            for _ in range(100_000):
                session.run(feeds(session))


def test_a_file_that_openvino_cannot_read_is_told(real: None, tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("unsupported operator Foo")

    monkeypatch.setattr(session_module, "OpenVinoNetwork", refuse)
    with pytest.raises(DeviceError, match=r"cannot run on OpenVINO: unsupported operator Foo. Choose the CPU"):
        Session.open(tiny, "openvino:cpu", monitor=Monitor())


_STARTS = """
import multiprocessing.process, sys
started = []
multiprocessing.process.BaseProcess.start = lambda self: started.append(self)
from medseg.engine import openvino_engine
openvino_engine.fast_precisions()
assert "openvino.tools.ovc" in sys.modules, "what reports is loaded with OpenVINO"
print(len(started), "openvino_telemetry" in sys.modules)
"""


def test_openvino_reports_to_nobody_and_leaves_no_process(real: None) -> None:
    """A hospital's computer tells no web service what it runs; a forked reporter that hung kept the worker's pipes."""
    done = subprocess.run([sys.executable, "-c", _STARTS], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "False"], done.stderr
