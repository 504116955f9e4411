"""Mean, spread and range of a segment do not depend on how its values are gone through."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.measure import statistics as module
from medseg.measure.statistics import statistics_of


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "f4", "f8", ">i2"])
def test_statistics_are_those_of_all_values_at_once(monkeypatch, dtype):
    """Wrong numbers in the table of segments."""
    monkeypatch.setattr(module, "_SLAB_VOXELS", 300)
    rng = np.random.default_rng(3)
    values = (rng.standard_normal((11, 13, 17)) * 50 + 20).clip(-100, 100)
    values = (np.abs(values) if dtype.startswith("u") else values).astype(dtype)
    mask = rng.random(values.shape) < 0.2
    mask[4:7] = False  # a slab without any
    inside = values[mask].astype(np.float64)
    found = statistics_of(values, mask)
    assert found.count == len(inside)
    assert (found.minimum, found.maximum) == (inside.min(), inside.max())
    assert found.mean == pytest.approx(inside.mean(), rel=1e-13)
    assert found.std == pytest.approx(inside.std(), rel=1e-13)


def test_a_constant_segment_has_no_spread():
    """Sums of squares taken the short way would give a spread of rounding errors, or none at all."""
    values = np.full((3, 4, 5), -32768, np.int16)
    found = statistics_of(values, np.ones(values.shape, bool))
    assert (found.mean, found.std, found.minimum, found.maximum) == (-32768, 0, -32768, -32768)
