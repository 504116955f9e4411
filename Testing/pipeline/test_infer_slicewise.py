"""Slice-wise networks: which slice is fed, how batches are cut, how neighbours and several inputs become tensors."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from medseg.errors import Cancelled, DeviceError, ModelError
from medseg.monitor import Monitor
from medseg.pipeline.infer import infer, slice_batch
from support.tiny_networks import LocalSession, convolution, manifest, model, prepared

RNG = np.random.default_rng(7)
PLAN = {"mode": "slicewise", "plane": "axial", "batch": 4}
# Two logits: background 0, class 1 is x.
SIGN = np.array([0.0, 1.0]).reshape(2, 1, 1, 1)


def volume(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("plane", "orientation", "axis"),
    [
        ("axial", "LPS", 1),
        ("coronal", "LPS", 2),
        ("sagittal", "LPS", 3),
        ("axial", "SLP", 3),
        ("axial", "LSA", 2),
        ("acquisition", "SLP", 1),
    ],
)
def test_slices_are_cut_along_the_anatomical_axis_and_put_back_in_place(plane, orientation, axis):
    """Else a network trained on axial slices is fed sagittal ones when the file's axes are stored in another order."""
    array = volume(1, 5, 6, 7)
    session = LocalSession(convolution(SIGN))
    maps = infer(manifest(PLAN | {"plane": plane}, {}), prepared(array, plane, orientation), session, Monitor())
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)
    expected = np.moveaxis(array[0], axis - 1, 0)
    np.testing.assert_array_equal(np.concatenate([c["x"][:, 0] for c in session.calls]), expected)
    np.testing.assert_allclose(maps.probability(1), 1 / (1 + np.exp(-array[0])), atol=1e-5)
    assert maps.probability(1).dtype == np.float32


def test_last_batch_is_smaller_and_progress_reaches_the_end():
    seen = []
    session = LocalSession(convolution(SIGN))
    infer(manifest(PLAN, {}), prepared(volume(1, 10, 4, 4)), session, Monitor(seen.append))
    assert [len(c["x"]) for c in session.calls] == [4, 4, 2]
    assert "slice 10 of 10" in seen[-1].text


def test_static_batch_is_filled_up_and_the_filling_is_cut_off():
    """Models exported with a fixed batch would refuse the last slices of most volumes."""
    array = volume(1, 5, 4, 4)
    session = LocalSession(convolution(SIGN, shape=(3, 1, 4, 4)))
    maps = infer(manifest(PLAN, {}), prepared(array), session, Monitor(), batch=2)
    assert [len(c["x"]) for c in session.calls] == [3, 3]
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)


def test_neighbours_become_channels_and_edge_slices_repeat():
    array = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1) + np.zeros((2, 1, 2, 2), np.float32)
    array[1] += 10
    batch = slice_batch(prepared(array), [0, 3], 1)
    assert batch.shape == (2, 3, 2, 2, 2)
    # Offset slowest: all channels of the slice before, of the slice, of the slice after.
    np.testing.assert_array_equal(batch.reshape(2, 6, 2, 2)[:, :, 0, 0], [[0, 10, 0, 10, 1, 11], [2, 12, 3, 13, 3, 13]])


def test_two_and_a_half_d_network_sees_its_neighbours():
    """A network that answers with the slice above must give the volume shifted by one slice."""
    weight = np.zeros((2, 3, 1, 1))
    weight[1, 2] = 1
    array = volume(1, 6, 3, 3)
    session = LocalSession(convolution(weight))
    maps = infer(manifest(PLAN | {"neighbours": 1}, {}), prepared(array), session, Monitor())
    np.testing.assert_array_equal(maps.labels(), np.concatenate([array[0, 1:], array[0, -1:]]) > 0)


def test_each_input_gets_its_own_channels():
    """A two-input model whose channels are mixed up gives a plausible but wrong segmentation."""
    proto = model(
        [
            helper.make_node("Transpose", ["b"], ["bt"], perm=[0, 3, 1, 2]),
            helper.make_node("Sub", ["bt", "a"], ["d"]),
            helper.make_node("Sigmoid", ["d"], ["y"]),
        ],
        {"a": (None, 1, None, None), "b": (None, None, None, 1)},
        ["y"],
    )
    array = volume(2, 3, 4, 5)
    inputs = [
        {"name": "a", "layout": "NCHW", "channels": [1]},
        {"name": "b", "layout": "NHWC", "channels": [0]},
    ]
    data = manifest(
        PLAN, {"activation": "sigmoid", "logits": False},
        channels=[{"name": "one"}, {"name": "two"}], inputs=inputs,
    )  # fmt: skip
    maps = infer(data, prepared(array), LocalSession(proto), Monitor())
    np.testing.assert_array_equal(maps.mask(0), array[0] > array[1])


def test_uint8_inputs_are_rounded_and_clipped():
    """A cast without clipping wraps 256 to 0: white becomes black."""
    proto = model(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)], {"x": (None, None, None)}, ["y"],
        dtype=TensorProto.UINT8,
    )  # fmt: skip
    array = np.array([-3, 0.4, 1.6, 254.9, 255, 300], np.float32).reshape(1, 1, 2, 3)
    data = manifest(
        PLAN, {"activation": "labels", "layout": "NHW"},
        inputs=[{"name": "x", "layout": "NHW", "dtype": "uint8"}],
    )  # fmt: skip
    maps = infer(data, prepared(array), LocalSession(proto), Monitor())
    assert maps.labels().ravel().tolist() == [0, 0, 2, 255, 255, 255]
    assert maps.labels().dtype == np.uint8


def test_classification_gives_one_row_a_slice():
    """Scores per slice, in order, from a network with a channels-last input and sigmoid logits."""
    proto = model(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["m", "w"], ["y"]),
        ],
        {"x": (None, 4, 4, 1)},
        ["y"],
        {"w": np.array([[1.0, -2.0]], np.float32)},
    )
    array = volume(1, 7, 4, 4)
    data = manifest(
        PLAN, {"activation": "sigmoid", "layout": "NC"}, 2, task="classification",
        inputs=[{"name": "x", "layout": "NHWC"}],
    )  # fmt: skip
    scores = infer(data, prepared(array), LocalSession(proto), Monitor())
    mean = array[0].mean(axis=(1, 2))
    assert scores.array.dtype == np.float32
    np.testing.assert_allclose(scores.array, 1 / (1 + np.exp(-np.stack([mean, -2 * mean], 1))), atol=1e-6)


def test_out_of_memory_halves_the_batch_then_goes_to_the_cpu_and_says_so():
    """The user gets the same labels and is told why it was slow."""
    array = volume(1, 9, 4, 4)
    session = LocalSession(
        convolution(SIGN), provider="CUDAExecutionProvider", full=lambda feeds, p: p.startswith("CUDA")
    )
    monitor = Monitor()
    maps = infer(manifest(PLAN, {}), prepared(array), session, monitor, batch=4)
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)
    assert [w.split(";")[0].split("suffice for ")[1] for w in monitor.warnings] == [
        "a batch of 4",
        "a batch of 2",
        "one slice",
    ]
    assert session.provider == "CPUExecutionProvider"


def test_smaller_batch_is_enough_where_it_fits():
    array = volume(1, 9, 4, 4)
    session = LocalSession(convolution(SIGN), provider="CUDAExecutionProvider", full=lambda f, p: len(f["x"]) > 2)
    monitor = Monitor()
    maps = infer(manifest(PLAN, {}), prepared(array), session, monitor, batch=8)
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)
    assert session.provider == "CUDAExecutionProvider" and len(monitor.warnings) == 2
    assert maps.details["batch"] == 2


def test_out_of_memory_on_the_cpu_ends_with_an_error_and_not_in_a_loop():
    session = LocalSession(convolution(SIGN), full=lambda feeds, p: True)
    with pytest.raises(DeviceError, match="memory did not suffice"):
        infer(manifest(PLAN, {}), prepared(volume(1, 3, 4, 4)), session, Monitor())


def test_cancel_stops_between_network_calls():
    monitor = Monitor()
    session = LocalSession(convolution(SIGN), full=lambda feeds, p: monitor.cancel() or False)
    with pytest.raises(Cancelled):
        infer(manifest(PLAN, {}), prepared(volume(1, 30, 4, 4)), session, monitor)
    assert len(session.calls) == 1


@pytest.mark.parametrize(
    ("shape", "told"), [((None, 1, 8, 8), r"\[\?, 1, 8, 8\].*\[3, 1, 4, 4\]"), ((None, 3, None, None), r"\[\?, 3")]
)
def test_inputs_that_do_not_fit_name_both_shapes(shape, told):
    weight = np.ones((2, shape[1], 1, 1))
    with pytest.raises(ModelError, match=told):
        infer(
            manifest(PLAN, {}), prepared(volume(1, 3, 4, 4)), LocalSession(convolution(weight, shape=shape)), Monitor()
        )


def test_slices_of_any_size_are_padded_for_networks_that_halve_their_input():
    """Else a 2D U-Net refuses every image whose sides are not multiples of 8."""
    array = volume(1, 3, 13, 10)
    session = LocalSession(convolution(SIGN))
    maps = infer(manifest(PLAN | {"multiple_of": 8}, {}), prepared(array), session, Monitor())
    assert session.calls[0]["x"].shape == (3, 1, 16, 16)
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)
