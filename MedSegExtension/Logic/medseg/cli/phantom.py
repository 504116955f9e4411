"""``medseg phantom``: synthetic volumes with known truth, to try the software on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, OutputError
from .console import Command
from .execute import execute

if TYPE_CHECKING:
    from ..phantoms import Phantom

#: Name on the command line -> function of `medseg.phantoms`.
KINDS = {"head-ct": "head_ct", "flair": "flair", "swi": "swi", "chest-xray": "chest_xray"}


def register(app: typer.Typer, epilog: str) -> None:
    """Add the command."""
    app.command("phantom", epilog=epilog)(phantom)


def phantom(
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Gets images/ and truth/.")],
    cases: Annotated[int, typer.Option(min=1, max=10_000, help="How many volumes.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the first volume; equal seeds draw equal volumes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:
    """Draw volumes to try the software on, each with a mask of what was drawn. No patient was imaged.

    Head CT becomes a DICOM series, the others become NRRD files that say their modality.
    """

    def body(command: Command) -> int:
        from .. import phantoms

        if kind not in KINDS:
            raise InputError(f"{kind!r} is no kind of phantom; choose one of {', '.join(KINDS)}.")
        drawn: list[dict[str, str]] = []
        for number in range(seed, seed + cases):
            image, truth = write_case(getattr(phantoms, KINDS[kind])(number), output, dicom=kind == "head-ct")
            command.say(f"{image}  (drawn: {truth})")
            drawn.append({"image": str(image), "truth": str(truth)})
        command.document.update(cases=drawn)
        return 0

    execute(body, as_json=as_json, debug=debug)


def write_case(phantom: Phantom, folder: Path, *, dicom: bool) -> tuple[Path, Path]:
    """Write image and truth of one phantom below ``folder``; nothing that is there is replaced.

    Raises `OutputError` where one of them is there, or cannot be written.
    """
    from ..model.colors import PALETTE
    from ..output.files import save_segmentation
    from ..result import Layer, SegmentClass
    from .demonstration import write_phantom

    name = phantom.volume.name.replace(" ", "_")
    images, truth = folder / "images", folder / "truth" / f"{name}.seg.nrrd"
    image = images / name if dicom else images / f"{name}.nrrd"
    for path in (image, truth):
        if path.exists():
            raise OutputError(f"{path} is there already; give another folder or another --seed.")
    write_phantom(phantom, image if dicom else images, dicom=dicom)
    colors = [(r / 255, g / 255, b / 255) for r, g, b in PALETTE]
    classes = tuple(
        SegmentClass(value, name, color) for (value, name), color in zip(phantom.classes.items(), colors, strict=False)
    )
    truth.parent.mkdir(parents=True, exist_ok=True)
    save_segmentation(truth, [Layer(phantom.labels, classes)], phantom.volume.grid)
    return image, truth
