"""Cleaning steps against plain whole-volume references, and that no segment ever takes another's voxels."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import ndimage
from skimage import morphology

from medseg.errors import ModelError
from medseg.geometry.grid import Grid
from medseg.geometry.morphology import closed, opened, spread
from medseg.model.manifest.steps import PostprocessingStep
from medseg.monitor import Monitor
from medseg.pipeline.postprocess import postprocess
from medseg.result import Layer, Result, SegmentClass

RED = (1.0, 0.0, 0.0)
STEP = TypeAdapter(PostprocessingStep)
FIRST, SECOND = SegmentClass(1, "first", RED), SegmentClass(2, "second", RED)


def grid_of(array: np.ndarray, spacing=(1.0, 1.0, 1.0), direction=None) -> Grid:
    k, j, i = array.shape
    return Grid((i, j, k), spacing, (0, 0, 0), np.eye(3) if direction is None else direction)


def clean(labels, *steps, classes=(FIRST, SECOND), plane="axial", grid=None, required=None, monitor=None):
    labels = np.asarray(labels, np.uint8)
    layer = Layer(labels, classes)
    before = labels.copy()
    layers, reports = postprocess(
        [STEP.validate_python(s) for s in steps], (layer,), grid or grid_of(labels), plane, required or {},
        monitor or Monitor(),
    )  # fmt: skip
    np.testing.assert_array_equal(labels, before)
    return layers[0].labels, reports


def random_labels(seed: int, shape=(9, 10, 11), density=0.35) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < density, rng.integers(1, 3, shape), 0).astype(np.uint8)


def structure(connectivity: int) -> np.ndarray:
    return ndimage.generate_binary_structure(*{4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}[connectivity])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), connectivity=st.sampled_from([4, 8, 6, 18, 26]), least=st.integers(1, 9))
def test_remove_small_keeps_components_of_at_least_the_size(seed, connectivity, least):
    labels = random_labels(seed)
    got, reports = clean(labels, {"step": "remove_small", "voxels": least, "connectivity": connectivity})
    expected = np.zeros_like(labels)
    removed = 0
    for value in (1, 2):
        # Whole volume, or slice by slice; the parts of `expected` are views.
        parts = [(labels, expected)] if connectivity in (6, 18, 26) else zip(labels, expected, strict=True)
        for part, out in parts:
            numbered, n = ndimage.label(part == value, structure(connectivity))
            for c in range(1, n + 1):
                if (numbered == c).sum() >= least:
                    out[numbered == c] = value
                else:
                    removed += 1
    np.testing.assert_array_equal(got, expected)
    assert sum(r.get("components_removed", 0) for r in reports) == removed
    assert sum(r["voxels_removed"] for r in reports) == (labels > 0).sum() - (expected > 0).sum()


def test_remove_small_per_slice_follows_the_plane():
    """The same rule on a sagittally stored volume must still look at axial slices."""
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2, 2, 1:5] = 1
    step = {"step": "remove_small", "voxels": 3, "connectivity": 4}
    assert clean(labels, step)[0].sum() == 4
    turned = grid_of(labels, direction=np.eye(3)[:, [2, 1, 0]])
    assert turned.axis_of("axial") == 0
    assert clean(labels, step, grid=turned)[0].sum() == 0


def test_remove_small_by_volume_uses_the_voxel_volume():
    labels = np.zeros((5, 5, 9), np.uint8)
    labels[1, 1, 1] = labels[3, 3, 3] = labels[3, 3, 4] = 1
    small = grid_of(labels, (0.5, 2.0, 3.0))
    got, _ = clean(labels, {"step": "remove_small", "mm3": 6.0}, grid=small)
    np.testing.assert_array_equal(np.argwhere(got), [[3, 3, 3], [3, 3, 4]])
    assert clean(labels, {"step": "remove_small", "mm3": 3.0}, grid=small)[0].sum() == 3


def test_remove_small_without_a_size_is_refused_with_the_manifest():
    with pytest.raises(ValueError, match="voxels or mm3"):
        clean(random_labels(1), {"step": "remove_small"})


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), connectivity=st.sampled_from([6, 18, 26]), together=st.booleans())
def test_largest_component_alone_and_together(seed, connectivity, together):
    """Brain tissue classes are one organ: alone, each would lose its far side; together only islands go."""
    labels = random_labels(seed, density=0.25)
    step = {"step": "largest_component", "connectivity": connectivity, "together": together}
    got, _ = clean(labels, step)
    expected = np.zeros_like(labels)
    for mask in [labels > 0] if together else [labels == 1, labels == 2]:
        numbered, n = ndimage.label(mask, structure(connectivity))
        if n:
            best = 1 + np.argmax(np.bincount(numbered.ravel())[1:])
            expected[numbered == best] = labels[numbered == best]
    np.testing.assert_array_equal(got, expected)


def test_largest_component_per_slice_keeps_one_in_each_slice():
    labels = np.zeros((3, 5, 7), np.uint8)
    labels[0, 1, 1:3] = labels[0, 3, 1:5] = labels[1, 2, 2] = 1
    got, _ = clean(labels, {"step": "largest_component", "connectivity": 4})
    assert [s.sum() for s in got] == [4, 1, 0] and got[0, 1].sum() == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scope=st.sampled_from(["slice", "volume"]))
def test_fill_holes_takes_only_background(seed, scope):
    labels = random_labels(seed, (7, 9, 9), 0.6)
    got, reports = clean(labels, {"step": "fill_holes", "scope": scope, "segments": ["first"]})
    mask = labels == 1
    holes = (
        ndimage.binary_fill_holes(mask) if scope == "volume" else np.stack([ndimage.binary_fill_holes(s) for s in mask])
    )
    np.testing.assert_array_equal(got, np.where(holes & (labels == 0), 1, labels))
    assert (got[labels == 2] == 2).all() and reports[0]["voxels_removed"] == 0


@pytest.mark.parametrize("radius", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", ["disk", "ball"])
@pytest.mark.parametrize("step", ["opening", "closing"])
def test_morphology_equals_scikit_image(step, shape, radius):
    """The published cleaning of the WMH models is scikit-image's; at the image's border too."""
    rng = np.random.default_rng(radius)
    for density in (0.5, 0.8):
        mask = ndimage.binary_dilation(rng.random((11, 21, 23)) < density * 0.05, iterations=2)
        mask ^= rng.random(mask.shape) < 0.02
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            theirs = morphology.binary_opening if step == "opening" else morphology.binary_closing
            if shape == "ball":
                expected = theirs(mask, morphology.ball(radius))
            else:
                expected = np.stack([theirs(s, morphology.disk(radius)) for s in mask])
        got, _ = clean(mask, {"step": step, "shape": shape, "radius": radius})
        np.testing.assert_array_equal(got > 0, expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), radius=st.integers(1, 4), axis=st.sampled_from([None, 0, 1, 2]))
def test_small_and_large_radii_use_one_definition(seed, radius, axis):
    """Scanned neighbourhoods and distance maps must agree: idempotent, and closing is opening of the complement."""
    mask = random_labels(seed, (8, 9, 10), 0.5) > 0
    once = opened(mask, radius, axis)
    np.testing.assert_array_equal(opened(once, radius, axis), once)
    np.testing.assert_array_equal(closed(~mask, radius, axis), ~once)
    assert not (once & ~mask).any()


def test_closing_never_takes_another_segment():
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[:, 2:7, 2] = labels[:, 2:7, 6] = 1
    labels[2, 4, 4] = 2
    got, reports = clean(labels, {"step": "closing", "shape": "disk", "radius": 4, "segments": ["first"]})
    assert got[2, 4, 4] == 2 and got[1, 4, 4] == 1 and reports[0]["voxels_added"] > 0


def location_result(shape, spacing=(1.0, 1.0, 1.0)) -> Result:
    parcels = np.zeros(shape, np.uint16)
    parcels[:, :, : shape[2] // 2] = 41
    parcels[:, :, shape[2] // 2 :] = 24
    return Result(grid_of(parcels, spacing), (Layer(parcels, (SegmentClass(41, "white matter", RED),)),))


@pytest.mark.parametrize("factor", [1, 2])
def test_keep_by_location_keeps_what_touches_the_wanted_labels(factor):
    """Microbleeds in the ventricles (24) are false; the parcellation may be on a coarser grid."""
    labels = np.zeros((8, 8, 16), np.uint8)
    labels[2, 2, 2] = labels[5, 5, 12] = labels[3, 3, 7:9] = 1
    coarse = location_result((8, 8, 16))
    if factor == 2:
        half = location_result((4, 4, 8), (2.0, 2.0, 2.0))
        coarse = Result(Grid((8, 4, 4), (2, 2, 2), (0.5, 0.5, 0.5), np.eye(3)), half.layers)
    step = {"step": "keep_by_location", "of": "parcels", "labels": [41, 2]}
    got, reports = clean(labels, step, required={"parcels": coarse})
    np.testing.assert_array_equal(np.argwhere(got), [[2, 2, 2], [3, 3, 7], [3, 3, 8]])
    assert reports[0]["components"] == 3 and reports[0]["components_removed"] == 1
    got, _ = clean(labels, step | {"minimum_voxels": 2}, required={"parcels": coarse})
    assert not got.any()


def test_keep_by_location_without_its_model_is_named():
    with pytest.raises(ModelError, match="'parcels'"):
        clean(random_labels(1), {"step": "keep_by_location", "of": "parcels", "labels": [1]})


def test_overlapping_layers_are_cleaned_apart():
    whole = np.zeros((4, 6, 6), np.uint8)
    whole[1:3, 1:5, 1:5] = 1
    core = np.zeros_like(whole)
    core[1, 2, 2] = 2
    layers, _ = postprocess(
        [STEP.validate_python({"step": "remove_small", "voxels": 2})],
        (Layer(whole, (FIRST,)), Layer(core, (SECOND,))), grid_of(whole), "axial", {}, Monitor(),
    )  # fmt: skip
    np.testing.assert_array_equal(layers[0].labels, whole)
    assert not layers[1].labels.any()


def test_an_emptied_segment_is_told():
    """A reader must be able to tell 'the network saw nothing' from 'cleaning removed it'."""
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1] = 1
    monitor = Monitor()
    clean(labels, {"step": "remove_small", "voxels": 5}, {"step": "fill_holes"}, monitor=monitor)
    assert monitor.warnings == ["The cleaning step remove_small removed all 1 voxels of first."]


def test_wmh_chain_in_order():
    """Contract: components under 5 px (4-connected) out, opening with disk(2), and the small ones out again."""
    rng = np.random.default_rng(5)
    labels = (ndimage.gaussian_filter(rng.random((3, 60, 60)), (0, 2, 2)) > 0.52).astype(np.uint8) * 2
    small = {"step": "remove_small", "voxels": 5, "connectivity": 4, "segments": ["second"]}
    opening = {"step": "opening", "shape": "disk", "radius": 2, "segments": ["second"]}
    got, reports = clean(labels, small, opening, small)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for n, one in enumerate(labels == 2):
            expected = morphology.remove_small_objects(one, 5, connectivity=1)
            expected = morphology.binary_opening(expected, morphology.disk(2))
            expected = morphology.remove_small_objects(expected, 5, connectivity=1)
            np.testing.assert_array_equal(got[n] == 2, expected)
    assert [r["step"] for r in reports] == ["remove_small", "opening", "remove_small"] and got.any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6), st.tuples(*[st.floats(0.4, 3)] * 3))
def test_labels_spread_to_the_nearest_within_reach_and_nowhere_else(seed, distance, spacing):
    """Compared with all distances, voxel by voxel; ties may go to either."""
    labels = random_labels(seed, (6, 7, 8), density=0.05)
    found = spread(labels, spacing, distance)
    at = np.stack(np.indices(labels.shape), -1).reshape(-1, 3) * np.array(spacing[::-1])
    known = labels.ravel() > 0
    if not known.any():
        assert not found.any()
        return
    far = np.linalg.norm(at[:, None] - at[known][None], axis=-1)
    for n, value in enumerate(found.ravel()):
        least = far[n].min()
        if abs(least - distance) < 1e-9:
            continue
        nearest = set(labels.ravel()[known][far[n] <= least + 1e-9])
        assert value in (nearest if least < distance or known[n] else {0})
