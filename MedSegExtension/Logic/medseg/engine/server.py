"""An inference server, as the user names it, and what its calls raise; light: no network library is loaded here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from ..errors import DeviceError, InputError
from ..model.package import Model

#: The environment variable that holds the token; a token on a command line could be read by every user of the machine.
TOKEN = "MEDSEG_SERVER_TOKEN"
_LOCAL = ("localhost", "127.0.0.1", "::1")
FALLBACKS = ("error", "local")


class ServerDown(DeviceError):
    """The server cannot do it now: not reached, too slow, died, no memory. The fall-back rule decides what follows."""


@dataclass(frozen=True)
class Server:
    """A server of the Open Inference Protocol (KServe v2) over HTTP, such as Triton.

    ``url``: ``https://host:port``, with a path where a proxy needs one; ``http://`` is not encrypted.
    ``fallback``: what follows where the server cannot do its work now: ``error`` ends the run, ``local`` goes on with
    this computer. A refused token, a missing model, other weights and wrong shapes are errors under either rule, since
    they would not heal and nobody would notice.
    ``timeout``: seconds without an answer, the server's work included. ``retries``: further tries where the connection
    fails. ``in_flight``: requests under way at once. ``compress``: ``auto`` compresses unless the server is this
    computer. ``authority``: PEM file of the authority that signed the server's certificate, None for the system's.
    ``name``: the network's name there, None for that of `network_name`. ``token``: sent as ``Authorization: Bearer``;
    it is never shown.
    """

    url: str
    fallback: Literal["error", "local"] = "error"
    timeout: float = 300.0
    retries: int = 2
    in_flight: int = 4
    compress: Literal["auto", "on", "off"] = "auto"
    authority: Path | None = None
    name: str | None = None
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises `InputError` for what can be seen to be wrong without the network."""
        parts = urlsplit(self.url)
        try:
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # a port that is no number
            fits = False
        if not fits or parts.query or parts.fragment:
            raise InputError("The server's address must be http://HOST:PORT or https://HOST:PORT.")
        if "@" in parts.netloc:
            raise InputError(f"The server's address holds a user name; give a token in {TOKEN} instead.")
        if self.fallback not in FALLBACKS:
            raise InputError(f"{self.fallback!r} is no fall-back rule; choose {' or '.join(FALLBACKS)}.")
        if self.compress not in ("auto", "on", "off"):
            raise InputError(f"{self.compress!r}: compression is auto, on or off.")
        if self.timeout <= 0 or self.retries < 0 or self.in_flight < 1:
            raise InputError("The server's timeout, retries and requests in flight must be positive.")
        if self.token is not None and (not self.token.isascii() or not self.token.isprintable() or not self.token):
            raise InputError("The server's token holds characters that cannot be sent; copy it again.")
        if self.token and not self.encrypted and not self.here:
            raise InputError(f"A token would travel readable to {self.place}; use an https:// address.")
        if self.authority is not None and not self.authority.is_file():
            raise InputError(f"{self.authority}: no such file; name the PEM file of the server's authority.")

    @property
    def encrypted(self) -> bool:
        """Whether what travels is encrypted."""
        return urlsplit(self.url).scheme == "https"

    @property
    def here(self) -> bool:
        """Whether the server is this computer."""
        return urlsplit(self.url).hostname in _LOCAL

    @property
    def place(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.url).netloc

    @property
    def compressed(self) -> bool:
        """Whether tiles are compressed on their way."""
        return self.compress == "on" or (self.compress == "auto" and not self.here)

    def described(self) -> dict[str, Any]:
        """For the provenance: no token, no path of this computer."""
        return {
            "url": self.url, "fallback": self.fallback, "timeout_s": self.timeout, "retries": self.retries,
            "in_flight": self.in_flight, "compressed": self.compressed, "token": self.token is not None,
        }  # fmt: skip


def server_from(url: str, environment: Mapping[str, str] = os.environ, **options: Any) -> Server:
    """The server at ``url``, with the token of the environment variable ``MEDSEG_SERVER_TOKEN``."""
    return Server(url, token=environment.get(TOKEN, "").strip() or None, **options)


def network_name(model: Model) -> str:
    """The name of a network on servers: id and the start of the weights' hash, so that a name means one network."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', model.manifest.id)}-{model.sha256[:12]}"
