"""The published microbleed chain on a real head: brain mask and parcellation are the MeshNets that a user has.

The detector is a few operators (nobody publishes the U-Net's weights); everything around it is the recipe, 400 voxels
a side and windows of 96 included. ``make test-recipes`` runs it, since it takes minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from scipy import ndimage

from medseg import Volume, read_volume, run
from medseg.library.importer import find_recipe, import_model
from medseg.monitor import Monitor
from support import measurement_models as models

PLACES = {
    "Left-Cerebral-White-Matter": ("subcortical white matter", "lobar"),
    "Right-Putamen": ("basal ganglia", "deep"),
    "Left-Thalamus-Proper": ("thalamus", "deep"),
    "Brain-Stem": ("brainstem", "deep"),
    "Right-Cerebellum-White-Matter": ("cerebellum", "deep"),
}
RADIUS = 2.0


def detector(folder: Path) -> Path:
    """The recipe's manifest around a network that marks what is darker than its surroundings."""
    raw: dict[str, Any] = {k: v for k, v in find_recipe("cmb-unet3d").template().items() if k != "weights"}
    raw["inputs"] = [{"name": "x", "layout": "NCDHW"}]
    raw["output"] = {"tensor": "y", "layout": "NCDHW", "activation": "softmax", "logits": True, "restore": "labels"}
    head, weights = models.linear("depth", [0, 4], [0, -6])
    nodes = [*models.closing("x", "closed", 11), helper.make_node("Sub", ["closed", "x"], ["depth"]), head]
    shapes = [["n", 1, "d", "h", "w"], ["n", 2, "d", "h", "w"]]
    return models.save(folder / "cmb-unet3d", nodes, weights, shapes, **raw)


@pytest.mark.real_data
@pytest.mark.recipes
@pytest.mark.timeout(3600)
def test_painted_microbleeds_are_found_and_placed(shared: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Each dark ball is a lesion of its structure; one in the scalp is none; all lie on the head's own grid."""
    installed = tmp_path / "models"
    installed.mkdir()
    for id in ("meshnet-brain-mask", "meshnet-104"):
        import_model(shared / "models" / id / "tfjs" / "model.json", id, installed / id)
    monkeypatch.setenv("MEDSEG_MODELS", str(installed))
    head = read_volume(shared / "images/t1/t1_conformed_256.nii.gz")
    regions = run(installed / "meshnet-104", head, device="cpu")
    image = head.array.astype(np.float32)
    index = np.indices(image.shape).astype(np.float32)

    def paint(centre: np.ndarray) -> None:
        image[((index - centre.reshape(3, 1, 1, 1)) ** 2).sum(0) <= RADIUS**2] = 5

    centres: dict[str, np.ndarray] = {}
    for name in PLACES:
        depth = ndimage.distance_transform_edt(regions.mask(name))
        centres[name] = np.array(np.unravel_index(int(depth.argmax()), depth.shape), dtype=float)
        paint(centres[name])
    scalp = np.argwhere(ndimage.binary_erosion(image > 150, iterations=2) & (regions.layers[0].labels == 0))[0]
    paint(scalp.astype(float))
    monitor = Monitor()
    result = run(detector(tmp_path), Volume(image, head.grid, "MR", "painted head"), device="cpu", monitor=monitor)
    assert result.layers[0].labels.shape == image.shape
    table = result.tables["lesions"]
    found = [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]
    numbers, _ = ndimage.label(result.mask("Microbleed"))
    for name, (region, location) in PLACES.items():
        k, j, i = centres[name]
        assert numbers[int(k), int(j), int(i)], name
        ras = head.grid.to_physical((i, j, k)) * (-1, -1, 1)
        near = [r for r in found if np.linalg.norm([r[f"centre_{a}_mm"] - ras[n] for n, a in enumerate("ras")]) < 1]
        assert len(near) == 1, name
        (lesion,) = near
        assert (lesion["region"], lesion["location"]) == (region, location), name
        assert lesion["volume_mm3"] == pytest.approx(33, abs=12), name
    assert not result.mask("Microbleed")[tuple(scalp)]
    counts = result.tables["counts"]
    assert counts.column("lesions")[0] == len(found) >= len(PLACES)
