"""The process that reads a case for the Review tab."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.geometry.grid import Grid
from medseg.io import read_segmentation
from medseg.output.files import save_segmentation
from medseg.result import Layer, Result, SegmentClass
from medseg.worker.transfer import result_from, result_message, volume_from

SIZE = (12, 10, 8)
GRID = Grid(SIZE, (1.0, 1.5, 3.0), (-10.0, -12.0, -18.0), np.eye(3))
#: What a plain 3D Slicer does not have.
MISSING = ("nibabel", "pydantic", "onnx", "onnxruntime", "typer", "rich", "jinja2", "matplotlib", "highdicom")


def image(path: Path, array: np.ndarray, where: Grid = GRID) -> Path:
    import SimpleITK as sitk

    made = sitk.GetImageFromArray(array)
    where.place(made)
    sitk.WriteImage(made, str(path))
    return path


def ask(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of the process, in a Python that has no more than a plain 3D Slicer."""
    code = (
        f"import sys\nfor name in {MISSING!r}: sys.modules[name] = None\n"
        "import runpy; runpy.run_module('medseg.worker.case_reading', run_name='__main__')"
    )
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([sys.executable, "-c", code], input=lines, capture_output=True, text=True, timeout=120)
    first, *answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["type"] == "ready", done.stderr
    return answers


def test_a_plain_slicer_reads_every_kind_of_mask(tmp_path: Path) -> None:
    """A reviewer's own computer has no package of ours, and the masks were made elsewhere."""
    voxels = np.arange(np.prod(SIZE), dtype=np.int16).reshape(SIZE[::-1])
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:4, 3:6, 4:8] = 7
    flair = str(image(tmp_path / "flair.nii.gz", voxels))
    classes = (SegmentClass(7, "abnormal", (1.0, 0.25, 0.0), "SCT~1~x^SCT~2~y^~~^~~~^~~^~~~^", True),)
    save_segmentation(tmp_path / "own.seg.nrrd", [Layer(labels, classes)], GRID, "wmh")
    turned = Grid(SIZE, GRID.spacing, (1.0, 1.5, -18.0), np.diag([-1.0, -1.0, 1.0]))
    image(tmp_path / "labels.nii.gz", labels[:, ::-1, ::-1], turned)
    (tmp_path / "labels.csv").write_text("value,name\n7,abnormal\n")
    masks = ["own.seg.nrrd", "labels.nii.gz", "", "none.seg.nrrd"]
    folders = [tmp_path / f"out{n}" for n in range(len(masks))]
    requests = []
    for mask, folder in zip(masks, folders, strict=True):
        folder.mkdir()
        path = str(tmp_path / mask) if mask else ""
        requests.append({"image": flair, "mask": path, "series": "", "folder": str(folder)})
    own, label_map, bare, missing = ask(requests)
    for answer, folder in ((own, folders[0]), (label_map, folders[1])):
        volume = volume_from(answer["volume"], folder)
        assert volume.grid.same_as(GRID) and (volume.array == voxels).all()
        low, high = answer["window"]
        assert voxels.min() <= low < high <= voxels.max()
        found = result_from(answer["masks"], folder)
        assert found.grid.same_as(GRID) and (found.layers[0].labels == labels).all()
        assert [c.name for c in found.classes] == ["abnormal"]
    kept = result_from(own["masks"], folders[0]).classes[0]
    assert kept.color == pytest.approx(classes[0].color) and kept.terminology == classes[0].terminology and kept.lesion
    assert bare["masks"] is None and volume_from(bare["volume"], folders[2]).array.shape == SIZE[::-1]
    assert missing["type"] == "error" and "none.seg.nrrd" in missing["message"]


def test_a_mask_of_another_place_is_told(tmp_path: Path) -> None:
    """The mask of another patient shows nothing, which looks like a healthy one."""
    voxels = np.zeros(SIZE[::-1], np.int16)
    labels = np.ones(SIZE[::-1], np.uint8)
    image(tmp_path / "flair.nrrd", voxels)
    image(tmp_path / "mask.nrrd", labels, Grid(SIZE, (1, 1, 1), (500.0, 0.0, 0.0), np.eye(3)))
    request = {"image": str(tmp_path / "flair.nrrd"), "mask": str(tmp_path / "mask.nrrd"), "series": ""}
    (answer,) = ask([request | {"folder": str(tmp_path)}])
    assert any("does it belong to this image" in sentence for sentence in answer["told"])
    (alone,) = ask([request | {"image": "", "folder": str(tmp_path)}])
    assert any("has no image" in s for s in alone["told"]) and volume_from(alone["volume"], tmp_path).array.all()


def test_masks_of_a_result_are_packed_by_the_process(tmp_path: Path) -> None:
    """In Slicer's own process packing a large mask would stop the reader of another case."""
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:4, 3:6, 4:8] = 7
    classes = (SegmentClass(7, "abnormal", (1.0, 0.25, 0.0), "", True),)
    message = result_message(Result(GRID, (Layer(labels, classes),)), tmp_path)
    good, bad = ({"save": str(p), "result": message, "model": "wmh", "folder": str(tmp_path)}
                 for p in (tmp_path / "masks" / "a.seg.nrrd", tmp_path / "a.nii.gz"))  # fmt: skip
    saved, refused = ask([good, bad])
    assert saved == {"type": "saved"} and refused["type"] == "error" and "a.nii.gz" in refused["message"]
    read = read_segmentation(tmp_path / "masks" / "a.seg.nrrd")
    assert read.model_id == "wmh" and [c.name for c in read.classes] == ["abnormal"] and read.classes[0].lesion
    np.testing.assert_array_equal(read.mask("abnormal"), labels == 7)


def test_probabilities_and_regions_of_a_run_come_along_with_its_mask(tmp_path: Path) -> None:
    """Without them a batch that kept its probabilities could be thresholded anew only by running it again."""
    from medseg.output.files import write_map

    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[2:4, 3:6, 4:8] = 1
    run = tmp_path / "run"
    (run / "probabilities").mkdir(parents=True)
    classes = (SegmentClass(1, "a lesion", (1.0, 0.25, 0.0), "", True), SegmentClass(2, "b", (0.0, 1.0, 0.0)))
    save_segmentation(run / "segmentation.seg.nrrd", [Layer(labels, classes)], GRID, "wmh")
    scores = np.linspace(0, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    write_map(run / "probabilities" / "a-lesion.nii.gz", scores, GRID)
    small = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    write_map(run / "probabilities" / "b.nii.gz", np.zeros((4, 4, 4), np.float32), small)
    columns = [{"name": "lesion", "type": "int", "unit": ""}, {"name": "region", "type": "str", "unit": ""}]
    (run / "result.json").write_text(json.dumps({"tables": {"lesions": columns}}))
    (run / "lesions.csv").write_text("lesion,region\r\n1,frontal\r\n")
    flair = image(tmp_path / "flair.nrrd", np.zeros(SIZE[::-1], np.int16))
    (tmp_path / "out").mkdir()
    request = {"image": str(flair), "mask": str(run / "segmentation.seg.nrrd"), "series": ""}
    (answer,) = ask([{**request, "folder": str(tmp_path / "out")}])
    found = result_from(answer["masks"], tmp_path / "out")
    assert list(found.probabilities) == ["a lesion"] and found.tables["lesions"].column("region") == ["frontal"]
    assert np.abs(found.probabilities["a lesion"] / 65535 - scores).max() < 1e-5
    assert any("b.nii.gz lies on another grid" in sentence for sentence in answer["told"])


def test_a_classifiers_scores_come_with_their_image(tmp_path: Path) -> None:
    head = "slice,centre_r_mm,centre_a_mm,centre_s_mm,any\n"
    (tmp_path / "slices.csv").write_text(head + "1,5,5,-18,0.9\n2,5,5,500,0.1\n")
    flair = image(tmp_path / "flair.nrrd", np.zeros(SIZE[::-1], np.int16))
    (tmp_path / "out").mkdir()
    request = {"mask": "", "slices": str(tmp_path / "slices.csv"), "series": "", "folder": str(tmp_path / "out")}
    good, alone = ask([{**request, "image": str(flair)}, {**request, "image": ""}])
    assert result_from(good["slices"], tmp_path / "out").tables["slices"].column("any") == [0.9, 0.1]
    assert any("1 of 2 slices lie outside of flair" in sentence for sentence in good["told"]) and good["masks"] is None
    assert "the image they are of" in alone["message"]
