"""Who may open the page: one visitor, who has the token of the address, on this computer.

The token works once. It is exchanged for a cookie that scripts cannot read; everything else, files of the page and the
socket included, is refused without that cookie. The host name is checked against DNS rebinding, the origin against
other pages that are open in the same browser.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from html import escape

from aiohttp import web

log = logging.getLogger("medseg.view")

HOST = "127.0.0.1"
_ENTRANCES = ("/", "/index.html")
# Vue compiles templates in the browser, which needs "unsafe-eval"; nothing may come from, or go to, another host.
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws://{host}; worker-src 'self' blob:; "
    "media-src 'self' blob:; manifest-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Door:
    """Lets one visitor in. ``token``: of the address. ``port``: set when the server listens."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(32)
        self.port = 0
        self._pass = ""
        # Cookies do not know of ports: two servers on one computer must not overwrite each other's.
        self._cookie = f"medseg-{secrets.token_hex(6)}"

    @property
    def address(self) -> str:
        """What the visitor opens; it works once."""
        return f"http://{HOST}:{self.port}/?token={self.token}"

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        """What aiohttp asks before anything else."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = self._judge(request)
            if response is None:
                try:
                    response = await handler(request)
                except web.HTTPException as error:
                    response = error
            if not response.prepared:
                response.headers.update(_HEADERS)
                response.headers["Content-Security-Policy"] = _POLICY.format(host=request.host)
            if isinstance(response, web.HTTPException):
                raise response
            return response

        return guard

    def _judge(self, request: web.Request) -> web.StreamResponse | None:
        """None where the visitor may pass, else the answer."""
        if request.host not in (f"{HOST}:{self.port}", f"localhost:{self.port}"):
            return self._refused(request, "This name is not one of the page.")
        origin = request.headers.get("Origin")
        asks_to_act = request.method != "GET" or request.headers.get("Upgrade", "").lower() == "websocket"
        if (origin is not None or asks_to_act) and origin != f"http://{request.host}":
            return self._refused(request, "Another page may not use this one.")
        if self._pass and hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), self._pass.encode()):
            return None
        given = request.query.get("token", "")
        if request.method == "GET" and request.path in _ENTRANCES and given:
            return self._enter(request, given)
        return self._refused(request, "Open the address that medseg view printed.")

    def _enter(self, request: web.Request, given: str) -> web.StreamResponse:
        if not self.token or not hmac.compare_digest(given.encode(), self.token.encode()):
            return self._refused(
                request,
                "This address was used already, or is not right. It lets one visitor in, once. If that was not you, "
                "end medseg view; else start it again for a new address.",
            )
        self.token, self._pass = "", secrets.token_urlsafe(32)
        response = web.Response(status=303, headers={"Location": "/index.html"})
        response.set_cookie(self._cookie, self._pass, httponly=True, samesite="Lax", path="/")
        return response

    def _refused(self, request: web.Request, why: str) -> web.StreamResponse:
        # Neither query (it may hold a token) nor cookies are logged.
        log.warning("refused: %s %s", request.method, request.path[:100])
        text = f"<!doctype html><title>MedSeg</title><p>{escape(why)}</p>"
        return web.Response(status=403, text=text, content_type="text/html")
