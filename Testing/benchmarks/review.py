"""How long a reader waits: 2,000 findings in 512x512x300, a decision, a drawing, a threshold, what changed, a save.

    python Testing/benchmarks/review.py [--findings 2000]

Each figure is the median of several tries, with the greatest, which is what a reader feels, and the processor's time,
which says what a machine without other work would need.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medseg.geometry.grid import Grid
from medseg.io import Segmentation, read_segmentation
from medseg.output.files import save_segmentation
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, save_version, take_decisions, write_case
from medseg.review.decisions import Review
from medseg.review.journal import Journal
from medseg.review.regrow import all_regrown, grown
from medseg.review.resuming import open_review

SHAPE = (300, 512, 512)
CLASSES = (SegmentClass(1, "lesion", (0.84, 0.37, 0.0), lesion=True), SegmentClass(2, "other", (0.34, 0.71, 0.91)))


def lesions(count: int) -> tuple[Segmentation, np.ndarray]:
    """``count`` balls of radius 2 to 5 on a lattice, and a map of fixed point that falls off around each."""
    labels, score = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint16)
    places = [(k, j, i) for k in range(10, 291, 20) for j in range(14, 498, 28) for i in range(14, 498, 28)]
    rng = np.random.default_rng(1)
    k, j, i = np.indices((17, 17, 17)) - 8
    away = np.sqrt(k**2 + j**2 + i**2)
    for n in rng.permutation(len(places))[:count]:
        box = tuple(slice(p - 8, p + 9) for p in places[n])
        radius = rng.uniform(2, 5)
        fall = np.clip(0.5 + (radius - away) / 8, 0, 1) * (away < 8)
        score[box] = np.maximum(score[box], np.round(fall * 65535).astype(np.uint16))
        labels[box][away <= radius] = 1
    grid = Grid(SHAPE[::-1], (0.5, 0.5, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    return Segmentation(grid, (Layer(labels, CLASSES),), "lesions.seg.nrrd", "model"), score


def timed(words: str, work: Callable[[int], object], tries: int, most: float | None = None) -> float:
    """Print median and greatest milliseconds of ``work(n)``, and the processor's median; the first, in seconds."""
    seconds, busy = [], []
    for n in range(tries):
        began, used = time.perf_counter(), time.process_time()
        work(n)
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - used)
    median = statistics.median(seconds)
    aim = "" if most is None else f"   aim {most * 1000:g}: {'kept' if median < most else 'MISSED'}"
    print(f"{words:48s} {median * 1000:9.1f} ms, greatest {max(seconds) * 1000:9.1f}, processor "
          f"{statistics.median(busy) * 1000:9.1f}{aim}", flush=True)  # fmt: skip
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=2000)
    count = parser.parse_args().findings
    masks, score = lesions(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = save_segmentation(folder / "lesions.seg.nrrd", masks.layers, masks.grid, "model")
        timed("the mask's file read", lambda n: read_segmentation(file), 2)
        made: list[Review] = []
        scores = {"lesion": score}
        timed(f"{count} findings found and measured", lambda n: made.append(Review(masks, probabilities=scores)), 2, 10)
        review = made[-1]
        assert len(review.findings) == count, f"{len(review.findings)} findings"
        opened = open_review(folder / "case", review, CaseReview("case"))
        journal: Journal = opened.journal
        ids = [f.id for f in review.listed("size")]

        def decide(n: int) -> None:
            journal.decide(ids[n], ("accepted", "rejected", "uncertain")[n % 3])
            opened.kept.finding = ids[n]
            take_decisions(opened.kept, review)
            write_case(opened.folder, opened.kept)

        timed("a decision, its step and review.json written", decide, 30, 0.1)
        timed("the decision alone", lambda n: review.decide(ids[50 + n], "rejected"), 30)
        timed("the list, sorted and filtered", lambda n: review.listed("probability", unreviewed=True), 20, 0.1)
        f = review.findings[ids[100]]

        def draw(n: int) -> None:
            box = tuple(slice(s.start - 3, s.stop + 3) for s in f.slices)
            drawn = review.labels[0][box].copy()
            drawn[n % drawn.shape[0], 1, 1 + n % 5] ^= 1
            review.edited_in(0, box, drawn)  # type: ignore[arg-type]

        timed("a stroke in a box of 17 voxels", draw, 20, 0.1)
        timed("what changed", lambda n: review.changes(), 20, 0.02)
        timed("undo and redo", lambda n: (review.undo(), review.redo()), 20, 0.1)
        timed("a finding at another threshold", lambda n: grown(score, review.findings[ids[200 + n]].slices,
              review.mask(ids[200 + n]), 0.3 + 0.02 * n), 20, 0.1)  # fmt: skip
        timed("all findings at another threshold", lambda n: all_regrown(review.labels[0], 1, score, 0.4), 2)
        timed("the whole drawing held against the mask", lambda n: journal.edited(0, review.labels[0].copy()), 3)
        timed("a version saved", lambda n: save_version(opened.folder, opened.kept, review.reviewed()), 2)
        timed("the case opened again, with all its steps", lambda n: open_review(
              opened.folder, Review(masks), CaseReview("case")), 1, 10)  # fmt: skip


if __name__ == "__main__":
    main()
