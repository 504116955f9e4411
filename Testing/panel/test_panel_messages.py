"""What a run said stays under its bar in short: nothing of it is lost, and nothing pushes the result out of sight."""

from __future__ import annotations

from qt_host.bridge import unwrap
from qt_host.fixtures import Opened, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def test_many_notes_are_folded_and_none_is_lost(opened: Opened) -> None:
    """Eight lines under the bar push the result's table out of a small window."""
    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.applyButton.click()
    listener = opened.worker.listener
    for n in range(4):
        listener.on_note(f"Note {n} <of the run>.")
    listener.on_warning("The slices are unevenly spaced, " + "which is told at length, " * 8 + "END.")
    opened.finish()
    ui = opened.ui
    assert "Done" in ui.progressLabel.text and "Note" not in ui.progressLabel.text
    shown = ui.notesLabel.text
    assert shown.startswith("Warning: The slices are unevenly spaced") and "END" not in shown
    assert "Note 0 &lt;of the run&gt;." in shown and "Note 1" not in shown
    assert "1 warning(s), 4 note(s)" in shown and unwrap(ui.detailsLabel).isHidden()
    unwrap(ui.notesLabel).linkActivated.emit("all")
    assert not unwrap(ui.detailsLabel).isHidden()
    assert "END." in ui.detailsLabel.text and "Note 3" in ui.detailsLabel.text
    unwrap(ui.notesLabel).linkActivated.emit("all")
    assert unwrap(ui.detailsLabel).isHidden() and "END." in ui.logText.plainText
    opened.ui.applyButton.click()
    assert unwrap(ui.notesLabel).isHidden(), "a new run begins without the old one's notes"


def test_an_offer_is_made_once(opened: Opened) -> None:
    """The same advertisement after each of forty runs hides what differs between them."""
    asked: list[str] = []
    messages, label = opened.panel.run.messages, unwrap(opened.ui.offerLabel)
    messages.offer("test-engine", "It is faster.", "Install it...", lambda: asked.append("yes"))
    assert not label.isHidden() and "It is faster." in label.text()
    label.linkActivated.emit("no")
    assert label.isHidden() and asked == []
    messages.offer("test-engine", "It is faster.", "Install it...", lambda: asked.append("yes"))
    assert label.isHidden(), "this user saw it before"
    messages.offer("test-other", "It is prettier.", "Get it", lambda: asked.append("other"))
    label.linkActivated.emit("yes")
    assert asked == ["other"] and label.isHidden()
