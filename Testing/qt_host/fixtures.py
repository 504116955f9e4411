"""pytest fixtures of the panel's tests, and collaborators that do at once what a test says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.card import CardChannel, CardClass, CardWindow, ModelCard
from medseg.result import Column, Layer, Result, SegmentClass, Table

from . import Host, start
from .bridge import slot_errors

MODULE = Path(__file__).resolve().parents[2] / "MedSegExtension" / "MedSegExtension.py"


@dataclass
class FakeWorker:
    """Takes requests and keeps them; the test sends the answers."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    queries: list[tuple[str, Any, Any, dict[str, Any]]] = field(default_factory=list)
    listener: Any = None
    told: tuple[Any, Any] = (None, None)
    cancels: int = 0
    cancelled_queries: list[int] = field(default_factory=list)
    restarts: int = 0
    ended: bool = False

    def start_run(self, model: str, volumes: Sequence[Volume], options: dict[str, Any], listener: Any) -> int:
        self.runs.append({"model": model, "volumes": list(volumes), "options": options})
        self.listener = listener
        return len(self.runs)

    def cancel(self) -> None:
        self.cancels += 1

    def query(
        self, command: str, on_answer: Any, on_error: Any, *, on_progress: Any = None, on_warning: Any = None,
        **content: Any,
    ) -> int:  # fmt: skip
        self.queries.append((command, on_answer, on_error, content))
        self.told = (on_progress, on_warning)
        return len(self.queries)

    def cancel_query(self, number: int) -> None:
        self.cancelled_queries.append(number)

    def restart(self) -> None:
        self.restarts += 1

    def shutdown(self) -> None:
        self.ended = True


@dataclass
class FakeStore:
    """Models in a list."""

    cards: list[ModelCard] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def installed_models(self) -> list[ModelCard]:
        return list(self.cards)

    def remove_model(self, id: str) -> None:
        self.removed.append(id)
        self.cards = [c for c in self.cards if c.id != id]


@dataclass
class FakeDialogs:
    """Answers at once, and keeps what was said."""

    path: str = ""
    agrees: bool = True
    row: int = 0
    lists: list[tuple[str, list[Sequence[str]]]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    forms: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, str] | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def show(self, title: str, text: str) -> None:
        self.texts.append((title, text))

    def error(self, message: str, details: str = "") -> None:
        self.errors.append(message)

    def confirm(self, question: str, details: str = "") -> bool:
        self.questions.append(f"{question}\n{details}")
        return self.agrees

    def open_file(self, title: str, filters: str) -> str:
        return self.path

    def save_file(self, title: str, name: str, filters: str) -> str:
        return self.path

    def folder(self, title: str) -> str:
        return self.path

    def choose(
        self, title: str, text: str, columns: Sequence[str], rows: Sequence[Sequence[str]], accept: str,
        details: Sequence[str] = (),
    ) -> int:  # fmt: skip
        self.lists.append((text, list(rows)))
        self.details = list(details)
        return self.row

    def ask(
        self, title: str, text: str, questions: Sequence[dict[str, Any]], answers: dict[str, str], accept: str
    ) -> dict[str, str] | None:
        self.forms.append((text, answers))
        self.asked = list(questions)
        return self.answers


@dataclass
class FakeInstaller:
    """All packages are there, unless the test says otherwise."""

    there: bool = True
    warm: bool = False
    folders: list[str] = field(default_factory=list)

    def satisfied(self) -> bool:
        return self.warm

    def ensure(self) -> bool:
        return self.there

    def ensure_from(self, folder: str) -> None:
        self.folders.append(folder)


@dataclass
class Opened:
    """The module, opened in the host with fakes around it."""

    host: Host
    module: Any
    worker: FakeWorker
    store: FakeStore
    dialogs: FakeDialogs
    installer: FakeInstaller

    @property
    def widget(self) -> Any:
        return self.module.widget

    @property
    def panel(self) -> Any:
        return self.module.widget.panel.segment

    @property
    def ui(self) -> Any:
        return self.module.widget.ui

    @property
    def parameters(self) -> Any:
        return self.module.widget._parameters

    @property
    def scene(self) -> Any:
        return self.host.scene

    def entry(self, text: str) -> Any:
        """The entry of the menu *Manage models* whose text starts so."""
        return next(a for a in self.ui.manageModelsButton.menu().actions() if a.text.startswith(text))

    def choose(self, model_id: str) -> None:
        """Click on a model in the list."""
        for n in range(self.ui.modelList.topLevelItemCount):
            item = self.ui.modelList.topLevelItem(n)
            if item.data(0, 0x0100) == model_id:
                self.ui.modelList.setCurrentItem(item)
                return
        raise AssertionError(f"{model_id} is not in the list")

    def add_volume(
        self, name: str = "head", modality: str | None = "CT", size: tuple[int, int, int] = (20, 16, 12)
    ) -> Any:
        """A volume node in the scene, shown in the slice views; the event loop has seen it."""
        from slicer.util import setSliceViewerLayers

        from medseg_mrml import node_from_volume

        node = node_from_volume(Volume(ramp(size), grid(size), modality, name), self.scene)
        setSliceViewerLayers(background=node, fit=True)
        self.host.pump(0.02)
        return node

    def finish(self, result: Result | None = None) -> None:
        """The worker's result arrives."""
        self.worker.listener.on_result(result or segmentation_result())
        self.host.pump(0.02)


@pytest.fixture(scope="session")
def host() -> Host:
    """The test host (one for the process)."""
    return start()


@pytest.fixture
def opened(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """The module as the user sees it after opening it, with an empty scene and two models."""
    import slicer

    host.scene.Clear(0)
    slicer.app.settings().clear()
    module = host.load_module(MODULE)
    module.python.add_paths()
    import medseg_panel.panel as panel

    fakes = (FakeWorker(), FakeStore([ct_card(), flair_card()]), FakeDialogs(), FakeInstaller())
    worker, store, dialogs, installer = fakes
    monkeypatch.setattr(
        panel,
        "slicer_collaborators",
        lambda resources: panel.Collaborators(worker, store, dialogs, lambda log: installer),
    )
    slot_errors.clear()
    page = module.widgetRepresentation()
    page._target.set_entered(True)
    yield Opened(host, module, *fakes)
    host.close_window()
    failed = list(slot_errors)
    module.close()
    host.scene.Clear(0)
    host.pump(0.02)
    assert failed == []


def grid(size: tuple[int, int, int] = (20, 16, 12)) -> Grid:
    """An LPS grid with three different spacings, away from the origin."""
    return Grid(size, (1.0, 1.5, 3.0), (-10.0, -12.0, -18.0), np.eye(3))


def ramp(size: tuple[int, int, int]) -> np.ndarray:
    """Voxels (K, J, I) that all differ from their neighbours, int16."""
    i, j, k = size
    return np.arange(i * j * k, dtype=np.int16).reshape(k, j, i)


def ct_card(**changes: Any) -> ModelCard:
    """A 2D CT model with three windows that may be changed."""
    windows = (("brain", 40, 80), ("blood", 80, 200), ("soft tissue", 40, 380))
    values: dict[str, Any] = {
        "id": "ct-bleeds",
        "folder": Path("ct-bleeds"),
        "version": "1.0",
        "title": "Bleeds on head CT",
        "task": "segmentation",
        "modality": ("CT",),
        "body_part": "head",
        "license": "Apache-2.0",
        "source": "test",
        "size": 2_500_000,
        "description": "Marks bleeds.",
        "limitations": ("Drawn for a test.",),
        "channels": (CardChannel("head CT", ("CT",)),),
        "expects": {"mode": "slicewise", "plane": "axial", "size": (256, 256, None)},
        "windows": tuple(CardWindow(n, float(lv), float(wd), True, 0) for n, lv, wd in windows),
        "classes": (CardClass("bleed", (200, 30, 30), 1, True),),
        "has_weights": True,
    }
    return ModelCard(**{**values, **changes})


def flair_card() -> ModelCard:
    """A 3D MR model with two channels and no windows."""
    return ct_card(
        id="mr-lesions",
        title="Lesions on FLAIR and T1",
        modality=("MR",),
        channels=(CardChannel("FLAIR", ("MR",)), CardChannel("T1", ("MR",))),
        expects={"mode": "sliding_window", "patch": (96, 96, 96), "spacing": (1.0, 1.0, 1.0), "orientation": "RAS"},
        windows=(),
        classes=(CardClass("lesion", (250, 200, 0), 1, True),),
    )


def segmentation_result(size: tuple[int, int, int] = (20, 16, 12), model_id: str = "ct-bleeds") -> Result:
    """One lesion of 2 x 3 x 4 voxels (i, j, k) in a layer of one class, with its tables."""
    labels = np.zeros(size[::-1], np.uint8)
    labels[4:8, 5:8, 9:11] = 1
    where = grid(size)
    lps = where.to_physical([9.5, 6.0, 5.5])
    bleed = SegmentClass(1, "bleed", (0.8, 0.1, 0.1), "", True)
    lesions = Table(
        "lesions",
        (
            Column("segment", "str"),
            Column("lesion", "int"),
            *(Column(f"centre_{axis}_mm", "float", "mm") for axis in "ras"),
            Column("volume_mm3", "float", "mm3"),
        ),
        (("bleed", 1, -float(lps[0]), -float(lps[1]), float(lps[2]), 24 * 4.5),),
    )
    segments = Table("segments", (Column("segment", "str"), Column("voxels", "int")), (("bleed", 24),))
    return Result(
        grid=where,
        layers=(Layer(labels, (bleed,)),),
        tables={"segments": segments, "lesions": lesions},
        provenance={"model": {"id": model_id}, "device": "CPU", "seconds": {"total": 1.25}},
    )


def scores_result(slices: int = 12) -> Result:
    """Scores of two classes on each slice."""
    where = grid()
    centres = [where.to_physical([9.5, 7.5, k]) for k in range(slices)]
    rows = tuple(
        (k + 1, -float(c[0]), -float(c[1]), float(c[2]), k / slices, 1 - k / slices) for k, c in enumerate(centres)
    )
    names = ("slice", "centre_r_mm", "centre_a_mm", "centre_s_mm", "any", "subdural")
    types = ("int", "float", "float", "float", "float", "float")
    table = Table("slices", tuple(Column(n, t) for n, t in zip(names, types, strict=True)), rows)
    scores = Table(
        "scores",
        (Column("class", "str"), Column("maximum", "float"), Column("slice", "int")),
        (("any", 11 / 12, 12), ("subdural", 1.0, 1)),
    )
    return Result(grid=where, tables={"slices": table, "scores": scores}, provenance={"device": "CPU"})
