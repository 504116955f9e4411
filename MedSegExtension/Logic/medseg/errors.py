"""Errors that a user sees. Each says what is wrong, with which file or node, and what to do.

The command line turns the class into its exit code (``exit_code``); the worker sends class name and
sentence to the panel. Anything that is not a ``MedSegError`` is a fault in MedSeg itself.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("medseg")
_LONGEST = 4000
_LONGEST_WORD = 200
_NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def readable(text: str) -> str:
    """``text`` as one can read and store it: what cannot be printed becomes "?", absurdly long words and texts are cut.

    Sentences quote names and values from files, and a damaged file may hold anything.
    """
    if not text.isascii() or not text.replace("\n", "").isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    if len(text) > _LONGEST_WORD:
        words = (w if len(w) <= _LONGEST_WORD else w[:_LONGEST_WORD] + "..." for w in text.split(" "))
        text = " ".join(words)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


class MedSegError(Exception):
    """Base of all errors that are meant to be read by a user. ``sentence`` is kept as `readable` gives it."""

    exit_code = 1

    def __init__(self, sentence: str = "") -> None:
        super().__init__(readable(str(sentence)))


class InputError(MedSegError):
    """A volume, file or option cannot be used: not an image, wrong dimension, NaN, bad geometry."""

    exit_code = 2


class OutputError(InputError):
    """The result cannot be written: not writable, disk full, already there."""


class ModelError(MedSegError):
    """A model package cannot be used: manifest, hash, tensors, opset, unsafe content."""

    exit_code = 3


class DeviceError(MedSegError):
    """The network could not be run on any device that was allowed."""

    exit_code = 4


class OutOfMemory(DeviceError):
    """The memory of the device or of the computer does not suffice."""


class Cancelled(MedSegError):
    """The user stopped the run."""

    exit_code = 130


#: What code that takes a description apart raises where the description is not what it should be.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def not_written(path: Path, error: OSError) -> str:
    """The sentence for a file that the operating system refused to write: what, where, why, and what to do."""
    advice = "make room on this disk" if error.errno in _NO_ROOM else "check that the folder exists and may be written"
    why = error.strerror or error
    return f"{path.name} cannot be written to {path.parent}: {why}; {advice}, or choose another folder."


@contextmanager
def damage_is(kind: type[MedSegError], what: str) -> Iterator[None]:
    """Inside, an exception that only damaged content raises becomes ``kind``, and its traceback goes to the log.

    ``what``: the file or thing that is read, as the sentence names it.
    """
    try:
        yield
    except _DAMAGE as error:
        log.debug("reading %s failed", what, exc_info=True)
        raise kind(
            f"{what} is damaged in an unexpected way ({type(error).__name__}: {error}); get or export it again."
        ) from error
