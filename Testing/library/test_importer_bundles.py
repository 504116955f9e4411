"""nnU-Net v2 results and MONAI bundles: their descriptions become manifests with the axes the right way round.

Both keep spacing and patch in another axis order than a manifest does; a slip there costs the user every result.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from medseg import Volume, load_model, run
from medseg.errors import InputError, ModelError
from medseg.geometry.grid import Grid
from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.converted import Chain, Converted
from medseg.library.importer.package_writing import write_package
from medseg.model.card import read_card
from medseg.monitor import Monitor
from medseg.pipeline.preprocess import prepare
from support.packages import network

CT = {"mean": 100.0, "std": 50.0, "percentile_00_5": -50.0, "percentile_99_5": 250.0}


def nnunet(
    folder: Path, *, plans: Any = None, plan: Any = None, dataset: Any = None, dims: int = 3, classes: int = 3
) -> Path:
    folder = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    own: dict[str, Any] = {
        "patch_size": [32, 48, 64], "spacing": [2.0, 1.5, 1.0], "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False], **(plan or {}),
    }  # fmt: skip
    everything = {
        "dataset_name": "Dataset003_Liver", "image_reader_writer": "SimpleITKIO", "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": CT},
        "configurations": {"3d_fullres": own, "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [4.0, 3.0, 2.0]}},
        **(plans or {}),
    }  # fmt: skip
    labels = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 9}
    (folder / "plans.json").write_text(json.dumps(everything))
    (folder / "dataset.json").write_text(json.dumps({**labels, **(dataset or {})}))
    onnx.save(network(classes=classes) if dims == 3 else flat(classes), str(folder / "fold_0" / "model.onnx"))
    return folder


def flat(classes: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "flat",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, "h", "w_"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes, "h", "w_"])],
        [numpy_helper.from_array(np.ones((classes, 1, 1, 1), np.float32), "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def manifest_of(folder: Path, target: Path, **choices: str) -> Any:
    package = import_model(folder, None, target / "package", options=ImportOptions(choices=choices))
    return load_model(package).manifest


def test_an_nnunet_result_becomes_a_manifest(tmp_path: Path) -> None:
    manifest = manifest_of(nnunet(tmp_path), tmp_path)
    crop, normalise, resample = manifest.preprocessing
    (scheme,) = normalise.channels
    assert crop.step == "crop_to_nonzero" and scheme.scheme == "fixed"
    assert (scheme.minimum, scheme.maximum, scheme.mean, scheme.std) == (-50, 250, 100, 50)
    assert resample.spacing == (1.0, 1.5, 2.0) and (resample.order, resample.restore_order) == (3, 1)
    assert resample.thick_axis.ratio == 3 and resample.thick_axis.order == 0
    assert manifest.inference.patch == (64, 48, 32) and manifest.inference.blending == "gaussian_filter"
    assert manifest.inference.placement == "even" and manifest.output.restore == "logits"
    assert [(c.value, c.name) for c in manifest.classes] == [(1, "liver"), (2, "tumour")]
    assert manifest.output.activation == "softmax" and manifest.output.logits
    assert manifest.channels[0].modality == ["CT"]


def test_the_transpose_of_nnunet_reaches_the_network(tmp_path: Path) -> None:
    """transpose_forward [2, 0, 1]: the network's first axis is the image's x."""
    folder = nnunet(tmp_path, plans={"transpose_forward": [2, 0, 1]}, plan={"spacing": [1.0, 1.0, 1.0]})
    manifest = manifest_of(folder, tmp_path)
    values = np.arange(1, 1 + 4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    volume = Volume(values, Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), np.eye(3)), "CT", "v")
    prepared = prepare(manifest, [volume]).array[0]
    wanted = (np.clip(values, -50, 250) - 100) / 50
    assert np.allclose(prepared, wanted.transpose(2, 0, 1), atol=1e-4)


def test_other_configurations_regions_and_normalisations(tmp_path: Path) -> None:
    low = manifest_of(nnunet(tmp_path / "a"), tmp_path / "a", configuration="3d_lowres")
    assert low.preprocessing[-1].spacing == (2.0, 3.0, 4.0) and low.id.endswith("3d_lowres")
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    regions = manifest_of(
        nnunet(tmp_path / "b", classes=2,
               dataset={"labels": labels, "channel_names": {"0": "T2"}, "regions_class_order": [1, 2]},
               plan={"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [True]}), tmp_path / "b",
    )  # fmt: skip
    assert regions.output.activation == "sigmoid" and regions.output.exclusive
    assert [(c.name, c.value, c.sigmoid_channel) for c in regions.classes] == [
        ("whole without core", 1, 0), ("core", 2, 1),
    ]  # fmt: skip
    (scheme,) = regions.preprocessing[1].channels
    assert scheme.scheme == "zscore" and scheme.nonzero
    flat2d = manifest_of(
        nnunet(tmp_path / "c", plan={"patch_size": [48, 64], "spacing": [1.5, 1.0]}, dims=2), tmp_path / "c"
    )
    assert flat2d.inference.patch == (64, 48, 1) and flat2d.network_dimensions == 2
    assert flat2d.preprocessing[-1].spacing == (1.0, 1.5, None)


def test_channels_are_normalised_each_in_its_own_way(tmp_path: Path) -> None:
    from medseg.library.importer.nnunet_manifest import preprocessing

    plan = {
        "spacing": [1, 1, 1], "patch_size": [8, 8, 8], "use_mask_for_norm": [False, True, False],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization", "NoNormalization"],
    }  # fmt: skip
    plans = {"foreground_intensity_properties_per_channel": {"0": CT}}
    _, normalise, _ = preprocessing(plan, plans, ["CT", "PET", "other"])
    assert [(c["scheme"], c.get("nonzero")) for c in normalise["channels"]] == [
        ("fixed", None), ("zscore", True), ("none", None),
    ]  # fmt: skip


def test_a_plan_without_resampling_leaves_the_voxels_as_they_are(tmp_path: Path) -> None:
    """nnU-Net's preset states a spacing all the same; resampled to it, its network would see another image."""
    none = dict.fromkeys(("resampling_fn_data", "resampling_fn_probabilities"), "no_resampling_hack")
    manifest = manifest_of(nnunet(tmp_path, plan=none), tmp_path)
    values = np.random.default_rng(0).normal(100, 50, (9, 8, 7)).astype(np.float32)
    volume = Volume(values, Grid((7, 8, 9), (1.5, 0.7, 4), (0, 0, 0), np.eye(3)), "CT", "v")
    assert np.allclose(prepare(manifest, [volume]).array[0], (np.clip(values, -50, 250) - 100) / 50, atol=1e-5)
    assert run(tmp_path / "package", volume, device="cpu").layers[0].labels.shape == values.shape


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"plan": {"normalization_schemes": ["Own"]}}, "'Own' is not known"),
        ({"plan": {"normalization_schemes": ["CTNormalization", "ZScoreNormalization"]}}, "normalises 2 channels"),
        ({"plan": {"preprocessor_name": "Own"}}, "'Own' is not nnU-Net's own"),
        ({"plan": {"resampling_fn_data": "no_resampling_hack"}}, "'no_resampling_hack' is not known"),
        ({"dataset": {"labels": {"background": 0, "a": 2}}}, "without gaps"),
    ],
)
def test_what_a_manifest_cannot_say_is_refused(tmp_path: Path, changes: Any, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        manifest_of(nnunet(tmp_path, **changes), tmp_path)
    assert not (tmp_path / "package").exists()


def test_a_folder_without_onnx_says_to_export(tmp_path: Path) -> None:
    folder = nnunet(tmp_path)
    (folder / "fold_0" / "model.onnx").unlink()
    with pytest.raises(InputError, match="export the network to ONNX"):
        manifest_of(folder, tmp_path)


def test_a_checkpoint_that_is_none_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    folder = nnunet(tmp_path)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"\x80")
    with pytest.raises(ModelError, match=r"checkpoint_final.pth is no checkpoint"):
        manifest_of(folder, tmp_path)
    with pytest.raises(InputError, match="no checkpoint of the fold '3'; it has 0"):
        manifest_of(folder, tmp_path, folds="0,3")


def test_an_exported_zip_is_read_and_cannot_write_elsewhere(tmp_path: Path) -> None:
    folder = nnunet(tmp_path)
    (folder / "fold_0" / "model.onnx").rename(folder / "model.onnx")
    good, bad = tmp_path / "model.zip", tmp_path / "bad.zip"
    for target, prefix in ((good, "Dataset003_Liver/"), (bad, "../")):
        with zipfile.ZipFile(target, "w") as archive:
            for file in folder.glob("*.*"):
                archive.write(file, f"{prefix}{folder.name}/{file.name}")
    assert manifest_of(good, tmp_path).id == "dataset003_liver-3d_fullres"
    with pytest.raises(ModelError, match="outside its folder"):
        manifest_of(bad, tmp_path / "b")


def monai(folder: Path, transforms: list[dict[str, Any]], **plan: Any) -> Path:
    (folder / "configs").mkdir(parents=True)
    metadata = {
        "name": "Spleen CT", "version": "0.5.3", "description": "Spleen.", "intended_use": "Research.",
        "references": ["Some paper"], "eval_metrics": {"mean_dice": 0.961},
        "network_data_format": {
            "inputs": {"image": {"modality": "CT", "num_channels": 1, "spatial_shape": [32, 48, 64],
                                 "is_patch_data": True, "channel_def": {"0": "image"}}},
            "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}},
        },
    }  # fmt: skip
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    inference = {
        "patch": [32, 48, 64],
        "preprocessing": {"_target_": "Compose", "transforms": transforms},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@patch", "overlap": 0.6, "mode": "gaussian"},
        "postprocessing": {"transforms": [{"_target_": "Activationsd", "softmax": True}]},
        **plan,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    onnx.save(network(), str(folder / "model.onnx"))
    return folder


TRANSFORMS = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "axcodes": "RAS"},
    {"_target_": "Spacingd", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
    {"_target_": "ScaleIntensityRanged", "a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True},
    {"_target_": "EnsureTyped", "keys": "image"},
]


def test_a_monai_bundle_becomes_a_manifest(tmp_path: Path) -> None:
    manifest = manifest_of(monai(tmp_path / "bundle", TRANSFORMS), tmp_path)
    orient, resample, clip, affine = manifest.preprocessing
    assert orient.code == "SAR" and resample.spacing == (2.0, 1.5, 1.5), "MONAI's x, y, z are the array's k, j, i"
    assert (clip.minimum, clip.maximum) == (-57, 164)
    assert 164 * affine.scale + affine.offset == pytest.approx(
        1
    ) and -57 * affine.scale + affine.offset == pytest.approx(0)
    assert manifest.inference.patch == (64, 48, 32) and manifest.inference.stride == (25, 19, 12)
    assert manifest.output.way_back == "steps" and manifest.inference.blending == "gaussian_floor"
    assert [c.name for c in manifest.classes] == ["spleen"] and manifest.output.activation == "softmax"
    assert manifest.card.figures["mean_dice"] == "0.961" and manifest.card.citation == "Some paper"


def test_a_monai_network_sees_x_y_z(tmp_path: Path) -> None:
    """The same array that MONAI makes: RAS, axes x, y, z."""
    manifest = manifest_of(monai(tmp_path / "bundle", TRANSFORMS[:3]), tmp_path)
    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    volume = Volume(values, Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), np.eye(3)), "CT", "v")  # i, j, k grow to L, P, S
    assert np.array_equal(prepare(manifest, [volume]).array[0], values.transpose(2, 1, 0)[::-1, ::-1])


def test_code_in_a_bundle_is_not_run_but_asked_about(tmp_path: Path) -> None:
    """A transform that nobody understood would be left out without a word, or code of a stranger would run."""
    evil = tmp_path / "ran"
    transforms = [
        {"_target_": "ScaleIntensityRanged", "a_min": f"$open('{evil}', 'w')", "a_max": 1},
        {"_target_": "scripts.Own", "x": 1},
    ]
    folder = monai(tmp_path / "bundle", transforms)
    with pytest.raises(InputError, match=r"ScaleIntensityRanged \(a_min.*Own \(it is not known.*skip="):
        import_model(folder, None, tmp_path / "package")
    options = ImportOptions(choices={"skip": "ScaleIntensityRanged,Own"})
    monitor = Monitor()
    import_model(folder, None, tmp_path / "package", monitor=monitor, options=options)
    assert not evil.exists()
    assert sum("was left out, as you said" in text for text in monitor.warnings) == 2
    assert any("Own" in text for text in load_model(tmp_path / "package").manifest.card.limitations)


def test_references_in_a_bundle_are_followed_and_nothing_else(tmp_path: Path) -> None:
    """Bundles write sizes once and refer to them; without that most would be refused."""
    transforms = [
        *TRANSFORMS[:2],
        {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": ["bilinear"]},
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "select_fn": "$lambda x: x > -300"},
        {"_target_": "CastToTyped", "keys": "image", "dtype": "$torch.float32"},
        {"_target_": "Resized", "keys": "image", "spatial_size": [8, 8, 8], "_disabled_": True},
    ]
    folder = monai(tmp_path / "bundle", [], spacing=[1, 2, 3], first=transforms[:2], more=transforms[2:])
    plan = json.loads((folder / "configs" / "inference.json").read_text())
    plan["preprocessing"]["transforms"] = "$@first + @more"
    plan["postprocessing"] = {
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {"_target_": "Invertd", "keys": "pred", "nearest_interp": False},
            {"_target_": "AsDiscreted", "keys": ["pred", "label"], "threshold": [0.4, None]},
            {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [2]},
        ]
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(plan))
    manifest = manifest_of(folder, tmp_path)
    turn, resample, crop = manifest.preprocessing
    assert turn.axes == (2, 1, 0) and resample.spacing == (3, 2, 1) and crop.above == -300
    assert [c.threshold for c in manifest.classes] == [0.4, 0.4] and manifest.output.restore == "probabilities"
    assert manifest.postprocessing[0].segments == ["spleen"]


def test_weights_of_an_unknown_network_are_refused_before_anything_is_installed(tmp_path: Path) -> None:
    """A network of the bundle's own is code; nobody should wait for an installation to be told so."""
    folder = monai(tmp_path / "bundle", TRANSFORMS, network_def={"_target_": "scripts.net.Own"})
    (folder / "model.onnx").unlink()
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"its network Own is not one of MONAI's own"):
        manifest_of(folder, tmp_path)


def test_an_imported_result_runs(tmp_path: Path) -> None:
    folder = nnunet(tmp_path)
    package = import_model(folder, None, tmp_path / "package")
    values = np.random.default_rng(0).normal(100, 50, (20, 30, 40)).astype(np.float32)
    volume = Volume(values, Grid((40, 30, 20), (1.2, 1.2, 2.0), (0, 0, 0), np.eye(3)), "CT", "v")
    result = run(package, volume, device="cpu")
    assert result.layers[0].labels.shape == values.shape
    # Which network it was must be known of each result, also when the package has gone.
    assert result.provenance["model"]["made_from"] == {"framework": "nnU-Net v2", "configuration": "3d_fullres"}
    assert read_card(package).made_from == (("framework", "nnU-Net v2"), ("configuration", "3d_fullres"))


@pytest.mark.parametrize(("wrong", "told"), [(0, ""), (24, "Only 99.900% of the voxels"), (2400, "refused")])
def test_labels_that_differ_from_the_original_s_are_told_and_many_of_them_refused(
    tmp_path: Path, wrong: int, told: str
) -> None:
    """Else a user would take a package that computes something else for the published model."""
    package = import_model(nnunet(tmp_path), None, tmp_path / "first")
    image = np.random.default_rng(0).normal(100, 50, (20, 30, 40)).astype(np.float32)
    volume = Volume(image, Grid((40, 30, 20), (1.2, 1.2, 2.0), (0, 0, 0), np.eye(3)), "CT", "v")
    labels = run(package, volume, device="cpu").layers[0].labels.copy()
    labels.flat[:wrong] += 1
    chain = Chain("nnU-Net 2.8.1", image[np.newaxis], (1.2, 1.2, 2.0), "LPS", labels)
    converted = Converted(onnx.load(package / "model.onnx"), chain=chain)
    raw, target, monitor = json.loads((package / "manifest.json").read_text()), tmp_path / "second", Monitor()
    if told == "refused":
        with pytest.raises(ModelError, match=r"only 90\.00% of the voxels"):
            write_package(target, raw, converted, {"kind": "nnunet"}, monitor)
        assert not target.exists()
        return
    write_package(target, raw, converted, {"kind": "nnunet"}, monitor)
    assert [w for w in monitor.warnings if "probe image" in w and told in w] == ([monitor.warnings[-1]] if told else [])
    share = read_card(target).figures["agreement with the original, whole chain"]
    assert share.startswith(f"{1 - wrong / 24000:.3%} of the voxels")
