"""Labels of interpolated scores. If one failed, an nnU-Net's labels would not be nnU-Net's near their borders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from medseg.errors import Cancelled
from medseg.geometry import greatest_channel as tried
from medseg.geometry.greatest_channel import Line, greatest_channel
from medseg.geometry.spline_resize import resize, resize_thick

SHAPE = (20, 17, 25)
RNG = np.random.default_rng(3)


def by_the_rule(scores: Any, resized: Any) -> Any:
    """Each channel resized in double precision, rounded to float16; of equal ones the first."""
    return np.argmax(np.stack([resized(c).astype(np.float16).astype(np.float32) for c in scores]), axis=0)


def lines(shape: tuple[int, int, int]) -> list[Line]:
    return [Line.linear(old, new) for old, new in zip(SHAPE, shape, strict=True)]


def smooth(channels: int, level: float) -> Any:
    """Regions with borders between them, as networks give them."""
    noise = RNG.normal(size=(channels, *SHAPE))
    return (level * ndimage.gaussian_filter(noise, (0, 3, 3, 3))).astype(np.float16)


KINDS = {
    "regions": smooth(3, 90),
    "noise": RNG.normal(size=(4, *SHAPE)).astype(np.float16),
    "two channels": smooth(2, 400),
    "more channels than a byte counts": smooth(300, 40),
    "ties": np.rint(smooth(5, 30).astype(np.float32)).astype(np.float16),
    "next to ties": (10 + 0.01 * smooth(3, 30)).astype(np.float16),
    "impossible ones": np.where(RNG.random((3, *SHAPE)) < 0.5, smooth(3, 90), [[[[0]]], [[[-1e4]]], [[[-1e4]]]]).astype(
        np.float16
    ),
    "next to nothing": (smooth(3, 1).astype(np.float32) * 2**-22).astype(np.float16),
    "the greatest": np.clip(smooth(3, 60), -1, 1) * np.float16(65504),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(40, 34, 50), (31, 12, 25), (9, 40, 61), SHAPE, (1, 17, 2)])
def test_labels_are_those_of_the_rule(kind: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """On finer, coarser and equal grids, in slabs of few slices."""
    monkeypatch.setattr(tried, "_SLAB", 6000)
    found = greatest_channel(KINDS[kind], lines(shape))
    assert found is not None and found.dtype == (np.uint8 if len(KINDS[kind]) < 257 else np.uint16)
    np.testing.assert_array_equal(found, by_the_rule(KINDS[kind], lambda c: resize(c, shape, 1)))


def test_a_thick_axis_takes_the_nearest_slice() -> None:
    """nnU-Net brings thick slices back without mixing them."""
    scores, shape = KINDS["regions"], (47, 30, 38)
    found = greatest_channel(scores, [Line.nearest(20, 47), *lines(shape)[1:]])
    np.testing.assert_array_equal(found, by_the_rule(scores, lambda c: resize_thick(c, shape, 1, 0, 0)))


def test_few_voxels_are_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule itself takes five times as long: it is for those that a rounding decides."""
    again: list[int] = []
    done = tried._again
    monkeypatch.setattr(
        tried, "_again", lambda scores, lines, at, labels: (again.append(at.shape[1]), done(scores, lines, at, labels))
    )
    found = greatest_channel(KINDS["regions"], lines((40, 34, 50)))
    assert found is not None and 0 < sum(again) < 0.01 * found.size


def test_background_alone_is_background() -> None:
    scores = KINDS["regions"].copy()
    scores[0] = 100
    found = greatest_channel(scores, lines((40, 34, 50)))
    assert found is not None and found.shape == (40, 34, 50) and not found.any()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_scores_that_are_no_numbers_are_left_to_others(value: float) -> None:
    scores = KINDS["regions"].copy()
    scores[1, 19, 0, 3] = value
    assert greatest_channel(scores, lines((40, 34, 50))) is None


def test_a_cancelled_run_ends_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred classes this takes minutes."""
    monkeypatch.setattr(tried, "_SLAB", 3000)
    heard: list[tuple[int, int]] = []

    def told(done: int, total: int) -> None:
        heard.append((done, total))
        if len(heard) == 3:
            raise Cancelled("the user had enough")

    with pytest.raises(Cancelled):
        greatest_channel(KINDS["regions"], lines((40, 34, 50)), told)
    assert heard == [(1, 40), (2, 40), (3, 40)]
