"""Times, echoes and b-values on the command line: listed, one chosen, or each run."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from test_cli import BRIGHT, IMAGE, medseg_command, model, own_places, run_quickly  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


@pytest.fixture
def bold(tmp_path: Path) -> Path:
    """Two frames, the second brighter."""
    image = nibabel.Nifti1Image(np.stack([IMAGE.T, IMAGE.T + BRIGHT], axis=-1), np.eye(4))
    image.header["pixdim"][4] = 2
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, tmp_path / "bold.nii.gz")
    return tmp_path / "bold.nii.gz"


def bright(folder: Path) -> int:
    return int((sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "segmentation.seg.nrrd"))) > 0).sum())


def test_without_a_choice_the_frames_are_listed(model, bold, tmp_path):
    done = run_quickly(model, bold, "-o", tmp_path / "out")
    assert done.exit_code == 2 and "2 frames" in done.stderr and "--frame" in done.stderr and "2: at 2 s" in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_frame_is_run(model, bold, tmp_path):
    done = run_quickly(model, bold, "-o", tmp_path / "out", "--frame", "2")
    assert done.exit_code == 0, done.output
    assert bright(tmp_path / "out") == int((IMAGE + BRIGHT > BRIGHT).sum())


def test_each_frame_gets_a_folder(model, bold, tmp_path):
    done = run_quickly(model, bold, "-o", tmp_path / "out", "--frame", "all")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["frame-001", "frame-002"]
    assert bright(tmp_path / "out" / "frame-001") == int((IMAGE > BRIGHT).sum())
    assert bright(tmp_path / "out" / "frame-002") == int((IMAGE + BRIGHT > BRIGHT).sum())


@pytest.mark.parametrize("frame", ["0", "3", "first"])
def test_a_frame_that_is_not_there_is_refused(model, bold, tmp_path, frame):
    done = run_quickly(model, bold, "-o", tmp_path / "out", "--frame", frame)
    assert done.exit_code == 2 and frame in done.stderr and not (tmp_path / "out").exists()


def test_series_lists_frames_and_series(bold, tmp_path):
    from medseg.phantoms import head_ct, write_dicom_series

    told = medseg_command("series", bold)
    assert told.exit_code == 0 and "2 frames" in told.output and "1: at 0 s" in told.output
    write_dicom_series(head_ct(3), tmp_path / "ct")
    document = json.loads(medseg_command("series", tmp_path / "ct", "--json").stdout)
    (one,) = document["series"]
    assert one["modality"] == "CT" and one["frames"] == [] and one["slices"] > 1 and "fault" not in one
    missing = medseg_command("series", tmp_path / "nothing.nii")
    assert missing.exit_code == 2 and "nothing.nii" in missing.stderr
