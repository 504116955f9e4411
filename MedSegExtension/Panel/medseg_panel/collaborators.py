"""What the panel works with in Slicer: the worker process, the models' folder, dialogs, pip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from medseg.model import store as model_store

from .dialogs import SlicerDialogs
from .models.install import Installer, SlicerPip
from .seams import Dialogs, ModelStore, Worker
from .seams import Installer as InstallerSeam
from .segment.runs import at_once


@dataclass
class Collaborators:
    """What the panel works with. ``installer(log)`` makes the installer, which writes to the panel's log.

    ``later(work)``: calls ``work`` when Slicer has handled the events that wait. ``dicom_installer``: as ``installer``,
    for what writing DICOM needs; None where it is there. ``openvino_installer``: for the engine OpenVINO, an offer.
    ``server_installer``: for a run on a server.
    """

    worker: Worker
    store: ModelStore
    dialogs: Dialogs
    installer: Callable[[Callable[[str], None]], InstallerSeam]
    later: Callable[[Callable[[], None]], None] = at_once
    dicom_installer: Callable[[Callable[[str], None]], InstallerSeam] | None = None
    openvino_installer: Callable[[Callable[[str], None]], InstallerSeam] | None = None
    server_installer: Callable[[Callable[[str], None]], InstallerSeam] | None = None


def slicer_collaborators(resources: Path) -> Collaborators:
    """The real ones, in Slicer. ``resources``: the module's Resources folder."""
    from .worker.client import WorkerClient
    from .worker.process import QtWorkerProcess

    worker = WorkerClient(QtWorkerProcess, qt.QTimer.singleShot)
    dialogs = SlicerDialogs(slicer.util.mainWindow())

    def installer(log: Callable[[str], None]) -> Installer:
        return Installer(resources / "requirements.txt", SlicerPip(), dialogs, log, worker.restart)

    def dicom_installer(log: Callable[[str], None]) -> Installer:
        return Installer(resources / "requirements-dicom.txt", SlicerPip(), dialogs, log, worker.restart)

    def openvino_installer(log: Callable[[str], None]) -> Installer:
        question = _(
            "OpenVINO (by Intel, Apache-2.0, about 180 MB on the disk) often runs models twice as fast on a processor. "
            "Each model's first run compares it with ONNX Runtime; only where at least 99.99 % of the decisions are "
            "the same does it run what follows. Install it now? This needs the internet."
        )
        path = resources / "requirements-openvino.txt"
        return Installer(path, SlicerPip(), dialogs, log, worker.restart, question=question)

    def server_installer(log: Callable[[str], None]) -> Installer:
        return Installer(resources / "requirements-server.txt", SlicerPip(), dialogs, log, worker.restart)

    return Collaborators(
        worker,
        model_store,
        dialogs,
        installer,
        lambda work: qt.QTimer.singleShot(0, work),
        dicom_installer,
        openvino_installer,
        server_installer,
    )
