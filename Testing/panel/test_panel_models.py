"""More models at the press of a button, and what a model lets the user choose."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medseg.model.card import CardChoice, read_card
from qt_host.fixtures import MODULE, Host, Opened, ct_card, flair_card, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

NEW = ct_card(id="meshnet-gwm-light", title="Tissue of the brain")


def published(**changes: Any) -> dict[str, Any]:
    """A line of the worker's answer to ``published``."""
    line: dict[str, Any] = {
        "id": NEW.id, "title": NEW.title, "system": "brain", "state": "importable", "downloadable": True,
        "downloaded": False, "license": "MIT", "size_words": "0.1 MB", "problem": "", "first_stage": "",
    }  # fmt: skip
    return line | changes


def answer(opened: Opened, *models: dict[str, Any], recipe_needed: bool = True, kind: str = "tfjs") -> None:
    """The worker answers what it was asked last."""
    content = {"models": list(models), "systems": {"brain": "brain, T1"}, "recipe_needed": recipe_needed, "kind": kind}
    opened.worker.queries[-1][1](content)


def entry(opened: Opened, text: str) -> None:
    """Choose an entry of the menu."""
    opened.entry(text).trigger()


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
    assert "installed" in opened.ui.progressLabel.text and "batch is fixed" in opened.ui.notesLabel.text
    assert not opened.panel.more.busy


def test_a_folder_that_describes_itself_needs_no_recipe(opened: Opened) -> None:
    """An nnU-Net result is imported without a question that nobody could answer."""
    opened.dialogs.path = "/data/plans.json"
    entry(opened, "Import weights")
    answer(opened, recipe_needed=False)
    assert asked(opened) == ("import", {"file": "/data/plans.json", "recipe": None, "replace": False})
    assert opened.dialogs.lists == []


RESULT: dict[str, Any] = {
    "folder": "nnUNetTrainer__nnUNetPlans__3d_fullres", "configuration": "3d_fullres", "title": "Liver",
    "dimensions": 3,
    "folds": ["0", "1"], "channels": ["CT"], "classes": ["liver", "tumour"], "spacing": [0.8, 0.8, 2.0],
    "patch": [96, 96, 48], "previous": "", "megabytes": 246.0, "problem": "",
}  # fmt: skip


def nnunet(opened: Opened, *found: dict[str, Any], sets: tuple[dict[str, Any], ...] = ()) -> None:
    opened.worker.queries[-1][1](
        {"models": list(sets), "systems": {}, "recipe_needed": False, "kind": "nnunet", "found": list(found)}
    )


def test_an_nnunet_folder_shows_what_it_holds_and_asks_which(opened: Opened, tmp_path: Path) -> None:
    """Configuration and folds are the user's choice, and the choice reaches the importer."""
    (tmp_path / RESULT["folder"]).mkdir()
    opened.dialogs.path, opened.dialogs.row = str(tmp_path), 0
    opened.dialogs.answers = {"folds": "0"}
    entry(opened, "Import a model folder")
    assert asked(opened) == ("published", {"file": str(tmp_path)})
    cascade = {**RESULT, "configuration": "3d_cascade_fullres", "previous": "3d_lowres"}
    nnunet(opened, RESULT, cascade)
    rows = opened.dialogs.lists[0][1]
    assert rows[0] == ["3d_fullres", "Liver", "2", "0, 1", "0.8 x 0.8 x 2 mm", "246 MB"]
    assert rows[1][0] == "3d_cascade_fullres, after 3d_lowres"
    assert "liver, tumour" in opened.dialogs.details[0] and "runs first" in opened.dialogs.details[1]
    command, content = asked(opened)
    assert command == "import" and content["choices"] == {"folds": "0"}
    assert content["file"] == str(tmp_path / RESULT["folder"])


def test_a_zip_of_several_configurations_and_one_that_cannot_be(opened: Opened) -> None:
    opened.dialogs.path, opened.dialogs.row = "/data/all.zip", 1
    entry(opened, "Import weights")
    broken = {**RESULT, "problem": "The normalisation 'Own' is not known.", "title": ""}
    nnunet(opened, broken, {**RESULT, "configuration": "2d", "folds": ["all"]})
    assert asked(opened)[1]["choices"] == {"configuration": "2d"} and opened.dialogs.forms == []
    opened.worker.queries[-1][2]({"kind": "ModelError", "message": "It cannot be converted."})
    opened.dialogs.row = 0
    entry(opened, "Import weights")
    nnunet(opened, broken)
    assert opened.dialogs.errors[-1] == "The normalisation 'Own' is not known." and not opened.panel.more.busy


def test_a_set_of_several_networks_is_one_row(opened: Opened) -> None:
    """The five parts of TotalSegmentator in one folder are offered as the one model that they are."""
    opened.dialogs.path, opened.dialogs.row = "/data/parts", 0
    entry(opened, "Import a model folder")
    manifest = {"id": "total", "title": "Total", "classes": [{"name": "spleen", "value": 1}]}
    nnunet(opened, RESULT, sets=(published(id="total", title="Total", manifest=manifest),))
    assert [r[0] for r in opened.dialogs.lists[0][1]] == ["Total", "3d_fullres"]
    assert asked(opened) == ("import", {"file": "/data/parts", "recipe": "total", "replace": False})


ABOUT = {
    "title": "Spleen", "lines": [["Images", "CT"], ["Classes", "1: spleen"], ["Licence", "Apache-2.0"]],
    "questions": [{"id": "skip", "text": "Leave out", "kind": "text", "default": "", "choices": [], "why": "Own."}],
}  # fmt: skip


def test_a_bundle_says_what_it_is_and_its_options_reach_the_importer(opened: Opened) -> None:
    """Who has a bundle with one odd transform needs no command line; a wrong name costs one answer."""
    opened.dialogs.path, opened.dialogs.answers = "/data/spleen", {"skip": " Own ", "weights": ""}
    entry(opened, "Import a model folder")
    opened.worker.queries[-1][1](
        {"models": [], "systems": {}, "recipe_needed": False, "kind": "monai", "found": [], "about": ABOUT}
    )
    text = opened.dialogs.forms[0][0]
    assert "Spleen" in text and "Classes: 1: spleen" in text and "Licence: Apache-2.0" in text
    command, content = asked(opened)
    assert command == "import" and content["choices"] == {"skip": "Own"}
    opened.worker.queries[-1][2]({"kind": "InputError", "message": "It has OwnTransform."})
    assert "It has OwnTransform." in opened.dialogs.forms[1][0] and not opened.dialogs.errors
    opened.worker.queries[-1][2]({"kind": "ModelError", "message": "It cannot be built."})
    assert opened.dialogs.errors == ["It cannot be built."] and not opened.panel.more.busy


QUESTION = {"id": "spacing", "text": "Which spacing?", "kind": "numbers", "default": "", "choices": [], "why": "Size."}


def another_model(opened: Opened, installed: bool = False) -> None:
    """The user brings an ONNX file and chooses the last row; the worker answers with one question."""
    opened.dialogs.path, opened.dialogs.row = "/data/net.onnx", 1
    entry(opened, "Import weights")
    answer(opened, published(), kind="onnx")
    assert opened.dialogs.lists[0][1][1][0] == "Another model"
    assert asked(opened) == ("propose", {"file": "/data/net.onnx"})
    opened.worker.queries[-1][1]({"guesses": ["It ends in Softmax."], "questions": [QUESTION], "installed": installed})


def test_any_onnx_file_is_imported_after_its_questions(opened: Opened) -> None:
    """A radiologist with a model of a colleague needs no command line; a wrong answer costs one answer."""
    opened.dialogs.answers = {"spacing": "x"}
    another_model(opened)
    assert "Softmax" in opened.dialogs.forms[0][0]
    assert asked(opened) == ("import", {"file": "/data/net.onnx", "answers": {"spacing": "x"}, "replace": False})
    opened.dialogs.answers = {"spacing": "1 1 1"}
    opened.worker.queries[-1][2]({"kind": "InputError", "message": "spacing: 'x' is not understood."})
    text, kept = opened.dialogs.forms[1]
    assert "'x' is not understood" in text and kept == {"spacing": "x"} and not opened.dialogs.errors
    assert asked(opened)[1]["answers"] == {"spacing": "1 1 1"}
    opened.worker.queries[-1][2]({"kind": "ModelError", "message": "It cannot be opened."})
    assert opened.dialogs.errors == ["It cannot be opened."] and not opened.panel.more.busy


def test_giving_up_the_questions_imports_nothing(opened: Opened) -> None:
    another_model(opened)
    assert asked(opened)[0] == "propose" and not opened.panel.more.busy and not opened.dialogs.errors


@pytest.mark.parametrize("agrees", [True, False])
def test_answers_given_again_replace_the_model_where_the_user_agrees(opened: Opened, agrees: bool) -> None:
    """Who corrects an answer wants the corrected model; who has another model of that name wants to keep it."""
    opened.dialogs.answers, opened.dialogs.agrees = {"spacing": "2 2 2"}, agrees
    another_model(opened, installed=True)
    assert "Replace it?" in opened.dialogs.questions[0]
    command, content = asked(opened)
    assert (command == "import" and content["replace"]) if agrees else command == "propose"
    assert opened.panel.more.busy == agrees


def test_only_onnx_files_can_be_another_model(opened: Opened) -> None:
    opened.dialogs.path, opened.dialogs.row = "/data/model.json", -1
    entry(opened, "Import weights")
    answer(opened, published(), kind="tfjs")
    assert [row[0] for row in opened.dialogs.lists[0][1]] == [NEW.title]


def test_the_first_stage_of_a_two_stage_model_is_asked_for(opened: Opened) -> None:
    """Weights of the classifier alone cannot see an image."""
    opened.dialogs.path = "/data/mlp.h5"
    entry(opened, "Import weights")
    answer(opened, published(first_stage="VGG16"), kind="keras")
    assert asked(opened)[1]["backbone"] == "/data/mlp.h5"


def test_the_question_dialog_gives_defaults_and_what_was_typed(host: Host) -> None:
    import qt

    from medseg_panel.dialogs import question_dialog

    listed = {**QUESTION, "id": "plane", "default": "axial", "choices": ["axial", "coronal"]}
    dialog, read = question_dialog(None, "Import", "What is known.", [QUESTION, listed], {"spacing": "1 1 3"}, "Import")
    assert read() == {"spacing": "1 1 3", "plane": "axial"}
    dialog.findChild(qt.QComboBox, "answer_plane").setCurrentText("coronal")
    assert read()["plane"] == "coronal"
    dialog.deleteLater()


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
    assert not opened.dialogs.errors and not opened.panel.more.busy and opened.entry("Install a published").enabled


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
    assert not opened.entry("Install a published").enabled
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
    cards = ["<b>one</b>", "the card of two"]
    dialog, shown = list_dialog(None, "Install", "Which one?", ("Model", "System"), rows, "Install", cards)
    (card,) = dialog.findChildren(qt.QTextBrowser)
    button = next(b for b in dialog.findChildren(qt.QPushButton) if b.text == "Install")
    assert not button.enabled
    shown.setCurrentItem(shown.topLevelItem(1))
    assert button.enabled and shown.indexOfTopLevelItem(shown.currentItem()) == 1
    assert "the card of two" in card.plainText
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
