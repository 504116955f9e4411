"""Auto3DSeg models of several kinds against MONAI's transforms as SlicerMONAIAuto3DSeg runs them; ``test-recipes``.

If one failed, users of that kind of model would get other labels than in the extension it comes from. ``MEDSEG_MONAI``
names an environment with MONAI; without it one is made.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.auto3dseg import MODULES
from medseg.library.importer.environment import HERE, clean_environment, given_environment, make_environment
from medseg.library.importer.monai import REQUIREMENTS
from medseg.monitor import Monitor
from support.auto3dseg_models import KINDS, NAMES

pytestmark = [pytest.mark.recipes, pytest.mark.timeout(3600)]
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "auto3dseg_models.py"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    given = os.environ.get("MEDSEG_MONAI")
    yield (
        Path(given)
        if given
        else make_environment(tmp_path_factory.mktemp("monai") / "venv", HERE / REQUIREMENTS, None, Monitor())
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_labels_are_those_of_the_extension_s_chain(kind: str, python: Path, tmp_path: Path) -> None:
    folder = tmp_path / NAMES.get(kind, kind)
    command = [str(given_environment(python, MODULES)), str(SCRIPT), kind, str(folder)]
    subprocess.run(command, check=True, env=clean_environment())
    package = import_model(folder, None, tmp_path / "package", options=ImportOptions(environment=python))
    share = json.loads((package / "import.json").read_text())["equal_voxels"]
    print(f"{kind}: {share:.5%} of the voxels equal")
    assert share >= 0.9995
