"""`write_dicom`: the DICOM objects of a result into a folder, all or none."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError, OutputError, not_written
from ..io.dicom_source import DicomSource, read_source
from ..monitor import Monitor
from ..result import Result, SegmentClass
from .film import give_plane
from .identity import mark_deidentified, prepared
from .library import highdicom, quietly
from .origin import Origin
from .report import report
from .report_groups import Review
from .segmentation import SegmentationObject, binary, label_maps, probabilities

Form = Literal["binary", "labelmap", "both"]
FORMS: tuple[Form, ...] = ("binary", "labelmap", "both")


@dataclass(frozen=True)
class DicomOptions:
    """``form``: of the masks. ``deidentified``: nobody is named. ``report``: also the Structured Report.

    ``film_plane``: masks on films lie in a plane that is made up, which viewers of slices need to show them.
    """

    form: Form = "binary"
    deidentified: bool = False
    report: bool = True
    film_plane: bool = False

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"{self.form!r} is no form of DICOM masks; they are: {', '.join(FORMS)}.")


def dicom_options(form: str, deidentified: bool, film_plane: bool = False) -> DicomOptions:
    """The options as a command line gives them. Raises `InputError` where ``form`` is none."""
    return DicomOptions(form, deidentified, film_plane=film_plane)  # type: ignore[arg-type]


def check_source(source: DicomSource, options: DicomOptions, monitor: Monitor) -> DicomSource:
    """``source`` made ready for `write_dicom`; worth asking before a long run.

    Raises `InputError` where highdicom is missing, or its images cannot be referred to.
    """
    highdicom()
    return prepared(source, deidentified=options.deidentified, monitor=monitor)


def write_dicom(
    result: Result,
    images: DicomSource | str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    options: DicomOptions | None = None,
    review: Review | None = None,
    classes: Sequence[SegmentClass] = (),
    monitor: Monitor | None = None,
) -> list[Path]:
    """Write the DICOM objects of ``result`` into ``folder`` and return their paths.

    ``images``: what the first volume was read from: a folder, file, DICOMDIR, a list of files, or `read_source`.
    ``review``: a reader's decisions, for the report. ``classes``: the model's, which give slice scores their codes.
    Raises `InputError` where that cannot be referred to or the result does not lie on it, `OutputError` where
    nothing can be written; nothing is then left behind.
    """
    options, monitor = options or DicomOptions(), monitor or Monitor()
    with quietly():
        source = images if isinstance(images, DicomSource) else read_source(images, monitor=monitor)
        objects = build(result, check_source(source, options, monitor), options, monitor, review, classes)
        if not objects:
            raise InputError("The result has neither segments nor measurements, so there is nothing to write as DICOM.")
        return save(objects, Path(folder), monitor)


def build(
    result: Result,
    source: DicomSource,
    options: DicomOptions,
    monitor: Monitor,
    review: Review | None = None,
    classes: Sequence[SegmentClass] = (),
) -> dict[str, Any]:
    """The objects by file name. ``source``: from `check_source`."""
    origin = Origin.of(result)
    made: list[SegmentationObject] = []
    if result.layers:
        monitor.progress(0, 3, "DICOM segmentation")
        if options.form in ("binary", "both"):
            made.append(binary(result, source, origin))
        if options.form in ("labelmap", "both"):
            made += label_maps(result, source, origin)
        monitor.checkpoint()
    masks = list(made)
    if result.probabilities:
        monitor.progress(1, 3, "DICOM probabilities")
        made += probabilities(result, source, origin)
        monitor.checkpoint()
    if options.film_plane and source.film:
        for one in made:
            give_plane(one.dataset, source)
        monitor.warn(
            f"{source.name} is a film, which has no place in the patient: the one that its segments have now is made "
            "up, in a frame of reference of their own."
        )
    objects = {one.file: one.dataset for one in made}
    if options.report:
        monitor.progress(2, 3, "DICOM report")
        # one set of masks is referred to: the binary one where there is one
        referred = [m for m in masks if m.file == "segmentation.dcm"] or masks
        document = report(result, source, referred, origin, review, classes)
        if document is not None:
            objects["report.dcm"] = document
    if options.deidentified:
        for dataset in objects.values():
            mark_deidentified(dataset)
    return objects


def save(objects: dict[str, Any], folder: Path, monitor: Monitor) -> list[Path]:
    """Write ``objects`` by file name: into a hidden folder first, then moved in when all are complete."""
    stage = folder / f".medseg-{secrets.token_hex(6)}"
    made = not folder.exists()
    try:
        stage.mkdir(parents=True)
        for n, (name, dataset) in enumerate(objects.items()):
            monitor.progress(n, len(objects), name)
            dataset.save_as(stage / name)
            monitor.checkpoint()
        for name in objects:
            (stage / name).replace(folder / name)
        made = False
    except OSError as error:
        raise OutputError(not_written(folder / next(iter(objects)), error)) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return [folder / name for name in objects]
