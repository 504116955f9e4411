"""Linear resampling along parallel axes. If one failed, images and probabilities would not be where ITK puts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.geometry import resample as module
from medseg.geometry.grid import Grid
from medseg.geometry.resample import reached, resample

TURNED = np.array([[0, 0, -1], [1, 0, 0], [0, 1, 0]], float)
OBLIQUE = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


def by_itk(array: Any, source: Grid, target: Grid, fill: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_linear_along_axes", lambda *_: None)
        return resample(array, source, target, fill=fill)


@pytest.mark.parametrize("direction", [np.eye(3), TURNED, OBLIQUE], ids=["straight", "turned", "oblique"])
@pytest.mark.parametrize("size", [(31, 12, 25), (11, 40, 9), (120, 110, 90)])
def test_the_numbers_are_itks(direction: Any, size: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger and smaller, with voxels out of view; the last size takes several threads."""
    array = np.random.default_rng(0).normal(size=(13, 17, 19)).astype(np.float32)
    source = Grid((19, 17, 13), (1.1, 0.9, 2.3), (5, -3, 7), direction)
    extent = np.array(source.spacing) * source.size
    spacing = 1.07 * extent / size
    start = source.to_physical(np.array([-1.3, -0.7, -0.9]))
    target = Grid(size, tuple(spacing), tuple(start), direction)
    found, wanted = resample(array, source, target, fill=-5.0), by_itk(array, source, target, -5.0, monkeypatch)
    assert (wanted == -5).any() and (found == -5).sum() == (wanted == -5).sum()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-7)


def test_axes_that_are_exchanged_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(1).normal(size=(13, 17, 19)).astype(np.float32)
    source, target = (
        Grid((19, 17, 13), (1, 1, 2), (0, 0, 0), np.eye(3)),
        Grid((25, 20, 30), (1, 0.9, 0.8), (16, 1, 2), TURNED),
    )
    np.testing.assert_allclose(
        resample(array, source, target), by_itk(array, source, target, 0.0, monkeypatch), rtol=0, atol=3e-7
    )


def test_a_value_that_is_no_number_is_left_to_itk() -> None:
    """It must not spread farther than to the voxels beside it."""
    array = np.zeros((8, 8, 8), np.float32)
    array[2, 3, 4] = np.inf
    source = Grid((8, 8, 8), (1, 1, 1), (0, 0, 0), np.eye(3))
    assert np.isfinite(resample(array, source, source.resized((16, 16, 16)))).mean() > 0.98


@pytest.mark.parametrize("direction", [np.eye(3), TURNED, OBLIQUE], ids=["straight", "turned", "oblique"])
@pytest.mark.parametrize("tilt", [0.0, 0.2], ids=["parallel", "not parallel"])
def test_a_box_is_that_part_of_the_whole(direction: Any, tilt: float) -> None:
    """And what a voxel says reaches no farther than `reached` tells."""
    random = np.random.default_rng(4)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    source = Grid((19, 17, 13), (1.1, 0.9, 2.3), (5, -3, 7), direction)
    target = Grid((31, 12, 25), (0.8, 1.3, 1.0), tuple(source.to_physical([-2, -1, 1])), direction @ turn)
    array = random.normal(size=source.shape).astype(np.float32)
    whole = resample(array, source, target, fill=-5.0)
    for _ in range(10):
        low = [int(random.integers(0, n)) for n in target.shape]
        k, j, i = (slice(a, int(random.integers(a + 1, n + 1))) for a, n in zip(low, target.shape, strict=True))
        part = resample(array, source, target, fill=-5.0, box=(k, j, i))
        np.testing.assert_allclose(part, whole[k, j, i], rtol=0, atol=1e-6 if tilt else 0)
    for _ in range(30):
        only = np.zeros_like(array)
        k, j, i = (int(random.integers(0, n)) for n in source.shape)
        only[k, j, i] = 1
        says = resample(only, source, target) > 0
        says[reached((slice(k, k + 1), slice(j, j + 1), slice(i, i + 1)), source, target)] = False
        assert not says.any()
