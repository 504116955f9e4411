"""Taking sparse masks apart must not change what is connected, nor what a cleaning step gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import ndimage
from scipy.spatial import cKDTree

from medseg.geometry import components as module
from medseg.geometry.components import clumps, components, structure
from medseg.geometry.grid import Grid
from medseg.model.manifest.steps import PostprocessingStep
from medseg.monitor import Monitor
from medseg.pipeline.postprocess import postprocess
from medseg.result import Layer, SegmentClass

SHAPE = (23, 31, 40)


def scattered(seed: int) -> np.ndarray:
    """Labels 1 and 2 as small blobs and single voxels far apart."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    for _ in range(rng.integers(1, 25)):
        start = [rng.integers(0, n) for n in SHAPE]
        size = rng.integers(1, 7, 3)
        place = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        labels[place] = np.where(rng.random(labels[place].shape) < 0.9, rng.integers(1, 3), labels[place])
    return labels


@pytest.fixture(scope="module", autouse=True)
def always_taken_apart():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_WORTH_VOXELS", 0)
        patch.setattr(module, "_WORTH_SHARE", 1.0)
        yield


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), gap=st.integers(1, 9))
def test_clumps_hold_each_voxel_once_and_lie_apart(seed, gap):
    mask = scattered(seed) > 0
    count = np.zeros(SHAPE, int)
    trees = []
    for box, part in clumps(mask, gap):
        count[box] += part
        assert all(part.any(axis=a).any() for a in range(3)) and part.shape == count[box].shape
        trees.append(cKDTree(np.argwhere(part) + [b.start for b in box]))
    np.testing.assert_array_equal(count, mask)
    for n, tree in enumerate(trees):
        for other in trees[:n]:
            assert not any(tree.query_ball_tree(other, gap + 0.5, p=np.inf))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), connectivity=st.sampled_from([4, 8, 6, 18, 26]), axis=st.integers(0, 2))
def test_components_are_those_of_one_pass_over_the_volume(seed, connectivity, axis):
    mask = scattered(seed) > 0
    found = components(mask, connectivity, axis)
    expected, count = ndimage.label(mask, structure(connectivity, axis))
    assert found.count == count
    seen = set()
    for number, box, part in found.each():
        values = np.unique(expected[box][part])
        assert len(values) == 1 and values[0] > 0
        assert part.sum() == (expected == values[0]).sum() == found.sizes[number]
        seen.add(int(values[0]))
    assert len(seen) == count


def test_an_empty_mask_has_no_components():
    found = components(np.zeros(SHAPE, bool), 26)
    assert found.count == 0 and list(found.each()) == []


STEPS = [
    {"step": "remove_small", "voxels": 12, "connectivity": 6},
    {"step": "remove_small", "voxels": 5, "connectivity": 8},
    {"step": "largest_component", "together": True},
    {"step": "fill_holes"},
    {"step": "fill_holes", "scope": "slice"},
    {"step": "opening", "shape": "disk", "radius": 1},
    {"step": "opening", "shape": "ball", "radius": 3},
    {"step": "closing", "shape": "ball", "radius": 1},
    {"step": "closing", "shape": "disk", "radius": 4},
]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), step=st.sampled_from(STEPS), axis=st.integers(0, 2))
def test_cleaning_is_the_same_clump_by_clump(seed, step, axis):
    """Two lesions near each other must be closed together even though they were taken apart."""
    labels = scattered(seed)
    if step["step"] == "largest_component":
        sizes = np.bincount(ndimage.label(labels > 0, np.ones((3, 3, 3)))[0].ravel())[1:]
        assume((sizes == sizes.max()).sum() == 1)
    direction = np.eye(3)[:, np.roll([0, 1, 2], axis)]
    grid = Grid(SHAPE[::-1], (1, 1, 1), (0, 0, 0), direction)
    layer = Layer(labels, (SegmentClass(1, "a", (1, 0, 0)), SegmentClass(2, "b", (0, 1, 0))))
    chosen = [TypeAdapter(PostprocessingStep).validate_python(step)]
    (apart,), reports = postprocess(chosen, (layer,), grid, "axial", {}, Monitor())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_WORTH_VOXELS", 10**9)
        (whole,), same = postprocess(chosen, (layer,), grid, "axial", {}, Monitor())
    np.testing.assert_array_equal(apart.labels, whole.labels)
    assert reports == same
