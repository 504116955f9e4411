"""Percentiles of large arrays. If one failed, a network would get an image that is a little too bright or dark."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.pipeline.preprocess import percentiles as module
from medseg.pipeline.preprocess.percentiles import percentiles_of

RANDOM = np.random.default_rng(0)
VALUES = {
    "a bell": RANDOM.normal(size=150_000) * 100,
    "an image with a dark background": np.where(RANDOM.random(150_000) < 0.6, 0, RANDOM.gamma(2, 60, 150_000)),
    "in order": np.sort(RANDOM.normal(size=150_000)),
    "a walk": np.cumsum(RANDOM.normal(size=150_000)),
    "all the same": np.zeros(150_000),
    "in periods of the sample": np.tile(np.arange(9.0), 20_000),
    "few": RANDOM.normal(size=7),
}
ASKED = ([0.0, 99.5], [0.5, 100.0], [50.0, 50.001], [2.0, 98.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("values", VALUES.values(), ids=list(VALUES))
def test_they_are_numpys_to_the_last_bit(values: Any, dtype: Any) -> None:
    array = np.abs(values).astype(dtype).reshape(-1, 1, 1)
    for asked in ASKED:
        assert percentiles_of(array, asked) == list(np.percentile(array, asked))


def test_a_sample_that_is_not_like_the_whole_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """All values that the sample takes are zero: neither rank lies where it says."""
    array = np.arange(1 << 18, dtype=np.float32)
    array[:: (1 << 18) // (1 << 14)] = 0
    fallen_back = []
    real = np.percentile
    monkeypatch.setattr(module.np, "percentile", lambda *a: fallen_back.append(a) or real(*a))
    assert percentiles_of(array, [50.0, 99.5]) == list(real(array, [50.0, 99.5]))
    assert fallen_back


def test_a_value_that_is_no_number_is_not_lost() -> None:
    array = np.ones(1 << 18, np.float32)
    array[5] = np.nan
    assert np.isnan(percentiles_of(array, [1.0, 99.0])).all()
