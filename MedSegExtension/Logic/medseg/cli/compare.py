"""``medseg compare``, ``evaluate`` and ``followup``: masks held against a reference, another model, another date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, OutputError
from .console import Command, rows_of
from .evaluate_scores import FILES, evaluate_tables
from .execute import execute

if TYPE_CHECKING:
    from ..compare.masks import Matching
    from ..io import Segmentation
    from ..result import Result, Table

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace an earlier result in the output folder.")]
_Pairs = Annotated[
    list[str] | None,
    typer.Option("--pair", metavar="PREDICTED=REFERENCE", help="Classes that belong together; repeat for each."),
]
_Names = Annotated[Path | None, typer.Option(help="Table of label names, for plain label maps.")]
_Tolerance = Annotated[float, typer.Option(min=0, help="Tolerance of the surface Dice in mm.")]
_Match = Annotated[
    str,
    typer.Option(metavar="overlap[:N]|iou:X|distance:MM|none", help="How lesions are matched: by shared voxels, by "
                 "intersection over union, by the distance of their centres in mm, or not at all."),
]  # fmt: skip


def register(app: typer.Typer, epilog: str) -> None:
    """Add the commands of this module."""
    app.command("compare", epilog=epilog)(compare)
    app.command("evaluate", epilog=epilog)(evaluate)
    app.command("followup", epilog=epilog)(followup)


def compare(
    prediction: Annotated[Path, typer.Argument(metavar="A", help="A segmentation, or the folder of a run.")],
    reference: Annotated[Path, typer.Argument(metavar="B", help="What it is held against.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for tables, and what agrees and differs as segments.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="The image, for pictures.")] = None,
    pair: _Pairs = None,
    names: _Names = None,
    match: _Match = "overlap",
    tolerance: _Tolerance = 1.0,
    force: _Force = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Compare segmentation A with B, class by class: overlap, volumes, distances of surfaces, lesions."""

    def body(command: Command) -> int:
        from ..compare.lesion_table import lesion_table
        from ..compare.pairs import compare_segmentations
        from ..io import read_segmentation
        from ..result import Result

        with command.reporter:
            monitor = command.monitor()
            one = read_segmentation(prediction, names=names, monitor=monitor)
            other = read_segmentation(reference, names=names, monitor=monitor)
            found = compare_segmentations(
                one, other, pairs=_pairs(pair), tolerance_mm=tolerance, matching=matching_of(match), monitor=monitor
            )
            table, matching = found.table(), matching_of(match)
            tables = {"comparison": table}
            if matching is not None:
                tables["lesion_comparison"] = lesion_table(found, matching, (one.name, other.name))
            result = Result(
                found.grid, found.layers(), tables=tables,
                provenance=_provenance("comparison", one, other, match=match, tolerance_mm=tolerance),
                warnings=tuple(monitor.warnings), notes=tuple(monitor.notes),
            )  # fmt: skip
            if output is not None:
                _write(result, output, image, force, monitor, command)
        command.document.update(classes=rows_of(table), warnings=monitor.warnings, notes=monitor.notes)
        _say_figures(command, table, "class")
        return 0

    execute(body, as_json=as_json, debug=debug)


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder of segmentations or of runs; a table of scores.")
    ],
    references: Annotated[
        Path, typer.Argument(metavar="REFERENCES", help="Folder of reference segmentations or of reviews; a table.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for tables and box plots.")] = ...,  # type: ignore[assignment]
    versus: Annotated[
        Path | None, typer.Option(metavar="PREDICTIONS", help="Another model's, compared with the first.")
    ] = None,
    pair: _Pairs = None,
    match: _Match = "overlap",
    tolerance: _Tolerance = 1.0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Of a classifier's scores.")] = 0.5,
    force: _Force = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Compare each case of a folder with its reference: a table of cases, means with 95 % intervals, box plots.

    Of a classifier: AUC, sensitivity, specificity, log loss and calibration of its scores of slices, held against
    readers' answers (the folder of their reviews) or a table of truths.
    """

    def body(command: Command) -> int:
        from ..compare import cohort
        from ..compare.plots import box_plots
        from ..compare.scores import is_scores

        if is_scores(predictions):
            _check_free(output, FILES, force)
            if versus is not None or pair:
                raise InputError("--versus and --pair are for masks; evaluate each classifier by itself.")
            return evaluate_tables(command, predictions, references, output, threshold)

        _check_free(output, ("cases.csv", "summary.csv", "versus.csv"), force)
        with command.reporter:
            command.reporter.begin(predictions.name)
            monitor = command.monitor()
            options: dict[str, Any] = {
                "classes": _pairs(pair), "tolerance_mm": tolerance, "matching": matching_of(match), "monitor": monitor
            }  # fmt: skip
            sides = {}
            for name, folder in (("first", predictions), ("second", versus)):
                if folder is None:
                    continue
                pairing = cohort.pair_folders(folder, references)
                for paths, where in ((pairing.only_predictions, references), (pairing.only_references, folder)):
                    if paths:
                        listed = ", ".join(p.name for p in paths[:5]) + (", ..." if len(paths) > 5 else "")
                        monitor.warn(f"{len(paths)} files have no partner in {where.name} and were left out: {listed}.")
                sides[name] = cohort.evaluate(pairing.pairs, **options)
            tables = {"cases": sides["first"].table(), "summary": sides["first"].summary()}
            if "second" in sides:
                tables |= {"cases_second": sides["second"].table(), "versus": cohort.versus(*sides.values())}
            labels = [predictions.name, versus.name] if versus is not None else [predictions.name]
            written = _write_tables(output, tables)
            written += box_plots(output, dict(zip(labels, sides.values(), strict=True)), monitor)
        command.document.update(
            {name: rows_of(table) for name, table in tables.items()},
            files=[p.name for p in written], warnings=monitor.warnings, notes=monitor.notes,
        )  # fmt: skip
        _say_summary(command, tables["summary"])
        if "versus" in tables:
            _say_versus(command, tables["versus"], labels)
        command.say(f"{output}: {', '.join(p.name for p in written)}")
        return 2 if any(side.failed for side in sides.values()) else 0

    execute(body, as_json=as_json, debug=debug)


def followup(
    baseline: Annotated[Path, typer.Argument(metavar="IMAGE1", help="The earlier image.")],
    baseline_mask: Annotated[Path, typer.Argument(metavar="MASK1", help="Its segmentation.")],
    later: Annotated[Path, typer.Argument(metavar="IMAGE2", help="The later image.")],
    later_mask: Annotated[Path, typer.Argument(metavar="MASK2", help="Its segmentation.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the result.")] = ...,  # type: ignore[assignment]
    segment: Annotated[str | None, typer.Option(help="The class to follow (default: the only one in both).")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The images lie on each other already.")] = False,
    percent: Annotated[float, typer.Option(min=0, help="A lesion has changed from so many percent.")] = 25.0,
    least: Annotated[float, typer.Option(min=0, help="... and so many ml.")] = 0.02,
    force: _Force = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:
    """Follow lesions over two dates: rigid alignment, then new, gone, grown, shrunk and stable lesions."""

    def body(command: Command) -> int:
        from ..compare.align import IDENTITY, align
        from ..compare.followup import Change, follow_up
        from ..io import read_segmentation, read_volume
        from ..output.folder import check_output
        from ..result import Result

        check_output(output, force=force)
        with command.reporter:
            monitor = command.monitor()
            first, second = read_volume(baseline, monitor=monitor), read_volume(later, monitor=monitor)
            one = read_segmentation(baseline_mask, monitor=monitor)
            other = read_segmentation(later_mask, monitor=monitor)
            name = _followed(one, other, segment)
            with monitor.stage("prepare"):
                alignment = IDENTITY if aligned else align(first, second, monitor)
            names = [next(c.name for c in s.classes if c.name.casefold() == name.casefold()) for s in (one, other)]
            found = follow_up(
                name, one.mask(names[0]), one.grid, other.mask(names[1]), other.grid, alignment, Change(percent, least)
            )
            provenance = _provenance(
                "follow-up", one, other, alignment=alignment.matrix.tolist(), translation_mm=alignment.translation_mm,
                rotation_degrees=alignment.rotation_degrees, percent=percent, ml=least,
            )  # fmt: skip
            tables = {"followup": found.table(), "changes": found.summary()}
            result = Result(
                found.grid, (found.layer(),), tables=tables, provenance=provenance,
                warnings=tuple(monitor.warnings), notes=tuple(monitor.notes),
            )  # fmt: skip
            _write(result, output, baseline, force, monitor, command)
        command.document.update(
            {n: rows_of(t) for n, t in tables.items()}, warnings=monitor.warnings, notes=monitor.notes
        )
        if not aligned:
            command.say(
                f"moved by {alignment.translation_mm:.1f} mm and {alignment.rotation_degrees:.1f} degrees onto "
                f"{first.name}"
            )
        command.table(
            ["state", "lesions", "baseline ml", "follow-up ml"],
            [[str(s), str(n), f"{float(b or 0):.3g}", f"{float(f or 0):.3g}"] for s, n, b, f in tables["changes"].rows],
            right=(1, 2, 3),
        )
        return 0

    execute(body, as_json=as_json, debug=debug)


def matching_of(text: str) -> Matching | None:
    """``overlap``, ``overlap:N``, ``iou:X``, ``distance:MM`` or ``none`` as a rule for lesions."""
    from ..compare.masks import Matching

    rule, _, number = text.strip().lower().partition(":")
    try:
        if rule == "none" and not number:
            return None
        if rule == "overlap":
            return Matching(overlap=int(number or 1))
        if rule == "iou" and 0 < float(number) <= 1:
            return Matching(iou=float(number))
        if rule == "distance" and float(number) >= 0:
            return Matching(distance_mm=float(number))
    except ValueError:
        pass
    raise InputError(f"--match {text!r} is none of overlap, overlap:VOXELS, iou:SHARE, distance:MM, none.")


def _pairs(given: list[str] | None) -> dict[str, str] | None:
    if not given:
        return None
    found = {}
    for text in given:
        one, sign, other = text.partition("=")
        if not sign or not one or not other:
            raise InputError(f"--pair {text!r} is not of the form PREDICTED=REFERENCE.")
        found[one] = other
    return found


def _followed(one: Segmentation, other: Segmentation, wanted: str | None) -> str:
    names = {c.name.casefold(): c.name for c in one.classes}
    both = [names[c.name.casefold()] for c in other.classes if c.name.casefold() in names]
    if wanted is not None and wanted.casefold() in (b.casefold() for b in both):
        return wanted
    if wanted is None and len(both) == 1:
        return both[0]
    listed = ", ".join(both) or "no class"
    raise InputError(f"{one.name} and {other.name} have {listed} in common; choose one with --segment.")


def _provenance(what: str, one: Segmentation, other: Segmentation, **more: Any) -> dict[str, Any]:
    from .. import __version__

    title = f"{one.name} and {other.name}: {what}"
    return {"medseg": __version__, "kind": what, "title": title, "compared": [one.name, other.name], **more}


def _write(result: Result, output: Path, image: Path | None, force: bool, monitor: Any, command: Command) -> None:
    """As a run's result: segments, tables, and scene and picture over ``image`` where there is one."""
    from ..geometry.volume import Volume
    from ..io import read_volume
    from ..output.folder import write_result

    volume = read_volume(image, monitor=monitor) if image is not None else Volume(result.layers[0].labels, result.grid)
    on_image = volume.grid.same_as(result.grid)
    if image is not None and not on_image:
        monitor.warn(f"{image.name} is not on the voxels of the segmentation, so no picture was made.")
    write_result(result, output, volume=volume, force=force, monitor=monitor, sinks=None if image and on_image else ())
    command.say(f"{output}: {', '.join(sorted(p.name for p in output.iterdir()))}")


def _check_free(output: Path, names: tuple[str, ...], force: bool) -> None:
    if output.exists() and not output.is_dir():
        raise OutputError(f"The output folder {output} is a file; choose a folder.")
    there = [name for name in names if (output / name).exists()]
    if there and not force:
        raise OutputError(f"{output} already holds {there[0]}; choose another folder or use --force to replace it.")


def _write_tables(output: Path, tables: dict[str, Table]) -> list[Path]:
    from ..output.files import save_text

    return [save_text(output / f"{name}.csv", table.to_csv()) for name, table in tables.items()]


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _say_figures(command: Command, table: Table, first: str) -> None:
    """Turned, since there are more figures than fit beside each other."""
    names = [str(v) for v in table.column(first)]
    rows = [
        [c.name + (f" ({c.unit})" if c.unit else ""), *(_number(v) for v in table.column(c.name))]
        for c in table.columns
        if c.name != first
    ]
    command.table(["figure", *names], rows, right=tuple(range(1, len(names) + 1)))


def _say_summary(command: Command, table: Table) -> None:
    wanted = ("dice", "precision", "recall", "volume_difference", "hd95", "assd", "surface_dice", "lesion_f1")
    rows = []
    for row in rows_of(table):
        if row["figure"] in wanted:
            interval = "-" if row["low"] is None else f"{row['low']:.3g} to {row['high']:.3g}"
            figure = f"{row['figure']} ({row['unit']})" if row["unit"] else str(row["figure"])
            rows.append([str(row["class"]), figure, str(row["cases"]), _number(row["mean"]), interval,
                         _number(row["median"])])  # fmt: skip
    command.table(["class", "figure", "cases", "mean", "95 % interval", "median"], rows, right=(2, 3, 5))


def _say_versus(command: Command, table: Table, labels: list[str]) -> None:
    rows = [
        [
            str(r["class"]),
            str(r["figure"]),
            str(r["cases"]),
            *(_number(r[k]) for k in ("first", "second", "p", "effect")),
        ]
        for r in rows_of(table)
        if r["figure"] in ("dice", "hd95", "surface_dice", "lesion_f1")
    ]
    command.table(["class", "figure", "cases", *labels, "p", "effect"], rows, right=(2, 3, 4, 5, 6))
