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
from medseg.errors import ModelError
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


@pytest.mark.parametrize("kind", monai_kinds.KINDS)
def test_labels_and_stages_are_those_of_monai(kind: str, python: Path, tmp_path: Path) -> None:
    outcome = monai_kinds.compare(python, kind, tmp_path)
    print(outcome.row())
    assert outcome.prepared < 1e-4 and outcome.logits < 1e-3 and outcome.good, outcome.row()


def test_a_network_of_two_outputs_says_that_one_must_be_chosen(python: Path, tmp_path: Path) -> None:
    """SegResNetDS2 has a branch for classes and one for points: taking the first would be a guess."""
    with pytest.raises(ModelError, match=r"gives 2 outputs, and which of them are the classes is not written"):
        monai_kinds.compare(python, "segresnetds2-pt", tmp_path, choices={})
