"""Positions as PyTorch counts them. If one failed, a user of a MONAI model would get other labels than its authors:
of 0.75 mm brought to 1.5 mm and back, every second voxel of an axis lies halfway between two labels.
"""

from __future__ import annotations

import numpy as np
import pytest

from medseg.geometry.line_resample import pytorch_positions, sample_lines

# What torch 2.13's affine_grid and grid_sample gave (nearest, border) of an array 0, 1, 2...
HALVES = [
    0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 8, 9, 10, 10, 10, 11, 12, 12, 13, 13, 14, 14, 15, 15, 16, 16, 17,
    17, 18, 18, 18, 19, 20, 20, 21, 21, 22, 22, 22, 23, 24, 24, 24,
]  # fmt: skip
THREE_QUARTERS = [
    0, 1, 2, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10, 11, 12, 13, 13, 14, 15, 16, 16, 17, 18, 19, 20, 20, 21, 22, 22, 23,
    24, 25, 26, 26, 27, 28, 28, 29, 30, 31, 32, 32, 33, 34, 34, 35, 36, 37,
]  # fmt: skip


@pytest.mark.parametrize(("old", "ratio", "wanted"), [(26, 0.5, HALVES), (38, 0.75, THREE_QUARTERS)])
def test_a_label_halfway_goes_where_pytorch_puts_it(old: int, ratio: float, wanted: list[int]) -> None:
    line = np.arange(old)[:, np.newaxis, np.newaxis]
    found = sample_lines(line, [pytorch_positions(old, 50, ratio), np.zeros(1), np.zeros(1)], nearest=True)
    assert found[:, 0, 0].tolist() == wanted
    plain = np.rint(np.arange(50) * ratio)
    assert (plain != wanted).any(), "the plain rule would do"


def test_a_voxel_beside_the_body_is_next_to_nothing_where_it_is_in_pytorch() -> None:
    """A normalisation of what is not 0 counts such voxels; torch 2.13 gave 3.55e-13 there, for 51 voxels to 25."""
    line = np.where(np.arange(51) < 25, 0.0, 100.0)[:, np.newaxis, np.newaxis]
    there = [pytorch_positions(51, 25, 2.0), np.zeros(1), np.zeros(1)]
    small = sample_lines(line, there, exact=True)[:, 0, 0]
    assert small[(small > 0) & (small < 1)].tolist() == pytest.approx([3.552713678800501e-13])
    assert (sample_lines(line, there)[:, 0, 0] > 0).sum() == (small > 0).sum() - 1


@pytest.mark.parametrize(("old", "new", "ratio"), [(40, 53, 0.75), (7, 1, 9.0), (1, 1, 1.0), (300, 300, 1.0)])
def test_positions_are_those_of_the_ratio_up_to_rounding(old: int, new: int, ratio: float) -> None:
    assert pytorch_positions(old, new, ratio) == pytest.approx(np.arange(new) * ratio, abs=1e-9)
