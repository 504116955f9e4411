"""The table as a reader sees it: name, size and findings first, no digits that mean nothing."""

from __future__ import annotations

import pytest

from medseg.result import Column, Table


def lesion_table() -> Table:
    """Two lesions with the columns of a real table."""
    columns = (
        Column("segment", "str"), Column("lesion", "int"), Column("centre_r_mm", "float", "mm"),
        Column("voxels", "int"), Column("volume_mm3", "float", "mm3"), Column("mean", "float", "HU"),
        Column("region", "str"),
    )  # fmt: skip
    return Table("lesions", columns, (("bleed", 1, 3.25, 24, 1234.5678, 61.23456, "left"),
                                      ("bleed", 2, -1.0, 2, 0.0123456, None, "right")))  # fmt: skip


def test_what_matters_comes_first_and_positions_are_left_to_the_csv() -> None:
    from medseg_mrml.reading import reading_table

    seen = reading_table(lesion_table())
    assert [c.name for c in seen.columns] == ["name", "no.", "volume", "region", "mean"]
    assert [c.unit for c in seen.columns] == ["", "", "mm\u00b3", "", "HU"]
    assert seen.rows == (("bleed", 1, 1235.0, "left", 61.2), ("bleed", 2, 0.0123, "right", None))


@pytest.mark.parametrize(("lesions", "word"), [(True, "findings"), (False, "parts")])
def test_components_are_findings_only_where_lesions_were_looked_for(lesions: bool, word: str) -> None:
    """A brain in three parts has no three findings."""
    from medseg_mrml.reading import reading_table

    table = Table("segments", (Column("segment", "str"), Column("components", "int")), (("brain", 3),))
    assert [c.name for c in reading_table(table, lesions=lesions).columns] == ["name", word]


def test_a_column_without_any_value_is_left_out() -> None:
    """A film whose pixels have no known size had a volume of nan ml."""
    from medseg_mrml.reading import reading_table

    columns = (Column("segment", "str"), Column("voxels", "int"), Column("volume_ml", "float", "ml"))
    seen = reading_table(Table("segments", columns, (("lungs", 72000, None),)))
    assert [c.name for c in seen.columns] == ["name", "voxels"] and seen.rows == (("lungs", 72000),)
    assert len(reading_table(Table("segments", columns, ())).columns) == 2


def test_columns_that_would_read_the_same_keep_their_names() -> None:
    from medseg_mrml.reading import reading_table

    table = Table("x", (Column("segment", "str"), Column("class", "str")), (("a", "b"),))
    assert [c.name for c in reading_table(table).columns] == ["segment", "class"]


def test_the_node_is_in_no_scene_and_gives_the_unit_once() -> None:
    from medseg_mrml.reading import reading_node

    node = reading_node(lesion_table())
    assert node.GetScene() is None and node.GetNumberOfRows() == 2
    assert node.GetColumnTitle("volume") == "volume" and node.GetColumnUnitLabel("volume") == "mm\u00b3"
