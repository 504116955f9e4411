"""Lung areas on films: which side is which, and what cannot be known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg import Volume, run
from medseg.geometry.grid import Grid
from medseg.measure.areas import area_table, split_sides
from medseg.monitor import Monitor
from medseg.phantoms import chest_xray
from support import measurement_models as models
from support.io_samples import DX_CLASS, write_dicom


def records(table) -> list[dict]:
    return [dict(zip((c.name for c in table.columns), row, strict=True)) for row in table.rows]


@pytest.fixture(scope="module")
def lungs(tmp_path_factory) -> Path:
    return models.lungs_package(tmp_path_factory.mktemp("models") / "lungs")


@pytest.fixture(scope="module")
def film():
    """Dark lungs on a bright film of 300 x 300 pixels, and the pixels of the patient's right and left lung."""
    labels = chest_xray(2, size=300).labels[0]
    pixels = np.where(labels > 0, 30, 200).astype(np.uint8)
    return pixels, int((labels == 1).sum()), int((labels == 2).sum())


def dx(path: Path, pixels: np.ndarray, **tags) -> Path:
    placeless = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "WindowCenter": 128, "WindowWidth": 256}
    standard = {"SOPClassUID": DX_CLASS, "Modality": "DX", "PatientOrientation": ["L", "F"], **placeless}
    return write_dicom(path, pixels, **{**standard, **tags})


def test_lung_areas_and_their_ratio_on_the_film_s_own_pixels(lungs, film, tmp_path):
    pixels, right, left = film
    result = run(lungs, dx(tmp_path / "film.dcm", pixels, PixelSpacing=[0.5, 0.4]), device="cpu", threads=1)
    (areas,) = records(result.tables["areas"])
    assert areas["right_pixels"] == pytest.approx(right, rel=0.02) and areas["left_pixels"] == pytest.approx(
        left, rel=0.02
    )
    assert areas["pixels"] == areas["right_pixels"] + areas["left_pixels"]
    assert areas["area_cm2"] == pytest.approx(areas["pixels"] * 0.2 / 100)
    assert areas["left_area_cm2"] == pytest.approx(areas["left_pixels"] * 0.2 / 100)
    assert areas["left_right_ratio"] == pytest.approx(left / right, rel=0.03) and areas["note"] == ""
    assert result.tables["segments"].column("volume_ml")[0] is None, "a film has no volume"


def test_a_film_seen_from_behind_has_left_on_the_image_s_left(lungs, film, tmp_path):
    """Sides by image columns alone would exchange the lungs of such a film."""
    pixels, right, left = film
    path = dx(tmp_path / "film.dcm", pixels[:, ::-1], PatientOrientation=["R", "F"])
    (areas,) = records(run(lungs, path, device="cpu", threads=1).tables["areas"])
    assert areas["right_pixels"] == pytest.approx(right, rel=0.02) and areas["left_pixels"] == pytest.approx(
        left, rel=0.02
    )


def test_without_spacing_areas_are_pixels_and_a_note_says_so(lungs, film, tmp_path):
    pixels, right, left = film
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "film.png"))
    result = run(lungs, tmp_path / "film.png", device="cpu", threads=1)
    (areas,) = records(result.tables["areas"])
    assert areas["area_cm2"] is None and areas["left_area_cm2"] is None and areas["left_right_ratio"] is not None
    assert areas["pixels"] == pytest.approx(right + left, rel=0.02)
    assert "spacing is not known" in areas["note"] and any("spacing is not known" in w for w in result.warnings)


def test_a_spacing_at_the_detector_is_noted(lungs, film, tmp_path):
    path = dx(tmp_path / "film.dcm", film[0], PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.2])
    (areas,) = records(run(lungs, path, device="cpu", threads=1).tables["areas"])
    assert "at the detector" in areas["note"] and areas["area_cm2"] > 0


def test_sides_of_a_lateral_film_are_not_made_up(lungs, film, tmp_path):
    path = dx(tmp_path / "film.dcm", film[0], PatientOrientation=["A", "F"])
    (areas,) = records(run(lungs, path, device="cpu", threads=1).tables["areas"])
    assert areas["right_pixels"] is None and areas["left_right_ratio"] is None and "not frontal" in areas["note"]
    assert areas["area_cm2"] > 0


def two_lungs() -> np.ndarray:
    mask = np.zeros((60, 100), bool)
    mask[10:50, 10:40] = True
    mask[10:50, 58:82] = True
    return mask


def test_lungs_are_told_apart_by_component():
    sides = split_sides(two_lungs())
    assert (sides.low, sides.high, sides.note) == (1200, 960, "")


def test_fragments_go_to_the_nearer_lung_and_a_piece_below_is_not_the_other_lung():
    mask = two_lungs()
    mask[52:58, 12:38] = True
    mask[5:7, 60:64] = True
    sides = split_sides(mask)
    assert (sides.low, sides.high) == (1200 + 156, 960 + 8)


def test_lungs_that_touch_are_split_where_they_are_narrowest():
    mask = two_lungs()
    mask[20:24, 40:47] = True
    mask[20:22, 47:50] = True
    mask[20:24, 50:58] = True
    sides = split_sides(mask)
    assert "touch" in sides.note
    assert sides.low + sides.high == mask.sum()
    assert abs(sides.low - (1200 + 28)) <= 6 and abs(sides.high - (960 + 32)) <= 6


@pytest.mark.parametrize("other", [False, True])
def test_one_lung_is_not_cut_in_two(other):
    mask = two_lungs()
    mask[:, slice(None, 50) if other else slice(50, None)] = False
    sides = split_sides(mask)
    assert {sides.low, sides.high} == {0, int(mask.sum())} and "only one lung" in sides.note
    assert (sides.high > 0) == other


def test_an_empty_mask_and_a_volume_are_told():
    grid = Grid((100, 60, 1), (1, 1, 1), (0, 0, 0), np.eye(3))
    monitor = Monitor()
    volume = Volume(np.zeros(grid.shape, np.uint8), grid, "DX", "film")
    (row,) = records(area_table("lungs", np.zeros(grid.shape, bool), volume, monitor))
    assert row["pixels"] == 0 and row["left_right_ratio"] is None and row["note"] == "the segment is empty"
    deep = Grid((4, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3))
    table = area_table("lungs", np.ones(deep.shape, bool), Volume(np.zeros(deep.shape), deep, "CT", "chest"), monitor)
    assert table.rows == () and any("not a film" in w for w in monitor.warnings)


def test_a_film_whose_columns_run_down_the_patient_has_its_sides_too():
    """Some devices store films turned by 90 degrees."""
    mask = two_lungs().T[None]
    grid = Grid((60, 100, 1), (0.5, 0.5, 1), (0, 0, 0), np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]))
    assert grid.orientation[1] == "L"
    (row,) = records(area_table("lungs", mask, Volume(np.zeros(grid.shape, np.uint8), grid, "DX", "film"), Monitor()))
    assert (row["right_pixels"], row["left_pixels"]) == (1200, 960)


def test_packages_do_not_need_the_folder_they_were_made_in(lungs, film, tmp_path):
    """What is measured is data of the package: a copy measures the same."""
    copy = shutil.copytree(lungs, tmp_path / "copied")
    path = dx(tmp_path / "film.dcm", film[0])
    one, other = (run(m, path, device="cpu", threads=1).tables["areas"] for m in (lungs, copy))
    assert one.to_csv() == other.to_csv()
