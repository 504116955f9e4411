"""Sessions: what is asked for is what runs or the user is told; cancel, memory and closing never hang or lose a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from medseg.engine import devices, machine
from medseg.engine.calling import CallingThread
from medseg.engine.providers import CPU
from medseg.engine.session import Session
from medseg.errors import Cancelled, DeviceError, InputError, ModelError, OutOfMemory
from medseg.model.package import Model, load_model
from medseg.monitor import Monitor
from support.packages import external, network, package

CUDA = "CUDAExecutionProvider"
REAL = onnxruntime.InferenceSession
X = np.arange(64, dtype=np.float32).reshape(1, 1, 4, 4, 4)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    devices.probe.cache_clear()
    devices.available_devices.cache_clear()
    yield
    devices.probe.cache_clear()
    devices.available_devices.cache_clear()


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    return load_model(package(tmp_path / "tiny"))


def fake_cuda(
    monkeypatch: pytest.MonkeyPatch,
    claims: Callable[[list[str]], list[str]] = lambda asked: asked,
    error: dict[str, Exception] | None = None,
    run_error: Exception | None = None,
) -> None:
    """Stands at ONNX Runtime's boundary: has CUDA built in, says that ``claims`` runs, and runs on the CPU."""

    class Fake:
        def __init__(self, source: Any, options: Any, providers: Any, **_: Any) -> None:
            names = [name for name, _ in providers]
            if not isinstance(source, bytes) and error and names[0] in error:
                raise error[names[0]]
            self.session = REAL(source, options, providers=[CPU])
            self.probe = isinstance(source, bytes)
            self.claimed = names if self.probe else claims(names)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.session, name)

        def get_providers(self) -> list[str]:
            return self.claimed

        def run(self, *arguments: Any) -> Any:
            if run_error is not None and not self.probe and self.claimed[0] != CPU:
                raise run_error
            return self.session.run(*arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])


# -- running ------------------------------------------------------------------------------------------------


def test_a_network_runs_on_the_cpu(tiny: Model) -> None:
    monitor = Monitor()
    with Session.open(tiny, "cpu", monitor=monitor) as session:
        assert session.provider == CPU and session.device.startswith("CPU (")
        assert session.providers_requested == (CPU,)
        assert session.input_shapes == {"x": (1, 1, None, None, None)}
        assert session.output_shapes == {"y": (1, 2, None, None, None)}
        outputs = session.run({"x": X})
        np.testing.assert_array_equal(outputs["y"], np.concatenate([X, X], axis=1))
    assert monitor.warnings == []
    with pytest.raises(DeviceError, match="closed"):
        session.run({"x": X})


def test_external_weights_are_found_beside_the_model(tmp_path: Path) -> None:
    with Session.open(load_model(external(tmp_path / "tiny")), "cpu", monitor=Monitor()) as session:
        assert session.run({"x": X})["y"].shape == (1, 3, 4, 4, 4)


def test_a_path_with_letters_of_all_countries_works(tmp_path: Path) -> None:
    """User names are in paths."""
    model = load_model(package(tmp_path / "Müller 模型 ä"))
    with Session.open(model, "cpu", monitor=Monitor()) as session:
        assert session.run({"x": X})["y"].shape == (1, 2, 4, 4, 4)


def test_feeds_that_do_not_fit_are_a_model_error(tiny: Model) -> None:
    with Session.open(tiny, "cpu", monitor=Monitor()) as session:
        for feeds in ({"x": X.astype(np.uint8)}, {"x": X[0]}, {"z": X}, {"x": X.repeat(2, axis=1)}, {}):
            with pytest.raises(ModelError, match=r"Tiny: .*does not take"):
                session.run(feeds)
        assert session.run({"x": X})["y"].shape == (1, 2, 4, 4, 4), "it still works"


def test_bad_options_are_refused(tiny: Model) -> None:
    for options in ({"device": "gpu9"}, {"precision": "int3"}, {"threads": 0}):
        with pytest.raises(InputError):
            Session.open(tiny, monitor=Monitor(), **options)  # type: ignore[arg-type]


# -- devices ------------------------------------------------------------------------------------------------


def test_auto_takes_the_best_that_runs(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch)
    monitor = Monitor()
    with Session.open(tiny, monitor=monitor) as session:
        assert session.provider == CUDA and session.providers_requested == (CUDA, CPU)
    assert not [w for w in monitor.warnings if "not used" in w]


def test_auto_tells_when_the_card_is_not_used(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, claims=lambda asked: [CPU])
    monitor = Monitor()
    with Session.open(tiny, monitor=monitor) as session:
        assert session.provider == CPU
    assert any(w.startswith("CUDA is installed but not used: ONNX Runtime silently used CPU") for w in monitor.warnings)


def test_an_asked_device_never_silently_becomes_the_cpu(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"cuda:0 does not run: .*Working here: .*cpu"):
        Session.open(tiny, "cuda:0", monitor=Monitor())
    fake_cuda(monkeypatch, claims=lambda asked: [CPU])
    with pytest.raises(DeviceError, match=r"Tiny cannot run on CUDA: .*silently used CPU"):
        devices.probe.cache_clear()
        Session.open(tiny, "cuda:0", monitor=Monitor())


def test_a_card_without_a_cuda_runtime_is_told(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "nvidia_cards", lambda: (("RTX A4000", 1),))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    monitor = Monitor()
    Session.open(tiny, monitor=monitor).close()
    assert "RTX A4000" in monitor.warnings[0] and "onnxruntime-gpu" in monitor.warnings[0]


def test_operators_left_to_the_cpu_are_told(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """CoreML has no 3D convolution: the session says CoreML, the work is done by the CPU."""
    fake_cuda(monkeypatch)
    if not hasattr(
        onnxruntime.capi.onnxruntime_inference_collection.InferenceSession, "get_provider_graph_assignment_info"
    ):
        pytest.skip("this onnxruntime does not tell where its operators run")
    monitor = Monitor()
    Session.open(tiny, "cuda", monitor=monitor).close()
    assert any("leaves 1 of 1 large operators" in w and "Conv" in w for w in monitor.warnings)


def test_precision_that_is_not_to_be_had_is_told(tiny: Model) -> None:
    monitor = Monitor()
    Session.open(tiny, "cpu", monitor=monitor, precision="float16").close()
    assert "float32" in monitor.warnings[0]


# -- memory -------------------------------------------------------------------------------------------------


def test_going_to_the_cpu_works_and_is_remembered(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    fake_cuda(monkeypatch, run_error=error)
    monitor = Monitor()
    with Session.open(tiny, "cuda", monitor=monitor) as session:
        with pytest.raises(OutOfMemory, match=r"memory of .*CUDA.* does not suffice"):
            session.run({"x": X})
        session.to_cpu()
        assert session.provider == CPU and session.fell_back
        assert session.run({"x": X})["y"].shape == (1, 2, 4, 4, 4)


@pytest.mark.parametrize(
    "text",
    [
        "Non-zero status code returned while running Conv. Failed to allocate memory for requested buffer of size 9",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "MLOperatorAuthorImpl.cpp(2839) Exception(2) tid(1) 8007000E Not enough memory resources are available",
        "[GPU] clWaitForEvents, error code: -14 CL_OUT_OF_RESOURCES",
        "std::bad_alloc",
    ],
)
def test_out_of_memory_is_recognised_in_every_provider_s_words(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The smaller batch and the CPU are tried only after this error."""
    fake_cuda(monkeypatch, run_error=RuntimeError(text))
    with Session.open(tiny, "cuda", monitor=Monitor()) as session, pytest.raises(OutOfMemory):
        session.run({"x": X})
    fake_cuda(monkeypatch, error={CUDA: RuntimeError(text)})
    with pytest.raises(OutOfMemory):
        Session.open(tiny, "cuda", monitor=Monitor())
    monitor = Monitor()
    with Session.open(tiny, "auto", monitor=monitor) as session:
        assert session.provider == CPU and "memory" in monitor.warnings[0]


def expanding(tmp_path: Path, mode: str) -> Model:
    """Multiplies its size: ``y`` is as large as ``s`` says."""
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "s"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 1, 1, 1]),
         helper.make_tensor_value_info("s", TensorProto.INT64, [5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "c", "d", "h", "w"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inference = {"mode": "whole"} if mode == "whole" else {"mode": "sliding_window", "patch": [1, 1, 1]}
    raw = package(tmp_path / mode, model, inference=inference)
    # The fit check wants every input fed by the manifest; this network is opened as it is.
    return Model(load_model(package(tmp_path / "fit", inference=inference)).manifest, raw / "model.onnx", "", "test")


@pytest.mark.parametrize("mode", ["whole", "sliding_window"])
def test_real_lack_of_main_memory_is_out_of_memory(tmp_path: Path, mode: str) -> None:
    """With and without ONNX Runtime's arena, whose words differ."""
    with Session.open(expanding(tmp_path, mode), "cpu", monitor=Monitor()) as session:
        feeds = {"x": np.ones((1, 1, 1, 1, 1), np.float32), "s": np.array([1, 1, 1 << 18, 1 << 14, 1 << 12])}
        with pytest.raises(OutOfMemory, match="CPU"):
            session.run(feeds)
        assert session.run({**feeds, "s": np.array([1, 1, 2, 2, 2])})["y"].shape == (1, 1, 2, 2, 2)


# -- faults -------------------------------------------------------------------------------------------------


def test_other_failures_of_a_device_are_device_errors(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda(monkeypatch, run_error=RuntimeError("CUDA failure 700: an illegal memory access was encountered"))
    with (
        Session.open(tiny, "cuda", monitor=Monitor()) as session,
        pytest.raises(DeviceError, match="illegal") as caught,
    ):
        session.run({"x": X})
    assert not isinstance(caught.value, OutOfMemory)


def test_a_network_that_the_runtime_refuses_is_a_model_error(tiny: Model, tmp_path: Path) -> None:
    """Where the check let something through, the user still reads a sentence."""
    odd = tmp_path / "odd.onnx"
    odd.write_bytes(b"odd")
    with pytest.raises(ModelError, match=r"Tiny: ONNX Runtime .* cannot load the network"):
        Session.open(Model(tiny.manifest, odd, "", "test"), "cpu", monitor=Monitor())


def test_the_runtime_prints_nothing(tiny: Model, capfd: pytest.CaptureFixture[str]) -> None:
    """stdout carries the worker's messages; stderr is what the user sees in a terminal."""
    with Session.open(tiny, "auto", monitor=Monitor()) as session, pytest.raises(ModelError):
        session.run({"x": X[0]})
    out, err = capfd.readouterr()
    assert out == "" and "onnxruntime" not in err.lower()


# -- cancel -------------------------------------------------------------------------------------------------


def slow(tmp_path: Path) -> tuple[Model, dict[str, Any]]:
    """A loop that would run for hours, made of short operators."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["v"], ["v2"])], "body",
        [value("n", TensorProto.INT64, []), value("c", TensorProto.BOOL, []), value("v", TensorProto.FLOAT, None)],
        [value("c2", TensorProto.BOOL, []), value("v2", TensorProto.FLOAT, None)],
    )  # fmt: skip
    constants = [
        helper.make_node("Constant", [], ["times"], value=helper.make_tensor("t", TensorProto.INT64, [], [1 << 40])),
        helper.make_node("Constant", [], ["true"], value=helper.make_tensor("b", TensorProto.BOOL, [], [True])),
    ]
    loop = helper.make_node("Loop", ["times", "true", "x"], ["l"], body=body)
    conv = helper.make_node("Conv", ["l", "w"], ["y"])
    return load_model(package(tmp_path / "slow", network(nodes=[*constants, loop, conv]))), {"x": X}


def test_cancel_from_another_thread_ends_a_run(tmp_path: Path) -> None:
    model, feeds = slow(tmp_path)
    monitor = Monitor()
    session = Session.open(model, "cpu", monitor=monitor)
    threading.Timer(0.3, monitor.cancel).start()
    with pytest.raises(Cancelled):
        session.run(feeds)
    with pytest.raises(Cancelled):
        session.run(feeds)
    session.close()


def test_a_cancelled_monitor_opens_nothing(tiny: Model) -> None:
    monitor = Monitor()
    monitor.cancel()
    with pytest.raises(Cancelled):
        Session.open(tiny, "cpu", monitor=monitor)


def test_cancel_does_not_wait_for_an_operator_that_will_not_end(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """One huge convolution can take a minute; the user's Cancel must not."""
    release, monitor = threading.Event(), Monitor()
    session = Session.open(tiny, "cpu", monitor=monitor)
    monkeypatch.setattr("medseg.engine.calling._GRACE_SECONDS", 0.05)
    inner = session._session
    monkeypatch.setattr(session, "_session", type("Stuck", (), {
        "get_outputs": inner.get_outputs, "run": lambda self, *_: release.wait(60),
    })())  # fmt: skip
    threading.Timer(0.1, monitor.cancel).start()
    with pytest.raises(Cancelled):
        session.run({"x": X})
    assert not release.is_set()
    release.set()
    monkeypatch.setattr(session, "_session", inner)
    session._monitor = Monitor()
    assert session.run({"x": X})["y"].shape == (1, 2, 4, 4, 4), "the next run waits its turn and works"
    session.close()


def test_sessions_end_their_threads(tiny: Model) -> None:
    before = threading.active_count()
    for _ in range(5):
        Session.open(tiny, "cpu", monitor=Monitor()).close()
        Session.open(tiny, "cpu", monitor=Monitor())
    import gc

    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "medseg-onnxruntime":
            thread.join(5)
    assert threading.active_count() <= before


def test_the_model_is_opened_from_its_path(tmp_path: Path) -> None:
    """Loading bytes would keep a second copy of the weights in memory (small networks of whole volumes aside)."""
    inference = {"mode": "sliding_window", "patch": [4, 4, 4]}
    model = load_model(package(tmp_path / "tiny", inference=inference))
    with Session.open(model, "cpu", monitor=Monitor()) as session:
        assert session._session._model_bytes is None
        assert onnx.load(str(model.onnx_path)).graph.node[0].op_type == "Conv"


@pytest.mark.parametrize(("gigabytes", "calls"), [(0, 1), (6, 1), (16, 2), (24, 3), (141, 3)])
def test_small_cards_are_not_filled_with_several_calls(monkeypatch, gigabytes, calls):
    """Each call needs memory for its activations; a card that is too small would fail and begin anew."""
    monkeypatch.setattr(machine, "nvidia_cards", lambda: (("card", gigabytes << 30),))
    assert machine.calls_at_once(0) == calls and machine.calls_at_once(1) == 1


def test_several_calls_are_under_way_where_several_threads_were_asked_for():
    """A card copies for one call while it computes for the other."""
    thread, meeting = CallingThread(), threading.Barrier(2, timeout=20)
    thread.at_least(2)
    callers = [
        threading.Thread(target=lambda: thread.call(meeting.wait, Monitor(), lambda: None), daemon=True)
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
        assert not caller.is_alive()
    assert not meeting.broken
    thread.close()
