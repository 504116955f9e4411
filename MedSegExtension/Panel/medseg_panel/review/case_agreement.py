"""Two readers of one list: how far their ratings agree, and on which cases they do not.

Imported when a reader asks for it.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from medseg.monitor import Monitor
from medseg.review.agreement import agreement
from medseg.review.case_file import RATINGS
from medseg.review.cases import states

_PREFIX = "reader-"


def other_readers(session: Any) -> list[str]:
    """Initials of the other readers who have reviews of this list; "" is the one without."""
    found = [p.name for p in sorted(session.folder.iterdir()) if p.is_dir()]
    readers = [
        n.removeprefix(_PREFIX) if n != "reader" else "" for n in found if n == "reader" or n.startswith(_PREFIX)
    ]
    return [reader for reader in readers if reader != session.list.reader]


def compare_readers(session: Any, dialogs: Any, show_only: Callable[[set[str] | None], None]) -> None:
    """Ask for the other reader, tell the figures, and leave the cases in the list on which the two differ."""
    others = other_readers(session)
    if not others:
        dialogs.show(_("Agreement"), _("Nobody else has reviewed this list yet: a second reader gives other initials."))
        return
    at = 0
    if len(others) > 1:
        rows = [(_initials(reader),) for reader in others]
        at = dialogs.choose(_("Agreement"), _("Which reader?"), (_("Reader"),), rows, _("Compare"))
        if at < 0:
            return
    monitor = Monitor()
    own = {kept.case: kept.rating for kept in session.list.all_kept()}
    theirs = {kept.case: kept.rating for kept in states(session.source.cases, session.folder, others[at], monitor)}
    found = agreement(own, theirs, sorted(RATINGS))
    dialogs.show(_("Agreement"), _page(found, session.list.reader, others[at], monitor.warnings))
    if found.differ:
        show_only({case for case, _one, _other in found.differ})


def _initials(reader: str) -> str:
    return reader or _("without initials")


def _page(found: Any, own: str, other: str, warnings: list[str]) -> str:
    def figure(value: float | None) -> str:
        return _("not defined") if value is None else f"{value:.2f}"

    rows = [
        (_("Cases that both rated"), str(found.cases)),
        (_("Equal ratings"), "" if found.exact is None else f"{100 * found.exact:.0f} %"),
        (_("Cohen's kappa"), figure(found.kappa)),
        (_("Kappa, linear weights"), figure(found.linear)),
        (_("Kappa, quadratic weights"), figure(found.quadratic)),
    ]
    table = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows)
    names = f"<th>{_('Case')}</th><th>{html.escape(_initials(own))}</th><th>{html.escape(_initials(other))}</th>"
    differ = "".join(f"<tr><td>{html.escape(c)}</td><td>{a}</td><td>{b}</td></tr>" for c, a, b in found.differ)
    told = "".join(f"<p>{html.escape(w)}</p>" for w in warnings)
    below = f"<p>{_('They differ on:')}</p><table cellpadding='3'><tr>{names}</tr>{differ}</table>" if differ else ""
    return f"<table cellpadding='3'>{table}</table>{below}{told}"
