"""The head preparation of the WMH networks: without it every network sees images unlike those it was trained on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from skimage.transform import resize as skimage_resize

from medseg.geometry.grid import Grid
from medseg.model.manifest.steps import FitHead, NormaliseHead, Orient, PreprocessingStep, RoundTo, ZScore
from medseg.monitor import Monitor
from medseg.pipeline.preprocess import head
from medseg.pipeline.preprocess.intensity import apply_intensity
from medseg.pipeline.preprocess.spatial import SPATIAL, apply_spatial
from medseg.pipeline.preprocess.state import Prepared

CASES = ["104252", "105074", "105465"]


def steps_of_the_chain(repository: Path) -> list[Any]:
    text = (repository / "Testing" / "real_models" / "wmh_preprocessing.json").read_text()
    return TypeAdapter(list[PreprocessingStep]).validate_python(json.loads(text))


def run(steps: list[Any], state: Prepared, monitor: Monitor) -> Prepared:
    for step in steps:
        if type(step) in SPATIAL:
            apply_spatial(step, state, {}, monitor)
        else:
            state.array = apply_intensity(step, state.array, state.slice_axis, {}, monitor)
    return state


def read(path: Path) -> Prepared:
    image = sitk.ReadImage(str(path))
    return Prepared(sitk.GetArrayFromImage(image)[None], Grid.from_sitk(image), "axial")


def inside(
    shape: tuple[int, int], centre: tuple[float, float], long: float, short: float, degrees: float
) -> np.ndarray:
    rows, columns = np.indices(shape)
    down, right = rows - centre[0], columns - centre[1]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along, across = (right * cosine + down * sine) / (long / 2), (down * cosine - right * sine) / (short / 2)
    return along**2 + across**2 <= 1


def phantom(shape: tuple[int, int] = (200, 220), centre: tuple[float, float] = (101.3, 96.8)) -> np.ndarray:
    """A head: bright scalp around grey brain, 170 x 130 pixels, tilted a little."""
    image = 900.0 * inside(shape, centre, 170, 130, 80) - 500.0 * inside(shape, centre, 152, 112, 80)
    rows, columns = np.indices(shape)
    return image + 3 * np.sin(rows / 5.0) + 2 * np.cos(columns / 7.0) + 5


def slab(slices: list[np.ndarray]) -> np.ndarray:
    return np.stack(slices).astype(np.float32)[None]


# -- against the published system's own files ---------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize("case", CASES)
def test_steps_2_to_4_reproduce_the_authors_prepared_volume(shared: Path, repository: Path, case: str) -> None:
    """A WMH network fed with anything else than its authors' normalisation gives other lesions."""
    steps = steps_of_the_chain(repository)
    steps = steps[: next(n for n, step in enumerate(steps) if isinstance(step, FitHead))]
    state = run(steps, read(shared / "images" / "wmh" / case / "flair.nii.gz"), Monitor())
    reference = read(shared / "images" / "wmh" / case / "prepared_reference.nii.gz")
    apply_spatial(Orient(step="orient", code="LPS"), reference, {}, Monitor())
    difference = np.abs(state.array - reference.array)
    assert np.mean(difference <= 1e-4) >= 0.999
    assert difference.max() <= 1.1 / 65535


@pytest.mark.real_data
@pytest.mark.parametrize("stored_as", ["LPS", "LAS", "RAI", "SPL"])
def test_the_chain_reproduces_the_stored_network_inputs(shared: Path, repository: Path, stored_as: str) -> None:
    """However the same scan is stored, the network sees what it saw in training, to one grey level of 65535."""
    state = read(shared / "images" / "wmh" / "105074" / "flair.nii.gz")
    apply_spatial(Orient(step="orient", code=stored_as), state, {}, Monitor())
    steps = [step for step in steps_of_the_chain(repository) if not isinstance(step, ZScore)]
    run(steps, state, Monitor())
    for number in range(5, 17):
        picture = sitk.ReadImage(str(shared / "images" / "wmh" / "network_slices" / f"105074_{number}.png"))
        reference = sitk.GetArrayFromImage(picture)[:, :256] / 65535.0
        difference = np.abs(state.array[0, number - 1] - reference)
        assert np.mean(difference <= 1e-4) >= 0.999, f"slice {number}: {difference.max()}"
        assert difference.max() <= 3.1 / 65535, f"slice {number}"


@pytest.mark.real_data
@pytest.mark.parametrize("case", CASES)
def test_slice_grids_of_a_real_head_lead_back_to_the_same_anatomy(shared: Path, repository: Path, case: str) -> None:
    """A lesion found in the zoomed slice must land where it is: sampling the original at the positions of the network's
    pixels gives the network's image."""
    steps = steps_of_the_chain(repository)
    cut = next(n for n, step in enumerate(steps) if isinstance(step, FitHead))
    state = run(steps[:cut], read(shared / "images" / "wmh" / case / "flair.nii.gz"), Monitor())
    fitted, grids = head.fit_head(state.array.astype(np.float32), state.grid, 1, 256, Monitor())
    for n in (4, 11, 17):
        assert correlation_through_positions(state.array[0], state.grid, fitted[0, n], grids[n], 1) > 0.999


def correlation_through_positions(volume: np.ndarray, grid: Grid, fitted: np.ndarray, own: Grid, axis: int) -> float:
    from scipy.ndimage import map_coordinates

    index = np.stack(np.meshgrid(*(np.arange(n) for n in own.size), indexing="ij"), axis=-1).reshape(-1, 3)
    i, j, k = grid.to_index(own.to_physical(index)).T
    sampled = map_coordinates(volume, [k, j, i], order=1, mode="nearest")
    values = np.expand_dims(fitted, axis - 1)[tuple(index[:, ::-1].T)]
    return float(np.corrcoef(sampled, values)[0, 1])


# -- the parts ----------------------------------------------------------------------------------------------


def test_resize_slice_is_scikit_images_antialiased_resize() -> None:
    image = np.random.default_rng(1).normal(size=(91, 140))
    for size in ((64, 64), (256, 256), (100, 91)):
        expected = skimage_resize(image, size, order=1, anti_aliasing=True, mode="reflect", clip=False)
        assert np.allclose(head.resize_slice(image, size), expected, atol=1e-12)


def test_unsharp_mask_on_hand_numbers_and_at_zero() -> None:
    x = np.zeros((9, 9))
    x[4, 4], x[4, 5] = 1.0, 0.5
    from scipy.ndimage import gaussian_filter

    expected = np.clip(x + 1.5 * (x - gaussian_filter(x, 1)), 0, 1)
    assert np.allclose(head.unsharp_mask(x, 1, 1.5), expected)
    assert head.unsharp_mask(x, 1, 1.5)[4, 4] == 1 and 0.5 < head.unsharp_mask(x, 1, 1.5)[4, 5] < 1
    assert not head.unsharp_mask(np.zeros((5, 5))).any()
    # The published rule divides by the maximum and multiplies by it again.
    y = x * 700
    assert np.allclose(head.unsharp_mask(y), head.unsharp_mask(x) * 700)


def test_head_ellipse_runs_along_the_scalp() -> None:
    found = head.head_ellipse(phantom())
    assert found is not None
    assert (found.row, found.column) == pytest.approx((101.3, 96.8), abs=1)
    assert (found.long_axis, found.short_axis) == pytest.approx((170, 130), abs=5)


def test_head_mask_is_the_ellipse_less_twenty_pixels_of_scalp() -> None:
    mask = head.head_mask(phantom())
    ellipse = head.head_ellipse(phantom())
    assert ellipse is not None
    # A diamond of radius 20 takes 20 pixels along rows and columns, 20 / sqrt(2) along diagonals.
    upper, lower = (
        inside(mask.shape, (ellipse.row, ellipse.column), ellipse.long_axis - d, ellipse.short_axis - d, 80)
        for d in (26, 46)
    )
    assert not (mask & ~upper).any()
    assert not (lower & ~mask).any()


def test_normalise_head_puts_background_at_0_and_scalp_at_1() -> None:
    out = head.normalise_head(phantom(), 2800)
    assert out.min() == 0 and out.max() == 1
    assert 0.4 < out[101, 97] < 0.5
    assert np.allclose(out, head.normalise_head(phantom() * 7, 2800))


def test_slices_with_little_or_no_head_become_0_and_are_told() -> None:
    """Vertex and neck slices are not segmented; the user must know which part was not looked at."""
    monitor = Monitor()
    volume = slab([phantom(), np.zeros((200, 220)), phantom() * 0 + 7, phantom()])
    out = apply_intensity(NormaliseHead(step="normalise_head"), volume, 1, {}, monitor)
    assert out[0, 0].any() and not out[0, 1].any() and not out[0, 2].any() and np.isfinite(out).all()
    assert len(monitor.warnings) == 1 and "2 of 4 slices" in monitor.warnings[0]


# -- fit_head -----------------------------------------------------------------------------------------------


def grid_of(shape: tuple[int, ...], axis: int = 1, spacing: float = 0.9, direction: Any = None) -> Grid:
    sizes = shape[:0:-1]
    mm = [spacing] * 3
    mm[3 - axis] = 6.5
    return Grid(tuple(sizes), tuple(mm), (-90.0, -100.0, 40.0), np.eye(3) if direction is None else direction)


def test_fit_head_zooms_the_head_to_the_frame_and_says_where() -> None:
    monitor = Monitor()
    volume = slab([phantom(), phantom(centre=(110.2, 120.9))])
    grid = grid_of(volume.shape)
    fitted, grids = head.fit_head(volume, grid, 1, 256, monitor)
    assert fitted.shape == (1, 2, 256, 256) and fitted.dtype == np.float32
    assert not monitor.warnings
    for n in range(2):
        inside = fitted[0, n] > 100
        assert np.ptp(np.nonzero(inside)[0]) > 245
        assert correlation_through_positions(volume[0], grid, fitted[0, n], grids[n], 1) > 0.995
        assert grids[n].spacing[0] == pytest.approx(grids[n].spacing[1])


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_box_cut_off_by_the_edge_gives_an_anisotropic_grid_that_is_still_right(axis: int) -> None:
    """A head that reaches over the field of view is stretched for the network; its lesions must not be."""
    image = phantom((150, 220), (60.0, 100.0))
    volume = np.moveaxis(slab([image, image]), 1, axis)
    grid = grid_of(volume.shape, axis)
    fitted, grids = head.fit_head(volume, grid, axis, 128, Monitor())
    in_plane = [s for a, s in enumerate(grids[0].spacing) if a != 3 - axis]
    assert abs(in_plane[0] - in_plane[1]) > 0.01
    assert correlation_through_positions(volume[0], grid, np.take(fitted[0], 0, axis - 1), grids[0], axis) > 0.995


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["LPS", "LAS", "RAI", "RPS", "PLS", "ASL", "SRP", "IAR"]), st.integers(0, 100))
def test_fit_head_does_not_depend_on_how_the_volume_is_stored(code: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [phantom(centre=tuple(rng.uniform(92, 108, 2))) for _ in range(2)]
    turned = np.array([[0.98, -0.199, 0], [0.199, 0.98, 0], [0, 0, 1.0]])
    state = Prepared(slab(images), grid_of((1, 2, 200, 220), direction=turned), "axial")
    other = Prepared(state.array, state.grid, "axial")
    apply_spatial(Orient(step="orient", code=code), other, {}, Monitor())
    fit = FitHead(step="fit_head", size=64)
    for one in (state, other):
        apply_spatial(fit, one, {}, Monitor())
    back = Prepared(other.array, other.grid, "axial")
    apply_spatial(Orient(step="orient", code="LPS"), back, {}, Monitor())
    assert np.allclose(back.array, state.array, atol=1e-3)
    for n, own in enumerate(state.slice_grids):
        twin = other.slice_grids[n if "S" in code else 1 - n]
        assert twin.reoriented("LPS").same_as(own)


def test_slices_without_a_head_stay_whole_and_are_told() -> None:
    monitor = Monitor()
    volume = slab([phantom(), np.zeros((200, 220))])
    fitted, grids = head.fit_head(volume, grid_of(volume.shape), 1, 64, monitor)
    assert not fitted[0, 1].any()
    assert grids[1].same_as(grid_of(volume.shape).slice(2, 1).resized((64, 64, 1)))
    assert len(monitor.warnings) == 1 and "1 of 2 slices" in monitor.warnings[0]


@pytest.mark.parametrize(("spacing", "words"), [((0.45, 0.45, 5), "about 0.9 mm"), ((0.9, 1.1, 5), "square")])
def test_pixels_unlike_those_of_the_training_are_told(spacing: tuple[float, float, float], words: str) -> None:
    monitor = Monitor()
    volume = slab([phantom()])
    head.fit_head(volume, Grid((220, 200, 1), spacing, (0, 0, 0), np.eye(3)), 1, 64, monitor)
    assert [words in w for w in monitor.warnings] == [True]


def test_every_channel_gets_the_box_of_the_first() -> None:
    volume = np.concatenate([slab([phantom()]), slab([np.arange(44000.0).reshape(200, 220)])])
    fitted, grids = head.fit_head(volume, grid_of(volume.shape), 1, 64, Monitor())
    assert correlation_through_positions(volume[1], grid_of(volume.shape), fitted[1, 0], grids[0], 1) > 0.9999


def test_the_callers_array_is_not_changed() -> None:
    volume = slab([phantom()])
    kept = volume.copy()
    head.fit_head(volume, grid_of(volume.shape), 1, 64, Monitor())
    for step in (NormaliseHead(step="normalise_head"), RoundTo(step="quantise", levels=100)):
        apply_intensity(step, volume, 1, {}, Monitor())
    assert np.array_equal(volume, kept)
