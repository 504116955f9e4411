"""A NIfTI file at the wrong place, or half read, gives a segmentation that looks right and is wrong."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.io import read_volume
from support.io_samples import write_nifti

COUNT = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5)
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.eye(3)
        a, b = [n for n in range(3) if n != axis]
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        matrix = matrix @ turn
    return matrix


def affine(
    directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]
) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = directions * np.array(spacing)
    matrix[:3, 3] = origin
    return matrix


angles = st.tuples(*[st.floats(-3, 3)] * 3)
spacings = st.tuples(*[st.floats(0.2, 9)] * 3)
origins = st.tuples(*[st.floats(-300, 300)] * 3)


@settings(max_examples=40, deadline=None)
@given(angles, spacings, origins, st.tuples(*[st.sampled_from([-1, 1])] * 3), st.permutations(range(3)))
def test_any_sform_gives_every_voxel_its_true_position(tmp_path_factory, angle, spacing, origin, flips, order):
    """Oblique, left-handed, flipped, permuted, anisotropic: compared with the header's own matrix."""
    matrix = affine((rotation(angle) * np.array(flips))[:, list(order)], spacing, origin)
    path = tmp_path_factory.getbasetemp() / "sform.nii"
    write_nifti(path, COUNT, sform=matrix, sform_code=1, pixdim=(1, *spacing))
    volume = read_volume(path)
    assert np.allclose(volume.grid.affine, TO_LPS @ matrix, atol=1e-3)
    assert np.array_equal(volume.array, COUNT)


@settings(max_examples=25, deadline=None)
@given(angles, spacings, origins, st.sampled_from([-1, 1]))
def test_qform_agrees_with_itk(tmp_path_factory, angle, spacing, origin, qfac):
    """The quaternion formula is checked against ITK's own reading of the same file."""
    turn = rotation(angle)
    w = np.sqrt(max(0.0, 1 + np.trace(turn))) / 2
    if w < 0.05:
        return
    b, c, d = (
        (turn[2, 1] - turn[1, 2]) / (4 * w),
        (turn[0, 2] - turn[2, 0]) / (4 * w),
        (turn[1, 0] - turn[0, 1]) / (4 * w),
    )
    path = tmp_path_factory.getbasetemp() / "qform.nii"
    write_nifti(path, COUNT, qform_code=1, quaternion=(b, c, d), shift=origin, pixdim=(qfac, *spacing))
    image = sitk.ReadImage(str(path))
    corners = [(0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (4, 5, 6)]
    expected = [image.TransformIndexToPhysicalPoint(corner) for corner in corners]
    assert np.allclose(read_volume(path).grid.to_physical(corners), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("sform_code", "qform_code", "used"),
    [
        (1, 0, "sform"),
        (2, 0, "sform"),
        (4, 0, "sform"),
        (1, 1, "sform"),
        (2, 1, "qform"),
        (4, 2, "qform"),
        (0, 1, "qform"),
    ],
)
def test_the_matrix_that_slicer_uses_is_used_and_a_difference_is_told(tmp_path, sform_code, qform_code, used):
    """Slicer and the command line must put one file at one place."""
    sform = affine(np.eye(3), (1, 2, 3), (11, 22, 33))
    path = tmp_path / "both.nii.gz"
    write_nifti(path, COUNT, sform=sform, sform_code=sform_code, qform_code=qform_code, shift=(8, 22, 29))
    volume = read_volume(path)
    expected = {"sform": (-11, -22, 33), "qform": (-8, -22, 29)}[used]
    assert np.allclose(volume.grid.origin, expected)
    assert np.allclose(volume.grid.origin, sitk.ReadImage(str(path)).GetOrigin())
    if sform_code and qform_code:
        assert any("5.00 mm" in w and f"the {used} was used" in w for w in volume.warnings)
    else:
        assert volume.warnings == ()


def test_a_sheared_sform_keeps_its_positions_and_is_told(tmp_path):
    """ITK refuses the file; its voxels have a position all the same."""
    matrix = affine(np.eye(3), (2, 2, 3), (1, 2, 3))
    matrix[1, 2] = 0.8
    path = write_nifti(tmp_path / "sheared.nii", COUNT, sform=matrix, sform_code=1, pixdim=(1, 2, 2, 3.1))
    volume = read_volume(path)
    assert np.allclose(volume.grid.affine, TO_LPS @ matrix, atol=1e-5)
    assert any("not at right angles (off by 14.93 degrees)" in w for w in volume.warnings)


def test_the_sforms_own_spacing_is_used_where_pixdim_differs(tmp_path):
    matrix = affine(np.eye(3), (2, 2, 3), (0, 0, 0))
    volume = read_volume(write_nifti(tmp_path / "pixdim.nii", COUNT, sform=matrix, sform_code=1, pixdim=(1, 1, 2, 3)))
    assert volume.grid.spacing == (2, 2, 3)
    assert any("pixdim (1 x 2 x 3 mm) is not the spacing of its sform (2 x 2 x 3 mm)" in w for w in volume.warnings)


def test_no_orientation_is_an_assumption_and_told(tmp_path):
    volume = read_volume(write_nifti(tmp_path / "none.nii", COUNT))
    assert volume.grid.spacing == (1, 2, 3)
    assert any("does not say how it lies" in w for w in volume.warnings)


def test_metres_become_millimetres(tmp_path):
    path = write_nifti(
        tmp_path / "m.nii", COUNT, qform_code=1, pixdim=(1, 0.001, 0.002, 0.003), shift=(0.1, 0, 0), units=1
    )
    volume = read_volume(path)
    assert np.allclose(volume.grid.spacing, (1, 2, 3)) and np.allclose(volume.grid.origin, (-100, 0, 0))
    assert any("metres" in w for w in volume.warnings)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype", "values"),
    [
        (1, 0, np.int16, COUNT),
        (0, 5, np.int16, COUNT),
        (1, -1024, np.int16, COUNT.astype(int) - 1024),
        (0.5, 3, np.float32, COUNT * 0.5 + 3),
    ],
)
def test_scale_is_honoured_and_integers_stay_integers(tmp_path, slope, intercept, dtype, values):
    volume = read_volume(write_nifti(tmp_path / "s.nii", COUNT, qform_code=1, slope=slope, intercept=intercept))
    assert volume.array.dtype == dtype and np.array_equal(volume.array, values)


@pytest.mark.parametrize(("slope", "intercept"), [(2.0**70, 0), (1, -(2.0**40)), (1, 2.0**63)])
def test_a_scale_beyond_the_integers_is_honoured_as_well(tmp_path, slope, intercept):
    volume = read_volume(write_nifti(tmp_path / "s.nii", COUNT // 1000, qform_code=1, slope=slope, intercept=intercept))
    assert np.allclose(volume.array, intercept)
    far = np.full((2, 2, 2), int(abs(intercept)) if abs(intercept) < 2**31 else 5, np.int32)
    volume = read_volume(write_nifti(tmp_path / "t.nii", far, qform_code=1, slope=slope, intercept=intercept))
    assert np.allclose(volume.array, far.astype(float) * slope + intercept)


def test_double_becomes_single_unless_it_would_lose_values(tmp_path):
    small = read_volume(write_nifti(tmp_path / "a.nii", COUNT / 3, qform_code=1))
    assert small.array.dtype == np.float32 and small.warnings == ()
    for value, word in ((1e300, "beyond single precision"), (2.0**24 + 1, "whole numbers")):
        array = np.full((2, 2, 2), value)
        volume = read_volume(write_nifti(tmp_path / "b.nii", array, qform_code=1))
        assert np.array_equal(volume.array, array) and any(word in w for w in volume.warnings)


def test_4d_and_5d_become_channels_so_that_the_model_can_refuse_them(tmp_path):
    frames = np.stack([COUNT, COUNT + 1000])
    volume = read_volume(write_nifti(tmp_path / "4d.nii.gz", frames, qform_code=1))
    assert volume.array.shape == (7, 6, 5, 2) and np.array_equal(volume.array[..., 1], COUNT + 1000)
    with pytest.raises(InputError, match=r"2 frames.*--frame"):
        volume.require_scalar()
    five = read_volume(write_nifti(tmp_path / "5d.nii", frames[:, np.newaxis], qform_code=1))
    assert np.array_equal(five.array, volume.array)


def test_2d_is_one_slice(tmp_path):
    volume = read_volume(write_nifti(tmp_path / "2d.nii", COUNT[0], qform_code=1, pixdim=(1, 1, 2, 0)))
    assert volume.array.shape == (1, 6, 5) and volume.grid.spacing == (1, 2, 1)
    assert any("without a thickness" in w for w in volume.warnings)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("cut.nii", {"cut": 100}, "truncated"),
        ("cut.nii.gz", {"cut": 30}, "truncated"),
        ("head.nii", {"cut": 600}, "ends inside its header"),
        ("zero.nii", {"pixdim": (1, 0, 2, 3)}, "zero"),
        (
            "singular.nii",
            {"sform": [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], "sform_code": 1, "qform_code": 0},
            "singular",
        ),
        ("column.nii", {"sform": [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], "sform_code": 1, "qform_code": 0}, "zero"),
        ("nan.nii", {"pixdim": (1, float("nan"), 2, 3)}, "non-finite"),
    ],
)
def test_faulty_files_are_refused_by_name(tmp_path, name, fields, message):
    """ITK reads the truncated ones as if they were whole, and takes 1 mm for zero."""
    path = write_nifti(tmp_path / name, COUNT, **{"qform_code": 1, **fields})
    with pytest.raises(InputError, match=message) as caught:
        read_volume(path)
    assert name in str(caught.value)


def test_a_header_that_asks_for_terabytes_is_refused_before_memory_is_taken(tmp_path):
    data = bytearray(write_nifti(tmp_path / "a.nii", COUNT, qform_code=1).read_bytes())
    data[42:48] = np.array([32767] * 3, dtype="<i2").tobytes()
    (tmp_path / "huge.nii").write_bytes(data)
    with pytest.raises(InputError, match=r"huge\.nii is truncated"):
        read_volume(tmp_path / "huge.nii")


def test_big_endian_and_files_written_by_itk(tmp_path):
    image = sitk.GetImageFromArray(COUNT)
    image.SetSpacing((1, 2, 3))
    image.SetOrigin((4, 5, 6))
    image.SetDirection(rotation((0.1, 0.2, 0.3)).ravel())
    sitk.WriteImage(image, str(tmp_path / "itk.nii.gz"))
    volume = read_volume(tmp_path / "itk.nii.gz")
    assert np.allclose(volume.grid.origin, (4, 5, 6), atol=1e-4)
    assert np.allclose(volume.grid.direction, rotation((0.1, 0.2, 0.3)), atol=1e-5)
    assert np.array_equal(volume.array, COUNT) and volume.warnings == ()


@pytest.mark.parametrize("rest", [0.0, 2e-8, 9e-8, 2e-7, 3e-7, 5e-7, -2e-7])
def test_half_turns_are_those_of_itk(tmp_path, rest):
    """Where rounding ends and a turn begins is ITK's choice; else far slices would be off by 0.1 mm."""
    part = float(np.sqrt((1 - rest) / 2))
    path = write_nifti(tmp_path / "turn.nii", COUNT, qform_code=1, quaternion=(part, part, 0), pixdim=(0, 90, 90, 90))
    image = sitk.ReadImage(str(path))
    expected = [image.TransformIndexToPhysicalPoint(c) for c in ((0, 0, 6), (4, 5, 0))]
    assert np.allclose(read_volume(path).grid.to_physical([(0, 0, 6), (4, 5, 0)]), expected, atol=1e-3)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Header, nibabel.Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("offset", [0, 1008])
def test_both_versions_in_both_byte_orders(tmp_path, capfd, kind, order, offset):
    """Also with header fields that nibabel would mend or complain of on the console."""
    header = kind(endianness=order)
    header.set_data_shape((5, 6, 7))
    header.set_data_dtype(np.int16)
    header.set_sform(affine(rotation((0.1, 0.2, 0.3)), (1, 2, 3), (4, 5, 6)), 1)
    header["pixdim"][:4], header["vox_offset"], header["bitpix"] = (0, 1, 2, 3), offset, 99
    path = tmp_path / "a.nii"
    data = header.binaryblock.ljust(max(offset, header.sizeof_hdr), b"\0") + COUNT.astype(order + "i2").tobytes()
    path.write_bytes(data)
    volume = read_volume(path)
    path.write_bytes(b"\0" * len(data))  # a file that is still mapped could not be replaced on Windows
    assert np.array_equal(volume.array, COUNT) and volume.array.dtype == np.int16 and volume.array.dtype.isnative
    assert np.allclose(volume.grid.affine, TO_LPS @ header.get_sform(), atol=1e-5) and volume.warnings == ()
    assert capfd.readouterr() == ("", "")


def changed(path: Path, at: int, fmt: str, *values: float) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + fmt, data, at, *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("at", "fmt", "values", "message"),
    [
        (344, "4s", [b"ni1\0"], "header of a two-file NIfTI image"),
        (344, "4s", [b"\0\0\0\0"], "is not a NIfTI image"),
        (70, "h", [32], "voxels of NIfTI type 32, not supported"),
        (70, "h", [1], "voxels of NIfTI type 1, not supported"),
        (70, "h", [77], "voxels of NIfTI type 77, not supported"),
        (40, "h", [0], "sizes in its header"),
        (40, "h", [768], "sizes in its header"),
        (44, "h", [-6], "sizes in its header"),
        (108, "f", [np.nan], "truncated or damaged"),
        (108, "f", [np.inf], "truncated or damaged"),
        (108, "f", [1e9], "truncated or damaged"),
    ],
)
def test_a_header_that_cannot_be_is_refused_by_name(tmp_path, at, fmt, values, message):
    path = changed(write_nifti(tmp_path / "odd.nii", COUNT, qform_code=1), at, fmt, *values)
    with pytest.raises(InputError, match=rf"odd\.nii.*{message}"):
        read_volume(path)


def test_a_compressed_file_with_a_changed_byte_is_refused(tmp_path):
    """Stored blocks carry no redundancy: only the checksum at the end shows that a voxel is not what was written."""
    data = bytearray(gzip.compress(write_nifti(tmp_path / "a.nii", COUNT, qform_code=1).read_bytes(), 0))
    data[-50] ^= 64
    (tmp_path / "flip.nii.gz").write_bytes(data)
    with pytest.raises(InputError, match=r"flip\.nii\.gz is truncated or damaged.*checksum"):
        read_volume(tmp_path / "flip.nii.gz")


def test_the_name_does_not_decide_whether_a_file_is_compressed(tmp_path):
    plain = write_nifti(tmp_path / "a.nii", COUNT, qform_code=1).read_bytes()
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    for name in ("plain.nii.gz", "packed.nii"):
        assert np.array_equal(read_volume(tmp_path / name).array, COUNT)


@pytest.mark.parametrize(("code", "samples"), [(128, 3), (2304, 4)])
def test_colours_become_channels_and_are_not_scaled(tmp_path, code, samples):
    colours = np.arange(2 * 3 * 4 * samples, dtype=np.uint8).reshape(2, 3, 4, samples)
    path = write_nifti(tmp_path / "c.nii", colours, qform_code=1, slope=2)
    changed(changed(path, 40, "5h", 3, 4, 3, 2, 1), 70, "h", code)
    assert np.array_equal(read_volume(path).array, colours)
    with pytest.raises(InputError, match="colour image with more than three dimensions"):
        read_volume(changed(path, 40, "5h", 4, 2, 3, 2, 2))


def test_what_is_not_valid_in_a_header_is_told(tmp_path):
    path = write_nifti(tmp_path / "s.nii", COUNT, qform_code=1, slope=2, intercept=np.inf, pixdim=(1, -1, 2, 3))
    volume = read_volume(path)
    assert np.array_equal(volume.array, COUNT)
    assert any("slope 2.0 and intercept inf are not valid" in w for w in volume.warnings)
    assert any("negative voxel size" in w for w in volume.warnings)
    slice_in_metres = write_nifti(tmp_path / "m.nii", COUNT[0], qform_code=1, pixdim=(1, 0.001, 0.002, 0), units=1)
    assert np.allclose(read_volume(slice_in_metres).grid.spacing, (1, 2, 1)), "1 mm is told, so 1 mm it must be"


def test_without_nibabel_nifti_is_read_by_itk_and_told(tmp_path, monkeypatch):
    """A plain 3D Slicer lacks it, and a reader's masks made elsewhere are NIfTI."""
    for name in [n for n in sys.modules if n.split(".")[0] == "nibabel"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "medseg.io.nifti", raising=False)
    monkeypatch.delattr("medseg.io.nifti", raising=False)
    volume = read_volume(write_nifti(tmp_path / "a.nii", COUNT, qform_code=1))
    assert np.array_equal(volume.array, COUNT) and "nibabel is not installed" in volume.warnings[-1]
    (tmp_path / "a.mgh").write_bytes(bytes(400))
    with pytest.raises(InputError, match=r"a\.mgh needs the package nibabel"):
        read_volume(tmp_path / "a.mgh")


@pytest.mark.real_data
def test_the_t1_whose_sform_is_empty_lies_where_its_qform_says(shared: Path):
    """The reference of hippodeep was made with the qform; without it the head would be mirrored or shifted."""
    path = shared / "images" / "t1" / "t1_1.75mm_LAS.nii.gz"
    volume = read_volume(path)
    assert volume.grid.orientation == "LAS"
    assert np.allclose(volume.grid.origin, (-118.4549, 119.7982, -69.4666), atol=1e-3)
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(path))))
