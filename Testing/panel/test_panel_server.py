"""A run on a server, from the panel: nothing is sent that the user did not agree to, and the token is kept nowhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medseg import load_model, run
from medseg.geometry.volume import Volume
from qt_host.fixtures import FakeInstaller, Host, Opened, grid, host, opened, ramp  # noqa: F401
from support.worker_harness import LocalProcess, Loop, Recorder

# ruff: noqa: F811  (fixtures are arguments)

URL = "https://gpu.hospital.example:8000"


def apply(opened: Opened, address: str, token: str = "") -> None:
    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.serverEdit.text = address
    opened.ui.serverTokenEdit.text = token
    opened.ui.applyButton.click()


def test_without_an_address_nothing_is_asked_and_the_run_stays_here(opened: Opened) -> None:
    apply(opened, "")
    assert opened.dialogs.questions == [] and "server" not in opened.worker.runs[0]["options"]
    assert not opened.ui.serverTokenEdit.enabled and not opened.ui.serverFallbackSelector.enabled


def test_voxels_are_sent_after_a_question_that_says_so_once_for_an_address(opened: Opened) -> None:
    apply(opened, URL)
    (question,) = opened.dialogs.questions
    assert "voxels" in question and "gpu.hospital.example:8000" in question and "not encrypted" not in question
    assert opened.worker.runs[0]["options"]["server"] == {"url": URL, "fallback": "error"}
    opened.finish()
    opened.ui.serverFallbackSelector.currentIndex = 1
    opened.ui.applyButton.click()
    assert len(opened.dialogs.questions) == 1
    assert opened.worker.runs[1]["options"]["server"]["fallback"] == "local"
    opened.finish()
    opened.ui.serverEdit.text = "http://other.example:8000"
    opened.ui.applyButton.click()
    assert "not encrypted" in opened.dialogs.questions[1] and len(opened.worker.runs) == 3


def test_who_does_not_agree_sends_nothing(opened: Opened) -> None:
    opened.dialogs.agrees = False
    apply(opened, URL)
    assert opened.worker.runs == [] and "Nothing was sent" in opened.panel.run.log_text
    assert opened.ui.applyButton.enabled


def test_runs_on_the_cases_of_a_list_ask_too(opened: Opened) -> None:
    """They go on in the background: an image must not leave the house by a side door."""
    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.serverEdit.text = URL
    opened.installer.warm = True
    opened.dialogs.agrees = False
    apart, volume = opened.panel.apart, Volume(ramp((8, 8, 8)), grid((8, 8, 8)), "CT")
    assert not apart.ready
    assert "not to be sent" in apart.start(volume, print, print) and opened.worker.runs == []
    opened.dialogs.agrees = True
    assert apart.start(volume, print, print) == "" and apart.ready
    assert opened.worker.runs[0]["options"]["server"]["url"] == URL


def test_the_token_is_in_the_request_and_nowhere_else(opened: Opened, tmp_path: Path) -> None:
    import slicer

    apply(opened, URL, "s3cret")
    assert opened.worker.runs[0]["options"]["server"]["token"] == "s3cret"
    assert "s3cret" not in opened.panel.run.log_text + "".join(opened.dialogs.questions)
    settings = slicer.app.userSettings()
    assert settings.value("MedSeg/Server") == URL
    assert "s3cret" not in "".join(str(settings.value(key)) for key in settings.allKeys())
    opened.scene.SetURL(str(tmp_path / "scene.mrml"))
    opened.scene.Commit()
    text = (tmp_path / "scene.mrml").read_text(errors="replace")
    # Nor is the address: a scene that somebody sends must not name where images go.
    assert "s3cret" not in text and "gpu.hospital" not in text


def test_address_and_rule_are_there_again_the_token_is_not(opened: Opened) -> None:
    opened.ui.serverEdit.text = URL
    opened.ui.serverFallbackSelector.currentIndex = 1
    opened.ui.serverTokenEdit.text = "s3cret"
    opened.module.make_widget()
    assert opened.ui.serverEdit.text == URL and opened.ui.serverFallbackSelector.currentIndex == 1
    assert opened.ui.serverTokenEdit.text == ""


def test_a_missing_package_that_is_not_installed_runs_nothing(opened: Opened) -> None:
    opened.panel.server._installer = FakeInstaller(there=False)
    apply(opened, URL)
    assert opened.worker.runs == []


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made, key = tmp_path / "server.pem", tmp_path / "key.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", str(made), "-keyout", str(key),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def test_what_the_panel_asks_runs_over_tls_with_the_token(
    opened: Opened, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """The panel's own request, the real worker, a server of the real protocol behind TLS and a token.

    Its certificate is one that this computer does not know: a hospital's own authority is named in the panel.
    """
    pytest.importorskip("tritonclient.http", reason="tritonclient is not installed (pip install 'medseg[server]')")
    from medseg import phantoms
    from medseg_panel.worker.client import WorkerClient
    from support.inference_server import InferenceServer

    (tmp_path / "none.pem").write_text("no certificate")
    model = load_model("ich-compact")
    volume = phantoms.head_ct(7, size=(64, 64, 6), spacing=(3.6, 3.6, 25.0)).volume
    loop = Loop()
    client = WorkerClient(lambda told, ended: LocalProcess(loop, told, ended), loop.schedule)
    with InferenceServer(model, token="s3cret", certificate=certificate) as server:
        heard: dict[str, Recorder] = {}
        for case, token, authority in (
            ("s3cret", "s3cret", str(certificate[0])),
            ("wrong", "wrong", str(certificate[0])),
            ("unknown", "s3cret", ""),
            ("no authority", "s3cret", str(tmp_path / "none.pem")),
            ("no file", "s3cret", str(tmp_path / "gone.pem")),
        ):
            opened.ui.serverEdit.text, opened.ui.serverTokenEdit.text = server.url, token
            opened.ui.serverAuthorityEdit.text = authority
            recorder = heard[case] = Recorder()
            client.start_run(str(model.origin), [volume], opened.panel.server.options(), recorder)
            loop.until(lambda recorder=recorder: recorder.end is not None)
    client.shutdown()
    (kind, result), (refused, sentence) = heard["s3cret"].end or ("", None), heard["wrong"].end or ("", "")
    assert (kind, refused) == ("result", "DeviceError"), (result, sentence)
    assert result.provenance["provider"].startswith("remote") and server.seen
    here, there = run(model, volume, device="cpu").tables["slices"], result.tables["slices"]
    for name in (c.name for c in here.columns if c.type == "float"):
        np.testing.assert_allclose(here.column(name), there.column(name), atol=1e-6)
    assert "refuses the token" in sentence and "wrong" not in sentence
    assert "s3cret" not in str(result.provenance)
    ends = {case: heard[case].end for case in ("unknown", "no authority", "no file")}
    assert all(end is not None and end[0].endswith("Error") for end in ends.values()), ends
    assert "authority" in ends["unknown"][1] and "none.pem" in ends["no authority"][1]
    assert "gone.pem" in ends["no file"][1]


def test_the_authority_of_a_hospital_is_chosen_and_kept(opened: Opened, tmp_path: Path) -> None:
    """Without it a server behind a hospital's own certificate could only be used by changing the whole computer."""
    assert not opened.ui.serverAuthorityEdit.enabled
    opened.ui.serverEdit.text = URL
    assert "authority" not in opened.panel.server.options()["server"]
    opened.dialogs.path = str(tmp_path / "hospital.pem")
    opened.ui.serverAuthorityButton.click()
    assert opened.panel.server.options()["server"]["authority"] == str(tmp_path / "hospital.pem")
    opened.module.make_widget()
    assert opened.ui.serverAuthorityEdit.text == str(tmp_path / "hospital.pem")


def test_a_request_that_is_no_server_is_refused_without_the_token(tmp_path: Path) -> None:
    from medseg.errors import InputError
    from medseg.worker.requests import run_options_of

    for wrong in (
        {"token": "s3cret"}, {"url": 5, "token": "s3cret"}, {"url": "ftp://x", "token": "s3cret"},
        {"url": URL, "fallback": "s", "token": "s3cret"}, {"url": URL, "token": ["s3cret"]}, "s3cret",
        {"url": "http://far.example", "token": "s3cret"}, {"url": URL, "token": "s3cret", "more": 1},
    ):  # fmt: skip
        with pytest.raises(InputError) as error:
            run_options_of({"options": {"server": wrong}})
        assert "s3cret" not in str(error.value)
