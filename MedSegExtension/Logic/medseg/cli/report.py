"""``medseg report``: the review of one case as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, OutputError
from .console import Command
from .execute import execute
from .review import slice_table


def register(app: typer.Typer, epilog: str) -> None:
    """Add the command."""
    app.command("report", epilog=epilog)(report)


def report(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image that was read.")],
    mask: Annotated[
        Path, typer.Argument(metavar="MASK", help="The mask under review, slices.csv, or the folder of a run.")
    ],
    case: Annotated[
        Path | None, typer.Option("--case", metavar="FOLDER", help="Where its review is kept (review.json).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="The page.")] = Path(
        "report.html"
    ),
    names: Annotated[Path | None, typer.Option(help="Table of label names, for a plain label map.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Key images at most.")] = 6,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:
    """Write one HTML page: key images with outlines, findings, the reader's decisions, where it comes from.

    Of a classifier's result: findings of slices, with the score and the reader's answer of each.
    """

    def body(command: Command) -> int:
        from ..io import read_segmentation, read_volume
        from ..io.slice_scores import read_slices
        from ..report.origin import run_lines
        from ..report.page import page, write_page
        from ..review.case_file import CaseReview, give_decisions, read_case
        from ..review.decisions import Review
        from ..review.slices import SliceReview

        if output.exists() and not force:
            raise OutputError(f"{output} is there already; give another name, or --force.")
        monitor = command.monitor()
        volume, scores = read_volume(image), slice_table(mask)
        if scores is None:
            review = Review(read_segmentation(mask, names=names, monitor=monitor))
        else:
            table, model = read_slices(scores)
            review = SliceReview(table, volume.grid, scores.name, model)
        kept = read_case(case, monitor) if case is not None else None
        if kept is None:
            kept = CaseReview(image.name.split(".")[0], image.name, mask.name)
        for sentence in give_decisions(kept, review):
            monitor.warn(sentence)
        try:
            origin = run_lines(mask)
        except InputError as error:  # the page can do without
            monitor.warn(str(error))
            origin = []
        html = page(kept, review, volume, pictures=pictures, warnings=tuple(monitor.warnings), origin=origin)
        write_page(output, html)
        command.document.update(file=str(output), findings=len(review.findings), warnings=monitor.warnings)
        command.say(f"{output}: {len(review.findings)} findings")
        return 0

    execute(body, as_json=as_json, debug=debug)
