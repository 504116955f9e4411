"""If a grid is wrong, a segmentation lies beside the anatomy. Everything here is about positions in the patient."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from support.geometry import CODES, codes, grids

EYE = np.eye(3)


@given(grids(), st.data())
def test_index_and_physical_are_inverse(grid: Grid, data: st.DataObject) -> None:
    index = [data.draw(st.floats(-20, 20)) for _ in range(3)]
    assert np.allclose(grid.to_index(grid.to_physical(index)), index, atol=1e-6)


@given(grids())
def test_positions_agree_with_simpleitk(grid: Grid) -> None:
    image = sitk.Image(*grid.size, sitk.sitkUInt8)
    image.SetOrigin(grid.origin)
    image.SetSpacing(grid.spacing)
    image.SetDirection(grid.direction.ravel())
    corner = [n - 1 for n in grid.size]
    assert np.allclose(image.TransformIndexToPhysicalPoint(corner), grid.to_physical(corner), atol=1e-6)
    assert Grid.from_sitk(image) == grid


@given(grids(), codes)
def test_reoriented_grid_holds_the_same_voxel_centres(grid: Grid, code: str) -> None:
    turned = grid.reoriented(code)
    assert turned.orientation == code
    assert sorted(turned.size) == sorted(grid.size)
    index = turned.to_index(grid.to_physical(np.array([0, 0, 0])))
    assert np.allclose(index, np.rint(index), atol=1e-6)
    assert np.all(index > -0.5) and np.all(index < np.array(turned.size) - 0.5)
    assert turned.reoriented(grid.orientation) == grid


def test_there_are_48_orientations_and_each_names_itself() -> None:
    grid = Grid((3, 4, 5), (1, 2, 3), (7, 8, 9), EYE)
    assert len(set(CODES)) == 48
    assert {grid.reoriented(code).orientation for code in CODES} == set(CODES)


def test_lps_identity_is_lps_and_its_ras_matrix_flips_x_and_y() -> None:
    grid = Grid((2, 2, 2), (1, 1, 1), (10, 20, 30), EYE)
    assert grid.orientation == "LPS"
    assert np.allclose(grid.affine_ras[:3, 3], [-10, -20, 30])


@given(grids(), st.tuples(*[st.integers(1, 30)] * 3))
def test_resizing_keeps_the_outer_voxel_faces(grid: Grid, size: tuple[int, int, int]) -> None:
    new = grid.resized(size)
    assert np.allclose(new.to_physical([-0.5] * 3), grid.to_physical([-0.5] * 3), atol=1e-6)
    assert np.allclose(new.to_physical(np.array(size) - 0.5), grid.to_physical(np.array(grid.size) - 0.5), atol=1e-6)


def test_align_corners_keeps_the_outer_centres() -> None:
    grid = Grid((137, 137, 93), (1.75,) * 3, (3, 4, 5), EYE)
    new = grid.resized((64, 64, 64), align_corners=True)
    assert np.allclose(new.to_physical([63] * 3), grid.to_physical([136, 136, 92]))


@given(grids(), st.tuples(*[st.floats(0.3, 5.0)] * 3))
def test_another_spacing_keeps_the_centre_and_the_extent_to_half_a_voxel(grid: Grid, spacing: tuple) -> None:
    new = grid.with_spacing(spacing)
    middle = grid.to_physical((np.array(grid.size) - 1) / 2)
    assert np.allclose(new.to_physical((np.array(new.size) - 1) / 2), middle, atol=1e-6)
    extent, old = np.array(new.size) * spacing, np.array(grid.size) * np.array(grid.spacing)
    assert np.all(np.abs(extent - old) <= np.maximum(np.array(spacing) / 2 + 1e-9, np.array(spacing) - old + 1e-9))


@given(grids(), st.tuples(*[st.floats(0.5, 3.0)] * 3))
def test_the_patients_axes_hold_the_whole_oblique_volume(grid: Grid, spacing: tuple) -> None:
    upright = grid.along_patient_axes(spacing)
    assert upright.orientation == grid.orientation and not upright.is_oblique
    k, j, i = np.indices(grid.shape)
    index = upright.to_index(grid.to_physical(np.stack([i, j, k], -1)))
    assert index.min() >= -1.0 - 1e-6 and np.all(index <= np.array(upright.size) + 1e-6)


@given(grids())
def test_planes_name_three_different_axes(grid: Grid) -> None:
    assert {grid.axis_of(p) for p in ("axial", "coronal", "sagittal")} == {0, 1, 2}
    assert grid.axis_of("acquisition") == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"spacing": (1, -2, 1)}, "spacing"),
        ({"spacing": (1, float("nan"), 1)}, "spacing"),
        ({"size": (0, 4, 4)}, "size"),
        ({"origin": (0, float("inf"), 0)}, "origin"),
        ({"direction": [[1, 1, 0], [0, 0, 0], [0, 0, 1]]}, "singular"),
        ({"direction": np.zeros((3, 3))}, "singular"),
    ],
)
def test_impossible_geometry_is_refused_with_its_name(change: dict, words: str) -> None:
    good = {"size": (4, 4, 4), "spacing": (1, 1, 1), "origin": (0, 0, 0), "direction": EYE}
    with pytest.raises(InputError, match=words):
        Grid(**(good | change))


def test_a_bad_orientation_code_is_refused() -> None:
    with pytest.raises(InputError, match="LLS"):
        Grid((2, 2, 2), (1, 1, 1), (0, 0, 0), EYE).reoriented("LLS")
