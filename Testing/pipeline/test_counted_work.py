"""Work that is counted, not timed: sessions, network calls, bytes fed. Seconds vary between machines, these do not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.engine.session import Session
from medseg.monitor import Monitor
from medseg.phantoms import head_ct
from medseg.pipeline.infer import infer
from medseg.pipeline.run import run
from support.tiny_networks import LocalSession, convolution, manifest, prepared

WEIGHTS = np.full((3, 1, 1, 1, 1), 0.5)


def fed(session: LocalSession) -> int:
    """Bytes of all arrays that the network was given."""
    return sum(array.nbytes for feeds in session.calls for array in feeds.values())


@pytest.mark.parametrize("batch", [1, 4])
def test_no_window_runs_twice_and_none_is_padded_out(batch):
    """A window more than needed is waiting time: the count is that of the formula, the last batch is not filled up."""
    session = LocalSession(convolution(WEIGHTS))
    shape, patch = (16, 12, 20), (4, 5, 6)
    plan = {"mode": "sliding_window", "patch": [6, 5, 4], "overlap": 0.5, "batch": batch}
    infer(manifest(plan, {}, 2), prepared(np.ones((1, *shape), np.float32)), session, Monitor())
    windows = math.prod(math.ceil((s - p) / (p // 2)) + 1 for s, p in zip(shape, patch, strict=True))
    assert len(session.calls) == math.ceil(windows / batch)
    assert fed(session) == windows * math.prod(patch) * 4


def test_background_windows_are_not_run():
    """Air around a patient costs nothing where the manifest allows that it is skipped."""
    session = LocalSession(convolution(WEIGHTS))
    array = np.zeros((1, 16, 5, 6), np.float32)
    array[0, 4:8] = 1
    plan = {"mode": "sliding_window", "patch": [6, 5, 4], "overlap": 0.0, "skip_background_at_most": 0.5}
    infer(manifest(plan, {}, 2), prepared(array), session, Monitor())
    assert len(session.calls) == 1
    assert fed(session) == 4 * 5 * 6 * 4


def test_one_session_and_the_fewest_calls_for_a_stack_of_slices(repository):
    """Opening a network twice doubles the start of a run; slices go in full batches."""
    opened, slices = [], []

    def opening(*args, **options):
        session = Session.open(*args, **options)
        real = session.run

        def counted(feeds):
            slices.append(next(iter(feeds.values())).shape[0])
            return real(feeds)

        session.run = counted
        opened.append(session)
        return session

    volume = head_ct(7).volume
    run(repository / "MedSegExtension/Resources/Models/ich-compact", volume, device="cpu", open_session=opening)
    assert len(opened) == 1
    assert slices == [16, 14]
