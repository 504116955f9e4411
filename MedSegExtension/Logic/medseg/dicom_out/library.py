"""highdicom, which builds the objects: optional, asked for in one place."""

from __future__ import annotations

import gc
import warnings as python_warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InputError


def highdicom() -> Any:
    """The library. Raises `InputError` that says how to get it."""
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            import highdicom as library
            import highdicom.seg
            import highdicom.sr
    except ImportError as error:
        raise InputError(
            'Writing DICOM needs the package highdicom; install it with: pip install "medseg[dicom]".'
        ) from error
    return library


@contextmanager
def quietly() -> Iterator[None]:
    """Inside, remarks of the DICOM libraries on odd source headers are not shown: they name the patient.

    Objects of thousands of frames are hundreds of thousands of Python objects, which the garbage collector would walk
    through again and again (a third of the time); it rests until the block ends.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")
            yield
    finally:
        if was_on:
            gc.enable()
