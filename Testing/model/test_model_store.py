"""Where models are kept, and the cards that lists and the panel show without loading anything heavy."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.errors import ModelError
from medseg.model import package_files
from medseg.model import store as model_store
from medseg.model.card import card_from, read_card
from medseg.model.installing import add_model
from medseg.model.package import load_model, pack
from medseg.model.store import find_model, installed_models, remove_model, user_folder
from support.packages import manifest, network, package


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("MEDSEG_MODELS", raising=False)
    monkeypatch.setattr(model_store, "shipped_folders", lambda: [tmp_path / "shipped"])


def ids() -> dict[str, Path]:
    return {card.id: card.folder for card in installed_models()}


def test_folders_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own version of a shipped model must win."""
    shipped = package(tmp_path / "shipped" / "tiny")
    other = package(tmp_path / "shipped" / "other", id="other")
    assert ids() == {"tiny": shipped, "other": other}
    add_model(package(tmp_path / "own", version="2.0"))
    assert find_model("tiny") == user_folder() / "tiny"
    first = package(tmp_path / "a" / "x")
    single = package(tmp_path / "b", id="third")
    monkeypatch.setenv("MEDSEG_MODELS", os.pathsep.join([str(tmp_path / "a"), str(single), str(tmp_path / "none")]))
    assert ids() == {"tiny": first, "third": single, "other": other}
    assert load_model("third").folder == single


def test_adding_every_form_and_removing(tmp_path: Path) -> None:
    folder = package(tmp_path / "tiny", hashed=False)
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "notes.py").write_text("raise SystemExit")
    for source in (folder, pack(folder, tmp_path / "tiny.zip"), folder / "manifest.json"):
        card = add_model(source)
        assert card.folder == user_folder() / "tiny" and card.has_weights and not card.error
        assert load_model("tiny").warnings == (), "the copy states its hash"
        assert not (card.folder / "notes.py").exists()
        remove_model("tiny")
        assert list(user_folder().iterdir()) == []
    with pytest.raises(ModelError, match="no installed model"):
        remove_model("tiny")


def test_the_same_again_is_fine_and_another_one_is_asked_about(tmp_path: Path) -> None:
    add_model(package(tmp_path / "one"))
    assert add_model(tmp_path / "one").version == "1.0"
    package(tmp_path / "two", network(classes=3), version="2.0")
    with pytest.raises(ModelError, match="Another model is installed as tiny"):
        add_model(tmp_path / "two")
    assert load_model("tiny").manifest.version == "1.0"
    assert add_model(tmp_path / "two", replace=True).version == "2.0"
    assert load_model("tiny").manifest.version == "2.0"
    assert [p.name for p in user_folder().iterdir()] == ["tiny"], "no leftovers"


def test_a_corrected_manifest_of_the_same_network_is_not_taken_for_the_same_model(tmp_path: Path) -> None:
    """Who corrects the spacing or a class name would go on with the wrong one, and be told that all is well."""
    add_model(package(tmp_path / "one"))
    package(tmp_path / "corrected", title="Corrected")
    with pytest.raises(ModelError, match="Another model is installed as tiny"):
        add_model(tmp_path / "corrected")
    assert add_model(tmp_path / "corrected", replace=True).title == "Corrected"


def test_an_interrupted_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    package(tmp_path / "one")
    monkeypatch.setattr(model_store.shutil, "copyfile", full)
    with pytest.raises(ModelError, match="No space left on device"):
        add_model(tmp_path / "one")
    assert installed_models() == [] and list(user_folder().iterdir()) == []


def test_a_bad_package_is_not_added(tmp_path: Path) -> None:
    package(tmp_path / "bad", b"not onnx", hashed=False)
    with pytest.raises(ModelError):
        add_model(tmp_path / "bad")
    assert installed_models() == []


def test_shipped_models_cannot_be_removed(tmp_path: Path) -> None:
    shipped = package(tmp_path / "shipped" / "tiny")
    with pytest.raises(ModelError, match="not in your own model folder"):
        remove_model("tiny")
    assert (shipped / "model.onnx").exists()


def test_an_unknown_id_is_answered_with_the_nearest(tmp_path: Path) -> None:
    package(tmp_path / "shipped" / "a", id="wmh-compact")
    package(tmp_path / "shipped" / "b", id="lungs-compact")
    with pytest.raises(ModelError, match="Did you mean 'wmh-compact'"):
        find_model("wmh-compct")
    with pytest.raises(ModelError, match="Installed are: lungs-compact, wmh-compact"):
        find_model("zzz")


def test_device_names_are_no_folder_names(tmp_path: Path) -> None:
    """A model called ``con`` could not be stored on Windows."""
    assert add_model(package(tmp_path / "one", id="con")).folder.name == "con_"
    assert find_model("con").name == "con_"


# -- cards --------------------------------------------------------------------------------------------------


def test_a_card_says_what_a_reader_must_know(tmp_path: Path) -> None:
    folder = package(
        tmp_path / "tiny",
        card={"description": "d", "intended_use": "u", "limitations": ["l"], "figures": {"Dice": "0.9"}},
        preprocessing=[
            {"step": "orient", "code": "RAS"},
            {"step": "resample", "spacing": [1, 1, None]},
            {"step": "window", "windows": [{"name": "brain", "level": 40, "width": 80}], "override": True},
            {"step": "resize", "size": [64, 64, 32]},
        ],
        display_windows=[{"step": "window", "windows": [{"level": 600, "width": 2800}]}],
        classes=[{"value": 1, "name": "lesion", "color": [1, 2, 3], "lesion": True}],
        requires=[{"name": "brain", "model": "mesh"}],
    )
    card = read_card(folder)
    assert (card.id, card.title, card.task, card.modality, card.error) == ("tiny", "Tiny", "segmentation", ("MR",), "")
    assert card.size == (folder / "model.onnx").stat().st_size and card.has_weights and card.folder == folder
    assert (card.description, card.intended_use, card.limitations, card.figures) == ("d", "u", ("l",), {"Dice": "0.9"})
    assert card.expects == {"mode": "whole", "orientation": "RAS", "spacing": (1, 1, None), "size": (64, 64, 32)}
    assert [(w.name, w.level, w.width, w.override, w.step) for w in card.windows] == [
        ("brain", 40, 80, True, 2), ("L 600 W 2800", 600, 2800, False, None),
    ]  # fmt: skip
    assert card.classes[0].color == (1, 2, 3) and card.classes[0].lesion
    assert (card.requires[0].name, card.requires[0].model) == ("brain", "mesh")
    assert load_model(folder).manifest.id == "tiny", "the same manifest is a valid one"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"id": 3}', "{" * 100_000, '{"classes": {"a": 1}, "card": []}']
)
def test_a_broken_manifest_is_listed_with_its_error(tmp_path: Path, text: str) -> None:
    """A model that vanished from the list would leave its user without a word."""
    folder = tmp_path / "shipped" / "odd"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    (card,) = installed_models()
    assert card.id == "odd" and card.error.endswith(".") and card.folder == folder


json_values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
json_values = (
    json_values | st.lists(json_values, max_size=3) | st.dictionaries(st.text(max_size=3), json_values, max_size=2)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*sorted(manifest()), "preprocessing", "card", "requires"]), json_values))
def test_no_manifest_can_break_the_list(raw: dict[str, object]) -> None:
    card = card_from({**manifest(), **raw}, Path("folder"), "name")
    assert isinstance(card.id, str) and isinstance(card.error, str)


def test_a_card_of_a_recipe_says_that_weights_are_missing(tmp_path: Path) -> None:
    (tmp_path / "wmh.json").write_text(json.dumps(manifest(id="wmh")))
    card = read_card(tmp_path / "wmh.json")
    assert card.id == "wmh" and not card.has_weights and card.error == ""


def test_old_private_copies_are_forgotten(tmp_path: Path) -> None:
    """Else every package ever opened would fill the disk."""
    old = load_model(pack(package(tmp_path / "one"), tmp_path / "one.zip")).onnx_path.parent
    os.utime(old, (0, 0))
    load_model(pack(package(tmp_path / "two", version="2"), tmp_path / "two.zip"))
    assert not old.exists() and len(list((package_files.cache_folder() / "packages").iterdir())) == 1
