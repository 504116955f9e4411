"""``medseg review``: the findings of a mask, lists of cases, and what was decided on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..result import Column, Table
from .agreement import agreement
from .console import Command, rows_of
from .execute import execute

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")]


def register(app: typer.Typer, epilog: str) -> None:
    """Add the group ``review``."""
    review = typer.Typer(help="Findings of a mask; agreement of readers.", no_args_is_help=True, rich_markup_mode=None)
    review.command("findings", epilog=epilog)(findings)
    review.command("list", epilog=epilog)(list_cases)
    review.command("summary", epilog=epilog)(summary)
    review.command("agreement", epilog=epilog)(agreement)
    app.add_typer(review, name="review")


def findings(
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="A segmentation, slices.csv, or the folder of a run.")],
    names: Annotated[Path | None, typer.Option(help="Table of label names, for a plain label map.")] = None,
    order: Annotated[
        str, typer.Option(metavar="size|position", help="Largest first, or from the head downwards.")
    ] = "size",
    least: Annotated[float, typer.Option(min=0, help="Leave out findings of less than so many ml.")] = 0.0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Of the scores of a classifier's slices.")] = 0.5,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.csv", help="Also write a table.")
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """List the lesions of MASK (of all classes where none is marked as lesions): size, place, extent.

    Of a classifier's result: the slices whose score is above a threshold, neighbours as one finding.
    """

    def body(command: Command) -> int:
        from ..io import read_segmentation
        from ..review.decisions import Review

        if (scores := slice_table(mask)) is not None:
            return slices(command, scores, threshold, output)
        if order not in ("size", "position"):
            raise InputError(f"--order {order!r} is neither size nor position.")
        monitor = command.monitor()
        listed = Review(read_segmentation(mask, names=names, monitor=monitor)).listed(order, least_ml=least)
        columns = (
            Column("finding", "int"), Column("class", "str"), Column("voxels", "int"), Column("volume", "float", "ml"),
            Column("r", "float", "mm"), Column("a", "float", "mm"), Column("s", "float", "mm"),
            Column("size_i", "float", "mm"), Column("size_j", "float", "mm"), Column("size_k", "float", "mm"),
        )  # fmt: skip
        rows = tuple((f.id, f.name, f.voxels, f.volume_ml, *f.centre, *f.extent) for f in listed)
        table = Table("findings", columns, rows)
        if output is not None:
            from ..output.files import save_text

            save_text(output, table.to_csv())
        command.document.update(findings=rows_of(table), warnings=monitor.warnings)
        command.table(
            ["finding", "class", "voxels", "ml", "R A S mm", "extent mm"],
            [
                [str(f.id), f.name, str(f.voxels), f"{f.volume_ml:.3g}", " ".join(f"{v:.0f}" for v in f.centre),
                 " x ".join(f"{v:.0f}" for v in f.extent)]
                for f in listed
            ],
            right=(0, 2, 3),
        )  # fmt: skip
        command.say(f"{len(listed)} findings, {sum(f.volume_ml for f in listed):.3g} ml")
        return 0

    execute(body, as_json=as_json, debug=debug)


def slice_table(given: Path) -> Path | None:
    """The table of slices that is meant by ``given``, None where it is a mask."""
    from ..io.slice_scores import FILE
    from ..output.folder import SEGMENTATION_FILE

    if given.is_dir():
        return given / FILE if (given / FILE).is_file() and not (given / SEGMENTATION_FILE).is_file() else None
    return given if given.suffix.lower() == ".csv" else None


def slices(command: Command, table: Path, threshold: float, output: Path | None) -> int:
    """Tell the findings of a classifier: runs of slices at or above ``threshold``."""
    from ..io.slice_scores import read_slices
    from ..review.slices import numbers_in, slice_findings

    scores, model = read_slices(table)
    found = slice_findings(scores, threshold)
    columns = (
        Column("finding", "int"), Column("class", "str"), Column("first", "int", "", "number of its first slice"),
        Column("last", "int"), Column("score", "float", "", "the greatest"),
        Column("r", "float", "mm"), Column("a", "float", "mm"), Column("s", "float", "mm"),
    )  # fmt: skip
    rows = tuple((f.id, f.name, *numbers_in(scores, f), f.probability, *f.centre) for f in found)
    listed = Table("findings", columns, rows)
    if output is not None:
        from ..output.files import save_text

        save_text(output, listed.to_csv())
    command.document.update(findings=rows_of(listed), model=model, threshold=threshold)
    cells = [
        [str(f.id), f.name, "-".join(map(str, dict.fromkeys(numbers_in(scores, f)))), f"{f.probability or 0:.2f}",
         " ".join(f"{v:.0f}" for v in f.centre)]
        for f in found
    ]  # fmt: skip
    command.table(["finding", "class", "slices", "score", "R A S mm"], cells, right=(0, 3))
    command.say(f"{len(found)} findings on {len(scores.rows)} slices, threshold {threshold:g}")
    return 0


def list_cases(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|CSV", help="Images and masks, or a table of them.")],
    reviews: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where reviews are kept, for states.")] = None,
    reader: Annotated[str, typer.Option(metavar="INITIALS", help="Whose states.")] = "",
    images: Annotated[
        str, typer.Option(metavar="PATTERN", help="Names of the images in FOLDER: '*_flair', 'scans/*'.")
    ] = "",
    masks: Annotated[
        str, typer.Option(metavar="PATTERN", help="Names of the masks: '*_drawn', 'truth/*'; * is the image's.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.csv", help="Also as a table, which Review opens.")
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """List the cases of a folder (BIDS, nnU-Net), of a table, or of a batch of runs, with what was done on them.

    What belongs together is told by names; where they allow several answers none is taken, and a PATTERN decides.
    """

    def body(command: Command) -> int:
        from ..review.case_table import write_cases
        from ..review.cases import find_cases, left_of, states

        monitor = command.monitor()
        cases = find_cases(source, monitor, images=images, masks=masks)
        if output is not None:
            write_cases(output, cases)
        kept = [None] * len(cases) if reviews is None else states(cases, reviews, reader, monitor)
        rows = []
        for case, one in zip(cases, kept, strict=True):
            image, mask = ("" if p is None else p.name for p in (case.image, case.result))
            rating = "" if one is None or one.rating is None else str(one.rating)
            state, left = ("", "") if one is None else (one.state, str(left_of(one)))
            rows.append([case.name, image, mask, state, rating, left])
        names = ["case", "image", "mask", "state", "rating", "left"]
        command.document.update(cases=[dict(zip(names, row, strict=True)) for row in rows], warnings=monitor.warnings)
        command.table(names, rows, right=(4, 5))
        bare = sum(c.result is None for c in cases)
        alone = sum(c.image is None for c in cases)
        without = f", {alone} without an image" if alone else ""
        command.say(f"{len(cases)} cases, {bare} without a mask{without}")
        return 0

    execute(body, as_json=as_json, debug=debug)


def summary(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where reviews are kept.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE.csv", help="Also as a table.")] = None,
    peer: Annotated[
        Path | None, typer.Option("--segmentation-review", metavar="FILE.csv", help="Also in that extension's form.")
    ] = None,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """One row a case of all reviews below FOLDER: state, rating, decisions, time."""

    def body(command: Command) -> int:
        from ..review import cohort
        from ..review.cases import reviews_in

        monitor = command.monitor()
        kept = reviews_in(folder, monitor=monitor)
        if not kept:
            raise InputError(f"{folder.name} holds no review (review.json).")
        table = cohort.cohort_table(kept)
        if output is not None:
            cohort.write_cohort(output, kept)
        if peer is not None:
            cohort.write_segmentation_review(peer, kept)
        command.document.update(cases=rows_of(table), warnings=monitor.warnings)
        shown = ("case", "reader", "state", "rating", "findings", "left", "seconds")
        columns = [table.column(name) for name in shown]
        cells = zip(*columns, strict=True)
        rows = [["" if v is None else f"{v:.0f}" if isinstance(v, float) else str(v) for v in row] for row in cells]
        command.table(list(shown), rows, right=(3, 4, 5, 6))
        done = sum(one.state == "done" for one in kept)
        command.say(f"{len(kept)} cases, {done} done")
        return 0

    execute(body, as_json=as_json, debug=debug)
