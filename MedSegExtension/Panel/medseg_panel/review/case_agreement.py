"""Two readers of one list: how far ratings, decisions and masks agree, and on which cases they do not.

Imported when a reader asks for it.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.monitor import Monitor
from medseg.review.readers import ReadersAgreement, compare_readers, write_disagreements

from .keeping import html_table

_PREFIX = "reader-"
#: Masks that overlap less are a disagreement.
_DICE = 0.8
_TABLE = "disagreements.csv"


def other_readers(session: Any) -> list[str]:
    """Initials of the other readers who have reviews of this list; "" is the one without."""
    found = [p.name for p in sorted(session.folder.iterdir()) if p.is_dir()]
    readers = ["" if name == "reader" else name.removeprefix(_PREFIX) for name in found if name.startswith("reader")]
    return [reader for reader in readers if reader != session.list.reader]


def show_agreement(session: Any, dialogs: Any, show_only: Callable[[set[str] | None], None]) -> None:
    """Ask for the other reader, tell the figures, and leave the cases in the list on which the two differ.

    Those are also written as a table of cases, ``disagreements.csv``, which can be opened as a list of its own.
    """
    others = other_readers(session)
    if not others:
        dialogs.show(_("Agreement"), _("Nobody else has reviewed this list yet: a second reader gives other initials."))
        return
    at = 0
    if len(others) > 1:
        rows = [(reader or _("without initials"),) for reader in others]
        at = dialogs.choose(_("Agreement"), _("Which reader?"), (_("Reader"),), rows, _("Compare"))
        if at < 0:
            return
    own, other = (session.folder / (f"{_PREFIX}{r}" if r else "reader") for r in (session.list.reader, others[at]))
    monitor = Monitor()
    slicer.app.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
    try:
        found = compare_readers(own, other, monitor=monitor)
        differ = write_disagreements(session.folder / _TABLE, found, own, session.source.cases, dice=_DICE)
    except MedSegError as error:
        dialogs.error(str(error))
        return
    finally:
        slicer.app.restoreOverrideCursor()
    dialogs.show(_("Agreement"), _page(found, monitor.warnings))
    if differ:
        show_only(set(differ))


def _page(found: ReadersAgreement, warnings: list[str]) -> str:
    exact = found.ratings.exact
    rows = [
        (_("Cases of both readers"), str(len(found.cases))),
        (_("Cases that both rated"), str(found.ratings.cases)),
        (_("Equal ratings"), _("none to compare") if exact is None else f"{100 * exact:.0f} %"),
        (_("Ratings: Cohen's kappa"), _figure(found.ratings.kappa)),
        (_("Ratings: kappa with linear weights"), _figure(found.ratings.linear)),
        (_("Ratings: kappa with quadratic weights"), _figure(found.ratings.quadratic)),
        (_("Findings that both decided"), str(len(found.decisions))),
        (_("Decisions: Cohen's kappa"), _figure(found.decisions_kappa)),
        (_("Masks: mean Dice"), _figure(found.mean_dice)),
        (_("Lesions of the masks: F1"), _figure(found.lesion_f1)),
    ]
    differ = [(case.case, "; ".join(case.why(_DICE))) for case in found.cases if case.why(_DICE)]
    below = html_table((_("They differ on"), _("why")), differ) if differ else _("They differ on no case.")
    told = "".join(f"<p>{html.escape(warning)}</p>" for warning in warnings)
    head = (f"{found.one} / {found.other}", "")
    return f"{html_table(head, rows)}<p></p>{below}{told}"


def _figure(value: float | None) -> str:
    return _("not defined") if value is None else f"{value:.2f}"
