"""What the process that draws a scene is given (`scene_child`), the names of the files that it makes, and how the job
gets there: large arrays lie in files that the child maps, so that no voxel goes through a pipe or is held twice.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medseg.geometry.volume import Volume
from medseg.result import Result

SCENE_FILE = "scene.mrb"
PREVIEW_FILE = "preview.png"
# What is smaller than this goes with the message.
_LARGE = 1 << 16


@dataclass(frozen=True, eq=False)
class Job:
    """``window``: (level, width) to show ``volume`` with, or None for the volume's own percentiles.

    ``scene``, ``preview``: which of the two files are wanted.
    """

    result: Result
    volume: Volume
    folder: str
    title: str
    window: tuple[float, float] | None
    scene: bool = True
    preview: bool = True

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the files to make."""
        return (SCENE_FILE,) * self.scene + (PREVIEW_FILE,) * self.preview


def pack_job(job: Job, folder: Path) -> bytes:
    """The message for the child; the large arrays are written into ``folder``, which must outlive the child."""
    buffers: list[str | bytes] = []

    def keep(buffer: pickle.PickleBuffer) -> None:
        raw = buffer.raw()
        if raw.nbytes < _LARGE:
            buffers.append(bytes(raw))
            return
        path = folder / f"array-{len(buffers)}"
        with path.open("wb") as file:
            file.write(raw)
        buffers.append(str(path))

    body = pickle.dumps(job, protocol=5, buffer_callback=keep)
    return pickle.dumps((body, buffers), protocol=5)


def unpack_job(message: bytes) -> Job:
    """The job of `pack_job`. Its large arrays are mapped copy-on-write: VTK may use their memory as it is."""
    body, buffers = pickle.loads(message)
    mapped = [bytearray(b) if isinstance(b, bytes) else np.memmap(b, dtype=np.uint8, mode="c") for b in buffers]
    job: Job = pickle.loads(body, buffers=mapped)
    return job
