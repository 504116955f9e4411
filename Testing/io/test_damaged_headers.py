"""A header that lies costs the user one sentence, which can be read and names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg.errors import InputError, MedSegError, damage_is, readable
from medseg.io import itk as itk_reader
from medseg.io import list_series, read_volume
from support.io_samples import write_dicom


def test_what_a_file_says_is_quoted_so_that_it_can_be_read_and_logged() -> None:
    error = InputError("image\x00\x1b[31m.mha has \ud800 and " + "A" * 5000)
    assert str(error).isprintable() and len(str(error)) < 300 and str(error).startswith("image??[31m.mha has ?")
    str(error).encode()
    assert readable("Grün, 脳\nsecond line") == "Grün, 脳\nsecond line"
    assert len(readable("a " * 9000)) <= 4003


def test_damage_becomes_a_sentence_and_errors_of_our_own_stay_as_they_are() -> None:
    with pytest.raises(InputError, match=r"plans\.json is damaged in an unexpected way \(KeyError"), \
            damage_is(InputError, "plans.json"):  # fmt: skip
        {}["x"]
    with pytest.raises(MedSegError, match="as it is"), damage_is(InputError, "plans.json"):
        raise MedSegError("as it is")


@pytest.mark.parametrize("name", ["LOCAL\x00\x1b", "../\x07up.raw", "a%03d\x00.raw"])
def test_a_metaimage_that_points_to_unreadable_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image.mha"
    head = f"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n"
    path.write_bytes(head.encode() + bytes(8))
    with pytest.raises(InputError, match=r"image\.mha") as told:
        read_volume(path)
    assert str(told.value).isprintable()


@pytest.mark.parametrize(("keyword", "element"), [("Rows", b"OM\0\0"), ("SeriesNumber", b"XX\0\0")])
def test_a_dicom_value_of_an_unknown_kind_is_told_when_a_folder_is_listed(
    tmp_path: Path, keyword: str, element: bytes
) -> None:
    path = write_dicom(tmp_path / "s" / "1.dcm", np.zeros((4, 4), np.int16))
    tag = pydicom.datadict.tag_for_keyword(keyword)
    assert tag is not None
    mark = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    data = path.read_bytes()
    at = data.index(mark, 132) + 4
    path.write_bytes(data[:at] + element[:2] + data[at + 2 :])
    with pytest.raises(InputError, match=r"1\.dcm"):
        list_series(tmp_path / "s")


def test_a_series_number_that_is_several_numbers_is_told(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "s" / "1.dcm", np.zeros((4, 4), np.int16))
    dataset = pydicom.dcmread(path)
    dataset.add_new(0x00280008, "IS", ["1", "2"])
    dataset.save_as(path)
    with pytest.raises(InputError, match="NumberOfFrames"):
        list_series(tmp_path / "s")


def test_a_reader_that_hangs_is_ended_and_the_next_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch must not wait for ever for one file."""
    import SimpleITK as sitk

    good = tmp_path / "good.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8)), str(good))
    monkeypatch.setattr(itk_reader, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(itk_reader, "_LEAST_BYTES_A_SECOND", 1e12)
    itk_reader._child.end()  # starting anew takes longer than the time that is left
    with pytest.raises(InputError, match="crash or hang"):
        read_volume(good)
    monkeypatch.undo()
    assert read_volume(good).array.shape == (3, 4, 5)
