"""The process that makes ``scene.mrb`` and ``preview.png``: ``python -m medseg_mrml.scene_child``.

It loads MRML and VTK at once, waits for a job (`scene_job`) from its own parent on standard input, and prints one JSON
line for each complete file and for a failure. It is a process of its own because a graphics driver that fails may end
the process it runs in.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from .scene_job import PREVIEW_FILE, SCENE_FILE, Job, unpack_job

_SMALL, _LARGE = 420, 640  # pixels of a view: six of a volume, or two of a single slice


def main() -> int:
    """Make the files of the job on standard input; the exit status is 0 where all were made, or no job came."""
    _load()
    message = sys.stdin.buffer.read()
    if not message:
        return 0
    job = unpack_job(message)
    with tempfile.TemporaryDirectory(prefix="medseg-scene-") as temporary:
        return _make(job, Path(temporary))


def say(kind: str, text: str) -> None:
    """One message to the parent process."""
    print(json.dumps({kind: text}), flush=True)


def _load() -> None:
    """Import what takes long, while the parent still has other work."""
    from . import bundle, focus, headless, preview, scene_nodes, views  # noqa: F401


def _make(job: Job, temporary: Path) -> int:
    from .bundle import lay_out, pack
    from .focus import focus_of
    from .headless import HeadlessScene
    from .preview import render_preview
    from .scene_nodes import add_nodes
    from .views import SliceView, save_png

    headless = HeadlessScene(temporary)
    size = _LARGE if 1 in job.volume.grid.size else _SMALL
    views = {name: SliceView(headless, name, size) for name in ("Red", "Green", "Yellow")}
    focus = focus_of(job.result, job.volume.grid)
    made = add_nodes(headless, job, views, focus)
    packing = None
    if job.scene:
        laid = temporary / Path(SCENE_FILE).stem
        lay_out(headless, [n for n in (made.volume, made.segmentation) if n is not None], laid)
        packing = _Task(lambda: pack(laid, Path(job.folder) / SCENE_FILE))
    try:
        if job.preview:
            # Drawn while the bundle is packed: the one takes a core, the other what is left.
            picture = render_preview(headless, views["Red"], made.volume, job.result, focus, job.title, job.volume)
            save_png(picture, str(Path(job.folder) / PREVIEW_FILE))
            say("made", PREVIEW_FILE)
    finally:
        if packing is not None:
            packing.finish()
            say("made", SCENE_FILE)
    return 0


class _Task:
    """Work in a thread; `finish` waits for it and raises what it raised."""

    def __init__(self, work: Any) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Any) -> None:
        try:
            work()
        except BaseException as error:  # handed to the thread that waits
            self._error = error

    def finish(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error


def _excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    say("failed", f"{kind.__name__}: {error}")
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    sys.excepthook = _excepthook
    sys.exit(main())
