"""Lower precisions than float32. If one failed, who asked for speed would get other labels without being told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.engine import automatic, lower_precision, openvino_engine, session
from medseg.engine.session_cache import SessionCache
from medseg.model.package import Model, load_model
from medseg.monitor import Monitor
from support.packages import package

FEEDS = {"x": np.arange(64, dtype=np.float32).reshape(1, 1, 4, 4, 4)}


class Network:
    """Stands for OpenVINO: in a lower precision ``wrong`` of the 64 voxels are decided otherwise."""

    input_shapes = output_shapes = {"x": (1, 1, 4, 4, 4)}  # noqa: RUF012
    wrong = 0
    ran: list[str] = []  # noqa: RUF012

    def __init__(self, *_: Any, precision: str, **__: Any) -> None:
        self.precision = precision

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        type(self).ran.append(self.precision)
        scores = np.zeros((1, 2, 64), np.float32)
        scores[:, 0] = 1.0
        if self.precision != "float32":
            scores[:, 1, : type(self).wrong] = 2.0
        return {OUTPUT[0]: scores.reshape(1, 2, 4, 4, 4)}

    def words(self) -> str:
        return ""

    def stop(self) -> None: ...


OUTPUT: list[str] = []


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(openvino_engine, "installed", lambda: True)
    monkeypatch.setattr(openvino_engine, "version", lambda: "1.0")
    monkeypatch.setattr(openvino_engine, "fast_precisions", lambda: ("bfloat16",))
    monkeypatch.setattr(session.devices, "probe", lambda id: "")
    monkeypatch.setattr(session.devices, "by_openvino_itself", lambda which: True)
    monkeypatch.setattr(session, "OpenVinoNetwork", Network)
    Network.wrong, Network.ran = 0, []
    model = load_model(package(tmp_path / "tiny"))
    OUTPUT[:] = [model.manifest.output.tensor]
    return model


def volume(kept: SessionCache, model: Model) -> tuple[Monitor, list[str], Any]:
    """One volume of two inputs: what was told, in which precisions it ran, the last result."""
    monitor, before = Monitor(), len(Network.ran)
    opened = kept.open(model, "openvino:cpu", monitor=monitor, precision="bfloat16")
    opened.run(FEEDS)
    result = opened.run(FEEDS)
    return monitor, Network.ran[before:], result[OUTPUT[0]]


def test_a_precision_is_used_after_a_whole_volume_agreed(tiny: Model) -> None:
    kept = SessionCache()
    told, ran, _ = volume(kept, tiny)
    assert ran == ["float32", "bfloat16"] * 2 and "compared with float32" in told.notes[0] and not told.warnings
    told, ran, _ = volume(kept, tiny)
    assert ran == ["bfloat16"] * 2 and "100.0000 %" in told.notes[0] and not told.warnings
    kept.clear()
    assert volume(SessionCache(), tiny)[1] == ["bfloat16"] * 2, "it is remembered"


def test_a_precision_that_decides_otherwise_is_refused_and_the_user_told(tiny: Model) -> None:
    """One voxel of 64 is more than 0.05 %."""
    Network.wrong, kept = 1, SessionCache()
    _, _, result = volume(kept, tiny)
    assert (result.argmax(1) == 0).all(), "float32 gives the first volume's result"
    told, ran, result = volume(kept, tiny)
    assert ran == ["float32"] * 2 and (result.argmax(1) == 0).all()
    assert "98.4375 %" in told.warnings[0] and "bfloat16 is not used" in told.warnings[0]
    kept.clear()
    told, ran, _ = volume(SessionCache(), tiny)
    assert ran == ["float32"] * 2 and told.warnings, "each run says so"


def test_a_volume_that_was_cancelled_decides_nothing(tiny: Model) -> None:
    monitor = Monitor()
    opened = session.Session.open(tiny, "openvino:cpu", monitor=monitor, precision="bfloat16")
    opened.run(FEEDS)
    monitor.cancel()
    opened.close()
    key = automatic.key(tiny.sha256, None, FEEDS)
    assert automatic.remembered(f"{key}-bfloat16") is None and lower_precision.EQUAL > 0.999


def test_a_volume_that_ended_early_decides_nothing_for_the_next_run_of_a_kept_session(tiny: Model) -> None:
    """A worker keeps its sessions: a few tiles before Cancel were taken for a whole volume."""
    kept, monitor = SessionCache(), Monitor()
    opened = kept.open(tiny, "openvino:cpu", monitor=monitor, precision="bfloat16")
    opened.run(FEEDS)
    monitor.cancel()
    again = Monitor()
    opened.attach(again)
    opened.run(FEEDS)
    assert Network.ran == ["float32", "bfloat16"] * 2 and "compared with float32" in again.notes[0]
    opened.attach(Monitor())
    opened.run(FEEDS)
    assert Network.ran[4:] == ["bfloat16"], "the whole volume after it decides"
