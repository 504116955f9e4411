"""A classifier's batch as a list of cases: real heads and phantoms, gone through slice by slice, without a mask."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import common
import slicer
from hands import Hands
from reviews import kept_apart, only_in_view
from session import Session, equal, true

_LOGIC = common.REPOSITORY / "MedSegExtension" / "Logic"
_HEAD = common.REAL_DATA / "images" / "head-ct-tilted"


def heads(folder: Path) -> list[Path]:
    """A real head CT as acquired (28 tilted slices), its upper half, its mirror image; two phantoms."""
    from medseg.io import read_volume

    found: list[Path] = []
    if _HEAD.is_dir():
        import SimpleITK as sitk

        files = sorted(_HEAD.glob("*.dcm"))
        for name, some in (("head", files), ("upper-half", files[12:])):
            (folder / name).mkdir()
            for file in some:
                shutil.copy(file, folder / name)
            found.append(folder / name)
        volume = read_volume(folder / "head")
        image = sitk.GetImageFromArray(volume.array[:, :, ::-1].copy())
        volume.grid.place(image)
        found.append(folder / "mirrored.nii.gz")
        sitk.WriteImage(image, str(found[-1]))
    medseg("phantom", "head-ct", "-o", str(folder / "drawn"), "--cases", "2")
    return [*found, *sorted((folder / "drawn" / "images").iterdir())]


def medseg(*arguments: str) -> str:
    """The command line, as installed beside this Slicer."""
    code = f"import sys; sys.path.insert(0, {str(_LOGIC)!r}); from medseg.cli import main; main()"
    done = subprocess.run(
        [common.python(), "-c", code, *arguments],
        env=slicer.util.startupEnvironment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    true(done.returncode == 0, f"medseg {arguments[0]}: {done.stdout[-500:]} {done.stderr[-1500:]}")
    return done.stdout


def check_review_a_classifiers_cases(session: Session) -> str:
    """Run on several heads; each opens with its slices; decided, stretched, added, rated; gone on with; two readers."""
    session.widget  # noqa: B018  (opens the module, which makes its packages importable)
    with tempfile.TemporaryDirectory() as name, kept_apart(session) as tab:
        common.make_room()
        folder = Path(name)
        images = heads(folder)
        medseg("run", "ich-compact", *map(str, images), "-o", str(folder / "out"), "--no-scene")
        tab.cases.reader.text = "AB"
        tab.cases._reader_typed()
        tab.cases._dialogs.folder = lambda title: str(folder / "out")
        try:
            tab.cases.open_batch()
        finally:
            del tab.cases._dialogs.folder
        equal([case.image for case in tab.cases.session.source.cases], [p.resolve() for p in images], "images")
        hands = Hands(tab)
        told = one_head(tab, hands)
        only_in_view("")
        root = tab.cases.session.folder
        rest = len(images) - 1
        for n in range(1, 1 + rest):
            hands.press("Ctrl+N", lambda: tab.cases.session.current == n and tab.reviewing is not None)  # noqa: B023
            decide_all(tab, hands)
            hands.press(str(2 + n % 3))
        common.picture("review-32-last-head")
        tab.cases.close_list(forget=False)
        rows = list(csv.DictReader((root / "cohort-AB.csv").read_text("utf-8").splitlines()))
        equal({row["state"] for row in rows}, {"done"}, "states in the table")
        second = second_reader(tab, hands, folder)
    return f"{len(images)} heads: {told}; {[row['findings'] for row in rows]} findings in cohort-AB.csv; {second}"


def one_head(tab: Any, hands: Hands) -> str:
    """The first head: what is in view, a finding that goes on for a slice, one that was missed."""
    hands.press("Ctrl+N", lambda: tab.reviewing is not None)
    reviewing = tab.reviewing
    true(reviewing.of_slices, "the case has no slices")
    review = reviewing.review
    tab.list.order.setCurrentIndex(tab.list.order.findData("probability"))
    first = tab.list._ids[0]
    tab.go(first)
    common.pause(0.4)
    only_in_view("Red")
    common.picture("review-30-slices")
    row, place = reviewing.row_in_view(), review.rows_of(first)
    true(place[0] <= row < place[1], f"row {row} is in view, the finding is in {place}")
    number, scores = review.scores_at(row)
    equal(max(scores.values()), review.findings[first].probability, "score of the slice in view")
    true(tab.slices.scores.text.startswith(f"Slice {number}:"), f"said: {tab.slices.scores.text}")
    stop = place[1]
    step_to(tab, stop)
    common.wait(lambda: tab.slices.scores.text.startswith(f"Slice {review.scores_at(stop)[0]}:"), 3)
    hands.press("T", lambda: review.rows_of(first)[1] == stop + 1)
    hands.press("A", lambda: review.decision(first).state == "accepted")
    step_to(tab, 5)
    hands.press("D", lambda: review.decision(reviewing.current).added)
    added = reviewing.current
    hands.press("C", lambda: review.decision(added).name != "")
    common.picture("review-31-slices-added")
    words = f"{review.class_of(added)} added on slice {review.numbers_of(added)[0]}"
    decide_all(tab, hands)
    hands.press("4")
    hands.press("S")
    table = (Path(reviewing.work.folder) / "slices_reviewed.csv").read_text("utf-8")
    answers = [line[f"{review.findings[first].name} reviewed"] for line in csv.DictReader(table.splitlines())]
    equal(answers[place[0] : stop + 1], ["yes"] * (stop + 1 - place[0]), "answers of the stretched finding")
    return f"{len(review.findings)} findings, one longer by a slice, {words}"


def step_to(tab: Any, row: int) -> None:
    """Scroll the views to the slice of a row."""
    from medseg_mrml.looking import look_at

    review = tab.reviewing.review
    centre = [review.table.column(f"centre_{axis}_mm")[row] for axis in "ras"]
    look_at(slicer.mrmlScene, tab.reviewing.volume, centre, (0.0, 0.0, 0.0), zoom=False)
    common.pause(0.2)


def decide_all(tab: Any, hands: Hands) -> None:
    """Decide on each finding by key: what is sure is accepted, the rest rejected."""
    review = tab.reviewing.review
    while review.left:
        id, left = tab.reviewing.current, review.left
        if review.decision(id).state:  # as a click on the row of the next one
            tab.go(tab.list.after(id, undecided=True))
            continue
        hands.press("A" if (review.findings[id].probability or 0) > 0.9 else "X", lambda: review.left < left)  # noqa: B023


def second_reader(tab: Any, hands: Hands, folder: Path) -> str:
    """Another reader sees nothing of the first, and how far they agree is told."""
    tab.cases.reader.text = "CD"
    tab.cases._reader_typed()
    true(tab.cases.open_files(str(folder / "out")), "the list does not open again")
    hands.press("Ctrl+N", lambda: tab.reviewing is not None)
    equal(tab.reviewing.review.left, len(tab.reviewing.review.findings), "findings that the second reader has left")
    tab.list.order.setCurrentIndex(tab.list.order.findData("position"))
    tab.go(tab.list._ids[0])
    for n in range(3):
        left = tab.reviewing.review.left
        hands.press("U" if n else "A", lambda: tab.reviewing.review.left < left)  # noqa: B023
    root = tab.cases.session.folder
    tab.leave()
    from medseg.review.readers import compare_readers

    found = compare_readers(root / "reader-AB", root / "reader-CD")
    (case,) = [c for c in found.cases if c.decisions]
    equal(case.problem, "", "problem of the agreement")
    kept = json.loads(next((root / "reader-CD").rglob("review.json")).read_text("utf-8"))
    equal(kept["mask"], "slices.csv", "what review.json names")
    return f"second reader: {len(case.decisions)} decisions of both, {len(case.differ)} differ"
