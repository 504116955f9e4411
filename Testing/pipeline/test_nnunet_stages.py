"""Stage by stage, the numbers that nnU-Net 2.8.1 gives for small arrays. One off, and its models give other labels.

Sizes and axes are in nnU-Net's order z, y, x, which is the order of the arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg import Volume
from medseg.geometry.grid import Grid
from medseg.model.manifest import Manifest
from medseg.model.manifest.steps import NormaliseChannels
from medseg.monitor import Monitor
from medseg.pipeline.infer import importance, infer, window_starts
from medseg.pipeline.preprocess import prepare
from medseg.pipeline.preprocess.channel_schemes import nonzero_mask, normalise_channels
from medseg.pipeline.restore import kept_for, restore
from support.packages import manifest

THICK = {"ratio": 3.0, "order": 0}


def wavy() -> Any:
    k, j, i = np.mgrid[:6, :7, :8]
    values = np.sin(k * 1.3) + np.cos(j * 0.9) * i * 0.2 + ((k * 7 + j * 3 + i * 5) % 11) * 0.1
    return values.astype(np.float32)


@pytest.mark.parametrize(
    ("before", "after", "size", "there", "back"),
    [
        ((2, 1, 1), (1.3, 1.4, 0.8), (9, 5, 10), (0.73503, 1.42907, 234.83743), (1.3525, -1.2871, 173.7467)),
        ((5, 0.7, 0.7), (2.5, 1, 1), (12, 5, 6), (-0.10129, 1.18248, 187.87511), (1.3975, -1.3564, 173.7594)),
        ((1, 1, 1), (1, 2, 1), (6, 4, 8), (0.56875, 1.21722, 100.26956), (1.4385, -1.1836, 172.3483)),
        ((4, 1, 1), (1.2, 0.9, 1.1), (20, 8, 7), (0.64653, 1.50335, 585.38623), (1.2422, -1.3369, 178.7999)),
    ],
)
def test_resampling_and_the_way_back(before: Any, after: Any, size: Any, there: Any, back: Any) -> None:
    """Rounded size, extent to extent, cubic; a thick axis apart; linear back, in half precision."""
    step = {
        "step": "resample_extent", "spacing": list(after[::-1]), "thick_axis": THICK, "restore_thick_axis": THICK,
    }  # fmt: skip
    parsed = Manifest.model_validate(manifest(preprocessing=[step]))
    volume = Volume(wavy(), Grid((8, 7, 6), before[::-1], (0, 0, 0), np.eye(3)), "MR", "v")
    prepared = prepare(parsed, [volume])
    found = prepared.array[0]
    assert found.shape == size
    assert (found[1, 2, 3], found[-1, -1, -2]) == pytest.approx(there[:2], abs=1e-5)
    assert found.sum(dtype=np.float64) == pytest.approx(there[2], abs=2e-3)
    assert prepared.extent is not None
    moved = prepared.extent.back(found.astype(np.float16))
    assert moved.dtype == np.float16 and moved.shape == (6, 7, 8)
    assert (moved[1, 2, 3], moved[-2, 4, -1]) == pytest.approx(back[:2], abs=1e-3)
    assert moved.sum(dtype=np.float64) == pytest.approx(back[2], abs=1e-2)


@pytest.mark.parametrize(
    ("size", "patch", "starts"),
    [
        (160, 96, [0, 32, 64]), (126, 96, [0, 30]), (110, 64, [0, 23, 46]), (96, 96, [0]),
        (300, 128, [0, 57, 115, 172]), (97, 96, [0, 1]), (4, 1, [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_windows_are_spread_evenly(size: int, patch: int, starts: list[int]) -> None:
    assert window_starts(size, patch, 0.5, "even") == starts


def test_window_weights() -> None:
    """Centred at n // 2, cut at four sigma, in half precision, never 0."""
    weights = importance((8, 6, 5), "gaussian_filter")
    places = [(0, 0, 0), (4, 3, 2), (7, 5, 4), (3, 0, 1)]
    wanted = [2.384185791015625e-07, 10.0, 1.895427703857422e-05, 0.0005655288696289062]
    assert [weights[p] for p in places] == wanted
    assert weights.sum(dtype=np.float64) == pytest.approx(73.87140053510666)


def two_channels() -> Any:
    values = ((np.arange(2 * 5 * 6 * 7).reshape(2, 5, 6, 7) * 37) % 101 - 30).astype(np.float32)
    values[:, :, :2] = 0
    values[:, 2, 3, 3] = 0
    values[0, 4] = 0
    return values


def test_the_mask_of_not_zero_is_that_of_all_channels_with_holes_filled() -> None:
    cropped = two_channels()[:, :, 2:]
    mask = nonzero_mask(cropped)
    assert mask.sum() == 139
    step = NormaliseChannels.model_validate(
        {"step": "normalise_channels", "channels": [{"scheme": "zscore", "nonzero": True}, {"scheme": "minmax"}]}
    )
    first, second = normalise_channels(step, cropped, Monitor())
    places = [(0, 0, 0), (2, 1, 3), (4, 2, 2), (1, 3, 6)]
    assert [first[p] for p in places] == pytest.approx([-1.19219, -0.57304, -0.57304, -0.17241], abs=1e-5)
    assert second.min() == 0 and second.max() == 1


def test_channels_by_fixed_numbers_by_division_and_as_they_are() -> None:
    schemes = [
        {"scheme": "fixed", "minimum": -10, "maximum": 50, "mean": 20, "std": 4}, {"scheme": "divide", "by": 255},
    ]  # fmt: skip
    step = NormaliseChannels.model_validate({"step": "normalise_channels", "channels": schemes})
    values = two_channels()
    monitor = Monitor()
    first, second = normalise_channels(step, values, monitor)
    assert np.allclose(first, (np.clip(values[0], -10, 50) - 20) / 4)
    assert np.allclose(second, values[1] / 255)
    assert any("should have values from 0 to 255" in text for text in monitor.warnings), "negative values are told"


class Own:
    """A network of a test: ``function`` of the tensor, and how often it was called."""

    provider = "CPUExecutionProvider"

    def __init__(self, function: Any, rank: int = 5) -> None:
        self.function, self.calls = function, 0
        self.input_shapes = {"x": (None,) * rank}

    def run(self, feeds: Any) -> Any:
        self.calls += 1
        return {"y": self.function(feeds["x"])}

    def to_cpu(self) -> None:
        raise AssertionError


def whole(parsed: Manifest, volume: Volume, network: Own, *, mirror: bool = False) -> Any:
    prepared = prepare(parsed, [volume])
    keep = kept_for(parsed, prepared, volume.grid, probabilities=False)
    maps: Any = infer(parsed, prepared, network, Monitor(), keep=keep, mirror=mirror)
    return restore(maps, parsed, prepared, volume.grid)[0]


def test_mirrored_images_are_averaged_back_in_place() -> None:
    """A network that looks to its left neighbour only: mirrored and averaged, both neighbours count alike."""

    def left(x: Any) -> Any:
        return np.concatenate([np.full_like(x, 0.4), np.roll(x, 1, axis=4)], axis=1)

    values = np.zeros((4, 4, 8), np.float32)
    values[2, 2, 3] = 1
    volume = Volume(values, Grid((8, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3)), "MR", "v")
    windows = {"mode": "sliding_window", "patch": [8, 4, 4], "mirror_axes": [0], "placement": "even"}
    parsed = Manifest.model_validate(manifest(inference=windows))
    network = Own(left)
    assert np.argwhere(whole(parsed, volume, network)[0].labels).tolist() == [[2, 2, 4]]
    assert network.calls == 1, "off until it is asked for"
    network = Own(left)
    assert np.argwhere(whole(parsed, volume, network, mirror=True)[0].labels).tolist() == [[2, 2, 2], [2, 2, 4]]
    assert network.calls == 2
    # nnU-Net mirrors by default and MedSeg does not: a user must read which of the two a result is.
    for mirror, sentence in ((False, "are not averaged"), (True, "Averaged over images mirrored along i: each window")):
        monitor = Monitor()
        infer(parsed, prepare(parsed, [volume]), network, monitor, keep="logits", mirror=mirror)
        assert [n for n in monitor.notes if "irrored" in n] == [n for n in monitor.notes if sentence in n] != []


def test_mirroring_that_a_model_cannot_do_is_told() -> None:
    """Else a user would take a plain run of a whole-volume model for an averaged one."""
    volume = Volume(np.zeros((4, 4, 8), np.float32), Grid((8, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3)), "MR", "v")
    for windows in ({"mode": "whole"}, {"mode": "sliding_window", "patch": [8, 4, 4]}):
        parsed, monitor = Manifest.model_validate(manifest(inference=windows)), Monitor()
        network = Own(lambda x: np.concatenate([x, x + 1], axis=1))
        infer(parsed, prepare(parsed, [volume]), network, monitor, keep="logits", mirror=True)
        assert network.calls == 1 and [w for w in monitor.warnings if "nothing was mirrored" in w]


def test_a_2d_network_sees_tiles_of_each_slice() -> None:
    """Nothing is cut off: each pixel of each slice is seen, and slices do not mix."""

    def same(x: Any) -> Any:
        assert x.shape[1:] == (1, 6, 5)
        return np.concatenate([np.full_like(x, 0.5), x], axis=1)

    values = (np.random.default_rng(0).random((3, 9, 13)) > 0.5).astype(np.float32)
    volume = Volume(values, Grid((13, 9, 3), (1, 1, 4), (0, 0, 0), np.eye(3)), "MR", "v")
    parsed = Manifest.model_validate(
        manifest(
            inference={"mode": "sliding_window", "patch": [5, 6, 1], "placement": "even", "sums": "float16"},
            inputs=[{"name": "x", "layout": "NCHW"}],
            output={"tensor": "y", "layout": "NCHW", "activation": "softmax", "logits": True, "restore": "logits"},
        )
    )
    assert np.array_equal(whole(parsed, volume, Own(same, 4))[0].labels, values)


def test_regions_become_one_label_map_and_the_last_one_holds() -> None:
    def regions(x: Any) -> Any:
        return np.concatenate([x - 0.5, x - 1.5], axis=1)

    values = np.zeros((4, 4, 8), np.float32)
    values[1:3, 1:3, 1:6], values[2, 2, 3] = 1, 2
    volume = Volume(values, Grid((8, 4, 4), (1, 1, 1), (0, 0, 0), np.eye(3)), "MR", "v")
    output = {"tensor": "y", "layout": "NCDHW", "activation": "sigmoid", "logits": True, "exclusive": True}
    classes = [
        {"value": 2, "channel": 0, "name": "whole without core"}, {"value": 1, "channel": 1, "name": "core"},
    ]  # fmt: skip
    steps = [{"step": "crop_to_nonzero"}, {"step": "resample_extent", "spacing": [1, 1, 1]}]
    for restoring in ("probabilities", "logits"):
        parsed = Manifest.model_validate(
            manifest(output={**output, "restore": restoring}, classes=classes, preprocessing=steps)
        )
        (layer,) = whole(parsed, volume, Own(regions))
        assert layer.labels[2, 2, 3] == 1 and layer.labels[1, 1, 1] == 2
        assert np.array_equal(layer.labels > 0, values > 0)
