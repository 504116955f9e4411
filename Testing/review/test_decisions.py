"""A reader's decisions: what they do to the reviewed mask, and that nothing decided is ever lost or cannot be

undone.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.io import Segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.decisions import Decision, Review
from support.geometry import grids

GRID = Grid((30, 24, 12), (1.0, 1.0, 2.0), (5.0, -6.0, 7.0), np.eye(3))
CLASSES = (
    SegmentClass(1, "normal", (0.0, 0.5, 1.0), lesion=True),
    SegmentClass(2, "abnormal", (1.0, 0.0, 0.0), lesion=True),
    SegmentClass(3, "ventricle", (0.0, 1.0, 0.0)),
)


def review(labels: np.ndarray, grid: Grid = GRID, **more: Any) -> Review:
    return Review(Segmentation(grid, (Layer(labels, CLASSES),), "mask.seg.nrrd"), **more)


def spots(seed: int, grid: Grid = GRID) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(grid.shape) < 0.06, rng.integers(1, 4, grid.shape), 0).astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(grid=grids(max_size=8), seed=st.integers(0, 99))
def test_findings_are_the_components_of_lesion_classes_with_their_place_and_size(grid: Grid, seed: int) -> None:
    labels = spots(seed, grid)
    found = review(labels, grid)
    expected = sum(ndimage.label(labels == v, np.ones((3, 3, 3)))[1] for v in (1, 2))
    assert len(found.findings) == expected
    assert sum(f.voxels for f in found.findings.values()) == ((labels == 1) | (labels == 2)).sum()
    for f in found.findings.values():
        x, y, z = f.centre
        i, j, k = np.rint(grid.to_index([-x, -y, z])).astype(int)
        assert labels[k, j, i] == f.value, "a view that goes to the finding must show it"
        assert f.volume_ml == pytest.approx(f.voxels * grid.voxel_volume / 1000)
        assert all(low <= p < high for (low, high), p in zip(f.box, (k, j, i), strict=True))


def test_where_no_class_is_called_a_lesion_all_are_findings() -> None:
    plain = tuple(SegmentClass(c.value, c.name, c.color) for c in CLASSES)
    found = Review(Segmentation(GRID, (Layer(spots(1), plain),), "x"))
    assert {f.name for f in found.findings.values()} == {"normal", "abnormal", "ventricle"}


def test_rejected_voxels_leave_the_reviewed_mask_and_the_model_s_stays() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:4, 3:6, 3:6], labels[8, 10:14, 20] = 2, 2
    labels[2:4, 6:8, 3:6] = 3
    work = review(labels)
    large, small = work.listed("size")
    work.decide(large.id, "rejected")
    assert (work.labels[0][2:4, 3:6, 3:6] == 0).all() and (work.labels[0][2:4, 6:8, 3:6] == 3).all()
    assert (work.model.layers[0].labels == labels).all() and work.reviewed().mask("abnormal").sum() == 4
    change = {c.name: c for c in work.changes()}["abnormal"]
    assert (change.added, change.removed) == (0, 18) and change.dice == pytest.approx(2 * 4 / (4 + 22))
    work.decide(large.id, "accepted")
    assert (work.labels[0] == labels).all() and work.left == 1
    work.relabel(small.id, "normal")
    assert work.class_of(small.id) == "normal" and work.reviewed().mask("normal").sum() == 4
    assert work.listed(unreviewed=True) == [] and work.listed(name="normal") == [work.findings[small.id]]
    with pytest.raises(InputError, match="no class 'tumour'"):
        work.relabel(small.id, "tumour")
    with pytest.raises(InputError, match="no finding 99"):
        work.decide(99, "accepted")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_any_work_is_undone_to_the_voxel_and_done_again(seed: int) -> None:
    rng = random.Random(seed)
    work = review(spots(seed))
    states = []

    def state() -> tuple[Any, ...]:
        return work.labels[0].copy(), dict(work.findings), dict(work.decisions)

    def same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
        return bool((one[0] == other[0]).all()) and one[1:] == other[1:]

    for _ in range(12):
        states.append(state())
        id = rng.choice(list(work.findings) or [0])
        what = rng.randrange(4)
        if what == 0 and id:
            work.decide(id, rng.choice(("accepted", "rejected", "uncertain")))
        elif what == 1 and id:
            work.relabel(id, rng.choice(("normal", "abnormal")))
        else:
            drawn = work.labels[0].copy()
            k, j, i = (rng.randrange(n) for n in drawn.shape)
            drawn[k : k + 2, j : j + rng.randrange(1, 9), i : i + rng.randrange(1, 9)] = rng.choice((0, 1, 2))
            work.edited(0, drawn)
            assert (work.labels[0] == drawn).all()
        if same(states[-1], state()):
            states.pop()
    last = state()
    for before in reversed(states):
        assert work.undo() and same(state(), before)
    assert not work.undo()
    while work.redo():
        pass
    assert same(state(), last)
    # What is drawn and not rejected is exactly the findings.
    alive = {f.id for f in work.findings.values() if work.decision(f.id).state != "rejected"}
    inside = np.isin(work._numbers[0], list(alive)) & (work.labels[0] > 0)
    assert (inside == np.isin(work.labels[0], (1, 2))).all()


def test_drawing_adds_a_finding_and_a_split_one_keeps_its_decision() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3, 10, 2:20] = 2
    work = review(labels)
    (line,) = work.findings.values()
    work.decide(line.id, "uncertain")
    drawn = work.labels[0].copy()
    drawn[3, 10, 8] = 0
    drawn[8, 3:5, 3:5] = 2
    new = work.edited(0, drawn)
    assert len(work.findings) == 3 and len(new) == 2
    larger = next(f for f in work.findings.values() if f.voxels == 11)
    assert larger.id == line.id, "the greater part keeps the number"
    smaller, missed = (next(f for f in work.findings.values() if f.voxels == n) for n in (6, 4))
    assert work.decision(smaller.id).state == work.decision(larger.id).state == "uncertain"
    assert work.decision(missed.id) == Decision("accepted", added=True)
    drawn = drawn.copy()
    drawn[3, 10, 8] = 2
    work.edited(0, drawn)
    assert len(work.findings) == 2 and work.findings[line.id].voxels == 18


def rejected_row() -> tuple[Review, int]:
    """A review of one finding, a row of four voxels, which was rejected; and its number."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3, 10, 2:6] = 2
    work = review(labels)
    (one,) = work.findings
    work.decide(one, "rejected")
    return work, one


def test_a_rejected_finding_stays_in_the_list_when_others_are_drawn_beside_it() -> None:
    work, one = rejected_row()
    drawn = work.labels[0].copy()
    drawn[3, 11, 2:4] = 1
    work.edited(0, drawn)
    assert work.decision(one).state == "rejected" and len(work.findings) == 2
    work.decide(one, "accepted")
    assert work.reviewed().mask("abnormal").sum() == 4 and work.reviewed().mask("normal").sum() == 2


def test_a_rejected_finding_that_was_drawn_over_is_not_listed_with_voxels_that_it_lost() -> None:
    """Else the list and review.json tell of a lesion, with its volume, of which nothing is left."""
    work, one = rejected_row()
    labels = work.model.layers[0].labels
    drawn = work.labels[0].copy()
    drawn[3, 10, 2:5] = 1
    work.edited(0, drawn)
    assert work.findings[one].voxels == work.mask(one).sum() == 1 and work.findings[one].box[2] == (5, 6)
    drawn = drawn.copy()
    drawn[3, 10, 5] = 1
    work.edited(0, drawn)
    assert one not in work.findings and len(work.findings) == 1
    work.undo()
    work.undo()
    work.decide(one, "accepted")
    assert (work.labels[0] == labels).all() and work.findings[one].voxels == 4


def test_a_finding_that_was_called_something_else_stays_when_one_is_drawn_beside_it() -> None:
    """A 'lesion' that is a ventricle, say: the decision was lost as soon as the brush came near."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3, 10, 2:6] = 2
    labels[9, 20, 20] = 3
    work = review(labels)
    (one,) = work.findings
    work.relabel(one, "ventricle")
    drawn = work.labels[0].copy()
    drawn[3, 11, 2:4] = 1
    (new,) = work.edited(0, drawn)
    assert set(work.findings) == {one, new} and work.class_of(one) == "ventricle"
    assert work.decision(one).state == "accepted" and work.reviewed().mask("ventricle").sum() == 5
    work.relabel(one, "abnormal")
    assert work.reviewed().mask("abnormal").sum() == 4
