"""Networks on a server: the labels are those of this computer, only voxels are sent, each failure is told."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.engine import session_cache
from medseg.engine.remote import RemoteSession
from medseg.engine.server import Server, ServerDown, server_from
from medseg.engine.session_cache import SessionCache
from medseg.errors import Cancelled, DeviceError, InputError, ModelError
from medseg.geometry.volume import Volume
from medseg.model.package import Model
from medseg.monitor import Monitor
from medseg.pipeline.run import run
from support.remote_samples import named_volume, tiny_model

pytest.importorskip("tritonclient.http", reason="tritonclient is not installed (pip install 'medseg[server]')")
from support.inference_server import InferenceServer

QUICK = {"retries": 1, "timeout": 5.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def volume() -> Volume:
    return named_volume()


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    yield
    assert not [t for t in threading.enumerate() if t.name.startswith("medseg-in-flight")]


def labels(result: Any) -> Any:
    return result.layers[0].labels


def test_labels_are_those_of_this_computer_and_several_tiles_travel_at_once(tiny: Model, volume: Volume) -> None:
    here = run(tiny, volume, device="cpu")
    with InferenceServer(tiny, delay=0.01) as server:
        there = run(tiny, volume, server=Server(server.url))
    assert np.array_equal(labels(here), labels(there)) and labels(here).any()
    assert 1 < server.most_at_once <= 4
    assert there.provenance["provider"] == "remote (KServe v2, test server 1)"
    assert there.provenance["parameters"]["server"]["fallback"] == "error"
    assert there.provenance["inference"]["calls"] == here.provenance["inference"]["calls"] == len(server.seen)


def test_nothing_but_voxels_travels_and_the_token_is_written_nowhere(
    tiny: Model, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with InferenceServer(tiny, token="s3cret") as server:
        chosen = server_from(server.url, {"MEDSEG_SERVER_TOKEN": "s3cret\n"}, compress="on")
        result = run(tiny, volume, server=chosen)
    headers, request = server.seen[0]
    assert headers["Content-Encoding"] == "deflate"
    assert set(request) <= {"inputs", "outputs", "parameters"}
    assert [set(i) for i in request["inputs"]] == [{"name", "shape", "datatype", "parameters"}]
    assert "Doe" not in json.dumps([headers, request]) and "4711" not in json.dumps(request)
    told = json.dumps(result.provenance, default=str) + caplog.text + repr(chosen)
    assert "s3cret" not in told and result.provenance["parameters"]["server"]["token"] is True


def test_a_server_killed_mid_run_ends_the_run_where_the_rule_is_error(tiny: Model, volume: Volume) -> None:
    with InferenceServer(tiny, dies_after=5) as server, pytest.raises(ServerDown, match=r"cannot be reached.*local"):
        run(tiny, volume, server=Server(server.url, **QUICK))


def test_a_server_killed_mid_run_is_taken_over_where_the_rule_is_local(
    tiny: Model, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    with InferenceServer(tiny, dies_after=5) as server:
        result = run(tiny, volume, device="cpu", server=Server(server.url, fallback="local", **QUICK))
    assert np.array_equal(labels(result), labels(run(tiny, volume, device="cpu")))
    told = [w for w in result.warnings if "This computer goes on" in w]
    assert len(told) == 1 and told[0] in caplog.text and told[0] in result.provenance["warnings"]
    assert result.provenance["provider"] == "remote, then CPUExecutionProvider"


def test_no_server_at_all(tiny: Model, volume: Volume) -> None:
    with InferenceServer(tiny) as server:
        url = server.url
    with pytest.raises(ServerDown, match="cannot be reached"):
        run(tiny, volume, server=Server(url, **QUICK))
    result = run(tiny, volume, device="cpu", server=Server(url, fallback="local", **QUICK))
    assert result.provenance["provider"] == "CPUExecutionProvider" and "had answered 0" in result.warnings[-1]


@pytest.mark.parametrize("rule", ["error", "local"])
@pytest.mark.parametrize("dies_after", [0, 5], ids=["never there", "dies under the first case"])
def test_a_dead_server_is_asked_once_and_not_for_each_case_of_a_batch(
    tiny: Model, volume: Volume, rule: Any, dies_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the usual patience each of a thousand cases would wait for minutes."""
    asked: list[str] = []
    call = RemoteSession._call

    def counted(self: RemoteSession, function: Any) -> Any:
        asked.append("")
        return call(self, function)

    monkeypatch.setattr(RemoteSession, "_call", counted)
    cache, told, first = SessionCache(), [], 0
    with InferenceServer(tiny, dies_after=dies_after) as server:
        if not dies_after:
            server.die()
        for _ in range(3):
            chosen = Server(server.url, fallback=rule, **QUICK)
            try:
                result = run(tiny, volume, device="cpu", server=chosen, open_session=cache.open)
                told.append(" ".join(result.warnings))
                assert np.array_equal(labels(result), labels(run(tiny, volume, device="cpu")))
            except ServerDown as error:
                told.append(str(error))
            first = first or len(asked)
        assert first >= 1 and len(asked) == first
        for later in told[1:]:
            assert "cannot be reached" in later and "asked again after 60 s" in later
            assert ("This computer runs" in later) == (rule == "local")
        monkeypatch.setattr(session_cache, "REST_SECONDS", 0.0)
        with contextlib.suppress(ServerDown):
            run(tiny, volume, device="cpu", server=chosen, open_session=cache.open)
        assert len(asked) > first
    cache.clear()


def test_a_slow_server_is_not_waited_for_longer_than_asked(tiny: Model, volume: Volume) -> None:
    with InferenceServer(tiny, delay=3) as server:
        started = time.perf_counter()
        with pytest.raises(ServerDown, match=r"did not answer within 0\.3 s"):
            run(tiny, volume, server=Server(server.url, timeout=0.3))
        assert time.perf_counter() - started < 2.5


def test_a_busy_server_is_asked_again(tiny: Model, volume: Volume) -> None:
    with InferenceServer(tiny, wrong="busy") as server:
        result = run(tiny, volume, server=Server(server.url, **QUICK))
    assert np.array_equal(labels(result), labels(run(tiny, volume, device="cpu")))
    assert any("Trying again" in note for note in result.notes)


@pytest.mark.parametrize("rule", ["error", "local"])
@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ("shape", ModelError, "has the shape .* was expected from what was fed"),
        ("hash", ModelError, "other weights"),
        ("garbage", ModelError, "otherwise than its protocol says"),
        ("token", DeviceError, "refuses the token"),
        ("name", ModelError, "has no network"),
    ],
)
def test_what_would_not_heal_is_an_error_under_either_rule(
    tiny: Model, volume: Volume, rule: Any, wrong: str, error: type[Exception], words: str
) -> None:
    with InferenceServer(tiny, wrong=wrong, token="right" if wrong == "token" else "") as server:
        name = "nothing" if wrong == "name" else None
        asked = Server(server.url, fallback=rule, name=name, token="false", **QUICK)
        with pytest.raises(error, match=words):
            run(tiny, volume, server=asked)


def test_a_server_that_does_not_tell_its_weights_is_told_of(tiny: Model, volume: Volume) -> None:
    with InferenceServer(tiny, wrong="no config") as server:
        result = run(tiny, volume, server=Server(server.url))
    assert any("does not say which weights" in w for w in result.warnings)


def test_cancel_does_not_wait_for_the_server(tiny: Model, volume: Volume) -> None:
    monitor = Monitor()
    with InferenceServer(tiny, delay=30) as server:
        threading.Timer(0.3, monitor.cancel).start()
        started = time.perf_counter()
        with pytest.raises(Cancelled):
            run(tiny, volume, server=Server(server.url), monitor=monitor)
        assert time.perf_counter() - started < 4


def test_the_certificate_is_checked(tiny: Model, volume: Volume, tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key),
    ]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    with InferenceServer(tiny, certificate=(certificate, key)) as server:
        with pytest.raises(DeviceError, match="certificate"):
            run(tiny, volume, server=Server(server.url, fallback="local", **QUICK))
        result = run(tiny, volume, server=Server(server.url, authority=certificate, token="t", **QUICK))
    assert np.array_equal(labels(result), labels(run(tiny, volume, device="cpu")))


@pytest.mark.parametrize(
    ("url", "more", "words"),
    [
        ("ftp://host", {}, "must be http"),
        ("https://user@host", {}, "user name"),
        ("https://host:x", {}, "must be http"),
        ("http://far.example", {"token": "t"}, "readable"),
        ("https://h", {"fallback": "maybe"}, "fall-back rule"),
        ("https://h", {"timeout": 0}, "positive"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(url: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Server(url, **more)
