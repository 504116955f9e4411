"""Downloads through a hostile or missing network end soon, in words."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest
from test_catalogue_download import FAST, fetch, no_part, no_proxy, nothing_counts_as_there, server  # noqa: F401

from medseg.library.catalogue.transport import Client, DownloadError, _Redirects, explained
from support.catalogue_server import _Server, redirect

# ruff: noqa: F811  (fixtures are arguments)


def test_circles_of_redirects_end(server: _Server, tmp_path: Path) -> None:
    address = server.route("/a", redirect("/b"))
    server.route("/b", redirect("/a"))
    with pytest.raises(DownloadError, match="circle"):
        fetch(address, tmp_path / "m.bin")
    assert len(server.requests) < 12
    for n in range(9):
        server.route(f"/{n}", redirect(f"/{n + 1}"))
    with pytest.raises(DownloadError, match="circle"):
        fetch(f"http://127.0.0.1:{server.server_port}/0", tmp_path / "m.bin")


def test_no_redirect_to_unencrypted_or_local_files(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for bad in ((tmp_path / "secret").as_uri(), "ftp://127.0.0.1/x"):
        with pytest.raises(DownloadError, match=r"unencrypted|not follow"):
            fetch(server.route("/m", redirect(bad)), tmp_path / "m.bin")
    handler = _Redirects(Client(1))
    request = urllib.request.Request("https://hub.invalid/m")
    with pytest.raises(DownloadError, match="unencrypted"):
        handler.redirect_request(request, None, 302, "", {}, "http://hub.invalid/m")  # type: ignore[arg-type]
    assert handler.redirect_request(request, None, 302, "", {}, "https://cdn.invalid/m")  # type: ignore[arg-type]


def test_no_network_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(DownloadError, match=r"there is no network.*--from"):
        fetch("https://models.invalid/m.h5?signature=secret", tmp_path / "m.h5")
    with pytest.raises(DownloadError) as error:
        fetch("https://models.invalid/m.h5?signature=secret", tmp_path / "m.h5")
    assert "secret" not in str(error.value)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="refuses the connection"):
        fetch(f"http://127.0.0.1:{port}/m", tmp_path / "m.bin")


def test_a_certificate_that_fails_is_not_tried_again() -> None:
    import ssl
    import urllib.error

    reason = ssl.SSLCertVerificationError(1, "certificate verify failed")
    reason.verify_message = "self-signed certificate"
    told = explained(urllib.error.URLError(reason), "https://hub.invalid/x")
    assert "SSL_CERT_FILE" in str(told) and not told.retry
