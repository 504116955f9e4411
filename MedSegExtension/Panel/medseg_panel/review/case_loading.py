"""Image and mask of a case, read by a process of its own: now, or ahead of time while the reader is at the case before.

Slicer's process only maps what was read, so it stays usable; memory is taken by one case ahead. Imported when the
first list is opened.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from medseg import scratch
from medseg.geometry.volume import Volume
from medseg.io.segmentations import Segmentation
from medseg.result import Result, Table
from medseg.worker.transfer import result_from, result_message, volume_from
from medseg_mrml import node_from_volume

from ..worker.process import QtWorkerProcess

_MODULE = "medseg.worker.case_reading"
#: Free bytes below which arrays go to the disk, not to shared memory.
_ROOM = 4 * 2**30
#: Files of a DICOM folder that are looked at to tell whether it changed.
_MOST_FILES = 5000
#: Bytes of files.
_LARGE = 20 * 2**20

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Files:
    """What a case is read from. ``series``: UID, where ``image`` is a folder of several. Paths may be None.

    ``slices``: the table of a classifier's result, in a mask's place.
    """

    image: Path | None
    mask: Path | None
    series: str = ""
    slices: Path | None = None

    def stamp(self) -> Stamp:
        """What changes when a file changes: names, sizes, times."""
        found = []
        for path in (self.image, self.mask, self.slices):
            if path is None:
                continue
            several = sorted(path.iterdir())[:_MOST_FILES] if path.is_dir() else [path]
            for one in several:
                with contextlib.suppress(OSError):
                    status = one.stat()
                    found.append((str(one), status.st_size, status.st_mtime_ns))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class ReadCase:
    """What was read. ``masks``: None where the case has none. ``window``: (low, high). ``told``: sentences.

    ``slices``: a classifier's scores, of the model ``model``, in the place of masks. ``maps``: class -> probability map
    on the grid of the masks; ``lesions``: the table of the run that made them.
    """

    volume: Volume
    masks: Segmentation | None
    window: tuple[float, float] | None
    told: list[str] = field(default_factory=list)
    slices: Table | None = None
    model: str = ""
    maps: Mapping[str, Any] = field(default_factory=dict)
    lesions: Table | None = None


class Reading:
    """One case being read, or read. ``on_end()`` is called once, on the main thread, unless it was dropped before.

    ``case``: what was read; ``why``: a sentence where it could not be.
    """

    def __init__(self, files: Files, on_end: Callable[[], None]) -> None:
        self.files, self.on_end = files, on_end
        self.case: ReadCase | None = None
        self.why = ""
        self.over = False
        self.folder = _new_folder()
        self._stamp = files.stamp()

    @property
    def large(self) -> bool:
        """Whether reading it takes longer than starting a process anew."""
        return sum(size for _name, size, _time in self._stamp) > _LARGE

    @property
    def fresh(self) -> bool:
        """False where a file changed since."""
        return self.files.stamp() == self._stamp

    def request(self) -> dict[str, Any]:
        """What the process is asked."""
        files = self.files
        paths = {"image": files.image, "mask": files.mask, "slices": files.slices, "folder": self.folder}
        return {name: str(path or "") for name, path in paths.items()} | {"series": self.files.series}

    def answer(self, message: dict[str, Any]) -> None:
        """It was read, or could not be."""
        if message.get("type") == "read":
            try:
                self.case = _case_from(message, self.folder)
            except (OSError, ValueError, LookupError, TypeError) as error:
                self.why = _("What was read could not be taken over ({error}); try again.").format(error=error)
        else:
            self.why = str(message.get("message") or _("The case could not be read."))
        self.over = True
        # What is mapped stays readable where the system lets files be removed meanwhile; else they go later.
        scratch.discard(self.folder)
        on_end, self.on_end = self.on_end, _nothing
        on_end()

    def drop(self) -> None:
        """Nobody wants it any more."""
        self.over, self.on_end, self.case = True, _nothing, None
        scratch.discard(self.folder)


class Saving:
    """The masks of a result on their way into a file; the process packs them. ``why``: a sentence where it cannot be.

    ``on_end()`` is called once, on the main thread, unless it was dropped before.
    """

    large = False

    def __init__(self, path: Path, result: Result, model: str, on_end: Callable[[], None]) -> None:
        """Raises `OSError` where the arrays cannot be handed over."""
        self.on_end = on_end
        self.why = ""
        self.over = False
        self._folder = _new_folder()
        masks = Result(result.grid, result.layers)
        self._request: dict[str, Any] = {"save": str(path), "model": model, "folder": str(self._folder)}
        self._request["result"] = result_message(masks, self._folder)

    def request(self) -> dict[str, Any]:
        """What the process is asked."""
        return self._request

    def answer(self, message: dict[str, Any]) -> None:
        """It was saved, or could not be."""
        if message.get("type") != "saved":
            self.why = str(message.get("message") or _("The mask could not be saved."))
        on_end = self.on_end
        self.drop()
        on_end()

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self.over, self.on_end = True, _nothing
        scratch.discard(self._folder)


class ReadingProcess:
    """Reads cases, saves masks, one by one. It is started with the first, and lives on: a start takes a second."""

    def __init__(self) -> None:
        self._process: QtWorkerProcess | None = None
        self._asked: list[Reading | Saving] = []

    def start(self, reading: Reading | Saving) -> None:
        """Read or save; a large case that nobody wants any more does not hold it up."""
        if any(one.large and one.over for one in self._asked):
            self.close()
        if self._process is None:
            self._process = QtWorkerProcess(self._message, self._ended, _MODULE)
            self._process.start()
        self._asked.append(reading)
        self._process.send(reading.request())

    def close(self) -> None:
        """End the process, and drop what is being read."""
        process, self._process = self._process, None
        asked, self._asked = self._asked, []
        for reading in asked:
            reading.drop()
        if process is not None:
            process.kill()
            process.close()

    def _message(self, message: dict[str, Any]) -> None:
        if message.get("type") == "ready" or not self._asked:
            return
        reading = self._asked.pop(0)
        if not reading.over:
            reading.answer(message)

    def _ended(self, code: int, crashed: bool, stderr: str) -> None:
        self._process = None
        asked, self._asked = self._asked, []
        tail = stderr.strip().splitlines()[-1][:200] if stderr.strip() else ""
        words = _("The process that reads and saves cases ended unexpectedly (code {code}). {tail}")
        for reading in asked:
            if not reading.over:
                reading.answer({"type": "error", "message": words.format(code=code, tail=tail).strip()})


class CaseReader:
    """Reads the case that is wanted now, and one ahead."""

    def __init__(self) -> None:
        self._process = ReadingProcess()
        self._now: Reading | None = None
        self._ahead: Reading | None = None

    def read(self, files: Files, on_read: Callable[[ReadCase], None], on_failed: Callable[[str], None]) -> None:
        """Give the case, at once where it was read ahead; whoever waited for another one is forgotten."""
        if self._now is not None:
            self._now.drop()
            self._now = None
        reading, self._ahead = self._ahead, None
        if reading is not None and (reading.files != files or not reading.fresh or reading.why):
            reading.drop()
            reading = None
        started = reading is not None
        wanted = reading if reading is not None else Reading(files, _nothing)

        def done() -> None:
            self._now = None
            if wanted.case is not None:
                on_read(wanted.case)
            else:
                on_failed(wanted.why)

        if wanted.over:
            done()
            return
        self._now, wanted.on_end = wanted, done
        if not started:
            self._process.start(wanted)

    def ahead(self, files: Files | None) -> None:
        """Begin to read a case that is likely wanted next; None drops what was read ahead."""
        if self._ahead is not None:
            if files is not None and self._ahead.files == files and self._ahead.fresh and not self._ahead.why:
                return
            self._ahead.drop()
            self._ahead = None
        if files is not None and self._now is None:
            self._ahead = Reading(files, _nothing)
            self._process.start(self._ahead)

    def close(self) -> None:
        """End all reading."""
        for reading in (self._now, self._ahead):
            if reading is not None:
                reading.drop()
        self._now = self._ahead = None
        self._process.close()
        scratch.remove_left_over()


def volume_node(case: ReadCase, scene: Any, name: str) -> Any:
    """The image as a node called ``name``, with the window that was counted ahead; it shares the mapped memory."""
    window = None
    if case.window is not None:
        low, high = case.window
        window = ((low + high) / 2, high - low)
    return node_from_volume(case.volume, scene, name=name, window=window)


def remove_volume(node: Any, scene: Any) -> None:
    """Take an image that `volume_node` made out of the scene, with its display."""
    if node is None or node.GetScene() is not scene:
        return
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    scene.RemoveNode(node)
    for display in displays:
        if display is not None and display.GetScene() is scene:
            scene.RemoveNode(display)


def _case_from(message: dict[str, Any], folder: Path) -> ReadCase:
    masks, maps, lesions = None, {}, None
    if message["masks"] is not None:
        result = result_from(message["masks"], folder)
        origin = result.provenance
        masks = Segmentation(result.grid, result.layers, str(origin["name"]), str(origin["model"]))
        maps, lesions = dict(result.probabilities), result.tables.get("lesions")
    slices, model = None, masks.model_id if masks is not None else ""
    if message.get("slices") is not None:
        scores = result_from(message["slices"], folder)
        slices, model = scores.tables["slices"], str(scores.provenance["model"])
    window = message["window"]
    return ReadCase(
        volume_from(message["volume"], folder),
        masks,
        (float(window[0]), float(window[1])) if window is not None else None,
        [str(sentence) for sentence in message["told"]],
        slices,
        model,
        maps,
        lesions,
    )


def _nothing() -> None:
    pass


def _new_folder() -> Path:
    return scratch.new_folder(Path(slicer.app.temporaryPath), bytes_in_memory=_ROOM)
