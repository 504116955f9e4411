"""How to run: what a caller may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.server import Server
from ..geometry.grid import Grid


@dataclass(frozen=True)
class RunOptions:
    """How to run; the defaults suit everyone.

    ``device``: ``auto``, ``cpu``, ``cuda:0`` (see `medseg.engine.devices`). ``precision``: ``auto`` or ``float32``.
    ``batch`` and ``patch`` (i, j, k): None is the manifest's. ``probabilities``: keep class probability maps.
    ``windows``: (level, width) in place of the manifest's windows, for models that allow it. ``region``: a grid on the
    first volume's lattice; the run is confined to it. ``threads``: CPU threads, None for all cores. ``modality``: DICOM
    code of volumes whose file does not say it (NIfTI never does).
    ``mirror``: average over mirrored inputs, for models that were trained on such (2 to 8 times the work).
    ``choices``: an option for each of the manifest's choices, by name.
    ``server``: run the networks there (`medseg.engine.server.Server`); ``device`` is then where a fall-back goes.
    """

    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    patch: tuple[int, int, int] | None = None
    probabilities: bool = False
    windows: tuple[tuple[float, float], ...] | None = None
    region: Grid | None = field(default=None)
    threads: int | None = None
    modality: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    mirror: bool = False
    server: Server | None = None


def asdict_shallow(options: RunOptions) -> dict[str, Any]:
    """The fields of ``options`` as they are (grids are not taken apart)."""
    return {name: getattr(options, name) for name in options.__dataclass_fields__}
