"""Programs that tests and checks of files use: those of the Python that runs them first, then those on the path."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def program(name: str) -> str | None:
    """Where the program ``name`` is, None where it is not installed."""
    suffix = ".exe" if sys.platform == "win32" else ""
    beside = Path(sys.executable).parent / f"{name}{suffix}"
    return str(beside) if beside.is_file() else shutil.which(name)
