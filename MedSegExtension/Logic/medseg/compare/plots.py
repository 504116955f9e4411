"""Box plots of an evaluation, as PNG files. Drawn by matplotlib, which is the field's plotting library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import OutputError
from ..monitor import Monitor
from .cohort import Evaluation
from .masks import COLUMNS

_PLOTTED = ("dice", "surface_dice", "hd95", "volume_difference", "lesion_f1")
_COLORS = ("#56b4e9", "#e69f00")


def box_plots(folder: Path, sides: Mapping[str, Evaluation], monitor: Monitor) -> list[Path]:
    """``<figure>.png`` for the figures that are read first: a box a class and model, each case a dot. The files' paths.

    ``sides``: the evaluation of each model by its name. Without matplotlib there are none, which is told.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ModuleNotFoundError:
        monitor.note("Box plots were left out: they need the package matplotlib.")
        return []
    written = []
    first = next(iter(sides.values()))
    for figure in _PLOTTED:
        data = [(name, side, sides[side].values(name, figure)) for name in first.classes for side in sides]
        if not any(values for _, _, values in data):
            continue
        drawing, axes = pyplot.subplots(figsize=(max(4.0, 1.0 + 1.1 * len(data)), 4.2), layout="constrained")
        for n, (_, side, values) in enumerate(data):
            numbers = list(values.values())
            color = _COLORS[list(sides).index(side) % len(_COLORS)]
            if numbers:
                axes.boxplot([numbers], positions=[n], widths=0.6, showfliers=False, patch_artist=True,
                             boxprops={"facecolor": color, "alpha": 0.6}, medianprops={"color": "black"})  # fmt: skip
                spread = [n + 0.16 * (((k * 7) % 11) / 5 - 1) for k in range(len(numbers))]
                axes.plot(spread, numbers, "o", color="black", markersize=3, alpha=0.6)
        labels = [f"{name}\n{side} (n={len(values)})" if len(sides) > 1 else f"{name}\nn={len(values)}"
                  for name, side, values in data]  # fmt: skip
        axes.set_xticks(range(len(data)), labels, fontsize=8)
        unit = COLUMNS[figure][0]
        axes.set_ylabel(figure.replace("_", " ") + (f" ({unit})" if unit else ""))
        axes.set_title(COLUMNS[figure][1], fontsize=9)
        axes.grid(axis="y", alpha=0.3)
        path = folder / f"{figure}.png"
        try:
            drawing.savefig(path, dpi=120)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
        finally:
            pyplot.close(drawing)
        written.append(path)
    return written
