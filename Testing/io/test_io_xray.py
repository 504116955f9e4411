"""Films: a network for X-rays sees 0 to 255 as displayed; an inverted film gives a confident wrong mask."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut

from medseg.errors import InputError
from medseg.io import read_volume
from support.io_samples import DX_CLASS, write_dicom

RAMP = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (8, 1))
FILM = {
    "SOPClassUID": DX_CLASS, "Modality": "DX", "ImagePositionPatient": None, "ImageOrientationPatient": None,
    "BitsStored": 12, "HighBit": 11,
}  # fmt: skip


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_window_is_that_of_the_standard(tmp_path, function):
    tags = {**FILM, "WindowCenter": 2048, "WindowWidth": 1000, "VOILUTFunction": function}
    volume = read_volume(write_dicom(tmp_path / "film.dcm", RAMP, **tags))
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 2048, 1000, function
    dataset.BitsStored, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 12, 0, "MONOCHROME2"
    expected = apply_voi_lut(RAMP.astype(float), dataset) / 4095 * 255
    assert volume.array.dtype == np.uint8 and volume.modality == "DX"
    assert np.abs(volume.array[0] - expected).max() <= 0.51


def test_monochrome1_is_inverted_and_padding_stays_black(tmp_path):
    pixels = RAMP.copy()
    pixels[:, 0] = 4095
    tags = {**FILM, "WindowCenter": 2048, "WindowWidth": 4096, "PhotometricInterpretation": "MONOCHROME1"}
    plain = read_volume(write_dicom(tmp_path / "a.dcm", pixels, **tags)).array[0, 0]
    assert plain[1] > 250 > 10 > plain[-1] and plain[0] == 0
    padded = read_volume(write_dicom(tmp_path / "b.dcm", 4095 - pixels, **tags, PixelPaddingValue=0)).array[0, 0]
    assert padded[0] == 0, "padding of an inverted film would shine white"


def test_a_lookup_table_comes_before_the_window(tmp_path):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 8], [255 - n // 16 for n in range(4096)]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    tags = {**FILM, "VOILUTSequence": [table], "WindowCenter": 2048, "WindowWidth": 10}
    volume = read_volume(write_dicom(tmp_path / "lut.dcm", RAMP, **tags))
    assert np.array_equal(volume.array[0], 255 - RAMP // 16)


def test_without_window_the_range_is_scaled_and_told(tmp_path):
    pixels = RAMP // 2 + 100
    volume = read_volume(write_dicom(tmp_path / "plain.dcm", pixels, **FILM))
    assert volume.array.min() == 0 and volume.array.max() == 255
    assert any("range 100 to 2116" in w for w in volume.warnings)


def test_a_window_that_is_no_number_is_refused(tmp_path):
    """It would make a black film, and the network would find nothing on it."""
    path = write_dicom(tmp_path / "nan.dcm", RAMP, **FILM, WindowCenter=5, WindowWidth=float("nan"))
    with pytest.raises(InputError, match=r"nan\.dcm: its window .* is not valid"):
        read_volume(path)


def test_two_windows_use_the_first_and_say_so(tmp_path):
    tags = {**FILM, "WindowCenter": [1000, 3000], "WindowWidth": [500, 600]}
    volume = read_volume(write_dicom(tmp_path / "two.dcm", RAMP, **tags))
    assert any("2 windows; the first (level 1000, width 500)" in w for w in volume.warnings)
    assert volume.tags["WindowCenter"] == [1000.0, 3000.0]


@pytest.mark.parametrize(
    ("tags", "spacing", "word"),
    [
        ({"PixelSpacing": [0.2, 0.1], "ImagerPixelSpacing": [0.3, 0.3]}, (0.1, 0.2), "Pixel Spacing"),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.4, 0.3]}, (0.3, 0.4), "measured at the detector"),
        ({"PixelSpacing": None}, (1, 1), "1 mm was assumed"),
    ],
)
def test_the_spacing_says_where_it_is_from(tmp_path, tags, spacing, word):
    volume = read_volume(write_dicom(tmp_path / "film.dcm", RAMP, **{**FILM, **tags}))
    assert volume.grid.spacing[:2] == pytest.approx(spacing) and any(word in w for w in volume.warnings)


@pytest.mark.parametrize(
    ("orientation", "code"),
    [(None, "LIP"), (["L", "F"], "LIP"), (["R", "F"], "RIA"), (["A", "F"], "AIL"), (["X", "Y"], "LIP")],
)
def test_a_film_lies_as_its_patient_orientation_says_or_like_a_picture(tmp_path, orientation, code):
    volume = read_volume(write_dicom(tmp_path / "film.dcm", RAMP, **{**FILM, "PatientOrientation": orientation}))
    assert volume.grid.orientation == code and np.linalg.det(volume.grid.direction) == pytest.approx(1)
    assert any("taken as a frontal film" in w for w in volume.warnings) == (orientation in (None, ["X", "Y"]))


def test_two_films_are_not_a_volume_and_a_cine_is_no_film(tmp_path):
    for n in range(2):
        write_dicom(tmp_path / "study" / f"{n}", RAMP, **FILM)
    with pytest.raises(InputError, match="2 projection images"):
        read_volume(tmp_path / "study")
    with pytest.raises(InputError, match=r"run\.dcm is a projection with 3 frames"):
        read_volume(write_dicom(tmp_path / "run.dcm", np.stack([RAMP] * 3), **{**FILM, "NumberOfFrames": 3}))


def test_a_secondary_capture_in_grey_rgb_is_scalar(tmp_path):
    grey = np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8, 1), 3, axis=2)
    capture = {"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "BitsStored": 8, "HighBit": 7}
    path = write_dicom(tmp_path / "sc.dcm", grey, **{**FILM, **capture})
    volume = read_volume(path)
    assert volume.array.shape == (1, 6, 8) and volume.modality == "OT"
