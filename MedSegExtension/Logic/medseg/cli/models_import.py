"""``medseg models import``: a trained model in its authors' format becomes a package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .console import Command
from .execute import execute

if TYPE_CHECKING:
    from ..library.importer import ImportOptions, Proposal
    from ..library.importer.formats import Kind

_File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="ONNX, Keras .h5/.keras, TensorFlow.js model.json, PyTorch .pt2; folder or zip: nnU-Net v2, MONAI bundle, "
        "Auto3DSeg, Raidionics.",
    ),
]
_Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The package: a folder, or a name ending in .zip or .onnx.")
]


def register(models: typer.Typer, epilog: str) -> None:
    """Add the command of this module to the group ``models``."""
    models.command("import", epilog=epilog)(models_import)


def models_import(
    file: _File,
    output: _Output = None,
    recipe: Annotated[str | None, typer.Option(help="Which published model it is (see: medseg models list).")] = None,
    backbone: Annotated[Path | None, typer.Option(help="First stage of a two-stage model.")] = None,
    environment: Annotated[
        Path | None, typer.Option(help="Python environment that has what the conversion needs (default: a new one).")
    ] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder of wheels for that environment (no network).")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="For folders: checkpoint=FILE (nnU-Net), onnx=FILE, weights=pt|ts (MONAI), mask=MODEL (Raidionics), "
            "skip=NAME,NAME (settings and transforms that do no harm); repeat.",
        ),
    ] = None,
    configuration: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which configuration of an nnU-Net folder (3d_fullres, 2d, ...).")
    ] = None,
    folds: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Folds of an nnU-Net result, averaged (default: all).")
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(metavar="QUESTION=TEXT", help="Answer to an open question of an unknown ONNX file; repeat."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the proposed answers without asking.")] = False,
    id: Annotated[str | None, typer.Option(help="Id of the package in place of the recipe's.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the package in place of the recipe's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing package.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:
    """Turn FILE into a package. Without --recipe an ONNX file is looked at, and what it does not say is asked.

    Without --output an nnU-Net, MONAI, Auto3DSeg or Raidionics folder or zip is only looked at: what it holds, and what
    can be chosen with --option, is listed.
    """

    def body(command: Command) -> int:
        from ..library.importer import ImportOptions

        options = ImportOptions(
            choices=_pairs(option, "--option")
            | {k: v for k, v in (("folds", folds), ("configuration", configuration)) if v},
            backbone=backbone, environment=environment, wheels=wheels,
            overwrite=force, id=id, title=title,
        )  # fmt: skip
        from ..library.importer.formats import SELF_DESCRIBED, detect_kind

        kind = detect_kind(file) if recipe is None else None
        if kind == "nnunet":
            options = _nnunet(command, file, options, look=output is None)
        elif kind is not None and kind in SELF_DESCRIBED:
            _say_facts(command, file, kind)
        if output is None:
            if "found" not in command.document:
                raise InputError(
                    "Name the package with --output (-o); without it only folders that describe themselves are read."
                )
            return 0
        return import_command(command, file, output, recipe, options, _pairs(answer, "--answer"), yes=yes)

    execute(body, as_json=as_json, debug=debug)


def import_command(
    command: Command,
    file: Path,
    output: Path,
    recipe: str | None,
    options: ImportOptions,
    answers: dict[str, str],
    *,
    yes: bool,
) -> int:
    """Import, say what was found, and give 0."""
    from ..library.importer import import_model, import_with_manifest, propose
    from ..library.importer.formats import detect_kind
    from ..model.package import load_model

    unknown = recipe is None and detect_kind(file) == "onnx"
    manifest: dict[str, Any] = {}
    if unknown:
        proposal = propose(file)
        for sentence in proposal.guesses:
            command.say(f"guessed: {sentence}")
        chosen = _answers(command, proposal, answers, yes=yes)
        manifest = proposal.answered(chosen)
        for question, text in proposal.taken(chosen):
            command.say(f"{question}: {text}")
        command.document |= {"guesses": proposal.guesses, "answers": dict(proposal.taken(chosen))}
    elif answers:
        raise InputError("--answer is for ONNX files without --recipe; everything else brings its own description.")
    with command.reporter:
        command.reporter.begin(file.name)
        monitor = command.monitor()
        if unknown:
            made = import_with_manifest(file, manifest, output, monitor=monitor, options=options)
        else:
            made = import_model(file, recipe, output, monitor=monitor, options=options)
    model = load_model(made)
    figures = {k: v for k, v in model.manifest.card.figures.items() if k.startswith("agreement with the original")}
    agreement = figures.get("agreement with the original", "")
    command.document |= {"package": str(made), "id": model.manifest.id, "sha256": model.sha256, "agreement": agreement}
    command.document["whole_chain"] = figures.get("agreement with the original, whole chain", "")
    command.say(f"{model.manifest.title}: {made}")
    for name, words in figures.items():
        command.say(f"{name}: {words}")
    command.say(f"next: medseg models add {made}, or medseg run {made} INPUT -o DIR")
    return 0


def _say_facts(command: Command, file: Path, kind: Kind) -> None:
    """Say what a MONAI, Auto3DSeg or Raidionics folder holds, and which options it has."""
    from ..library.importer.folder_facts import facts_of

    found = facts_of(file, kind)
    command.document["found"] = [found]
    command.say(found["title"])
    for name, text in found["lines"]:
        command.say(f"  {name}: {text}")
    for question in found["questions"]:
        choices = "|".join(c for c in question["choices"] if c) or "..."
        command.say(f"  --option {question['id']}={choices}: {question['text']}. {question['why']}")


def _nnunet(command: Command, file: Path, options: ImportOptions, *, look: bool) -> ImportOptions:
    """Say what an nnU-Net folder or zip holds; where several results are in it, one is asked for on a terminal."""
    from dataclasses import replace

    from ..library.importer.nnunet_folder import CASCADE, understood

    found = understood(file)
    command.document["found"] = found
    for one in found:
        command.say(_in_words(one))
    wanted = options.choices.get("configuration")
    usable = [f for f in found if not f["problem"]]
    if look or wanted or len(found) == 1 or {f["configuration"] for f in found} == {"3d_lowres", CASCADE}:
        return options
    if command.as_json or not sys.stdin.isatty() or not usable:
        return options  # the importer says what there is to choose from
    names = [f["configuration"] for f in usable]
    chosen = str(typer.prompt(f"  Which configuration ({', '.join(names)})", default=names[0], prompt_suffix="? "))
    return replace(options, choices={**options.choices, "configuration": chosen})


def _in_words(found: dict[str, Any]) -> str:
    """One result of an nnU-Net folder as a line or two."""
    if found["problem"]:
        return f"{found['folder']}: cannot be imported: {found['problem']}"
    classes = ", ".join(found["classes"][:12]) + (", ..." if len(found["classes"]) > 12 else "")
    folds = f"folds {', '.join(found['folds'])}" if found["folds"] else "an exported ONNX file"
    before = f", after {found['previous']}" if found["previous"] else ""
    spacing = " x ".join(f"{s:.3g}" for s in found["spacing"])
    return (
        f"{found['title']}, {found['configuration']}{before}: {folds}; {found['dimensions']}D, {spacing} mm\n"
        f"  images: {', '.join(found['channels'])}; {len(found['classes'])} classes: {classes}"
    )


def _answers(command: Command, proposal: Proposal, given: dict[str, str], *, yes: bool) -> dict[str, str]:
    """The questions asked one by one on a terminal; else what was given, and the defaults where ``yes``."""
    open_questions = [q for q in proposal.questions if q.id not in given]
    if yes or not open_questions:
        return given
    if command.as_json or not sys.stdin.isatty():
        listed = "; ".join(f"{q.id}: {q.text} [{q.default}]" for q in open_questions)
        raise InputError(
            "The file does not say everything. Answer with --answer QUESTION=TEXT, or take the proposals with --yes. "
            + listed
        )
    answers = dict(given)
    for question in open_questions:
        command.say("")
        command.say(question.text + (f" ({', '.join(question.choices)})" if question.choices else ""))
        if question.why:
            command.say(f"  {question.why}")
        while True:
            answers[question.id] = str(typer.prompt("  ", default=question.default, prompt_suffix="> "))
            try:
                proposal.answered(answers)
                break
            except InputError as error:
                command.say(f"  {error}")
    return answers


def _pairs(texts: list[str] | None, name: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts or []:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise InputError(f"{name} {text!r} is not of the form NAME=VALUE.")
        pairs[key] = value
    return pairs
