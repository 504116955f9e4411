"""Random grids for property tests: any size, spacing, axis order, flip and oblique rotation."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from medseg.geometry.grid import Grid

CODES = [
    a + b + c
    for axes in ("LPS", "LSP", "PLS", "PSL", "SLP", "SPL")
    for a in (axes[0], {"L": "R", "P": "A", "S": "I"}[axes[0]])
    for b in (axes[1], {"L": "R", "P": "A", "S": "I"}[axes[1]])
    for c in (axes[2], {"L": "R", "P": "A", "S": "I"}[axes[2]])
]


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    """3x3 rotation by angles (radians) about x, y and z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    return (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    )


@st.composite
def grids(draw: st.DrawFn, max_size: int = 12, max_angle: float = np.pi) -> Grid:
    """Any valid grid: left-handed ones, permuted axes and large rotations included."""
    size = tuple(draw(st.integers(1, max_size)) for _ in range(3))
    spacing = tuple(draw(st.floats(0.2, 8.0)) for _ in range(3))
    origin = tuple(draw(st.floats(-500, 500)) for _ in range(3))
    angles = tuple(draw(st.floats(-max_angle, max_angle)) for _ in range(3))
    flips = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    order = draw(st.permutations(range(3)))
    return Grid(size, spacing, origin, rotation(angles) @ flips[:, order])


codes = st.sampled_from(CODES)
