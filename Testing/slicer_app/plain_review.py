"""The Review tab in a Slicer without further packages: ``Slicer --python-script plain_review.py FOLDER``.

Started by `check_review_files`, which blocks the packages and makes FOLDER/cases.csv. Tells one line, ``plain: ...``.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import common
import slicer
from check_review_files import EXTRA
from hands import Hands
from reviews import kept_apart
from session import Session, equal, true


def main() -> str:
    """Open each case, decide on a finding, save; what was done."""
    import importlib.util
    import sys  # Slicer takes the name out of the script when it loads a module

    there = [name for name in EXTRA if importlib.util.find_spec(name) is not None]
    equal(there, [], "packages that a plain Slicer has not")
    session = Session(models=False)
    folder = Path(next(a for a in reversed(sys.argv) if a and Path(a).is_dir()))
    with kept_apart(session) as tab:
        true(tab.cases.open_files(str(folder / "cases.csv")), f"no cases: {session.errors}")
        hands = Hands(tab)
        count = len(tab.cases.session.list)
        for n in range(count):
            hands.press("Ctrl+N", lambda: tab.reviewing is not None and tab.cases.session.current == n)  # noqa: B023
            id = tab.reviewing.current
            hands.press("X", lambda: tab.reviewing.review.decision(id).state == "rejected")  # noqa: B023
            hands.press("4", lambda: tab.reviewing.kept.rating == 4)
            hands.press("S", lambda: len(tab.reviewing.kept.versions) == 1)
            if n == 0:
                compare_and_report(tab, session)
    equal(session.errors, [], "messages")
    session.end()
    brought = sorted(name for name in EXTRA if name in sys.modules)
    equal(brought, [], "packages imported")
    return f"{count} cases opened, decided, rated and saved without {', '.join(EXTRA)}"


def compare_and_report(tab: Any, session: Session) -> None:
    """What compares masks works too; the report says what it would need, and installs nothing unasked."""
    compare, keeping = tab.compare, tab.keeping
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "copy")
    copy.GetSegmentation().DeepCopy(tab.reviewing.shown.node.GetSegmentation())
    compare.other.setCurrentNode(copy)
    compare.compare()
    equal(session.errors, [], "messages")
    true(compare.table.model().rowCount() > 0, "nothing was compared")
    compare.remove()
    slicer.mrmlScene.RemoveNode(copy)
    asked: list[str] = []
    keeping._dialogs.confirm = lambda question, details="": bool(asked.append(question))
    keeping.report()
    del keeping._dialogs.confirm
    true(asked and "Jinja2" in asked[0], "the report does not say what it needs")
    equal(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), count, "segmentations")


failed = 1
try:
    print(f"plain: {main()}", flush=True)
    failed = 0
except Exception:
    traceback.print_exc()
# Slicer deletes this name when it loads a module, and wants it when the script ends.
import sys  # noqa: E402

common.exit_with(failed)
