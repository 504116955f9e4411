"""Keys of the review: they act while the tab is seen, and take none of Slicer's or of an effect's."""

from __future__ import annotations

from typing import Any

from qt_host.fixtures import host, opened  # noqa: F401
from support.review_tab import press, started, tab  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def test_keys_sleep_while_another_tab_is_seen(tab: Any) -> None:
    """A key that rejects a lesion while the reader types a model's name is worse than no key."""
    assert all(s.enabled for s in tab.actions.keys._shortcuts)
    tab.opened.ui.tabs.currentIndex = 0
    assert not any(s.enabled for s in tab.actions.keys._shortcuts)
    assert "accept" in tab.actions.keys.card()


#: Shortcuts of Slicer's main window and tool bars that work everywhere in it (qSlicerMainWindow.ui and .cxx, the module
#: selector's and the markups' tool bar). Qt lets neither of two equal ones work.
_OF_SLICER = {
    *(f"Ctrl+{n}" for n in "0123456"), *(f"Ctrl+{c}" for c in "OSWZYXCVHF"), "Ctrl+`", "Ctrl+Left", "Ctrl+Right",
    "Ctrl+Shift+A", "Ctrl+Shift+T", "Ctrl+Shift+Space",
}  # fmt: skip


def test_no_key_is_also_one_of_slicers_own(tab: Any) -> None:
    """With Ctrl+S in both, neither the version nor the scene would be saved."""
    own = [k.name for keys in (tab.actions.keys, tab.cases.keys, tab.rating.keys) for k in keys._keys]
    assert len(own) == len(set(own)) and not _OF_SLICER & set(own)


def test_the_outline_effect_keeps_its_own_keys(tab: Any) -> None:
    """X takes back the last point of an outline; it must not reject the finding meanwhile."""
    started(tab)
    press(tab, "E")
    enabled = {k.name: s for k, s in zip(tab.actions.keys._keys, tab.actions.keys._shortcuts, strict=True)}
    parameters = tab.actions.editor._editor.mrmlSegmentEditorNode()
    assert enabled["X"].enabled and enabled["A"].enabled
    parameters.SetActiveEffectName("Draw")
    assert not enabled["X"].enabled and not enabled["A"].enabled and enabled["N"].enabled
    tab.opened.ui.tabs.currentIndex = 0
    tab.opened.ui.tabs.currentIndex = 1
    assert not enabled["X"].enabled
    parameters.SetActiveEffectName("Paint")
    assert enabled["X"].enabled
    parameters.SetActiveEffectName("Draw")
    tab.opened.scene.Clear(0)
    assert enabled["X"].enabled
