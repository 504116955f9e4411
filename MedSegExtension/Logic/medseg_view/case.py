"""One case in words and plain values, as the page shows them: models, windows, tables, scores. No trame, no nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard
from medseg.result import Cell, Result, Table
from medseg_mrml.focus import score_columns
from medseg_mrml.looking import READER_WINDOWS
from medseg_mrml.reading import reading_table
from medseg_mrml.tables import color_series

_POSITION = ("centre_r_mm", "centre_a_mm", "centre_s_mm")
#: What is looked at first.
_ORDER = ("lesions", "segments", "scores", "slices")
_LONGEST = 500
_CARD = 320
_PALE, _GRID = "#e0e0e0", "#444"


def facts(volume: Volume) -> str:
    """The image in one line: modality, size, spacing."""
    size = " x ".join(str(n) for n in volume.grid.size)
    spacing = " x ".join(f"{s:.3g}" for s in volume.grid.spacing)
    return f"{volume.modality or 'modality not stated'}, {size} voxels of {spacing} mm"


def fits(card: ModelCard, modality: str | None) -> bool:
    """Whether the model was made for such images, as far as both say."""
    return not modality or not card.channels[0].modality or modality in card.channels[0].modality


def model_items(cards: Sequence[ModelCard], modality: str | None) -> list[dict[str, str]]:
    """What the list of models shows: those that fit first, demonstrations last among them.

    Models of several images are left out: the page has one.
    """
    usable = [card for card in cards if not card.error and card.has_weights and len(card.channels) == 1]
    usable.sort(key=lambda card: (not fits(card, modality), card.demonstration, card.title))
    items = []
    for card in usable:
        words = [" / ".join(card.modality), card.body_part, card.task]
        if not fits(card, modality):
            words.insert(0, "made for other images:")
        items.append({"value": card.id, "title": card.title, "subtitle": " ".join(w for w in words if w)})
    return items


def card_words(card: ModelCard) -> str:
    """What a reader must know before the model is run: what it was trained on, and its first limitations."""
    words = ["Demonstration only."] if card.demonstration else []
    words += [f"Trained on: {card.training_data}"] if card.training_data else []
    text = " ".join([*words, *card.limitations[:2]])
    return text if len(text) <= _CARD else text[:_CARD].rsplit(" ", 1)[0] + " ..."


def window_items(volume: Volume, card: ModelCard | None, first: tuple[float, float] | None) -> list[dict[str, Any]]:
    """Windows to choose from: the first one, for CT those that readers use, and the model's; none of them twice."""
    items = list(READER_WINDOWS) if volume.modality == "CT" else []
    if card is not None:
        items += [(f"Model: {window.name}", window.level, window.width) for window in card.windows]
    if first is not None:
        # A reader looks for "Brain" also where the image was opened with it.
        items.insert(0, next((item for item in items if item[1:] == first), ("As opened", *first)))
    seen: dict[tuple[float, float], dict[str, Any]] = {}
    for name, level, width in items:
        title = f"{name} {level:.4g}/{width:.4g}"
        seen.setdefault((level, width), {"title": title, "level": float(level), "width": float(width)})
    return list(seen.values())


def _position(table: Table, row: tuple[Cell, ...]) -> list[float] | None:
    names = [c.name for c in table.columns]
    if not set(_POSITION) <= set(names):
        return None
    place = [row[names.index(name)] for name in _POSITION]
    return None if None in place else [float(p) for p in place if p is not None]


def table_items(result: Result) -> list[dict[str, Any]]:
    """The tables as a reader goes through them. ``places``: RAS mm of each row, or null; a long table is cut, told."""
    lesions = any(c.lesion for c in result.classes)
    names = sorted(result.tables, key=lambda n: (n not in _ORDER, _ORDER.index(n) if n in _ORDER else 0, n))
    items = []
    for name in names:
        table = result.tables[name]
        shown = reading_table(table, lesions=lesions)
        rows = table.rows[:_LONGEST]
        items.append({
            "name": name.replace("_", " "),
            "columns": [f"{c.name} ({c.unit})" if c.unit else c.name for c in shown.columns],
            "rows": [["" if v is None else str(v) for v in row] for row in shown.rows[:_LONGEST]],
            "places": [_position(table, row) for row in rows],
            "left_out": max(0, len(table.rows) - _LONGEST),
        })  # fmt: skip
    return items


class SliceScores:
    """The scores of each slice of a classifier. ``centres``: (N, 3), RAS mm. ``names``: of the classes."""

    def __init__(self, table: Table, result: Result) -> None:
        self.names = score_columns(table)
        colors = color_series(self.names, result.classes)
        self.colors = ["#" + "".join(f"{round(255 * v):02x}" for v in colors[name]) for name in self.names]
        columns = [[float(v) if v is not None else float("nan") for v in table.column(n)] for n in self.names]  # type: ignore[arg-type]
        self.values: npt.NDArray[np.float64] = np.array(columns)
        self.centres = np.array([_position(table, row) for row in table.rows], dtype=float)
        self.numbers = [int(v or 0) for v in table.column("slice")]

    @classmethod
    def of(cls, result: Result) -> SliceScores | None:
        """The scores of ``result``, None where it has none that lie in space."""
        table = result.tables.get("slices")
        if (
            table is None
            or not table.rows
            or not score_columns(table)
            or not set(_POSITION) <= {c.name for c in table.columns}
        ):
            return None
        return cls(table, result)

    def bars(self, row: int) -> list[dict[str, Any]]:
        """Name, colour and score of each class on one slice."""
        return [
            {"name": name, "color": color, "score": round(100 * float(value), 1), "text": f"{value:.3f}"}
            for name, color, value in zip(self.names, self.colors, self.values[:, row], strict=True)
        ]

    def plot(self, row: int) -> dict[str, Any]:
        """A Plotly figure: a line for each class over the slices, and where the view is."""
        lines = [
            {
                "type": "scatter", "mode": "lines+markers", "name": name, "x": self.numbers, "y": values.tolist(),
                "line": {"color": color, "width": 2}, "marker": {"size": 4},
                "hovertemplate": f"slice %{{x}}: {name} %{{y:.3f}}<extra></extra>",
            }
            for name, color, values in zip(self.names, self.colors, self.values, strict=True)
        ]  # fmt: skip
        axis = {"gridcolor": _GRID, "zerolinecolor": _GRID}
        here = self.numbers[row]
        return {
            "data": lines,
            "layout": {
                "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": _PALE, "size": 11},
                "margin": {"l": 44, "r": 8, "t": 8, "b": 36}, "height": 260,
                "showlegend": False, "hovermode": "closest",  # the names above the plot have its colours
                "xaxis": {**axis, "title": {"text": "Slice"}, "range": [self.numbers[0] - 0.5, self.numbers[-1] + 0.5]},
                "yaxis": {**axis, "title": {"text": "Probability"}, "range": [-0.02, 1.02]},
                "shapes": [{
                    "type": "line", "x0": here, "x1": here, "y0": 0, "y1": 1, "yref": "paper",
                    "line": {"color": _PALE, "width": 1, "dash": "dot"},
                }],
            },
        }  # fmt: skip
