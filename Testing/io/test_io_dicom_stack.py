"""Tilted and unevenly spaced stacks: every voxel at its true place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.io import read_volume
from medseg.io.dicom_stack import Slice, build
from support.io_samples import write_dicom


def linear(points: np.ndarray) -> np.ndarray:
    return points @ np.array([3.0, -2.0, 5.0]) + 100


def sampled(position, row, column, spacing, shape) -> Slice:
    j, i = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    points = position + i[..., None] * spacing[0] * row + j[..., None] * spacing[1] * column
    return Slice(linear(points), np.asarray(position, float), row, column, spacing, None, "1.2")


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.floats(-30, 30),
    st.floats(-10, 10),
    st.lists(st.floats(0.5, 8), min_size=2, max_size=7),
    st.randoms(use_true_random=False),
)
def test_every_voxel_of_a_tilted_uneven_stack_is_at_its_true_place(angles, tilt, side, gaps, random):
    """A linear function of position, sampled on sheared and uneven slices, must come back exactly everywhere."""
    axes = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), [n for n in range(3) if n != axis]
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        axes = axes @ turn
    row, column, normal = axes.T
    step = normal + np.tan(np.radians(tilt)) * column + np.tan(np.radians(side)) * row
    heights = np.concatenate([[0.0], np.cumsum(gaps)])
    slices = [sampled(7 + h * step, row, column, (0.8, 1.1), (9, 8)) for h in heights]
    random.shuffle(slices)
    array, grid, stack = build(slices, -1e6, "series", tilt, [])
    points = grid.to_physical(np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1))
    expected = linear(points).transpose(2, 1, 0)
    above = (points.transpose(2, 1, 0, 3) - (7 + heights[-1] * step)) @ normal
    inside = (array > -1e5) & (above <= 1e-6)
    margin = (array > -1e5) & (above > 1e-6)
    assert inside.any()
    if stack is None:  # regular within the stated tolerance: positions are off by less than it
        assert np.abs(array - expected)[inside].max() < 5 * (0.1 * 1.1 + 0.02 * 8)
        return
    # where both neighbours reach the value is exact; where one does, it is that slice's, so compare with the slices
    both = inside & _covered_twice(points.transpose(2, 1, 0, 3), slices, heights, normal, row, column)
    assert both.any() or len(gaps) < 3 or abs(tilt) > 15 or abs(side) > 5
    assert np.abs(array - expected)[both].max(initial=0) < 1e-4
    assert above[margin].max(initial=0) <= grid.spacing[2] / 2 + 1e-6, "no slice is extrapolated beyond half a gap"
    for n, one in enumerate(sorted(slices, key=lambda s: s.position @ normal)):
        assert np.allclose(stack.grids[n].to_physical([7, 8, 0]), one.position + 7 * 0.8 * row + 8 * 1.1 * column)
        corners = grid.to_index([one.position, stack.grids[n].to_physical([7, 8, 0])])[:, :2]
        assert corners.min() > -1e-3 and (corners <= np.array(grid.size)[:2] - 1 + 1e-3).all(), "no slice is cut"


def _covered_twice(points, slices, heights, normal, row, column):
    covered = np.ones(points.shape[:3], bool)
    at = (points - 7) @ normal
    slices = sorted(slices, key=lambda s: s.position @ normal)
    upper = np.clip(np.searchsorted(heights, at, side="right"), 1, len(heights) - 1)
    for n in range(len(slices)):
        used = (upper == n) | (upper - 1 == n)
        local = points - slices[n].position
        i, j = local @ row / 0.8, local @ column / 1.1
        reach = (i > -1e-9) & (i < 7 + 1e-9) & (j > -1e-9) & (j < 8 + 1e-9)
        covered &= ~used | reach
    return covered


def test_a_tilted_series_from_files_lies_true_and_reports_tilt_and_gaps(tmp_path):
    """Through DICOM text numbers, rescale and files; a loader that takes one spacing puts voxels centimetres off."""
    tilt = np.radians(18.5)
    column = np.array([0, np.cos(tilt), -np.sin(tilt)])
    heights = np.cumsum([0, 4, 4, 4, 1.1, 7, 7, 7]) / np.cos(tilt)
    spacing, shape = (0.9, 0.8), (40, 30)
    for n, z in enumerate(heights):
        position = np.round([-10, -20, z], 6)
        values = sampled(position, np.array([1.0, 0, 0]), column, spacing, shape).pixels
        write_dicom(tmp_path / f"{n}", np.round(values / 0.05).astype(np.int16), PixelSpacing=[0.8, 0.9],
                    ImagePositionPatient=list(position), RescaleSlope=0.05, RescaleIntercept=0, GantryDetectorTilt=18.5,
                    ImageOrientationPatient=[1, 0, 0, 0, *np.round(column[1:], 8)])  # fmt: skip
    volume = read_volume(tmp_path)
    told = " ".join(volume.warnings)
    assert "a gantry tilt of 18.5 degrees; the header says 18.5" in told
    assert "3 x 4, 1 x 1.1, 3 x 7 mm" in told
    k, j, i = np.meshgrid(*[np.arange(n) for n in volume.array.shape], indexing="ij")
    expected = linear(volume.grid.to_physical(np.stack([i, j, k], -1)))
    outside = volume.stack.pixels.min()
    middle = np.zeros(volume.array.shape, bool)
    middle[:-1, 15:36, :] = True  # the last one lies 0.9 mm above the last slice and repeats it
    right = np.abs(volume.array - expected) < 0.1
    assert right[middle & (volume.array > outside)].mean() > 0.99
    centre = volume.grid.to_index(np.array([0, 0, 17.0]))
    assert (np.abs(centre - np.rint(centre)) <= 0.5).all()
    assert volume.stack.pixels.shape == (8, 40, 30) and len(set(volume.stack.instance_uids)) == 8


@pytest.mark.real_data
def test_the_real_tilted_head(shared: Path):
    volume = read_volume(shared / "images" / "head-ct-tilted")
    told = " ".join(volume.warnings)
    assert "13 x 4.002, 1 x 1.081, 13 x 6.999 mm" in told and "tilt of 18.5 degrees" in told
    assert volume.grid.size == (512, 611, 37) and volume.array.dtype == np.int16
    first = pydicom.dcmread(shared / "images" / "head-ct-tilted" / "01.dcm")
    assert np.allclose(volume.stack.grids[0].origin, first.ImagePositionPatient)
    assert np.array_equal(volume.stack.pixels[0], first.pixel_array)
    # a voxel of the regular volume in the middle of an acquired slice has that slice's value
    grid = volume.stack.grids[0]
    point = grid.to_physical([256, 300, 0])
    i, j, k = np.rint(volume.grid.to_index(point)).astype(int)
    assert abs(int(volume.array[k, j, i]) - int(first.pixel_array[300, 256])) <= 1
