"""Two segmentations of one image, made by two programs: the same voxels must be compared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.compare.masks import Matching
from medseg.compare.pairs import compare_segmentations
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.resample import resample
from medseg.io import Segmentation
from medseg.monitor import Monitor
from medseg.result import Layer, SegmentClass
from support.geometry import grids

GRID = Grid((12, 10, 8), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def segmentation(
    grid: Grid, labels: np.ndarray, names: tuple[str, ...] = ("a", "b"), file: str = "p.nrrd"
) -> Segmentation:
    classes = tuple(SegmentClass(n, name, (1.0, 0.0, 0.0)) for n, name in enumerate(names, start=1))
    return Segmentation(grid, (Layer(labels, classes),), file)


def labels(grid: Grid, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, grid.shape).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(grid=grids(max_size=6), code=st.sampled_from(["LPS", "RAS", "SAL", "IPR"]), seed=st.integers(0, 9))
def test_the_order_in_which_voxels_are_stored_does_not_matter(grid: Grid, code: str, seed: int) -> None:
    """One program stores slices head to foot, another turned: the figures must be those of equal masks."""
    there = grid.reoriented(code)
    mine = labels(grid, seed)
    turned = np.asarray(resample(mine, grid, there, interpolation="nearest", fill=0))
    monitor = Monitor()
    found = compare_segmentations(segmentation(there, turned), segmentation(grid, mine, file="r"), monitor=monitor)
    for one in found.classes:
        assert np.array_equal(one.prediction, one.reference)
    assert not monitor.warnings


def test_names_are_paired_whatever_their_case_and_the_rest_is_told() -> None:
    monitor = Monitor()
    one = segmentation(GRID, labels(GRID, 1), ("Lesion", "vein"))
    other = segmentation(GRID, labels(GRID, 2), ("lesion", "bone"), "r.nrrd")
    found = compare_segmentations(one, other, monitor=monitor, matching=Matching())
    assert [c.name for c in found.classes] == ["lesion"]
    assert found.only_in_prediction == ("vein",) and found.only_in_reference == ("bone",)
    assert any("vein" in n for n in monitor.notes) and any("bone" in n for n in monitor.notes)
    table = found.table()
    assert table.column("class") == ["lesion"] and table.column("dice")[0] == found.classes[0].figures.counts.dice


def test_one_class_each_is_compared_and_others_must_be_named() -> None:
    one = segmentation(GRID, labels(GRID, 1) % 2, ("tumour",))
    assert compare_segmentations(one, segmentation(GRID, labels(GRID, 2) % 2, ("mass",))).classes[0].name == "mass"
    two = segmentation(GRID, labels(GRID, 2), ("x", "y"))
    with pytest.raises(InputError, match="--pair"):
        compare_segmentations(one, two)
    assert compare_segmentations(one, two, pairs={"tumour": "y"}).classes[0].name == "y"
    with pytest.raises(InputError, match="no class 'z'"):
        compare_segmentations(one, two, pairs={"tumour": "z"})


def test_masks_of_other_places_are_refused_and_what_sticks_out_is_told() -> None:
    far = Grid(GRID.size, GRID.spacing, (500.0, 0.0, 0.0), GRID.direction)
    with pytest.raises(InputError, match="do not overlap"):
        compare_segmentations(segmentation(far, labels(GRID, 1)), segmentation(GRID, labels(GRID, 2)))
    shifted = Grid(GRID.size, GRID.spacing, (3.0, 0.0, 0.0), GRID.direction)
    monitor = Monitor()
    compare_segmentations(segmentation(shifted, labels(GRID, 1)), segmentation(GRID, labels(GRID, 2)), monitor=monitor)
    assert any("outside" in w for w in monitor.warnings)
    finer = GRID.resized((24, 20, 8))
    monitor = Monitor()
    compare_segmentations(segmentation(finer, labels(finer, 1)), segmentation(GRID, labels(GRID, 2)), monitor=monitor)
    assert any("resampled" in w for w in monitor.warnings)


def test_found_too_much_and_missed_are_segments_of_their_own() -> None:
    one, other = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    one[0, 0, 0:3] = other[0, 0, 1:5] = 1
    found = compare_segmentations(segmentation(GRID, one, ("a",)), segmentation(GRID, other, ("a",)))
    (layer,) = found.layers()
    assert layer.labels[0, 0].tolist()[:6] == [2, 1, 1, 3, 3, 0]
    assert [c.name for c in layer.classes] == ["in both", "only in prediction", "only in reference"]
