"""Entries of the menu *Manage models* for Python packages: from a folder of wheels, and the faster engine OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from slicer.i18n import tr as _

from medseg.errors import MedSegError

from ..collaborators import Collaborators
from ..seams import Installer
from ..segment.menus import add_action


class Telling(Protocol):
    """What shows what a run said (`segment.run.RunSection`)."""

    messages: Any

    def detail(self, sentence: str) -> None: ...


class PackagesMenu:
    """Adds the entries to ``menu``. ``installer``: of what every run needs; ``failed`` is told why pip failed."""

    def __init__(
        self,
        menu: Any,
        others: Collaborators,
        installer: Installer,
        log: Callable[[str], None],
        failed: Callable[[str], None],
    ) -> None:
        self._dialogs, self._installer, self._log, self._failed = others.dialogs, installer, log, failed
        self._openvino = others.openvino_installer(log) if others.openvino_installer is not None else None
        self._entries = [
            add_action(
                menu, _("Install Python packages from a folder..."), self.install_from_folder,
                _("Install what the models need from a folder of wheels, without the internet."),
            )
        ]  # fmt: skip
        if self._openvino is not None:
            self._entries.append(
                add_action(
                    menu, _("Install OpenVINO, a faster engine for processors..."), self.install_openvino,
                    _("It then runs the models for which it is faster here and decides alike."),
                )
            )  # fmt: skip

    def set_enabled(self, enabled: bool) -> None:
        """Packages cannot change while something runs."""
        for entry in self._entries:
            entry.enabled = enabled

    def install_from_folder(self) -> None:
        """Install the needed packages from a folder of wheels."""
        folder = self._dialogs.folder(_("Folder with wheels (.whl)"))
        if folder:
            self._try(lambda: self._installer.ensure_from(folder))

    def install_openvino(self) -> None:
        """Offer OpenVINO; the user is told where it is there already."""
        openvino = self._openvino
        if openvino is None:
            return
        if openvino.satisfied():
            self._log(_("OpenVINO is installed. Each model's first run on the processor tells which engine runs it."))
            return
        self._try(openvino.ensure)

    def engine_hint(self, provenance: dict[str, Any]) -> str:
        """Why a run was not on OpenVINO, where the run itself could not know: it is not installed. Else ""."""
        exact = provenance.get("parameters", {}).get("precision") == "float32"
        if provenance.get("provider") != "CPUExecutionProvider":
            return ""
        if exact:
            return _("ONNX Runtime ran this network, since exact results are asked for.")
        if self._openvino is None or self._openvino.satisfied():
            return ""
        return _("ONNX Runtime ran this network; OpenVINO is not installed (menu Manage models).")

    def tell_engine(self, provenance: dict[str, Any], run: Telling) -> None:
        """Note which engine ran a network and why, and offer the faster one to a user who was not asked before."""
        run.detail(self.engine_hint(provenance))
        exact = provenance.get("parameters", {}).get("precision") == "float32"
        if self.engine_hint(provenance) and not exact:
            sentence = _("OpenVINO often runs models twice as fast on this computer's processor.")
            run.messages.offer("openvino", sentence, _("Install it..."), self.install_openvino)

    def _try(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except MedSegError as error:
            self._failed(str(error))
