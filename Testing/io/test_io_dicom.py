"""DICOM series: chosen and never guessed, in order of position, in the units of the modality, without patient data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset

from medseg.errors import Cancelled, InputError
from medseg.io import list_series, read_volume
from medseg.monitor import Monitor
from support.io_samples import dicom_dataset, write_dicom

PIXELS = np.arange(6 * 5, dtype=np.int16).reshape(6, 5)


def write_series(folder: Path, positions, *, uid="1.2.3.4", values=None, **tags) -> Path:
    """A CT series of slices at ``positions`` (LPS), file names and instance numbers in the opposite order."""
    for n, position in enumerate(positions):
        pixels = PIXELS + 100 * n if values is None else values[n]
        name = f"{uid}-{len(positions) - n:03d}"
        position = [round(float(v), 6) for v in position]
        numbered = {"InstanceNumber": len(positions) - n, **tags}
        write_dicom(folder / name, pixels, SeriesInstanceUID=uid, ImagePositionPatient=position, **numbered)
    return folder


def straight(count: int, gap: float = 2.5) -> list[tuple[float, float, float]]:
    return [(1.0, 2.0, gap * n) for n in range(count)]


def test_slices_are_ordered_by_position_not_by_name_or_number(tmp_path):
    volume = read_volume(write_series(tmp_path, straight(4), PixelSpacing=[0.5, 0.75], SliceThickness=9))
    assert np.array_equal(volume.array, np.stack([PIXELS + 100 * n for n in range(4)]))
    assert volume.grid.spacing == pytest.approx((0.75, 0.5, 2.5)) and volume.grid.origin == (1, 2, 0)
    assert volume.grid.orientation == "LPS" and volume.modality == "CT"
    assert volume.stack is None and volume.warnings == ()


def test_oblique_series_agrees_with_itk(tmp_path):
    c, s = float(np.cos(0.4)), float(np.sin(0.4))
    normal = np.cross([1, 0, 0], [0, c, s])
    write_series(tmp_path, [10 * np.eye(3)[0] + 3 * n * normal for n in range(5)],
                 ImageOrientationPatient=[1, 0, 0, 0, round(c, 8), round(s, 8)])  # fmt: skip
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image))
    for corner in ((0, 0, 0), (4, 5, 4)):
        assert np.allclose(volume.grid.to_physical(corner), image.TransformIndexToPhysicalPoint(corner), atol=1e-4)


def test_several_series_are_listed_and_never_guessed(tmp_path):
    write_series(tmp_path / "a", straight(3), uid="1.1", SeriesNumber=2)
    write_series(tmp_path / "b", straight(4), uid="1.2", SeriesNumber=5, Modality="MR")
    with pytest.raises(InputError) as caught:
        read_volume(tmp_path)
    text = str(caught.value)
    assert "number 2: CT, 3 slices, 5x6" in text and "number 5: MR, 4 slices" in text and "--series" in text
    assert "SECRET" not in text
    assert read_volume(tmp_path, series="5").modality == "MR"
    assert read_volume(tmp_path, series=2).array.shape[0] == 3
    assert read_volume(tmp_path, series="1.2").array.shape[0] == 4
    with pytest.raises(InputError, match="holds no image series '9'"):
        read_volume(tmp_path, series="9")
    infos = list_series(tmp_path)
    assert [(i.number, i.modality, i.slices, i.size, i.spacing) for i in infos] == [
        (2, "CT", 3, (5, 6), (1, 1)), (5, "MR", 4, (5, 6), (1, 1))]  # fmt: skip
    write_series(tmp_path / "c", straight(2), uid="1.3", SeriesNumber=2)
    with pytest.raises(InputError, match="2 series number 2"):
        read_volume(tmp_path, series="2")


def test_other_objects_and_copies_are_skipped_and_told(tmp_path):
    write_series(tmp_path, straight(3))
    (tmp_path / "LICENSE").write_text("text")
    (tmp_path / "copy").write_bytes((tmp_path / "1.2.3.4-001").read_bytes())
    report = dicom_dataset(PIXELS, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SeriesInstanceUID="1.9")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    pydicom.dcmwrite(tmp_path / "report", report, enforce_file_format=True)
    write_dicom(tmp_path / "seg", PIXELS, Modality="SEG", SeriesInstanceUID="1.8")
    volume = read_volume(tmp_path)
    assert volume.array.shape[0] == 3
    told = " ".join(volume.warnings)
    assert "1 SEG, 1 SR" in told and "1 files are copies" in told and "1 files are not DICOM" in told
    with pytest.raises(InputError, match="report is a DICOM SR without an image"):
        read_volume(tmp_path / "report")


def test_rescale_to_hounsfield_keeps_integers_and_the_tags_that_steps_need(tmp_path):
    stored = PIXELS.astype(np.uint16)
    volume = read_volume(write_series(tmp_path, straight(2), values=[stored, stored], RescaleSlope=1,
                                      RescaleIntercept=-1024, BitsStored=12, HighBit=11, WindowCenter=[40, 80],
                                      WindowWidth=[80, 200], PixelPaddingValue=3))  # fmt: skip
    assert volume.array.dtype == np.int16 and volume.array.min() == -1024
    wanted = {
        "BitsStored": 12,
        "PixelRepresentation": 0,
        "RescaleSlope": 1.0,
        "RescaleIntercept": -1024.0,
        "PhotometricInterpretation": "MONOCHROME2",
        "WindowCenter": [40.0, 80.0],
        "PixelPaddingValue": 3,
    }
    assert {key: volume.tags[key] for key in wanted} == wanted
    assert not any("SECRET" in str(value) for value in volume.tags.values())


def test_each_slice_is_rescaled_by_its_own_values_and_that_is_told(tmp_path):
    write_dicom(tmp_path / "a", PIXELS, RescaleSlope=0.5, RescaleIntercept=0)
    write_dicom(tmp_path / "b", PIXELS, RescaleSlope=2, RescaleIntercept=0, ImagePositionPatient=[0, 0, 1])
    volume = read_volume(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.allclose(volume.array, [PIXELS * 0.5, PIXELS * 2])
    assert "RescaleSlope" not in volume.tags and any("RescaleSlope is not the same" in w for w in volume.warnings)


def test_missing_slices_are_counted_and_placed(tmp_path):
    """A volume with a hole must not be squeezed together."""
    positions = [p for n, p in enumerate(straight(10)) if n not in (4, 5)]
    volume = read_volume(write_series(tmp_path, positions))
    told = " ".join(volume.warnings)
    assert "3 x 2.5, 1 x 7.5, 3 x 2.5 mm" in told and "2 slices are missing (between 7.50 and 15.00 mm)" in told
    assert volume.grid.size == (5, 6, 10) and volume.stack is not None and len(volume.stack.grids) == 8


def test_two_images_at_one_position_are_not_stacked(tmp_path):
    write_series(tmp_path, [*straight(4), (1.0, 2.0, 5.0)])
    with pytest.raises(InputError, match="1 slices at the same position"):
        read_volume(tmp_path)
    folder = write_series(tmp_path / "4d", straight(3) * 2, uid="1.7", InstanceNumber=None)
    with pytest.raises(InputError, match="6 images at 3 positions, 2 at each"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "several orientations"),
        ({"PixelSpacing": [2, 2]}, "different pixel spacing"),
        ({"PixelSpacing": [0, 1]}, "not positive"),
        ({"ImagePositionPatient": None}, "no position in the patient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not valid"),
    ],
)
def test_slices_that_do_not_make_a_volume_are_refused(tmp_path, tags, message):
    write_series(tmp_path, straight(3))
    write_dicom(tmp_path / "odd", PIXELS, **{"ImagePositionPatient": [1, 2, 30], **tags})
    with pytest.raises(InputError, match=message):
        read_volume(tmp_path)


def test_different_sizes_are_refused(tmp_path):
    write_series(tmp_path, straight(3))
    write_dicom(tmp_path / "odd", np.zeros((9, 9), np.int16), ImagePositionPatient=[1, 2, 30])
    with pytest.raises(InputError, match="different sizes"):
        read_volume(tmp_path)


def test_cut_files_are_named(tmp_path):
    path = write_dicom(tmp_path / "whole.dcm", np.zeros((64, 64), np.int16))
    data = path.read_bytes()
    for name, length in (("pixels.dcm", len(data) - 4000), ("header.dcm", 500), ("start.dcm", 200)):
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(InputError, match=name) as caught:
            read_volume(tmp_path / name)
        assert "truncated" in str(caught.value)


def test_one_slice_of_a_series_says_that_it_is_one(tmp_path):
    write_series(tmp_path, straight(3))
    volume = read_volume(tmp_path / "1.2.3.4-001")
    assert volume.array.shape == (1, 6, 5)
    assert any("only that was read" in w for w in volume.warnings)


def test_minimal_tags_are_enough(tmp_path):
    path = write_dicom(tmp_path / "minimal", PIXELS, Modality=None, PatientName=None, PatientID=None, SeriesNumber=None)
    volume = read_volume(path)
    assert volume.modality == "CT" and any("Modality tag is missing" in w for w in volume.warnings)


def test_a_file_without_preamble_is_read(tmp_path):
    whole = pydicom.dcmread(write_dicom(tmp_path / "whole", PIXELS))
    bare = Dataset()
    bare.update(whole)
    bare.save_as(tmp_path / "bare", implicit_vr=True, little_endian=True)
    assert (tmp_path / "bare").read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read_volume(tmp_path / "bare").array[0], PIXELS)


@pytest.mark.parametrize(("compressor", "dtype"), [("JPEG2000", np.int16), ("JPEG", np.uint8), ("JPEG", np.uint16)])
def test_compressed_pixels_are_decoded_and_rescaled_once(tmp_path, compressor, dtype):
    pixels = (np.arange(64 * 48).reshape(48, 64) % 251).astype(dtype)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.SetFileName(str(tmp_path / "c.dcm"))
    writer.Execute(sitk.GetImageFromArray(pixels))
    dataset = pydicom.dcmread(tmp_path / "c.dcm")
    dataset.Modality, dataset.RescaleSlope, dataset.RescaleIntercept = "CT", 2, -1000
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    assert dataset.file_meta.TransferSyntaxUID.is_encapsulated
    dataset.save_as(tmp_path / "c.dcm")
    volume = read_volume(tmp_path / "c.dcm")
    assert np.array_equal(volume.array[0], pixels.astype(int) * 2 - 1000) and volume.array.dtype == np.int16


def test_enhanced_multiframe_is_placed_by_its_functional_groups(tmp_path):
    frames = np.stack([PIXELS + 100 * n for n in (2, 0, 1)])
    dataset = dicom_dataset(frames, NumberOfFrames=3, ImagePositionPatient=None, ImageOrientationPatient=None,
                            PixelSpacing=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")  # fmt: skip
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2.0
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for n in (2, 0, 1):
        frame, position, rescale = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [5.0, 6.0, 2.0 * n]
        rescale.RescaleSlope, rescale.RescaleIntercept = 1, -10 * n
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [rescale]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    pydicom.dcmwrite(tmp_path / "enhanced.dcm", dataset, enforce_file_format=True)
    volume = read_volume(tmp_path / "enhanced.dcm")
    assert np.array_equal(volume.array, [PIXELS + 100 * n - 10 * n for n in range(3)])
    assert volume.grid.spacing == pytest.approx((0.75, 0.5, 2)) and volume.grid.origin == (5, 6, 0)


@pytest.mark.parametrize(
    ("tag", "text", "wrong"),
    [
        ("PixelSpacing", b"0.625\\0.625", b"0,625\\0,625"),
        ("SliceThickness", b"2.5555", b"2,5555"),
        ("RescaleSlope", b"1.0625", b"1,0625"),
        ("RescaleSlope", b"1.0625", b"1\\0.25"),
        ("SeriesNumber", b"77777", b"7x.77"),
    ],
)
def test_text_that_is_no_number_is_named_with_its_tag(tmp_path, tag, text, wrong):
    """Some programs write decimal commas; a traceback would not tell the user which file and which tag."""
    tags = {"PixelSpacing": [0.625, 0.625], "SliceThickness": "2.5555", "RescaleSlope": "1.0625"}
    path = write_dicom(tmp_path / "d" / "comma.dcm", PIXELS, **tags, RescaleIntercept=0, SeriesNumber="77777")
    data = path.read_bytes()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, wrong))
    with pytest.raises(InputError, match=rf"comma\.dcm: its {tag} is not a valid number"):
        read_volume(path.parent)


def test_units_that_are_not_hounsfield_are_told(tmp_path):
    path = write_dicom(tmp_path / "ct.dcm", PIXELS, RescaleType="US")
    assert any("CT in units of US" in w for w in read_volume(path).warnings)


def test_a_cine_is_refused(tmp_path):
    path = write_dicom(tmp_path / "cine.dcm", np.stack([PIXELS] * 4), NumberOfFrames=4)
    with pytest.raises(InputError, match=r"cine\.dcm has 4 frames without a position each"):
        read_volume(path)


def test_reading_can_be_cancelled(tmp_path):
    monitor = Monitor()
    monitor.cancel()
    with pytest.raises(Cancelled):
        read_volume(write_series(tmp_path, straight(3)), monitor=monitor)


# -- tilt and uneven gaps ---------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_real_slice_with_minimal_tags(shared: Path):
    volume = read_volume(shared / "images" / "lung-ct" / "slice.dcm")
    assert volume.modality == "CT" and volume.array.min() == -2048 and volume.grid.spacing == (0.625, 0.625, 1)


def test_ct_that_does_not_say_its_rescale_is_told(tmp_path: Path) -> None:
    """Taken for Hounsfield units in silence, a model would see everything 1024 too high."""
    path = write_dicom(tmp_path / "a.dcm", np.ones((4, 4), np.int16), RescaleSlope=None, RescaleIntercept=None)
    assert any("without RescaleIntercept" in w for w in read_volume(path).warnings)
