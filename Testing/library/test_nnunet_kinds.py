"""Every kind of nnU-Net v2 result against nnU-Net's own predictor, stage by stage; only by ``make test-recipes``.

If one failed, users of that kind of network would get other labels than its authors. ``MEDSEG_NNUNET`` names an
environment with nnU-Net; without it one is made (about 6 GB).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from library import nnunet_kinds
from medseg.library.importer.environment import HERE, make_environment
from medseg.library.importer.nnunet import REQUIREMENTS
from medseg.monitor import Monitor

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(3600)]

KINDS = [
    "2d-ct-regions", "anisotropic", "lowres", "cascade", "cascade-anisotropic", "two-channels-oblique",
    "masked-normalisation", "residual-encoder", "transposed", "ignore-two-folds", "classic-plans",
    "classic-residual-2d", "reoriented-reader", "torch-resampling", "minmax-none-channels", "smaller-than-patch",
]  # fmt: skip


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    given = os.environ.get("MEDSEG_NNUNET")
    yield (
        Path(given)
        if given
        else make_environment(tmp_path_factory.mktemp("nnunet") / "venv", HERE / REQUIREMENTS, None, Monitor())
    )


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_stages_are_those_of_nnunet(kind: str, python: Path, tmp_path: Path) -> None:
    nnunet_kinds.make(python, tmp_path, [kind])
    outcome = nnunet_kinds.compare(python, tmp_path / kind)
    assert outcome.prepared < 1e-3 and outcome.logits < 1e-3, outcome.row()
    assert outcome.equal >= nnunet_kinds.EQUAL and min(outcome.dice.values()) >= nnunet_kinds.DICE, outcome.row()
