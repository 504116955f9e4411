"""``medseg dicom``: an earlier result, or any mask, as DICOM objects on its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, OutputError
from .console import Command
from .execute import execute

if TYPE_CHECKING:
    from ..dicom_out.report_groups import Review
    from ..review.case_file import CaseReview


def register(app: typer.Typer, epilog: str) -> None:
    """Add the command."""
    app.command("dicom", epilog=epilog)(dicom)


def dicom(
    mask: Annotated[Path, typer.Argument(metavar="RESULT", help="The folder of a run, or any mask file.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="The DICOM images that it was made from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the DICOM objects.")],
    case: Annotated[
        Path | None, typer.Option("--case", metavar="FOLDER", help="Where its review is kept (review.json).")
    ] = None,
    names: Annotated[Path | None, typer.Option(help="Table of label names, for a plain label map.")] = None,
    series: Annotated[str | None, typer.Option(help="Number or UID of the DICOM series.")] = None,
    frame: Annotated[int | None, typer.Option(min=1, help="Time, echo or b-value of a 4D image.")] = None,
    form: Annotated[
        str, typer.Option("--dicom-form", metavar="binary|labelmap|both", help="Form of the masks.")
    ] = "binary",
    deidentify: Annotated[bool, typer.Option("--deidentify", help="DICOM objects that name nobody.")] = False,
    film_plane: Annotated[
        bool, typer.Option("--film-plane", help="Masks on films get a made-up plane, which OHIF and Slicer need.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier objects in the output folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and details on stderr.")] = False,
) -> None:
    """Write a DICOM Segmentation and a Structured Report of RESULT onto IMAGES, with a reader's decisions if any."""

    def body(command: Command) -> int:
        from ..dicom_out.earlier import earlier_result
        from ..dicom_out.write import dicom_options, write_dicom
        from ..io import read_volume
        from ..io.dicom_source import read_source
        from ..review.case_file import newest_mask, read_case

        options = dicom_options(form, deidentify, film_plane)
        if not force and output.is_dir() and any(output.glob("*.dcm")):
            raise OutputError(f"{output} holds DICOM files already; choose another folder, or --force.")
        monitor = command.monitor()
        source = read_source(images, series=series, frame=frame, monitor=monitor)
        volume = read_volume(images, series=series, frame=frame, monitor=monitor)
        kept = read_case(case, monitor) if case is not None else None
        if case is not None and kept is None:
            raise InputError(f"{case.name} holds no review (review.json); give the folder where it is kept.")
        corrected = newest_mask(case, kept, monitor) if case is not None and kept is not None else None
        result = earlier_result(mask, volume, names=names, corrected=corrected, monitor=monitor)
        review = None if kept is None else review_of(kept)
        files = write_dicom(result, source, output, options=options, review=review, monitor=monitor)
        command.document.update(files=[str(f) for f in files], warnings=monitor.warnings)
        command.say(f"{output}: {', '.join(f.name for f in files)}")
        return 0

    execute(body, as_json=as_json, debug=debug)


def review_of(kept: CaseReview) -> Review:
    """The decisions of a review as a report has them."""
    from ..dicom_out.report_groups import FindingDecision, Review

    return Review(
        tuple(
            FindingDecision(
                int(one["id"]), str(one["class"]), str(one["model_class"]), float(one["volume_ml"]),
                tuple(float(v) for v in one["centre"]), str(one.get("state", "")), bool(one.get("added")),  # type: ignore[arg-type]
            )
            for one in kept.findings
        ),
        kept.reader,
    )  # fmt: skip
