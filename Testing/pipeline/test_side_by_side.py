"""The network runs while the last batch is taken in and the next is made: counted, in order, never more than told."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import Cancelled
from medseg.monitor import Monitor
from medseg.pipeline.infer import fallback, infer
from medseg.pipeline.infer.ahead import run_ahead
from medseg.pipeline.infer.blending import Band, Blocks, importance, round_to_half
from medseg.pipeline.infer.fallback import Runner
from support.tiny_networks import LocalSession, convolution, manifest, prepared

RNG = np.random.default_rng(3)
BLUR = RNG.normal(size=(3, 1, 3, 3, 3)) * 0.3
WINDOWS = {"mode": "sliding_window", "patch": [6, 5, 4], "overlap": 0.5}
CUDA = "CUDAExecutionProvider"


def volume(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class Card(LocalSession):
    """A session with two calls at once, which counts how many there were."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, provider=CUDA, **options)
        self.in_flight, self.now, self.most, self._lock = 2, 0, 0, threading.Lock()

    def run(self, feeds):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        try:
            return super().run(feeds)
        finally:
            with self._lock:
                self.now -= 1


def test_the_next_batch_runs_while_the_last_is_taken_in():
    """Blending took twice as long as the network on a card, one after the other."""
    begun = [threading.Event() for _ in range(4)]

    def call(batch):
        begun[int(batch[0])].set()
        return batch

    for (number,), _ in run_ahead(range(4), 1, lambda chosen: np.float32(chosen), call, 1, Monitor()):
        if number < 3:
            assert begun[number + 1].wait(20), "the network waits for what is done with its output"


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_no_more_batches_are_made_than_are_under_way_and_one(at_once):
    """Each is held in memory."""
    made, taken = [], []

    def gather(chosen):
        made.extend(chosen)
        return np.float32(chosen)

    for chosen, output in run_ahead(range(20), 3, gather, lambda batch: batch + 1, at_once, Monitor()):
        np.testing.assert_array_equal(output, np.float32(chosen) + 1)
        taken.extend(chosen)
        time.sleep(0.005)
        assert len(made) <= len(taken) + 3 * (at_once + 1)
    assert taken == made == list(range(20))


def test_an_error_ends_the_run_at_its_batch_and_cancelling_ends_it_at_once():
    """What came before is whole, what comes after is not begun for nothing."""

    def call(batch):
        if batch[0] == 3:
            raise ValueError("three")
        return batch

    seen = []
    with pytest.raises(ValueError, match="three"):
        for chosen, _ in run_ahead(range(9), 1, lambda chosen: np.float32(chosen), call, 2, Monitor()):
            seen.extend(chosen)
    assert seen == [0, 1, 2]
    monitor, called = Monitor(), []
    with pytest.raises(Cancelled):
        for _ in run_ahead(range(99), 1, np.float32, lambda b: called.append(b) or b, 1, monitor):
            monitor.cancel()
    assert len(called) < 6


@pytest.mark.parametrize("skip", [None, -1.0])
def test_a_card_gives_the_labels_of_one_call_after_the_other(monkeypatch, skip):
    """Two calls at once, blended by several threads, window by window in the same order: the same numbers."""
    monkeypatch.setattr("medseg.pipeline.infer.sliding_window.physical_cores", lambda: 6)
    monkeypatch.setattr("medseg.pipeline.infer.blending._BLOCK", 40)
    monkeypatch.setattr("medseg.pipeline.infer.blending.SLAB", 3)
    monkeypatch.setattr(fallback, "_LARGE_WINDOW", 1)
    array = volume(1, 23, 14, 17)
    array[0, 9:17] = -1
    data = manifest(WINDOWS | {"skip_background_at_most": skip}, {}, 2)
    card, plain = Card(convolution(BLUR)), LocalSession(convolution(BLUR))
    found, wanted = (infer(data, prepared(array), session, Monitor()) for session in (card, plain))
    np.testing.assert_array_equal(found.labels(), wanted.labels())
    for channel in range(3):
        np.testing.assert_array_equal(found.probability(channel), wanted.probability(channel))
    assert card.most == 2 and len(card.calls) == len(plain.calls)


def test_memory_that_does_not_suffice_for_two_calls_suffices_for_one():
    """The batch is halved only where one call alone is too much; what was taken in is not done again."""
    card = Card(convolution(BLUR), full=lambda feeds, provider: card.now > 1)
    monitor = Monitor()
    data = manifest(WINDOWS | {"batch": 2}, {}, 2)
    maps = infer(data, prepared(volume(1, 9, 9, 9)), card, monitor, batch=2)
    assert "2 batches at once" in monitor.warnings[0] and len(monitor.warnings) == 1
    assert maps.details["batch"] == 2
    # The other call that was under way is lost, no more.
    assert sum(len(c["x"]) for c in card.calls) <= maps.details["windows"] + 2


def test_large_outputs_do_not_overlap(monkeypatch):
    """A network of a hundred classes would hold gigabytes more."""
    monkeypatch.setattr(fallback, "WORTH_BYTES", 100)
    monkeypatch.setattr(fallback, "run_ahead", lambda *_: pytest.fail("it ran ahead"))
    infer(manifest(WINDOWS, {}, 2), prepared(volume(1, 9, 9, 9)), LocalSession(convolution(BLUR)), Monitor())


@pytest.mark.parametrize(
    ("provider", "asked", "voxels", "count", "wanted"),
    [
        (CUDA, None, 256 * 256, 40, 10),  # four calls of ten, not three of thirteen and one of one
        (CUDA, None, 96**3, 75, 2),
        (CUDA, 4, 256 * 256, 40, 4),
        ("CPUExecutionProvider", None, 256 * 256, 40, 2),
        (CUDA, None, 256 * 256, 0, 2),
    ],
)
def test_small_items_go_to_a_card_in_large_batches(provider, asked, voxels, count, wanted):
    """A call costs the same whether its windows fill the card or not; who asks for a batch gets it."""
    session = LocalSession(convolution(BLUR), provider=provider)
    data = manifest(WINDOWS | {"batch": 2}, {}, 2)
    runner = Runner(data, session, Monitor(), asked or 2, may_grow=asked is None)
    runner.fill_card(voxels, count)
    assert runner.batch == wanted


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20), st.integers(-26, 18))
def test_half_precision_is_rounded_as_numpy_does(values, exponent):
    """nnU-Net sums in half precision: a last bit that differs is another label."""
    given_values = np.float32([*values, *(np.arange(-40, 40) / 8 * 2.0**exponent), 65519.996, 65520, -65520, 65504])
    rounded = np.empty_like(given_values)
    round_to_half(given_values.copy(), rounded, np.empty_like(rounded))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rounded, given_values.astype(np.float16).astype(np.float32))


def test_half_sums_are_those_of_float16_arrays():
    """What nnU-Net adds up, window by window."""
    weights, windows = importance((4, 5, 6), "gaussian_filter"), volume(3, 2, 4, 5, 6) * 100
    starts = [(0, 0, 0), (0, 2, 3), (2, 1, 1)]
    sums, total = np.zeros((2, 6, 7, 9), np.float16), np.zeros((6, 7, 9), np.float16)
    band = Band(2, (6, 7, 9), np.ones((6, 1, 1), np.float32) * weights[:1, :1, :1], choose=False, half=True)
    band.weights, found = weights, {}
    for start, values in zip(starts, windows, strict=True):
        place = tuple(slice(s, s + n) for s, n in zip(start, weights.shape, strict=True))
        total[place] += weights
        for channel in range(2):
            sums[(channel, *place)] += values[channel] * weights
        band.add(start, values)
    band.finish(6, lambda first, mean, covered: found.update({first: (mean.copy(), covered.copy())}))
    covered = total > 0
    np.divide(sums, total, out=sums, where=covered)
    np.testing.assert_array_equal(found[0][1], covered)
    np.testing.assert_array_equal(found[0][0], sums.astype(np.float32))


@pytest.mark.parametrize("threads", [1, 3])
def test_work_in_blocks_is_all_done_once_and_an_error_is_not_lost(threads):
    """A block that is left out leaves a stripe without labels."""
    blocks, done = Blocks(threads), []
    blocks.each(lambda start, stop: done.extend(range(start, stop)), 5, 47, 4)
    assert sorted(done) == list(range(5, 47))
    blocks.each(lambda start, stop: pytest.fail("nothing to do"), 5, 5, 4)
    with pytest.raises(ZeroDivisionError):
        blocks.each(lambda start, stop: 1 // 0, 0, 9, 2)
    blocks.close()
