"""One run of ``medseg run``: its files, its folder, and the series that were chosen for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One run: ``files`` by channel name, and the folder of its result.

    ``series``: UID of the DICOM series of a channel, where one was chosen by rule, ``why`` in words. ``refused``: why
    none could be chosen, or "".
    """

    name: str
    files: dict[str, Path]
    folder: Path
    series: dict[str, str] = field(default_factory=dict)
    why: tuple[str, ...] = ()
    refused: str = ""
