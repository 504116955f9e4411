"""Numbers that no model has, and archives that are none: a sentence, before memory is taken for them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from medseg import load_model
from medseg.errors import ModelError
from medseg.model.package import parse_manifest
from medseg.model.package_files import user_path
from support.packages import manifest, network, package


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": [{"step": "crop_or_pad", "size": [10**9, 4, 4]}]},
        {"preprocessing": [{"step": "crop_or_pad", "size": [0, 4, 4]}]},
        {"preprocessing": [{"step": "crop", "start": [-1, 0, 0], "size": [4, 4, 4]}]},
        {"preprocessing": [{"step": "resample", "spacing": [0.0, 1.0, 1.0]}]},
        {"preprocessing": [{"step": "clip", "minimum": float("inf")}]},
        {"inference": {"mode": "sliding_window", "patch": [2**40, 16, 16]}},
        {"inference": {"mode": "whole", "multiple_of": 2**31}},
        {"classes": [{"value": 1, "name": "a", "color": [300, 0, 0]}]},
        {"classes": [{"value": 1, "name": "a", "threshold": float("nan")}]},
    ],
)
def test_numbers_that_cannot_be_are_refused_with_their_field(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(changes))):
        parse_manifest(manifest(**changes), "manifest.json")


def test_an_element_type_that_onnx_does_not_have(tmp_path: Path) -> None:
    model = network()
    model.graph.input[0].type.tensor_type.elem_type = 133
    with pytest.raises(ModelError):
        load_model(package(tmp_path / "p", model))


def test_a_zip_whose_directory_points_before_its_start(tmp_path: Path) -> None:
    folder = package(tmp_path / "p")
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    data[end + 12 : end + 16] = (2**31 - 1).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match=r"p\.zip is damaged"):
        load_model(path)


def test_the_home_of_nobody_is_a_name_like_others() -> None:
    assert user_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    with pytest.raises(ModelError):
        load_model("~nobody-of-this-name/x")
