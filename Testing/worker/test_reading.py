"""Images that the page was given, read in the worker: without slices as acquired a tilted CT is judged wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg import phantoms, read_volume
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import SliceStack, Volume
from medseg.monitor import Monitor
from medseg.phantoms.dicom import write_dicom_series
from medseg.worker.reading import read_images
from medseg.worker.transfer import save_array, volume_from, volume_message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "medseg-case-1"
    made.mkdir()
    return made


def test_a_series_arrives_as_it_is_read(tmp_path: Path, folder: Path) -> None:
    series = tmp_path / "series"
    write_dicom_series(phantoms.head_ct(3), series)
    answer = read_images({"folder": str(folder), "path": str(series)}, Monitor())
    here, there = read_volume(series), volume_from(answer["volume"], folder)
    assert answer["series"] == [] and there.modality == "CT" and there.grid.same_as(here.grid)
    assert np.array_equal(here.array, there.array)


def test_slices_as_acquired_have_pixels_of_their_own(folder: Path) -> None:
    """A tilted series is interpolated for the views; a classifier must get what the scanner made."""
    one = Grid((4, 4, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    pixels = np.arange(48, dtype=np.int16).reshape(3, 4, 4)
    volume = Volume(np.zeros((5, 4, 4), np.int16), Grid((4, 4, 5), (1, 1, 1), (0, 0, 0), np.eye(3)), "CT",
                    stack=SliceStack(pixels, (one, one, one), ("1", "2", "3")))  # fmt: skip
    voxels, acquired = save_array(volume.array, folder, "volume.raw"), save_array(pixels, folder, "acquired.raw")
    there = volume_from(volume_message(volume, voxels, acquired), folder)
    assert there.stack is not None and np.array_equal(there.stack.pixels, pixels)
    nodes = volume_from(volume_message(volume, voxels), folder)  # a node of Slicer has only its voxels
    assert nodes.stack is not None and nodes.stack.pixels is nodes.array


def test_of_several_series_the_visitor_chooses(tmp_path: Path, folder: Path) -> None:
    series = tmp_path / "study"
    for seed in (3, 4):
        write_dicom_series(phantoms.head_ct(seed), series / str(seed))
    asked = read_images({"folder": str(folder), "path": str(series)}, Monitor())
    assert asked["volume"] is None and len(asked["series"]) == 2 and "CT" in asked["series"][0][1]
    chosen = read_images({"folder": str(folder), "path": str(series), "series": asked["series"][1][0]}, Monitor())
    assert chosen["volume"]["modality"] == "CT"


def test_a_request_for_something_that_is_no_image_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"notes\.txt"):
        read_images({"folder": str(folder), "path": str(tmp_path / "notes.txt")}, Monitor())
    with pytest.raises(InputError, match="folder"):
        read_images({"folder": str(tmp_path), "path": str(tmp_path / "notes.txt")}, Monitor())
