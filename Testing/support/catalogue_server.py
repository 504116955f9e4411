"""A web server on this computer that misbehaves as told: it truncates, stalls, lies, redirects, forgets ranges."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behaviour = Callable[["_Handler"], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.requests.append((path, dict(self.headers.items())))
        waiting = self.server.routes.get(path, [status(404)])
        behaviour = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        with suppress(ConnectionError):
            behaviour(self)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: dict[str, list[Behaviour]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.over = threading.Event()

    def route(self, path: str, *behaviours: Behaviour) -> str:
        """The first request for ``path`` gets the first behaviour, and so on; the last stays. The address."""
        self.routes[path] = list(behaviours)
        return f"http://127.0.0.1:{self.server_port}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of the requests for ``path``."""
        return [headers.get("Range") for asked, headers in self.requests if asked == path]


@contextmanager
def serving() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join(5)


def whole(body: bytes, *, etag: str = '"v1"', ranges: bool = True, headers: Mapping[str, str] | None = None,
          length: int | None = None, send: int | None = None, then: str = "close") -> Behaviour:  # fmt: skip
    """``body``, by range where asked. ``length``: what Content-Length claims. ``send``: so many bytes, ``then`` close,
    stall, or trickle."""

    def behave(handler: _Handler) -> None:
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        same = handler.headers.get("If-Range") in (None, etag)
        if ranges and asked and same:
            start = int(asked[1])
            if start >= len(body):
                status(416)(handler)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if etag:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(body) - start if length is None else length))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        data = body[start:] if send is None else body[start : start + send]
        handler.wfile.write(data)
        handler.wfile.flush()
        if then == "stall":
            handler.server.over.wait(20)
        elif then == "trickle":
            while not handler.server.over.wait(0.02):
                handler.wfile.write(b"x")
                handler.wfile.flush()

    return behave


def chunked(body: bytes, *, cut: bool = False) -> Behaviour:
    """``body`` without a length; ``cut``: the connection ends before the last chunk."""

    def behave(handler: _Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        half = len(body) // 2
        for piece in [body[:half]] if cut else [body[:half], body[half:], b""]:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    return behave


def redirect(to: str, code: int = 302, headers: Mapping[str, str] | None = None) -> Behaviour:
    def behave(handler: _Handler) -> None:
        handler.send_response(code)
        handler.send_header("Location", to)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def status(code: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    def behave(handler: _Handler) -> None:
        handler.send_response(code)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return behave


def hang_up(handler: _Handler) -> None:
    """No answer at all."""
