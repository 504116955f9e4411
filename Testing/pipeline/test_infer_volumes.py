"""Whole-volume and sliding-window networks against a plain reference that keeps everything in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from medseg.errors import Cancelled, DeviceError, ModelError
from medseg.monitor import Monitor
from medseg.pipeline.infer import importance, infer, window_plan, window_starts
from medseg.pipeline.infer.blending import Band
from medseg.pipeline.infer.score_maps import softmax
from support.tiny_networks import LocalSession, convolution, manifest, model, prepared

RNG = np.random.default_rng(11)
# A 3x3x3 convolution: near a window's border it sees padding, so that overlapping windows truly disagree.
BLUR = np.concatenate(
    [np.zeros((1, 1, 3, 3, 3)), np.full((1, 1, 3, 3, 3), 0.3), RNG.normal(size=(1, 1, 3, 3, 3)) * 0.3]
)
WINDOWS = {"mode": "sliding_window", "patch": [6, 5, 4], "overlap": 0.5}


def volume(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def plain(array, session, patch, overlap, blending, pad_value=0.0, skip=None):
    """Mean logits (C, K, J, I) over all windows, NaN where none ran; patch in (k, j, i). All in float64."""
    missing = [max(0, p - s) for p, s in zip(patch, array.shape[1:], strict=True)]
    before = [m // 2 for m in missing]
    padded = np.pad(
        array, [(0, 0), *((b, m - b) for b, m in zip(before, missing, strict=True))], constant_values=pad_value
    )
    weight = np.ones(patch)
    if blending == "gaussian":
        axes = [np.exp(-0.5 * ((np.arange(p) - (p - 1) / 2) / (p / 8)) ** 2) for p in patch]
        weight = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    sums = np.zeros((3, *padded.shape[1:]))
    total = np.zeros(padded.shape[1:])
    starts = []
    for s, p in zip(padded.shape[1:], patch, strict=True):
        step = max(1, int(p * (1 - overlap) + 1e-9))
        starts.append(sorted({min(n, s - p) for n in range(0, s, step)}))
    for k in starts[0]:
        for j in starts[1]:
            for i in starts[2]:
                place = (slice(k, k + patch[0]), slice(j, j + patch[1]), slice(i, i + patch[2]))
                window = padded[(slice(None), *place)]
                if skip is not None and window.max() <= skip:
                    continue
                sums[(slice(None), *place)] += session.run({"x": window[None]})["y"][0] * weight
                total[place] += weight
    with np.errstate(invalid="ignore"):
        mean = sums / total
    inner = tuple(slice(b, b + s) for b, s in zip(before, array.shape[1:], strict=True))
    return mean[(slice(None), *inner)]


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("shape", "overlap"),
    [((17, 9, 13), 0.5), ((4, 5, 6), 0.5), ((9, 3, 20), 0.3), ((23, 5, 6), 0.0), ((11, 8, 8), 0.9)],
)
def test_sliding_window_equals_full_accumulation(shape, overlap, blending, batch):
    """The band of float32 slices must not lose or repeat any window; small volumes are padded and cropped."""
    array = volume(1, *shape)
    session = LocalSession(convolution(BLUR))
    plan = WINDOWS | {"overlap": overlap, "blending": blending, "batch": batch, "pad_value": 2.0}
    maps = infer(manifest(plan, {}, 2), prepared(array), session, Monitor())
    expected = plain(array, session, (4, 5, 6), overlap, blending, 2.0)
    wanted = softmax(expected)
    for channel in range(3):
        np.testing.assert_allclose(maps.probability(channel), wanted[channel], atol=2e-5)
    sure = np.sort(wanted, axis=0)[-1] - np.sort(wanted, axis=0)[-2] > 1e-5
    np.testing.assert_array_equal(maps.labels()[sure], wanted.argmax(axis=0)[sure])


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
def test_last_window_is_flush_with_the_border(blending):
    """A peer leaves 20 slices empty at overlap 0.3, patch 64, depth 128."""
    assert window_starts(128, 64, 0.3) == [0, 44, 64]
    array = np.ones((1, 128, 8, 8), np.float32)
    plan = {"mode": "sliding_window", "patch": [8, 8, 64], "overlap": 0.3, "blending": blending}
    proto = convolution(np.array([0.0, 1.0]).reshape(2, 1, 1, 1, 1))
    maps = infer(manifest(plan, {}), prepared(array), LocalSession(proto), Monitor())
    assert (maps.labels() == 1).all()


@given(size=st.integers(1, 300), patch=st.integers(1, 130), overlap=st.floats(0, 0.99))
def test_windows_cover_every_voxel_and_stay_inside(size, patch, overlap):
    starts = window_starts(size, patch, overlap)
    covered = np.zeros(max(size, patch), int)
    for s in starts:
        assert s >= 0 and s + patch <= len(covered)
        covered[s : s + patch] += 1
    assert covered.min() >= 1 and starts == sorted(set(starts))


def test_gaussian_importance_has_sigma_of_an_eighth():
    weights = importance((16, 8, 24), "gaussian")
    assert weights.shape == (16, 8, 24) and weights.max() == 1 and weights.min() > 0
    profile = weights[:, 3, 11] / weights[7, 3, 11]
    np.testing.assert_allclose(profile, np.exp(-(((np.arange(16) - 7.5) ** 2) - 0.25) / 8), rtol=1e-5)


def test_windows_of_background_are_not_run_and_stay_background():
    """Air around the head costs no time and cannot be labelled; what other windows say is not watered down."""
    array = np.full((1, 30, 12, 12), -1.0, np.float32)
    array[0, 12:18, 3:9, 3:9] = volume(6, 6, 6) + 3
    session = LocalSession(convolution(BLUR, [0.0, 0.2, 0.1]))
    plan = WINDOWS | {"skip_background_at_most": -1.0}
    maps = infer(manifest(plan, {}, 2), prepared(array), session, Monitor())
    run = len(session.calls)
    expected = plain(array, session, (4, 5, 6), 0.5, "gaussian", 0.0, skip=-1.0)
    empty = np.isnan(expected[0])
    assert empty.any() and maps.details["windows_skipped_as_background"] > 0 and run == maps.details["windows"]
    assert (maps.labels()[empty] == 0).all() and (maps.probability(0)[empty] == 1).all()
    np.testing.assert_allclose(maps.probability(1)[~empty], softmax(expected)[1][~empty], atol=2e-5)


@pytest.mark.parametrize("keep", ["labels", "probabilities"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "labels"])
def test_all_background_is_a_result_and_not_an_error(activation, keep):
    plan = WINDOWS | {"skip_background_at_most": 0.0}
    data = manifest(plan, {"activation": activation}, 2)
    maps = infer(data, prepared(np.zeros((1, 9, 9, 9))), LocalSession(convolution(BLUR)), Monitor(), keep=keep)
    assert not maps.mask(1).any()
    if activation == "softmax":
        assert (maps.probability(0) == 1).all()


def test_ready_labels_are_taken_from_the_most_central_window():
    """Labels cannot be averaged: the mean of 2 and 4 is not 3."""
    array = volume(1, 13, 9, 10)
    # Labels 2 and 4, which near a window's border depend on what the window does not see.
    proto = convolution(BLUR[1:2])
    proto.graph.node[0].output[0] = "c"
    proto.graph.node.extend(
        [
            helper.make_node("Greater", ["c", "b"], ["g"]),
            helper.make_node("Cast", ["g"], ["f"], to=1),
            helper.make_node("Mul", ["f", "two"], ["m"]),
            helper.make_node("Add", ["m", "two"], ["y"]),
        ]
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([2.0]), "two"))
    session = LocalSession(proto)
    maps = infer(manifest(WINDOWS, {"activation": "labels"}, 4), prepared(array), session, Monitor())
    expected, weights = np.zeros(array.shape[1:]), np.zeros(array.shape[1:])
    own = importance((4, 5, 6), "gaussian")
    for start in window_plan(array.shape[1:], (4, 5, 6), 0.5):
        place = tuple(slice(s, s + n) for s, n in zip(start, own.shape, strict=True))
        better = own > weights[place]
        expected[place][better] = session.run({"x": array[(slice(None), *place)][None]})["y"][0, 0][better]
        weights[place][better] = own[better]
    assert set(np.unique(expected)) == {2, 4}
    np.testing.assert_array_equal(maps.labels(), expected)


def test_only_a_band_of_one_patch_depth_is_in_float32():
    """A 50-class model on a whole scan would need tens of gigabytes otherwise."""
    weights = importance((4, 5, 6), "gaussian")
    band = Band(50, (300, 20, 20), weights, choose=False)
    assert band.sums.shape == (50, 4, 20, 20)


def test_out_of_memory_shrinks_the_window_then_goes_to_the_cpu():
    """The result of the smaller window is that of a run with it; nothing of the failed pass is left in it."""
    array = volume(1, 70, 66, 66)
    array[0, 0, 0, 0] = np.nan
    proto = convolution(BLUR)
    plan = {"mode": "sliding_window", "patch": [64, 64, 64], "batch": 2, "overlap": 0.25}
    calls = []

    def full(feeds, provider):
        calls.append(feeds["x"].shape)
        # The second window of the large size does not fit: the first pass has already stored something.
        return feeds["x"].shape[-1] > 32 and (len(calls) > 2 or len(feeds["x"]) > 1)

    session, monitor = LocalSession(proto, provider="CUDAExecutionProvider", full=full), Monitor()
    maps = infer(manifest(plan, {}, 2), prepared(array), session, monitor, batch=2)
    assert session.provider == "CUDAExecutionProvider"
    assert "batch of 2" in monitor.warnings[0] and "64x64x64 voxels; going on with 32x32x32" in monitor.warnings[1]
    same = infer(manifest(plan | {"patch": [32, 32, 32]}, {}, 2), prepared(array), LocalSession(proto), Monitor())
    np.testing.assert_array_equal(maps.labels(), same.labels())
    np.testing.assert_array_equal(maps.probability(2), same.probability(2))
    assert maps.details["patch"] == [32, 32, 32] and maps.details["nan"] == same.details["nan"] > 0


def test_on_the_cpu_the_manifest_window_is_used_again():
    array = volume(1, 20, 20, 40)
    plan = {"mode": "sliding_window", "patch": [64, 16, 16]}
    session = LocalSession(
        convolution(BLUR), provider="CUDAExecutionProvider", full=lambda f, p: p == "CUDAExecutionProvider"
    )
    monitor = Monitor()
    maps = infer(manifest(plan, {}, 2), prepared(array), session, monitor, batch=1)
    assert maps.details["patch"] == [64, 16, 16] and session.provider == "CPUExecutionProvider"
    assert len(monitor.warnings) == 2 and "CPU" in monitor.warnings[-1]


@pytest.mark.parametrize("plan", [{"mode": "sliding_window", "patch": [64, 64, 64]}, {"mode": "whole"}])
def test_memory_that_never_suffices_ends_with_one_clear_error(plan):
    session = LocalSession(convolution(BLUR), provider="CUDAExecutionProvider", full=lambda f, p: True)
    with pytest.raises(DeviceError, match="region of interest"):
        infer(manifest(plan, {}, 2), prepared(volume(1, 9, 9, 9)), session, Monitor())
    assert session.provider == "CPUExecutionProvider"


@pytest.mark.timeout(30)
def test_a_session_that_does_not_leave_its_device_is_not_asked_for_ever(monkeypatch):
    monkeypatch.setattr(LocalSession, "to_cpu", lambda self: None)
    session = LocalSession(convolution(BLUR), provider="CUDAExecutionProvider", full=lambda f, p: True)
    with pytest.raises(DeviceError, match="memory did not suffice"):
        infer(manifest({"mode": "whole"}, {}, 2), prepared(volume(1, 5, 5, 5)), session, Monitor())


def test_fixed_windows_are_neither_shrunk_nor_changed_by_the_user():
    session = LocalSession(
        convolution(BLUR, shape=(1, 1, 32, 32, 32)),
        provider="CUDAExecutionProvider",
        full=lambda f, p: p == "CUDAExecutionProvider",
    )
    monitor = Monitor()
    plan = {"mode": "sliding_window", "patch": [32, 32, 32]}
    maps = infer(manifest(plan, {}, 2), prepared(volume(1, 33, 33, 33)), session, monitor, patch=(64, 64, 64))
    assert maps.details["patch"] == [32, 32, 32]
    assert "window size is fixed" in monitor.warnings[0] and "CPU" in monitor.warnings[1] and len(monitor.warnings) == 2


def test_cancel_stops_between_windows():
    monitor = Monitor()
    session = LocalSession(convolution(BLUR), full=lambda f, p: monitor.cancel() or False)
    with pytest.raises(Cancelled):
        infer(manifest(WINDOWS, {}, 2), prepared(volume(1, 30, 9, 9)), session, monitor)
    assert len(session.calls) == 1


@settings(max_examples=15, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 12)] * 3), multiple=st.integers(1, 8))
def test_whole_volume_is_padded_to_the_multiple_and_cropped(shape, multiple):
    """A network with four halvings refuses 137 voxels; the padding must not shift the result."""
    array = volume(1, *shape)
    session = LocalSession(convolution(BLUR))
    maps = infer(manifest({"mode": "whole", "multiple_of": multiple}, {}, 2), prepared(array), session, Monitor())
    fed = session.calls[0]["x"].shape[2:]
    assert all(f % multiple == 0 and s <= f < s + multiple for f, s in zip(fed, shape, strict=True))
    # The convolution pads with zeros itself, so that zeros around the volume change nothing.
    expected = session.run({"x": array[None]})["y"][0]
    np.testing.assert_allclose(maps.probability(2), softmax(expected)[2], atol=2e-5)


def test_whole_volume_takes_channels_last():
    array = volume(1, 5, 6, 7)
    proto = model(
        [
            helper.make_node("Concat", ["zero", "x"], ["y"], axis=-1),
        ],
        {"x": (1, None, None, None, 1), "zero": (1, None, None, None, 1)},
        ["y"],
    )
    data = manifest(
        {"mode": "whole"}, {"layout": "NDHWC"}, channels=[{"name": "a"}, {"name": "b"}],
        inputs=[{"name": n, "layout": "NDHWC", "channels": [c]} for c, n in enumerate(["zero", "x"])],
    )  # fmt: skip
    both = np.concatenate([np.zeros_like(array), array])
    maps = infer(data, prepared(both), LocalSession(proto), Monitor())
    np.testing.assert_array_equal(maps.labels(), array[0] > 0)


def test_classification_of_a_whole_volume_is_one_row_and_windows_are_refused():
    proto = model(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2, 3, 4], keepdims=0)],
        {"x": (None, 1, None, None, None)},
        ["y"],
    )
    array = volume(1, 5, 6, 7)
    output = {"layout": "N", "activation": "sigmoid"}
    data = manifest({"mode": "whole"}, output, task="classification")
    scores = infer(data, prepared(array), LocalSession(proto), Monitor())
    np.testing.assert_allclose(scores.array, [[1 / (1 + np.exp(-array.mean()))]], rtol=1e-5)
    with pytest.raises(ModelError, match="sliding windows"):
        infer(manifest(WINDOWS, output, task="classification"), prepared(array), LocalSession(proto), Monitor())
