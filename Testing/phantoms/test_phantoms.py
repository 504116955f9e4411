"""The phantoms: what the demonstration, the tests and the training of the small models stand on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg.errors import InputError
from medseg.phantoms import HAEMORRHAGES, chest_xray, flair, head_ct, swi, write_dicom_series

SMALL_CT = {"size": (128, 128, 24), "spacing": (1.8, 1.8, 6.0)}


@pytest.fixture(scope="module")
def bleeding_head():
    return head_ct(3, bleeds=HAEMORRHAGES, **SMALL_CT)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: head_ct(seed, size=(64, 64, 8), spacing=(3.6, 3.6, 18.0)),
        lambda seed: flair(seed, size=(64, 64, 6), spacing=(3.6, 3.6, 20.0)),
        lambda seed: swi(seed, size=(48, 56, 24), spacing=(3.6, 3.6, 5.0)),
        lambda seed: chest_xray(seed, size=128),
    ],
    ids=["head_ct", "flair", "swi", "chest_xray"],
)
def test_a_seed_gives_the_same_volume_each_time_and_another_seed_another(make):
    first, again, other = make(5), make(5), make(6)
    assert np.array_equal(first.volume.array, again.volume.array)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.volume.array, other.volume.array)
    assert first.labels.dtype == np.uint8
    assert first.labels.shape == first.volume.grid.shape == first.volume.array.shape
    assert set(np.unique(first.labels)) <= {0, *first.classes}


def test_head_ct_has_the_hounsfield_units_of_a_head():
    head = head_ct(2, bleeds=[], **SMALL_CT)
    middle = head.volume.array[14].astype(float)
    assert head.volume.modality == "CT" and head.volume.grid.orientation == "LPS"
    assert np.median(middle[:10]) == pytest.approx(-1000, abs=30)
    assert np.median(middle[50:78, 50:78]) == pytest.approx(33, abs=12)  # brain
    assert middle.max() > 900  # bone
    assert not head.labels.any() and not head.slice_labels.any()


@pytest.mark.parametrize("name", HAEMORRHAGES)
def test_each_haemorrhage_is_there_dense_and_flagged_on_its_slices_only(name):
    head = head_ct(8, bleeds=[name], **SMALL_CT)
    value = HAEMORRHAGES.index(name) + 1
    assert head.classes[value] == name
    blood = head.labels == value
    assert blood.sum() * head.volume.grid.voxel_volume > 1000  # mm3
    inner = head.volume.array[blood]
    assert 30 < np.median(inner) < 95
    assert np.array_equal(head.slice_labels[:, 0], head.slice_labels[:, value])
    assert head.slice_labels[:, value].any() and not head.slice_labels[:, value].all()
    assert not blood[head.slice_labels[:, value] == 0].sum() * 1.8 * 1.8 >= 15 * blood.shape[0]


def test_an_unknown_haemorrhage_is_refused_by_name():
    with pytest.raises(InputError, match="cephalic"):
        head_ct(1, bleeds=["cephalic"], **SMALL_CT)


def test_haemorrhages_together_keep_the_order_of_the_challenge(bleeding_head):
    assert list(bleeding_head.classes.values()) == list(HAEMORRHAGES)
    assert np.array_equal(bleeding_head.slice_labels[:, 0], bleeding_head.slice_labels[:, 1:].any(axis=1))


def test_flair_has_bright_lesions_dark_ventricles_and_an_oblique_grid():
    head = flair(4, lesions=12)
    array = head.volume.array.astype(float)
    white = np.median(array[(head.labels == 0) & (array > 0.5 * np.median(array[head.labels == 2]))])
    assert head.volume.grid.size == (256, 256, 20) and head.volume.grid.is_oblique
    assert np.median(array[head.labels == 2]) > 1.3 * white
    assert np.median(array[head.labels == 2]) > np.median(array[head.labels == 1]) > white


def test_swi_microbleeds_are_dark_listed_where_they_are_and_of_the_size_said():
    head = swi(3, microbleeds=8)
    assert len(head.lesions) > 4
    around = np.median(head.volume.array[40, 90:130, 70:110])
    for lesion in head.lesions:
        i, j, k = np.rint(head.volume.grid.to_index(lesion["center"])).astype(int)
        assert head.labels[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 2].any()
        assert head.volume.array[k, j, i] < 0.8 * around
        assert 2 <= lesion["diameter_mm"] <= 6
    drawn = sum(np.pi / 6 * lesion["diameter_mm"] ** 3 for lesion in head.lesions)
    assert (head.labels > 0).sum() * head.volume.grid.voxel_volume == pytest.approx(drawn, rel=0.35)


def test_chest_xray_lungs_are_darker_than_what_is_around_and_on_their_own_sides():
    film = chest_xray(7)
    pixels = film.volume.array[0].astype(float)
    assert film.volume.array.dtype == np.uint8
    assert pixels[film.labels[0] > 0].mean() + 30 < pixels[300:, 200:300].mean()
    columns = np.arange(512)
    right, left = ((film.labels[0] == v).sum(axis=0) @ columns / (film.labels == v).sum() for v in (1, 2))
    assert right < 256 < left
    assert 0.10 < (film.labels > 0).mean() < 0.45


def test_opacities_change_the_film_and_not_the_lungs():
    clear, ill = chest_xray(9, opacities=False), chest_xray(9, opacities=True)
    assert np.array_equal(clear.labels, ill.labels)
    assert not np.array_equal(clear.volume.array, ill.volume.array)


@pytest.mark.parametrize("wrapped", [False, True])
def test_dicom_series_gives_the_same_hounsfield_units_and_positions(bleeding_head, tmp_path: Path, wrapped: bool):
    paths = write_dicom_series(bleeding_head, tmp_path / "series", wrapped_12_bit=wrapped)
    grid = bleeding_head.volume.grid
    assert len(paths) == grid.size[2] == len(list((tmp_path / "series").iterdir()))
    for k in (0, 13):
        image = pydicom.dcmread(paths[k])
        assert np.allclose(image.ImagePositionPatient, grid.to_physical([0, 0, k]), atol=1e-4)
        pixels, intercept = image.pixel_array.astype(int), float(image.RescaleIntercept)
        if wrapped:  # the correction as the haemorrhage contract states it
            assert image.BitsStored == 12 and image.PixelRepresentation == 0 and intercept > -100
            assert pixels.max() > 3000  # air wrapped around
            pixels = pixels + 1000
            pixels[pixels >= 4096] -= 4096
            intercept = -1000
        expected = bleeding_head.volume.array[k].astype(int)
        expected = np.clip(expected, -1000, 3095) if wrapped else expected
        assert np.array_equal(pixels * float(image.RescaleSlope) + intercept, expected)


def test_only_ct_is_written_as_ct(tmp_path: Path):
    with pytest.raises(InputError, match="MR"):
        write_dicom_series(flair(1, size=(32, 32, 4)), tmp_path)
