"""What a folder says of its model before it is imported: who chooses by it must not be told of another model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fuzz.model_folders import KINDS as FOLDERS
from medseg.errors import ModelError
from medseg.library.importer.folder_facts import facts_of
from medseg.library.importer.formats import detect_kind

METADATA = {
    "name": "Spleen", "version": "0.2.0", "copyright": "Copyright of a group",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1, "spatial_shape": [96, 96, 96]}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}},
    },
}  # fmt: skip
INFERENCE: dict[str, Any] = {
    "network_def": {"_target_": "monai.networks.nets.SegResNet", "spatial_dims": 3},
    "preprocessing": {"_target_": "Compose", "transforms": [
        {"_target_": "LoadImaged", "keys": "image"}, {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "OwnTransformd", "keys": "image"},
    ]},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [96, 80, 64], "overlap": 0.5},
    "postprocessing": {"_target_": "Compose", "transforms": [{"_target_": "AsDiscreted", "keys": "pred",
                                                              "argmax": True}]},
}  # fmt: skip


def bundle(folder: Path) -> Path:
    root = folder / "spleen"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    (root / "configs" / "inference.json").write_text(json.dumps(INFERENCE))
    (root / "LICENSE").write_text("\nApache License\nVersion 2.0\n")
    for name in ("model.pt", "model.ts"):
        (root / "models" / name).write_bytes(b"PK")
    return root


def facts(folder: Path) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    found = facts_of(folder, detect_kind(folder))
    return dict(found["lines"]), {q["id"]: q for q in found["questions"]}


@pytest.mark.parametrize("zipped", [False, True])
def test_a_monai_bundle_says_channels_classes_transforms_and_licence(tmp_path: Path, zipped: bool) -> None:
    root = bundle(tmp_path)
    if zipped:
        with zipfile.ZipFile(tmp_path / "spleen.zip", "w") as archive:
            for file in sorted(root.rglob("*.*")):
                archive.write(file, file.relative_to(tmp_path))
        root = tmp_path / "spleen.zip"
    lines, questions = facts(root)
    assert lines["Images"] == "image 1 (CT)" and lines["Classes"] == "1: spleen"
    assert lines["Before the network"] == "LoadImaged, Orientationd, OwnTransformd" and lines["Network"] == "SegResNet"
    assert lines["Runs"] == "in windows of 96 x 80 x 64 voxels" and lines["Version"] == "0.2.0"
    assert lines["Licence"] == "Copyright of a group" + ("" if zipped else "; LICENSE: Apache License")
    assert "OwnTransformd (it is not known to MedSeg)" in questions["skip"]["why"]
    assert list(questions["weights"]["choices"]) == ["", "pt", "ts"]


def test_raidionics_and_auto3dseg_say_what_their_files_say(tmp_path: Path) -> None:
    for name, data in FOLDERS[0].sample().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = data.replace(b"=minimum", b"=brain_clip").replace(b"[MRI]", b"[MRI]\nown_setting=3")
        (tmp_path / name).write_bytes(text if name.endswith(".ini") else data)
    lines, questions = facts(tmp_path / "MRI_Tumor")
    assert lines["Images"] == "1 (MRI)" and lines["Classes"] == "1: Tumor"
    assert "output_spacing = 1.2,1.0,1.4" in lines["Before the network"]
    assert list(questions) == ["skip", "mask", "overlap", "reconstruction", "order"]
    assert "own_setting" in questions["skip"]["why"] and questions["mask"]["default"] == "meshnet-brain-mask"
    place = tmp_path / "whole-body"
    place.mkdir()
    (place / "labels.csv").write_text("LabelValue,Name\n0,background\n1,liver\n2,spleen\n")
    (place / "model.pt").write_bytes(b"PK")
    lines, questions = facts(place)
    assert lines["Classes"] == "2: liver, spleen" and "model.pt" in lines["Images, transforms"] and not questions


def test_a_damaged_description_is_a_sentence(tmp_path: Path) -> None:
    root = bundle(tmp_path)
    (root / "configs" / "metadata.json").write_text('{"network_data_format": 3}')
    with pytest.raises(ModelError, match="description of spleen is damaged"):
        facts(root)


def test_a_network_of_two_branches_asks_which_holds_the_classes(tmp_path: Path) -> None:
    root = bundle(tmp_path)
    inference = {**INFERENCE, "network_def": {"_target_": "SegResNetDS2", "spatial_dims": 3}}
    (root / "configs" / "inference.json").write_text(json.dumps(inference))
    _, questions = facts(root)
    assert questions["output"]["choices"] == ("", "0", "1") and "nothing is imported" in questions["output"]["why"]
    assert "output" not in facts(bundle(tmp_path / "other"))[1]
