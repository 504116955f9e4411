"""``medseg review agreement``: two readers' ratings, decisions and masks held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, OutputError
from .console import Command, rows_of
from .execute import execute

if TYPE_CHECKING:
    from ..review.agreement import Agreement
    from ..review.readers import ReadersAgreement

_Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")]
_CASE, _RATING = ("filename", "case", "image"), ("rating",)
_FILES = ("agreement.csv", "disagreements.csv")


def agreement(
    one: Annotated[
        Path,
        typer.Argument(metavar="ONE", help="A reader's folder of reviews (reader-...), or a table: columns Filename "
                       "(or case) and Rating."),
    ],
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="The other reader's.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help=f"Also write {_FILES[0]}, and {_FILES[1]}, the list of "
                     "cases to read again (folders only)."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|CSV", help="The list that was read, so that the list of disagreements names "
                     "images and first masks."),
    ] = None,
    match: Annotated[
        str,
        typer.Option(metavar="overlap[:N]|iou:X|distance:MM", help="How lesions of the two masks are matched."),
    ] = "overlap",
    dice: Annotated[float, typer.Option(min=0, max=1, help="Masks of a smaller Dice disagree.")] = 0.8,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier tables.")] = False,
    as_json: _Json = False,
    debug: _Debug = False,
) -> None:  # fmt: skip
    """How far two readers agree: kappa of ratings and decisions, Dice and lesions of masks; the cases that differ."""

    def body(command: Command) -> int:
        if one.is_dir() != other.is_dir():
            raise InputError("Give two folders of reviews, or two tables of ratings, not one of each.")
        if not one.is_dir():
            if output is not None or cases is not None:
                raise InputError("--output and --cases need two folders of reviews; tables hold ratings only.")
            return _of_tables(command, one, other)
        from ..review.cases import find_cases
        from ..review.readers import compare_readers, write_disagreements
        from .compare import matching_of

        for name in _FILES if output is not None and not force else ():
            if (output / name).exists():  # type: ignore[operator]
                raise OutputError(f"{output} already holds {name}; choose another folder or use --force.")
        matching = matching_of(match)
        if matching is None:
            raise InputError("--match none: lesions of two readers are matched by overlap, iou or distance.")
        with command.reporter:
            command.reporter.begin(one.name)
            monitor = command.monitor()
            listed = find_cases(cases, monitor) if cases is not None else []
            found = compare_readers(one, other, matching=matching, monitor=monitor)
            table = found.table(dice)
            again = [case.case for case in found.cases if case.why(dice)]
            if output is not None:
                from ..output.files import save_text

                save_text(output / _FILES[0], table.to_csv())
                write_disagreements(output / _FILES[1], found, one, listed, dice=dice)
        command.document.update(
            readers=[found.one, found.other], cases=rows_of(table), ratings=_rating_figures(found.ratings),
            decisions={"both": len(found.decisions), "kappa": found.decisions_kappa,
                       "equal": sum(d[2] == d[3] for d in found.decisions)},
            masks={"mean_dice": found.mean_dice, "lesion_f1": found.lesion_f1},
            disagreements=again, missing=list(found.missing), warnings=monitor.warnings,
        )  # fmt: skip
        _say(command, found, dice)
        if output is not None:
            command.say(f"{output}: {', '.join(_FILES)}")
        return 0

    execute(body, as_json=as_json, debug=debug)


def _say(command: Command, found: ReadersAgreement, dice: float) -> None:
    rows = []
    for case in found.cases:
        lesions = [c.lesions.counts for c in case.classes]
        dices = [c.dice for c in case.classes if c.dice is not None]
        rows.append([
            case.case, *("" if r is None else str(r) for r in case.ratings),
            f"{len(case.decisions) - len(case.differ)} of {len(case.decisions)}",
            f"{min(dices):.3f}" if dices else "-",
            f"{sum(n.tp for n in lesions)} / {sum(n.fp for n in lesions)} / {sum(n.fn for n in lesions)}",
            "; ".join(case.why(dice)) or case.problem,
        ])  # fmt: skip
    a, b = found.one, found.other
    command.table(
        ["case", a, b, "decisions equal", "least Dice", f"lesions both / {a} / {b}", ""], rows, right=(1, 2, 4)
    )
    words = [("cases of both", str(len(found.cases))), *_rating_words(found.ratings)]
    equal = sum(d[2] == d[3] for d in found.decisions)
    words += [
        ("decisions equal", f"{equal} of {len(found.decisions)}"),
        ("kappa of decisions", _number(found.decisions_kappa)),
        ("mean Dice", _number(found.mean_dice)),
        ("F1 of lesions", _number(found.lesion_f1)),
        ("cases to read again", str(sum(bool(case.why(dice)) for case in found.cases))),
    ]
    command.table(["agreement", ""], [list(w) for w in words])
    if found.missing:
        command.say(f"only one reader has: {', '.join(found.missing)}")


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _rating_figures(found: Agreement) -> dict[str, object]:
    return {"cases": found.cases, "exact": found.exact, "kappa": found.kappa, "linear": found.linear,
            "quadratic": found.quadratic, "differ": [list(d) for d in found.differ]}  # fmt: skip


def _rating_words(found: Agreement) -> list[tuple[str, str]]:
    words = [("cases rated by both", str(found.cases))]
    words += [("equal ratings", f"{100 * found.exact:.1f} %")] if found.exact is not None else []
    for name, value in (
        ("Cohen's kappa", found.kappa), ("linear weights", found.linear), ("quadratic weights", found.quadratic)
    ):  # fmt: skip
        words.append((name, "not defined: both gave one answer to all" if value is None else f"{value:.3f}"))
    return words


def _of_tables(command: Command, one: Path, other: Path) -> int:
    from ..review.agreement import agreement as agree
    from ..review.case_file import RATINGS

    found = agree(_ratings(one), _ratings(other), sorted(RATINGS))
    if not found.cases:
        raise InputError(f"{one.name} and {other.name} have no case that both readers rated.")
    command.document.update(_rating_figures(found))
    command.table(["agreement", ""], [list(w) for w in _rating_words(found)])
    command.table(["case", one.stem, other.stem], [[c, str(a), str(b)] for c, a, b in found.differ], right=(1, 2))
    return 0


def _ratings(path: Path) -> dict[str, int | None]:
    """Case -> rating of a table with a header; the form of SegmentationReview's CSV is one such."""
    from ..review.cases import read_rows

    rows = read_rows(path)
    names = list(rows[0]) if rows else []
    case = next((n for n in _CASE if n in names), None)
    rating = next((n for n in _RATING if n in names), None)
    if case is None or rating is None:
        raise InputError(
            f"{path.name} needs the columns Filename (or case) and Rating; it has {', '.join(names) or 'none'}."
        )
    found: dict[str, int | None] = {}
    for row in rows:
        text = (row.get(rating) or "").strip()
        try:
            found[row.get(case) or ""] = int(float(text)) if text else None
        except ValueError:
            raise InputError(f"{path.name}: the rating {text[:40]!r} is no number from 1 to 5.") from None
    return found
