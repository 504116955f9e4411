"""``medseg models install``, ``add``, ``remove``, ``export`` and ``catalogue``: how models come and go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .console import Command
from .execute import execute

_Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a model (see: medseg models catalogue).")]
_Catalogues = Annotated[
    list[Path] | None,
    typer.Option("--catalogue", metavar="FILE", help="A further catalogue file (also: MEDSEG_CATALOGUE); repeat."),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")]


def register(models: typer.Typer, epilog: str) -> None:
    """Add the commands of this module to the group ``models``."""
    models.command("install", epilog=epilog)(models_install)
    models.command("add", epilog=epilog)(models_add)
    models.command("remove", epilog=epilog)(models_remove)
    models.command("export", epilog=epilog)(models_export)
    models.command("catalogue", epilog=epilog)(models_catalogue)


def models_install(
    model: _Id,
    folder: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Take the files from here, not the network.")
    ] = None,
    catalogues: _Catalogues = None,
    force: Annotated[bool, typer.Option("--force", help="Install again, replacing an installed model.")] = False,
    accept_new: Annotated[
        bool, typer.Option("--accept-new", help="Trust a file that differs from the one remembered (no hash stated).")
    ] = False,
    download_only: Annotated[
        bool, typer.Option("--download-only", help="Only bring the files, for a computer without network.")
    ] = False,
    environment: Annotated[
        Path | None, typer.Option(help="Python environment that has what the conversion needs (default: a new one).")
    ] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder of wheels for that environment (no network).")] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Download a published model, check it, convert it and install it. An interrupted download goes on."""

    def body(command: Command) -> int:
        from ..library.catalogue import install
        from ..library.importer import ImportOptions

        with command.reporter:
            command.reporter.begin(model)
            monitor = command.monitor()
            done = install(
                model,
                monitor=monitor,
                catalogues=catalogues or (),
                folder=folder,
                force=force,
                accept_new=accept_new,
                download_only=download_only,
                options=ImportOptions(environment=environment, wheels=wheels),
            )
        files = [{"file": str(f.path), "sha256": f.sha256, "stated": f.stated} for f in done.files]
        command.document.update(
            model=done.entry.id, title=done.entry.title, license=done.entry.license, source=done.entry.source,
            already=done.already, files=files, folder=str(done.card.folder) if done.card else None,
            downloads=str(done.folder), warnings=list(monitor.warnings),
        )  # fmt: skip
        for file in done.files:
            known = "as the catalogue states" if file.stated else "remembered from this computer, not stated by anyone"
            command.say(f"{file.path.name}: SHA-256 {file.sha256} ({known})")
        if done.already:
            command.say(f"{done.entry.id} is installed already; --force installs it again.")
        elif done.card is None:
            command.say(f"The files of {done.entry.id} are in {done.folder}.")
            command.say(f"Elsewhere: medseg models install {done.entry.id} --from <a copy of that folder's parent>")
        else:
            command.say(f"{done.card.title} is installed as {done.card.id}. Licence: {done.entry.license}.")
        return 0

    execute(body, as_json=as_json, debug=debug)


def models_add(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", help="Package folder, .zip or .onnx with a manifest.")],
    force: Annotated[bool, typer.Option("--force", help="Replace another model of the same id.")] = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Check a model package and copy it into your own model folder."""

    def body(command: Command) -> int:
        from ..model.installing import add_model
        from ..model.package_files import user_path

        card = add_model(user_path(package), replace=force)
        command.document.update(model=card.id, title=card.title, license=card.license, folder=str(card.folder))
        command.say(f"{card.title} is installed as {card.id}.")
        return 0

    execute(body, as_json=as_json, debug=debug)


def models_remove(
    model: _Id,
    keep_download: Annotated[bool, typer.Option("--keep-download", help="Keep the downloaded files.")] = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Remove a model from your own model folder, and what was downloaded for it."""

    def body(command: Command) -> int:
        from ..library.catalogue import remove

        freed = remove(model, keep_download=keep_download)
        command.document.update(model=model, freed=freed)
        command.say(f"{model} is removed; {freed / 1e6:.1f} MB became free.")
        return 0

    execute(body, as_json=as_json, debug=debug)


def models_export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id of an installed model, or a package.")],
    triton: Annotated[Path, typer.Option(metavar="DIR", help="Model repository of a Triton Inference Server.")],
    backend: Annotated[
        str, typer.Option(metavar="onnxruntime|python", help="What runs it there: NVIDIA's images have onnxruntime.")
    ] = "onnxruntime",
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Write a model's networks for an inference server, which `medseg run --server URL` then uses."""

    def body(command: Command) -> int:
        from ..library.triton import export_triton
        from ..model.package import load_model

        loaded = load_model(model)
        folders = export_triton(loaded, triton, backend=backend, force=force)
        command.document.update(model=loaded.manifest.id, networks=[str(f) for f in folders])
        for folder in folders:
            command.say(f"written to {folder}")
        command.say(f"serve it: tritonserver --model-repository={triton}")
        return 0

    execute(body, as_json=as_json, debug=debug)


def models_catalogue(catalogues: _Catalogues = None, as_json: _Json = False, debug: _Debug = False) -> None:
    """All published models that MedSeg knows: what is installed, what can be had, and how."""
    execute(lambda command: show_published(command, catalogues or []), as_json=as_json, debug=debug)


def show_published(command: Command, catalogues: list[Path]) -> int:
    """The table of published models by system, with the state of each; ``published`` in the JSON document."""
    from ..library.catalogue.states import SYSTEMS, catalogue_states, size_words

    states = [s for s in catalogue_states(catalogues, monitor=command.monitor()) if s.formats or s.downloadable]
    command.document["published"] = [asdict(s) for s in states]
    for system in dict.fromkeys(s.system for s in states):
        command.say(SYSTEMS.get(system, system))
        rows = []
        for state in (s for s in states if s.system == system):
            word: str = state.state
            if state.state == "importable":
                word += " (downloaded)" if state.downloaded else " (download)"
            size = size_words(state) if state.size or state.about else ""
            title = state.title if not state.problem else f"{state.title} ({state.problem})"
            rows.append([f"  {state.id}", title, word, size, state.license.removesuffix(" by the source")])
        command.table(["  id", "model", "state", "size", "licence"], rows, right=(3,))
        command.say()
    command.say("importable:    medseg models install ID")
    command.say("needs weights: medseg models import FILE --recipe ID -o PACKAGE, then medseg models add PACKAGE")
    return 0
