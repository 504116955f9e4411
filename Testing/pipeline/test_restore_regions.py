"""Only where a class can be is anything brought back. If one failed, a lesion would be cut or lost."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from test_infer_outputs import run

from medseg.geometry import components
from medseg.geometry.grid import Grid
from medseg.pipeline import restore as module
from medseg.pipeline.restore import restore
from support.geometry import rotation
from support.tiny_networks import manifest, prepared

PLAN = {"mode": "slicewise", "plane": "axial", "batch": 4}
SHAPE = (22, 30, 26)


def logits(channels: int, seed: int, sparse: bool) -> np.ndarray:
    """Blobs of each class: a few small ones, or all over the volume; some reach the border."""
    random = np.random.default_rng(seed)
    values = np.stack([ndimage.gaussian_filter(random.normal(size=SHAPE), 1.5) for _ in range(channels)])
    values *= 6 / values.std()
    return (values - (17 if sparse else 0)).astype(np.float32)


@pytest.mark.parametrize("turned", [0.0, 0.3], ids=["parallel", "turned"])
@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "everywhere"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("most", [0, 1000], ids=["one box", "a box for each clump"])
def test_labels_are_those_of_the_whole_volume(
    activation: str, sparse: bool, turned: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(components, "_WORTH_VOXELS", 0)
    monkeypatch.setattr(components, "_WORTH_SHARE", 1.0)
    monkeypatch.setattr(module, "_GAP", 2)
    monkeypatch.setattr(module, "_MOST_REGIONS", most)
    values = logits(3, 5, sparse)
    if activation == "softmax":
        values[0] = 0
    plan = manifest(PLAN, {"activation": activation}, 2)
    maps = run(values, {"activation": activation}, 2)
    given = prepared(values)
    place = tuple(given.grid.to_physical([-3, 2, -1]))
    grid = Grid((31, 24, 25), (0.7, 1.3, 0.9), place, given.grid.direction @ rotation((turned, turned, 0)))
    parts, _ = restore(maps, plan, given, grid)
    whole, _ = restore(maps, plan, given, grid, probabilities=True)
    assert any(layer.labels.any() for layer in whole)
    for part, all_of_it in zip(parts, whole, strict=True):
        assert np.array_equal(part.labels, all_of_it.labels)
