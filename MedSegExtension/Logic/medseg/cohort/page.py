"""``cohort.html``: one page on a cohort that needs nothing beside it; failed and odd cases first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..output.files import save_text
from .journal import Journal
from .one_case import Job, Record
from .outliers import FORMULA, ODD, Measure, is_size
from .plots import histograms
from .tables import Seen

FILE = "cohort.html"
#: Rows of the page's tables at most; all cases are in the CSV.
_MOST = 100
_MOST_REASONS, _MOST_PLOTS = 3, 24


@dataclass(frozen=True)
class Times:
    """How many cases this run did (others were finished before), and its seconds."""

    ran: int
    seconds: float


def write_page(
    folder: Path, title: str, jobs: Sequence[Job], journal: Journal, seen: Seen, times: Times,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Write the page; without Jinja2 there is none, without matplotlib no plots, and either is told."""
    try:
        import jinja2
    except ImportError:
        tell('cohort.html was left out, it needs the package Jinja2: pip install "medseg[cohort]".')
        return
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    # Names of files and classes and what went wrong are anybody's words: all are escaped.
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html.j2")
    failures, warned, warnings = _troubles(jobs, journal)
    by_spread = sorted(seen.measures, key=lambda m: -int((np.abs(m.z) > ODD).sum()))[:_MOST_PLOTS]
    shown = [m for m in seen.measures if any(m is other for other in by_spread)]
    units = {c.name: f"{c.name} ({c.unit})" if c.unit else c.name for c in seen.columns()}
    drawn = [("seconds a case", seen.seconds, True), *((units[m.name], m.values, is_size(m.name)) for m in shown)]
    plots = histograms(drawn, tell)
    done = seen.seconds[~np.isnan(seen.seconds)]
    html = template.render(
        title=title, version=__version__, cases=len(jobs), failed=seen.failed, warned=warned,
        odd_cases=int((seen.odd > ODD).sum()), times=times, bound=ODD, formula=FORMULA, most=_MOST,
        seconds=[f"{np.percentile(done, p):.3g}" for p in (5, 50, 95, 100)] if done.size else None,
        hours=f"{done.sum() / 3600:.2f}",
        failures=failures, warnings=warnings.most_common(_MOST), plots=plots, left_out=len(seen.measures) - len(shown),
        odd=_odd_cases(jobs, seen, units), measures=[_described(m, units) for m in seen.measures[: 4 * _MOST]],
    )  # fmt: skip
    save_text(folder / FILE, html)


def _troubles(jobs: Sequence[Job], journal: Journal) -> tuple[list[Record], int, Counter[str]]:
    """The first failed records; how many cases have warnings; each warning, and of how many cases it is."""
    failures: list[Record] = []
    warned, texts = 0, Counter[str]()
    for job, record in zip(jobs, journal.records(jobs), strict=True):
        if record["state"] != "done" and len(failures) < _MOST:
            failures.append(record)
        warned += bool(record["warnings"])
        for text in record["warnings"]:
            for path in job.files.values():
                text = text.replace(path.name, "(file)")
            if text in texts or len(texts) < 10 * _MOST:  # those that are of one case each may be very many
                texts[text] += 1
    return failures, warned, texts


def _odd_cases(jobs: Sequence[Job], seen: Seen, units: Mapping[str, str]) -> list[dict[str, Any]]:
    found = []
    for n in np.argsort(-seen.odd, kind="stable")[:_MOST]:
        if seen.odd[n] <= ODD:
            break
        by_z = sorted((m for m in seen.measures if not np.isnan(m.z[n])), key=lambda m: -abs(m.z[n]))
        reasons = [
            {"name": units[m.name], "value": f"{m.values[n]:.4g}", "median": f"{m.median:.4g}", "z": f"{m.z[n]:+.1f}"}
            for m in by_z[:_MOST_REASONS]
            if abs(m.z[n]) > ODD
        ]
        found.append({"case": jobs[n].name, "z": f"{seen.odd[n]:.1f}", "reasons": reasons})
    return found


def _described(measure: Measure, units: Mapping[str, str]) -> dict[str, Any]:
    values = measure.values[~np.isnan(measure.values)]
    figures = [f"{np.percentile(values, p):.4g}" for p in (0, 25, 50, 75, 100)]
    return {
        "name": units[measure.name], "n": len(values), "figures": figures, "odd": int((np.abs(measure.z) > ODD).sum()),
    }  # fmt: skip
