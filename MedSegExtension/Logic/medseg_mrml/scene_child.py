"""The process that makes ``scene.mrb`` and ``preview.png``: ``python -m medseg_mrml.scene_child``.

It reads a pickled `Job` from its own parent on standard input and prints one JSON line for each complete file and
for a failure. It is a process of its own because a graphics driver that fails may end the process it runs in.
"""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

from .scene_job import PREVIEW_FILE, SCENE_FILE, Job

_SMALL, _LARGE = 420, 640  # pixels of a view: six of a volume, or two of a single slice


def main() -> int:
    """Make both files of the job on standard input; the exit status is 0 where both were made."""
    job: Job = pickle.load(sys.stdin.buffer)
    with tempfile.TemporaryDirectory(prefix="medseg-scene-") as temporary:
        return _make(job, temporary)


def say(kind: str, text: str) -> None:
    """One message to the parent process."""
    print(json.dumps({kind: text}), flush=True)


def _make(job: Job, temporary: str) -> int:
    from .focus import focus_of
    from .headless import HeadlessScene
    from .scene_nodes import add_nodes, save_bundle
    from .views import SliceView, save_png

    headless = HeadlessScene(temporary)
    size = _LARGE if 1 in job.volume.grid.size else _SMALL
    views = {name: SliceView(headless, name, size) for name in ("Red", "Green", "Yellow")}
    focus = focus_of(job.result, job.volume.grid)
    made = add_nodes(headless, job, views, focus)
    save_bundle(headless, Path(job.folder) / SCENE_FILE)
    say("made", SCENE_FILE)
    from .preview import render_preview

    picture = render_preview(headless, views["Red"], made.volume, job.result, focus, job.title, job.volume)
    save_png(picture, str(Path(job.folder) / PREVIEW_FILE))
    say("made", PREVIEW_FILE)
    return 0


def _excepthook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    say("failed", f"{kind.__name__}: {error}")
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    sys.excepthook = _excepthook
    sys.exit(main())
