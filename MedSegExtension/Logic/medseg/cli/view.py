"""``medseg view``: the page in the browser."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from ..errors import InputError
from .console import Command, exit_code, set_up_logging


def register(app: typer.Typer, epilog: str) -> None:
    """Add the command."""
    app.command("view", epilog=epilog)(view)


def view(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    limit: Annotated[int, typer.Option(min=1, metavar="MB", help="Files of one image take at most this.")] = 2048,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:
    """Open a page in the browser of this computer: choose an image and a model, run it, look at the result.

    Only this computer and one visitor are let in, by the address that is printed. Files are removed at the end.
    """
    set_up_logging(debug)
    command = Command(as_json=False, debug=debug)
    try:
        try:
            # By name: the core imports nothing that is built on it.
            server, uploads = (importlib.import_module(f"medseg_view.{name}") for name in ("server", "uploads"))
        except ImportError as error:
            raise InputError(
                f"The page needs what is not installed ({error}). Install it in an environment of its own: "
                'pip install "medseg[view]"; on Linux also the system packages libegl1 and libgl1-mesa-dri.'
            ) from error
        server.serve(port, uploads.Limits(limit * uploads.MEGABYTE), browser=browser, say=command.say)
    except Exception as error:
        command.error(error)
        raise typer.Exit(exit_code(error)) from error
