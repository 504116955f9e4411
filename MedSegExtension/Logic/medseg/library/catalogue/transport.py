"""HTTP by the standard library: bounded redirects, sockets that a cancel can end, failures as sentences.

Proxies come from the environment (``https_proxy``, ``no_proxy``), certificates from the system (``SSL_CERT_FILE``).
"""

from __future__ import annotations

import functools
import http.client
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from typing import IO, Any
from urllib.parse import urlsplit

from ... import __version__
from ...errors import ModelError

REDIRECTS = 5
_RETRY = (408, 425, 429, 500, 502, 503, 504)


class DownloadError(ModelError):
    """A file could not be had. ``retry``: whether the same request may succeed later (``after`` seconds)."""

    def __init__(self, sentence: str, *, retry: bool = False, after: float | None = None) -> None:
        super().__init__(sentence)
        self.retry = retry
        self.after = after


class Client:
    """Opens addresses. ``close`` (from any thread) ends what is under way; ``stated`` is what redirects said.

    A hub that redirects to a storage server states there which file it means: ``stated`` has the headers
    ``x-linked-etag`` (for large files their SHA-256) and ``x-repo-commit`` where they were sent.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closed = False
        self.stated: dict[str, str] = {}
        self._opener = urllib.request.build_opener(_Http(self), _Https(self), _Redirects(self))

    def open(self, address: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The response to GET. Raises what urllib raises, and `DownloadError` for a redirect that is not followed."""
        self.stated.clear()
        default = {"User-Agent": f"medseg/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
        request = urllib.request.Request(address, headers={**default, **headers})
        response: http.client.HTTPResponse = self._opener.open(request, timeout=self._timeout)
        return response

    def keep(self, connected: socket.socket) -> None:
        """Remember a connected socket for `close`."""
        with self._lock:
            self._sockets = [*self._sockets[-3:], connected]
            closed = self._closed
        if closed:
            _end(connected)

    def close(self) -> None:
        """End all connections; a read that waits returns at once."""
        with self._lock:
            self._closed = True
            sockets, self._sockets = self._sockets, []
        for connected in sockets:
            _end(connected)


def _end(connected: socket.socket) -> None:
    # shutdown wakes up a thread that waits in recv, which close alone does not.
    with suppress(OSError, ValueError):
        connected.shutdown(socket.SHUT_RDWR)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        client = self._client

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                client.keep(self.sock)

        return self.do_open(Connection, req)


@functools.cache
def _context() -> ssl.SSLContext:
    # Once: reading the certificates takes a while, and each attempt has a client of its own.
    return ssl.create_default_context()


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, client: Client) -> None:
        super().__init__(context=_context())
        self._client = client

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        client = self._client

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                client.keep(self.sock)

        return self.do_open(Connection, req, context=_context())


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = REDIRECTS
    max_repeats = 2

    def __init__(self, client: Client) -> None:
        self._client = client

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise DownloadError(
                f"{old.hostname} sends on from an encrypted to an unencrypted address ({new.scheme}://{new.hostname}); "
                "this is not followed. Look for a newer address of the model."
            )
        for name in ("x-linked-etag", "x-repo-commit"):
            if headers.get(name) and name not in self._client.stated:
                self._client.stated[name] = str(headers[name])
        # Python 3.10 does not know 308, which keeps the method as 307 does.
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)

    def http_error_308(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> Any:
        return self.http_error_302(req, fp, code, msg, headers)


def place(address: str) -> str:
    """An address for messages: without query (which may be signed) and without port 80 or 443."""
    parts = urlsplit(address)
    return f"{parts.hostname}{parts.path}"


def explained(error: Exception, address: str) -> DownloadError:
    """``error`` of an attempt as a sentence, and whether trying again makes sense."""
    if isinstance(error, DownloadError):
        return error
    host, where = urlsplit(address).hostname, place(address)
    if isinstance(error, urllib.error.HTTPError):
        return _by_status(error, str(host), where)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"The certificate of {host} could not be verified ({reason.verify_message}). Behind a proxy that inspects "
            "connections, set SSL_CERT_FILE to a file with its certificate; otherwise check this computer's clock."
        )
    if isinstance(reason, socket.gaierror):
        what = f"there is no network, or the name {host} cannot be looked up"
    elif isinstance(reason, TimeoutError):
        what = f"{host} did not answer or stopped sending (stalled)"
    elif isinstance(reason, ConnectionRefusedError):
        what = f"{host} refuses the connection"
    elif isinstance(reason, (http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionError)):
        what = f"{host} broke off the connection"
    elif isinstance(reason, http.client.HTTPException):
        what = f"{host} does not speak proper HTTP ({type(reason).__name__})"
    elif isinstance(reason, ssl.SSLError):
        what = f"the encrypted connection to {host} failed ({reason.reason or 'SSL error'})"
    else:
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        what = f"the connection to {host} failed ({text})"
    return DownloadError(what, retry=True)


def _by_status(error: urllib.error.HTTPError, host: str, where: str) -> DownloadError:
    code = error.code
    if code in (404, 410):
        return DownloadError(
            f"{where} is not there any more ({code}). Its publisher has moved or removed it: look at the model's "
            "source, or put the file into a folder and install with --from."
        )
    if code in (401, 403, 451):
        return DownloadError(
            f"{host} does not give {where} away without signing in or consent ({code}). Download it by hand in a "
            "browser, put it into a folder and install with --from."
        )
    if code == 407:
        return DownloadError("The proxy asks for a password (407); put it into the environment variable https_proxy.")
    if 300 <= code < 400:
        return DownloadError(
            f"{host} sends {where} on in a circle, or to a place where MedSeg does not follow (redirect {code}); look "
            "at the model's source for a newer address."
        )
    retry = code in _RETRY
    after = re.fullmatch(r"\s*(\d{1,6})\s*", error.headers.get("Retry-After", "") if error.headers else "")
    return DownloadError(
        f"{host} answers with error {code}" + ("" if retry else f" for {where}; try again later."),
        retry=retry,
        after=float(after.group(1)) if after else None,
    )
