"""Run a command's body: Ctrl-C, errors as sentences, the JSON document, the exit code."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ..errors import Cancelled, InputError
from ..scratch import discard, own_place
from .console import Command, as_text, exit_code, set_up_logging, stdout_for_json
from .interrupt import end_now, interruptible


def execute(body: Callable[[Command], int], *, as_json: bool, debug: bool) -> None:
    """Call ``body`` and end the command with its exit code, or with that of the error that it raises."""
    set_up_logging(debug)
    command = Command(as_json=as_json, debug=debug)
    with stdout_for_json(as_json) as write:

        def finish(code: int) -> None:
            command.reporter.stop()
            if as_json:
                write(as_text({**command.document, "exit_code": code}))

        def abandon() -> None:
            command.abandon()
            command.document["error"] = command.error(Cancelled(f"The run was cancelled; {command.after_cancel}."))
            finish(Cancelled.exit_code)

        def work() -> int:
            with own_place() as folder, command.on_abandon(lambda: discard(folder)):
                return body(command)

        try:
            code = interruptible(work, command.cancel, abandon)
        except (Exception, KeyboardInterrupt) as error:
            command.reporter.stop()
            command.document["error"] = command.error(error)
            code = exit_code(error)
        finish(code)
        if code == Cancelled.exit_code:
            end_now(code)  # native code of the cancelled run may still be busy
    raise typer.Exit(code)


def parse_windows(windows: list[str] | None) -> tuple[tuple[float, float], ...] | None:
    """``LEVEL,WIDTH`` options as numbers."""
    if not windows:
        return None
    parsed = []
    for text in windows:
        try:
            level, width = (float(part) for part in text.replace("/", ",").split(","))
        except ValueError as error:
            raise InputError(f"--window {text!r} is not LEVEL,WIDTH (two numbers, as in 40,80).") from error
        if width <= 0:
            raise InputError(f"--window {text!r} has a width that is not positive.")
        parsed.append((level, width))
    return tuple(parsed)


def parse_choices(choices: list[str] | None) -> dict[str, str]:
    """``NAME=OPTION`` options as a mapping."""
    chosen: dict[str, str] = {}
    for text in choices or []:
        name, sign, option = text.partition("=")
        if not sign or not name or not option:
            raise InputError(f"--choose {text!r} is not of the form NAME=OPTION (see: medseg explain MODEL INPUT).")
        chosen[name] = option
    return chosen
