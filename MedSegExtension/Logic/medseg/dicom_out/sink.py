"""The DICOM objects as a sink of `medseg.output`: a folder ``dicom`` in the folder of the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import MedSegError
from ..geometry.volume import Volume
from ..io.dicom_source import DicomSource, read_source
from ..monitor import Monitor
from ..result import Result, SegmentClass
from .library import quietly
from .write import DicomOptions, build, check_source, save

FOLDER = "dicom"


@dataclass(eq=False)
class DicomSink:
    """Made before the run, since images that cannot be referred to are a reason not to begin.

    What goes wrong when it writes is kept until `check` is called: the other files of the result are not lost by it.
    """

    source: DicomSource
    options: DicomOptions
    classes: tuple[SegmentClass, ...] = ()
    _error: MedSegError | None = field(default=None, init=False)

    @classmethod
    def of(
        cls, images: Path, options: DicomOptions, *, series: str | int | None, frame: int | None, monitor: Monitor,
        classes: tuple[SegmentClass, ...] = (),
    ) -> DicomSink:  # fmt: skip
        """The sink for a result of ``images``. ``classes``: the model's, for the codes of slice scores.

        Raises `InputError` where the images cannot be referred to.
        """
        source = read_source(images, series=series, frame=frame, monitor=monitor)
        return cls(check_source(source, options, monitor), options, classes)

    def __call__(self, result: Result, volume: Volume, folder: Path, model: Any, monitor: Monitor) -> None:
        """Write the objects of ``result`` into the folder ``dicom`` of ``folder``."""
        try:
            with quietly():
                objects = build(result, self.source, self.options, monitor, classes=self.classes)
                if objects:
                    save(objects, folder / FOLDER, monitor)
            if not objects:
                monitor.warn("The result has neither segments nor measurements: no DICOM objects were written.")
        except MedSegError as error:
            self._error = error
            raise

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self._error is not None:
            raise self._error
