"""What the worker does about models for the panel: list what is published, import weights, install.

Each takes a request and a monitor and answers with plain values (see `medseg.worker`). They load packages that Slicer's
own process does not have.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError, MedSegError
from ..monitor import Monitor
from .requests import answers_of, choices_of, text_of


def published(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """All published models with their state: ``{models: [...], systems: {id: words}}``; nothing is fetched.

    Each with its recipe's ``manifest``, from which a card can be made before the model is there (null without recipe).

    With a ``file``: its ``kind``, only the models that come as such a file, and ``recipe_needed``; of an nnU-Net folder
    or zip also ``found``, what it holds (see `medseg.library.importer.nnunet_folder.Understood`); of MONAI, Auto3DSeg
    and Raidionics ``about`` (`medseg.library.importer.folder_facts.Facts`), else null. Raises what
    `medseg.library.importer.formats.detect_kind` says of a file that can not be imported.
    """
    from ..library.catalogue.states import SYSTEMS, catalogue_states, size_words
    from ..library.importer.recipe import recipes

    kind = None
    from ..library.importer.formats import SELF_DESCRIBED, detect_kind

    if request.get("file"):
        kind = detect_kind(Path(text_of(request, "file")))
    states = [s for s in catalogue_states(monitor=monitor) if s.formats or s.downloadable]
    if kind is not None:
        states = [s for s in states if kind in s.formats]
    known = recipes()
    found: list[dict[str, Any]] = []
    if kind == "nnunet":
        from ..library.importer.nnunet_folder import understood
        from ..library.importer.nnunet_set import holds

        file = Path(text_of(request, "file"))
        states = [s for s in states if s.id in known and holds(file, known[s.id])]
        try:
            found = understood(file)
        except InputError:
            if not states:  # the zips of a set, which are opened one by one when it is imported
                raise
    about = None
    if kind in ("monai", "auto3dseg", "raidionics"):
        from ..library.importer.folder_facts import facts_of

        about = facts_of(Path(text_of(request, "file")), kind)
    models = [
        {
            **asdict(s),
            "size_words": size_words(s) if s.size or s.about else "",
            "manifest": known[s.id].manifest if s.id in known else None,
        }
        for s in states
    ]
    return {
        "models": models, "systems": SYSTEMS, "kind": kind, "recipe_needed": kind not in SELF_DESCRIBED,
        "found": found, "about": about,
    }  # fmt: skip


def propose_file(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """What can be said of the ONNX ``file`` of an unknown model: ``{guesses: [...], questions: [...], installed}``.

    ``installed``: whether a model of the id that it would get is among the user's own.
    """
    from ..library.importer import propose
    from ..model.store import installed_models, user_folder

    proposal = propose(Path(text_of(request, "file")))
    own = [card.id for card in installed_models() if card.folder.is_relative_to(user_folder())]
    return {
        "guesses": proposal.guesses,
        "questions": [asdict(q) for q in proposal.questions],
        "installed": proposal.manifest["id"] in own,
    }


def import_file(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """Import ``file`` as ``recipe`` (null where the file describes itself) and add it to the user's models.

    ``choices``: of what a folder holds (``configuration``, ``folds``, the questions of its ``about``).
    ``answers``: to the questions of `propose_file`, in place of a recipe. ``backbone``: file of the first stage of a
    two-stage model. ``replace``: another model of that id gives way. Nothing is left behind but the model.
    """
    from ..library.importer import ImportOptions, import_model, import_with_manifest, propose
    from ..model.installing import add_model

    file, answers = Path(text_of(request, "file")), answers_of(request)
    options = ImportOptions(
        choices=choices_of(request),
        backbone=Path(text_of(request, "backbone")) if request.get("backbone") else None,
    )
    recipe = text_of(request, "recipe") if request.get("recipe") else None
    with tempfile.TemporaryDirectory(prefix="medseg-import-") as scratch:
        target = Path(scratch) / "package"
        if answers is not None:
            manifest = propose(file).answered(answers)
            made = import_with_manifest(file, manifest, target, monitor=monitor, options=options)
        else:
            made = import_model(file, recipe, target, monitor=monitor, options=options)
        monitor.checkpoint()
        return {"id": add_model(made, replace=bool(request.get("replace"))).id}


def install(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """Install ``model`` (an id of a catalogue); ``already``: it was installed before, and nothing was done."""
    from ..library.catalogue import install as install_model

    done = install_model(text_of(request, "model"), monitor=monitor)
    if done.card is None:
        raise MedSegError(f"{done.entry.title} was downloaded, but not installed; try again.")
    return {"id": done.card.id, "already": done.already}
