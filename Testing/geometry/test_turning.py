"""Turned volumes are copied block by block: every voxel in its place, whatever the axes, flips and odd sizes."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from medseg.geometry.turning import contiguous


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_every_voxel_is_in_its_place(axes: tuple[int, int, int]) -> None:
    """A wrong block would move a piece of the patient."""
    array = np.random.default_rng(0).integers(-9, 9, (97, 130, 101), dtype=np.int16)
    turned = array.transpose(axes)[::-1, :, ::-1]
    copy = contiguous(turned)
    assert copy.flags.c_contiguous and np.array_equal(copy, turned)
    assert not np.may_share_memory(copy, array)
