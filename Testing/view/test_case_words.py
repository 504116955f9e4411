"""What the page shows of a case, as plain values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("slicer", reason="the page's values are made with Slicer's MRML library (pip install slicer-core)")

from medseg import load_model, phantoms, run
from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.store import installed_models
from medseg.result import Column, Result, Table
from medseg_view.case import SliceScores, card_words, model_items, table_items, window_items

GRID = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))


@pytest.fixture(scope="module")
def result() -> Result:
    return run(load_model("ich-compact"), phantoms.head_ct(3).volume)


def test_bars_and_plot_are_the_table_of_slices(result: Result) -> None:
    """A wrong slice's probabilities beside the image would mislead the reader."""
    scores = SliceScores.of(result)
    assert scores is not None and len(scores.names) == 6
    table = result.tables["slices"]
    for row in (0, len(table.rows) // 2, len(table.rows) - 1):
        bars = scores.bars(row)
        for bar in bars:
            assert float(bar["text"]) == pytest.approx(table.column(bar["name"])[row], abs=6e-4)
        plot = scores.plot(row)
        assert plot["layout"]["shapes"][0]["x0"] == table.column("slice")[row]
    assert {line["name"]: line["y"] for line in plot["data"]}["any"] == pytest.approx(table.column("any"))
    assert len(set(scores.colors)) == 6


def test_a_row_knows_where_it_is(result: Result) -> None:
    (slices,) = [t for t in table_items(result) if t["name"] == "slices"]
    table = result.tables["slices"]
    assert slices["places"][2] == [table.column(f"centre_{a}_mm")[2] for a in "ras"]
    assert not any("centre" in column for column in slices["columns"])


def test_a_result_without_scores_in_space_has_no_plot() -> None:
    assert SliceScores.of(Result(GRID)) is None
    assert SliceScores.of(Result(GRID, tables={"slices": Table("slices", (Column("slice", "int"),), ((1,),))})) is None


def test_a_long_table_is_cut_and_says_so() -> None:
    table = Table("lesions", (Column("lesion", "int"),), tuple((n,) for n in range(700)))
    (item,) = table_items(Result(GRID, tables={"lesions": table}))
    assert len(item["rows"]) == len(item["places"]) == 500 and item["left_out"] == 200


def test_models_for_other_images_stand_last_and_say_so() -> None:
    items = model_items(installed_models(), "CT")
    assert items[0]["value"] == "ich-compact" and "made for other images" not in items[0]["subtitle"]
    assert all("made for other images" in i["subtitle"] for i in items if i["value"] == "wmh-compact")


def test_models_of_several_images_are_left_out() -> None:
    (card,) = [c for c in installed_models() if c.id == "wmh-compact"]
    assert model_items([replace(card, channels=card.channels * 2)], "MR") == []


def test_no_window_is_offered_twice() -> None:
    (card,) = [c for c in installed_models() if c.id == "ich-compact"]
    volume = Volume(np.zeros((4, 4, 4), np.int16), GRID, "CT")
    windows = [(w["level"], w["width"]) for w in window_items(volume, card, (35.0, 100.0))]
    assert windows[0] == (35.0, 100.0) and (40.0, 80.0) in windows and len(set(windows)) == len(windows)
    assert len(window_items(replace(volume, modality="MR"), None, (35.0, 100.0))) == 1


def test_a_window_keeps_its_name_where_the_image_was_opened_with_it() -> None:
    """A reader looks for Brain, not for what it happens to be here."""
    volume = Volume(np.zeros((4, 4, 4), np.int16), GRID, "CT")
    titles = [w["title"] for w in window_items(volume, None, (40.0, 80.0))]
    assert titles[0].startswith("Brain 40/80") and not any(t.startswith("As opened") for t in titles)


def test_a_demonstration_is_called_one() -> None:
    """Its probabilities mean nothing on patients."""
    (card,) = [c for c in installed_models() if c.id == "ich-compact"]
    assert card_words(card).startswith("Demonstration only.") and "phantoms" in card_words(card)
