"""More models at the press of a button: weights of published models and ONNX files of any other model are imported,
published models are installed.

All of it happens in the worker, which alone has the packages for it; here is what is asked and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from medseg.model.card import card_from

from ..seams import Dialogs, Worker
from ..segment.card import card_text, details_text
from ..segment.menus import add_action
from ..segment.run import RunSection
from ..segment.runs import sentence_of
from . import nnunet_choice

_FILES = (
    "Trained models (*.onnx *.h5 *.hdf5 *.keras *.pt2 *.ep *.pt *.zip model.json plans.json metadata.json);;"
    "All files (*)"
)
_THERE = ("installed", "broken")
_STATES = {"needs weights": "needs weights", "no converter": "cannot be converted here"}


class MoreModels:
    """The part of the menu *Manage models* that gets more of them.

    One thing at a time; it is `busy` from the choice of an entry to its end.

    ``ready()``: whether the worker has its packages, installed now if the user agrees. ``later(work)``: calls ``work``
    outside of the worker's messages, which do not come in while a dialog is open. ``on_change()``: `busy` changed.
    ``on_added(id)``: there is a new model.
    """

    def __init__(
        self,
        menu: Any,
        worker: Worker,
        dialogs: Dialogs,
        run: RunSection,
        ready: Callable[[], bool],
        later: Callable[[Callable[[], None]], None],
        on_change: Callable[[], None],
        on_added: Callable[[str], None],
    ) -> None:
        self._worker, self._dialogs, self._run = worker, dialogs, run
        self._ready, self._later, self._on_change, self._on_added = ready, later, on_change, on_added
        self._busy = False
        self._query = 0
        self._actions = [
            add_action(menu, _("Import weights or an ONNX file..."), self.import_weights),
            add_action(menu, _("Import a model folder..."), self.import_folder),
            add_action(menu, _("Install a published model..."), self.install_published),
        ]

    @property
    def busy(self) -> bool:
        """True while models are listed, imported or installed."""
        return self._busy

    def set_enabled(self, enabled: bool) -> None:
        """Whether more models can be asked for now."""
        for action in self._actions:
            action.enabled = enabled

    def cancel(self) -> None:
        """Stop what goes on; a part of a download is kept for the next time."""
        self._worker.cancel_query(self._query)

    def import_weights(self) -> None:
        """Let the user choose a file, then what it is; import it."""
        if self._busy:
            return
        self._look(self._dialogs.open_file(_("Weights of a published model, or the ONNX file of any model"), _FILES))

    def import_folder(self) -> None:
        """Let the user choose the folder of a model (nnU-Net, MONAI, Auto3DSeg, Raidionics); import it."""
        if not self._busy:
            self._look(self._dialogs.folder(_("Folder of a model: nnU-Net, MONAI bundle, Auto3DSeg or Raidionics")))

    def _look(self, path: str) -> None:
        if path:
            self._begin(
                _("Looking at {file}.").format(file=Path(path).name),
                "published",
                lambda answer: self._choose_recipe(path, answer),
                file=path,
            )

    def install_published(self) -> None:
        """Let the user choose a published model; download and install it."""
        if not self._busy:
            self._begin(_("Listing the published models."), "published", self._choose_published)

    # -- steps ------------------------------------------------------------------------------------------------

    def _choose_recipe(self, path: str, answer: dict[str, Any]) -> None:
        file, models = Path(path).name, answer["models"]
        if answer.get("found") or (answer["kind"] == "nnunet" and models):
            self._choose_result(path, answer)
            return
        if answer.get("about"):
            self._ask_folder(path, answer["about"], {}, "")
            return
        if not answer["recipe_needed"]:
            self._import(path, file, None, replace=False)
            return
        unknown = len(models) if answer["kind"] == "onnx" else -1
        if not models and unknown < 0:
            self._end(_("No published model comes as a file like {file}.").format(file=file), failed=True)
            return
        text = _("Which model is {file}?").format(file=file)
        if unknown >= 0:
            text += " " + _("For any other model choose the last row; what the file does not say is asked.")
            models = [*models, _another()]
        model = self._choose(_("Import weights"), text, answer["systems"], models, _("Import"))
        if model is None:
            return
        if not model["id"]:
            self._begin(
                _("Looking at {file}.").format(file=file), "propose", lambda said: self._ask(path, said, {}, ""),
                file=path,
            )  # fmt: skip
            return
        installed = model["state"] in _THERE
        if installed and not self._dialogs.confirm(
            _("{title} is installed already. Replace it?").format(title=model["title"])
        ):
            self._end(_("Nothing was imported."))
            return
        more = {}
        if model["first_stage"] and answer["kind"] in ("onnx", "keras"):
            question = _("First stage ({name}) of {title}; none: it is fetched where that is possible")
            more["backbone"] = self._dialogs.open_file(
                question.format(name=model["first_stage"], title=model["title"]), _FILES
            )
        self._import(path, model["title"], model["id"], replace=installed, **more)

    def _choose_result(self, path: str, answer: dict[str, Any]) -> None:
        """What an nnU-Net folder or zip holds, or the whole set that it is; then the folds."""
        found, sets, file = answer["found"], answer["models"], Path(path).name
        rows = [[m["title"], "", str(len(m["manifest"]["classes"])), "", "", m["size_words"]] for m in sets]
        rows += [nnunet_choice.row(f) for f in found]
        text = _("{file} holds these results of nnU-Net. Which one is to be imported?").format(file=file)
        shown = [*(_card(m) for m in sets), *(nnunet_choice.details(f) for f in found)]
        number = self._dialogs.choose(
            _("Import an nnU-Net result"), text, nnunet_choice.columns(), rows, _("Import"), shown
        )
        if number < 0:
            self._end(_("Nothing was imported."))
            return
        if number < len(sets):
            self._import(path, sets[number]["title"], sets[number]["id"], sets[number]["state"] in _THERE)
            return
        chosen = found[number - len(sets)]
        if chosen["problem"]:
            self._end(chosen["problem"], failed=True)
            return
        folds = "all"
        if len(chosen["folds"]) > 1:
            question = nnunet_choice.folds_question(chosen)
            which = _("{configuration} of {title}").format(**chosen)
            given = self._dialogs.ask(_("Import {file}").format(file=file), which, [question], {}, _("Import"))
            if given is None:
                self._end(_("Nothing was imported."))
                return
            folds = given.get("folds", "all").strip()
        wanted = nnunet_choice.request(path, chosen, found, folds)
        self._import(wanted["file"], chosen["title"], None, replace=False, choices=wanted["choices"])

    def _import(
        self, path: str, title: str, recipe: str | None, replace: bool,
        on_error: Callable[[dict[str, Any]], None] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        sentence = _("Importing {title}. Keras and PyTorch files take some minutes.").format(title=title)
        self._begin(
            sentence, "import", lambda answer: self._done(title, answer), on_error,
            file=path, recipe=recipe, replace=replace, **more,
        )  # fmt: skip

    def _ask_folder(self, path: str, about: dict[str, Any], answers: dict[str, str], problem: str) -> None:
        """Say what was understood of a folder, and what can be chosen; a choice that does not fit is asked again."""
        file, title = Path(path).name, about["title"]
        lines = "\n".join(f"{name}: {text}" for name, text in about["lines"])
        given = self._dialogs.ask(
            _("Import {file}").format(file=file), "\n\n".join(filter(None, [problem, title, lines])),
            about["questions"], answers, _("Import"),
        )  # fmt: skip
        if given is None:
            self._end(_("Nothing was imported."))
            return

        def again(error: dict[str, Any]) -> None:
            if error["kind"] == "InputError" and about["questions"]:
                self._ask_folder(path, about, given, error["message"])
            else:
                self._failed(error)

        choices = {name: text.strip() for name, text in given.items() if text.strip()}
        self._import(path, title, None, False, again, **({"choices": choices} if choices else {}))

    def _ask(self, path: str, said: dict[str, Any], answers: dict[str, str], problem: str) -> None:
        """Put the open questions of an unknown model; an answer that does not fit is asked again, the others kept."""
        file = Path(path).name
        known = _("What {file} says, and what is guessed; correct it below where it is wrong.").format(file=file)
        text = "\n\n".join(filter(None, [problem, known, "\n".join(said["guesses"])]))
        given = self._dialogs.ask(_("Import {file}").format(file=file), text, said["questions"], answers, _("Import"))
        question = _("A model of the name of {file} is installed already. Replace it?").format(file=file)
        if given is None or (said["installed"] and not problem and not self._dialogs.confirm(question)):
            self._end(_("Nothing was imported."))
            return

        def again(error: dict[str, Any]) -> None:
            if error["kind"] == "InputError":
                self._ask(path, said, given, error["message"])
            else:
                self._failed(error)

        self._begin(
            _("Importing {title}.").format(title=file), "import", lambda answer: self._done(file, answer), again,
            file=path, answers=given, replace=said["installed"],
        )  # fmt: skip

    def _choose_published(self, answer: dict[str, Any]) -> None:
        models = [m for m in answer["models"] if m["downloadable"]]
        unknown = len(models) if answer["kind"] == "onnx" else -1
        if not models and unknown < 0:
            self._end(_("There is no published model that can be downloaded."), failed=True)
            return
        text = _("The model is downloaded, checked and converted. Its licence is its authors'.")
        model = self._choose(_("Install a published model"), text, answer["systems"], models, _("Install"))
        if model is None:
            return
        if model["state"] == "no converter":
            self._end(_("{title} cannot be converted here: {problem}.").format(**model), failed=True)
            return
        self._begin(
            _("Installing {title}.").format(**model),
            "install",
            lambda answer: self._done(model["title"], answer),
            model=model["id"],
        )

    def _choose(
        self, title: str, text: str, systems: dict[str, str], models: Sequence[dict[str, Any]], accept: str
    ) -> dict[str, Any] | None:
        columns = (_("Model"), _("System"), _("State"), _("Licence"), _("Size"))
        rows = [
            (m["title"], systems.get(m["system"], m["system"]), _state(m), m["license"], m["size_words"])
            for m in models
        ]
        number = self._dialogs.choose(title, text, columns, rows, accept, [_card(m) for m in models])
        if number < 0:
            self._end(_("No model was chosen."))
            return None
        return models[number]

    def _done(self, title: str, answer: dict[str, Any]) -> None:
        self._busy = False
        self._on_added(answer["id"])
        sentence = _("{title} is installed already.") if answer.get("already") else _("{title} is installed.")
        self._run.finish(sentence.format(title=title), done=True)
        self._on_change()

    # -- one query of the worker ------------------------------------------------------------------------------

    def _begin(
        self,
        sentence: str,
        command: str,
        on_answer: Callable[[dict[str, Any]], None],
        on_error: Callable[[dict[str, Any]], None] | None = None,
        **content: Any,
    ) -> None:
        if not self._busy and not self._ready():
            return
        self._busy = True
        self._run.begin(sentence)
        self._query = self._worker.query(
            command,
            lambda answer: self._later(lambda: self._answered(on_answer, answer)),
            lambda error: self._later(lambda: self._answered(on_error or self._failed, error)),
            on_progress=self._run.progress,
            on_warning=self._run.warn,
            **content,
        )
        self._on_change()

    def _answered(self, on_answer: Callable[[dict[str, Any]], None], answer: dict[str, Any]) -> None:
        try:
            on_answer(answer)
        except Exception as error:  # whatever it is, the panel must not stay busy for ever
            self._end(sentence_of(error), failed=True)

    def _failed(self, error: dict[str, Any]) -> None:
        if error["kind"] == "Cancelled":
            self._end(_("Cancelled; no model was added."))
        else:
            self._end(error["message"], failed=True)

    def _end(self, sentence: str, failed: bool = False) -> None:
        self._busy = False
        self._run.finish(sentence, done=False)
        self._on_change()
        if failed:
            self._dialogs.error(sentence)


def _another() -> dict[str, Any]:
    """A row of the list of published models for what is not among them."""
    empty = dict.fromkeys(("id", "system", "license", "size_words", "first_stage"), "")
    return {**empty, "title": _("Another model"), "state": _("questions follow")}


def _card(model: dict[str, Any]) -> str:
    """The card of a published model as rich text, before anything of it is on this computer."""
    manifest = model.get("manifest")
    if not manifest:
        return ""
    card = card_from(manifest, Path(), model["id"])
    return "<br>".join([card_text(card), details_text(card)])


def _state(model: dict[str, Any]) -> str:
    """The state of a published model in words."""
    if model["state"] == "importable":
        return _("downloaded") if model["downloaded"] else _("can be installed")
    return _STATES.get(model["state"], model["state"])
