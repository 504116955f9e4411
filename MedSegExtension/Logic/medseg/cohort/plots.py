"""Histograms of a cohort as SVG. Drawn by matplotlib, which is the field's plotting library."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_BINS = 30


def histograms(
    columns: Sequence[tuple[str, npt.NDArray[np.float64]]], tell: Callable[[str], None]
) -> list[tuple[str, str]]:
    """(name, SVG text) of each of ``columns`` (name, values with NaN for none) that has values. Median as a line.

    Without matplotlib there are none, which is told. The same values give the same text.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        tell('cohort.html has no plots, they need the package matplotlib: pip install "medseg[cohort]".')
        return []
    drawn = []
    for name, values in columns:
        there = values[np.isfinite(values)]
        if not there.size:
            continue
        with matplotlib.rc_context({"svg.hashsalt": "medseg", "svg.fonttype": "none", "font.size": 8}):
            figure = Figure(figsize=(3.3, 1.9), layout="constrained")
            axes = figure.add_subplot()
            low, high = float(there.min()), float(there.max())
            axes.hist(there, bins=_BINS if low < high else 1, color="#56b4e9")
            axes.axvline(float(np.median(there)), color="black", linewidth=1)
            axes.set_ylabel("cases")
            axes.spines[["top", "right"]].set_visible(False)
            # Few cases far out would leave all others in one bar; how many they are is on the axis.
            axes.set_yscale("symlog", linthresh=10) if there.size > 100 else None
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
        drawn.append((name, text.getvalue()[text.getvalue().index("<svg") :]))
    return drawn
