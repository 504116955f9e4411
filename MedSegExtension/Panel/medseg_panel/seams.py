"""What the panel needs of its collaborators, so that tests can put others in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard
from medseg.result import Result

Answer = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What the Segment tab hands to the others when a run ended with a result; all but ``model`` are nodes.

    ``segmentation``: None for classifiers. ``probabilities``: volumes, one a class, where the user asked for them.
    """

    model: ModelCard
    volume: Any
    segmentation: Any
    tables: tuple[Any, ...]
    probabilities: tuple[Any, ...]


class Tab(Protocol):
    """One tab of the module. `enter` and `exit`: it is seen, no longer seen (another tab, another module).

    `set_parameters` is given None while the scene closes. All calls but `enter` and `exit` also come to hidden tabs.
    """

    @property
    def title(self) -> str: ...

    @property
    def widget(self) -> Any: ...

    @property
    def busy(self) -> bool:
        """Something is under way that ends with the tab."""

    def enter(self) -> None: ...

    def exit(self) -> None: ...

    def cleanup(self) -> None: ...

    def set_parameters(self, parameters: Any) -> None: ...

    def parameters_changed(self) -> None: ...

    def scene_closing(self) -> None: ...

    def scene_closed(self) -> None: ...

    def scene_changed(self) -> None:
        """A volume was added."""

    def node_removed(self, node: Any) -> None: ...

    def run_finished(self, run: FinishedRun) -> None:
        """The Segment tab has a new result in the scene (not told to the Segment tab itself)."""


class Segmenter(Protocol):
    """The Segment tab as the other tabs use it: Review runs a model on a case that has no mask yet."""

    @property
    def busy(self) -> bool: ...

    def run_on(self, model_id: str, volume: Any) -> str:
        """Choose model and volume node, and run; "" where the run goes on, else why it does not.

        The end is told by `Tab.run_finished`; a failed or cancelled run only makes `busy` False again."""

    @property
    def apart(self) -> ApartRuns:
        """Runs that show nothing in the scene."""


class ApartRuns(Protocol):
    """The chosen model on volumes that are in no scene (`segment.apart.Apart`)."""

    @property
    def model(self) -> ModelCard | None: ...

    @property
    def ready(self) -> bool:
        """True where a run needs nothing to be installed first."""

    def why_not(self) -> str:
        """Why the chosen model cannot run on the one image of a case; "" where it can."""

    def start(self, volume: Volume, on_result: Callable[[Result], None], on_error: Callable[[str], None]) -> str:
        """ "" where the run goes on, else why it does not."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What a tab is made from. ``show(tab)`` brings a tab to the front; ``later(work)`` as of the collaborators."""

    scene: Any
    dialogs: Dialogs
    store: ModelStore
    later: Callable[[Callable[[], None]], None]
    segmenter: Segmenter
    show: Callable[[Tab], None]


class Listener(Protocol):
    """Who is told of a run; exactly one of the last three calls ends it. All calls are on the main thread."""

    def on_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None: ...

    def on_warning(self, sentence: str) -> None: ...

    def on_note(self, sentence: str) -> None: ...

    def on_result(self, result: Result) -> None: ...

    def on_error(self, kind: str, sentence: str) -> None: ...

    def on_cancelled(self) -> None: ...


class Worker(Protocol):
    """The process that runs models (`worker_client.WorkerClient`). Every call returns at once."""

    def start_run(self, model: str, volumes: Sequence[Volume], options: dict[str, Any], listener: Listener) -> int: ...

    def cancel(self) -> None: ...

    def query(
        self,
        command: str,
        on_answer: Answer,
        on_error: Answer,
        *,
        on_progress: Callable[[str, str, float | None, float | None], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        **content: Any,
    ) -> int: ...

    def cancel_query(self, number: int) -> None: ...

    def restart(self) -> None: ...

    def shutdown(self) -> None: ...


class ModelStore(Protocol):
    """Where models are kept (`medseg.model.store`)."""

    def installed_models(self) -> list[ModelCard]: ...

    def remove_model(self, id: str) -> None: ...


class Dialogs(Protocol):
    """What interrupts the user."""

    def error(self, message: str, details: str = "") -> None: ...

    def show(self, title: str, text: str) -> None:
        """Rich text to read, with a button that closes it."""

    def confirm(self, question: str, details: str = "") -> bool: ...

    def open_file(self, title: str, filters: str) -> str: ...

    def save_file(self, title: str, name: str, filters: str) -> str: ...

    def folder(self, title: str) -> str: ...

    def choose(
        self,
        title: str,
        text: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        accept: str,
        details: Sequence[str] = (),
    ) -> int:
        """The number of the chosen row, -1 where none was chosen. ``accept``: the text of the button.

        ``details``: rich text shown for the row that is looked at."""

    def ask(
        self, title: str, text: str, questions: Sequence[dict[str, Any]], answers: dict[str, str], accept: str
    ) -> dict[str, str] | None:
        """Answers by the ``id`` of each question, None where the user gave none.

        ``questions``: as `medseg.library.importer.propose.Question`; ``answers``: shown in place of the defaults."""


class Installer(Protocol):
    """Makes sure that the worker's Python has what it needs (`install.Installer`)."""

    def satisfied(self) -> bool:
        """True where all packages are there."""

    def ensure(self) -> bool:
        """True where all packages are there afterwards; False where the user declined."""

    def ensure_from(self, folder: str) -> None:
        """Install from a folder of wheels."""
