"""The given nnU-Net, through the whole chain, against nnU-Net 2.8.1's own labels: who imports one gets its result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import onnx
import pytest

from medseg import Volume, read_volume, run
from medseg.library.importer import ImportOptions, import_model
from medseg.model.package import load_model
from support.nnunet_onnx import plain_unet, read_weights

# Prepared by nnU-Net 2.8.1: (z, y, x) -> value.
GOLDEN = {
    (0, 0, 0): -0.9290597,
    (80, 63, 63): 1.39762,
    (40, 30, 90): -0.3845294,
    (120, 100, 20): 0.4368286,
    (159, 125, 125): -0.9290597,
    (80, 5, 63): 0.1333684,
    (33, 77, 41): 0.946851,
}
RESULT = "nnunet/Dataset901_T1/nnUNetTrainer__nnUNetPlans__3d_fullres"


def package(shared: Path, folder: Path, folds: tuple[int, ...]) -> Path:
    """The result's folds as a package; the axes of mirroring are those that its checkpoints name."""
    source = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    source.mkdir()
    for name in ("plans.json", "dataset.json"):
        shutil.copy(shared / RESULT / name, source / name)
    plan = json.loads((source / "plans.json").read_text())["configurations"]["3d_fullres"]
    weights = [read_weights(shared / RESULT / f"fold_{n}" / "checkpoint_final.pth") for n in folds]
    onnx.save(plain_unet(weights, plan), str(source / "model.onnx"))
    made = import_model(source, None, folder / "package", options=ImportOptions(choices={"onnx": "model.onnx"}))
    raw = json.loads((made / "manifest.json").read_text())
    raw["inference"]["mirror_axes"] = [0, 1, 2]
    (made / "manifest.json").write_text(json.dumps(raw))
    return made


def head(shared: Path) -> Volume:
    return read_volume(shared / "images/t1/t1_conformed_256.nii.gz")


def agreement(found: Any, path: Path) -> tuple[float, list[float]]:
    """Share of equal voxels, and Dice of both classes."""
    wanted = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
    dice = [2 * ((found == c) & (wanted == c)).sum() / ((found == c).sum() + (wanted == c).sum()) for c in (1, 2)]
    return float((found == wanted).mean()), dice


def test_what_the_network_gets_is_what_nnunet_gave_it(shared: Path, tmp_path: Path) -> None:
    """Numbers of nnU-Net 2.8.1's own prepared array (cropped, normalised, resampled)."""
    from medseg.pipeline.preprocess import prepare

    manifest = load_model(package(shared, tmp_path, (0,))).manifest
    array = prepare(manifest, [head(shared)]).array[0]
    assert array.shape == (160, 126, 126)
    for place, value in GOLDEN.items():
        assert array[place] == pytest.approx(value, abs=2e-5), place


LONG = [pytest.mark.recipes, pytest.mark.timeout(3000)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folds", "mirror", "labels"),
    [
        ((0,), False, "fold0"),
        pytest.param((0, 1), False, "folds01", marks=LONG),
        pytest.param((0,), True, "fold0_mirrored", marks=LONG),
    ],
)
def test_labels_are_those_of_nnunet(
    shared: Path, tmp_path: Path, folds: tuple[int, ...], mirror: bool, labels: str
) -> None:
    """Two folds and mirroring (8 times the work) only run by ``make test-recipes``."""
    result = run(package(shared, tmp_path, folds), head(shared), device="cpu", mirror=mirror)
    equal, dice = agreement(result.layers[0].labels, shared / f"nnunet/labels_{labels}.nii.gz")
    assert equal >= 0.9999 and min(dice) >= 0.9999
