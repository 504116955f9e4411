"""What an nnU-Net folder or zip holds, as rows to choose from, and the question which folds are to be averaged."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

COLUMNS = ("Configuration", "Data set", "Classes", "Folds", "Spacing", "Size")
_SHOWN = 40


def columns() -> list[str]:
    """The heads of the list."""
    return [_(c) for c in COLUMNS]


def row(found: dict[str, Any]) -> list[str]:
    """One result of `medseg.worker.models.published`'s ``found`` as a row of the list."""
    if found["problem"]:
        return [found["configuration"], found["title"], _("cannot be imported"), "", "", ""]
    configuration = found["configuration"]
    if found["previous"]:
        configuration = _("{name}, after {before}").format(name=configuration, before=found["previous"])
    spacing = " x ".join(f"{s:.3g}" for s in found["spacing"])
    size = f"{found['megabytes']:.0f} MB" if found["megabytes"] else ""
    folds = ", ".join(found["folds"]) or _("exported ONNX")
    return [configuration, found["title"], str(len(found["classes"])), folds, f"{spacing} mm", size]


def details(found: dict[str, Any]) -> str:
    """What was understood of a result, as rich text."""
    if found["problem"]:
        return html.escape(found["problem"])
    names = ", ".join(found["classes"][:_SHOWN]) + (" ..." if len(found["classes"]) > _SHOWN else "")
    flat = _("2D, in tiles of every slice") if found["dimensions"] == 2 else _("3D, in windows")
    patch = " x ".join(str(n) for n in found["patch"])
    lines = [
        (_("Images"), ", ".join(found["channels"])),
        (_("Classes"), names),
        (_("Runs"), _("{how} of {patch} voxels").format(how=flat, patch=patch)),
        (_("Folder"), found["folder"]),
    ]
    if found["previous"]:
        lines.insert(2, (_("Cascade"), _("{name} runs first; both become one model").format(name=found["previous"])))
    return "<br>".join(f"<b>{html.escape(name)}:</b> {html.escape(text)}" for name, text in lines)


def folds_question(found: dict[str, Any]) -> dict[str, Any]:
    """The question which folds are averaged, as the dialogs take it."""
    return {
        "id": "folds", "kind": "text", "default": "all", "choices": (),
        "text": _("Folds to average (all, or some of {folds}, separated by commas)").format(
            folds=", ".join(found["folds"])
        ),
        "why": _("Each fold is a network trained on other cases; a run takes as many times longer as there are folds."),
    }  # fmt: skip


def request(path: str, found: dict[str, Any], results: Sequence[dict[str, Any]], folds: str) -> dict[str, Any]:
    """``file`` and ``choices`` of the import of one result of ``path``."""
    file = Path(path)
    choices = {"folds": folds} if folds and folds != "all" else {}
    if file.is_dir() and (file / found["folder"]).is_dir():
        return {"file": str(file / found["folder"]), "choices": choices}
    if len(results) > 1:
        choices["configuration"] = found["configuration"]
    return {"file": path, "choices": choices}
