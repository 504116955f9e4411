"""A cohort of twenty cases: five read, Slicer killed, reopened, finished; a second reader, and how far they agree."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path

import common
from another import AnotherSlicer
from reviews import kept_apart
from session import Session, equal, true

CASES, BEFORE = 20, 5
_SCRIPT = "cohort_reader.py"
#: Seconds for a reader of all cases, on a busy computer.
_PATIENCE = 1500


def check_review_cohort_survives_a_kill(session: Session) -> str:
    """Killed in the sixth case: no decision is lost, it goes on at the same case and finding, and ends with a table."""
    session.widget  # noqa: B018  (opens the module, which makes its packages importable)
    from review.make_cohort import make

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = make(folder, CASES)
        equal(len(names), CASES, "cases")
        with AnotherSlicer(_SCRIPT, name, "AB", str(BEFORE)) as first:
            true(common.wait(lambda: first.said("waiting") or first.said("Traceback"), _PATIENCE, 200), tail(first))
            true(first.said("waiting"), tail(first))
            case, finding = first.said("waiting")[-1].split()
            first.kill()
            told = first.said("decided")
            done = [line.split()[0] for line in first.said("done")]
        equal(len(done), BEFORE, "cases that were done before the kill")
        lost = [line for line in told if not kept(folder, line)]
        equal(lost, [], "decisions that were told and are not kept")
        with AnotherSlicer(_SCRIPT, name, "AB") as second:
            code = second.ended(_PATIENCE)
            true(code == 0 and second.said("finished"), tail(second))
            offered, opened = second.said("offered")[0], second.said("open")[0].split()
            finished, nexts = second.said("finished")[0], [float(s) for s in second.said("next")]
        equal((opened[0], opened[2]), (case, finding), "case and finding that it went on with")
        equal(int(opened[1]), 2, "decisions of that case when it was opened again")
        with AnotherSlicer(_SCRIPT, name, "CD") as other:
            code = other.ended(_PATIENCE)
            true(code == 0 and other.said("finished"), tail(other))
            equal({line.split()[1] for line in other.said("open")}, {"0"}, "decisions that the second reader saw")
        table = show_table(folder)
        agreement = agreed(session, folder)
    return (
        f"{len(told)} decisions before the kill in {case}, none lost; offered: {offered}; went on at finding "
        f"{finding}; finished {finished}; next case after at most {max(nexts):.2f} s; {table}; agreement: {agreement}"
    )


def tail(slicer_: AnotherSlicer) -> str:
    """The last that it said."""
    return "the other Slicer:\n" + "\n".join(slicer_.lines[-40:])


def kept(folder: Path, told: str) -> bool:
    """Whether a decision that was told is in the journal of its case."""
    case, finding, state = told.split()
    place = next(p for p in (folder / "reviews").rglob(case) if p.is_dir() and p.parent.name == "reader-AB")
    states: dict[int, str] = {}
    for line in (place / "steps.jsonl").read_text("utf-8").splitlines():
        states |= dict([json.loads(line).get("decide", (0, ""))])
    return states.get(int(finding)) == state


def show_table(folder: Path) -> str:
    """Print ``cohort-AB.csv``."""
    file = next((folder / "reviews").rglob("cohort-AB.csv"))
    text = file.read_text("utf-8")
    print(text, flush=True)
    rows = list(csv.DictReader(text.splitlines()))
    equal(len(rows), CASES, "rows of the table")
    equal({row["state"] for row in rows}, {"done"}, "states in the table")
    return f"cohort-AB.csv: {len(rows)} cases done, ratings {[row['rating'] for row in rows]}"


def agreed(session: Session, folder: Path) -> str:
    """The agreement as the tab shows it, and the cases left in the list."""
    with kept_apart(session, folder / "reviews") as tab:
        tab.cases.reader.text = "CD"
        tab.cases._reader_typed()
        true(tab.cases.open_files(str(folder / "images")), f"no cases: {session.errors}")
        common.wait(lambda: tab.cases.table._filled == CASES, 20)
        dialogs = tab.cases._dialogs
        pages: list[tuple[str, str]] = []
        dialogs.show = lambda title, text: pages.append((title, text))
        try:
            tab.cases.menu.agreement()
        finally:
            del dialogs.show
        equal(session.errors, [], "messages")
        true(pages, "no agreement was shown")
        from medseg_panel.dialogs import text_dialog

        page = text_dialog(None, *pages[-1])
        page.show()
        common.picture("review-20-agreement", page)
        page.close()
        common.picture("review-21-disagreements")
        left = tab.cases.table.table.rowCount
        text = pages[-1][1]
    figures = [part.split("</td>") for part in text.split("<tr>")]
    words = [
        f"{row[0].split('>')[-1]} {row[1].split('>')[-1]}".replace("&nbsp;", "") for row in figures if len(row) > 2
    ]
    return "; ".join(words[:10]) + f"; {left} cases to read again"
