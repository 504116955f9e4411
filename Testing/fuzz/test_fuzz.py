"""A damaged file must cost one sentence: a crash takes the user's session or the rest of a batch with it.

A few hundred cases of each kind; ``make fuzz`` runs ten thousand with any seed.
"""

from __future__ import annotations

import random
import sys

import pytest

from fuzz.kinds import kinds
from fuzz.mutations import damaged_bytes, damaged_json
from fuzz.runner import Child, run_cases

_SEED = 11
_GROUPS = sorted({kind.group for kind in kinds().values()})


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and waiting for pipes are POSIX")
@pytest.mark.parametrize("group", _GROUPS)
def test_every_damaged_input_is_answered_with_a_result_or_a_sentence(group: str) -> None:
    child = Child()
    try:
        faults = [
            f"{fault.what}\n    {fault.command}"
            for kind in kinds().values()
            if kind.group == group
            for fault in run_cases(child, kind, _SEED, range(kind.tested))
        ]
    finally:
        child.end()
    assert not faults, "\n".join(faults)


def test_a_case_is_the_same_each_time_and_differs_from_others() -> None:
    """Else the printed command would not show the fault again."""
    data = bytes(range(256)) * 4
    cases = [damaged_bytes(data, f"kind 1 {n}") for n in range(50)]
    assert cases == [damaged_bytes(data, f"kind 1 {n}") for n in range(50)]
    assert len(set(cases)) > 40 and sum(case != data for case in cases) > 40
    texts = [damaged_json(b'{"a": [1, 2, {"b": "c"}]}', f"kind 1 {n}") for n in range(50)]
    assert texts == [damaged_json(b'{"a": [1, 2, {"b": "c"}]}', f"kind 1 {n}") for n in range(50)]
    assert len(set(texts)) > 25


def test_a_crash_of_the_reader_is_a_fault_of_that_case_alone() -> None:
    """The fuzzer that dies with what it tests finds one fault and then nothing."""
    child = Child()
    try:
        assert child.ask("table", 1, 0) == ""
        assert child._process is not None
        child._process.kill()
        child._process.wait()
        index = random.Random(1).randrange(1000)
        assert "ended with code" in child.ask("table", 1, index)
        assert child.ask("table", 1, index) == ""
    finally:
        child.end()
