"""``medseg run --dicom`` and ``medseg dicom``: what a user gets, and what is refused before the run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from dicom_out.test_segmentation import PIXELS, places
from medseg.cli import app
from medseg.io import read_segmentation, read_volume
from medseg.io.dicom_report import read_report
from medseg.output.files import save_segmentation
from medseg.phantoms import chest_xray
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, save_version, take_decisions
from medseg.review.decisions import Review
from support.dicom_images import write_film, write_series

pytest.importorskip("highdicom", reason="highdicom is not installed (pip install 'medseg[dicom]')")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and caches of this test only."""
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))


def medseg(*arguments: object) -> dict:
    """The JSON document of a command, and its exit code in it."""
    return json.loads(CliRunner().invoke(app, [*map(str, arguments), "--json"]).stdout)


def test_a_film_is_answered_in_dicom(tmp_path: Path) -> None:
    """The lungs of a film from the archive could not go back there."""
    film = write_film(tmp_path / "film.dcm", chest_xray(seed=2, size=256).volume.array[0].astype(np.uint8))
    done = medseg("run", "lungs-compact", film, "-o", tmp_path / "out", "--dicom", "--no-scene", "--device", "cpu")
    assert done["exit_code"] == 0 and "dicom/segmentation.dcm" in done["results"][0]["result"]["files"]
    assert np.array_equal(read_segmentation(tmp_path / "out/dicom/segmentation.dcm").mask("lungs"),
                          read_segmentation(tmp_path / "out").mask("lungs"))  # fmt: skip
    (group,) = read_report(tmp_path / "out/dicom/report.dcm")
    assert group.number("Area") == pytest.approx(done["results"][0]["tables"]["areas"][0]["area_cm2"], rel=1e-5)
    again = medseg("dicom", tmp_path / "out", film, "-o", tmp_path / "later")
    assert again["exit_code"] == 0 and read_report(tmp_path / "later/report.dcm")[0].numbers == group.numbers


def test_what_is_not_dicom_is_refused_before_the_run(tmp_path: Path) -> None:
    """A long run would end without the objects that were asked for."""
    done = medseg("run", "lungs-compact", _picture(tmp_path), "-o", tmp_path / "out", "--dicom")
    assert done["exit_code"] == 2 and "is not DICOM" in done["error"]["message"] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("syntax", "said"),
    [
        ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),  # which is not read
        ("1.2.840.10008.1.2.4.90", "JPEG 2000 Image Compression (Lossless Only)"),  # of which the stream is none
    ],
)
def test_compressed_films_that_cannot_be_decoded_are_an_error_and_leave_nothing(
    tmp_path: Path, syntax: str, said: str
) -> None:
    """The user would find half of a result, or a traceback."""
    film = write_film(tmp_path / "film.dcm", np.zeros((32, 32), np.uint8))
    dataset = pydicom.dcmread(film)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f" + bytes(62)])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(film)
    done = medseg("run", "lungs-compact", film, "-o", tmp_path / "out", "--dicom")
    assert done["exit_code"] == 2 and said in str(done) and "film.dcm" in str(done), done
    assert not (tmp_path / "out").exists()


def test_masks_of_a_film_are_put_in_a_plane_by_the_run_that_makes_them(tmp_path: Path) -> None:
    """Who wanted them in a viewer had to write them a second time; the option without --dicom was ignored."""
    film = write_film(tmp_path / "film.dcm", chest_xray(seed=2, size=256).volume.array[0].astype(np.uint8))
    command = ("run", "lungs-compact", film, "-o", tmp_path / "out", "--no-scene", "--device", "cpu", "--film-plane")
    refused = medseg(*command)
    assert refused["exit_code"] == 2 and "--dicom" in refused["error"]["message"] and not (tmp_path / "out").exists()
    assert medseg(*command, "--dicom")["exit_code"] == 0
    made = pydicom.dcmread(tmp_path / "out/dicom/segmentation.dcm")
    assert made.FrameOfReferenceUID and all("PlanePositionSequence" in f for f in made.PerFrameFunctionalGroupsSequence)


def _picture(folder: Path) -> Path:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((32, 32), np.uint8)), str(folder / "a.png"))
    return folder / "a.png"


def test_a_mask_with_its_review_becomes_dicom(tmp_path: Path) -> None:
    """The reader's corrections and decisions would stay in MedSeg."""
    write_series(tmp_path / "s", PIXELS, places([0.0, 2, 4, 6, 8, 10]))
    volume = read_volume(tmp_path / "s")
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[1:3, 2:8, 2:8], labels[4, 12:16, 12:16] = 1, 1
    layer = Layer(labels, (SegmentClass(1, "bleed", (1.0, 0.0, 0.0), "", True),))
    mask = save_segmentation(tmp_path / "m.seg.nrrd", [layer], volume.grid, "some-model")
    review = Review(read_segmentation(mask))
    small = min(review.findings.values(), key=lambda f: f.voxels)
    large = max(review.findings.values(), key=lambda f: f.voxels)
    review.decide(small.id, "rejected")
    review.decide(large.id, "accepted")
    kept = CaseReview("s", reader="AB")
    take_decisions(kept, review)
    save_version(tmp_path / "case", kept, review.reviewed())
    done = medseg("dicom", mask, tmp_path / "s", "-o", tmp_path / "out", "--case", tmp_path / "case")
    assert done["exit_code"] == 0, done
    assert int(read_segmentation(tmp_path / "out/segmentation.dcm").mask("bleed").sum()) == large.voxels
    groups = {g.name: g for g in read_report(tmp_path / "out/report.dcm")}
    assert groups[f"finding {small.id}"].said[0][1] == "Rejected by the reader"
    assert groups[f"finding {large.id}"].number("Volume") == pytest.approx(1000 * large.volume_ml, rel=1e-5)
    assert groups["bleed"].number("Volume") == pytest.approx(large.volume_ml, rel=1e-5)
    again = medseg("dicom", mask, tmp_path / "s", "-o", tmp_path / "out")
    assert again["exit_code"] == 2 and "already" in again["error"]["message"]
