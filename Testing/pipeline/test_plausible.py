"""What a reader would notice at once is said: the wrong modality, an organ that is not there, no lesion found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from medseg import Volume, load_model, run
from medseg.geometry.grid import Grid
from medseg.model.package import Model
from medseg.monitor import Monitor
from medseg.pipeline.plausible import check_modality
from support import tiny_networks

GRID = Grid((12, 10, 8), (1, 1, 2), (0, 0, 0), np.eye(3))
RNG = np.random.default_rng(0)
HU = np.where(RNG.random(GRID.shape) < 0.3, -1000, 40 + RNG.normal(0, 10, GRID.shape)).astype(np.int16)
MAGNITUDE = np.abs(RNG.normal(300, 100, GRID.shape)).astype(np.int16)


def model(folder: Path, bias: float, *, classes: list[dict[str, Any]] | None = None, **changes: Any) -> Model:
    """A network that says class 1 where the value is above ``-bias``."""
    weight = np.array([0.0, 1.0, 0.0], np.float32).reshape(3, 1, 1, 1, 1)
    proto = tiny_networks.convolution(weight, [0.0, bias, -1e4])
    proto.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3, "d", "h", "w"])
    )
    folder.mkdir()
    onnx.save(proto, folder / "model.onnx")
    manifest = tiny_networks.manifest({"mode": "whole"}, {}, 2, **changes).model_dump(mode="json", exclude_none=True)
    if classes:
        manifest["classes"] = classes
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_model(folder)


@pytest.mark.parametrize(
    ("array", "modality", "wanted", "warned"),
    [
        (HU, None, ["MR"], "values like CT numbers"),
        (MAGNITUDE, None, ["CT"], "no negative values"),
        (MAGNITUDE, None, ["CR", "DX"], "not a film"),
        (MAGNITUDE, "MR", ["CT"], "is MR, but"),
        (MAGNITUDE, None, ["MR"], ""),
        (HU, None, ["CT"], ""),
        (HU, None, ["CT", "MR"], ""),
        (HU, "CT", ["CT"], ""),
        (MAGNITUDE, None, [], ""),
    ],
)
def test_values_that_contradict_the_model_are_warned_of(array, modality, wanted, warned) -> None:
    """A NIfTI never states its modality: a warning at each run would not be read."""
    monitor = Monitor()
    check_modality(Volume(array, GRID, modality, "scan.nii.gz"), wanted, "The model", monitor)
    assert len(monitor.warnings) == bool(warned) and all(warned in w and "scan.nii.gz" in w for w in monitor.warnings)
    stated = modality is not None or not wanted
    assert monitor.notes == ([] if warned or stated else [f"scan.nii.gz does not state its modality; it was taken for "
                                                          f"{' or '.join(wanted)}."])  # fmt: skip


def test_organs_that_are_not_there_are_a_warning_with_what_the_network_saw(tmp_path: Path) -> None:
    result = run(model(tmp_path / "m", -5000), Volume(MAGNITUDE, GRID, "MR", "scan"))
    (warning,) = [w for w in result.warnings if "nothing was found" in w]
    assert warning.startswith("class 1, class 2: nothing was found. The network saw values from ")
    assert f"mean {MAGNITUDE.mean():.3g}" in warning and f"to {MAGNITUDE.max():.3g}" in warning
    assert "class 1 0, class 2 0" in warning and "intensity steps" in warning
    assert warning in result.provenance["warnings"]
    assert result.provenance["inference"]["highest"] == {"class 1": 0.0, "class 2": 0.0}


def test_an_organ_that_fills_the_volume_is_a_warning(tmp_path: Path) -> None:
    result = run(model(tmp_path / "m", 5000), Volume(MAGNITUDE, GRID, "MR", "scan"))
    assert any("class 1 fills the whole volume" in w and "class 1 1." in w for w in result.warnings)


def test_one_organ_of_several_may_be_empty(tmp_path: Path) -> None:
    """One kidney after an operation is no fault of the run."""
    result = run(model(tmp_path / "m", -300), Volume(MAGNITUDE, GRID, "MR", "scan"))
    assert result.mask("class 1").any() and not result.mask("class 2").any()
    assert not [w for w in result.warnings if "class" in w] and result.notes == ()


def test_no_lesion_is_a_fact_of_the_result(tmp_path: Path) -> None:
    classes = [{"value": 1, "name": "Microbleed", "lesion": True}]
    result = run(model(tmp_path / "m", -5000, classes=classes), Volume(MAGNITUDE, GRID, "MR", "scan"))
    assert result.notes == ("No microbleed was found.",) == tuple(result.provenance["notes"])
    assert not [w for w in result.warnings if "found" in w]


@pytest.mark.real_data
def test_a_real_model_with_wrong_intensities_is_not_silent(shared: Path, repository: Path, tmp_path: Path) -> None:
    """Imported with a z-score in place of its own scaling it gave "White matter 0, Grey matter 0" without a word."""
    from medseg import read_volume

    manifest = json.loads((repository / "Testing" / "real_models" / "meshnet-gwm-light.json").read_text())
    orient, resample, _, _ = manifest["preprocessing"]
    manifest["preprocessing"] = [orient, resample, {"step": "affine", "scale": 1e-5}]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    weights = shared / "models" / "meshnet-gwm-light" / "model.onnx"
    volume = read_volume(shared / "images" / "t1" / "t1_conformed_256.nii.gz")
    result = run(load_model(tmp_path / "manifest.json", weights=weights), volume, device="cpu")
    assert any(
        ("nothing was found" in w or "fills the whole volume" in w) and "saw values" in w for w in result.warnings
    )
