"""A DICOMDIR is an index: a CD from another hospital opens by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from medseg.errors import InputError
from medseg.io import read_volume
from medseg.phantoms import head_ct, write_dicom_series


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """A folder with a DICOMDIR and the series that it lists."""
    write_dicom_series(head_ct(3), tmp_path / "series")
    files = FileSet()
    for path in sorted((tmp_path / "series").rglob("*.dcm")):
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.StudyID = dataset.get("PatientID") or "0", dataset.get("StudyID") or "1"
        dataset.StudyDate, dataset.StudyTime = "20260101", "120000"
        files.add(dataset)
    files.write(tmp_path / "disc")
    return tmp_path / "disc"


def test_the_index_opens_its_series(disc: Path, tmp_path: Path) -> None:
    by_index, by_folder = read_volume(disc / "DICOMDIR"), read_volume(tmp_path / "series")
    assert np.array_equal(by_index.array, by_folder.array) and by_index.grid.same_as(by_folder.grid)


def test_several_series_are_offered(disc: Path) -> None:
    for path in (disc / "DICOMDIR").parent.rglob("*"):
        if path.is_file() and path.name != "DICOMDIR":
            dataset = pydicom.dcmread(path)
            if dataset.InstanceNumber == 1:
                dataset.SeriesInstanceUID, dataset.SeriesNumber = pydicom.uid.generate_uid(), 77
                dataset.save_as(path)
                break
    with pytest.raises(InputError, match=r"DICOMDIR holds 2 image series.*\n.*\n.*number 77"):
        read_volume(disc / "DICOMDIR")
    assert read_volume(disc / "DICOMDIR", series=77).grid.size[2] == 1


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_missing_files_are_told_and_none_outside_is_opened(disc: Path) -> None:
    one = sorted(p for p in disc.rglob("*") if p.is_file() and p.name != "DICOMDIR")[0]
    one.unlink()
    assert any("1 of the files that it lists are missing" in w for w in read_volume(disc / "DICOMDIR").warnings)
    index = pydicom.dcmread(disc / "DICOMDIR")
    for record in index.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["..", "SECRET"]
    index.save_as(disc / "DICOMDIR")
    with pytest.raises(InputError, match="outside its own folder"):
        read_volume(disc / "DICOMDIR")
