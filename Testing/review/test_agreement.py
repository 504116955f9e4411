"""Kappa against scikit-learn's numbers (cohen_kappa_score of version 1.9.1), and where it is not defined."""

from __future__ import annotations

import pytest

from medseg.errors import InputError
from medseg.review.agreement import agreement, kappa

ONE = [1, 2, 3, 4, 5, 5, 4, 3, 2, 2, 5, 5]
OTHER = [1, 2, 2, 4, 5, 4, 4, 1, 2, 3, 5, 5]


@pytest.mark.parametrize(
    ("weights", "value"), [("none", 0.575221238938), ("linear", 0.741379310345), ("quadratic", 0.858108108108)]
)
def test_kappa_is_that_of_scikit_learn(weights: str, value: float) -> None:
    assert kappa(ONE, OTHER, range(1, 6), weights) == pytest.approx(value, abs=1e-9)  # type: ignore[arg-type]


def test_where_chance_alone_agrees_kappa_is_not_defined() -> None:
    assert kappa([5, 5], [5, 5], range(1, 6)) is None and kappa([], [], range(1, 6)) is None
    assert kappa([1, 5], [1, 5], range(1, 6)) == 1 and kappa([1, 5], [5, 1], range(1, 6)) == -1
    with pytest.raises(InputError, match="same cases"):
        kappa([1], [1, 2], range(1, 6))
    with pytest.raises(InputError, match="none of the answers"):
        kappa([7], [1], range(1, 6))


def test_the_cases_on_which_readers_differ_come_most_apart_first() -> None:
    one = {"a": 1, "b": 2, "c": 5, "d": None, "e": 3}
    other = {"a": 5, "b": 2, "c": 4, "d": 1, "f": 2}
    found = agreement(one, other, range(1, 6))
    assert found.cases == 3 and found.differ == (("a", 1, 5), ("c", 5, 4)) and found.exact == pytest.approx(1 / 3)
    assert agreement({}, {}, range(1, 6)).kappa is None
