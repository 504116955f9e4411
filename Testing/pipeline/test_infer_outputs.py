"""What becomes of a network's numbers: layouts, quantisation, logits, NaN, thresholds, and how little is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from medseg.errors import ModelError
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.manifest.schema import Tensor
from medseg.monitor import Monitor
from medseg.pipeline.infer import infer, score_maps
from medseg.pipeline.infer.score_maps import ScoreMaps, sigmoid, softmax
from medseg.pipeline.infer.tensors import to_tensor
from medseg.pipeline.preprocess import prepare
from medseg.pipeline.preprocess.way_back import walk_back
from medseg.pipeline.restore import restore
from support.tiny_networks import LocalSession, convolution, manifest, model, prepared

RNG = np.random.default_rng(3)
PLAN = {"mode": "slicewise", "plane": "axial", "batch": 4}
WHOLE = {"mode": "whole"}


def identity(layout: str = "NCHW", channels: int | None = None) -> LocalSession:
    shape = [channels if letter == "C" else None for letter in layout]
    return LocalSession(model([helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, ["y"]))


def run(values: np.ndarray, output: dict, classes: int = 2, keep: str = "probabilities", monitor=None, **changes):
    """Feed ``values`` (C, K, J, I) through a network that changes nothing."""
    return infer(
        manifest(PLAN, output, classes, **changes), prepared(values), identity(), monitor or Monitor(), keep=keep
    )


@pytest.mark.parametrize("keep", ["labels", "probabilities"])
def test_softmax_labels_are_the_argmax_and_ties_go_to_the_first(keep):
    logits = RNG.normal(size=(3, 5, 6, 7)).astype(np.float32)
    logits[:, 0] = 1.0
    maps = run(logits, {}, keep=keep)
    np.testing.assert_array_equal(maps.labels(), logits.argmax(axis=0))
    assert maps.labels().dtype == np.uint8 and maps.channels == 3
    expected = softmax(logits)[2] if keep == "probabilities" else (logits.argmax(axis=0) == 2)
    np.testing.assert_allclose(maps.probability(2), expected, atol=1 / 65535)


@pytest.mark.parametrize("keep", ["labels", "probabilities"])
def test_sigmoid_classes_overlap_and_have_thresholds_of_their_own(keep):
    """Whole tumour and its core are both true at one voxel; ten channels go beyond one byte of bits."""
    logits = RNG.normal(size=(10, 4, 5, 6)).astype(np.float32)
    classes = [{"value": n + 1, "name": str(n), "threshold": 0.2 + 0.05 * n} for n in range(10) if n != 4]
    data = manifest(PLAN, {"activation": "sigmoid"}, 1).model_dump(by_alias=True) | {"classes": classes}
    maps = infer(type(manifest(PLAN, {})).model_validate(data), prepared(logits), identity(), Monitor(), keep=keep)
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for n in range(10):
        threshold = 0.5 if n == 4 else 0.2 + 0.05 * n
        np.testing.assert_array_equal(maps.mask(n), probability[n] > threshold)
        if keep == "probabilities":
            np.testing.assert_allclose(maps.probability(n), probability[n], atol=1e-5)
        else:
            np.testing.assert_array_equal(maps.probability(n), maps.mask(n))
    with pytest.raises(ValueError, match="overlap"):
        maps.labels()


def test_kept_labels_need_a_byte_a_voxel_and_probabilities_two_a_class():
    grid = Grid((64, 64, 64), (1, 1, 1), (0, 0, 0), np.eye(3))
    voxels = 64**3
    fifty = manifest(WHOLE, {}, 49)
    assert ScoreMaps(fifty, grid, 50, "labels").nbytes == voxels
    assert ScoreMaps(fifty, grid, 50, "probabilities").nbytes == voxels * (1 + 2 * 50)
    assert ScoreMaps(manifest(WHOLE, {"activation": "sigmoid"}, 12), grid, 12, "labels").nbytes == 2 * voxels


def test_more_than_255_classes_need_two_bytes():
    values = np.zeros((300, 1, 2, 2), np.float32)
    values[299] = 1
    maps = run(values, {}, 299)
    assert maps.labels().dtype == np.uint16 and (maps.labels() == 299).all()


def test_quantised_outputs_are_dequantised_before_the_activation():
    """(q - 170) * 0.0763 of a uint8 chest X-ray model; without it every score is certain."""
    proto = model(
        [
            helper.make_node("ReduceMax", ["x"], ["m"], axes=[2, 3], keepdims=0),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.UINT8),
        ],
        {"x": (None, 3, None, None)},
        ["y"],
        output_dtype=TensorProto.UINT8,
    )
    q = np.array([160, 190, 168], np.float32).reshape(3, 1, 1, 1) + np.zeros((3, 1, 2, 2), np.float32)
    output = {"layout": "NC", "dequantise": {"scale": 0.0763, "zero_point": 170}}
    data = manifest(PLAN, output, 3, task="classification", channels=[{"name": c} for c in "abc"])
    scores = infer(data, prepared(q), LocalSession(proto), Monitor())
    expected = np.exp((np.array([160, 190, 168]) - 170) * 0.0763)
    np.testing.assert_allclose(scores.array, [expected / expected.sum()], atol=1e-6)


@pytest.mark.parametrize("keep", ["labels", "probabilities"])
@pytest.mark.parametrize("logits", [True, False])
def test_nan_counts_as_probability_zero_and_is_told(logits, keep):
    """A float16 overflow must not become a lesion, nor be silent."""
    values = np.full((3, 2, 2, 2), 0.2, np.float32)
    values[2] = 0.6
    values[2, 0, 0, 0] = np.nan
    values[:, 1, 1, 1] = np.nan
    monitor = Monitor()
    maps = run(values, {"logits": logits}, keep=keep, monitor=monitor)
    expected = np.full((2, 2, 2), 2)
    expected[0, 0, 0] = expected[1, 1, 1] = 0
    np.testing.assert_array_equal(maps.labels(), expected)
    assert maps.probability(2)[0, 0, 0] == 0 and maps.probability(0)[1, 1, 1] == 1
    assert "4 values that are not numbers" in monitor.warnings[0] and maps.details["nan"] == 4


def test_nan_of_a_sigmoid_is_below_every_threshold():
    values = np.full((1, 1, 2, 2), np.nan, np.float32)
    monitor = Monitor()
    assert not run(values, {"activation": "sigmoid"}, 1, monitor=monitor).mask(0).any()
    assert len(monitor.warnings) == 1


def test_logits_declared_as_probabilities_are_noticed():
    monitor = Monitor()
    run(RNG.normal(size=(3, 2, 4, 4)) * 9, {"logits": False}, monitor=monitor)
    assert "lacks output.logits" in monitor.warnings[0]


def test_labels_beyond_sixteen_bits_become_background_and_are_told():
    monitor = Monitor()
    values = np.array([-1, 70000, 300, 7], np.float32).reshape(1, 1, 2, 2)
    maps = run(values, {"activation": "labels"}, 7, monitor=monitor)
    assert maps.labels().ravel().tolist() == [0, 0, 300, 7] and maps.labels().dtype == np.uint16
    assert "2 labels outside" in monitor.warnings[0]


@pytest.mark.parametrize(
    ("values", "output", "classes", "told"),
    [
        (np.zeros((3, 2, 4, 4)), {}, 3, r"\[2, 3, 4, 4\].*\[2, 4, 4, 4\]"),
        (np.zeros((1, 2, 4, 4)), {}, 1, r"\[2, 1, 4, 4\].*\[2, 2, 4, 4\]"),
        (np.zeros((2, 2, 4, 4)), {"activation": "sigmoid"}, 3, r"\[2, 2, 4, 4\].*\[2, 3, 4, 4\]"),
        (np.zeros((2, 2, 4, 4)), {"activation": "labels"}, 1, "2 channels"),
        (np.zeros((2, 2, 4, 4)), {"layout": "NHW"}, 1, r"\[2, 2, 4, 4\].*NHW"),
        (np.zeros((2, 2, 4, 5)), {"layout": "NHWC"}, 1, r"\[2, 5, 2, 4\].*\[2, C, 4, 5\]"),
        (np.zeros((2, 2, 4, 4)), {"tensor": "z"}, 1, "no output 'z', only y"),
    ],
)
def test_outputs_that_do_not_fit_the_classes_name_both_shapes(values, output, classes, told):
    with pytest.raises(ModelError, match=told):
        run(values, output, classes)


@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_activations_are_stable(values):
    """exp(1000) is infinite: an unstable softmax gives NaN for confident networks."""
    p = softmax(values)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=0), 1, rtol=1e-5)
    q = sigmoid(values)
    assert np.isfinite(q).all() and ((q >= 0) & (q <= 1)).all()
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(q, 1 / (1 + np.exp(-values.astype(np.float64))), atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("uint8", 255.0, 255),
        ("uint8", 2.5, 2),
        ("int32", 3e9, 2**31 - 1),
        ("int64", -1.6, -2),
        ("int64", 1e30, 2**63 - 1024),
        ("float16", 0.1, np.float16(0.1)),
        ("double", 0.5, 0.5),
    ],
)
def test_inputs_are_cast_without_wrapping(dtype, value, expected):
    tensor = Tensor(name="x", layout="NHW", dtype=dtype)
    got = to_tensor(np.full((1, 1, 2, 2), value, np.float32), tensor)
    assert got.shape == (1, 2, 2) and (got == expected).all() and got.flags.c_contiguous


def test_channels_for_a_layout_without_channels_are_refused():
    with pytest.raises(ModelError, match="no channel axis"):
        to_tensor(np.zeros((1, 2, 3, 3), np.float32), Tensor(name="x", layout="NHW"))


def test_static_output_channels_last_of_a_convolution_are_read():
    """TensorFlow exports give NHWC; reading it as NCHW turns rows into classes."""
    proto = convolution(np.array([0.0, 1.0]).reshape(2, 1, 1, 1))
    proto.graph.node[0].output[0] = "c"
    proto.graph.node.append(helper.make_node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]))
    array = RNG.normal(size=(1, 3, 4, 5)).astype(np.float32)
    maps = infer(manifest(PLAN, {"layout": "NHWC"}), prepared(array), LocalSession(proto), Monitor())
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)


def test_where_classes_are_nearly_equal_the_greater_one_holds_on_the_way_back(monkeypatch):
    """A network that ends in a ReLU leaves such voxels by the thousand; rounded maps gave them all to the first."""
    spacing = {"step": "resample_from_first", "spacing": [2, 2, 2]}
    grid = Grid((12, 11, 10), (1, 1, 1), (0, 0, 0), np.eye(3))
    values = RNG.normal(size=grid.shape).astype(np.float32) * np.float32(1e-5)
    plan = manifest(WHOLE, {"way_back": "steps"}, 1, preprocessing=[spacing])
    given = prepare(plan, [Volume(values, grid, "CT", "v")])
    two = convolution(np.array([0, 1], np.float32).reshape(2, 1, 1, 1, 1))

    def labels():
        monitor = Monitor()
        maps = infer(plan, given, LocalSession(two), monitor, keep="probabilities")
        return restore(maps, plan, given, grid, monitor=monitor)[0][0].labels, monitor.notes

    found, notes = labels()
    wanted = walk_back(given.ways, given.array[0].astype(np.float64), nearest=False)
    clear = np.abs(wanted) > 5e-7
    assert clear.mean() > 0.5 and not notes
    np.testing.assert_array_equal(found[clear], wanted[clear] > 0)
    monkeypatch.setattr(score_maps, "_EXACT_BYTES", 1000)
    found, notes = labels()
    assert (found[clear] != (wanted[clear] > 0)).any() and "kept in 16 bits" in notes[0]
