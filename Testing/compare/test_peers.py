"""Our figures are those that MONAI, MedPy and scikit-learn give, so that numbers of papers can be compared.

What the peers gave is in ``Testing/benchmarks/peer_metrics.json``, written by ``peer_metrics.py`` beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peer_metrics import SPACINGS, ours

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "benchmarks" / "peer_metrics.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", GOLDEN["figures"])
def test_figures_are_those_of_the_peers(case: str) -> None:
    name, seed = case.rsplit(" ", 1)
    mine = ours(int(seed), SPACINGS[name])
    for peer in ("MONAI", "MedPy", "scikit-learn"):
        for figure, value in GOLDEN["figures"][case][peer].items():
            assert mine[figure] == pytest.approx(value, abs=1e-6), f"{figure} of {peer}"


@pytest.mark.parametrize("case", GOLDEN["figures"])
def test_distances_on_a_mesh_differ_by_less_than_half_a_voxel(case: str) -> None:
    """surface-distance weights surface elements between voxels; its distances are not between voxel centres."""
    name, seed = case.rsplit(" ", 1)
    mine, theirs = ours(int(seed), SPACINGS[name]), GOLDEN["figures"][case]["surface-distance"]
    half = 0.5 * max(SPACINGS[name])
    for figure in ("hd", "hd95"):
        assert abs(float(mine[figure] or 0) - theirs[figure]) <= half, figure
