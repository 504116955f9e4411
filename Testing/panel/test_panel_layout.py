"""What a reader needs is seen without scrolling in a panel of 400 x 900 pixels, in a light and in a dark theme."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medseg.result import Column, Result, Table
from qt_host.fixtures import Opened, ct_card, flair_card, host, opened, segmentation_result  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

WIDTH, HEIGHT = 400, 900
LONG = "White matter hyperintensities, Attention U-Net, normal and abnormal"
SEEN = ("manageModelsButton", "modelSearch", "modelList", "fitLabel", "applyButton", "cancelButton", "progressBar",
        "progressLabel", "tableSelector", "exportButton", "tableView", "resultLabel", "show3DButton",
        "undoButton", "windowingSection", "advancedSection")  # fmt: skip


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest, host: Any) -> Iterator[str]:
    """The application's palette, put back afterwards."""
    from PySide6 import QtGui, QtWidgets

    application = QtWidgets.QApplication.instance()
    assert isinstance(application, QtWidgets.QApplication)
    before, style = application.palette(), application.style().objectName()
    application.setStyle("Fusion")
    role = QtGui.QPalette.ColorRole
    dark = {role.Window: "#2d2d2d", role.WindowText: "#e6e6e6", role.Base: "#232323", role.AlternateBase: "#2b2b2b",
            role.Text: "#e6e6e6", role.Button: "#3a3a3a", role.ButtonText: "#e6e6e6", role.PlaceholderText: "#909090",
            role.Highlight: "#2f65ca", role.HighlightedText: "#ffffff"}  # fmt: skip
    light = {role.Window: "#f0f0f0", role.WindowText: "#000000", role.Base: "#ffffff", role.AlternateBase: "#f6f6f6",
             role.Text: "#000000", role.Button: "#e8e8e8", role.ButtonText: "#000000", role.PlaceholderText: "#707070",
             role.Highlight: "#2f65ca", role.HighlightedText: "#ffffff"}  # fmt: skip
    palette = QtGui.QPalette(before)
    for color_role, color in (dark if request.param == "dark" else light).items():
        palette.setColor(color_role, QtGui.QColor(color))
    application.setPalette(palette)
    yield request.param
    application.setPalette(before)
    application.setStyle(style)


def framed(opened: Opened) -> Any:
    """The module's page in a scroll area of 400 x 900 pixels, as the application's module panel has it."""
    from PySide6 import QtCore, QtWidgets

    scroll = QtWidgets.QScrollArea()
    scroll.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidget(opened.module.page)
    scroll.resize(WIDTH, HEIGHT)
    scroll.show()
    opened.host.pump(0.2)
    return scroll


def hidden(scroll: Any, widget: Any) -> str:
    """Why not all of ``widget`` is seen in the scroll area, or ""."""
    from PySide6 import QtCore

    from qt_host.bridge import unwrap

    target = unwrap(widget)
    name = target.objectName()
    if not target.isVisible():
        return f"{name} is not visible"
    top = target.mapTo(scroll.viewport(), QtCore.QPoint(0, 0))
    box = QtCore.QRect(top, target.size())
    if not QtCore.QRect(0, 0, WIDTH, HEIGHT).contains(box):
        return f"{name} is at {box.getCoords()}"
    if target.height() < min(target.minimumSizeHint().height(), 40):
        return f"{name} is {target.height()} pixels high"
    return ""


def result() -> Result:
    """A result of three classes with the columns of a real one."""
    columns = (
        Column("segment", "str"), Column("value", "int"), Column("voxels", "int"), Column("volume_ml", "float", "ml"),
        Column("components", "int"), Column("mean", "float"), Column("std", "float"),
    )  # fmt: skip
    rows = tuple((f"structure {n}", n, 1234 * n, 1.23456789 * n, 3 + n, 100.987654, 7.123456) for n in (1, 2, 3))
    made = segmentation_result(model_id="long")
    tables = {"segments": Table("segments", columns, rows)}
    return Result(grid=made.grid, layers=made.layers, tables=tables, provenance=made.provenance)


@pytest.mark.parametrize("windows", [False, True], ids=["plain", "windows"])
def test_everything_is_seen_without_scrolling(opened: Opened, theme: str, windows: bool, repository: Path) -> None:
    card = flair_card()
    changes = {"modality": ("MR",), "channels": card.channels[:1], "body_part": "brain", "title": LONG}
    opened.store.cards = [
        ct_card(id="long") if windows else ct_card(id="long", windows=(), **changes),
        *(ct_card(id=f"m{n}", title=f"Model {n} of head CT", demonstration=n == 0) for n in range(6)),
    ]
    opened.panel.enter()
    scroll = framed(opened)
    try:
        opened.add_volume("FLAIR ax", "CT" if windows else "MR")
        opened.choose("long")
        opened.ui.applyButton.click()
        opened.worker.listener.on_progress("infer", "slice 3 of 12", 0.25, 125.0)
        opened.host.pump(0.2)
        folder = repository / "test-output" / "panel"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{theme}-{'windows' if windows else 'plain'}"
        scroll.grab().save(str(folder / f"400x900-{name}-running.png"))
        seen = [w for w in SEEN if w != "resultLabel"]
        running = [hidden(scroll, getattr(opened.ui, w)) for w in seen]
        opened.finish(result())
        opened.host.pump(0.2)
        scroll.grab().save(str(folder / f"400x900-{name}.png"))
        done = [hidden(scroll, w) for w in (opened.panel.inputs._rows[0][1], *(getattr(opened.ui, w) for w in SEEN))]
        assert [why for why in running + done if why] == []
        assert scroll.verticalScrollBar().maximum() == 0
        assert opened.ui.windowingSection.collapsed != windows and opened.ui.advancedSection.collapsed
    finally:
        scroll.takeWidget().setParent(None)
        scroll.deleteLater()


def test_long_warnings_make_the_panel_scroll_and_squeeze_nothing(opened: Opened) -> None:
    """Half a button cannot be read; a scroll bar can be used."""
    scroll = framed(opened)
    try:
        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.ui.applyButton.click()
        for n in range(3):
            opened.worker.listener.on_warning(f"{n}: values were not checked, the volume states no encoding. " * 4)
        opened.finish()
        opened.host.pump(0.3)
        assert scroll.verticalScrollBar().maximum() > 0
        for name in ("modelWindowSelector", "showAsModelButton", "windowingSection", "modelList", "progressLabel"):
            widget = getattr(opened.ui, name)._target
            needed = widget.heightForWidth(widget.width()) if widget.hasHeightForWidth() else 0
            assert widget.height() >= max(needed, widget.minimumSizeHint().height()), name
    finally:
        scroll.takeWidget().setParent(None)
        scroll.deleteLater()


class TestModels:
    def test_those_that_fit_the_volume_come_first_and_demonstrations_last(self, opened: Opened) -> None:
        """A reader with a CT must not scroll past twenty MR models, nor take a toy for a tool."""
        mr = {"modality": ("MR",), "channels": flair_card().channels[:1]}
        opened.store.cards = [
            ct_card(id="a-toy", title="A toy", demonstration=True),
            ct_card(id="flair", title="B", **mr),
            ct_card(id="ct", title="C"),
            ct_card(id="gone", title="A gone", has_weights=False),
        ]
        opened.panel.enter()
        assert list(opened.panel.model._items) == ["flair", "ct", "a-toy", "gone"]
        opened.add_volume("head", "CT")
        opened.host.pump(0.05)
        assert list(opened.panel.model._items) == ["ct", "flair", "a-toy", "gone"]

    def test_sequence_in_the_name_of_the_volume_counts(self, opened: Opened) -> None:
        mr, channel = {"modality": ("MR",), "body_part": "brain"}, flair_card().channels
        opened.store.cards = [
            ct_card(id="t1", title="A", channels=channel[1:], **mr),
            ct_card(id="flair", title="B", channels=channel[:1], **mr),
        ]
        opened.panel.enter()
        opened.add_volume("t2_FLAIR tra", "MR")
        opened.host.pump(0.05)
        assert list(opened.panel.model._items) == ["flair", "t1"]

    def test_the_last_model_of_this_kind_of_volume_is_chosen_by_itself(self, opened: Opened) -> None:
        ct = opened.add_volume("head", "CT")
        opened.choose("ct-bleeds")
        opened.ui.applyButton.click()
        opened.finish()
        opened.parameters.modelId = ""
        mr = opened.add_volume("FLAIR", "MR")
        selector = opened.panel.inputs._rows[0][1]
        selector.setCurrentNode(mr)
        opened.host.pump(0.05)
        assert opened.panel.model.card is None, "nothing ran on MR yet"
        selector.setCurrentNode(ct)
        opened.host.pump(0.05)
        assert opened.panel.model.card.id == opened.parameters.modelId == "ct-bleeds"

    def test_what_the_user_chose_is_not_taken_away(self, opened: Opened) -> None:
        opened.choose("mr-lesions")
        opened.add_volume("head", "CT")
        opened.host.pump(0.05)
        assert opened.panel.model.card.id == "mr-lesions"


class TestWords:
    def test_fit_is_one_sentence_in_the_readers_words(self, opened: Opened) -> None:
        opened.store.cards[1].expects["spacing"] = (1.0, 1.5, 3.0)
        opened.panel.enter()
        opened.add_volume("FLAIR", "MR")
        opened.add_volume("T1", "MR")
        opened.choose("mr-lesions")
        text = opened.ui.fitLabel.text
        assert "head MR, FLAIR and T1" in text and "RAS" not in text and "voxels" not in text
        assert "turned to RAS" in opened.ui.fitLabel.toolTip

    def test_several_warnings_are_counted_and_all_are_in_the_tip(self, opened: Opened) -> None:
        volume = opened.add_volume("head", "CT")
        opened.choose("mr-lesions")
        opened.panel.inputs._rows[1][1].setCurrentNode(volume)
        text, tip = opened.ui.fitLabel.text, opened.ui.fitLabel.toolTip
        assert "trained on MR" in text and "more, see the tool tip" in text
        assert "more than one channel" in tip and "more than one channel" not in text

    def test_table_has_what_matters_first_with_sensible_digits(self, opened: Opened) -> None:
        from PySide6.QtCore import Qt

        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.ui.applyButton.click()
        opened.finish(result())
        model = opened.ui.tableView._target.model()
        heads = [model.headerData(n, Qt.Orientation.Horizontal) for n in range(3)]
        assert heads == ["name", "volume [ml]", "parts"]
        assert [model.index(0, n).data() for n in range(4)] == ["structure 1", "1.23", "4", "101"]


def test_reading_table_keeps_rows_and_the_exported_one_keeps_digits(opened: Opened) -> None:
    from medseg_mrml import table_from_node

    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.applyButton.click()
    opened.finish(result())
    (node,) = opened.panel.results._tables()
    assert table_from_node(node).rows[0][3] == pytest.approx(1.23456789)
    assert opened.scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
