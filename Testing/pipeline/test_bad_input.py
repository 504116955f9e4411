"""Bad input ends in one sentence that names it and says what to do; a doubtful one in a warning. Never in a traceback.

Broken files are in test_io_*.py, broken packages in test_package*.py, broken output places in test_write.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from medseg import Model, Volume, load_model, run
from medseg.errors import InputError
from medseg.geometry.grid import Grid

GRID = Grid((12, 10, 8), (1, 1, 2), (0, 0, 0), np.eye(3))
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return _model(tmp_path_factory.mktemp("one"), ["CT"])


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return _model(tmp_path_factory.mktemp("two"), ["T1", "FLAIR"])


def _model(folder: Path, channels: list[str]) -> Model:
    weight = np.zeros((2, len(channels), 1, 1, 1), np.float32)
    weight[1] = 1
    shape: list[int | str] = ["n", len(channels), "d", "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, ["n", 2, "d", "h", "w"])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "m.onnx")
    manifest = {
        "medseg_manifest": 1,
        "id": "tiny",
        "version": "1",
        "title": "Tiny model",
        "task": "segmentation",
        "license": "Apache-2.0",
        "weights": {"file": "m.onnx"},
        "channels": [{"name": c, "modality": ["CT" if c == "CT" else "MR"]} for c in channels],
        "inputs": [{"name": "x", "layout": "NCDHW"}],
        "inference": {"mode": "whole"},
        "output": {"tensor": "y", "layout": "NCDHW", "activation": "softmax", "logits": True},
        "classes": [{"value": 1, "name": "bright"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_model(folder)


def volume(array: np.ndarray | None = None, modality: str | None = "CT", grid: Grid = GRID) -> Volume:
    if array is None:
        array = RNG.normal(size=grid.shape).astype(np.float32)
    return Volume(array, grid, modality, "scan.nii.gz")


def changed(value: float) -> np.ndarray:
    array = RNG.normal(size=GRID.shape).astype(np.float32)
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: volume(changed(np.nan)), ["scan.nii.gz", "1 voxels that are NaN", "replace them"]),
        (lambda: volume(changed(np.inf)), ["scan.nii.gz", "infinite"]),
        (lambda: volume(np.full(GRID.shape, 7, np.int16)), ["scan.nii.gz", "same value (7)", "Check"]),
        (lambda: volume(np.zeros((*GRID.shape, 3), np.uint8)), ["scan.nii.gz", "3 values per voxel", "choose one"]),
        (lambda: volume(np.zeros((*GRID.shape, 20), np.int16)), ["20 values per voxel", "4D"]),
        (lambda: volume(grid=GRID.slice(2, 0)), ["scan.nii.gz", "single slice", "3D model"]),
    ],
    ids=["nan", "inf", "constant", "colour", "4D", "one slice"],
)
def test_a_volume_that_cannot_mean_anything_is_refused_by_name(model: Model, bad, words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        run(model, bad())
    assert all(word in str(error.value) for word in words), str(error.value)
    assert error.value.exit_code == 2


def test_an_array_that_does_not_fit_its_grid_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(3, 3, 3\) does not fit"):
        Volume(np.zeros((3, 3, 3)), GRID)


@pytest.mark.parametrize(
    ("modality", "words"),
    [("MR", "is MR, but Tiny model was trained on CT"), (None, "scan.nii.gz does not state its modality")],
)
def test_another_modality_is_a_warning_not_a_refusal(model: Model, modality: str | None, words: str) -> None:
    result = run(model, volume(modality=modality))
    assert any(words in w for w in (result.warnings if modality else result.notes)) and result.layers
    assert list(result.warnings) == result.provenance["warnings"]
    assert not run(model, volume()).warnings[1:], "a fitting volume gives no warning but that of the missing hash"


def test_a_missing_second_channel_is_named(two_channels: Model) -> None:
    with pytest.raises(InputError, match=r"needs 2 volume\(s\) \(T1, FLAIR\), but 1"):
        run(two_channels, volume(modality="MR"))
    with pytest.raises(InputError, match="also needs the channel 'FLAIR'"):
        run(two_channels, {"T1": volume(modality="MR")})
    with pytest.raises(InputError, match="has no channel 'T2'"):
        run(two_channels, {"T1": volume(modality="MR"), "T2": volume(modality="MR")})


def test_the_second_channel_is_brought_onto_the_first_by_position_and_that_is_told(two_channels: Model) -> None:
    first = volume(modality="MR")
    fine = GRID.resized((24, 20, 16))
    second = volume(RNG.normal(size=fine.shape).astype(np.float32), "MR", fine)
    result = run(two_channels, [first, second])
    assert result.grid == GRID and any("was resampled onto the grid" in w for w in result.warnings)


def test_channels_of_different_places_are_refused(two_channels: Model) -> None:
    away = Grid(GRID.size, GRID.spacing, (500, 500, 500), np.eye(3))
    with pytest.raises(InputError, match="does not overlap"):
        run(two_channels, [volume(modality="MR"), volume(modality="MR", grid=away)])


def test_windows_of_a_model_that_does_not_allow_it_cannot_be_changed(tmp_path: Path, model: Model) -> None:
    steps = [{"step": "window", "windows": [{"level": 40, "width": 80}]}]
    fixed = model.manifest.model_copy(
        update={"preprocessing": type(model.manifest).model_validate(
            model.manifest.model_dump() | {"preprocessing": steps}).preprocessing}
    )  # fmt: skip
    with pytest.raises(InputError, match="part of its training"):
        run(Model(**{**vars(model), "manifest": fixed}), volume(), windows=((50.0, 100.0),))
