"""A known shape in the patient, stored on any grid, run through any spatial chain, is found where it is.

If one of these fails, segments lie beside the anatomy: the worst that MedSeg can do to a user.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_bad_input import _model

from medseg import Volume, run
from medseg.geometry.grid import Grid
from medseg.model.manifest.schema import Manifest
from medseg.model.package import Model
from support.geometry import codes, grids, rotation

THRESHOLD = 0.5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Its network's logits are (0, x): after the offset, class 1 where the volume is above 0.5."""
    return _model(tmp_path_factory.mktemp("bright"), ["CT"])


def with_steps(model: Model, steps: list[dict], **changes: object) -> Model:
    offset = [{"step": "affine", "scale": 40.0, "offset": -40.0 * THRESHOLD}]
    manifest = model.manifest.model_dump() | {"preprocessing": [*steps, *offset]} | changes
    return dataclasses.replace(model, manifest=Manifest.model_validate(manifest))


def ball(grid: Grid, centre: np.ndarray, radius: float) -> np.ndarray:
    """Smooth ball: 0.5 on the sphere of ``radius`` mm around ``centre`` (LPS)."""
    k, j, i = np.indices(grid.shape)
    distance = np.linalg.norm(grid.to_physical(np.stack([i, j, k], axis=-1)) - centre, axis=-1)
    return (1 / (1 + np.exp((distance - radius) / 3.0))).astype(np.float32)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=grids(max_size=9), code=codes, seed=st.integers(0, 99))
def test_reorientation_alone_changes_no_voxel(base: Model, grid: Grid, code: str, seed: int) -> None:
    if min(grid.size) < 2:
        grid = grid.cropped((0, 0, 0), tuple(max(2, n) for n in grid.size))
    array = np.random.default_rng(seed).random(grid.shape).astype(np.float32)
    result = run(with_steps(base, [{"step": "orient", "code": code}]), Volume(array, grid, "CT"))
    assert np.array_equal(result.mask("bright"), array > THRESHOLD)
    assert result.grid == grid


CHAINS = {
    "isotropic": [{"step": "orient", "code": "RAS"}, {"step": "resample", "spacing": [2.5, 2.5, 2.5]}],
    "patient axes": [
        {"step": "orient", "code": "LPS"},
        {"step": "resample", "spacing": [2.5, 2.5, 2.5], "to_patient_axes": True},
    ],
    "fixed size": [{"step": "orient", "code": "SAL"}, {"step": "resize", "size": [40, 44, 48], "align_corners": True}],
    "aspect kept": [{"step": "orient", "code": "LPS"}, {"step": "resize", "size": [40, 40, None], "keep_aspect": True}],
    "cropped": [
        {"step": "resample", "spacing": [3.0, 2.0, 2.5]},
        {"step": "crop_to_foreground", "above_fraction": 0.2, "margin": 2},
        {"step": "crop_or_pad", "size": [64, 37, 50]},
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(1.5, 3.0)] * 3),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    order=st.permutations(range(3)),
)
def test_a_ball_is_found_at_its_place_on_any_oblique_grid(base: Model, chain, angles, spacing, flips, order) -> None:
    direction = rotation(angles) @ np.diag(flips)[:, list(order)]
    size = np.ceil(100 / np.array(spacing)).astype(int)
    centre = np.array([31.0, -17.0, 52.0])
    offset = direction @ np.array([4.0, -6.0, 5.0])
    origin = centre + offset - direction @ (np.array(spacing) * (size - 1) / 2)
    grid = Grid(tuple(size), spacing, tuple(origin), direction)
    array = ball(grid, centre, 24.0)
    result = run(with_steps(base, CHAINS[chain]), Volume(array, grid, "CT"))
    mask, truth = result.mask("bright"), array > THRESHOLD
    k, j, i = np.nonzero(mask)
    found = grid.to_physical(np.stack([i, j, k], axis=-1)).mean(axis=0)
    # The coarsest network voxel of these chains is 5 mm; the place is right to a small part of it.
    assert np.linalg.norm(found - centre) < 0.5
    assert 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum()) >= 0.95


def test_an_almost_straight_direction_is_not_lost(base: Model) -> None:
    """ITK's resampling gives an empty image where a direction holds a denormal number, as rotations by 1e-313 do."""
    direction = rotation((1.0, 0.0, 2.2250738585e-313)) @ np.diag([-1.0, -1.0, -1.0])
    grid = Grid((30, 30, 30), (3, 3, 3), (0, 0, 0), direction)
    array = ball(grid, grid.to_physical([15, 15, 15]), 24.0)
    mask = run(with_steps(base, CHAINS["fixed size"]), Volume(array, grid, "CT")).mask("bright")
    assert np.count_nonzero(mask) == pytest.approx(np.count_nonzero(array > THRESHOLD), rel=0.05)


def test_a_region_confines_the_run_and_leaves_the_rest_background(base: Model) -> None:
    grid = Grid((30, 30, 30), (2, 2, 2), (0, 0, 0), np.eye(3))
    array = ball(grid, np.array([30.0, 30.0, 30.0]), 20.0)
    region = grid.cropped((0, 0, 15), (30, 30, 15))
    mask = run(with_steps(base, []), Volume(array, grid, "CT"), region=region).mask("bright")
    assert not mask[:15].any() and np.array_equal(mask[15:], array[15:] > THRESHOLD)


def test_asking_for_probabilities_changes_no_label(base: Model) -> None:
    grid = Grid((20, 20, 20), (3, 3, 3), (0, 0, 0), rotation((0.3, 0.2, 0.1)))
    volume = Volume(ball(grid, grid.to_physical([9, 9, 9]), 20.0), grid, "CT")
    for chain in ([], CHAINS["isotropic"]):
        model = with_steps(base, chain)
        plain, asked = run(model, volume), run(model, volume, probabilities=True)
        assert np.array_equal(plain.mask("bright"), asked.mask("bright"))
        probability = asked.probabilities["bright"]
        assert probability.shape == grid.shape and probability.min() >= 0 and probability.max() <= 1
        assert np.mean((probability > 0.5) == plain.mask("bright")) > 0.999
