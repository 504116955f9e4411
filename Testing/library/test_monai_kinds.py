"""MONAI bundles of several kinds against MONAI's own run of them; only by ``make test-recipes``.

If one failed, users of that kind of bundle would get other labels than its authors. ``MEDSEG_MONAI`` names an
environment with MONAI; without it one is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from library import monai_kinds
from medseg.library.importer.environment import HERE, make_environment
from medseg.library.importer.monai import REQUIREMENTS
from medseg.monitor import Monitor

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    given = os.environ.get("MEDSEG_MONAI")
    yield (
        Path(given)
        if given
        else make_environment(tmp_path_factory.mktemp("monai") / "venv", HERE / REQUIREMENTS, None, Monitor())
    )


#: Measured and not reached; README's table has the figure. Its input is equal, where the labels part is not known yet.
MISSED = {"highresnet-pt": "99.45 % of the labels equal, Dice .9958 where .999 is the aim"}
KINDS = [
    pytest.param(k, marks=pytest.mark.xfail(reason=MISSED[k], raises=AssertionError) if k in MISSED else ())
    for k in monai_kinds.KINDS
]


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_stages_are_those_of_monai(kind: str, python: Path, tmp_path: Path) -> None:
    outcome = monai_kinds.compare(python, kind, tmp_path)
    assert outcome.prepared < 1e-4 and outcome.logits < 1e-3 and outcome.good, outcome.row()
