"""What the model sees, as a volume: in its true place and with the very values that the network gets.

A reader would else judge a model by a picture that the network never saw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from medseg import Grid, Volume, load_model, read_volume
from medseg.cli import app
from medseg.monitor import Monitor
from medseg.phantoms import flair, head_ct, swi
from medseg.pipeline.explain import explain
from medseg.pipeline.network_view import network_view


def test_the_values_are_those_that_the_network_gets() -> None:
    volume = swi(5, microbleeds=2).volume
    view = network_view("cmb-compact", volume)
    (tensor,) = explain("cmb-compact", volume).tensors.values()
    (array,) = view.probabilities.values()
    assert view.layers == () and array.shape == view.grid.shape
    assert np.array_equal(array, tensor.reshape(array.shape))


def test_each_window_of_a_ct_classifier_is_a_channel() -> None:
    volume = head_ct(3).volume
    view = network_view("ich-compact", volume)
    (tensor,) = explain("ich-compact", volume).tensors.values()
    assert len(view.probabilities) == tensor.shape[1] == 3
    for n, array in enumerate(view.probabilities.values()):
        assert np.array_equal(np.sort(array.ravel()), np.sort(tensor[:, n].ravel()))


def test_slices_fitted_on_their_own_are_shown_on_the_images_voxels_and_that_is_told() -> None:
    volume = flair(3).volume
    monitor = Monitor()
    view = network_view("wmh-compact", volume, monitor=monitor)
    assert view.grid.same_as(volume.grid) and any("interpolated" in n for n in view.notes)
    (array,) = view.probabilities.values()
    inside = volume.array > np.percentile(volume.array, 60)
    assert np.corrcoef(array[inside], volume.array[inside])[0, 1] > 0.3


@given(st.integers(0, 2**31), st.tuples(*[st.floats(0.6, 3)] * 3))
@settings(max_examples=15, deadline=None)
def test_a_landmark_keeps_its_place(seed: int, spacing: tuple[float, float, float]) -> None:
    """Oblique directions and any spacing: the brightest spot lies where it lay, within a voxel of either grid."""
    direction = Rotation.random(random_state=seed).as_matrix()
    grid = Grid((40, 36, 30), spacing, (10.0, -20.0, 5.0), direction)
    random = np.random.default_rng(seed)
    spot = random.integers(8, 22, 3)
    index = np.indices(grid.shape)[::-1]
    distance = sum(((index[n] - spot[n]) * spacing[n]) ** 2 for n in range(3))
    array = (1000 * np.exp(-distance / (2 * 6.0**2))).astype(np.float32) + random.normal(0, 1, grid.shape)
    view = network_view("cmb-compact", Volume(array.astype(np.float32), grid, "MR", "scan"))
    (seen,) = view.probabilities.values()
    k, j, i = np.unravel_index(int(np.argmax(seen)), seen.shape)
    apart = view.grid.to_physical(np.array([i, j, k])) - grid.to_physical(spot)
    assert np.linalg.norm(apart) <= np.linalg.norm(view.grid.spacing) + np.linalg.norm(spacing)


def test_the_command_writes_it_as_an_image(tmp_path: Path) -> None:
    volume = swi(5, microbleeds=2).volume
    image = sitk.GetImageFromArray(volume.array)
    volume.grid.place(image)
    sitk.WriteImage(image, str(tmp_path / "swi.nrrd"))
    done = CliRunner().invoke(
        app, ["explain", "cmb-compact", str(tmp_path / "swi.nrrd"), "--volume", str(tmp_path / "seen.nrrd")]
    )
    assert done.exit_code == 0, done.output
    (array,) = network_view(load_model("cmb-compact"), read_volume(tmp_path / "swi.nrrd")).probabilities.values()
    assert np.array_equal(read_volume(tmp_path / "seen.nrrd").array, array)
    wrong = CliRunner().invoke(app, ["explain", "cmb-compact", str(tmp_path / "swi.nrrd"), "--volume", "seen.txt"])
    assert wrong.exit_code == 2 and "seen.txt" in wrong.stderr


@pytest.mark.real_data
def test_a_real_flair_is_shown_as_the_published_chain_prepares_it(shared: Path) -> None:
    view = network_view("wmh-compact", read_volume(shared / "images" / "wmh" / "105074" / "flair.nii.gz"))
    (array,) = view.probabilities.values()
    assert array.shape == (20, 256, 256) and array.std() > 0.1
