"""Images that are not as they should be (identifiers, anonymised, mixed, compressed): a clear answer for each."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_out.test_segmentation import EVEN, PIXELS, places, result_of, source_of
from medseg.dicom_out.reading import masks_on_frames
from medseg.dicom_out.write import write_dicom
from medseg.errors import InputError
from medseg.io import read_segmentation, read_volume
from medseg.io.dicom_source import read_source
from medseg.monitor import Monitor
from support.dicom_images import write_series

pytest.importorskip("highdicom", reason="highdicom is not installed (pip install 'medseg[dicom]')")


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"StudyInstanceUID": ""}, "no Study Instance UID"),
        ({"SeriesInstanceUID": ""}, "no Series Instance UID"),
        ({"SOPInstanceUID": ""}, "no SOP Instance UID"),
    ],
)
def test_images_without_identifiers_are_refused_and_nothing_is_written(
    tmp_path: Path, tags: dict[str, str], said: str
) -> None:
    """An archive would reject the object, or a half-written file would lie there."""
    write_series(tmp_path / "s", PIXELS, places(EVEN), **tags)
    result = result_of(tmp_path / "s")
    with pytest.raises(InputError, match=said):
        write_dicom(result, tmp_path / "s", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_anonymised_images_without_study_data_are_written_and_told(tmp_path: Path) -> None:
    """A research data set could not be answered in DICOM at all."""
    nothing = dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
         "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PatientAge", "StudyDescription")
    )  # fmt: skip
    write_series(tmp_path / "s", PIXELS, places(EVEN), **nothing)
    monitor = Monitor()
    file = write_dicom(result_of(tmp_path / "s"), tmp_path / "s", tmp_path / "out", monitor=monitor)[0]
    assert "neither patient nor date" in monitor.notes[0] and "Frame of Reference" in monitor.warnings[0]
    assert pydicom.dcmread(file).PatientID == "" and read_segmentation(file).mask("lesion").any()


def test_mixed_series_and_patients_are_refused(tmp_path: Path) -> None:
    """Segments would be filed under the wrong patient."""
    a = write_series(tmp_path / "a", PIXELS, places(EVEN))
    b = write_series(tmp_path / "b", PIXELS, places(EVEN))
    with pytest.raises(InputError, match="belong to 2 series"):
        read_source([*a, *b])
    with pytest.raises(InputError, match="holds 2 image series"):
        read_source(tmp_path)
    for n, path in enumerate(a):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = f"P{n}"
        dataset.save_as(path)
    with pytest.raises(InputError, match="name 6 different patients"):
        write_dicom(result_of(tmp_path / "a"), tmp_path / "a", tmp_path / "out")


def test_a_result_of_other_images_is_refused(tmp_path: Path) -> None:
    """The segments of one patient would be drawn onto another."""
    write_series(tmp_path / "a", PIXELS, places(EVEN))
    write_series(tmp_path / "b", PIXELS[:4], places([100.0, 102, 104, 106]))
    with pytest.raises(InputError, match="at another place"):
        write_dicom(result_of(tmp_path / "a"), tmp_path / "b", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_disk_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of an object would be taken for the whole."""
    path, _ = source_of("ascending", tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.dataset.FileDataset, "save_as", full, raising=False)
    monkeypatch.setattr(pydicom.dataset.Dataset, "save_as", full)
    with pytest.raises(InputError, match="out: No space left on device; make room on this disk"):
        write_dicom(result_of(path), path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital's share is often read-only: "is the disk full?" sent its user to the wrong place."""
    path, _ = source_of("ascending", tmp_path)
    (tmp_path / "share").mkdir()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(InputError, match="share: Permission denied; check that the folder exists and may be written"):
        write_dicom(result_of(path), path, tmp_path / "share")
    assert list((tmp_path / "share").iterdir()) == []


def compressed(path: Path, syntax: str) -> None:
    """Write the image ``path`` anew in another transfer syntax, without loss."""
    dataset = pydicom.dcmread(path)
    if syntax == "JPEG 2000":  # pydicom has no encoder of its own
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(dataset.pixel_array).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
        dataset.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    elif syntax == "deflate":
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    else:
        dataset.compress({"RLE": RLELossless, "JPEG-LS": JPEGLSLossless}[syntax], generate_instance_uid=False)
    dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 8
    dataset.save_as(path)


@pytest.mark.parametrize("syntax", ["RLE", "JPEG-LS", "JPEG 2000", "deflate"])
def test_compressed_images_are_referred_to_like_others(tmp_path: Path, syntax: str) -> None:
    """Series from an archive, which compresses them, would get no answer; lossy ones would not say so."""
    files = write_series(tmp_path / "s", PIXELS.astype(np.uint16), places(EVEN))
    volume = read_volume(tmp_path / "s")
    for file in files:
        compressed(file, syntax)
    again = read_volume(tmp_path / "s")
    assert np.array_equal(again.array, volume.array) and again.grid.same_as(volume.grid)
    result = result_of(tmp_path / "s")
    file = write_dicom(result, tmp_path / "s", tmp_path / "out")[0]
    made = pydicom.dcmread(file)
    assert made.LossyImageCompression == "01" and not made.file_meta.TransferSyntaxUID.is_encapsulated
    assert np.array_equal(masks_on_frames(file, read_source(tmp_path / "s"))["brain"], result.mask("brain"))
