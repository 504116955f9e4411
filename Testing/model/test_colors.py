"""Colours of segments: a reader who sees no red must still tell a lesion from tissue."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from medseg.model import colors
from medseg.model.card import card_from


def least(chosen: list[colors.RGB]) -> float:
    """The least distance between two of the colours, over all kinds of sight."""
    return float(min(colors.distances([a], [b]).item() for a, b in itertools.combinations(chosen, 2)))


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_is_that_of_the_literature(rgb: colors.RGB, expected: tuple[float, ...]) -> None:
    """Values of the sRGB primaries in CIELAB under D65, as colour calculators give them."""
    assert colors.lab([rgb])[0] == pytest.approx(expected, abs=0.05)


def test_red_and_green_are_alike_for_who_lacks_a_cone_and_grey_stays_grey() -> None:
    red, green = (200, 80, 60), (120, 115, 50)
    apart = np.linalg.norm(colors.lab([red]) - colors.lab([green]))
    for sight in ("deuteranopia", "protanopia"):
        seen = np.linalg.norm(colors.lab([red], sight) - colors.lab([green], sight))
        assert seen < 0.5 * apart
        assert np.abs(colors.lab([(120, 120, 120)], sight)[0, 1:]).max() < 0.5


def test_palette_can_be_told_apart() -> None:
    assert least(list(colors.PALETTE)) >= colors.LEAST_DISTANCE


def test_colours_of_a_manifest_stay_where_they_can_be_told_apart() -> None:
    given = [(86, 180, 233), (230, 85, 60), (250, 250, 225)]
    assert colors.distinct(given) == given


def test_a_colour_that_collides_is_replaced_and_the_first_stays() -> None:
    given = [(220, 50, 47), (120, 100, 30), (215, 60, 50)]
    changed = colors.distinct(given)
    assert changed[0] == given[0] and changed[2] != given[2]
    assert least(changed) >= colors.LEAST_DISTANCE


def test_red_against_green_collides_although_normal_sight_sees_it() -> None:
    red, green = (200, 80, 60), (120, 115, 50)
    assert np.linalg.norm(colors.lab([red]) - colors.lab([green])) > 2 * colors.LEAST_DISTANCE
    assert colors.distinct([red, green])[1] != green


@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_classes_without_colours_are_told_apart(count: int) -> None:
    """A model that was imported without colours would show all its classes in one green."""
    chosen = colors.distinct([colors.NO_COLOR] * count)
    assert len(set(chosen)) == count and colors.NO_COLOR not in chosen
    assert count == 1 or least(chosen) >= min(colors.LEAST_DISTANCE, 10.0)


def test_terminology_comes_before_the_palette() -> None:
    liver = colors.terminology_color("10200004")
    assert liver == (221, 130, 101)
    assert colors.terminology_color("no such code") is None
    assert colors.distinct([colors.NO_COLOR, (0, 114, 178)], [liver, None]) == [liver, (0, 114, 178)]


def test_many_classes_keep_their_standard_colours_but_no_two_are_equal() -> None:
    """FreeSurfer's table is known by heart; 104 regions cannot be told apart by colour anyway."""
    given = [(n, 100, 200 - n) for n in range(60)]
    assert colors.distinct(given) == given
    assert len(set(colors.distinct([*given, given[3]]))) == 61


def test_every_model_and_recipe_has_distinct_colours(repository: Path) -> None:
    models = repository / "MedSegExtension" / "Resources" / "Models"
    files = [*models.glob("*/manifest.json"), *(models / "recipes").glob("*.json")]
    assert len(files) > 20
    for file in files:
        raw = json.loads(file.read_text(encoding="utf-8"))
        card = card_from(raw.get("manifest", raw), file.parent, file.stem)
        given = [c.color for c in card.classes]
        chosen = colors.distinct(given)
        assert len(set(chosen)) == len(given), file.name
        if 1 < len(given) <= 8:
            assert least(chosen) >= colors.LEAST_DISTANCE, file.name
