"""What a request to the worker must be: each field is checked before anything is done with it.

Every function raises `InputError`, whose sentence names the field; the worker sends it as the request's ``error``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..errors import InputError, damage_is
from ..geometry.volume import Volume
from .transfer import grid_from, volume_from

#: What the panel calls a folder for arrays; nothing else is ever removed.
_FOLDER_START = "medseg-"


def text_of(request: dict[str, Any], field: str) -> str:
    """The text in ``field``."""
    value = request.get(field)
    if not isinstance(value, str) or not value or "\0" in value:
        raise _wrong(field, value, "a text")
    return value


def exchange_folder_of(request: dict[str, Any]) -> Path:
    """The folder for the arrays of a request: one that the panel made, since the worker removes it."""
    folder = Path(text_of(request, "folder"))
    if not folder.name.startswith(_FOLDER_START) or folder.is_symlink() or not folder.is_absolute():
        raise _wrong("folder", str(folder), f"a folder {_FOLDER_START}... for temporary files")
    return folder


def volumes_of(request: dict[str, Any], folder: Path) -> list[Volume]:
    """The volumes of a run, their voxels mapped from ``folder``."""
    try:
        with damage_is(InputError, "The description of the volumes"):
            return [volume_from(message, folder) for message in request["inputs"]]
    except OSError as error:
        raise InputError(f"The voxels were not handed over ({error.strerror or error}); run again.") from error


def run_options_of(request: dict[str, Any]) -> dict[str, Any]:
    """The fields of `medseg.pipeline.run.RunOptions`, and ``only_input``, from plain values."""
    given = request.get("options") or {}
    if not isinstance(given, dict):
        raise _wrong("options", given, "names with values")
    options = {}
    for name, value in given.items():
        if name not in _OPTIONS:
            raise _wrong("options", name, f"one of {', '.join(_OPTIONS)}")
        options[name] = None if value is None else _OPTIONS[name](name, value)
    return {name: value for name, value in options.items() if value is not None}


def choices_of(request: dict[str, Any]) -> dict[str, str]:
    """What the user chose of a folder that holds several things, by name."""
    return _choices("choices", request.get("choices") or {})


def answers_of(request: dict[str, Any]) -> dict[str, str] | None:
    """Answers to the questions about a model, by question; None where there are none."""
    given = request.get("answers")
    return None if given is None else _choices("answers", given)


def _wrong(field: str, value: object, wanted: str) -> InputError:
    return InputError(f"The worker was asked with {field} = {str(value)[:60]!r}, which is not {wanted}.")


def _text(name: str, value: Any) -> str:
    return text_of({name: value}, name)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, value, "true or false")
    return value


def _count(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 4096:
        raise _wrong(name, value, "a number from 1 to 4096")
    return value


def _patch(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 3:
        raise _wrong(name, value, "three numbers")
    return tuple(_count(name, n) for n in value)


def _windows(name: str, value: Any) -> tuple[tuple[float, float], ...]:
    with damage_is(InputError, "The list of windows"):
        windows = tuple((float(level), float(width)) for level, width in value)
    if not all(math.isfinite(v) for window in windows for v in window):
        raise _wrong(name, value, "levels and widths")
    return windows


def _region(name: str, value: Any) -> Any:
    with damage_is(InputError, "The region"):
        return grid_from(value)


def _choices(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _wrong(name, value, "options by name")
    return value


def _server(name: str, value: Any) -> Any:
    """`medseg.engine.server.Server`; the token, where there is one, is in no error."""
    from dataclasses import replace

    from ..engine.server import server_from

    if not isinstance(value, dict) or not {"url"} <= set(value) <= {"url", "fallback", "token", "authority"}:
        what = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise _wrong(name, what, "url, fallback, token and authority")
    token = value.get("token")
    if token is not None and not isinstance(token, str):
        raise InputError("The server's token is not a text.")
    server = server_from(
        _text("url", value["url"]),
        fallback=_text("fallback", value.get("fallback", "error")),
        authority=Path(_text("authority", value["authority"])) if "authority" in value else None,
    )
    return replace(server, token=token) if token else server


_OPTIONS = {
    "device": _text, "precision": _text, "batch": _count, "patch": _patch, "probabilities": _flag, "windows": _windows,
    "region": _region, "threads": _count, "modality": _text, "choices": _choices, "only_input": _flag,
    "mirror": _flag, "server": _server,
}  # fmt: skip
