"""The ellipse of the WMH head fit: OpenCV's numbers and pixels, without OpenCV."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from medseg.pipeline.preprocess import head

# OpenCV 4.8.1 and 5.0.0: cv2.fitEllipse of these (x, y) points -> centre x, y, the two axes, angle of the first.
_OPENCV_POINTS = np.array([(10, 2), (25, 1), (41, 9), (50, 22), (47, 35), (30, 40), (12, 33), (3, 18), (5, 8)])


_OPENCV_ELLIPSE = (26.369171, 20.471973, 36.258110, 50.659298, 118.650482)


def test_fit_ellipse_gives_opencvs_numbers() -> None:
    """Centre and long axis decide the crop; another ellipse fit zooms the head differently."""
    x, y, first, second, degrees = _OPENCV_ELLIPSE
    found = head.fit_ellipse(_OPENCV_POINTS[:, ::-1])
    assert found is not None
    assert (found.column, found.row) == pytest.approx((x, y), abs=1e-3)
    assert (found.short_axis, found.long_axis) == pytest.approx((first, second), abs=1e-3)
    assert math.degrees(found.angle) == pytest.approx((degrees + 90) % 180, abs=1e-3)


@given(st.floats(-50, 300), st.floats(-50, 300), st.floats(20, 200), st.floats(0.3, 0.95), st.floats(0, math.pi - 1e-3))
def test_fit_ellipse_finds_the_ellipse_its_points_lie_on(
    row: float, column: float, long: float, ratio: float, angle: float
) -> None:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    along, across = long / 2 * np.cos(t), ratio * long / 2 * np.sin(t)
    points = np.stack(
        [row + along * np.sin(angle) + across * np.cos(angle), column + along * np.cos(angle) - across * np.sin(angle)],
        axis=1,
    )
    found = head.fit_ellipse(points)
    assert found is not None
    assert (found.row, found.column) == pytest.approx((row, column), abs=1e-6)
    assert (found.long_axis, found.short_axis) == pytest.approx((long, ratio * long), rel=1e-6)
    assert math.sin(found.angle - angle) == pytest.approx(0, abs=1e-5)


# OpenCV 4.8.1 and 5.0.0: first and last painted column of rows 4 to 42 for cv2.ellipse with the box
# ((21.3, 22.7), (31.2, 40.9), 33.4), filled.
_OPENCV_FIRST = [
    21,
    18,
    17,
    15,
    14,
    13,
    12,
    10,
    10,
    9,
    8,
    8,
    7,
    6,
    6,
    6,
    5,
    5,
    5,
    5,
    4,
    4,
    4,
    4,
    4,
    4,
    4,
    5,
    5,
    5,
    5,
    6,
    6,
]


_OPENCV_LAST = [
    30,
    32,
    34,
    35,
    35,
    36,
    37,
    37,
    37,
    38,
    38,
    38,
    38,
    38,
    38,
    38,
    38,
    38,
    38,
    38,
    38,
    37,
    37,
    36,
    36,
    36,
    35,
]
_OPENCV_FIRST += [7, 8, 9, 10, 11, 15]
_OPENCV_LAST += [35, 34, 33, 33, 31, 31, 30, 28, 27, 25, 23, 20]


def test_fill_ellipse_paints_opencvs_pixels() -> None:
    """Scalp is very bright: one pixel of it on the wrong side of the mask changes the grey value of the whole slice."""
    mask = head.fill_ellipse(head.Ellipse(22.7, 21.3, 40.9, 31.2, math.radians(33.4 + 90)), (46, 44))
    rows = np.flatnonzero(mask.any(axis=1))
    assert rows.tolist() == list(range(4, 43))
    assert mask[rows].argmax(axis=1).tolist() == _OPENCV_FIRST
    assert (43 - mask[rows][:, ::-1].argmax(axis=1)).tolist() == _OPENCV_LAST
    assert mask.sum() == sum(last - first + 1 for first, last in zip(_OPENCV_FIRST, _OPENCV_LAST, strict=True))


def test_points_on_a_line_or_too_few_are_no_ellipse() -> None:
    """A slice with only a stripe or a dot of noise must not be zoomed by a nonsense ellipse, nor stop the run."""
    assert head.fit_ellipse([(0, 0), (1, 1), (2, 2), (3, 3)]) is None
    assert head.fit_ellipse([(n, 2 * n) for n in range(9)]) is None


def test_the_outline_is_the_corners_of_the_largest_objects_outer_border() -> None:
    """The hole inside the head and specks beside it do not count."""
    mask = np.zeros((12, 14), dtype=bool)
    mask[2:9, 3:10] = True
    mask[4:7, 5:8] = False
    mask[10, 12] = True
    corners = head._largest_outline(mask)
    assert corners is not None
    assert {tuple(c) for c in corners} == {(2, 3), (2, 9), (8, 3), (8, 9)}
    assert head._polygon_area(corners) == 36
    diagonal = head._outline(np.eye(4, dtype=bool))
    assert {tuple(c) for c in diagonal} == {(0, 0), (3, 3)}


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.booleans())
def test_shifted_rows_erode_and_dilate_as_scipy_does(
    seed: int, rows: int, columns: int, times: int, beyond: bool
) -> None:
    """One pixel more at the brain's border moves the normalisation of the slice."""
    rng = np.random.default_rng(seed)
    mask = np.asfortranarray(rng.random((rows, columns)) < rng.random())
    before, cross = mask.copy(), ndimage.generate_binary_structure(2, 1)
    wanted = ndimage.binary_erosion(mask, cross, iterations=times, border_value=beyond)
    np.testing.assert_array_equal(head.eroded(mask, times, beyond=beyond), wanted)
    np.testing.assert_array_equal(head.dilated(mask, times), ndimage.binary_dilation(mask, cross, iterations=times))
    np.testing.assert_array_equal(mask, before)
