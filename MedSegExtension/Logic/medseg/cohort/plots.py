"""Histograms of a cohort as SVG. Drawn by matplotlib, which is the field's plotting library."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

#: Bins; how many times the median the greatest value is from which on an axis is logarithmic.
_BINS, _FAR = 30, 10


def histograms(
    columns: Sequence[tuple[str, npt.NDArray[np.float64], bool]], tell: Callable[[str], None]
) -> list[tuple[str, str]]:
    """(name, SVG text) of each of ``columns`` (name, values with NaN for none, skewed) that has values.

    The median is a line. Skewed values lie on an axis of log(1 + x) where they reach far.

    Without matplotlib there are none, which is told. The same values give the same text.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        tell('cohort.html has no plots, they need the package matplotlib: pip install "medseg[cohort]".')
        return []
    drawn = []
    for name, values, skewed in columns:
        there = values[np.isfinite(values)]
        if not there.size:
            continue
        with matplotlib.rc_context({"svg.hashsalt": "medseg", "svg.fonttype": "none", "font.size": 8}):
            figure = Figure(figsize=(3.3, 1.9), layout="constrained")
            axes = figure.add_subplot()
            low, high = float(there.min()), float(there.max())
            edges = np.linspace(low, high, _BINS + 1)
            if skewed and low >= 0 and high > _FAR * float(np.median(there)):
                edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), _BINS + 1))
                axes.set_xscale("function", functions=(np.log1p, np.expm1))
                axes.set_xticks([t for t in (0, 1, 3, 10, 30, 100, 300, 1000, 3000, 1e4, 1e5, 1e6) if t <= high])
            axes.hist(there, bins=list(edges) if low < high else 1, color="#56b4e9")
            axes.axvline(float(np.median(there)), color="black", linewidth=1)
            axes.set_ylabel("cases")
            axes.spines[["top", "right"]].set_visible(False)
            if there.size > 100:  # else a few cases far out are not seen beside the many
                axes.set_yscale("symlog", linthresh=10)
                axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        drawn.append((name, text.getvalue()[text.getvalue().index("<svg") :]))
    return drawn
