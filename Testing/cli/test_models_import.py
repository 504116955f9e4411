"""``medseg models import`` from the command line: what it says, asks and leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from medseg.cli import app
from medseg.model.package import load_model
from support.packages import network
from support.tfjs_samples import meshnet


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["models", "import", *map(str, words)])
    return result.exit_code, result.output


def test_a_published_model_is_imported(tmp_path: Path) -> None:
    file, _, _ = meshnet(tmp_path / "m")
    code, text = command(file, "--recipe", "meshnet-gwm-light", "-o", tmp_path / "package")
    assert code == 0 and "127 parameters" in text and "not compared" in text and "models add" in text
    assert load_model(tmp_path / "package").manifest.id == "meshnet-gwm-light"
    assert command(file, "--recipe", "meshnet-gwm-light", "-o", tmp_path / "package")[0] == 2
    assert command(file, "--recipe", "nothing", "-o", tmp_path / "other")[0] == 2
    assert command(tmp_path / "missing.onnx", "-o", tmp_path / "other")[0] == 2
    assert not (tmp_path / "other").exists()


def test_an_unknown_model_asks_and_takes_answers(tmp_path: Path) -> None:
    """Without a terminal nothing is guessed silently: the questions are listed, or answered, or taken with --yes."""
    file = tmp_path / "mine.onnx"
    onnx.save(network(classes=3), str(file))
    code, text = command(file, "-o", tmp_path / "package")
    assert code == 2 and "guessed: " in text and "orientation" in text and "--yes" in text
    assert not (tmp_path / "package").exists()
    code, text = command(
        file, "-o", tmp_path / "package", "--yes", "--json", "--answer", "classes=liver, spleen", "--id", "mine-2"
    )
    document = json.loads(text[text.index("{") :])
    assert code == 0 and document["id"] == "mine-2" and document["guesses"]
    assert [c.name for c in load_model(tmp_path / "package").manifest.classes] == ["liver", "spleen"]


@pytest.mark.parametrize("words", [("--answer", "classes"), ("--answer", "colour=red"), ("--answer", "spacing=x")])
def test_answers_that_mean_nothing_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    file = tmp_path / "mine.onnx"
    onnx.save(network(classes=3), str(file))
    assert command(file, "-o", tmp_path / "package", "--yes", *words)[0] == 2
    assert not (tmp_path / "package").exists()


def test_an_nnunet_folder_is_looked_at_and_its_configuration_chosen(tmp_path: Path) -> None:
    """Without --output only what it holds is said; of several configurations the named one is taken."""
    plan = {
        "patch_size": [16, 16, 16], "spacing": [2.0, 1.0, 1.0], "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
    }  # fmt: skip
    plans = {"dataset_name": "Liver", "transpose_forward": [0, 1, 2], "configurations": {"3d_fullres": plan}}
    plans["configurations"]["3d_lowres"] = {**plan, "spacing": [4.0, 2.0, 2.0]}
    dataset = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
    for name in ("3d_fullres", "3d_lowres"):
        folder = tmp_path / "all" / f"nnUNetTrainer__nnUNetPlans__{name}"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        onnx.save(network(classes=3), str(folder / "model.onnx"))
    code, text = command(tmp_path / "all")
    assert code == 0 and "Liver, 3d_lowres: an exported ONNX file; 3D, 2 x 2 x 4 mm" in text
    assert "2 classes: liver, tumour" in text
    code, text = command(tmp_path / "all", "-o", tmp_path / "package")
    assert code == 2 and "several results" in text
    code, text = command(tmp_path / "all", "-o", tmp_path / "package", "--configuration", "3d_lowres")
    assert code == 0 and load_model(tmp_path / "package").manifest.id == "liver-3d_lowres"
    assert command(tmp_path / "all" / "missing")[0] == 2
