"""From an id to an installed model: what the catalogue says is what a user gets, or a reason why not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.errors import Cancelled, InputError, ModelError
from medseg.library.catalogue import (
    DownloadError,
    Settings,
    catalogue_states,
    find_entry,
    install,
    remove,
    states,
)
from medseg.library.catalogue.listing import catalogue_files, read_catalogue
from medseg.library.catalogue.store import downloads_folder, is_downloaded
from medseg.library.importer import recipes
from medseg.model.package import load_model, pack
from medseg.model.store import find_model, installed_models, user_folder
from medseg.monitor import Monitor
from support.catalogue_server import _Server, serving, whole
from support.packages import package

COMMIT = "4c87885f3a2a8835e260d521dcec922b58d91d41"
FAST = Settings(stall=0.5, total=10, tries=2, back_off=0.01, longest_wait=0.05)


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches, models and remembered hashes of this test only; no proxy, no other catalogue."""
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    for name in ("MEDSEG_MODELS", "MEDSEG_CATALOGUE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[_Server]:
    with serving() as running:
        yield running


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(address: str, sha256: str | None = None, **changes: Any) -> dict[str, Any]:
    file = {"name": "tiny.zip", "addresses": [address], "sha256": sha256, **changes.pop("file", {})}
    return {
        "id": "tiny", "title": "Tiny", "system": "test", "task": "segmentation", "kind": "package",
        "license": "MIT", "source": "https://models.invalid", "files": [file], **changes,
    }  # fmt: skip


def catalogue(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"medseg_catalogue": 1, "entries": entries}))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    return pack(package(tmp_path / "made" / "tiny"), tmp_path / "made" / "tiny.zip").read_bytes()


@pytest.fixture
def tiny(server: _Server, tmp_path: Path, archive: bytes) -> Callable[..., Path]:
    """A catalogue with one package at the server; its hash stated, or not."""

    def make(stated: bool = True, body: bytes = archive, **changes: Any) -> Path:
        address = server.route("/tiny.zip", whole(body))
        return catalogue(tmp_path / "catalogue.json", entry(address, digest(archive) if stated else None, **changes))

    return make


# -- the shipped catalogue ----------------------------------------------------------------------------------


def test_states_follow_what_is_here(tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> tuple[str, bool]:
        found = {s.id: s for s in catalogue_states([file])}["tiny"]
        return found.state, found.downloaded

    file = tiny()
    assert state() == ("importable", False)
    install("tiny", catalogues=[file], download_only=True, settings=FAST)
    assert state() == ("importable", True)
    install("tiny", catalogues=[file], settings=FAST)
    assert state() == ("installed", True)
    (find_model("tiny") / "model.onnx").unlink()
    assert state() == ("broken", True)
    monkeypatch.setattr(states.sys, "version_info", (3, 99))
    found = {s.id: s for s in catalogue_states()}
    assert found["wmh-unet-3class"].state == "no converter" and "3.99" in found["wmh-unet-3class"].problem
    assert found["meshnet-gwm"].state == "importable", "TensorFlow.js models need no TensorFlow"


def test_a_broken_catalogue_does_not_hide_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.json").write_text("{")
    monkeypatch.setenv("MEDSEG_CATALOGUE", str(tmp_path / "bad.json"))
    monitor = Monitor()
    assert {s.id for s in catalogue_states(monitor=monitor)} >= set(recipes())
    assert "bad.json" in monitor.warnings[0]
    with pytest.raises(ModelError, match=r"bad\.json"):
        install("meshnet-gwm")


# -- catalogue files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"licence": "MIT"}, "licence"),
        ({"id": "../up"}, "id"),
        ({"kind": "keras"}, "recipe"),
        ({"recipe": "wmh-unet-binary"}, "recipe"),
        ({"files": []}, "files"),
        ({"file": {"name": "../x"}}, "name"),
        ({"file": {"name": "/etc/x"}}, "name"),
        ({"file": {"name": "x.part"}}, "name"),
        ({"file": {"path": "a/../../x"}}, "path"),
        ({"file": {"addresses": []}}, "addresses"),
        ({"file": {"addresses": ["file:///etc/passwd"]}}, "addresses"),
        ({"file": {"addresses": ["https://user:word@host/x"]}}, "addresses"),
        ({"file": {"addresses": ["https:///x"]}}, "addresses"),
        ({"file": {"addresses": ["https://host/x\r\nHost: y"]}}, "addresses"),
        ({"file": {"sha256": "abc"}}, "sha256"),
        ({"file": {"sha256": "A" * 64}}, "sha256"),
        ({"file": {"size": 0}}, "size"),
        ({"file": {"size": 10, "limit": 5}}, "limit"),
    ],
)
def test_a_wrong_catalogue_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = catalogue(tmp_path / "mine.json", entry("https://models.invalid/x", **changes))
    with pytest.raises(ModelError, match=rf"mine\.json: .*{said}"):
        read_catalogue(path)


def test_catalogues_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own come first; a model that two of them have is told."""
    first = catalogue(tmp_path / "a.json", entry("https://a.invalid/x"))
    second = catalogue(tmp_path / "b.json", entry("https://b.invalid/x"), entry("https://b.invalid/y", id="other"))
    monkeypatch.setenv("MEDSEG_CATALOGUE", os.pathsep.join([str(first), str(second)]))
    monitor = Monitor()
    assert find_entry("tiny", monitor=monitor).files[0].addresses == ["https://a.invalid/x"]
    assert "several catalogues" in monitor.warnings[0]
    assert find_entry("tiny", [second]).files[0].addresses == ["https://b.invalid/x"]
    assert len(catalogue_files()) == 3
    with pytest.raises(InputError, match=r"Did you mean .*meshnet-gwm"):
        find_entry("meshnet-gvm")
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        find_entry("tiny", [tmp_path / "none.json"])


# -- install ------------------------------------------------------------------------------------------------


def test_install_and_remove_a_package(server: _Server, tiny: Callable[..., Path]) -> None:
    file, events = tiny(), []
    done = install("tiny", catalogues=[file], settings=FAST, monitor=Monitor(events.append))
    assert done.card is not None and done.card.folder == user_folder() / "tiny" and not done.already
    assert done.files[0].stated and load_model("tiny").warnings == ()
    assert max(e.fraction for e in events if e.fraction is not None) > 0.5
    again = install("tiny", catalogues=[file], settings=FAST)
    assert again.already and len(server.requests) == 1
    install("tiny", catalogues=[file], settings=FAST, force=True)
    assert len(server.requests) == 1, "the checked download in the cache is used"
    assert remove("tiny") > 0 and not user_folder().joinpath("tiny").exists() and not downloads_folder("tiny").exists()
    with pytest.raises(ModelError, match="no installed model"):
        remove("tiny")
    with pytest.raises(ModelError, match="no installed model"):
        remove("../..")


def test_a_failed_download_installs_nothing(server: _Server, tiny: Callable[..., Path], archive: bytes) -> None:
    file = tiny()
    for way in (
        whole(archive[:-1] + b"?"),
        whole(archive, send=99, ranges=False),
        whole(archive, send=0, then="stall"),
    ):
        server.route("/tiny.zip", way)
        with pytest.raises(DownloadError):
            install("tiny", catalogues=[file], settings=FAST)
        assert "tiny" not in {c.id for c in installed_models()} and not is_downloaded(find_entry("tiny", [file]))
    server.route("/tiny.zip", whole(archive))
    assert install("tiny", catalogues=[file], settings=FAST).card


def test_a_package_that_is_another_model_is_not_installed(tiny: Callable[..., Path]) -> None:
    file = tiny(id="brain-mask")
    with pytest.raises(ModelError, match="tiny, but the catalogue calls it brain-mask"):
        install("brain-mask", catalogues=[file], settings=FAST)
    assert not user_folder().exists()


def test_a_failed_import_leaves_the_installed_model(
    server: _Server, tmp_path: Path, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("tiny", catalogues=[tiny()], settings=FAST)
    before = load_model("tiny").sha256
    keras = catalogue(
        tmp_path / "k.json",
        entry(server.route("/m.h5", whole(b"\x89HDF\r\n\x1a\nrest")), kind="keras", recipe="wmh-unet-binary",
              file={"name": "m.h5"}),
    )  # fmt: skip
    asked: dict[str, Any] = {}

    def fail(file: Path, recipe: str, output: Path, **more: Any) -> None:
        asked.update(more, file=file, recipe=recipe, output=output)
        Path(output).mkdir()
        raise Cancelled("The run was cancelled.")

    monkeypatch.setattr("medseg.library.importer.import_model", fail)
    with pytest.raises(Cancelled):
        install("tiny", catalogues=[keras], settings=FAST, force=True)
    assert asked["recipe"] == "wmh-unet-binary" and asked["options"].id == "tiny" and not asked["output"].exists()
    assert load_model("tiny").sha256 == before


# -- hashes that nobody states ------------------------------------------------------------------------------


def test_an_unknown_hash_is_shown_remembered_and_then_required(
    server: _Server, tiny: Callable[..., Path], archive: bytes, tmp_path: Path
) -> None:
    """A file that somebody replaces later must not come in unnoticed."""
    file, monitor = tiny(stated=False), Monitor()
    done = install("tiny", catalogues=[file], settings=FAST, monitor=monitor)
    assert not done.files[0].stated and done.files[0].sha256 == digest(archive)
    assert any(digest(archive) in w and "Nobody states" in w for w in monitor.warnings)
    assert any("unencrypted" in w for w in monitor.warnings)
    remove("tiny")
    package(tmp_path / "new", version="2.0")
    other = pack(tmp_path / "new", tmp_path / "new.zip").read_bytes()
    server.route("/tiny.zip", whole(other, etag='"v2"'))
    with pytest.raises(DownloadError) as error:
        install("tiny", catalogues=[file], settings=FAST)
    assert all(word in str(error.value) for word in (digest(archive), digest(other), "--accept-new"))
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "tiny.zip").write_bytes(other)
    with pytest.raises(ModelError, match="--accept-new"):
        install("tiny", catalogues=[file], folder=tmp_path / "usb")
    done = install("tiny", catalogues=[file], settings=FAST, accept_new=True)
    assert done.card is not None and done.card.version == "2.0"
    quiet = Monitor()
    install("tiny", catalogues=[file], settings=FAST, force=True, monitor=quiet)
    assert quiet.warnings == []


def test_a_damaged_record_of_hashes_is_not_taken_for_empty(tiny: Callable[..., Path], tmp_path: Path) -> None:
    file = tiny(stated=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "pins.json").write_text("{")
    with pytest.raises(ModelError, match=r"pins\.json is damaged"):
        install("tiny", catalogues=[file], settings=FAST)


def test_a_download_that_changed_in_the_cache_is_brought_again(server: _Server, tiny: Callable[..., Path]) -> None:
    file = tiny()
    done = install("tiny", catalogues=[file], settings=FAST)
    done.files[0].path.write_bytes(b"PK changed")
    monitor = Monitor()
    install("tiny", catalogues=[file], settings=FAST, force=True, monitor=monitor)
    assert "has changed" in monitor.warnings[0] and len(server.requests) == 2


# -- without network ----------------------------------------------------------------------------------------


def test_from_a_folder(server: _Server, tiny: Callable[..., Path], archive: bytes, tmp_path: Path) -> None:
    """A hospital computer without network: the file is carried there, in any of three layouts."""
    file = tiny(file={"path": "models/v1/t.zip"})
    for n, name in enumerate(("tiny/tiny.zip", "models/v1/t.zip", "tiny.zip")):
        carried = tmp_path / f"usb{n}" / name
        carried.parent.mkdir(parents=True)
        carried.write_bytes(archive)
        done = install("tiny", catalogues=[file], folder=tmp_path / f"usb{n}")
        assert done.card is not None and carried.read_bytes() == archive
        remove("tiny")
    assert not server.requests
    with pytest.raises(InputError, match="is not in"):
        install("tiny", catalogues=[file], folder=tmp_path / "data")
    with pytest.raises(InputError, match="is not a folder"):
        install("tiny", catalogues=[file], folder=tmp_path / "none")
    carried.write_bytes(archive[:-1] + b"?")
    with pytest.raises(ModelError, match="expected was"):
        install("tiny", catalogues=[file], folder=carried.parent)
    assert not [p for p in downloads_folder("tiny").iterdir() if p.suffix != ".lock"]


def test_download_only_makes_what_from_reads(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny()
    done = install("tiny", catalogues=[file], settings=FAST, download_only=True)
    assert done.card is None and not user_folder().exists()
    shutil.copytree(done.folder.parent, tmp_path / "usb")
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert install("tiny", catalogues=[file], folder=tmp_path / "usb").card


@pytest.mark.real_data
def test_meshnet_from_its_original_files(shared: Path, server: _Server, tmp_path: Path) -> None:
    """The published TensorFlow.js files, over HTTP that breaks and then from a folder, become the same network."""
    import onnxruntime as ort

    source = shared / "models" / "meshnet-gwm-light"
    raw = json.loads(read_catalogue(catalogue_files()[0]).model_dump_json())
    mine = next(e for e in raw["entries"] if e["id"] == "meshnet-gwm-light")
    for file in mine["files"]:
        content = (source / "tfjs" / file["name"]).read_bytes()
        file["addresses"] = [server.route(f"/{file['name']}", whole(content, send=4000), whole(content))]
    path = catalogue(tmp_path / "local.json", mine)
    volume = np.random.default_rng(3).random((1, 1, 24, 24, 24), np.float32)
    session = ort.InferenceSession(source / "model.onnx", providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: volume})[0]
    for more in ({"catalogues": [path], "settings": FAST}, {"folder": source / "tfjs"}):
        done = install("meshnet-gwm-light", **more)
        assert done.card is not None and done.card.has_weights and all(f.stated for f in done.files)
        session = ort.InferenceSession(load_model("meshnet-gwm-light").onnx_path, providers=["CPUExecutionProvider"])
        found = session.run(None, {session.get_inputs()[0].name: volume})[0]
        assert np.abs(found - wanted).max() < 1e-4
        remove("meshnet-gwm-light")
    assert server.ranges("/model.json") == [None, "bytes=4000-"]


# -- the command --------------------------------------------------------------------------------------------


def test_the_command(tiny: Callable[..., Path], tmp_path: Path) -> None:
    """What a script reads: exit codes and JSON; what a person reads: sentences."""
    from typer.testing import CliRunner

    import medseg.cli

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(medseg.cli.app, ["models", *words])
        return done.exit_code, done.stdout

    file = str(tiny())
    code, out = run("install", "tiny", "--catalogue", file, "--json")
    answer = json.loads(out)
    assert code == 0 and answer["model"] == "tiny" and answer["files"][0]["stated"] is True
    assert "installed already" in run("install", "tiny", "--catalogue", file)[1]
    code, out = run("catalogue", "--catalogue", file, "--json")
    assert {s["id"]: s["state"] for s in json.loads(out)["published"]}["tiny"] == "installed"
    listed = run("list")[1]
    assert all(id in listed for id in recipes()) and "needs weights" in listed
    assert run("remove", "tiny")[0] == 0
    assert run("remove", "tiny")[0] == 3
    assert run("install", "nothing", "--catalogue", file)[0] == 2
    assert run("add", str(package(tmp_path / "own")))[0] == 0 and find_model("tiny")
