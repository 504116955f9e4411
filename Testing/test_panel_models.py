"""More models at the press of a button, and what a model lets the user choose."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalogue_server import serving, whole
from medseg.model_card import CardChoice, read_card
from packages import package as write_package
from qt_host.bridge import slot_errors
from qt_host.fixtures import MODULE, Host, Opened, ct_card, flair_card, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

NEW = ct_card(id="meshnet-gwm-light", title="Tissue of the brain")


def published(**changes: Any) -> dict[str, Any]:
    """A line of the worker's answer to ``published``."""
    line: dict[str, Any] = {
        "id": NEW.id, "title": NEW.title, "system": "brain", "state": "importable", "downloadable": True,
        "downloaded": False, "license": "MIT", "size_words": "0.1 MB", "problem": "",
    }  # fmt: skip
    return line | changes


def answer(opened: Opened, *models: dict[str, Any], recipe_needed: bool = True, kind: str = "tfjs") -> None:
    """The worker answers what it was asked last."""
    content = {"models": list(models), "systems": {"brain": "brain, T1"}, "recipe_needed": recipe_needed, "kind": kind}
    opened.worker.queries[-1][1](content)


def entry(opened: Opened, text: str) -> None:
    """Choose an entry of the menu."""
    actions = opened.ui.getModelsButton.menu().actions()
    next(a for a in actions if a.text.startswith(text)).trigger()


def asked(opened: Opened) -> tuple[str, dict[str, Any]]:
    command, _, _, content = opened.worker.queries[-1]
    return command, content


def test_weights_are_imported_and_the_new_model_is_chosen(opened: Opened) -> None:
    opened.dialogs.path = "/data/model.json"
    entry(opened, "Import weights")
    assert asked(opened) == ("published", {"file": "/data/model.json"})
    answer(opened, published(id="other"), published(state="needs weights"))
    opened.dialogs.row = 1
    assert not opened.dialogs.errors
    assert asked(opened) == ("import", {"file": "/data/model.json", "recipe": "other", "replace": False})
    text, rows = opened.dialogs.lists[0]
    assert "model.json" in text and rows[1] == (NEW.title, "brain, T1", "needs weights", "MIT", "0.1 MB")
    progress, warning = opened.worker.told
    progress("convert", "layer 3", 0.4, None)
    warning("The batch is fixed.")
    assert opened.ui.progressBar.value == 40
    assert opened.ui.progressLabel.text == "Converting, layer 3"
    opened.store.cards.append(NEW)
    opened.worker.queries[-1][1]({"id": NEW.id})
    assert opened.panel.model.card.id == opened.parameters.modelId == NEW.id
    assert "installed" in opened.ui.progressLabel.text and "batch is fixed" in opened.ui.progressLabel.text
    assert not opened.panel.more.busy


def test_a_folder_that_describes_itself_needs_no_recipe(opened: Opened) -> None:
    """An nnU-Net result is imported without a question that nobody could answer."""
    opened.dialogs.path = "/data/plans.json"
    entry(opened, "Import weights")
    answer(opened, recipe_needed=False)
    assert asked(opened) == ("import", {"file": "/data/plans.json", "recipe": None, "replace": False})
    assert opened.dialogs.lists == []


@pytest.mark.parametrize("kind", ["onnx", "tfjs"])
def test_how_an_unknown_onnx_is_imported_is_told_where_that_is_possible(opened: Opened, kind: str) -> None:
    opened.dialogs.path, opened.dialogs.row = "/data/net.bin", -1
    entry(opened, "Import weights")
    answer(opened, published(), kind=kind)
    assert ("medseg models import net.bin" in opened.dialogs.lists[0][0]) == (kind == "onnx")


@pytest.mark.parametrize("agrees", [True, False])
def test_an_installed_model_is_replaced_only_where_the_user_agrees(opened: Opened, agrees: bool) -> None:
    opened.dialogs.path, opened.dialogs.agrees = "/data/w.onnx", agrees
    entry(opened, "Import weights")
    answer(opened, published(state="installed"))
    assert NEW.title in opened.dialogs.questions[0]
    command, content = asked(opened)
    assert (command == "import" and content["replace"]) if agrees else command == "published"
    assert opened.panel.more.busy == agrees


def test_install_lists_what_can_be_downloaded_and_installs_it(opened: Opened) -> None:
    entry(opened, "Install a published model")
    answer(opened, published(id="bring-your-own", downloadable=False), published())
    assert [row[0] for row in opened.dialogs.lists[0][1]] == [NEW.title]
    assert asked(opened) == ("install", {"model": NEW.id})
    opened.store.cards.append(NEW)
    opened.worker.queries[-1][1]({"id": NEW.id, "already": False})
    assert opened.panel.model.card.id == NEW.id


def test_what_cannot_be_converted_here_says_why_before_anything_is_downloaded(opened: Opened) -> None:
    entry(opened, "Install a published model")
    answer(opened, published(state="no converter", problem="this Python has no venv"))
    assert asked(opened)[0] == "published"
    assert "no venv" in opened.dialogs.errors[0] and not opened.panel.more.busy


def test_closing_the_list_changes_nothing(opened: Opened) -> None:
    opened.dialogs.row = -1
    entry(opened, "Install a published model")
    answer(opened, published())
    assert asked(opened)[0] == "published"
    assert not opened.dialogs.errors and not opened.panel.more.busy and opened.ui.getModelsButton.enabled


def test_an_error_is_told_in_the_workers_words(opened: Opened) -> None:
    entry(opened, "Install a published model")
    answer(opened, published())
    opened.worker.queries[-1][2]({"kind": "DownloadError", "message": "The server cannot be reached."})
    assert opened.dialogs.errors == ["The server cannot be reached."]
    assert opened.ui.progressLabel.text == "The server cannot be reached."


def test_cancel_stops_the_download_and_is_no_error(opened: Opened) -> None:
    opened.add_volume()
    opened.choose("ct-bleeds")
    entry(opened, "Install a published model")
    answer(opened, published())
    assert not opened.ui.applyButton.enabled and opened.ui.cancelButton.enabled
    assert not opened.ui.getModelsButton.enabled
    opened.ui.cancelButton.click()
    assert opened.worker.cancelled_queries == [len(opened.worker.queries)] and opened.worker.cancels == 0
    opened.worker.queries[-1][2]({"kind": "Cancelled", "message": "The run was cancelled; nothing was changed."})
    assert opened.dialogs.errors == [] and "Cancelled" in opened.ui.progressLabel.text
    assert opened.ui.applyButton.enabled and not opened.ui.cancelButton.enabled


def test_nothing_is_asked_where_the_packages_are_missing(opened: Opened) -> None:
    opened.installer.there = False
    entry(opened, "Install a published model")
    assert opened.worker.queries == [] and not opened.panel.more.busy


def test_the_list_dialog_gives_the_chosen_row(host: Host) -> None:
    """The real dialog: Install cannot be pressed before a row is chosen."""
    import qt

    from medseg_panel.dialogs import list_dialog

    rows = [("one", "brain"), ("two", "chest")]
    dialog, shown = list_dialog(None, "Install", "Which one?", ("Model", "System"), rows, "Install")
    button = next(b for b in dialog.findChildren(qt.QPushButton) if b.text == "Install")
    assert not button.enabled
    shown.setCurrentItem(shown.topLevelItem(1))
    assert button.enabled and shown.indexOfTopLevelItem(shown.currentItem()) == 1
    done: list[int] = []
    dialog.connect("finished(int)", lambda result: done.append(result))
    button.click()
    assert done == [qt.QDialog.Accepted.value if hasattr(qt.QDialog.Accepted, "value") else qt.QDialog.Accepted]


class TestChoices:
    """A model that keeps lesions by place lets the reader say which list of places counts."""

    @pytest.fixture
    def places(self, opened: Opened) -> Any:
        choice = CardChoice("brain labels", "Which regions count.", "published", ("published", "command"))
        opened.store.cards.append(replace(ct_card(), id="cmb", title="Microbleeds", choices=(choice,)))
        opened.panel.model.refresh()
        opened.add_volume()
        opened.choose("cmb")
        return opened.panel.choices._rows[0][1]

    def test_default_first_then_what_was_chosen_goes_to_the_worker(self, opened: Opened, places: Any) -> None:
        assert not opened.ui.choicesWidget.isHidden() and places.currentText == "published"
        opened.ui.applyButton.click()
        assert opened.worker.runs[-1]["options"]["choices"] == {"brain labels": "published"}
        opened.finish()
        places.currentIndex = 1
        assert json.loads(opened.parameters.choices) == {"brain labels": "command"}
        opened.ui.applyButton.click()
        assert opened.worker.runs[-1]["options"]["choices"] == {"brain labels": "command"}
        opened.finish()

    def test_models_without_choices_show_none_and_send_none(self, opened: Opened, places: Any) -> None:
        opened.choose("ct-bleeds")
        assert opened.ui.choicesWidget.isHidden()
        opened.ui.applyButton.click()
        assert "choices" not in opened.worker.runs[-1]["options"]
        opened.finish()

    @pytest.mark.parametrize("text", ["not JSON", "[1]", '{"brain labels": "gone"}', '{"brain labels": 3}'])
    def test_a_choice_that_the_model_lacks_is_its_default(self, opened: Opened, places: Any, text: str) -> None:
        """A scene may come from another version of the model."""
        opened.parameters.choices = text
        assert opened.panel.choices.chosen() == {"brain labels": "published"}

    def test_the_scenes_choice_is_shown(self, opened: Opened, places: Any) -> None:
        opened.parameters.choices = '{"brain labels": "command"}'
        assert places.currentText == "command"


def test_the_card_reads_choices_and_names_broken_ones(tmp_path: Path, repository: Path) -> None:
    recipes = repository / "MedSegExtension" / "Resources" / "Models" / "recipes"
    raw = json.loads((recipes / "cmb-unet3d.json").read_text(encoding="utf-8"))["manifest"]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(raw))
    (choice,) = read_card(tmp_path).choices
    assert (choice.name, choice.default, choice.options) == ("brain labels", "published", ("published", "command"))
    assert "brainstem" in choice.description
    for broken in ({"a": 1}, {"a": {"default": [], "options": {}}}, {"a": {"default": "x", "options": {"y": [1]}}}):
        path.write_text(json.dumps(raw | {"choices": broken}))
        assert read_card(tmp_path).choices == () and "choices" in read_card(tmp_path).error


# -- the real worker ------------------------------------------------------------------------------------------


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
    yield Opened(host, module, module.widget.panel._worker, None, dialogs, installer)  # type: ignore[arg-type]
    module.close()
    host.scene.Clear(0)
    host.pump(0.02)
    assert slot_errors == []


def choose_row(dialogs: Any, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Any], bool]) -> list[Any]:
    """The user takes the first row that is ``wanted``; the rows are kept."""
    seen: list[Any] = []

    def choose(title: str, text: str, columns: Any, rows: Any, accept: str) -> int:
        seen.extend(rows)
        return next(n for n, row in enumerate(rows) if wanted(row))

    monkeypatch.setattr(dialogs, "choose", choose)
    return seen


@pytest.mark.shared_data
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
    assert real.panel.model.card is not None and real.panel.model.card.id == "meshnet-gwm-light"
    assert real.panel.model.card.has_weights and real.panel.model.card.folder.is_relative_to(tmp_path)
    assert not list(tmp_path.glob("medseg-*")), "the import left files behind"


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
    assert "worker process" in real.dialogs.errors[0] and real.ui.getModelsButton.enabled
