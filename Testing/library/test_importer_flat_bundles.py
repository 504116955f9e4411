"""MONAI bundles of 2D networks: slices of volumes and flat images reach the network as MONAI gives them.

A slip in the axes turns every slice over: the result looks like a bad model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from library.test_importer_bundles import TRANSFORMS, flat, manifest_of, monai
from medseg import Volume, run
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.library.importer import import_model
from medseg.library.importer.folder_facts import facts_of
from medseg.pipeline.preprocess import prepare

LOADED = TRANSFORMS[:2]


def bundle(folder: Path, transforms: list[dict[str, Any]], shape: list[int], **plan: Any) -> Path:
    root = monai(folder, transforms, **plan)
    onnx.save(flat(2), str(root / "model.onnx"))
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] = shape
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return root


def volume(shape: tuple[int, int, int]) -> Volume:
    """(K, J, I) whose i, j, k grow to R, A, S."""
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    return Volume(values, Grid(shape[::-1], (1, 1, 1), (0, 0, 0), np.diag([-1.0, -1.0, 1.0])), "CT", "v")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_a_volume_are_cut_along_the_axis_that_the_bundle_names(tmp_path: Path, axis: int) -> None:
    windows = {"_target_": "SliceInferer", "roi_size": [4, 3], "spatial_dim": axis, "overlap": 0.5, "mode": "gaussian"}
    root = bundle(tmp_path / "bundle", TRANSFORMS[:3], [64, 64], inferer=windows)
    manifest = manifest_of(root, tmp_path)
    image = volume((7, 6, 5))
    prepared = prepare(manifest, [image])
    xyz = image.array.transpose(2, 1, 0)
    assert np.array_equal(prepared.array[0], np.moveaxis(xyz, axis, 0))
    assert manifest.inference.patch == (3, 4, 1) and manifest.inference.stride == (1, 2, 1)
    assert manifest.network_dimensions == 2 and manifest.output.way_back == "steps"
    # The network doubles nothing and moves nothing: the way back must end where the slices came from.
    assert run(tmp_path / "package", image, device="cpu").layers[0].labels.shape == image.array.shape


def test_a_flat_image_is_given_as_x_y(tmp_path: Path) -> None:
    windows = {"_target_": "SlidingWindowInferer", "roi_size": [4, 3], "overlap": 0.25}
    scaled = {"_target_": "Resized", "keys": "image", "spatial_size": [8, 6], "mode": "bilinear"}
    root = bundle(tmp_path / "bundle", [*LOADED, scaled], [64, 64], inferer=windows)
    manifest = manifest_of(root, tmp_path)
    image = volume((1, 3, 4))
    found = prepare(manifest, [image]).array
    assert found.shape == (1, 1, 8, 6)
    # PyTorch's bilinear rule at a factor of two: the outer voxel is the image's own.
    assert found[0, 0, 0, 0] == image.array[0, 0, 0] and found[0, 0, -1, 0] == image.array[0, 0, -1]
    assert manifest.inference.patch == (3, 4, 1)
    assert any("normalised over all of it" in text for text in manifest.card.limitations)
    assert run(tmp_path / "package", image, device="cpu").layers[0].labels.shape == (1, 3, 4)
    assert dict(facts_of(root, "monai")["lines"])["Runs"] == "in windows of 4 x 3 voxels"


def test_a_whole_flat_image_needs_no_windows(tmp_path: Path) -> None:
    root = bundle(tmp_path / "bundle", LOADED, [64, 64], inferer={"_target_": "SimpleInferer"})
    assert manifest_of(root, tmp_path).inference.mode == "slicewise"


@pytest.mark.parametrize(
    "odd",
    [
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1, 1, 1]},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RA"},
    ],
)
def test_what_makes_no_sense_for_flat_images_is_asked(tmp_path: Path, odd: dict[str, Any]) -> None:
    """It used to be left out with a note."""
    root = bundle(tmp_path / "bundle", [*LOADED, odd], [64, 64], inferer={"_target_": "SimpleInferer"})
    with pytest.raises(InputError, match=rf"{odd['_target_']} \((pixdim|it turns flat images)"):
        import_model(root, None, tmp_path / "package")
