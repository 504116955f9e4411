"""Components by runs are those that scipy finds voxel by voxel, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.geometry import components as module
from medseg.geometry.components import boxes_of, components, structure
from medseg.geometry.runs import runs_of


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    connectivity=st.sampled_from([6, 18, 26, 4, 8]),
    axis=st.integers(0, 1),
    share=st.floats(0, 1),
)
def test_runs_are_joined_as_voxels_are(seed, connectivity, axis, share):
    """A lesion counted as two, or two as one, changes every table."""
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 9, 3)) < share
    neighbourhood = structure(connectivity, axis)
    expected, count = ndimage.label(mask, neighbourhood, output=np.int32)
    found = runs_of(mask, neighbourhood)
    assert found.count == count
    np.testing.assert_array_equal(found.labelled(), expected)
    np.testing.assert_array_equal(found.sizes(), np.bincount(expected.ravel(), minlength=count + 1)[1:])
    keep = rng.random(count) < 0.5
    np.testing.assert_array_equal(found.mask(keep), np.concatenate([[False], keep])[expected])


def test_runs_of_rows_that_nothing_joins_are_components():
    """Neighbours along I only: a caller who asks for rows apart would get an error."""
    rows = np.zeros((3, 3, 3), bool)
    rows[1, 1] = True
    mask = np.ones((2, 3, 4), bool)
    found = runs_of(mask, rows)
    assert found.count == 6 and np.array_equal(found.labelled(), ndimage.label(mask, rows)[0])


def test_too_many_runs_are_left_to_scipy():
    """Noise has a run for every few voxels; joining them would take longer than it saves, and much memory."""
    mask = np.random.default_rng(0).random((20, 20, 20)) < 0.5
    assert runs_of(mask, structure(26, 0), most=100) is None
    assert runs_of(mask, structure(26, 0), most=8000) is not None


@pytest.mark.parametrize("connectivity", [4, 8, 6, 18, 26])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_components_are_the_same_whichever_way_they_are_found(monkeypatch, connectivity, axis):
    """A large volume must be measured and cleaned as a small one is."""
    rng = np.random.default_rng(connectivity + axis)
    mask = ndimage.binary_dilation(rng.random((14, 17, 40)) < 0.02, iterations=1)
    monkeypatch.setattr(module, "_WORTH_VOXELS", 10**9)
    by_scipy = components(mask, connectivity, axis)
    monkeypatch.setattr(module, "_WORTH_RUNS", 0)
    monkeypatch.setattr(module, "_RUN_SHARE", 1.0)
    by_runs = components(mask, connectivity, axis)
    np.testing.assert_array_equal(by_runs.sizes, by_scipy.sizes)
    for (_, box, part), (_, same_box, same) in zip(by_runs.each(), by_scipy.each(), strict=True):
        assert box == same_box
        np.testing.assert_array_equal(part, same)
    keep = rng.random(by_runs.count) < 0.5
    for (box, stays, goes), (_, same_stays, same_goes) in zip(by_runs.chosen(keep), by_scipy.chosen(keep), strict=True):
        np.testing.assert_array_equal(stays, same_stays)
        np.testing.assert_array_equal(goes, same_goes)
        assert (stays | goes).sum() == mask[box].sum()
    slices = axis if connectivity in (4, 8) else None
    np.testing.assert_array_equal(by_runs.largest(slices), by_scipy.largest(slices))


@pytest.mark.parametrize("values", [[], [1], [3], [1, 2, 5], [300]])
def test_boxes_are_those_of_scipy(values):
    """A box too small would cut a segment off in its measurements."""
    rng = np.random.default_rng(0)
    labels = np.zeros((9, 12, 15), np.uint16)
    for value in values:
        labels[tuple(rng.integers(0, n, 4) for n in labels.shape)] = value
    assert boxes_of(labels) == ndimage.find_objects(labels)
