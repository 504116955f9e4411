"""The network's real input beside the original: made in the worker, shown while *Show as the model sees it* is on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from medseg.model.card import ModelCard
from medseg.result import Result
from medseg_mrml import network_view_nodes, volume_from_node

from ..seams import Worker
from . import views
from .runs import sentence_of


class ModelView:
    """One view at a time. It is the `Listener` of its own request; ``say`` gets sentences, ``on_change()`` its ends."""

    def __init__(self, scene: Any, worker: Worker, say: Callable[[str], None], on_change: Callable[[], None]) -> None:
        self._scene, self._worker, self._say, self._on_change = scene, worker, say, on_change
        self._volume_id = ""
        self._title = ""
        self._wanted = False

    @property
    def running(self) -> bool:
        """True while the worker makes the view."""
        return bool(self._volume_id)

    def show(self, card: ModelCard, volumes: Sequence[Any], options: dict[str, Any]) -> None:
        """Ask for what the model ``card`` sees of the volume nodes ``volumes``; ``options`` as of a run."""
        self._wanted = True
        if self.running:
            return
        self._volume_id, self._title = volumes[0].GetID(), card.title
        request = {name: value for name, value in options.items() if name in ("windows", "choices")}
        try:
            inputs = [volume_from_node(v) for v in volumes]
            self._worker.start_run(str(card.folder), inputs, {**request, "only_input": True}, self)
        except Exception as error:  # whatever it is, the panel must not wait for ever
            self._end(sentence_of(error))

    def hide(self) -> None:
        """The views are the user's again; what is still being made is given up."""
        self._wanted = False
        if self.running:
            self._worker.cancel()

    # -- Listener -----------------------------------------------------------------------------------------------

    def on_progress(self, stage: str, text: str, fraction: float | None, seconds_left: float | None) -> None:
        pass

    def on_warning(self, sentence: str) -> None:
        self._say(_("Warning: {sentence}").format(sentence=sentence))

    def on_note(self, sentence: str) -> None:
        self._say(sentence)

    def on_error(self, kind: str, sentence: str) -> None:
        self._end(sentence)

    def on_cancelled(self) -> None:
        self._end("")

    def on_result(self, result: Result) -> None:
        volume = self._scene.GetNodeByID(self._volume_id)
        sentence = ""
        if volume is not None and self._wanted:
            try:
                nodes = network_view_nodes(result, self._scene, reference_node=volume, title=self._title)
                views.show_volume(self._scene, nodes[0])
                sentence = _("{name} is in the scene: the values and voxels that the network gets.").format(
                    name=nodes[0].GetName()
                )
            except Exception as error:  # as above
                sentence = sentence_of(error)
        self._end(sentence)

    def _end(self, sentence: str) -> None:
        self._volume_id = ""
        if sentence:
            self._say(sentence)
        self._on_change()
