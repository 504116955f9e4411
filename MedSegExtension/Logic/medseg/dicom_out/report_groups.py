"""Tables and a reader's decisions -> measurement groups of a report (TID 1411, 1410 and 1501 of PS3.16).

One for each segment, each lesion and each class of slice scores. A number goes in where the standard has a code for it;
units are UCUM. Numbers have the six digits of the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from .. import __version__
from ..io.dicom_source import DicomSource
from ..result import Cell, Result, SegmentClass, Table
from . import codes as c
from .codes import SegmentCodes, segment_codes
from .frames import frame_places
from .library import highdicom
from .origin import Origin
from .segmentation import SegmentationObject

_STATISTICS = {"mean": c.MEAN, "std": c.DEVIATION, "minimum": c.MINIMUM, "maximum": c.MAXIMUM}
_LESION_COLUMNS: dict[str, tuple[Code, Code]] = {
    "volume_mm3": (c.VOLUME, c.CUBIC_MM),
    "maximum_diameter_mm": (c.DIAMETER, c.MM),
    "sphericity": (c.SPHERICITY, c.ONE),
    "elongation": (c.ELONGATION, c.ONE),
    "flatness": (c.FLATNESS, c.ONE),
}
#: What a slice table has besides a column for each class.
_NO_SCORES = {"slice", "centre_r_mm", "centre_a_mm", "centre_s_mm", "sop_instance_uid"}


@dataclass(frozen=True)
class FindingDecision:
    """What a reader decided on one finding. ``centre``: RAS mm. ``state``: accepted, rejected, uncertain or "".

    ``name``: its class as the reader has it; ``model_name``: as the model had it. ``added``: the reader drew it.
    """

    id: int
    name: str
    model_name: str
    volume_ml: float
    centre: tuple[float, float, float]
    state: str = ""
    added: bool = False


@dataclass(frozen=True)
class Review:
    """The reader's work on a result. ``reader``: initials, "" where they were not given."""

    findings: tuple[FindingDecision, ...]
    reader: str = ""


class Groups:
    """The measurement groups of one report."""

    def __init__(
        self, result: Result, source: DicomSource, made: Sequence[SegmentationObject], origin: Origin,
        known: dict[str, SegmentClass],
    ) -> None:  # fmt: skip
        self.result, self.source, self.origin, self.known = result, source, origin, known
        self.object_of = {name: one for one in reversed(made) for name in one.numbers}
        self._frames = {id(one): frame_places(one.dataset, source) for one in made}
        self._algorithm = self._identified()

    # -- segments and lesions -----------------------------------------------------------------------------------

    def segments(self) -> Iterator[Any]:
        """A group for each row of the table ``segments``."""
        areas = {str(row["segment"]): row for row in _rows(self.result.tables.get("areas"))}
        counts: dict[str, int] = {}
        for row in _rows(self.result.tables.get("lesions")):
            counts[str(row["segment"])] = counts.get(str(row["segment"]), 0) + 1
        for row in _rows(self.result.tables.get("segments")):
            name = str(row["segment"])
            if name not in self.object_of:
                continue
            numbers = []
            if row.get("volume_ml") is not None:
                numbers.append(_measured(c.VOLUME, row["volume_ml"], c.MILLILITRE))
            if areas.get(name, {}).get("area_cm2") is not None:
                numbers.append(_measured(c.AREA, areas[name]["area_cm2"], c.SQUARE_CM))
            numbers += self._statistics(row)
            if self.known[name].lesion and "lesions" in self.result.tables:
                numbers.append(_measured(c.LESION_COUNT, counts.get(name, 0), c.ONE))
            yield self._group(name, name, self._tracking(name), numbers)

    def lesions(self, review: Review | None) -> Iterator[Any]:
        """A group for each lesion; where a reader went through them, for each finding, with the decision."""
        rows = list(_rows(self.result.tables.get("lesions")))
        if review is None or not review.findings:
            for one in rows:
                name = str(one["segment"])
                if name in self.object_of:
                    yield self._group(f"{name} {one['lesion']}", name, None, self._of_lesion(one))
            return
        for finding in review.findings:
            name = finding.name if finding.name in self.object_of else finding.model_name
            if name not in self.object_of:
                continue
            row = next((r for r in rows if _same(r, finding, self.result)), None)
            volume = float(finding.volume_ml) * 1000
            numbers = [_measured(c.VOLUME, volume, c.CUBIC_MM)] if row is None else self._of_lesion(row)
            states = [finding.state] + (["added"] if finding.added else [])
            said = [(c.DECISION, c.DECISIONS[s]) for s in states if s in c.DECISIONS]
            yield self._group(f"finding {finding.id}", name, None, numbers, said)

    def _of_lesion(self, row: dict[str, Cell]) -> list[Any]:
        numbers = [_measured(name, row[k], unit) for k, (name, unit) in _LESION_COLUMNS.items() if _is(row.get(k))]
        return numbers + self._statistics({"mean": row.get("mean")})

    def _statistics(self, row: dict[str, Cell]) -> list[Any]:
        of = {"CT": (c.ATTENUATION, c.HU), "MR": (c.MR_SIGNAL, c.ONE)}.get(self.source.modality or "")
        if of is None:
            return []
        return [_measured(of[0], row[k], of[1], code) for k, code in _STATISTICS.items() if _is(row.get(k))]

    def _group(
        self, identifier: str, name: str, tracking: str | None, numbers: list[Any],
        said: Sequence[tuple[Code, Code]] = (),
    ) -> Any:  # fmt: skip
        hd, coded = highdicom(), segment_codes(self.known[name])
        common = self._common(identifier, tracking, coded, numbers, said)
        one = self.object_of[name]
        if self.source.film:
            own = [n for n, (number, _) in enumerate(self._frames[id(one)], 1) if number in (0, one.numbers[name])]
            if not own:  # the class is not on the film: there is no frame to point to
                return hd.sr.MeasurementsAndQualitativeEvaluations(**common)
            return _by_segment(hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                referenced_segment=hd.sr.ReferencedSegmentationFrame(
                    sop_class_uid=one.dataset.SOPClassUID, sop_instance_uid=one.dataset.SOPInstanceUID,
                    frame_number=own[0], segment_number=one.numbers[name],
                    source_image=hd.sr.SourceImageForSegmentation.from_source_image(self.source.headers[0]),
                ),
                **common,
            ))  # fmt: skip
        return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=hd.sr.ReferencedSegment(
                sop_class_uid=one.dataset.SOPClassUID, sop_instance_uid=one.dataset.SOPInstanceUID,
                segment_number=one.numbers[name],
                source_series=hd.sr.SourceSeriesForSegmentation(self.source.headers[0].SeriesInstanceUID),
            ),
            **common,
        )  # fmt: skip

    def _common(
        self, identifier: str, tracking: str | None, coded: SegmentCodes, numbers: list[Any],
        said: Sequence[tuple[Code, Code]],
    ) -> dict[str, Any]:  # fmt: skip
        hd = highdicom()
        sites = None
        if coded.region is not None:
            sites = [hd.sr.FindingSite(coded.region, laterality=_laterality(coded.region_modifier))]
        return {
            "tracking_identifier": hd.sr.TrackingIdentifier(
                uid=tracking or generate_uid(prefix=None), identifier=identifier[:64]
            ),
            "finding_type": coded.type,
            "finding_category": coded.category,
            "finding_sites": sites,
            "algorithm_id": self._algorithm,
            "measurements": numbers or None,
            "qualitative_evaluations": [hd.sr.QualitativeEvaluation(name=n, value=v) for n, v in said] or None,
        }

    def _tracking(self, name: str) -> str | None:
        one = self.object_of[name]
        for segment in one.dataset.SegmentSequence:
            if int(segment.SegmentNumber) == one.numbers[name] and "TrackingUID" in segment:
                return str(segment.TrackingUID)
        return None

    # -- slice scores -------------------------------------------------------------------------------------------

    def scores(self) -> Iterator[Any]:
        """A group for each class of a classifier: its greatest and mean score, then that of each slice."""
        slices = self.result.tables.get("slices")
        overall = {str(row["class"]): row for row in _rows(self.result.tables.get("scores"))}
        names = [col.name for col in slices.columns if col.name not in _NO_SCORES] if slices else list(overall)
        hd = highdicom()
        for name in names:
            numbers = [
                _measured(c.CERTAINTY, 100 * float(overall[name][k]), c.PERCENT, _STATISTICS[k])  # type: ignore[arg-type]
                for k in ("maximum", "mean")
                if name in overall and _is(overall[name].get(k))
            ]
            for n, row in enumerate(_rows(slices)):
                images = self._image(n, row)
                if images is not None and _is(row.get(name)):
                    score = 100 * float(row[name])  # type: ignore[arg-type]
                    numbers.append(_measured(c.CERTAINTY, score, c.PERCENT, images=images))
            if not numbers:
                continue
            item = self.known.get(name)
            coded = (
                segment_codes(item) if item is not None and item.terminology else SegmentCodes(c.FINDING, _own(name))
            )
            common = self._common(name, None, coded, numbers, ())
            yield hd.sr.MeasurementsAndQualitativeEvaluations(**common)

    def _image(self, n: int, row: dict[str, Cell]) -> list[Any] | None:
        """The image of row ``n`` of the slices: by its UID, else by its place in the stack."""
        frames = self.source.frames
        uid = str(row.get("sop_instance_uid") or "")
        frame = frames[n] if n < len(frames) else None
        if uid and not self.source.multi_frame:
            frame = next((f for f in frames if str(f.header.SOPInstanceUID) == uid), None)
        elif len(_rows_of(self.result.tables.get("slices"))) != len(frames):
            return None
        if frame is None:
            return None
        number = [frame.number] if self.source.multi_frame else None
        return [highdicom().sr.SourceImageForMeasurement.from_source_image(frame.header, number)]

    def _identified(self) -> Any:
        if not (self.origin.name or self.origin.id):
            return None
        return highdicom().sr.AlgorithmIdentification(
            name=(self.origin.name or self.origin.id)[:64],
            version=(self.origin.version or "unknown")[:64],
            parameters=[f"model={self.origin.id}", f"sha256={self.origin.sha256}", f"medseg={__version__}"],
        )


def _measured(name: Code, value: Any, unit: Code, derivation: Code | None = None, images: Any = None) -> Any:
    number = float(f"{float(value):.6g}")
    return highdicom().sr.Measurement(
        name=name, value=number, unit=unit, derivation=derivation, referenced_images=images
    )  # fmt: skip


def _by_segment(group: Any) -> Any:
    """The group with references by segment alone: PS3.3 table 10-3 has either the segment or the frame."""
    stack = list(group)
    while stack:
        item = stack.pop()
        for reference in item.get("ReferencedSOPSequence") or []:
            if "ReferencedSegmentNumber" in reference and "ReferencedFrameNumber" in reference:
                del reference.ReferencedFrameNumber
        stack += item.get("ContentSequence") or []
    return group


def _laterality(modifier: Code | None) -> Code | None:
    """``modifier`` where it is one of the sides that TID 1502 takes."""
    return modifier if modifier is not None and modifier.value in ("7771000", "24028007", "51440002") else None


def _own(name: str) -> Code:
    """A code for a class to which its model gives none."""
    plain = "".join(ch if ch.isalnum() else "-" for ch in name)
    return Code(plain[:16], c.PRIVATE_SCHEME, name[:64])


def _same(row: dict[str, Cell], finding: FindingDecision, result: Result) -> bool:
    """Whether a row of the lesions is the finding: the same class and volume, centres within two voxels."""
    if row["segment"] not in (finding.name, finding.model_name):
        return False
    centre = np.array([row[f"centre_{axis}_mm"] for axis in "ras"], float)
    near = 2 * float(np.linalg.norm(result.grid.spacing))
    volume = float(row["volume_mm3"]) / 1000  # type: ignore[arg-type]
    return abs(volume - finding.volume_ml) <= 1e-4 * volume and float(np.linalg.norm(centre - finding.centre)) <= near


def _is(value: Cell) -> bool:
    return value is not None and not isinstance(value, str) and bool(np.isfinite(value))


def _rows(table: Table | None) -> Iterator[dict[str, Cell]]:
    yield from _rows_of(table)


def _rows_of(table: Table | None) -> list[dict[str, Cell]]:
    if table is None:
        return []
    return [dict(zip((col.name for col in table.columns), row, strict=True)) for row in table.rows]
