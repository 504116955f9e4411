"""Real models on real images give their known results. If one of these fails, no number of MedSeg can be trusted.

Expected values: the README of the real test data and the card of each model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medseg import Result, Volume, load_model, read_volume, run
from medseg.geometry.grid import Grid
from medseg.geometry.resample import resample
from medseg.pipeline.explain import explain
from support.geometry import CODES, rotation

MANIFESTS = Path(__file__).resolve().parents[1] / "real_models"
pytestmark = pytest.mark.real_data


def model(shared: Path, name: str):
    return load_model(MANIFESTS / f"{name}.json", weights=shared / "models" / name / "model.onnx")


def reference(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def millilitres(result: Result) -> dict[str, float]:
    table = result.tables["segments"]
    return dict(zip(table.column("segment"), table.column("volume_ml"), strict=True))


def assert_same_labels(result: Result, expected: np.ndarray, equal: float = 0.999, overlap: float = 0.995) -> None:
    (layer,) = result.layers
    assert np.mean(layer.labels == expected) >= equal
    for value in np.unique(expected[expected > 0]):
        assert dice(layer.labels == value, expected == value) >= overlap, f"class {value}"


@pytest.fixture(scope="module")
def t1(shared: Path) -> Volume:
    return read_volume(shared / "images" / "t1" / "t1_conformed_256.nii.gz")


def test_white_and_grey_matter_equal_the_original_framework(shared: Path, t1: Volume) -> None:
    result = run(model(shared, "meshnet-gwm-light"), t1)
    expected = reference(shared / "models/meshnet-gwm-light/reference_tfjs_postprocessed.nii.gz")
    assert_same_labels(result, expected)
    assert np.count_nonzero(result.layers[0].labels != expected) <= 20
    assert millilitres(result)["White matter"] == pytest.approx(518.539, rel=0.01)
    assert millilitres(result)["Grey matter"] == pytest.approx(735.030, rel=0.01)
    assert result.provenance["provider"].endswith("ExecutionProvider")


def test_the_larger_tissue_model_equals_the_original_framework(shared: Path, t1: Volume) -> None:
    result = run(model(shared, "meshnet-gwm"), t1)
    assert_same_labels(result, reference(shared / "models/meshnet-gwm/reference_tfjs.nii.gz"))
    assert millilitres(result)["White matter"] == pytest.approx(493.30, rel=0.01)
    assert millilitres(result)["Grey matter"] == pytest.approx(733.65, rel=0.01)


def test_seventeen_structures_equal_the_reference(shared: Path, t1: Volume) -> None:
    result = run(model(shared, "meshnet-subcortical-18"), t1)
    assert_same_labels(result, reference(shared / "models/meshnet-subcortical-18/onnx_labels_raw.nii.gz"))
    known = {"Thalamus": 18.98, "Caudate": 7.72, "Hippocampus": 8.12, "Brain Stem": 21.04, "Lateral Ventricle": 20.44}
    volumes = millilitres(result)
    for name, ml in known.items():
        assert volumes[name] == pytest.approx(ml, rel=0.01), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_skull_stripping_equals_the_reference(shared: Path, t1: Volume) -> None:
    result = run(model(shared, "meshnet-brain-mask"), t1)
    assert_same_labels(result, reference(shared / "models/meshnet-brain-mask/onnx_labels_raw.nii.gz"))
    assert millilitres(result)["Brain"] == pytest.approx(1647, rel=0.01)


def test_hippodeep_equals_its_own_program(shared: Path) -> None:
    volume = read_volume(shared / "images/t1/t1_1.75mm_LAS.nii.gz")
    result = run(model(shared, "hippodeep-head"), volume)
    for name, ml in (("brain", 1439.99), ("cerebrum", 1244.82)):
        expected = reference(shared / f"models/hippodeep-head/reference_{name}_mask.nii.gz") > 0
        assert dice(result.mask(name.capitalize()), expected) >= 0.999
        assert millilitres(result)[name.capitalize()] == pytest.approx(ml, rel=0.01)


def test_deepbrain_equals_its_own_program(shared: Path) -> None:
    result = run(model(shared, "deepbrain-extractor"), shared / "images/t1/t1_1.75mm_LAS.nii.gz")
    expected = reference(shared / "models/deepbrain-extractor/reference_mask_tf.nii.gz") > 0
    assert np.mean(result.mask("Brain") == expected) >= 0.999
    assert dice(result.mask("Brain"), expected) >= 0.995
    assert millilitres(result)["Brain"] == pytest.approx(1422, rel=0.01)


def test_lungs_on_a_ct_slice_equal_the_reference(shared: Path) -> None:
    result = run(model(shared, "lungct-unet-small"), shared / "images/lung-ct/slice.dcm")
    with np.load(shared / "models/lungct-unet-small/reference_0.npz") as known:
        expected = known["prob"] > 0.5
    mask = result.mask("Lungs")[0]
    assert np.mean(mask == expected) >= 0.999 and dice(mask, expected) >= 0.995
    assert np.count_nonzero(mask) == pytest.approx(46567, rel=0.01)
    assert any("modality" in sentence.lower() for sentence in result.warnings), "the file has no Modality tag"


def test_plain_hounsfield_units_give_the_wrong_lungs(shared: Path) -> None:
    """The negative test of the card: the offset step really reaches the network."""
    lungs = model(shared, "lungct-unet-small")
    steps = [s for s in lungs.manifest.preprocessing if s.step == "orient"]
    wrong = type(lungs)(**{**vars(lungs), "manifest": lungs.manifest.model_copy(update={"preprocessing": steps})})
    path = shared / "images/lung-ct/slice.dcm"
    volume = read_volume(path)
    inside = volume.array[run(wrong, volume).mask("Lungs")]
    assert inside.size and inside.mean() > 0, "a lung mask with a mean above 0 HU would be soft tissue"
    assert volume.array[run(lungs, volume).mask("Lungs")].mean() == pytest.approx(-623, abs=15)


@pytest.mark.parametrize("film", ["1", "2", "3", "4"])
def test_quantised_x_ray_classes_equal_the_original_framework(shared: Path, film: str) -> None:
    """Each score up to two quantisation levels apart, as the original framework's own kernels are, so their difference
    up to four: processors without 8-bit products (VNNI) round otherwise than those with them.

    The stored inputs were resized by a program that breaks ties between two pixels by float noise, so pixels differ.
    """
    classifier, path = model(shared, "cxr-mobilenet-quantised"), shared / "images/chest-xray" / f"{film}.jpg"
    with np.load(shared / "models/cxr-mobilenet-quantised/reference.npz") as stored:
        expected, levels = stored[f"{film}.jpg_in"], stored[f"{film}.jpg_tflite_u8"].astype(float)
    (fed,) = explain(classifier, path).tensors.values()
    assert fed.dtype == np.uint8 and fed.shape == expected.shape and np.mean(fed == expected) > 0.8
    scores = run(classifier, path).tables["slices"]
    found = np.array([scores.column(c.name)[0] for c in classifier.manifest.classes])
    scale = classifier.manifest.output.dequantise.scale
    apart = (np.log(found) - np.log(found[1])) / scale - (levels - levels[1])
    assert np.abs(apart).max() <= 4.05
    assert found.argmax() == levels.argmax() and found.sum() == pytest.approx(1)


@pytest.mark.parametrize("code", ["RAS", "SPL", "PIR"])
def test_the_same_head_stored_another_way_gives_the_same_tissue(shared: Path, t1: Volume, code: str) -> None:
    """Pure flips and permutations: identical labels at the same place in the patient."""
    tissue = model(shared, "meshnet-gwm-light")
    straight = run(tissue, t1)
    grid = t1.grid.reoriented(code)
    turned = run(tissue, Volume(resample(t1.array, t1.grid, grid), grid, t1.modality, t1.name))
    assert np.array_equal(resample(turned.layers[0].labels, grid, t1.grid), straight.layers[0].labels)


def test_the_same_head_under_any_orientation_code_gives_the_same_masks(shared: Path) -> None:
    """Twelve of the 48 codes, each axis order and its opposite hand, on a real volume that is not symmetric."""
    head = model(shared, "hippodeep-head")
    volume = read_volume(shared / "images/t1/t1_1.75mm_LAS.nii.gz")
    straight = run(head, volume)
    for code in CODES[::4]:
        grid = volume.grid.reoriented(code)
        turned = run(head, Volume(resample(volume.array, volume.grid, grid), grid, "MR", code))
        for name in ("Brain", "Cortex", "Cerebrum"):
            back = resample(turned.mask(name), grid, volume.grid)
            assert np.array_equal(back, straight.mask(name)), (code, name)


def rescanned(t1: Volume, angles: tuple[float, float, float], spacing: tuple[float, float, float]) -> Volume:
    """The same patient on another grid: rotated by ``angles`` (radians) about the head, with other voxels."""
    turn = rotation(angles)
    size = np.ceil(266 / np.array(spacing)).astype(int)
    middle = t1.grid.to_physical((np.array(t1.grid.size) - 1) / 2)
    direction = turn @ t1.grid.direction
    origin = middle - direction @ (np.array(spacing) * (size - 1) / 2)
    grid = Grid(tuple(size), spacing, tuple(origin), direction)
    array = resample(t1.array, t1.grid, grid, interpolation="bspline", fill=0)
    return Volume(np.clip(array, 0, 255), grid, "MR", "oblique head")


@pytest.mark.parametrize(
    ("angles", "spacing"), [((0.2, -0.15, 0.3), (0.95, 1.0, 1.1)), ((-0.3, 0.1, -0.2), (1.2, 0.9, 1.0))]
)
def test_an_oblique_scan_gives_the_same_brain_in_the_patient(shared: Path, t1: Volume, angles, spacing) -> None:
    brain = model(shared, "deepbrain-extractor")
    oblique = rescanned(t1, angles, spacing)
    found = resample(run(brain, oblique).mask("Brain"), oblique.grid, t1.grid, interpolation="nearest")
    assert dice(found, run(brain, t1).mask("Brain")) >= 0.99


@pytest.mark.slow
def test_an_oblique_scan_gives_the_same_tissue_in_the_patient(shared: Path, t1: Volume) -> None:
    """Sheets of two or three voxels, and a network that sees the blur of two interpolations: Dice about 0.93 here."""
    tissue = model(shared, "meshnet-gwm-light")
    oblique = rescanned(t1, (0.2, -0.15, 0.3), (0.95, 0.95, 0.95))
    straight, found = run(tissue, t1), run(tissue, oblique)
    for name in ("White matter", "Grey matter"):
        mask = straight.mask(name)
        there = resample(mask, t1.grid, oblique.grid, interpolation="nearest")
        limit = dice(resample(there, oblique.grid, t1.grid, interpolation="nearest"), mask)
        back = resample(found.mask(name), oblique.grid, t1.grid, interpolation="nearest")
        assert dice(back, mask) >= limit - 0.07, (name, limit)


@pytest.mark.parametrize("angles", [(0.3, 0.0, 0.0), (0.1, -0.4, 0.5)])
def test_a_tilted_header_turns_the_result_with_the_patient(shared: Path, t1: Volume, angles) -> None:
    """The same voxels under an oblique header: the network sees the same, so the labels are the same voxels."""
    head = model(shared, "hippodeep-head")
    turned = Grid(t1.grid.size, t1.grid.spacing, t1.grid.origin, rotation(angles) @ t1.grid.direction)
    straight = run(head, t1)
    tilted = run(head, Volume(t1.array, turned, "MR", "tilted head"))
    assert tilted.grid == turned
    for name in ("Brain", "Cerebrum"):
        assert dice(tilted.mask(name), straight.mask(name)) >= 0.9999


def test_provenance_names_what_ran(shared: Path, t1: Volume) -> None:
    provenance = run(model(shared, "meshnet-gwm-light"), t1, device="cpu").provenance
    assert provenance["provider"] == "CPUExecutionProvider"
    assert len(provenance["model"]["sha256"]) == 64
    assert {"read", "prepare", "infer", "restore", "clean", "measure", "total"} <= set(provenance["seconds"])
    assert provenance["versions"]["onnxruntime"]


def test_a_tilted_uneven_series_is_classified_slice_by_slice_at_the_true_positions(shared: Path) -> None:
    """Interpolated slices would give scores of images that were never taken, and no image to look them up in."""
    folder = shared / "images/head-ct-tilted"
    (fed,) = explain("ich-compact", folder).tensors.values()
    result = run("ich-compact", folder)
    table = result.tables["slices"]
    assert fed.shape[0] == len(table.rows) == 28
    heights = np.sort(np.array(table.column("centre_s_mm"), dtype=float))
    gaps = np.diff(heights)
    assert np.sort(gaps) == pytest.approx([1.14] + [4.22] * 13 + [7.38] * 13, abs=0.02)
    assert any("18.5" in w for w in result.warnings) and any("1.08" in w for w in result.warnings)
