"""Models of several networks: a stage whose labels the next one sees, and networks whose classes are joined.

If these failed, a cascade would run on wrong labels, or an organ would carry another organ's name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from medseg import Volume, load_model, run
from medseg.errors import ModelError
from medseg.geometry.grid import Grid
from medseg.model.manifest import Manifest
from medseg.model.manifest.steps import ThickAxis
from medseg.model.package import pack
from medseg.pipeline.explain import explain
from medseg.pipeline.preprocess import prepare
from medseg.pipeline.preprocess.append_labels import resize_labels
from support.packages import manifest, package


@pytest.mark.parametrize(
    ("before", "after", "size", "counts", "checksum"),
    [
        ((2, 1, 1), (1.3, 1.4, 0.8), (9, 5, 10), [113, 164, 114], 19075),
        ((5, 0.7, 0.7), (2.5, 1, 1), (12, 5, 6), [90, 128, 92], 14979),
        ((4, 1, 1), (1.2, 0.9, 1.1), (20, 8, 7), [284, 416, 280], 46937),
    ],
)
def test_labels_are_resized_as_nnunet_does(before: Any, after: Any, size: Any, counts: Any, checksum: int) -> None:
    """Numbers of nnU-Net 2.8.1 (order 1, a thick axis apart with order 0); sizes and spacings in z, y, x."""
    k, j, i = np.mgrid[:6, :7, :8]
    labels = (k * 3 + j * 2 + i) // 7 % 4
    found = resize_labels(labels, size, 1, ThickAxis(), before[::-1], after[::-1])
    assert [int((found == c).sum()) for c in (1, 2, 3)] == counts
    assert int((found * np.arange(found.size).reshape(found.shape) % 97).sum()) == checksum


def above(thresholds: list[float], channels: int = 1, of: int = 0) -> onnx.ModelProto:
    """A network whose class n + 1 wins where channel ``of`` is above ``thresholds[n]`` (rising) and not the next."""
    weights = np.zeros((len(thresholds) + 1, channels, 1, 1, 1), np.float32)
    weights[1:, of, 0, 0, 0] = np.arange(1, len(thresholds) + 1)
    bias = np.concatenate([[0], -np.cumsum(thresholds)]).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])], "steps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, "d", "h", "v"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(weights), "d", "h", "v"])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ramp() -> Volume:
    values = np.broadcast_to(np.arange(12, dtype=np.float32), (6, 8, 12)).copy()
    return Volume(values, Grid((12, 8, 6), (1, 1, 2), (0, 0, 0), np.eye(3)), "MR", "ramp")


def cascade(folder: Path, **step: Any) -> Path:
    """The first stage finds what is above 7.5; the second one sees only that and gives it back."""
    package(folder / "stages" / "low", above([7.5]), id="low")
    appended = {"step": "append_labels", "of": "low", "values": [1], **step}
    return package(
        folder, above([0.5], channels=2, of=1), id="cascade", preprocessing=[appended],
        requires=[{"name": "low", "model": "./stages/low", "channels": "all"}],
    )  # fmt: skip


def test_the_second_stage_sees_the_labels_of_the_first(tmp_path: Path) -> None:
    model = load_model(cascade(tmp_path / "cascade"))
    result = run(model, ramp(), device="cpu")
    assert np.array_equal(result.layers[0].labels, ramp().array > 7.5)
    assert result.provenance["required_models"]["low"]["id"] == "low"
    assert result.provenance["model"]["parts"]["./stages/low"] == model.parts["./stages/low"].sha256


def test_a_cascade_travels_as_one_zip(tmp_path: Path) -> None:
    archive = pack(cascade(tmp_path / "cascade"), tmp_path / "cascade.zip")
    assert np.array_equal(run(load_model(archive), ramp(), device="cpu").layers[0].labels, ramp().array > 7.5)


def test_a_missing_stage_is_named(tmp_path: Path) -> None:
    folder = cascade(tmp_path / "cascade")
    (folder / "stages" / "low" / "manifest.json").unlink()
    with pytest.raises(ModelError, match=r"\./stages/low: there is no package"):
        load_model(folder)
    raw = json.loads((folder / "manifest.json").read_text())
    raw["requires"][0]["model"] = "./../../elsewhere"
    with pytest.raises(ModelError, match=r"requires\[0\]\.model"):
        (folder / "manifest.json").write_text(json.dumps(raw))
        load_model(folder)


def joined(folder: Path) -> Path:
    """Two networks: 1 above 2.5 and 2 above 6.5 here; ``bones`` above 9.5, which lies over both."""
    package(folder / "parts" / "bones", above([9.5]), id="bones")
    names = ["liver", "spleen", "rib"]
    return package(
        folder, above([2.5, 6.5]), id="all", classes=[{"value": n + 5, "name": c} for n, c in enumerate(names)],
        joined=[
            {"model": ".", "values": {"1": 6, "2": 5}}, {"model": "./parts/bones", "values": {"1": 7}},
        ],
        postprocessing=[{"step": "remove_small", "voxels": 2, "segments": ["rib"]}],
    )  # fmt: skip


def test_classes_of_several_networks_become_one_segmentation(tmp_path: Path) -> None:
    """Each under its own name, the later network over the earlier one; the cleaning sees the joined classes."""
    result = run(load_model(joined(tmp_path / "all")), ramp(), device="cpu")
    (layer,) = result.layers
    values = ramp().array
    wanted = np.select([values > 9.5, values > 6.5, values > 2.5], [7, 5, 6], 0)
    assert np.array_equal(layer.labels, wanted)
    assert [(c.value, c.name) for c in layer.classes] == [(5, "liver"), (6, "spleen"), (7, "rib")]
    assert np.array_equal(result.mask("rib"), values > 9.5)
    lines = explain(load_model(tmp_path / "all"), ramp()).lines
    assert "part 2: Tiny, 1 classes" in lines


def test_probabilities_of_joined_networks_keep_their_names(tmp_path: Path) -> None:
    result = run(load_model(joined(tmp_path / "all")), ramp(), device="cpu", probabilities=True)
    assert set(result.probabilities) == {"liver", "spleen", "rib"}
    assert result.probabilities["rib"][0, 0, 11] > 0.7 > result.probabilities["rib"][0, 0, 9]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ([{".": {"1": 1}}], "the label 2 is not both a class and given by a part"),
        ([{".": {"1": 1}}, {"./b": {"1": 1, "2": 2}}], "two parts give the label 1"),
        ([{"./b": {"1": 1, "2": 2}}], "own network"),
    ],
)
def test_parts_that_do_not_make_up_the_classes_are_refused(values: Any, match: str) -> None:
    parts = [{"model": name, "values": table} for part in values for name, table in part.items()]
    raw = manifest(classes=[{"value": 1, "name": "a"}, {"value": 2, "name": "b"}], joined=parts)
    with pytest.raises(ValueError, match=match):
        Manifest.model_validate(raw)


def test_a_set_brings_the_image_to_its_spacing_as_scipy_does_and_back(tmp_path: Path) -> None:
    """Outer voxel centres kept, decimals cut off, labels back by nearest voxel: the rule of TotalSegmentator."""
    values = np.random.default_rng(0).normal(0, 300, (9, 14, 11)).astype(np.int16)
    volume = Volume(values, Grid((11, 14, 9), (0.9, 0.8, 2.2), (3, 4, 5), np.diag([-1.0, -1, 1])), "CT", "v")
    steps = [
        {"step": "orient", "code": "RAS"},
        {"step": "resample", "spacing": [1.5, 1.5, 1.5], "align_corners": True},
        {"step": "quantise", "levels": 1, "towards_zero": True},
    ]
    output = {
        "tensor": "y", "layout": "NCDHW", "activation": "softmax", "logits": True, "restore": "labels",
    }  # fmt: skip
    model = load_model(package(tmp_path / "set", above([100.5]), preprocessing=steps, output=output))
    small = ndimage.zoom(values.T.astype(float), np.array([0.9, 0.8, 2.2]) / 1.5, mode="nearest", order=1)
    prepared = prepare(model.manifest, [volume])
    assert np.array_equal(prepared.array[0], small.astype(np.int32).T)
    labels = (small.astype(np.int32) > 100).astype(np.uint8)
    back = ndimage.zoom(labels, np.array(values.T.shape) / np.array(labels.shape), mode="nearest", order=0)
    assert np.array_equal(run(model, volume, device="cpu").layers[0].labels, back.T)
