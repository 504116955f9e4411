"""The frame: which tabs are shown, and what one hands to another."""

from __future__ import annotations

from typing import Any

import pytest

from qt_host.fixtures import Opened, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


class OtherTab:
    """A tab that keeps what it is told."""

    title = "Review"
    busy = False

    def __init__(self, neighbours: Any) -> None:
        import qt

        self.neighbours, self.told, self.runs = neighbours, [], []
        self.widget = qt.QLabel("cases")

    def run_finished(self, run: Any) -> None:
        self.runs.append(run)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *values: self.told.append((name, *values))


@pytest.fixture
def other(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> OtherTab:
    """The module with one more tab, entered."""
    import sys

    monkeypatch.setattr(sys.modules["medseg_panel.panel"], "OTHER_TABS", (OtherTab,))
    opened.module.page.reload()
    opened.module.page.set_entered(True)
    tab = opened.widget.panel.tabs[1]
    assert isinstance(tab, OtherTab)
    return tab


def test_no_tab_bar_where_there_is_only_one_tab(opened: Opened) -> None:
    """An empty or single tab costs a line of the panel and a question."""
    if len(opened.widget.panel.tabs) > 1:
        pytest.skip("the module has more tabs")
    opened.host.show(opened.module.widgetRepresentation())
    assert opened.ui.tabs.count == 1 and not opened.ui.tabs.tabBar().visible


def test_a_tab_that_cannot_be_made_is_told_and_takes_no_other_with_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word a reader only sees that the tab is not there, and does not know why."""
    import sys

    from medseg.errors import InputError

    def broken(neighbours: Any) -> Any:
        raise InputError("no room for findings")

    monkeypatch.setattr(sys.modules["medseg_panel.panel"], "OTHER_TABS", (broken, OtherTab))
    opened.module.page.reload()
    tabs = opened.widget.panel.tabs
    assert [type(tab) for tab in tabs[1:]] == [OtherTab]
    assert any("no room for findings" in told for told in opened.dialogs.errors)


def test_tabs_are_named_and_entered_when_they_come_to_the_front(opened: Opened, other: OtherTab) -> None:
    tabs = opened.ui.tabs
    assert [tabs.tabText(n) for n in range(tabs.count)] == ["Segment", "Review"]
    opened.host.show(opened.module.widgetRepresentation())
    assert tabs.tabBar().visible
    assert ("enter",) not in other.told
    tabs.currentIndex = 1
    assert other.told[-1] == ("enter",)
    opened.module.page.set_entered(False)
    assert other.told[-1] == ("exit",)
    opened.module.page.set_entered(True)
    other.neighbours.show(opened.panel)
    assert other.told[-2:] == [("enter",), ("exit",)] and tabs.currentIndex == 0


def test_a_tab_hears_of_the_scene_whether_it_is_seen_or_not(opened: Opened, other: OtherTab) -> None:
    assert other.told[0][0] == "set_parameters"
    volume = opened.add_volume()
    opened.scene.RemoveNode(volume)
    opened.scene.Clear(0)
    calls = [("scene_changed",), ("node_removed", volume), ("scene_closing",), ("scene_closed",)]
    order = [other.told.index(call) for call in calls]
    assert order == sorted(order)
    assert ("set_parameters", None) in other.told
    opened.widget.cleanup()
    assert other.told[-1] == ("cleanup",)


def test_a_finished_run_is_handed_on(opened: Opened, other: OtherTab) -> None:
    """Without it the reviewer would have to look for the mask that was just made."""
    volume = opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.applyButton.click()
    opened.worker.listener.on_cancelled()
    assert other.runs == []
    opened.ui.applyButton.click()
    opened.finish()
    (run,) = other.runs
    assert (run.model.id, run.volume) == ("ct-bleeds", volume)
    assert run.segmentation is opened.parameters.outputSegmentation
    assert [t.GetAttribute("MedSeg.Table") for t in run.tables] == ["segments", "lesions"]
    assert run.probabilities == ()


def test_another_tab_can_run_a_model(opened: Opened, other: OtherTab) -> None:
    opened.add_volume("other", "CT")
    volume = opened.add_volume("case 2", "CT")
    assert other.neighbours.segmenter.run_on("ct-bleeds", volume) == ""
    assert opened.worker.runs[0]["volumes"][0].name == "case 2"
    assert other.neighbours.segmenter.busy
    assert "going on" in other.neighbours.segmenter.run_on("ct-bleeds", volume)
    opened.finish()
    assert not other.neighbours.segmenter.busy and len(other.runs) == 1
    assert "gone" in other.neighbours.segmenter.run_on("gone", volume)
    assert len(opened.worker.runs) == 1
