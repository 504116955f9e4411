"""Numbers of the tables against bodies whose size, place and shape are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from medseg.geometry.grid import Grid
from medseg.measure.lesions import maximum_diameter
from medseg.measure.segments import measure, slice_table, volume_scores
from medseg.result import Layer, SegmentClass

RED = (1.0, 0.0, 0.0)
OBLIQUE = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() @ np.diag([1, -1, 1])


def ball(grid: Grid, centre_lps, radius: float) -> np.ndarray:
    k, j, i = np.indices(grid.shape)
    position = grid.to_physical(np.stack([i, j, k], axis=-1))
    return np.linalg.norm(position - np.asarray(centre_lps), axis=-1) <= radius


def tables_of(mask, grid, values=None, lesion=True, **options):
    layer = Layer(np.asarray(mask, np.uint8), (SegmentClass(1, "bleed", RED, lesion=lesion),))
    return measure((layer,), np.zeros(grid.shape) if values is None else values, grid, **options)


def row(table, n=0):
    return {c.name: table.rows[n][m] for m, c in enumerate(table.columns)}


@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE], ids=["straight", "oblique left-handed"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.6, 0.7, 2.0)])
def test_a_ball_has_its_place_volume_and_shape_on_any_grid(direction, spacing):
    """Wrong by the direction matrix means a click on the table shows another place of the patient."""
    radius = 9.0
    size = tuple(int(26 / s) + 4 for s in spacing)
    grid = Grid(size, spacing, (-35.0, 12.0, 400.0), direction)
    centre = grid.to_physical((np.array(size) - 1) / 2 + [0.3, -0.2, 0.1])
    tables = tables_of(ball(grid, centre, radius), grid)
    lesion = row(tables["lesions"])
    found = [lesion[f"centre_{a}_mm"] for a in "ras"]
    np.testing.assert_allclose(found, centre * [-1, -1, 1], atol=0.05)
    np.testing.assert_array_equal(
        [lesion[f"centre_{a}"] for a in "ijk"], np.rint(grid.to_index(np.array(found) * [-1, -1, 1]))
    )
    truth = 4 / 3 * np.pi * radius**3
    assert lesion["volume_mm3"] == pytest.approx(truth, rel=0.02)
    assert lesion["equivalent_radius_mm"] == pytest.approx(radius, rel=0.01)
    assert lesion["maximum_diameter_mm"] == pytest.approx(2 * radius, abs=max(spacing))
    for axis, s in zip("ijk", spacing, strict=True):
        assert lesion[f"size_{axis}_mm"] == pytest.approx(2 * radius, abs=1.1 * s)
    assert lesion["sphericity"] > 0.95 and lesion["elongation"] > 0.97 and lesion["flatness"] > 0.97
    segment = row(tables["segments"])
    assert segment["volume_ml"] == pytest.approx(lesion["volume_mm3"] / 1000) and segment["components"] == 1
    assert lesion["last_slice"] - lesion["first_slice"] == pytest.approx(2 * radius / spacing[2], abs=1.5)


def test_intensities_are_those_of_the_input_under_the_mask():
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 1000, (6, 7, 8)).astype(np.int16)
    mask = rng.random((6, 7, 8)) < 0.3
    grid = Grid((8, 7, 6), (1, 1, 1), (0, 0, 0), np.eye(3))
    tables = tables_of(mask, grid, values, unit="HU", connectivity=6)
    segment = row(tables["segments"])
    inside = values[mask].astype(float)
    assert [segment[n] for n in ("mean", "std", "minimum", "maximum", "voxels")] == pytest.approx(
        [inside.mean(), inside.std(), inside.min(), inside.max(), mask.sum()]
    )
    numbered, count = ndimage.label(mask)
    sizes = sorted(np.bincount(numbered.ravel())[1:], reverse=True)
    lesions = tables["lesions"]
    assert segment["components"] == count and lesions.column("voxels") == sizes
    assert lesions.column("lesion") == list(range(1, count + 1))
    total = np.dot(lesions.column("mean"), lesions.column("voxels"))
    assert total / mask.sum() == pytest.approx(inside.mean())
    assert {c.unit for c in tables["segments"].columns if c.name in ("mean", "std", "minimum", "maximum")} == {"HU"}
    for table in tables.values():
        assert all(c.description for c in table.columns)


def test_connectivity_decides_what_one_lesion_is():
    mask = np.zeros((4, 4, 4))
    mask[1, 1, 1] = mask[2, 2, 2] = 1
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
    assert [len(tables_of(mask, grid, connectivity=c)["lesions"].rows) for c in (6, 18, 26)] == [2, 2, 1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), spacing=st.tuples(*[st.floats(0.3, 6)] * 3), tilt=st.floats(-0.5, 0.5))
def test_maximum_diameter_is_the_greatest_distance_of_surface_points(seed, spacing, tilt):
    """On any lattice, tilted gantry included, where spacing alone gives wrong lengths."""
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 6, 3)) < 0.6
    mask.flat[0] = True
    shear = np.array([[1, 0, 0], [0, 1, np.sin(tilt)], [0, 0, np.cos(tilt)]])
    grid = Grid(mask.shape[::-1], spacing, (500.0, -900.0, 1200.0), OBLIQUE @ shear)
    points = []
    padded = np.pad(mask, 1)
    for index in np.argwhere(padded):
        for axis in range(3):
            for sign in (-1, 1):
                step = np.zeros(3, int)
                step[axis] = sign
                if not padded[tuple(index + step)]:
                    points.append((index + step / 2)[::-1])
    assert maximum_diameter(mask, grid) == pytest.approx(pdist(grid.to_physical(np.array(points))).max(), rel=1e-6)


def test_one_voxel_has_no_invented_shape():
    """A sphericity of 1.6, as the estimator would give, or an elongation of 0/0 must not reach a table."""
    mask = np.zeros((3, 3, 3))
    mask[1, 1, 1] = 1
    grid = Grid((3, 3, 3), (1.0, 1.0, 3.0), (0, 0, 0), np.eye(3))
    lesion = row(tables_of(mask, grid)["lesions"])
    assert (lesion["sphericity"], lesion["elongation"], lesion["flatness"]) == (None, None, None)
    assert lesion["maximum_diameter_mm"] == pytest.approx(3.0) and lesion["volume_mm3"] == pytest.approx(3.0)
    assert (lesion["first_slice"], lesion["last_slice"]) == (2, 2)


def test_a_rod_is_elongated_and_a_plate_is_flat():
    grid = Grid((30, 30, 30), (1, 1, 1), (0, 0, 0), OBLIQUE)
    rod, plate = np.zeros((30, 30, 30)), np.zeros((30, 30, 30))
    rod[10:13, 10:13, 2:28] = 1
    plate[10, 4:24, 4:24] = 1
    thin, flat = (row(tables_of(m, grid)["lesions"]) for m in (rod, plate))
    assert thin["elongation"] == pytest.approx(np.sqrt((9 - 1) / (26**2 - 1)), rel=1e-6)
    assert thin["sphericity"] < 0.8
    assert flat["flatness"] == pytest.approx(0, abs=1e-6) and flat["elongation"] == pytest.approx(1)
    # A plate of 400 voxels and its surface of about 880 mm2.
    assert flat["sphericity"] == pytest.approx((36 * np.pi * 400**2) ** (1 / 3) / 880, rel=0.15)


def test_sheared_grids_leave_sphericity_out():
    """The surface estimator knows right angles only; gantry tilt does not have them."""
    direction = np.array([[1, 0, 0], [0, 1, np.sin(0.3)], [0, 0, np.cos(0.3)]])
    grid = Grid((20, 20, 20), (1, 1, 1), (0, 0, 0), direction)
    mask = ball(grid, grid.to_physical([9.5, 9.5, 9.5]), 6)
    lesion = row(tables_of(mask, grid)["lesions"])
    assert lesion["sphericity"] is None and lesion["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 216, rel=0.03)


def test_empty_and_plain_segments():
    """An empty class stays in the table with 0, so that a reader sees that it was looked for."""
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
    tables = tables_of(np.zeros((4, 4, 4)), grid)
    segment = row(tables["segments"])
    assert (segment["voxels"], segment["volume_ml"], segment["components"], segment["mean"]) == (0, 0.0, 0, None)
    assert tables["lesions"].rows == ()
    assert "lesions" not in tables_of(np.ones((4, 4, 4)), grid, lesion=False)


def test_overlapping_layers_are_measured_each():
    grid = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
    whole, core = np.ones((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    core[1:3, 1:3, 1:3] = 2
    layers = (
        Layer(whole, (SegmentClass(1, "whole", RED),)),
        Layer(core, (SegmentClass(2, "core", RED, lesion=True), SegmentClass(9, "none", RED))),
    )
    tables = measure(layers, np.zeros((4, 4, 4)), grid)
    assert tables["segments"].column("voxels") == [64, 8, 0]
    assert tables["lesions"].column("segment") == ["core"]


def test_slice_rows_carry_true_positions_and_scores():
    """Unevenly spaced slices: the position must be each slice's own, in RAS."""
    grids = [Grid((10, 8, 1), (0.5, 0.5, 4.0), (-2.0, 3.0, z), np.eye(3)) for z in (0.0, 4.0, 11.0)]
    scores = np.array([[0.1, 0.7], [0.9, 0.7], [0.3, 0.2]], np.float32)
    table = slice_table(scores, ["any", "subdural"], grids)
    assert [c.name for c in table.columns] == ["slice", "centre_r_mm", "centre_a_mm", "centre_s_mm", "any", "subdural"]
    assert table.column("slice") == [1, 2, 3] and table.column("centre_s_mm") == [0.0, 4.0, 11.0]
    assert table.column("centre_r_mm")[0] == pytest.approx(-(-2.0 + 4.5 * 0.5))
    assert table.column("centre_a_mm")[0] == pytest.approx(-(3.0 + 3.5 * 0.5))
    assert table.column("any") == pytest.approx([0.1, 0.9, 0.3])
    whole = volume_scores(scores, ["any", "subdural"])
    assert whole.column("slice") == [2, 1]
    assert whole.column("maximum") == pytest.approx([0.9, 0.7]) and whole.column("mean")[0] == pytest.approx(13 / 30)
    assert volume_scores(scores[:1], ["any", "subdural"]).column("slice") == [None, None]
