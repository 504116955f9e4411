"""A cohort of cases, and readers who go through it by the same code as the Review tab, without the tab.

    python Testing/review/make_cohort.py make FOLDER --cases 20       # images, masks to correct, truth
    python Testing/review/make_cohort.py read FOLDER --reader AB      # one reader; --die-at N: killed in the Nth write
    python Testing/review/make_cohort.py show FOLDER --cases 20       # five read, killed, reopened, finished, a table,
                                                                      # a second reader, their agreement

Cases are drawn (`medseg.phantoms.flair`) and, where the real test data is, real FLAIRs with manual masks, cropped and
flipped.
The mask to correct is the truth without its second largest lesion, with two false lesions: errors as models make them.
A reader accepts what lies on truth, rejects what does not, and draws what is missing; the second reader is stricter.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.io import read_segmentation, read_volume
from medseg.output.files import save_segmentation
from medseg.phantoms import flair
from medseg.result import Layer, SegmentClass
from medseg.review.case_file import CaseReview, save_version, take_decisions, write_case
from medseg.review.cases import Case, case_folder, find_cases, reader_folder, reviews_in, states
from medseg.review.cohort import cohort_table, write_cohort
from medseg.review.decisions import Review
from medseg.review.resuming import OpenCase, open_review
from support.real_data import REAL_DATA

IMAGES, TRUTH, REVIEWS = "images", "truth", "reviews"
CLASS = (SegmentClass(1, "WMH", (0.84, 0.37, 0.0), lesion=True),)
_SIZE = (96, 96, 20)
#: Voxels of a lesion that the second reader takes for noise.
_SMALL = 4


# -- cases ----------------------------------------------------------------------------------------------------


def make(folder: Path, count: int, *, real: bool = True, size: tuple[int, int, int] = _SIZE) -> list[str]:
    """Write ``count`` cases below ``folder``, real ones first; their names."""
    names = []
    source = [*(_real_cases() if real else ())][:count]
    drawn = (_drawn(seed, size) for seed in range(1, count - len(source) + 1))
    for name, volume, truth in (*source, *drawn):
        image: Any = sitk.GetImageFromArray(np.asarray(volume.array))
        volume.grid.place(image)
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(folder / IMAGES / f"{name}.nii.gz"))
        mask = with_errors(truth, seed=len(names))
        save_segmentation(folder / IMAGES / f"{name}_mask.seg.nrrd", [Layer(mask, CLASS)], volume.grid, "drawn")
        save_segmentation(folder / TRUTH / f"{name}.seg.nrrd", [Layer(truth, CLASS)], volume.grid)
        names.append(name)
    return names


def _drawn(seed: int, size: tuple[int, int, int]) -> tuple[str, Volume, np.ndarray]:
    phantom = flair(seed, size=size, spacing=(230 / size[0], 230 / size[1], 6.5), lesions=6 + seed % 5)
    return f"phantom-{seed:02d}", phantom.volume, (phantom.labels == 2).astype(np.uint8)


def _real_cases() -> Iterator[tuple[str, Volume, np.ndarray]]:
    """Each real FLAIR as it is, mirrored, and its lower and upper half."""
    for folder in sorted((REAL_DATA / "images" / "wmh").glob("[0-9]*")):
        if not (folder / "flair.nii.gz").is_file():
            continue
        volume = read_volume(folder / "flair.nii.gz")
        truth = (np.asarray(read_volume(folder / "abWMH.nii.gz").array) > 0).astype(np.uint8)
        half = volume.array.shape[0] // 2
        parts = {
            "whole": (slice(None), slice(None)), "mirrored": (slice(None), slice(None, None, -1)),
            "lower": (slice(0, half), slice(None)), "upper": (slice(half, None), slice(None)),
        }  # fmt: skip
        for part, (k, i) in parts.items():
            array, labels = (np.ascontiguousarray(a[k, :, i]) for a in (volume.array, truth))
            start = volume.grid.to_physical([0, 0, k.start or 0])
            grid = Grid(array.shape[::-1], volume.grid.spacing, tuple(float(v) for v in start), volume.grid.direction)
            if labels.any():
                yield f"{folder.name}-{part}", Volume(array, grid, "MR", part), labels


def with_errors(truth: np.ndarray, seed: int) -> np.ndarray:
    """``truth`` (K, J, I) without its second largest lesion, with two small false ones far from the others."""
    mask = truth.copy()
    found, count = ndimage.label(truth, np.ones((3, 3, 3)))
    if count > 1:
        mask[found == np.argsort(np.bincount(found.ravel())[1:])[-2] + 1] = 0
    rng = np.random.default_rng(seed)
    taken = ndimage.binary_dilation(truth, iterations=4)
    for _ in range(2):
        free = np.argwhere(~taken[1:-1, 8:-8, 8:-8])
        k, j, i = free[rng.integers(len(free))] + np.array([1, 8, 8])
        mask[k, j : j + 3, i : i + 2] = 1
        taken[max(0, k - 1) : k + 2, j - 4 : j + 8, i - 4 : i + 8] = True
    return mask


# -- a reader -------------------------------------------------------------------------------------------------


def read(folder: Path, reader: str, *, strict: bool = False, most: int | None = None,
         told: Callable[[str], None] = print) -> int:  # fmt: skip
    """Go on where ``reader`` was, until all or ``most`` further cases are done; how many were finished now.

    Each decision is told when it is kept. ``strict``: small lesions are rejected too.
    """
    done = 0
    cases = find_cases(folder / IMAGES)
    for case, kept in zip(cases, states(cases, folder / REVIEWS, reader), strict=True):
        if kept.state in ("done", "skipped"):
            continue
        if done == most:
            break
        _read_case(case, folder, reader, strict, told)
        done += 1
    return done


def open_case(case: Case, folder: Path, reader: str) -> OpenCase:
    """A case as its reader left it."""
    assert case.mask is not None and case.image is not None
    new = CaseReview(case.name, case.image.name, case.mask.name, "drawn", reader)
    return open_review(case_folder(folder / REVIEWS, case.name, reader), Review(read_segmentation(case.mask)), new)


def _read_case(case: Case, folder: Path, reader: str, strict: bool, told: Callable[[str], None]) -> None:
    opened = open_case(case, folder, reader)
    began = time.monotonic() - opened.kept.seconds
    review, kept, steps = opened.review, opened.kept, opened.journal
    truth = read_segmentation(folder / TRUTH / f"{case.name}.seg.nrrd").mask("WMH")
    told(f"open {case.name} {len(review.decisions)} decided, at finding {kept.finding}")
    kept.state = "in progress"
    for finding in review.listed("size", unreviewed=True):
        inside = review.mask(finding.id)
        right = bool((truth[finding.slices] & inside).any()) and not (strict and finding.voxels < _SMALL)
        steps.decide(finding.id, "accepted" if right else "rejected")
        kept.finding = finding.id
        kept.seconds = time.monotonic() - began
        take_decisions(kept, review)
        write_case(opened.folder, kept)
        told(f"decided {case.name} {finding.id} {review.decision(finding.id).state}")
    missed, count = ndimage.label(truth & (review.labels[0] == 0), np.ones((3, 3, 3)))
    large = [n for n in range(1, count + 1) if (missed == n).sum() >= (_SMALL if strict else 1)]
    if large:
        drawn = review.labels[0].copy()
        drawn[np.isin(missed, large)] = 1
        steps.edited(0, drawn)
        told(f"drew {case.name} {len(large)}")
    wrong = sum(d.state == "rejected" or d.added for d in review.decisions.values())
    kept.rating = max(1, 5 - wrong // 2)
    kept.state, kept.seconds = "done", time.monotonic() - began
    take_decisions(kept, review)
    save_version(opened.folder, kept, review.reviewed(), "corrected")
    told(f"done {case.name} rating {kept.rating}")


def die_at(write: int) -> None:
    """From now on the ``write``-th write to the disk is cut short and this process killed, as nobody can forbid it."""
    sync, count = os.fsync, 0

    def cut(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == write:
            os.ftruncate(descriptor, max(0, os.fstat(descriptor).st_size - 7))
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = cut


def read_and_die(folder: Path, reader: str, write: int) -> list[str]:
    """Let another process read until it is killed in its ``write``-th write; what it told before."""
    command = [sys.executable, __file__, "read", str(folder), "--reader", reader, "--die-at", str(write)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, f"the reader ended with {ended.returncode}, not killed"
    return ended.stdout.splitlines()


def lost(folder: Path, reader: str, told: list[str]) -> list[str]:
    """Which of the decisions that were told are not there when the cases are opened again."""
    wanted: dict[str, dict[int, str]] = {}
    for words in (line.split() for line in told if line.startswith("decided")):
        wanted.setdefault(words[1], {})[int(words[2])] = words[3]
    gone = []
    for case in find_cases(folder / IMAGES):
        if case.name in wanted:
            review = open_case(case, folder, reader).review
            gone += [f"{case.name} {n}" for n, s in wanted[case.name].items() if review.decision(n).state != s]
    return gone


# -- all of it ------------------------------------------------------------------------------------------------


def show(folder: Path, count: int) -> None:
    """The whole story, with what each step gave."""
    from typer.testing import CliRunner

    from medseg.cli import app

    names = make(folder, count)
    print(f"{len(names)} cases: {', '.join(names)}")
    print(f"reader AB read {read(folder, 'AB', most=5, told=lambda line: None)} cases")
    told = read_and_die(folder, "AB", write=9)
    print(f"killed in the middle of a write; the last that it told: {told[-1]}")
    cases = find_cases(folder / IMAGES)
    kept = states(cases, folder / REVIEWS, "AB")
    print(f"states: {[f'{k.case}: {k.state}' for k in kept if k.state != 'to do']}")
    print(f"decisions lost: {lost(folder, 'AB', told)}")
    lines: list[str] = []
    print(f"reopened: {read(folder, 'AB', told=lines.append)} cases finished; it went on with: {lines[0]}")
    reviews = reviews_in(folder / REVIEWS, "AB")
    write_cohort(folder / "cohort.csv", reviews)
    print(cohort_table(reviews).to_csv())
    print(f"reader CD, blinded, read {read(folder, 'CD', strict=True, told=lambda line: None)} cases")
    one, other = (str(reader_folder(folder / REVIEWS, r)) for r in ("AB", "CD"))
    out = str(folder / "agreement")
    done = CliRunner().invoke(
        app, ["review", "agreement", one, other, "--cases", str(folder / IMAGES), "-o", out, "--force"]
    )
    print(done.output)
    print((folder / "agreement" / "disagreements.csv").read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "read", "show"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--reader", default="AB")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--die-at", type=int, default=0)
    given = parser.parse_args()
    if given.what == "make":
        print(make(given.folder, given.cases))
    elif given.what == "show":
        show(given.folder, given.cases)
    else:
        if given.die_at:
            die_at(given.die_at)
        read(given.folder, given.reader, strict=given.strict, told=lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
