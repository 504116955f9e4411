"""``medseg phantom``: images to try the software on, with the truth beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from medseg import phantoms
from medseg.cli import app
from medseg.io import read_segmentation, read_volume


def draw(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["phantom", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_files_are_the_drawing_and_its_truth(tmp_path: Path) -> None:
    """A mask that is not what was drawn would call a right model wrong."""
    code, _ = draw("chest-xray", "-o", tmp_path, "--seed", "3", "--cases", "2")
    assert code == 0 and len(list((tmp_path / "images").iterdir())) == 2
    drawn = phantoms.chest_xray(3)
    image = read_volume(tmp_path / "images" / "phantom_chest_X-ray_3.nrrd")
    truth = read_segmentation(tmp_path / "truth" / "phantom_chest_X-ray_3.seg.nrrd")
    assert np.array_equal(image.array, drawn.volume.array) and image.modality == drawn.volume.modality
    assert np.array_equal(truth.layers[0].labels, drawn.labels)
    assert {c.value: c.name for c in truth.classes} == drawn.classes


def test_a_drawing_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    assert draw("chest-xray", "-o", tmp_path)[0] == 0
    file = tmp_path / "images" / "phantom_chest_X-ray_1.nrrd"
    file.write_bytes(b"mine")
    code, said = draw("chest-xray", "-o", tmp_path)
    assert code == 2 and "is there already" in said and file.read_bytes() == b"mine"


def test_an_unknown_kind_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    code, said = draw("foot", "-o", tmp_path)
    assert code == 2 and "chest-xray" in said and not list(tmp_path.iterdir())
