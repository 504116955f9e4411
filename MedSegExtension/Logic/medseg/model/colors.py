"""Colours of segments that can be told apart, also by readers with a red-green deficiency.

A manifest's colours stay unless two of them are too much alike. A class without a colour gets that of its terminology,
else one of a palette. Numpy only.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RGB = tuple[int, int, int]
Array = npt.NDArray[np.float64]

NO_COLOR: RGB = (128, 174, 128)
"""What a class has that was given no colour (also Slicer's colour of tissue that is not named)."""

LEAST_DISTANCE = 15.0
"""Two colours are told apart where they are this far apart in CIELAB for each kind of sight. A difference of 2.3 is
just noticeable on plain patches side by side (Mahy, Van Eycken, Oosterlinck, Color Res. Appl. 19, 1994); overlays are
seen at half opacity over grey values and not side by side, so more is asked for."""

MANY = 12
"""With more classes than this, colours alone cannot tell them apart; then only equal ones are changed."""

# Okabe and Ito, Color Universal Design (2008), without black, which is the background of every view.
PALETTE: tuple[RGB, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip

# Linear RGB as seen without long-wave (protan) and middle-wave cones (deutan): Machado, Oliveira, Fernandes, IEEE
# Trans. Vis. Comput. Graph. 15, 2009, severity 1.
SIGHT: dict[str, Array] = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
# sRGB to XYZ and its white point (IEC 61966-2-1, D65).
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = _TO_XYZ.sum(axis=1)


def lab(colors: Sequence[RGB] | Array, sight: str = "normal") -> Array:
    """CIELAB (CIE 15:2004, D65) of sRGB colours (N, 3), 0 to 255, as seen with ``sight`` (a key of `SIGHT`)."""
    values = np.asarray(colors, float).reshape(-1, 3) / 255.0
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ SIGHT[sight].T, 0.0, 1.0)
    t = seen @ _TO_XYZ.T / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def distances(colors: Sequence[RGB] | Array, others: Sequence[RGB] | Array) -> Array:
    """(N, M): the least distance in CIELAB (CIE 1976) over normal sight, protanopia and deuteranopia."""
    each = [np.linalg.norm(lab(colors, s)[:, None] - lab(others, s)[None], axis=2) for s in SIGHT]
    result: Array = np.min(each, axis=0)
    return result


def terminology_color(code: str, modifier: str = "") -> RGB | None:
    """Slicer's recommended colour of a SNOMED CT type, with its modifier where there is one; None where it has none."""
    table = _terminology()
    found = table.get(f"{code}|{modifier}") or table.get(code)
    return (found[0], found[1], found[2]) if found else None


def distinct(colors: Sequence[RGB], recommended: Sequence[RGB | None] = ()) -> list[RGB]:
    """The colours of classes, in their order: as given unless too near to one before, see the module's text.

    ``recommended``: of the terminology, used for those that are `NO_COLOR`.
    """
    wanted = list(colors)
    for n, (color, better) in enumerate(itertools.zip_longest(colors, recommended)):
        if color == NO_COLOR and better is not None:
            wanted[n] = better
    least = LEAST_DISTANCE if len(wanted) <= MANY else 1e-6
    # Colours that somebody chose have the first say, those without one take what is left.
    order = sorted(range(len(wanted)), key=lambda n: wanted[n] == NO_COLOR)
    chosen: dict[int, RGB] = {}
    for n in order:
        color, taken = wanted[n], list(chosen.values())
        if color == NO_COLOR or (taken and distances([color], taken).min() < least):
            color = _another(taken, [w for m, w in enumerate(wanted) if m not in chosen and m != n and w != NO_COLOR])
        chosen[n] = color
    return [chosen[n] for n in range(len(wanted))]


def _another(taken: list[RGB], coming: list[RGB]) -> RGB:
    """The first colour of the palette that is far from all others, else the farthest of a grid of colours."""
    if not taken and not coming:
        return PALETTE[0]
    for others in (taken + coming, taken):
        if not others:
            continue
        near = distances(PALETTE, others).min(axis=1)
        if (near >= LEAST_DISTANCE).any():
            return PALETTE[int(np.argmax(near >= LEAST_DISTANCE))]
    grid = _grid()
    r, g, b = grid[int(distances(grid, taken).min(axis=1).argmax())].astype(int).tolist()
    return (r, g, b)


@functools.cache
def _grid() -> Array:
    """Colours over the whole cube that stand out from black (L* above 40)."""
    steps = np.arange(0, 256, 51)
    cube = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3).astype(float)
    bright: Array = cube[lab(cube)[:, 0] > 40]
    return bright


@functools.cache
def _terminology() -> dict[str, list[int]]:
    text = Path(__file__).with_name("terminology_colors.json").read_text(encoding="utf-8")
    colors: dict[str, Any] = json.loads(text)["colors"]
    return colors
