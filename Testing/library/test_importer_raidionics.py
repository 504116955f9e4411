"""Raidionics folders: the labels that their own library gives, and questions where a setting is not known.

A slip in one setting would give a tumour of the wrong size or place without any error.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import ndimage

from library.raidionics_reference import thresholded
from medseg import load_model, read_volume, run
from medseg.errors import InputError, ModelError
from medseg.library.importer import ImportOptions, import_model

Array = npt.NDArray[Any]


def network(channels: int, classes: int, *, last: bool, activation: str = "Softmax") -> onnx.ModelProto:
    """A convolution of 5 voxels a side and an activation, channels last or first, any size."""
    random = np.random.default_rng(3)
    kernel = random.standard_normal((classes, channels, 5, 5, 5)).astype(np.float32)
    kernel = ndimage.gaussian_filter(kernel, [0, 0, 1, 1, 1]) * 12
    axis = 1
    nodes, x, y = [], "input", "probabilities"
    if last:
        nodes.append(helper.make_node("Transpose", [x], ["first"], perm=[0, 4, 1, 2, 3]))
        x, y = "first", "scores"
    nodes.append(helper.make_node("Conv", [x, "w"], ["z"], pads=[2] * 6))
    nodes.append(helper.make_node(activation, ["z"], [y], **({"axis": axis} if activation == "Softmax" else {})))
    if last:
        nodes.append(helper.make_node("Transpose", [y], ["probabilities"], perm=[0, 2, 3, 4, 1]))
    sides = ["a", "b", "c"]
    ends = [["n", *sides, k] if last else ["n", k, *sides] for k in (channels, classes)]
    graph = helper.make_graph(
        nodes, "raidionics",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ends[0])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ends[1])],
        [numpy_helper.from_array(kernel, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(folder: Path, count: int = 1) -> list[Path]:
    """Smooth heads in air, on axes turned a little and not in the order of the patient's."""
    random = np.random.default_rng(5)
    turn = np.deg2rad(8)
    direction = np.array([[0, -np.cos(turn), np.sin(turn)], [1, 0, 0], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = direction * [0.9, 1.1, 1.6]
    affine[:3, 3] = [40, -30, -20]
    distance = np.linalg.norm((np.indices((40, 44, 26)) - np.array([20, 22, 13])[:, None, None, None])
                              / np.array([15, 17, 10])[:, None, None, None], axis=0)  # fmt: skip
    paths = []
    for n in range(count):
        noise = ndimage.gaussian_filter(random.standard_normal((40, 44, 26)), 2.5)
        values = np.where(distance < 1, 300 + 80 * noise / noise.std(), 5 * random.random((40, 44, 26)))
        paths.append(folder / f"image{n}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), paths[-1])
    return paths


def model_folder(folder: Path, settings: dict[str, dict[str, str]], model: onnx.ModelProto) -> Path:
    folder = folder / "MRI_Tumor"
    folder.mkdir(parents=True)
    lines = []
    for section, values in settings.items():
        lines += [f"[{section}]", *(f"{k}={v}" for k, v in values.items()), ""]
    (folder / "pre_processing.ini").write_text("\n".join(lines))
    onnx.save(model, str(folder / "model.onnx"))
    return folder


PRE = {"output_spacing": "1.2,1.0,1.4", "number_inputs": "1", "normalization_method": "zeromean"}
TRAIN = {"nb_classes": "2", "classes": "Background, Tumor"}
CASES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, Any]]] = {
    "patches": (
        {"background_cropping": "minimum", "intensity_clipping_range": "0.0, 99.5 # per cent"},
        {"patch_size": "16,20,24", "patch_offset": "0,0,0", "optimal_thresholds": "0.5,0.6"},
        {"patch": (16, 20, 24), "crop": True, "shares": (0, 99.5), "limit": 0.6},
    ),
    "overlapping, swapped": (
        {"swap_training_input": "True", "normalization_method": "default", "channels_order": "channels_first"},
        {"patch_size": "18,16,64", "optimal_thresholds": "0.45"},
        {"patch": (18, 16, 64), "overlap": 0.4, "swap": True, "method": "default", "limit": 0.45},
    ),
    "whole": (
        {"new_axial_size": "32,36,24", "normalization_method": "zeromean_nonzero", "background_cropping": "minimum"},
        {},
        {"size": (32, 36, 24), "crop": True, "method": "zeromean_nonzero", "limit": 0.5},
    ),
    "slabs of sagittal slices": (
        {"new_axial_size": "32,24", "slicing_plane": "sagittal"},
        {"slab_size": "12"},
        {"size": (32, 24), "plane": "sagittal", "slab": 12, "limit": 0.5},
    ),
    "axial slabs, two images and their difference": (
        {"new_axial_size": "30,40", "number_inputs": "2", "diffloader_pairs": "0,1"},
        {"slab_size": "8"},
        {"size": (30, 40), "slab": 8, "pairs": ((0, 1),), "limit": 0.5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_labels_are_those_of_its_own_library(tmp_path: Path, name: str) -> None:
    """A user of Raidionics would get a segmentation that differs from the one published with the model."""
    pre, train, own = CASES[name]
    pre, train = {**PRE, **pre}, {**TRAIN, **train}
    own = dict(own)
    limit, overlap = own.pop("limit"), own.get("overlap")
    own.setdefault("method", "zeromean")
    last = pre.get("channels_order") != "channels_first"
    count = int(pre["number_inputs"])
    model = network(count + len(own.get("pairs", ())), 2, last=last)
    folder = model_folder(
        tmp_path, {"Default": {"imaging_modality": "MRI"}, "PreProcessing": pre, "Training": train}, model
    )
    choices = {"overlap": str(overlap)} if overlap else {}
    package = import_model(folder, None, tmp_path / "package", options=ImportOptions(choices=choices))
    paths = images(tmp_path, count)
    found = run(load_model(package), [read_volume(p) for p in paths], device="cpu").mask("Tumor")

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def call(x: Array) -> Array:
        if last:
            return np.asarray(session.run(None, {"input": x})[0])
        return np.asarray(session.run(None, {"input": np.moveaxis(x, 4, 1)})[0]).transpose(0, 2, 3, 4, 1)

    wanted = thresholded(
        [nibabel.load(p) for p in paths], call, spacing=(1.2, 1.0, 1.4), classes=2, **own
    )[..., 1] >= limit  # fmt: skip
    mask = wanted.transpose(2, 1, 0)
    assert 500 < mask.sum() < 0.95 * mask.size
    assert np.mean(found == mask) >= 0.9998, f"{np.sum(found != mask)} of {mask.sum()} differ"


def test_ct_values_and_overlapping_classes(tmp_path: Path) -> None:
    """A CT model with two classes that may overlap would lose one of them, or be cut at the wrong values."""
    model = network(1, 2, last=True, activation="Sigmoid")
    folder = model_folder(
        tmp_path,
        {
            "Default": {"imaging_modality": "CT", "task": "segmentation"},
            "PreProcessing": {"intensity_clipping_values": "0, 400", "normalization_method": "default"},
            "Training": {
                "nb_classes": "2", "classes": "Heart,Vessel", "patch_size": "16,16,16",
                "activation_layer_type": "sigmoid", "optimal_thresholds": "0.55,0.7",
            },
        },
        model,
    )  # fmt: skip
    result = run(load_model(import_model(folder, None, tmp_path / "p")), read_volume(images(tmp_path)[0]), device="cpu")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = thresholded(
        [nibabel.load(tmp_path / "image0.nii.gz")], lambda x: np.asarray(session.run(None, {"input": x})[0]),
        spacing=(0.9, 0.9, 0.9), classes=2, patch=(16, 16, 16), values=(0, 400), method="default", mri=False,
    )  # fmt: skip
    for n, (name, limit) in enumerate((("Heart", 0.55), ("Vessel", 0.7))):
        mask = (wanted[..., n] >= limit).transpose(2, 1, 0)
        assert mask.any() and np.mean(result.mask(name) == mask) >= 0.9998


def test_what_is_not_known_is_asked(tmp_path: Path) -> None:
    """A setting that nobody looked at would silently change what the network sees."""
    settings = {
        "Default": {"imaging_modality": "MRI"},
        "PreProcessing": {**PRE, "sharpening": "2.5", "background_cropping": "brain_clip"},
        "Training": {**TRAIN, "patch_size": "16,16,16"},
    }
    folder = model_folder(tmp_path, settings, network(1, 2, last=True))
    with pytest.raises(InputError, match=r"\[preprocessing\] sharpening = 2.5.*skip="):
        import_model(folder, None, tmp_path / "p")
    with pytest.raises(InputError, match="mask=MODEL"):
        import_model(folder, None, tmp_path / "p", options=ImportOptions(choices={"skip": "sharpening"}))
    choices = {"skip": "sharpening", "mask": "meshnet-brain-mask"}
    made = load_model(import_model(folder, None, tmp_path / "p", options=ImportOptions(choices=choices))).manifest
    assert made.requires[0].model == "meshnet-brain-mask" and "sharpening" in made.card.limitations[0]
    settings["MRI"] = {"perform_bias_correction": "True"}
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="perform_bias_correction"):
        import_model(model_folder(tmp_path, settings, network(1, 2, last=True)), None, tmp_path / "q",
                     options=ImportOptions(choices=choices))  # fmt: skip


def test_a_zip_is_recognised(tmp_path: Path) -> None:
    """Raidionics publishes its models as zips; a user would have to unpack each by hand."""
    folder = model_folder(
        tmp_path / "in",
        {"Default": {"imaging_modality": "MRI"}, "PreProcessing": PRE, "Training": {**TRAIN, "patch_size": "16,16,16"}},
        network(1, 2, last=True),
    )
    archive = shutil.make_archive(str(tmp_path / "MRI_Tumor"), "zip", folder.parent)
    assert load_model(import_model(archive, None, tmp_path / "p")).manifest.id == "raidionics-mri_tumor"
