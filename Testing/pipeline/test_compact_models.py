"""The models that are shipped: each runs through the pipeline on phantoms it was never trained on, and finds things.

The floors lie below the held-out figures in the models' cards, and far above what an untrained network reaches.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from scipy import ndimage

from medseg.io import read_volume
from medseg.model.manifest import Manifest
from medseg.phantoms import HAEMORRHAGES, chest_xray, flair, head_ct, swi, write_dicom_series
from medseg.pipeline.run import run

COMPACT = ("ich-compact", "cmb-compact", "lungs-compact", "wmh-compact")
HELD_OUT = 100_000  # phantom seeds from here on were not trained on (Testing/training)


@pytest.fixture(scope="session")
def models(repository: Path) -> Path:
    return repository / "MedSegExtension" / "Resources" / "Models"


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * int((a & b).sum()) / max(int(a.sum()) + int(b.sum()), 1)


@pytest.mark.parametrize("name", COMPACT)
def test_package_is_complete_small_and_says_what_it_is(models: Path, name: str):
    text = (models / name / "manifest.json").read_text(encoding="utf-8")
    manifest = Manifest.model_validate(json.loads(text))
    weights = models / name / manifest.weights.file
    assert manifest.id == name and manifest.license == "Apache-2.0"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == manifest.weights.sha256
    assert weights.stat().st_size < 5_000_000
    assert manifest.card.figures and manifest.card.limitations and manifest.card.training_data
    assert "clinical use" in manifest.card.intended_use
    assert all(c.terminology is not None for c in manifest.classes)
    graph = onnx.load(weights)
    assert [i.domain for i in graph.opset_import if i.domain not in ("", "ai.onnx")] == []
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any number of slices or windows at once


@pytest.fixture(scope="module")
def scored_heads(models: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth (slices, 6) of one held-out head for each haemorrhage and one without."""
    scores, truth = [], []
    for n, bleeds in enumerate([[], *([name] for name in HAEMORRHAGES)]):
        head = head_ct(HELD_OUT + 500 + n, bleeds=bleeds, size=(256, 256, 24), spacing=(0.9, 0.9, 6.0))
        table = run(models / "ich-compact", head.volume, device="cpu").tables["slices"]
        scores.append(np.array([table.column(c) for c in ("any", *HAEMORRHAGES)], dtype=float).T)
        truth.append(head.slice_labels)
    return np.concatenate(scores), np.concatenate(truth)


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    positive, negative = score[truth == 1], score[truth == 0]
    return float((positive[:, None] > negative[None, :]).mean())


@pytest.mark.parametrize("column", range(6), ids=("any", *HAEMORRHAGES))
def test_ich_ranks_slices_with_a_bleed_above_those_without(scored_heads, column: int):
    scores, truth = scored_heads
    assert auc(truth[:, column], scores[:, column]) > 0.9


def test_ich_writes_a_row_for_each_image_and_subtype(models: Path):
    head = head_ct(HELD_OUT + 700, size=(128, 128, 6), spacing=(1.8, 1.8, 20.0))
    tables = run(models / "ich-compact", head.volume, device="cpu").tables
    slices, rsna = tables["slices"], tables["rsna"]
    assert sorted(rsna.column("ID"))[:6] == sorted(f"ID_1_{name}" for name in ("any", *HAEMORRHAGES))
    assert sorted(rsna.column("Label")) == sorted(v for name in ("any", *HAEMORRHAGES) for v in slices.column(name))


def test_ich_gives_the_same_scores_for_a_dicom_series_with_wrapped_12_bit_values(models: Path, tmp_path: Path):
    head = head_ct(HELD_OUT + 600, bleeds=["intraparenchymal"], size=(128, 128, 16), spacing=(1.8, 1.8, 9.0))
    head.volume.array[:] = np.clip(head.volume.array, -1000, 3000)
    direct = run(models / "ich-compact", head.volume, device="cpu").tables["slices"]
    write_dicom_series(head, tmp_path / "wrapped", wrapped_12_bit=True)
    read = run(models / "ich-compact", read_volume(tmp_path / "wrapped"), device="cpu").tables["slices"]
    assert np.allclose(np.array(direct.column("any"), float), np.array(read.column("any"), float), atol=1e-4)


def test_cmb_finds_microbleeds_and_lists_them(models: Path):
    head = swi(HELD_OUT + 500, size=(140, 160, 56), spacing=(1.2, 1.2, 2.0), microbleeds=10)
    result = run(models / "cmb-compact", head.volume, device="cpu")
    found, truth = result.mask("microbleed"), head.labels > 0
    components, count = ndimage.label(truth)
    sensitivity = len(set(np.unique(components[found])) - {0}) / count
    _, findings = ndimage.label(found)
    assert sensitivity >= 0.6
    assert findings <= 2 * count
    assert len(result.tables["lesions"].rows) == findings
    counts = dict(zip((c.name for c in result.tables["counts"].columns), result.tables["counts"].rows[0], strict=True))
    assert (counts["lesions"], counts["at_least_5"]) == (findings, findings >= 5)
    assert "sphericity" in [c.name for c in result.tables["lesions"].columns]


def test_lungs_outlines_held_out_phantoms(models: Path):
    figures = []
    for seed in range(HELD_OUT + 500, HELD_OUT + 504):
        film = chest_xray(seed)
        result = run(models / "lungs-compact", film.volume, device="cpu")
        figures.append(dice(result.mask("lungs"), film.labels > 0))
        areas = result.tables["areas"]
        total, right, left = (areas.column(f"{side}area_cm2")[0] for side in ("", "right_", "left_"))
        assert right > 0 and left > 0 and right + left == pytest.approx(total)
    assert min(figures) > 0.85 and np.mean(figures) > 0.92


@pytest.mark.real_data
def test_lungs_finds_lungs_on_real_films_that_it_was_not_trained_on(models: Path, shared: Path):
    figures = []
    for n in (1, 2, 3, 4):
        film = read_volume(shared / "images" / "chest-xray" / f"{n}.jpg")
        truth = read_volume(shared / "images" / "chest-xray" / f"{n}-mask.png").array > 127
        figures.append(dice(run(models / "lungs-compact", film, device="cpu").mask("lungs"), truth))
    assert np.mean(figures) > 0.8


def test_wmh_has_the_preprocessing_of_the_published_networks(models: Path):
    """They can be exchanged for each other on the same FLAIR; the chain itself is tested on real slices."""
    shipped = json.loads((models / "wmh-compact" / "manifest.json").read_text(encoding="utf-8"))
    for recipe in (models / "recipes").glob("wmh-*.json"):
        published = json.loads(recipe.read_text(encoding="utf-8"))["manifest"]
        assert shipped["preprocessing"] == published["preprocessing"], recipe.stem


def test_wmh_runs_on_a_flair_phantom_and_keeps_inside_the_head(models: Path):
    head = flair(HELD_OUT + 500, lesions=20)
    result = run(models / "wmh-compact", head.volume, device="cpu")
    found = result.mask("abnormal WMH") | result.mask("normal WMH")
    assert found.any()
    bright = ndimage.gaussian_filter(head.volume.array.astype(float), (0, 3, 3)) > 500
    assert bright[found].mean() > 0.99


@pytest.mark.real_data
def test_wmh_finds_the_labelled_lesions_of_a_real_patient(models: Path, shared: Path):
    """Seven of the eight averaged networks were trained on this patient: a floor for the whole path, not a figure."""
    case = shared / "images" / "wmh" / "105465"
    result = run(models / "wmh-compact", case / "flair.nii.gz", device="cpu")
    assert dice(result.mask("abnormal WMH"), read_volume(case / "abWMH.nii.gz").array > 0) > 0.65
    assert dice(result.mask("normal WMH"), read_volume(case / "nWMH.nii.gz").array > 0) > 0.5
