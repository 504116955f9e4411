"""Structured Reports: the numbers of the tables, with standard codes, and what a reader decided."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicom_out.test_segmentation import PIXELS, places, result_of, source_of
from medseg.dicom_out.report_groups import FindingDecision, Review
from medseg.dicom_out.write import DicomOptions, write_dicom
from medseg.errors import InputError
from medseg.io import read_volume
from medseg.io.dicom_report import read_report
from medseg.io.dicom_source import read_source
from medseg.measure.segments import measure, slice_table, volume_scores
from medseg.result import Result
from support.dicom_images import write_film, write_series

pytest.importorskip("highdicom", reason="highdicom is not installed (pip install 'medseg[dicom]')")


def measured(path: Path, frame: int | None = None) -> Result:
    """The result of `result_of` with its tables, as a run gives them."""
    result, volume = result_of(path, frame), read_volume(path, frame=frame)
    result.tables.update(measure(result.layers, volume.array, volume.grid, unit="HU", projection=volume.is_projection))
    return result


@pytest.mark.parametrize("kind", ["tilted", "enhanced", "film"])
def test_the_numbers_are_those_of_the_tables(tmp_path: Path, kind: str) -> None:
    """The archive would hold other volumes than the reader saw."""
    path, frame = source_of(kind, tmp_path)
    result = measured(path, frame)
    files = write_dicom(result, path, tmp_path / "out")
    seg, groups = pydicom.dcmread(files[0]), read_report(files[-1])
    by_name = {group.name: group for group in groups}
    for row in result.tables["segments"].rows:
        name, volume = str(row[0]), row[3]
        group = by_name[name]
        assert group.segment == (seg.SOPInstanceUID, list(seg.SegmentSequence)[_index(seg, name)].SegmentNumber)
        assert group.uid == list(seg.SegmentSequence)[_index(seg, name)].TrackingUID
        if kind != "film":
            assert group.number("Volume") == pytest.approx(volume, rel=1e-5)
            assert next(n.unit for n in group.numbers if n.name == "Volume") == "ml"
        if kind == "tilted":
            assert group.number("Attenuation Coefficient", "Mean") == pytest.approx(row[5], rel=1e-5)
    lesions = [g for g in groups if g.name.startswith("lesion ")]
    table = result.tables["lesions"]
    assert len(lesions) == len(table.rows) > 0 and by_name["lesion"].number("Number of lesions") == len(table.rows)
    for group, volume, diameter in zip(lesions, table.column("volume_mm3"), table.column("maximum_diameter_mm"),
                                       strict=True):  # fmt: skip
        assert group.number("Volume") == pytest.approx(volume, rel=1e-5)
        assert group.number("Maximum 3D Diameter of a Mesh") == pytest.approx(diameter, rel=1e-5)


def _index(seg: pydicom.Dataset, name: str) -> int:
    return [s.SegmentLabel for s in seg.SegmentSequence].index(name)


def test_slice_scores_point_to_their_images(tmp_path: Path) -> None:
    """A score could not be traced to the slice that it is of."""
    write_series(tmp_path / "s", PIXELS, places([10.0, 8, 6, 4, 2, 0]))
    volume, source = read_volume(tmp_path / "s"), read_source(tmp_path / "s")
    scores = np.linspace(0, 1, 12).reshape(6, 2).astype(np.float32)
    grids = [volume.grid.slice(2, n) for n in range(6)]
    tables = {
        "slices": slice_table(scores, ["any", "subdural"], grids, volume.tags["SOPInstanceUID"]),
        "scores": volume_scores(scores, ["any", "subdural"]),
    }
    files = write_dicom(Result(volume.grid, tables=tables), source, tmp_path / "out")
    assert [f.name for f in files] == ["report.dcm"]
    anything, subdural = read_report(files[0])
    assert [n.image for n in subdural.numbers if n.image] == [str(f.header.SOPInstanceUID) for f in source.frames]
    assert [n.value for n in subdural.numbers if n.image] == pytest.approx(100 * scores[:, 1], abs=1e-3)
    assert subdural.number("Certainty of Finding", "Maximum") == 100 and anything.finding == "any"
    assert {n.unit for n in subdural.numbers} == {"%"}


def test_decisions_of_the_reader_are_in_the_report(tmp_path: Path) -> None:
    """The archive would show a lesion that the reader rejected as if nobody had looked."""
    path, _ = source_of("ascending", tmp_path)
    result = measured(path)
    row = dict(zip([c.name for c in result.tables["lesions"].columns], result.tables["lesions"].rows[0], strict=True))
    centre = tuple(row[f"centre_{a}_mm"] for a in "ras")
    findings = (
        FindingDecision(4, "lesion", "lesion", row["volume_mm3"] / 1000, centre, "rejected"),
        FindingDecision(9, "bone", "lesion", 0.5, (0.0, 0.0, 0.0), "accepted", added=True),
    )
    file = write_dicom(result, path, tmp_path / "out", review=Review(findings, "AB"))[-1]
    groups = {g.name: g for g in read_report(file)}
    question = "Reader's decision on the finding"
    assert groups["finding 4"].said == ((question, "Rejected by the reader"),)
    assert groups["finding 4"].number("Maximum 3D Diameter of a Mesh") > 0
    assert groups["finding 9"].said == ((question, "Accepted by the reader"), (question, "Drawn by the reader"))
    assert groups["finding 9"].number("Volume") == 500 and "lesion 1" not in groups
    raw = pydicom.dcmread(file)
    assert raw.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99MEDSEG"
    assert b"AB^" in file.read_bytes() and raw.VerificationFlag == "UNVERIFIED"


def test_a_report_without_the_masks_of_a_film_names_no_one_when_asked(tmp_path: Path) -> None:
    """The name of the patient would leave the hospital in the report."""
    path = write_film(tmp_path / "f.dcm", (PIXELS[0] % 255).astype(np.uint8))
    file = write_dicom(measured(path), path, tmp_path / "out", options=DicomOptions(deidentified=True))[-1]
    assert file.name == "report.dcm" and b"Example" not in file.read_bytes()


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    """A damaged file would be shown as a report without findings."""
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM\2\0")
    (image,) = write_series(tmp_path / "s", PIXELS[:1], places([0.0]))
    for path in (tmp_path / "a.dcm", image):
        with pytest.raises(InputError):
            read_report(path)
