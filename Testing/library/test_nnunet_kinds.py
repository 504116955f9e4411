"""Every kind of nnU-Net v2 result against nnU-Net's own predictor, stage by stage; only by ``make test-recipes``.

If one failed, users of that kind of network would get other labels than its authors. ``MEDSEG_NNUNET`` names an
environment with nnU-Net; without it one is made (about 6 GB).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from library import nnunet_kinds
from medseg import load_model, read_volume, run
from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.environment import HERE, clean_environment, given_environment, make_environment
from medseg.library.importer.nnunet import REQUIREMENTS
from medseg.monitor import Monitor

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(3600)]

KINDS = [
    "2d-ct-regions", "anisotropic", "lowres", "cascade", "cascade-anisotropic", "two-channels-oblique",
    "masked-normalisation", "residual-encoder", "transposed", "ignore-two-folds", "classic-plans",
    "classic-residual-2d", "reoriented-reader", "torch-resampling", "no-resampling", "minmax-none-channels",
    "smaller-than-patch",
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
    print(outcome.row())
    assert outcome.prepared < 1e-3 and outcome.logits < 1e-3, outcome.row()
    assert outcome.equal >= nnunet_kinds.EQUAL and min(outcome.dice.values()) >= nnunet_kinds.DICE, outcome.row()


def test_a_joined_set_gives_what_its_program_gives(python: Path, tmp_path: Path, repository: Path) -> None:
    """TotalSegmentator's structure with small random networks: its way to 1.5 mm and back, the order of its parts."""
    recipe = repository / "MedSegExtension/Resources/Models/recipes/totalsegmentator-total.json"
    interpreter = given_environment(python, "torch, nnunetv2")
    script = Path(nnunet_kinds.SCRIPT).with_name("nnunet_sets.py")
    subprocess.run([str(interpreter), str(script), str(tmp_path), str(recipe)], env=_env(), check=True)
    options = ImportOptions(environment=python)
    package = import_model(tmp_path / "parts", "totalsegmentator-total", tmp_path / "package", options=options)
    found = run(load_model(package), read_volume(tmp_path / "ct.nii.gz"), device="cpu").layers[0]
    wanted = np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj).transpose(2, 1, 0)
    assert len(found.classes) == 117 and len(np.unique(wanted)) > 20
    assert (found.labels == wanted).mean() >= nnunet_kinds.EQUAL


def _env() -> dict[str, str]:
    """The environment of a child that may import the script beside it."""
    return {k: v for k, v in clean_environment().items() if k != "PYTHONSAFEPATH"}
