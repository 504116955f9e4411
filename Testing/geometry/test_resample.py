"""The one inverse. If it is off by a voxel, every result of every model is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.geometry.grid import Grid
from medseg.geometry.resample import lattice_map, resample
from support.geometry import codes, grids

RNG = np.random.default_rng(0)


@given(grids(), codes)
def test_turning_and_turning_back_loses_nothing(grid: Grid, code: str) -> None:
    array = RNG.integers(-1000, 3000, grid.shape).astype(np.int16)
    turned = grid.reoriented(code)
    there = resample(array, grid, turned)
    back = resample(there, turned, grid)
    assert there.dtype == np.int16 and np.array_equal(back, array)


@given(grids(), codes, st.data())
def test_a_voxel_keeps_its_value_at_its_position(grid: Grid, code: str, data: st.DataObject) -> None:
    array = RNG.integers(0, 255, grid.shape).astype(np.uint8)
    turned = grid.reoriented(code)
    there = resample(array, grid, turned)
    i, j, k = (data.draw(st.integers(0, n - 1)) for n in grid.size)
    a, b, c = np.rint(turned.to_index(grid.to_physical([i, j, k]))).astype(int)
    assert there[c, b, a] == array[k, j, i]


@given(grids(), st.tuples(*[st.integers(-5, 5)] * 3), st.tuples(*[st.integers(1, 15)] * 3))
def test_cropping_and_padding_are_exact_and_fill_outside(grid: Grid, start: tuple, size: tuple) -> None:
    array = RNG.integers(1, 255, grid.shape).astype(np.uint8)
    window = grid.cropped(start, size)
    out = resample(array, grid, window, fill=0)
    padded = np.zeros([n + 40 for n in grid.shape], np.uint8)
    padded[20:-20, 20:-20, 20:-20] = array
    i, j, k = (s + 20 for s in start)
    assert np.array_equal(out, padded[k : k + size[2], j : j + size[1], i : i + size[0]])


@settings(max_examples=30)
@given(grids(max_size=8), grids(max_size=8, max_angle=0.4))
def test_a_linear_function_of_position_survives_any_oblique_resampling(source: Grid, target: Grid) -> None:
    """Linear interpolation is exact on linear functions, so every inner voxel shows its position."""
    # Put the target's centre on the source's, so that they overlap.
    middle = source.to_physical((np.array(source.size) - 1) / 2)
    shift = middle - target.to_physical((np.array(target.size) - 1) / 2)
    target = Grid(target.size, target.spacing, tuple(np.array(target.origin) + shift), target.direction)

    def position(grid: Grid) -> np.ndarray:
        k, j, i = np.indices(grid.shape)
        return grid.to_physical(np.stack([i, j, k], axis=-1))

    plane = np.array([0.3, -0.7, 0.5])
    moved = resample(((position(source) - middle) @ plane).astype(np.float32), source, target, fill=np.nan)
    index = source.to_index(position(target))
    inside = np.all((index >= 0.01) & (index <= np.array(source.size) - 1.01), axis=-1)
    expected = (position(target) - middle) @ plane
    assert np.allclose(moved[inside], expected[inside], atol=1e-2)
    outside = np.any((index < -0.51) | (index > np.array(source.size) - 0.49), axis=-1)
    assert np.isnan(moved[outside]).all()


def test_resized_lattices_are_not_taken_for_the_same() -> None:
    grid = Grid((10, 10, 10), (1, 1, 1), (0, 0, 0), np.eye(3))
    assert lattice_map(grid, grid.resized((20, 10, 10))) is None
    assert lattice_map(grid, grid.reoriented("RAS")) is not None
    half = Grid((10, 10, 10), (1, 1, 1), (0.5, 0, 0), np.eye(3))
    assert lattice_map(grid, half) is None


def test_float32_header_noise_is_still_the_same_lattice() -> None:
    direction = np.eye(3) + 1e-7
    grid = Grid((512, 512, 300), (0.7, 0.7, 1), (-180.3, -170.1, 20), np.eye(3))
    noisy = Grid(grid.size, tuple(np.float32(grid.spacing)), tuple(np.float32(grid.origin)), direction)
    assert lattice_map(grid, noisy) is not None


def test_labels_keep_their_type_and_values_when_resampled() -> None:
    grid = Grid((9, 9, 9), (1, 1, 1), (0, 0, 0), np.eye(3))
    labels = RNG.integers(0, 400, grid.shape).astype(np.uint16)
    out = resample(labels, grid, grid.with_spacing((0.7, 0.7, 0.7)), interpolation="nearest")
    assert out.dtype == np.uint16 and set(np.unique(out)) <= set(np.unique(labels))


@given(grids(max_size=8), codes, st.tuples(*[st.floats(0.3, 3.0)] * 3))
def test_the_nearest_voxel_is_the_nearest_one(grid: Grid, code: str, factor: tuple) -> None:
    array = RNG.integers(1, 250, grid.shape).astype(np.uint8)
    target = grid.reoriented(code)
    target = target.with_spacing([s * f for s, f in zip(target.spacing, factor, strict=True)])
    out = resample(array, grid, target, interpolation="nearest", fill=0)
    k, j, i = np.indices(target.shape)
    index = grid.to_index(target.to_physical(np.stack([i, j, k], -1)))
    clear = np.all(np.abs(index + 0.5 - np.rint(index + 0.5)) > 1e-3, axis=-1)
    near = np.rint(index).astype(int)
    inside = np.all((near >= 0) & (near < grid.size), axis=-1)
    near = np.clip(near, 0, np.array(grid.size) - 1)
    expected = np.where(inside, array[near[..., 2], near[..., 1], near[..., 0]], 0)
    assert np.array_equal(out[clear], expected[clear])
