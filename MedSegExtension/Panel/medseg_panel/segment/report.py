"""The support report: what a maintainer needs to know, and nothing that says who the patient is."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from typing import Any

import numpy
import slicer
import vtk
from slicer.i18n import tr as _

from medseg import __version__
from medseg.model.card import ModelCard

from ..seams import Worker
from .run import RunSection


def slicer_versions() -> dict[str, str]:
    """Versions in Slicer's own process."""
    return {
        "MedSeg": __version__,
        "Slicer": f"{slicer.app.applicationVersion} (revision {slicer.app.revision})",
        "Python": platform.python_version(),
        "system": platform.platform(),
        "numpy": numpy.__version__,
        "VTK": vtk.vtkVersion.GetVTKVersion(),
    }


def support_report(
    card: ModelCard | None, devices: list[dict[str, Any]], worker: dict[str, Any] | None, log: str, names: list[str]
) -> str:
    """The report as text. ``names``: names of nodes, which may hold a patient's name and are replaced in the log."""
    lines = ["MedSeg support report (no patient data)", ""]
    lines += [f"{name}: {value}" for name, value in slicer_versions().items()]
    if card is not None:
        lines += ["", f"model: {card.id} {card.version}", f"expects: {card.expects}", f"size: {card.size} bytes"]
    lines += ["", "devices:"]
    lines += [
        f"  {d['id']}: {d['name']}, {'works' if d['works'] else 'does not work: ' + d['reason']}" for d in devices
    ] or ["  not tried yet"]
    if worker:
        lines += ["", "worker:", *(f"  {name}: {value}" for name, value in worker.items())]
    lines += ["", "log:", anonymous(log, names)]
    return without_home("\n".join(lines)) + "\n"


def anonymous(text: str, names: list[str]) -> str:
    """``text`` with every node name replaced by a number; longer names first, so that no rest is left."""
    for number, name in enumerate(sorted({n for n in names if n}, key=len, reverse=True), start=1):
        text = text.replace(name, f"<node {number}>")
    return text


def without_home(text: str) -> str:
    """``text`` without the user's name in paths."""
    return re.sub(r"((?:/home/|/Users/|[A-Za-z]:\\Users\\))[^/\\\s]+", r"\1<user>", text)


class ReportButton:
    """*Copy support report*: puts the report on the clipboard. ``card()``: the chosen model."""

    def __init__(
        self, ui: Any, scene: Any, worker: Worker, run: RunSection, card: Callable[[], ModelCard | None]
    ) -> None:
        self._scene, self._worker, self._run, self._card = scene, worker, run, card
        ui.copyReportButton.connect("clicked(bool)", self.copy)

    def copy(self) -> None:
        """Copy what is known here; the worker's part is added where it runs."""
        self._copy(None)
        self._worker.query(
            "versions",
            lambda answer: self._copy(answer["report"]),
            lambda e: self._run.log(_("The report has no part of the worker: {why}").format(why=e["message"])),
        )

    def _copy(self, worker: dict[str, Any] | None) -> None:
        names = [self._scene.GetNthNode(n).GetName() or "" for n in range(self._scene.GetNumberOfNodes())]
        shown = [n for n in names if len(n) > 2]
        self._run.copy(support_report(self._card(), self._run.devices, worker, self._run.log_text, shown))
        self._run.log(_("The support report is on the clipboard."))
