"""Intensity steps. A wrong grey value gives a plausible wrong segmentation, so each formula is checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import ModelError
from medseg.model.manifest import steps as s
from medseg.monitor import Monitor
from medseg.pipeline.preprocess import head
from medseg.pipeline.preprocess.intensity import apply_intensity


def apply(
    step: s.Step, array: Any, axis: int = 1, tags: dict[str, Any] | None = None, monitor: Monitor | None = None
) -> np.ndarray:
    return apply_intensity(step, np.asarray(array), axis, tags or {}, monitor or Monitor())


def row(*values: float) -> np.ndarray:
    """One slice of one row."""
    return np.array(values, dtype=np.float32).reshape(1, 1, 1, -1)


def ct(**changes: Any) -> dict[str, Any]:
    return {"BitsStored": 12, "PixelRepresentation": 0, "RescaleSlope": 1.0, "RescaleIntercept": 0.0, **changes}


# -- all steps ----------------------------------------------------------------------------------------------

GREY_STEPS: list[s.Step] = [
    s.Affine(step="affine", scale=2, offset=-3),
    s.Window(step="window", windows=[s.WindowRange(level=40, width=80)]),
    s.Clip(step="clip", minimum=10, maximum=90),
    s.Clip(step="clip", percentiles=(5, 95), scope="slice"),
    s.ZScore(step="zscore", scope="slice", epsilon=1e-7),
    s.ZScore(step="zscore", scope="volume", above=20),
    s.MinMax(step="minmax", scope="slice"),
    s.MinMax(step="minmax", percentiles=(1, 99), output=(-1, 1)),
    s.DivideByMaximum(step="divide_by_maximum", scope="slice"),
    s.HistogramEqualise(step="histogram_equalise"),
    s.UnsharpMask(step="unsharp_mask"),
    s.NormaliseHead(step="normalise_head", minimum_pixels=0),
    s.RoundTo(step="quantise", levels=255),
    s.ToRGB(step="to_rgb"),
    s.TwelveBitFix(step="twelve_bit_fix"),
]
COLOUR_STEPS: list[s.Step] = [s.ImageNet(step="imagenet", style=style) for style in ("torch", "caffe", "tf")]
PER_SLICE = [
    step
    for step in GREY_STEPS
    if getattr(step, "scope", None) == "slice"
    or isinstance(step, s.HistogramEqualise | s.UnsharpMask | s.NormaliseHead)
]


def name(step: s.Step) -> str:
    return f"{step.step}-{getattr(step, 'style', getattr(step, 'scope', ''))}"  # type: ignore[attr-defined]


def volume(seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 120, (channels, 4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("step", GREY_STEPS + COLOUR_STEPS, ids=name)
def test_a_step_returns_a_new_float32_array_and_leaves_its_input_alone(step: s.Step) -> None:
    """A step that wrote into its input would change the node the user is looking at."""
    for dtype in (np.float32, np.int16):
        array = volume(channels=3 if step in COLOUR_STEPS else 1).astype(dtype)
        kept = array.copy()
        out = apply(step, array, tags=ct())
        assert out.dtype == np.float32 and out.shape[1:] == array.shape[1:]
        assert np.array_equal(array, kept) and not np.shares_memory(out, array)


@pytest.mark.parametrize("value", [0.0, 7.0, -1000.0])
@pytest.mark.parametrize("step", GREY_STEPS, ids=name)
def test_constant_volumes_give_numbers_and_the_steps_that_scale_say_so(step: s.Step, value: float) -> None:
    """Empty slices are common (padding, cropped masks); one NaN spoils every voxel of a network's output."""
    monitor = Monitor()
    out = apply(step, np.full((1, 3, 8, 8), value), tags=ct(), monitor=monitor)
    assert np.isfinite(out).all()
    if isinstance(step, s.ZScore | s.NormaliseHead):
        assert not out.any() and len(monitor.warnings) == 1
    if isinstance(step, s.MinMax):
        assert (out == step.output[0]).all() and len(monitor.warnings) == 1


@pytest.mark.parametrize("step", PER_SLICE, ids=name)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), axis=st.integers(1, 3), data=st.data())
def test_per_slice_steps_do_not_look_at_other_slices(step: s.Step, seed: int, axis: int, data: st.DataObject) -> None:
    """The result of a slice must be the same in a whole series and alone."""
    array = volume(seed)
    n = data.draw(st.integers(0, array.shape[axis] - 1))
    alone = apply(step, np.take(array, [n], axis), axis)
    assert np.array_equal(np.take(apply(step, array, axis), [n], axis), alone)


@pytest.mark.parametrize("step", [step for step in GREY_STEPS if not isinstance(step, s.NormaliseHead)], ids=name)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations([1, 2, 3]))
def test_steps_do_not_depend_on_the_order_of_axes(step: s.Step, seed: int, order: list[int]) -> None:
    """Coronal and sagittal stacks get the same values as axial ones (`normalise_head`: see test_head)."""
    array = volume(seed)
    turned = apply(step, np.transpose(array, (0, *order)), 1 + order.index(2))
    assert np.allclose(turned, np.transpose(apply(step, array, 2), (0, *order)), atol=1e-4)


@pytest.mark.parametrize("step", [step for step in GREY_STEPS if not isinstance(step, s.ToRGB)], ids=name)
def test_channels_are_treated_one_by_one(step: s.Step) -> None:
    """A second input volume must not change the normalisation of the first."""
    array = volume(channels=2)
    both = apply(step, array)
    assert np.allclose(both, np.concatenate([apply(step, array[:1]), apply(step, array[1:])]), atol=1e-5)


def test_a_spatial_step_is_refused() -> None:
    with pytest.raises(ModelError, match="orient"):
        apply(s.Orient(step="orient", code="LPS"), volume())


# -- 12-bit CT ----------------------------------------------------------------------------------------------


def test_twelve_bit_fix_follows_the_haemorrhage_contract() -> None:
    """Unfixed, bone is read as air and the haemorrhage windows show nothing."""
    stored = np.array([0, 24, 1000, 3095, 3096, 4095])
    fixed = stored + 1000
    fixed[fixed >= 4096] -= 4096
    monitor = Monitor()
    out = apply(s.TwelveBitFix(step="twelve_bit_fix"), row(*stored), tags=ct(), monitor=monitor)
    assert out.ravel().tolist() == (fixed - 1000).tolist() == [0, 24, 1000, 3095, -1000, -1]
    assert len(monitor.warnings) == 1
    assert "2 of 6 voxels" in monitor.warnings[0] and "-1000" in monitor.warnings[0]


@given(
    st.lists(st.integers(0, 4095), min_size=1, max_size=30),
    st.sampled_from([1.0, 0.5, 2.0, 0.1]),
    st.integers(-99, 100),
)
def test_twelve_bit_fix_inverts_any_rescale(stored: list[int], slope: float, intercept: int) -> None:
    pixels = np.array(stored)
    fixed = pixels + 1000
    fixed[fixed >= 4096] -= 4096
    hu = (pixels * slope + intercept).astype(np.float32)
    out = apply(
        s.TwelveBitFix(step="twelve_bit_fix"), row(*hu), tags=ct(RescaleSlope=slope, RescaleIntercept=intercept)
    )
    assert np.allclose(out.ravel(), fixed * slope - 1000, atol=1e-2)


@pytest.mark.parametrize(
    "tags",
    [ct(BitsStored=16), ct(PixelRepresentation=1), ct(RescaleIntercept=-1024), ct(RescaleIntercept=-100)],
    ids=["16 bit", "signed", "usual intercept", "exactly at the threshold"],
)
def test_twelve_bit_fix_leaves_proper_series_alone_and_silent(tags: dict[str, Any]) -> None:
    monitor = Monitor()
    hu = row(-1000, 0, 3095)
    assert np.array_equal(apply(s.TwelveBitFix(step="twelve_bit_fix"), hu, tags=tags, monitor=monitor), hu)
    assert not monitor.warnings


def test_twelve_bit_fix_threshold_is_the_models() -> None:
    """One of the two haemorrhage systems corrects above -1000, the other above -100."""
    out = apply(
        s.TwelveBitFix(step="twelve_bit_fix", intercept_above=-1000), row(-1024 + 500), tags=ct(RescaleIntercept=-999)
    )
    assert out.ravel()[0] == -524 + 999 - 1000 + 1000


@pytest.mark.parametrize("missing", ["BitsStored", "PixelRepresentation", "RescaleIntercept"])
@pytest.mark.parametrize("value", [None, "", "x", float("nan")])
def test_twelve_bit_fix_says_what_it_could_not_check(missing: str, value: Any) -> None:
    """From NIfTI the tags are lost: the user must know that wrapped values would go unnoticed."""
    monitor = Monitor()
    hu = row(0, 4000)
    assert np.array_equal(
        apply(s.TwelveBitFix(step="twelve_bit_fix"), hu, tags=ct(**{missing: value}), monitor=monitor), hu
    )
    assert len(monitor.warnings) == 1 and missing in monitor.warnings[0] and "not checked" in monitor.warnings[0]


def test_twelve_bit_fix_reads_tags_given_as_text_and_refuses_slope_0() -> None:
    text = {k: str(v) for k, v in ct(BitsStored=12).items()}
    assert apply(s.TwelveBitFix(step="twelve_bit_fix"), row(4095), tags=text).ravel()[0] == -1
    monitor = Monitor()
    apply(s.TwelveBitFix(step="twelve_bit_fix"), row(4095), tags=ct(RescaleSlope=0), monitor=monitor)
    assert "RescaleSlope" in monitor.warnings[0]


# -- values and ranges --------------------------------------------------------------------------------------


def test_affine() -> None:
    assert apply(s.Affine(step="affine", scale=0.5, offset=-1), row(0, 2, 6)).ravel().tolist() == [-1, 0, 2]


def test_clip_to_values_with_open_ends() -> None:
    assert apply(s.Clip(step="clip", minimum=0), row(-5, 3)).ravel().tolist() == [0, 3]
    assert apply(s.Clip(step="clip", minimum=0, maximum=2), row(-5, 3)).ravel().tolist() == [0, 2]
    with pytest.raises(ModelError, match="above the maximum"):
        apply(s.Clip(step="clip", minimum=3, maximum=2), row(0))


def test_clip_to_percentiles_of_slice_or_volume() -> None:
    array = np.arange(101, dtype=np.float32)
    stack = np.stack([array, array * 10])[None, :, None, :]
    per_slice = apply(s.Clip(step="clip", percentiles=(10, 90), scope="slice"), stack)
    assert [(x.min(), x.max()) for x in per_slice[0]] == [(10, 90), (100, 900)]
    whole = apply(s.Clip(step="clip", percentiles=(0, 50)), stack)
    assert whole.max() == np.percentile(stack, 50)
    for wrong in ((90, 10), (-1, 50), (0, 101), (5, 5)):
        with pytest.raises(ModelError, match="percentiles"):
            apply(s.Clip(step="clip", percentiles=wrong), stack)


def test_zscore_uses_population_std_and_epsilon() -> None:
    out = apply(s.ZScore(step="zscore"), row(1, 2, 3, 4))
    assert np.allclose(out.ravel(), (np.arange(1, 5) - 2.5) / np.sqrt(1.25))
    out = apply(s.ZScore(step="zscore", epsilon=1.0), row(1, 2, 3, 4))
    assert np.allclose(out.ravel(), (np.arange(1, 5) - 2.5) / (np.sqrt(1.25) + 1))


def test_zscore_over_the_foreground() -> None:
    inside = (np.array([10, 20, 30]) - 20) / np.std([10, 20, 30])
    outside = -20 / np.std([10, 20, 30])
    applied = apply(s.ZScore(step="zscore", above=0), row(0, 10, 20, 30)).ravel()
    kept = apply(s.ZScore(step="zscore", above=0, apply_outside=False), row(0, 10, 20, 30)).ravel()
    assert np.allclose(applied, [outside, *inside]) and np.allclose(kept, [0, *inside])


def test_zscore_without_any_foreground_is_0_and_told() -> None:
    monitor = Monitor()
    out = apply(
        s.ZScore(step="zscore", scope="slice", above=0),
        np.stack([row(-1, -2)[0], row(1, 5)[0]], axis=1),
        monitor=monitor,
    )
    assert not out[0, 0].any() and np.allclose(out[0, 1], [-1, 1])
    assert len(monitor.warnings) == 1 and "1 slice" in monitor.warnings[0]


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e4))
@settings(max_examples=25, deadline=None)
def test_zscore_forgets_offset_and_scale(offset: float, scale: float) -> None:
    """The same scan stored with another scaling gives the same network input."""
    array = volume()
    expected = (array - array.mean()) / array.std()
    moved = array.astype(np.float64) * scale + offset
    # float32 holds about 7 digits of the value; what the offset pushes out is lost before the step.
    tolerance = 1e-5 + 1e-6 * np.abs(moved).max() / moved.std()
    assert np.allclose(apply(s.ZScore(step="zscore"), moved), expected, atol=tolerance)


def test_minmax_to_any_output_and_percentiles() -> None:
    assert apply(s.MinMax(step="minmax", output=(-1, 1)), row(2, 4, 6)).ravel().tolist() == [-1, 0, 1]
    array = np.arange(101, dtype=np.float32).reshape(1, 1, 1, -1)
    out = apply(s.MinMax(step="minmax", percentiles=(10, 90)), array).ravel()
    assert np.allclose(out, np.clip((np.arange(101) - 10) / 80, 0, 1))
    assert np.allclose(
        apply(s.MinMax(step="minmax", above=50), array).ravel(), np.clip((np.arange(101) - 51) / 49, 0, 1)
    )


def test_divide_by_maximum() -> None:
    assert apply(s.DivideByMaximum(step="divide_by_maximum"), row(-2, 1, 4)).ravel().tolist() == [-0.5, 0.25, 1]
    for values, word in (((-3, 0), "maximum 0"), ((-4, -2), "negative")):
        monitor = Monitor()
        out = apply(s.DivideByMaximum(step="divide_by_maximum"), row(*values), monitor=monitor)
        assert np.isfinite(out).all() and word in monitor.warnings[0]


# -- slice by slice -----------------------------------------------------------------------------------------

# OpenCV 4.8.1: cv2.equalizeHist of the first is the second.
_GREY = [[3, 3, 7, 7, 7, 12], [12, 40, 40, 41, 200, 200], [255, 3, 3, 0, 12, 40], [7, 7, 7, 7, 90, 91]]
_EQUALISED = [[44, 44, 122, 122, 122, 155], [155, 188, 188, 200, 244, 244]]
_EQUALISED += [[255, 44, 44, 0, 155, 188], [122, 122, 122, 122, 211, 222]]


def test_histogram_equalise_gives_opencvs_numbers() -> None:
    """The lung networks were trained on OpenCV's equalisation; scikit-image's differs by several grey levels."""
    out = apply(s.HistogramEqualise(step="histogram_equalise"), np.array(_GREY, dtype=np.uint8)[None, None])
    assert out[0, 0].tolist() == _EQUALISED


def test_histogram_equalise_rounds_and_tells_values_that_are_not_8_bit() -> None:
    equalise = s.HistogramEqualise(step="histogram_equalise")
    near = np.array(_GREY, dtype=np.float32)[None, None] + np.resize(np.float32([-0.5, 0.4, -0.4]), (4, 6))
    assert apply(equalise, near)[0, 0].tolist() == _EQUALISED
    for values, words in (
        ((0, 100, 300), "1 of 3 voxels"),
        ((0, 0.5, 1), "between 0 and 1"),
        ((9, 9, 9), "no two different"),
    ):
        monitor = Monitor()
        out = apply(equalise, row(*values), monitor=monitor)
        assert words in monitor.warnings[0] and out.max() <= 255
    assert apply(equalise, row(9, 9)).ravel().tolist() == [9, 9]


def test_unsharp_mask_works_in_the_plane_of_the_slices() -> None:
    array = volume()
    for axis in (1, 2, 3):
        out = apply(s.UnsharpMask(step="unsharp_mask", sigma=0.7, amount=2), array, axis)
        expected = head.unsharp_mask(np.take(array[0], 2, axis - 1), 0.7, 2)
        assert np.allclose(np.take(out[0], 2, axis - 1), expected, atol=1e-4)


def test_quantise_is_what_saving_as_16_bit_did() -> None:
    assert np.allclose(apply(s.RoundTo(step="quantise", levels=4), row(0, 0.1, 0.2, 0.9)).ravel(), [0, 0, 0.25, 1])
    x = np.random.default_rng(0).uniform(0, 1, 4000).astype(np.float32)
    stored = np.round(x.astype(np.float64) * 65535).astype(np.uint16)
    out = apply(s.RoundTo(step="quantise", levels=65535), x.reshape(1, 1, 40, 100)).ravel()
    assert np.array_equal(np.rint(out.astype(np.float64) * 65535), stored)


# -- colour -------------------------------------------------------------------------------------------------


def test_to_rgb_repeats_one_channel_only() -> None:
    array = volume()
    assert np.array_equal(apply(s.ToRGB(step="to_rgb"), array), np.concatenate([array] * 3))
    with pytest.raises(ModelError, match="2 at this step"):
        apply(s.ToRGB(step="to_rgb"), volume(channels=2))


def test_imagenet_styles_on_hand_numbers() -> None:
    """Red 255, green 128, blue 0. `caffe` swaps red and blue: forgotten, a tuberculosis score is meaningless."""
    rgb = np.array([255.0, 128.0, 0.0]).reshape(3, 1, 1, 1)
    torch, caffe, tf = (
        apply(s.ImageNet(step="imagenet", style=style), rgb).ravel() for style in ("torch", "caffe", "tf")
    )
    assert np.allclose(torch, [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225], atol=1e-5)
    assert np.allclose(caffe, [0 - 103.939, 128 - 116.779, 255 - 123.68], atol=1e-4)
    assert np.allclose(tf, [1, 128 / 127.5 - 1, -1], atol=1e-6)
    with pytest.raises(ModelError, match="three channels"):
        apply(s.ImageNet(step="imagenet", style="tf"), volume())
