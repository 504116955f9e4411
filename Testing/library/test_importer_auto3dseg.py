"""Auto3DSeg models: the settings in a checkpoint become the steps that SlicerMONAIAuto3DSeg takes.

A slip in one of them gives wrong organs without any error.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.errors import ModelError
from medseg.library.importer.auto3dseg import classes_of, plan_of, read_labels
from medseg.library.importer.chain_check import equal_voxels
from medseg.library.importer.formats import detect_kind
from medseg.model.manifest.schema import Manifest
from medseg.model.manifest.steps import Squash, Standardise
from medseg.pipeline.preprocess.standardise import squash, standardise
from medseg.pipeline.restore import segment_classes
from medseg.result import Layer
from support.tiny_networks import manifest

CT = {
    "network": {}, "roi_size": [96, 96, 96], "normalize_mode": "ct", "intensity_bounds": [-250, 250],
    "orientation_ras": True, "crop_foreground": True, "resample_resolution": [1.5, 1.5, 3.0],
}  # fmt: skip


def test_settings_become_steps_in_the_order_of_the_script() -> None:
    """The crop must be looked for in the image as loaded, and the spacing kept where it is near."""
    steps = plan_of(CT).steps
    assert [s["step"] for s in steps] == ["orient", "standardise", "squash", "crop_box", "resample_from_first"]
    assert steps[3]["as_stored"] and steps[4]["spacing"] == [3.0, 1.5, 1.5]
    assert steps[4]["unless_between"][0] == [2.25, 1.125, 1.125]
    several = plan_of({**CT, "extra_modalities": {"image2": "meanstd"}})
    assert several.keys == ["image1", "image2"]
    assert [s.get("channels") for s in several.steps[:3]] == [[0], [0], [1]]
    with pytest.raises(ModelError, match="normalize_mode = own"):
        plan_of({**CT, "normalize_mode": "own"})


def test_values_are_those_of_the_scripts_formulas() -> None:
    """Networks that see other values than in training give meaningless results."""
    x = np.random.default_rng(0).normal(0, 200, (2, 3, 4, 5)).astype(np.float32)
    made = squash(
        Squash(step="squash", function="sigmoid", channels=[0]),
        standardise(Standardise(step="standardise", subtract=[0.0], divide=[250.0], channels=[0]), x),
    )
    assert np.allclose(made[0], 1 / (1 + np.exp(-((x[0] + 250) / 500 * 2 - 1))), atol=1e-6)
    assert np.array_equal(made[1], x[1])
    tanh = squash(Squash(step="squash", function="tanh", scale=3.0), x)
    assert np.allclose(tanh, 3 * np.tanh(x / 3), atol=1e-6)
    pet = squash(Squash(step="squash", function="pet"), x)
    assert np.allclose(pet[1], 1 / (1 + np.exp(-(x[1] - x[1].min()) / x[1].std(ddof=1))), atol=1e-5)


def test_names_of_labels_and_of_overlapping_tumours(tmp_path: Path) -> None:
    """Segments would have the wrong names, or tumour parts the wrong labels."""
    (tmp_path / "labels.csv").write_text("LabelValue,Name,Extra\n0,background,\n1,liver,x\n2,spleen,\n")
    names = read_labels(tmp_path / "labels.csv")
    classes, more = classes_of(names, 3, False, False)
    assert [c["name"] for c in classes] == ["liver", "spleen"] and not more
    classes, more = classes_of({1: "core", 2: "edema", 3: "enhancing"}, 3, True, True)
    assert [(c["name"], c["value"], c["channel"]) for c in classes] == [
        ("edema", 2, 0), ("core", 1, 1), ("enhancing", 3, 2),
    ]  # fmt: skip
    assert more == {"exclusive": True}
    (tmp_path / "model.pt").write_bytes(b"PK")
    assert detect_kind(tmp_path) == "auto3dseg"


def test_overlapping_tumours_that_become_one_label_map_are_compared_as_such() -> None:
    """The import of a brain tumour model ended here: three masks were held against one label map."""
    classes, output = classes_of({1: "core", 2: "whole", 3: "enhancing"}, 3, True, True)
    some = manifest({"mode": "whole"}, {"activation": "sigmoid", **output}, classes=3).model_dump(by_alias=True)
    plan = Manifest.model_validate(some | {"classes": classes})
    masks = np.zeros((3, 1, 1, 4), np.uint16)
    masks[0, ..., :3], masks[1, ..., 1:3], masks[2, ..., 2] = 1, 1, 1
    found = Layer(np.array([[[2, 1, 3, 2]]], np.uint8), tuple(segment_classes(plan.classes)))
    assert equal_voxels([found], masks, plan).tolist() == [[[True, True, True, False]]]
