"""NRRD, MetaImage and pictures, and every way in which a file can be no image: the user must learn which and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.errors import InputError
from medseg.io import read_volume
from medseg.monitor import Monitor
from support.io_samples import write_nifti

COUNT = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5)


def itk_image(array: np.ndarray, **kwargs: bool) -> sitk.Image:
    image = sitk.GetImageFromArray(array, **kwargs)
    c, s = np.cos(0.3), np.sin(0.3)
    image.SetSpacing((0.5, 2, 3))
    image.SetOrigin((4, 5, -6))
    image.SetDirection((0, c, -s, 0, s, c, -1, 0, 0))  # permuted, oblique, left-handed
    return image


def nrrd(path: Path, fields: str, array: np.ndarray = COUNT) -> Path:
    path.write_bytes(f"NRRD0005\ntype: short\n{fields}encoding: raw\nendian: little\n\n".encode() + array.tobytes())
    return path


@pytest.mark.parametrize("extension", ["nrrd", "nhdr", "mha", "mhd", "nii.gz"])
@pytest.mark.parametrize("compressed", [False, True])
def test_geometry_and_values_survive(tmp_path, extension, compressed):
    image = itk_image(COUNT)
    sitk.WriteImage(image, str(tmp_path / f"v.{extension}"), compressed)
    volume = read_volume(tmp_path / f"v.{extension}")
    assert np.array_equal(volume.array, COUNT) and volume.array.dtype == np.int16
    for index in ((0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6)):
        assert np.allclose(volume.grid.to_physical(index), image.TransformIndexToPhysicalPoint(index), atol=1e-4)
    assert volume.warnings == ()


def test_ras_space_and_list_axes_of_nrrd(tmp_path):
    size = "sizes: 5 6 7\n"
    ras = nrrd(tmp_path / "ras.nrrd", "dimension: 3\n" + size + "space: right-anterior-superior\n"
               "space directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (1,2,3)\n")  # fmt: skip
    assert read_volume(ras).grid.orientation == "RAS" and read_volume(ras).grid.origin == (-1, -2, 3)
    frames = np.stack([COUNT, COUNT + 1000], axis=-1)
    fields = (
        "dimension: 4\nsizes: 2 5 6 7\nkinds: list domain domain domain\n"
        "space: left-posterior-superior\nspace directions: none (1,0,0) (0,2,0) (0,0,3)\n"
    )
    listed = nrrd(tmp_path / "list.nrrd", fields, frames)
    assert np.array_equal(read_volume(listed).array, frames)
    with pytest.raises(InputError, match=r"list\.nrrd has 2 values per voxel"):
        read_volume(listed).require_scalar()
    bare = read_volume(nrrd(tmp_path / "bare.nrrd", "dimension: 3\n" + size + "spacings: 1 2 3\n"))
    assert bare.grid.spacing == (1, 2, 3) and any("does not say how it lies" in w for w in bare.warnings)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed"])
def test_a_nrrd_space_that_is_not_the_patients_is_told(tmp_path, space):
    """ITK takes any other space for LPS without a word; left and right may be exchanged."""
    fields = f"dimension: 3\nsizes: 5 6 7\nspace: {space}\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    volume = read_volume(nrrd(tmp_path / "room.nrrd", fields))
    assert any(f"space field: {space}" in w for w in volume.warnings)


def test_4d_metaimage_and_a_sheared_direction(tmp_path):
    four = sitk.JoinSeries([itk_image(COUNT), itk_image(COUNT + 500)])
    sitk.WriteImage(four, str(tmp_path / "4d.mha"))
    volume = read_volume(tmp_path / "4d.mha")
    assert volume.array.shape == (7, 6, 5, 2) and np.array_equal(volume.array[..., 1], COUNT + 500)
    sheared = sitk.GetImageFromArray(COUNT)
    sheared.SetDirection((1, 0, 0, 0, 1, 0.3, 0, 0, 1))
    sheared.SetSpacing((1, 2, 3))
    sitk.WriteImage(sheared, str(tmp_path / "sheared.mha"))
    grid = read_volume(tmp_path / "sheared.mha").grid
    assert np.allclose(grid.to_physical((1, 2, 3)), sheared.TransformIndexToPhysicalPoint((1, 2, 3)))
    assert grid.spacing[2] == pytest.approx(3 * np.hypot(1, 0.3)), "the spacing is the distance between voxel centres"


@pytest.mark.real_data
def test_the_real_nrrd_with_a_flipped_axis(shared: Path):
    path = shared / "images" / "brain-nrrd" / "brain1_image.nrrd"
    volume = read_volume(path)
    assert volume.grid.orientation == "LAS" and volume.array.shape == (25, 256, 256)


# -- pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "tiff", "jpeg"])
def test_a_grey_picture_is_one_upright_frontal_slice(tmp_path, extension):
    """Columns to the patient's Left, rows to Inferior: a coronal view shows the film upright and unmirrored."""
    picture = np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / f"film.{extension}"))
    volume = read_volume(tmp_path / f"film.{extension}")
    assert volume.array.shape == (1, 16, 24) and volume.array.dtype == np.uint8 and volume.modality is None
    assert np.abs(volume.array[0].astype(int) - picture).max() <= (3 if extension.startswith("j") else 0)
    assert volume.grid.orientation == "LIP" and np.linalg.det(volume.grid.direction) == pytest.approx(1)
    assert volume.grid.axis_of("coronal") == 2 and volume.grid.spacing == (1, 1, 1)
    assert any("1 mm was assumed" in w for w in volume.warnings)


def test_grey_rgb_becomes_scalar_and_true_colour_does_not(tmp_path):
    grey = np.repeat(np.arange(48, dtype=np.uint8).reshape(6, 8, 1), 3, axis=2)
    sitk.WriteImage(sitk.GetImageFromArray(grey, isVector=True), str(tmp_path / "grey.png"))
    assert np.array_equal(read_volume(tmp_path / "grey.png").array, grey[np.newaxis, ..., 0])
    colour = grey.copy()
    colour[..., 0] = 200
    sitk.WriteImage(sitk.GetImageFromArray(colour, isVector=True), str(tmp_path / "colour.png"))
    with pytest.raises(InputError, match=r"colour\.png has 3 values per voxel"):
        read_volume(tmp_path / "colour.png").require_scalar()
    alpha = np.concatenate([grey, np.arange(48, dtype=np.uint8).reshape(6, 8, 1)], axis=2)
    sitk.WriteImage(sitk.GetImageFromArray(alpha, isVector=True), str(tmp_path / "alpha.png"))
    volume = read_volume(tmp_path / "alpha.png")
    assert volume.array.ndim == 3 and any("transparency" in w for w in volume.warnings)


def test_sixteen_bit_pictures_keep_their_values_and_say_so(tmp_path):
    picture = (np.arange(48, dtype=np.uint16) * 1000).reshape(6, 8)
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / "deep.png"))
    volume = read_volume(tmp_path / "deep.png")
    assert np.array_equal(volume.array[0], picture) and any("0 to 255" in w for w in volume.warnings)


def test_several_pages_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(COUNT.astype(np.uint8)), str(tmp_path / "pages.tif"))
    with pytest.raises(InputError, match=r"pages\.tif has several pages"):
        read_volume(tmp_path / "pages.tif")


# -- no image -------------------------------------------------------------------------------------------------

EXTENSIONS = ["nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd", "png", "jpg", "tif", "dcm", "xyz"]


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"This is a letter and no image.\n" * 40, "not an image|is not|cannot be read"),
        (b"PK\x03\x04" + b"\0" * 900, "zip archive"),
    ],
    ids=["empty", "text", "zip"],
)
def test_what_is_no_image_is_named_and_explained(tmp_path, capfd, extension, content, message):
    path = tmp_path / f"thing.{extension}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_volume(path)
    text = str(caught.value)
    assert path.name in text and "itk" not in text.lower() and "\n" not in text
    captured = capfd.readouterr()
    assert "itk" not in captured.err.lower(), "ITK's own text belongs in the log"


@pytest.mark.parametrize("extension", ["nrrd", "mha", "nhdr", "mhd", "png", "jpg", "tif"])
def test_a_truncated_file_is_refused(tmp_path, extension):
    rng = np.random.default_rng(0)
    flat = extension in ("png", "jpg", "tif")
    array = rng.integers(0, 255, (40, 50) if flat else (7, 40, 50)).astype(np.uint8)
    path = tmp_path / f"cut.{extension}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), False)
    data = path.with_suffix(".raw") if extension in ("nhdr", "mhd") else path
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"cut\.{extension}"):
        read_volume(path)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("zero.mha", "ElementSpacing = 0 1 1\n", "spacing that is zero"),
        ("nan.mha", "ElementSpacing = nan 1 1\n", "spacing that is zero or not a number"),
        ("singular.mha", "TransformMatrix = 1 0 0 1 0 0 0 0 1\n", "singular direction"),
    ],
)
def test_geometry_that_cannot_be_is_refused(tmp_path, name, fields, message):
    head = "ObjectType = Image\nNDims = 3\nBinaryData = True\n" + fields
    path = tmp_path / name
    path.write_bytes(
        f"{head}DimSize = 5 6 7\nElementType = MET_SHORT\nElementDataFile = LOCAL\n".encode() + COUNT.tobytes()
    )
    with pytest.raises(InputError, match=rf"{name} has a .*{message}"):
        read_volume(path)


def test_a_missing_file_and_a_folder_without_images(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.nii: there is no such file"):
        read_volume(tmp_path / "nowhere.nii")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no DICOM images"):
        read_volume(tmp_path / "empty")


def test_a_file_without_permission_is_explained(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "locked.nii", COUNT)
    refuse = lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))  # noqa: E731
    monkeypatch.setattr(Path, "open", refuse)  # root may read anything, so chmod proves nothing
    with pytest.raises(InputError, match=r"locked\.nii may not be read by you"):
        read_volume(path)


def test_a_series_cannot_be_chosen_in_a_file_that_is_not_dicom(tmp_path):
    with pytest.raises(InputError, match="no series can be chosen"):
        read_volume(write_nifti(tmp_path / "a.nii", COUNT), series="3")


def test_the_cause_is_kept_for_the_log_and_warnings_reach_the_monitor(tmp_path):
    path = tmp_path / "broken.nrrd"
    path.write_bytes(b"NRRD0005\ntype: short\ndimension: 3\nsizes: 2 2 2\nencoding: gzip\n\n" + b"not gzip" * 4)
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert isinstance(caught.value.__cause__, RuntimeError)
    monitor = Monitor()
    volume = read_volume(write_nifti(tmp_path / "none.nii", COUNT), monitor=monitor)
    assert tuple(monitor.warnings) == volume.warnings != ()
