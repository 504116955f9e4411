"""Windows: what a CT network sees. A window half a unit off, or channels in another order, changes its scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_windowing
from pydicom.uid import ExplicitVRLittleEndian

from medseg.errors import ModelError
from medseg.model.manifest.steps import Window, WindowRange
from medseg.monitor import Monitor
from medseg.pipeline.preprocess.intensity import apply_intensity

FUNCTIONS = ["CLIP", "LINEAR", "LINEAR_EXACT", "SIGMOID"]


def step(*windows: tuple[float, float], function: str = "CLIP", output: tuple[float, float] = (0.0, 1.0)) -> Window:
    ranges = [WindowRange(level=level, width=width) for level, width in windows]
    return Window(step="window", windows=ranges, function=function, output=output)


def windowed(values: list[float], window: Window) -> np.ndarray:
    array = np.array(values, dtype=np.float32).reshape(1, 1, 1, -1)
    return apply_intensity(window, array, 1, {}, Monitor())[:, 0, 0]


def test_the_three_haemorrhage_windows_in_their_order() -> None:
    """Contract of the haemorrhage networks: brain, subdural, soft tissue as channels 0, 1, 2."""
    hu = [-1000.0, -150.0, -20.0, 0.0, 40.0, 80.0, 180.0, 230.0, 3000.0]
    x = np.array(hu)
    expected = [np.clip(x, 0, 80) / 80, (np.clip(x, -20, 180) + 20) / 200, (np.clip(x, -150, 230) + 150) / 380]
    assert np.allclose(windowed(hu, step((40, 80), (80, 200), (40, 380))), expected, atol=1e-7)


def test_linear_on_the_standards_own_numbers() -> None:
    """PS3.3 C.11.2.1.2.1, note: centre 2048 and width 4096 takes 0..4095 to the full range; centre 0 and width 100
    with output 0..255 is black up to -50 and white above 49."""
    assert np.allclose(windowed([0, 4095], step((2048, 4096), function="LINEAR", output=(0, 255))), [[0, 255]])
    y = windowed([-51, -50, 0, 49, 50], step((0, 100), function="LINEAR", output=(0, 255)))[0]
    assert np.allclose(y, [0, 0, ((0 + 0.5) / 99 + 0.5) * 255, 255, 255], atol=1e-4)


def test_linear_of_width_1_is_a_threshold_half_a_unit_below_the_centre() -> None:
    assert windowed([9, 9.5, 9.6, 10], step((10, 1), function="LINEAR"))[0].tolist() == [0, 0, 1, 1]


def test_linear_exact_and_sigmoid_on_hand_numbers() -> None:
    assert np.allclose(windowed([-10, 0, 20, 40, 60], step((20, 40), function="LINEAR_EXACT")), [[0, 0, 0.5, 1, 1]])
    y = windowed([20, 30, -1e6, 1e6], step((20, 40), function="SIGMOID", output=(-1, 3)))[0]
    assert np.allclose(y, [1, 4 / (1 + np.exp(-1)) - 1, -1, 3], atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_same_numbers_as_pydicom(function: str) -> None:
    """An independent implementation of the standard agrees over the whole 12-bit range."""
    stored = np.arange(4096, dtype=np.uint16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 12, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 1040, 381, function
    expected = apply_windowing(stored, dataset)
    ours = windowed(stored.tolist(), step((1040, 381), function=function, output=(0, 4095)))[0]
    assert np.allclose(ours, expected, atol=1e-2)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(st.floats(-1000, 1000), st.floats(1, 4000), st.lists(st.floats(-5000, 5000, width=32), min_size=2, max_size=20))
def test_every_function_rises_within_its_output(function: str, level: float, width: float, values: list[float]) -> None:
    """Never NaN, never outside the range, brighter stays brighter."""
    y = windowed(sorted(values), step((level, width), function=function, output=(-1, 1)))[0]
    assert np.isfinite(y).all() and y.min() >= -1 and y.max() <= 1
    assert (np.diff(y) >= -1e-6).all()


def test_each_input_channel_gives_all_windows() -> None:
    array = np.stack([np.full((2, 3, 4), 10.0), np.full((2, 3, 4), 30.0)]).astype(np.int16)
    out = apply_intensity(step((20, 40), (30, 40)), array, 1, {}, Monitor())
    assert out.shape == (4, 2, 3, 4) and out.dtype == np.float32
    assert out[:, 0, 0, 0].tolist() == [0.25, 0.0, 0.75, 0.5]


def test_a_width_that_the_standard_forbids_is_refused_with_the_numbers() -> None:
    with pytest.raises(ModelError, match=r"width 0\.5 .* LINEAR.*at least 1"):
        windowed([0, 1], step((20, 0.5), function="LINEAR"))
    assert windowed([19.75], step((20, 0.5), function="LINEAR_EXACT"))[0, 0] == 0
