"""Agreement of two readers' answers: kappa, and the cases on which they differ (`readers` compares their masks too).

Cohen's kappa (1960) and its weighted form (1968), with weights |i - j| (linear) or (i - j)^2 (quadratic).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError

Weights = Literal["none", "linear", "quadratic"]


def kappa(
    one: Sequence[Hashable], other: Sequence[Hashable], categories: Sequence[Hashable], weights: Weights = "none"
) -> float | None:
    """Kappa of two readers' answers to the same cases; ``categories`` in their order.

    None where it is not defined: no cases, or chance alone gives full agreement (both gave one and the same answer to
    all). Raises `InputError` for an answer that is no category.
    """
    if len(one) != len(other):
        raise InputError(
            f"One reader answered {len(one)} times, the other {len(other)}; agreement is of the same cases."
        )
    place = {category: n for n, category in enumerate(categories)}
    if unknown := [answer for answer in (*one, *other) if answer not in place]:
        raise InputError(f"{unknown[0]!r} is none of the answers {', '.join(map(str, categories))}.")
    if not one:
        return None
    n = len(place)
    table = np.zeros((n, n))
    for a, b in zip(one, other, strict=True):
        table[place[a], place[b]] += 1
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    cost = {"none": (apart > 0).astype(float), "linear": apart, "quadratic": apart**2}[weights]
    chance = float((cost * expected).sum())
    return None if chance == 0 else 1 - float((cost * table).sum()) / chance


@dataclass(frozen=True)
class Agreement:
    """``cases``: rated by both. ``exact``: share of equal ratings. ``differ``: (case, rating, rating), most apart

    first.
    """

    cases: int
    exact: float | None
    kappa: float | None
    linear: float | None
    quadratic: float | None
    differ: tuple[tuple[str, int, int], ...]


def agreement(one: dict[str, int | None], other: dict[str, int | None], categories: Sequence[int]) -> Agreement:
    """Agreement of the ratings of two readers: case -> rating, None where a case was not rated."""
    first = {case: r for case, r in one.items() if r is not None}
    second = {case: r for case, r in other.items() if r is not None}
    both = [case for case in first if case in second]
    a, b = [first[c] for c in both], [second[c] for c in both]
    differ = sorted(
        ((c, x, y) for c, x, y in zip(both, a, b, strict=True) if x != y), key=lambda d: (-abs(d[1] - d[2]), d[0])
    )
    exact = 1 - len(differ) / len(both) if both else None
    figures = [kappa(a, b, categories, weights) for weights in ("none", "linear", "quadratic")]
    return Agreement(len(both), exact, figures[0], figures[1], figures[2], tuple(differ))
