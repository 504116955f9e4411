"""4D images: which times, echoes or b-values there are, and one of them chosen. Else they could only be refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.freesurfer import MGHImage
from scipy.spatial.transform import Rotation
from test_io_dicom import straight, write_series

from medseg.errors import InputError
from medseg.io import read_volume

BLOCK = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)  # (i, j, k) as nibabel has it
FRAMES = np.stack([BLOCK, BLOCK + 1000, BLOCK + 2000], axis=-1)


def nifti_4d(folder: Path) -> Path:
    image = nibabel.Nifti1Image(FRAMES, np.diag([2.0, 2, 3, 1]))
    image.header["pixdim"][4] = 2.5
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, folder / "bold.nii.gz")
    return folder / "bold.nii.gz"


def test_a_nifti_says_the_time_of_each_frame(tmp_path: Path) -> None:
    path = nifti_4d(tmp_path)
    assert read_volume(path).frames == ("at 0 s", "at 2.5 s", "at 5 s")
    second = read_volume(path, frame=2)
    assert np.array_equal(second.array, (BLOCK + 1000).T) and second.frames == () and "2.5 s" in second.name
    second.require_scalar()


@pytest.mark.parametrize("frame", [0, 4])
def test_a_frame_that_is_not_there_is_refused_with_what_there_is(tmp_path: Path, frame: int) -> None:
    with pytest.raises(InputError, match=rf"bold\.nii\.gz has no frame {frame}; it has:\n  1: at 0 s\n"):
        read_volume(nifti_4d(tmp_path), frame=frame)


def test_an_image_of_one_frame_has_the_frame_1_only(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(BLOCK, np.eye(4)), tmp_path / "a.nii")
    assert np.array_equal(read_volume(tmp_path / "a.nii", frame=1).array, BLOCK.T)
    with pytest.raises(InputError, match="has no frames"):
        read_volume(tmp_path / "a.nii", frame=2)


def test_a_4d_nrrd_has_frames_and_a_vector_has_none(tmp_path: Path) -> None:
    series = sitk.JoinSeries([sitk.GetImageFromArray(BLOCK + 1000 * n) for n in range(3)])
    sitk.WriteImage(series, str(tmp_path / "time.nrrd"))
    assert len(read_volume(tmp_path / "time.nrrd").frames) == 3
    assert np.array_equal(read_volume(tmp_path / "time.nrrd", frame=3).array, BLOCK + 2000)
    vector = sitk.GetImageFromArray(FRAMES.T.copy().swapaxes(0, 3).copy(), isVector=True)
    sitk.WriteImage(vector, str(tmp_path / "vector.nrrd"))
    assert read_volume(tmp_path / "vector.nrrd").frames == ()


def test_a_diffusion_nrrd_says_its_b_values(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.stack([BLOCK, BLOCK + 1], axis=-1), isVector=True)
    image.SetMetaData("DWMRI_b-value", "1000")
    image.SetMetaData("DWMRI_gradient_0000", "0 0 0")
    image.SetMetaData("DWMRI_gradient_0001", "1 0 0")
    sitk.WriteImage(image, str(tmp_path / "dwi.nrrd"))
    assert read_volume(tmp_path / "dwi.nrrd").frames == ("b-value 0", "b-value 1000 s/mm2, gradient 1 0 0")
    assert np.array_equal(read_volume(tmp_path / "dwi.nrrd", frame=2).array, BLOCK + 1)


@pytest.mark.parametrize(
    ("keyword", "values", "labels"),
    [
        ("EchoTime", (30, 10), ("echo time 10 ms", "echo time 30 ms")),
        ("TemporalPositionIdentifier", (1, 2), ("time point 1", "time point 2")),
        ("InstanceNumber", (1, 2), ("image 1 of 2 at each position", "image 2 of 2 at each position")),
    ],
)
def test_a_dicom_series_of_several_images_at_each_position(tmp_path, keyword, values, labels) -> None:
    for n, value in enumerate(values):
        pixels = [np.full((6, 5), 100 * value + k, np.int16) for k in range(3)]
        write_series(tmp_path / str(n), straight(3), uid="1.7", values=pixels, **{keyword: value})
    volume = read_volume(tmp_path)
    assert volume.frames == labels and volume.array.shape == (3, 6, 5, 2)
    for number, value in enumerate(sorted(values), start=1):
        one = read_volume(tmp_path, frame=number)
        assert labels[number - 1] in one.name and np.array_equal(one.array, volume.array[..., number - 1])
        assert one.array[:, 0, 0].tolist() == [100 * value, 100 * value + 1, 100 * value + 2]


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.sampled_from([np.uint8, np.int16, np.int32, np.float32]),
    st.sampled_from([".mgz", ".mgh"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_freesurfer_files_lie_where_nibabel_says(tmp_path_factory, seed, spacing, dtype, suffix) -> None:
    """Any orientation, spacing and oblique direction: a wrong place is a wrong side."""
    rotation = Rotation.random(random_state=seed).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = np.random.default_rng(seed).uniform(-80, 80, 3)
    path = tmp_path_factory.mktemp("mgh") / f"orig{suffix}"
    nibabel.save(MGHImage(BLOCK.astype(dtype), affine), path)
    volume = read_volume(path)
    assert np.array_equal(volume.array, BLOCK.T)
    assert np.allclose(volume.grid.affine_ras, nibabel.load(path).affine, atol=1e-4)


def test_freesurfer_frames_and_damage(tmp_path: Path) -> None:
    nibabel.save(MGHImage(FRAMES, np.eye(4)), tmp_path / "f.mgz")
    assert np.array_equal(read_volume(tmp_path / "f.mgz", frame=2).array, (BLOCK + 1000).T)
    nibabel.save(MGHImage(BLOCK, np.eye(4)), tmp_path / "g.mgh")
    content = (tmp_path / "g.mgh").read_bytes()
    (tmp_path / "g.mgh").write_bytes(content[:400])
    with pytest.raises(InputError, match=r"g\.mgh is truncated"):
        read_volume(tmp_path / "g.mgh")
    (tmp_path / "h.mgz").write_bytes(b"not at all")
    with pytest.raises(InputError, match=r"h\.mgz"):
        read_volume(tmp_path / "h.mgz")
