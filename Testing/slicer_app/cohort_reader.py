"""A reader goes through a cohort in a Slicer: ``Slicer --python-script cohort_reader.py FOLDER READER [MOST]``.

Started by `check_review_cohort` on a folder of `make_cohort.make`. The reader accepts what lies on the truth, rejects
what does not, draws what was missed; the reader CD takes small findings for noise. After MOST cases the reader decides
on two findings of the next and waits for being killed. Tells a line for each step.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import common
import numpy as np
import slicer
from hands import Hands
from reviews import FOLDER_SETTING, review_tab
from session import Session, true

_SMALL = 4


def say(*words: object) -> None:
    """One line."""
    print(*words, flush=True)


class Reader:
    """``name``: initials. ``tab``: the Review tab with the list open."""

    def __init__(self, folder: Path, name: str, session: Session) -> None:
        self.folder, self.name = folder, name
        slicer.app.userSettings().setValue(FOLDER_SETTING, str(folder / "reviews"))
        session.widget  # noqa: B018  (opens the module)
        self.tab = review_tab(session)
        self.hands = Hands(self.tab)

    def begin(self) -> None:
        """Go on where the program ended, or open the folder."""
        cases = self.tab.cases
        if self.tab.cases.offer.visible and self.name == "AB":
            say("offered", cases.offer_words.text)
            common.picture("review-18-offered-again")
            cases.offer_button.click()
        else:
            cases.reader.text = self.name
            cases._reader_typed()
            true(cases.open_files(str(self.folder / "images")), "no cases")
            cases.next()
        true(common.wait(lambda: self.tab.reviewing is not None, 60), f"no case: {self.tab.ui.status.text}")

    def case(self, most: int = 0) -> str:
        """Read the open case, all of it or the first ``most`` findings; its name."""
        from scipy import ndimage

        from medseg.io import read_segmentation

        reviewing, review = self.tab.reviewing, self.tab.reviewing.review
        name = reviewing.work.case
        truth = read_segmentation(self.folder / "truth" / f"{name}.seg.nrrd").mask("WMH")
        decided = len(review.findings) - review.left
        say("open", name, decided, reviewing.current)
        count = 0
        while review.left and (not most or count < most):
            id = reviewing.current
            if review.decision(id).state:  # the last place was one that is decided
                self.tab.go(self.tab.list.after(id, undecided=True))
                continue
            finding, inside = review.findings[id], review.mask(id)
            small = self.name == "CD" and finding.voxels < _SMALL
            right = bool((truth[finding.slices] & inside).any()) and not small
            self.hands.press("A" if right else "X", lambda: review.decision(id).state)  # noqa: B023
            say("decided", name, id, review.decision(id).state)
            count += 1
        if most:
            return str(name)
        missed, found = ndimage.label(truth & (review.labels[0] == 0), np.ones((3, 3, 3)))
        large = [n for n in range(1, found + 1) if (missed == n).sum() >= (_SMALL if self.name == "CD" else 1)]
        if large:
            drawn = review.labels[0].copy()
            drawn[np.isin(missed, large)] = review.model.layers[0].classes[0].value
            reviewing.draw(0, drawn)
        wrong = sum(d.state == "rejected" or d.added for d in review.decisions.values())
        rating = max(1, 5 - wrong // 2)
        self.hands.press(str(rating), lambda: reviewing.kept.rating == rating)
        say("done", name, rating)
        return str(name)

    def next(self) -> bool:
        """Go to the next case; False where there is none."""
        before = self.tab.cases.session.current
        start = time.perf_counter()
        last = before == len(self.tab.cases.session.list) - 1
        self.hands.press("Ctrl+N")
        if last:
            true(common.wait(lambda: self.tab.reviewing is None, 20), "the last case was not left")
            return False
        wanted = lambda: self.tab.reviewing is not None and self.tab.cases.session.current != before  # noqa: E731
        true(common.wait(wanted, 30, 2), f"the next case does not open: {self.tab.ui.status.text}")
        say("next", f"{time.perf_counter() - start:.2f}")
        return True


def main() -> None:
    """Read the cohort."""
    at = next(n for n, a in enumerate(sys.argv) if a and Path(a).is_dir())
    folder, name, *rest = sys.argv[at:]
    most = int(rest[0]) if rest else 0
    session = Session(models=False)
    reader = Reader(Path(folder), name, session)
    reader.begin()
    done = 0
    while True:
        if most and done == most:
            reader.case(2)
            common.pause(2.0)
            reviewing: Any = reader.tab.reviewing
            common.picture("review-17-before-the-kill")
            say("waiting", reviewing.work.case, reviewing.current)
            common.pause(120)
            return
        reader.case()
        done += 1
        if not reader.next():
            break
    common.picture(f"review-19-finished-{name}")
    say("finished", done, "presses", reader.hands.presses, "messages", session.errors)
    reader.tab.cases.close_list()
    session.end()


failed = 1
try:
    main()
    failed = 0
except Exception:
    traceback.print_exc()
# Slicer deletes this name when it loads a module, and wants it when the script ends.
import sys  # noqa: E402

common.exit_with(failed)
