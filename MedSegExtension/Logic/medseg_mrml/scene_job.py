"""What the process that draws a scene is given (`scene_child`), and the names of the files that it makes."""

from __future__ import annotations

from dataclasses import dataclass

from medseg.geometry.volume import Volume
from medseg.result import Result

SCENE_FILE = "scene.mrb"
PREVIEW_FILE = "preview.png"


@dataclass(frozen=True, eq=False)
class Job:
    """``window``: (level, width) to show ``volume`` with, or None for the volume's own percentiles."""

    result: Result
    volume: Volume
    folder: str
    title: str
    window: tuple[float, float] | None
