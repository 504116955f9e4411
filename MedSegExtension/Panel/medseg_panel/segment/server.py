"""The network on a server: address, token, authority, what follows where it fails; and the consent to send voxels.

Address, rule and authority are settings of this computer and never of a scene, so that nobody's scene can name a
server. The token stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import slicer
from slicer.i18n import tr as _

from ..collaborators import Collaborators

_ADDRESS, _RULE, _AUTHORITY = "MedSeg/Server", "MedSeg/ServerFallback", "MedSeg/ServerAuthority"
RULES = ("error", "local")


class ServerSection:
    """The rows of the section *Advanced*. ``failed`` is told why a package could not be installed."""

    def __init__(self, ui: Any, others: Collaborators, log: Callable[[str], None]) -> None:
        self._ui, self._dialogs, self._log = ui, others.dialogs, log
        self._installer = others.server_installer(log) if others.server_installer is not None else None
        self._agreed: set[str] = set()
        settings = slicer.app.userSettings()
        ui.serverEdit.text = str(settings.value(_ADDRESS) or "")
        ui.serverAuthorityEdit.text = str(settings.value(_AUTHORITY) or "")
        ui.serverFallbackSelector.addItem(_("stop with an error"), RULES[0])
        ui.serverFallbackSelector.addItem(_("go on with this computer"), RULES[1])
        ui.serverFallbackSelector.currentIndex = RULES.index(RULES[1]) if settings.value(_RULE) == RULES[1] else 0
        ui.serverEdit.connect("textChanged(QString)", lambda text: self._changed())
        ui.serverFallbackSelector.connect("currentIndexChanged(int)", lambda index: self._keep())
        ui.serverAuthorityEdit.connect("textChanged(QString)", lambda text: self._keep())
        ui.serverAuthorityButton.connect("clicked(bool)", lambda *_: self._choose_authority())
        self._enable()

    @property
    def address(self) -> str:
        """What was entered; "" where runs are on this computer."""
        return str(self._ui.serverEdit.text).strip()

    def options(self) -> dict[str, Any]:
        """What a run's request gets; nothing where no server is named."""
        if not self.address:
            return {}
        server = {"url": self.address, "fallback": RULES[self._ui.serverFallbackSelector.currentIndex]}
        token = str(self._ui.serverTokenEdit.text).strip()
        if token:
            server["token"] = token
        if authority := str(self._ui.serverAuthorityEdit.text).strip():
            server["authority"] = authority
        return {"server": server}

    @property
    def settled(self) -> bool:
        """True where a run would ask nothing."""
        if not self.address:
            return True
        return self.address in self._agreed and (self._installer is None or self._installer.satisfied())

    def ready(self) -> bool:
        """True where a run may go there, asked where that is not known; `MedSegError` where pip failed.

        Consent holds for one address until Slicer ends.
        """
        if not self.address:
            return True
        if self.address not in self._agreed:
            if not self._dialogs.confirm(self._question()):
                self._log(_("Nothing was sent and nothing was run. Empty the field Server to run on this computer."))
                return False
            self._agreed.add(self.address)
        return self._installer is None or self._installer.ensure()

    def _question(self) -> str:
        parts = urlsplit(self.address)
        # What a user name or a path may hold is nobody's business on a screen.
        place = parts.netloc.rpartition("@")[2] or self.address
        words = _(
            "The voxels of the image will be sent to the server {place}, which makes the result. Name, identifiers and "
            "other data of the patient are not sent, but an image of a head shows a face. Do you agree?"
        ).format(place=place)
        if parts.scheme != "https":
            words += " " + _("The connection is not encrypted: who listens on the network can see the image.")
        return words

    def _choose_authority(self) -> None:
        title = _("Certificate of the authority that signed the server's")
        if path := self._dialogs.open_file(title, _("Certificates (*.pem *.crt *.cer);;All files (*)")):
            self._ui.serverAuthorityEdit.text = path

    def _changed(self) -> None:
        self._enable()
        self._keep()

    def _enable(self) -> None:
        ui = self._ui
        for widget in (
            ui.serverFallbackSelector, ui.serverTokenEdit, ui.serverAuthorityEdit, ui.serverAuthorityButton,
        ):  # fmt: skip
            widget.enabled = bool(self.address)

    def _keep(self) -> None:
        settings = slicer.app.userSettings()
        settings.setValue(_ADDRESS, self.address)
        settings.setValue(_RULE, RULES[self._ui.serverFallbackSelector.currentIndex])
        settings.setValue(_AUTHORITY, str(self._ui.serverAuthorityEdit.text).strip())
