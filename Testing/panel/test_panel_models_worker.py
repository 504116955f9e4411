"""More models through the real worker: imports, downloads that stall or lie, and a worker that dies meanwhile."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qt_host.bridge import slot_errors
from qt_host.fixtures import MODULE, Host, Opened, ct_card, flair_card, host, opened  # noqa: F401
from support.catalogue_server import serving, whole
from support.packages import network
from support.packages import package as write_package

# ruff: noqa: F811  (fixtures are arguments)


def entry(opened: Opened, text: str) -> None:
    """Choose an entry of the menu."""
    opened.entry(text).trigger()


@pytest.fixture
def real(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """The module with the real worker and store, an empty folder for the user's models, and dialogs that answer."""
    from qt_host.fixtures import FakeDialogs, FakeInstaller

    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    host.scene.Clear(0)
    module = host.load_module(MODULE)
    module.python.add_paths()
    import medseg_panel.panel as panel

    dialogs, installer, make = FakeDialogs(), FakeInstaller(), panel.slicer_collaborators

    def collaborators(resources: Path) -> Any:
        return replace(make(resources), dialogs=dialogs, installer=lambda log: installer)

    monkeypatch.setattr(panel, "slicer_collaborators", collaborators)
    slot_errors.clear()
    module.widgetRepresentation()._target.set_entered(True)
    yield Opened(host, module, module.widget.panel.segment._worker, None, dialogs, installer)  # type: ignore[arg-type]
    module.close()
    host.scene.Clear(0)
    host.pump(0.02)
    assert slot_errors == []


def choose_row(dialogs: Any, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Any], bool]) -> list[Any]:
    """The user takes the first row that is ``wanted``; the rows are kept."""
    seen: list[Any] = []

    def choose(title: str, text: str, columns: Any, rows: Any, accept: str, details: Any = ()) -> int:
        dialogs.details = list(details)
        seen.extend(rows)
        return next(n for n, row in enumerate(rows) if wanted(row))

    monkeypatch.setattr(dialogs, "choose", choose)
    return seen


@pytest.mark.real_data
def test_tfjs_weights_become_a_model_that_can_be_applied(
    real: Opened, host: Host, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real.dialogs.path = str(shared / "models" / "meshnet-gwm-light" / "tfjs" / "model.json")
    title = json.loads(
        (MODULE.parent / "Resources" / "Models" / "recipes" / "meshnet-gwm-light.json").read_text(encoding="utf-8")
    )["manifest"]["title"]
    rows = choose_row(real.dialogs, monkeypatch, lambda row: row[0] == title)
    entry(real, "Import weights")
    host.wait_for(lambda: not real.panel.more.busy, 90)
    assert real.dialogs.errors == []
    assert rows and all("MeshNet" in row[0] for row in rows), "only models that come as such a file are offered"
    assert any("white and grey matter" in card.lower() for card in real.dialogs.details), "the card comes before it"
    assert real.panel.model.card is not None and real.panel.model.card.id == "meshnet-gwm-light"
    assert real.panel.model.card.has_weights and real.panel.model.card.folder.is_relative_to(tmp_path)
    left = [path for path in tmp_path.glob("medseg-*/*") if path.name != ".owner"]  # the worker has a folder of its own
    assert not left, "the import left files behind"


def test_an_unknown_onnx_file_becomes_a_model_by_its_answers(
    real: Opened, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(network(classes=3).SerializeToString())
    real.dialogs.path = str(file)
    real.dialogs.answers = {"classes": "liver, spleen", "orientation": "RAS"}
    rows = choose_row(real.dialogs, monkeypatch, lambda row: row[0] == "Another model")
    entry(real, "Import weights")
    host.wait_for(lambda: not real.panel.more.busy, 60)
    assert real.dialogs.errors == [] and rows[-1][2] == "questions follow"
    assert "logits" in real.dialogs.forms[0][0]
    card = real.panel.model.card
    assert card is not None and card.id == "mine" and [c.name for c in card.classes] == ["liver", "spleen"]

    real.dialogs.answers["classes"] = "liver, kidney"
    entry(real, "Import weights")
    host.wait_for(lambda: not real.panel.more.busy, 60)
    assert real.dialogs.errors == [] and "Replace it?" in real.dialogs.questions[-1]
    assert [c.name for c in real.panel.model.card.classes] == ["liver", "kidney"], "the corrected answers count"


def test_a_file_that_is_no_model_is_refused_in_a_sentence(real: Opened, host: Host, tmp_path: Path) -> None:
    file = tmp_path / "weights.pkl"
    file.write_bytes(b"\x80\x04.")
    real.dialogs.path = str(file)
    entry(real, "Import weights")
    host.wait_for(lambda: not real.panel.more.busy, 60)
    assert "weights.pkl is a pickle" in real.dialogs.errors[0]


@pytest.fixture
def server() -> Iterator[Any]:
    with serving() as running:
        yield running


@pytest.fixture
def offered(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A catalogue with one ready package, made by us and served on this computer; the package's bytes."""
    package = write_package(tmp_path / "made", id="ours", title="Bright voxels")
    archive = tmp_path / "ours.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for member in sorted(package.iterdir()):
            file.write(member, member.name)
    content = archive.read_bytes()
    file = {
        "name": "ours.zip", "addresses": [f"http://127.0.0.1:{server.server_port}/ours.zip"], "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    line = {
        "id": "ours", "title": "Bright voxels", "system": "brain", "task": "segmentation", "kind": "package",
        "license": "MIT", "source": "test", "files": [file],
    }  # fmt: skip
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps({"medseg_catalogue": 1, "entries": [line]}))
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(catalogue))
    return content


def test_cancelled_download_goes_on_at_the_next_press(
    server: Any, offered: bytes, real: Opened, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that does not move is cancelled within seconds, the worker lives, and the next press finishes it."""
    half = len(offered) // 2
    server.route("/ours.zip", whole(offered, send=half, then="stall"), whole(offered))
    rows = choose_row(real.dialogs, monkeypatch, lambda row: row[0] == "Bright voxels")
    entry(real, "Install a published model")
    host.wait_for(lambda: "/ours.zip" in [path for path, _ in server.requests], 60)
    process = real.worker._process
    host.pump(0.3)
    real.ui.cancelButton.click()
    host.wait_for(lambda: not real.panel.more.busy, 8)
    assert "Cancelled" in real.ui.progressLabel.text and real.dialogs.errors == []
    assert ("Bright voxels", "brain, T1", "can be installed", "MIT") in [tuple(row[:4]) for row in rows]

    entry(real, "Install a published model")
    host.wait_for(lambda: not real.panel.more.busy, 60)
    assert real.dialogs.errors == []
    assert real.panel.model.card is not None and real.panel.model.card.id == "ours"
    assert real.worker._process is process, "cancelling must not cost the warm worker"
    assert server.ranges("/ours.zip")[-1] == f"bytes={half}-"


def test_a_wrong_file_is_not_installed(
    server: Any, offered: bytes, real: Opened, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.route("/ours.zip", whole(offered[:-4] + b"evil"))
    choose_row(real.dialogs, monkeypatch, lambda row: row[0] == "Bright voxels")
    entry(real, "Install a published model")
    host.wait_for(lambda: not real.panel.more.busy, 60)
    assert "SHA-256" in real.dialogs.errors[0] and real.panel.model.card is None


def test_a_worker_that_dies_while_it_installs_is_told(
    server: Any, offered: bytes, real: Opened, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.route("/ours.zip", whole(offered, send=10, then="stall"))
    choose_row(real.dialogs, monkeypatch, lambda row: row[0] == "Bright voxels")
    entry(real, "Install a published model")
    host.wait_for(lambda: "/ours.zip" in [path for path, _ in server.requests], 60)
    real.worker._process.kill()
    host.wait_for(lambda: not real.panel.more.busy, 10)
    assert "worker process" in real.dialogs.errors[0] and real.entry("Install a published").enabled
