"""Starts the page and ends it: listening on this computer only, the visitor's files removed at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Rendering without a screen; VTK reads this when it is loaded.
if sys.platform.startswith("linux"):
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
os.environ["WSLINK_READY_MSG"] = ""

from trame.app import get_server

from . import page
from .access import HOST, Door
from .uploads import Limits
from .visit import Visit


def serve(port: int, limits: Limits, *, browser: bool, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM. ``port``: 0 for a free one. ``say``: gets the address."""
    home = Path(tempfile.mkdtemp(prefix="medseg-view-"))
    try:
        asyncio.run(_serve(port, limits, home, browser, say))
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _serve(port: int, limits: Limits, home: Path, browser: bool, say: Callable[[str], None]) -> None:
    server, door = get_server(f"medseg-{os.getpid()}"), Door()
    server.enable_module(page.MODULE)
    server.state.trame__title = "MedSeg"
    visit = Visit(server, home, limits)
    page.build(server, visit)

    @server.controller.add("on_server_bind")
    def bind(wslink_server: Any) -> None:
        wslink_server.app.middlewares.append(door.middleware())
        wslink_server.app.router.add_post("/upload", visit.receive)

    @server.controller.add("on_server_ready")
    def ready(**_: Any) -> None:
        door.port = server.port
        say(f"Open {door.address} (works once, on this computer; Ctrl-C ends it)")
        if browser:
            webbrowser.open(door.address)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    arguments, sys.argv = sys.argv, sys.argv[:1]  # trame has options of its own, --host among them
    try:
        task = server.start(
            exec_mode="task", host=HOST, port=port, open_browser=False, show_connection_info=False, timeout=0,
            thread=True, disable_logging=True,
        )  # fmt: skip
    finally:
        sys.argv = arguments
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    await visit.close()
    if task.done():
        task.result()  # why it could not start
    else:
        await server.stop()
