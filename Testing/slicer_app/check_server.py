"""A run on a server in the application: the fields, the question before an image leaves, and what a dead one says."""

from __future__ import annotations

import common
import slicer
from hands import scroll_to
from session import Session, equal, true

#: Nobody listens there.
_NOBODY = "http://127.0.0.1:9"


def check_server_is_asked_about_before_an_image_leaves(session: Session) -> str:
    """Who declines sends nothing; the token is dots; the next run without an address asks nothing."""
    ui = session.widget.ui
    equal(str(ui.serverEdit.text), "", "the address at first")
    true(not ui.serverTokenEdit.enabled, "a token can be entered without a server")
    asked: list[str] = []
    original = slicer.util.confirmOkCancelDisplay
    slicer.util.confirmOkCancelDisplay = lambda text, *a, **k: bool(asked.append(text))
    try:
        ui.serverEdit.text, ui.serverTokenEdit.text = "https://gpu.example:8000", "s3cret"
        true("s3cret" not in str(ui.serverTokenEdit.displayText), "the token can be read")
        true(ui.serverAuthorityEdit.enabled and ui.serverAuthorityButton.enabled, "no authority can be named")
        shown = ui.serverAuthorityButton
        while shown is not None:  # the sections around it
            if hasattr(shown, "collapsed"):
                shown.collapsed = False
            shown = shown.parentWidget()
        common.pause(0.5)
        scroll_to(ui.serverAuthorityButton)
        common.picture("server-fields")
        common.choose(session.widget, "bright", session.volume())
        session.apply()
        common.pause(0.3)
        equal((len(asked), session.panel.runs.running), (1, False), "questions, and whether a run goes on")
        true("gpu.example:8000" in asked[0] and "s3cret" not in asked[0], asked[0])
    finally:
        slicer.util.confirmOkCancelDisplay = original
        ui.serverEdit.text = ui.serverTokenEdit.text = ""
    said = session.run("bright", session.volume())
    true("Done" in said and not session.questions, f"{said} {session.questions}")
    return asked[0]


def check_server_that_is_not_there_is_told(session: Session) -> str:
    """The run ends with a sentence (of the server, or of the package that is missing), and Slicer goes on."""
    ui = session.widget.ui
    # Packages are another check's business: here a missing one is told by the worker.
    installer, session.panel.server._installer = session.panel.server._installer, None
    try:
        ui.serverEdit.text = _NOBODY
        said = session.run("bright", session.volume())
    finally:
        session.panel.server._installer = installer
        ui.serverEdit.text = ""
    true("cannot be reached" in said or "tritonclient" in said, said)
    equal(len(session.errors), 1, "messages")
    true("Done" in session.run("bright", session.volume()), "the next run")
    return said
