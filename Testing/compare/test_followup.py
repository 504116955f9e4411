"""Two dates of one patient: a lesion must not be called new because the head lay differently."""

from __future__ import annotations

import numpy as np
import pytest

from medseg import Volume
from medseg.compare.align import IDENTITY, Alignment, align
from medseg.compare.followup import Change, follow_up
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.resample import resample
from medseg.monitor import Monitor
from medseg.phantoms import flair
from support.geometry import rotation

GRID = Grid((40, 36, 20), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3))


def lesions(**boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Boxes of ``size`` voxels in-plane at (k, j, i)."""
    mask = np.zeros(GRID.shape, bool)
    for k, j, i, size in boxes.values():
        mask[k : k + 2, j : j + size, i : i + size] = True
    return mask


def test_each_state_is_found_with_its_volumes() -> None:
    before = lesions(gone=(2, 3, 3, 3), grown=(2, 3, 20, 3), shrunk=(2, 20, 3, 6), stable=(10, 20, 20, 5))
    after = lesions(new=(15, 3, 3, 4), grown=(2, 3, 20, 6), shrunk=(2, 20, 3, 3), stable=(10, 20, 20, 5))
    found = follow_up("lesion", before, GRID, after, GRID, IDENTITY)
    states = {one.state: one for one in found.lesions}
    assert sorted(one.state for one in found.lesions) == ["gone", "grown", "new", "shrunk", "stable"]
    assert states["grown"].baseline_ml == pytest.approx(2 * 9 * 2 / 1000)
    assert states["grown"].follow_up_ml == pytest.approx(2 * 36 * 2 / 1000)
    assert states["gone"].follow_up_ml == states["new"].baseline_ml == 0
    assert found.lesions[0].state in ("grown", "shrunk"), "the greatest change comes first"
    assert found.labels[15, 3, 3] == 1 and found.labels[2, 3, 3] == 2 and found.labels[10, 20, 20] == 5
    assert found.summary().rows[-1][:2] == ("all", 5)
    x, y, z = GRID.to_physical([4.5, 4.5, 15.5])
    np.testing.assert_allclose(states["new"].centre, (-x, -y, z))


def test_two_lesions_that_grew_together_are_one_family() -> None:
    before = lesions(one=(2, 3, 3, 3), two=(2, 3, 8, 3))
    after = np.zeros_like(before)
    after[2:4, 3:6, 3:11] = True
    (family,) = follow_up("x", before, GRID, after, GRID, IDENTITY).lesions
    assert (family.state, family.baseline_lesions, family.follow_up_lesions) == ("grown", 2, 1)


def test_small_changes_are_stable_by_the_rule_that_is_stated() -> None:
    before, after = lesions(a=(2, 3, 3, 5)), lesions(a=(2, 3, 3, 6))
    assert follow_up("x", before, GRID, after, GRID, IDENTITY).lesions[0].state == "grown"
    assert follow_up("x", before, GRID, after, GRID, IDENTITY, Change(percent=60)).lesions[0].state == "stable"
    assert follow_up("x", before, GRID, after, GRID, IDENTITY, Change(ml=1)).lesions[0].state == "stable"
    empty = np.zeros_like(before)
    assert follow_up("x", empty, GRID, empty, GRID, IDENTITY).lesions == ()


def test_a_head_that_lay_differently_is_brought_back_and_its_lesions_are_stable() -> None:
    """Rotated by 4 and 3 degrees, moved by 16 mm: without alignment each lesion is gone and another new."""
    phantom = flair(7, size=(96, 96, 24), spacing=(2.4, 2.4, 5.0), lesions=6)
    volume, mask = phantom.volume, phantom.labels == 2
    turn, centre = rotation((np.radians(4.0), np.radians(3.0), 0.0)), volume.grid.to_physical([48, 48, 12])
    motion = np.eye(4)
    motion[:3, :3] = turn
    motion[:3, 3] = centre - turn @ centre + [12.0, -9.0, 6.0]
    there = Alignment(motion).grid_of(volume.grid)  # where the later scan's voxels were in the earlier head
    later = Volume(np.asarray(resample(volume.array, volume.grid, there)), volume.grid, "MR", "later")
    later_mask = np.asarray(resample(mask.astype(np.uint8), volume.grid, there, interpolation="nearest")) > 0
    monitor = Monitor()
    found = align(volume, later, monitor)
    assert not monitor.warnings and found.similarity > found.before
    corners = np.array([[20, 20, 4], [76, 20, 12], [48, 76, 20]])
    points = volume.grid.to_physical(corners)
    off = (points @ found.matrix[:3, :3].T + found.matrix[:3, 3]) - (points @ motion[:3, :3].T + motion[:3, 3])
    assert np.linalg.norm(off, axis=1).max() < 1.2, "half a voxel"
    assert found.rotation_degrees == pytest.approx(5.0, abs=0.5)
    aligned = follow_up("wmh", mask, volume.grid, later_mask, volume.grid, found, Change(percent=60, touch_mm=4))
    moved = follow_up("wmh", mask, volume.grid, later_mask, volume.grid, IDENTITY, Change(percent=60, touch_mm=0))
    states = [[one.state for one in f.lesions] for f in (aligned, moved)]
    assert states[0].count("stable") >= 0.8 * len(states[0])
    assert states[1].count("new") + states[1].count("gone") > 4 * (states[0].count("new") + states[0].count("gone"))
    again = align(volume, later)
    np.testing.assert_array_equal(again.matrix, found.matrix)


def test_an_image_of_the_same_lie_raises_no_alarm() -> None:
    """Moved by its header alone it fits from the start: a warning would make the reader doubt a right alignment."""
    volume = flair(7, size=(64, 64, 20), spacing=(3.6, 3.6, 6.0), lesions=6).volume
    grid = volume.grid
    origin = tuple(float(o + d) for o, d in zip(grid.origin, (6.0, -4.0, 3.0), strict=True))
    later = Volume(volume.array, Grid(grid.size, grid.spacing, origin, grid.direction), "MR", "later")
    monitor = Monitor()
    found = align(volume, later, monitor)
    assert not monitor.warnings and found.similarity > found.before
    assert found.matrix[:3, 3] == pytest.approx([6.0, -4.0, 3.0], abs=0.5)


def test_images_that_cannot_be_aligned_are_told() -> None:
    empty = Volume(np.zeros((8, 8, 8), np.float32), Grid((8, 8, 8), (1, 1, 1), (0, 0, 0), np.eye(3)), "MR", "empty")
    with pytest.raises(InputError, match="empty could not be aligned"):
        align(empty, empty)
