"""One visitor's case, from files to probabilities: what the page's buttons do."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web
from trame_server.utils.asynchronous import create_task

from medseg.errors import Cancelled, InputError, MedSegError
from medseg.geometry.volume import Volume
from medseg.model.store import installed_models
from medseg.result import Result
from medseg.worker.transfer import result_from, volume_from
from medseg_mrml.scene import display_window

from . import page
from .case import SliceScores, card_words, facts, model_items, table_items, window_items
from .scene import FOUR, SLICES, CaseScene, letters
from .uploads import MEGABYTE, Limits, TooLarge, Upload, receive
from .worker import WorkerProcess

log = logging.getLogger("medseg.view")

_DEFAULTS: dict[str, Any] = {
    "busy": "", "problem": "", "progress": 0, "progress_text": "", "series": [], "series_chosen": None, "image": "",
    "facts": "", "windows": [], "level": 0.0, "width": 1.0, "models": [], "model": None, "model_words": "",
    "segments": False, "overlay": True, "opacity": 0.35, "rendering": False, "told": [], "bars": [],
    "slice_number": 0, "slice_count": 0, "plot": {"data": [], "layout": {}}, "tables": [], "table": 0, "layout": FOUR,
}  # fmt: skip


class Visit:
    """What is open. ``home``: the private folder that holds the visitor's files and voxels while they are needed."""

    def __init__(self, server: Any, home: Path, limits: Limits) -> None:
        self._server, self._home, self._limits = server, home, limits
        self.state = server.state
        self.state.update(_DEFAULTS)
        self.state.limit_bytes, self.state.limit_files = limits.size, limits.files
        self.state.limit_words = f"Up to {limits.size // MEGABYTE} MB; files stay on this computer and are removed."
        self.scene = CaseScene(server, page.slice_widgets, page.space_widgets)
        self.scene.layouts.set_layout(FOUR)
        self._worker = WorkerProcess(home)
        self._count = 0
        self._upload: Upload | None = None
        self._folder: Path | None = None
        self._message: dict[str, Any] = {}
        self._volume: Volume | None = None
        self._scores: SliceScores | None = None
        self._surfaces = False
        for view in self.scene.views:
            view.modified.connect(self._view_moved)
        self.state.change("level", "width")(self._window_changed)
        self.state.change("overlay", "opacity")(self._overlay_changed)
        self.state.change("layout")(self._layout_changed)
        self.state.change("rendering")(self._rendering_changed)
        self.state.change("series_chosen")(self._series_changed)
        self.state.change("model")(self._model_changed)

    async def close(self) -> None:
        """End the worker; the folder is the caller's to remove."""
        await self._worker.close()

    # -- files ----------------------------------------------------------------------------------------------

    async def receive(self, request: web.Request) -> web.Response:
        """Take the files of a form, and start to read them; the answer to a refusal is a sentence."""
        if self.state.busy not in ("", "upload"):
            return web.Response(status=409, text="A file is being read or a model is running; wait, or cancel it.")
        self._forget()
        self._count += 1
        folder = self._home / f"medseg-case-{self._count}"
        sent = folder / f"given-{self._count}"
        sent.mkdir(parents=True, mode=0o700)
        try:
            self._upload = await receive(request, sent, self._limits)
        except (InputError, OSError, ValueError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            told = str(error)
            if not isinstance(error, InputError):
                log.error("upload failed", exc_info=error)
                told = "The files could not be taken; is the disk full?"
            with self.state as state:
                state.update({"busy": "", "problem": told})
            return web.Response(status=413 if isinstance(error, TooLarge) else 400, text=told)
        except asyncio.CancelledError:  # the visitor closed the page while files were sent
            shutil.rmtree(folder, ignore_errors=True)
            self.state.busy = ""
            raise
        self._folder = folder
        create_task(self._read(None))
        return web.Response(text="")

    def _forget(self) -> None:
        """Remove the case before from page, scene and disk."""
        self.scene.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._upload = self._volume = self._scores = None
        self._message, self._surfaces = {}, False
        keep = ("layout", "busy", "progress", "progress_text", "overlay", "opacity")
        with self.state as state:
            state.update({name: value for name, value in _DEFAULTS.items() if name not in keep})

    async def _read(self, series: str | None) -> None:
        upload, folder = self._upload, self._folder
        if upload is None or folder is None:
            return
        self._begin("read", "Reading")
        try:
            answer = await self._worker.ask(
                "read", self._heard, folder=str(folder), path=str(upload.path), series=series or ""
            )
            if answer["volume"] is None:
                with self.state as state:
                    state.series = [{"value": uid, "title": words} for uid, words in answer["series"]]
                return
            self._message = answer["volume"]
            volume = volume_from(self._message, folder)
            # The files are not needed any more: a run takes the voxels.
            shutil.rmtree(folder / f"given-{self._count}", ignore_errors=True)
            self._show(volume)
        except (MedSegError, ValueError, OSError) as error:
            self._fail(error)
        finally:
            self._end()

    def _show(self, volume: Volume) -> None:
        upload = self._upload
        assert upload is not None
        named = replace(volume, name=upload.own_names(volume.name))
        self._volume = named
        window = display_window(volume, None)
        self.scene.show(named, window)
        now = self.scene.window()
        with self.state as state:
            state.image = upload.title if len(upload.names) == 1 else volume.name
            state.facts = facts(volume)
            state.models = model_items(installed_models(), volume.modality)
            state.model = state.models[0]["value"] if state.models else None
            state.windows = window_items(volume, self._card(), now)
            if now is not None:
                state.level, state.width = round(now[0], 2), round(now[1], 2)
            state.told = [*state.told, *(upload.own_names(w) for w in volume.warnings if w not in state.told)]
            if 1 in volume.grid.size:
                state.layout = SLICES

    # -- the run --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the chosen model on the image."""
        if self._volume is None or self._folder is None or self.state.busy:
            return
        model = str(self.state.model)
        self._begin("run", "Starting")
        with self.state as state:
            state.update({"told": [], "tables": [], "bars": [], "segments": False})
        self.scene.clear_result()
        self._scores, self._surfaces = None, False
        try:
            message = await self._worker.ask(
                "run", self._heard, folder=str(self._folder), model=model, options={}, inputs=[self._message]
            )
            self._show_result(result_from(message, self._folder), model)
        except (MedSegError, ValueError, OSError) as error:
            self._fail(error)
        finally:
            self._end()

    async def cancel(self) -> None:
        """Stop the run."""
        with self.state as state:
            state.progress_text = "Stopping"
        await self._worker.cancel()

    def _show_result(self, result: Result, model: str) -> None:
        self._scores = SliceScores.of(result) if not result.layers else None
        self.scene.show_result(result, model)
        with self.state as state:
            state.tables, state.table = table_items(result), 0
            state.segments = bool(result.layers)
            state.told = [self._words(s) for s in (*result.warnings, *result.notes)]
            if self._scores is not None:
                state.layout = SLICES
                state.slice_count = len(self._scores.numbers)
        self._layout_changed()
        self._view_moved(self.scene.red)

    # -- what the worker says -------------------------------------------------------------------------------

    def _words(self, sentence: str) -> str:
        return self._upload.own_names(sentence) if self._upload is not None else sentence

    def _heard(self, message: dict[str, Any]) -> None:
        with self.state as state:
            if message["type"] in ("warning", "note"):
                state.told = [*state.told, self._words(message["text"])]
            elif message["type"] == "progress":
                fraction, left = message["fraction"], message["seconds_left"]
                state.progress = -1 if fraction is None else round(100 * fraction)
                words = " ".join(w for w in (message["stage"], self._words(message["text"])) if w)
                state.progress_text = words + (f", about {left:.0f} s left" if left and left >= 2 else "")

    def _begin(self, busy: str, words: str) -> None:
        with self.state as state:
            state.update({"busy": busy, "problem": "", "progress": 0, "progress_text": words})

    def _end(self) -> None:
        with self.state as state:
            state.update({"busy": "", "progress": 0, "progress_text": ""})

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, MedSegError):
            log.error("fault", exc_info=error)
        words = "The run was cancelled." if isinstance(error, Cancelled) else self._words(str(error))
        with self.state as state:
            state.problem = words

    # -- what the visitor changes ---------------------------------------------------------------------------

    def _card(self) -> Any:
        return next((c for c in installed_models() if c.id == self.state.model), None)

    def _series_changed(self, series_chosen: str | None, **_: Any) -> None:
        if series_chosen and not self.state.busy:
            create_task(self._read(series_chosen))

    def _model_changed(self, **_: Any) -> None:
        card = self._card()
        self.state.model_words = card_words(card) if card is not None else ""
        if self._volume is not None:
            self.state.windows = window_items(self._volume, card, display_window(self._volume, None))

    def _window_changed(self, level: Any, width: Any, **_: Any) -> None:
        try:
            level, width = float(level), float(width)
        except (TypeError, ValueError):
            return  # a field that is being typed into
        if width > 0:
            self.scene.set_window(level, width)

    def _overlay_changed(self, overlay: bool, opacity: float, **_: Any) -> None:
        self.scene.set_overlay(bool(overlay), float(opacity))

    def _layout_changed(self, **_: Any) -> None:
        self.scene.layouts.set_layout(self.state.layout)
        if self.state.layout != SLICES and self.state.segments and not self._surfaces:
            self._surfaces = self.scene.make_surfaces()

    def _rendering_changed(self, rendering: bool, **_: Any) -> None:
        self.scene.render_volume(bool(rendering))

    def point_clicked(self, index: int) -> None:
        """Go to a slice of the plot."""
        if self._scores is not None and 0 <= int(index) < len(self._scores.centres):
            self.scene.jump(self._scores.centres[int(index)])

    def row_clicked(self, table: int, row: int) -> None:
        """Go to what a row of a table is about."""
        place = self.state.tables[int(table)]["places"][int(row)]
        if place is not None:
            self.scene.jump(place)

    def _view_moved(self, view: Any) -> None:
        if self._volume is None:
            return
        with self.state as state:
            state[page.letters_name(view.get_singleton_tag())] = letters(view).__dict__
            if self._scores is not None and view is self.scene.red:
                row = self.scene.nearest(self._scores.centres)
                number = self._scores.numbers[row]
                if number != state.slice_number or not state.bars:
                    state.slice_number, state.bars = number, self._scores.bars(row)
                    state.plot = self._scores.plot(row)
