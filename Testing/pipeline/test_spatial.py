"""Spatial preprocessing: what the network sees, and that the way back is by position. A user loses alignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize as skimage_resize

from medseg.errors import InputError, ModelError
from medseg.geometry.grid import Grid
from medseg.geometry.resample import resample
from medseg.model.manifest import steps as s
from medseg.monitor import Monitor
from medseg.pipeline.preprocess.spatial import apply_spatial, bounding_box
from medseg.pipeline.preprocess.state import Prepared
from medseg.result import Layer, Result, SegmentClass
from support.geometry import codes, grids

RNG = np.random.default_rng(1)
LPS = np.eye(3)


def state(array: np.ndarray, grid: Grid | None = None) -> Prepared:
    grid = grid or Grid(array.shape[::-1], (1, 1, 1), (0, 0, 0), LPS)
    return Prepared(array[np.newaxis], grid, "axial")


def apply(step: s.Step, prepared: Prepared, masks: dict | None = None) -> Monitor:
    monitor = Monitor()
    apply_spatial(step, prepared, masks or {}, monitor)
    return monitor


@given(grids(), codes)
def test_orient_only_moves_voxels(grid: Grid, code: str) -> None:
    array = RNG.integers(0, 1000, grid.shape).astype(np.int16)
    prepared = state(array, grid)
    apply(s.Orient(step="orient", code=code), prepared)
    assert prepared.grid.orientation == code
    assert np.array_equal(resample(prepared.array[0], prepared.grid, grid), array)


@settings(max_examples=25)
@given(grids(max_size=10), st.tuples(*[st.integers(2, 14)] * 3), st.booleans())
def test_every_resizing_step_puts_values_where_they_were(grid: Grid, size: tuple, corners: bool) -> None:
    """A linear function of position stays that function on the new grid, inside the old outer centres."""
    k, j, i = np.indices(grid.shape)
    middle = grid.to_physical((np.array(grid.size) - 1) / 2)
    plane = np.array([0.2, 0.5, -0.4])
    prepared = state(((grid.to_physical(np.stack([i, j, k], -1)) - middle) @ plane).astype(np.float32), grid)
    apply(s.Resize(step="resize", size=size, align_corners=corners), prepared)
    k, j, i = np.indices(prepared.grid.shape)
    position = prepared.grid.to_physical(np.stack([i, j, k], -1))
    index = grid.to_index(position)
    inside = np.all((index >= -1e-6) & (index <= np.array(grid.size) - 1 + 1e-6), axis=-1)
    assert np.allclose(prepared.array[0][inside], ((position - middle) @ plane)[inside], atol=2e-2)


def test_resize_equals_scikit_image_with_and_without_antialiasing() -> None:
    array = RNG.random((1, 60, 90)).astype(np.float32)
    for antialias in (False, True):
        prepared = state(array)
        apply(s.Resize(step="resize", size=(32, 24, None), antialias=antialias), prepared)
        # The margin of one pixel is left out: scikit-image mirrors there, we repeat the edge.
        expected = skimage_resize(array[0], (24, 32), order=1, anti_aliasing=antialias, mode="reflect")
        assert np.allclose(prepared.array[0, 0, 1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-5)


def test_keeping_the_aspect_pads_the_short_side_evenly() -> None:
    prepared = state(np.full((1, 100, 200), 7.0, np.float32))
    apply(s.Resize(step="resize", size=(64, 64, None), keep_aspect=True, pad_value=-1), prepared)
    rows = prepared.array[0, 0, :, 32]
    assert prepared.array.shape == (1, 1, 64, 64)
    assert (rows == 7).sum() == 32 and (rows[:16] == -1).all() and (rows[-16:] == -1).all()
    assert prepared.grid.spacing[0] == prepared.grid.spacing[1] == pytest.approx(200 / 64)


def test_centred_crop_and_pad_meet_in_the_middle() -> None:
    array = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    prepared = state(array)
    apply(s.CropOrPad(step="crop_or_pad", size=(11, 4, None), pad_value=-5), prepared)
    assert prepared.array.shape == (1, 5, 4, 11)
    assert np.array_equal(prepared.array[0, :, :, 2:9], array[:, 1:5])
    assert (prepared.array[0, :, :, :2] == -5).all() and (prepared.array[0, :, :, 9:] == -5).all()


def test_crop_to_foreground_takes_the_bounding_box_and_margin() -> None:
    array = np.zeros((20, 20, 20), np.float32)
    array[5:8, 9:11, 2:19] = 10
    prepared = state(array)
    apply(s.CropToForeground(step="crop_to_foreground", above_fraction=0.5, margin=2), prepared)
    assert prepared.array.shape == (1, 7, 6, 20)
    assert np.allclose(prepared.grid.origin, (0, 7, 3))


def test_an_empty_foreground_is_told_and_nothing_is_cropped() -> None:
    prepared = state(np.zeros((4, 4, 4), np.float32))
    monitor = apply(s.CropToForeground(step="crop_to_foreground", above=1.0), prepared)
    assert prepared.array.shape == (1, 4, 4, 4) and "not cropped" in monitor.warnings[0]


def required(mask: np.ndarray, grid: Grid) -> dict[str, Result]:
    return {"brain": Result(grid, (Layer(mask.astype(np.uint8), (SegmentClass(1, "Brain", (1, 1, 1)),)),))}


def test_a_mask_of_another_model_crops_and_blanks_by_position() -> None:
    grid = Grid((20, 20, 20), (1, 1, 1), (0, 0, 0), LPS)
    mask = np.zeros(grid.shape, bool)
    mask[4:9, 6:12, 3:5] = True
    masks = required(mask, grid)
    turned = grid.reoriented("RAI")
    prepared = state(np.ones(turned.shape, np.float32), turned)
    apply(s.ApplyMask(step="apply_mask", of="brain", outside=-3), prepared, masks)
    assert (prepared.array == 1).sum() == mask.sum()
    apply(s.CropToMask(step="crop_to_mask", of="brain", segments=["Brain"]), prepared, masks)
    assert prepared.array.shape == (1, 5, 6, 2) and (prepared.array == 1).all()


def test_an_unknown_segment_of_a_required_model_is_named() -> None:
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), LPS)
    with pytest.raises(ModelError, match="Skull"):
        apply(
            s.ApplyMask(step="apply_mask", of="brain", segments=["Skull"]),
            state(np.ones(grid.shape, np.float32), grid),
            required(np.ones(grid.shape, bool), grid),
        )


def test_a_fixed_crop_outside_the_volume_says_both_sizes() -> None:
    with pytest.raises(InputError, match="too small"):
        apply(s.Crop(step="crop", start=(0, 22, 0), size=(4, 179, 1)), state(np.ones((1, 100, 4), np.float32)))


def test_bounding_box_is_in_index_order() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1:3, 2:5, 6] = True
    assert bounding_box(mask) == ((6, 2, 1), (1, 3, 2))
