"""Outputs that land in arrays which are used again: never one that somebody still reads."""

from __future__ import annotations

import threading

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from medseg.engine.bound import BoundSession, Outputs
from medseg.engine.calling import CallingThread
from medseg.monitor import Monitor
from support.tiny_networks import convolution, model

KEY = ("y", (4, 5), "<f4")


def opened(proto):
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def test_an_array_is_handed_out_again_only_when_no_view_of_it_is_left():
    """A window that is still being blended must not be overwritten by the next one."""
    outputs = Outputs()
    first = outputs.take(KEY)
    view = first[1:, np.newaxis].reshape(-1)
    place = first.ctypes.data
    del first
    assert outputs.take(KEY).ctypes.data != place
    del view
    assert outputs.take(KEY).ctypes.data == place


def test_large_outputs_are_not_kept():
    """The maps of a whole volume would otherwise be held as long as the model is warm."""
    outputs = Outputs()
    del outputs._kept
    assert outputs.take(("y", (1 << 24, 2), "<f4")).shape == (1 << 24, 2)


def test_bound_runs_give_what_plain_runs_give_and_make_few_arrays():
    """Sizes may change from run to run; each is learnt once, and runs in a row share two arrays."""
    session = opened(convolution(np.random.default_rng(0).normal(size=(2, 1, 3, 3))))
    bound = BoundSession(session)
    places = set()
    for n in range(12):
        x = np.random.default_rng(n).normal(size=(1 + n % 2, 1, 8, 9)).astype(np.float32)
        (found,) = bound.run({"x": x}, onnxruntime.RunOptions())
        np.testing.assert_array_equal(found, session.run(None, {"x": x})[0])
        places.add((found.shape[0], found.ctypes.data))
    assert len(bound._outputs._kept) == 2 and all(len(a) == 1 for a in bound._outputs._kept.values())


def test_a_network_whose_output_is_not_sized_by_its_input_is_run_plainly():
    """The second run has another number of results; bound to the first run's size it would fail."""
    session = opened(model([helper.make_node("NonZero", ["x"], ["y"])], {"x": (None,)}, ["y"], output_dtype=7))
    bound = BoundSession(session)
    assert bound.run({"x": np.float32([1, 0, 2])}, onnxruntime.RunOptions())[0].tolist() == [[0, 2]]
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    with pytest.raises(RuntimeError, match="shape"):
        bound.run({"x": np.float32([1, 1, 2])}, options)
    assert bound.plainly() and not bound.plainly()  # what `Session` does then, once
    assert bound.run({"x": np.float32([1, 1, 2])}, options)[0].tolist() == [[0, 1, 2]]


def test_several_calls_are_under_way_where_several_threads_were_asked_for():
    """A card copies for one call while it computes for the other."""
    thread, meeting = CallingThread(), threading.Barrier(2, timeout=20)
    thread.at_least(2)
    callers = [
        threading.Thread(target=lambda: thread.call(meeting.wait, Monitor(), lambda: None), daemon=True)
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
        assert not caller.is_alive()
    assert not meeting.broken
    thread.close()
