"""Small nnU-Net v2 results of every kind, trained for some steps on a drawing, with nnU-Net's own labels.

Runs in an environment with nnU-Net, never in the project's own:

``python -I nnunet_folders.py FOLDER KIND...`` writes, for each kind, ``FOLDER/KIND/result`` (what nnU-Net would have
left), ``images/case_000N.nii.gz`` (a channel each), ``labels.nii.gz`` (by nnU-Net's predictor, all folds, no mirroring)
and ``stages.npz`` (``prepared``: what the network got, ``logits``: what came out of all windows). Weights start from a
seed; training makes their labels smooth, so that what differs is not a coin thrown at every voxel.
"""

import json
import os
import sys
from pathlib import Path

# Else nnU-Net prints three warnings; nothing is written there.
os.environ |= dict.fromkeys(("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"), "none")

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy import ndimage

OBLIQUE = (0.936, 0.275, -0.218, -0.290, 0.956, -0.036, 0.198, 0.097, 0.975)
CT = {"mean": 60.0, "std": 80.0, "percentile_00_5": -200.0, "percentile_99_5": 220.0, "median": 50.0, "min": -900.0,
      "max": 900.0}  # fmt: skip
THREE = {"background": 0, "head": 1, "organ": 2, "lesion": 3}
TRAINER = "nnUNetTrainer__nnUNetPlans__"


def kind(size, spacing, patch, target, **more):
    """``size``, ``spacing``: of the image, in z, y, x. ``patch``, ``target``: of the plan, after the transpose."""
    return {
        "size": size, "spacing": spacing, "patch": patch, "target": target, "channels": ["T1"], "labels": THREE,
        "schemes": ["ZScoreNormalization"], "masked": [False], "forward": [0, 1, 2], "folds": 1, "steps": 120,
        "network": "PlainConvUNet", "strides": None, "kernels": None, "plan": {}, "plans": {}, "dataset": {}, **more,
    }  # fmt: skip


KINDS = {
    "2d-ct-regions": kind(
        (9, 150, 130), (4, 0.9, 1.1), (64, 64), (1, 1), channels=["CT"], schemes=["CTNormalization"],
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "lesion": 3},
        dataset={"regions_class_order": [1, 2, 3]},
    ),
    "anisotropic": kind(
        (22, 120, 110), (5, 0.7, 0.7), (12, 64, 64), (5, 0.8, 0.8), strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        kernels=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    ),
    "lowres": kind((60, 70, 64), (1.5, 1, 1), (32, 32, 32), (3, 2, 2), configuration="3d_lowres"),
    "cascade": kind((60, 70, 64), (1.5, 1, 1), (32, 32, 32), (1.3, 1.2, 1.2), configuration="3d_cascade_fullres"),
    "cascade-anisotropic": kind(
        (18, 90, 84), (5, 0.8, 0.8), (8, 40, 40), (4.5, 0.9, 0.9), configuration="3d_cascade_fullres",
        strides=[[1, 1, 1], [1, 2, 2], [1, 2, 2]], forward=[0, 2, 1],
    ),
    "two-channels-oblique": kind(
        (50, 66, 58), (1.4, 0.9, 1.1), (32, 32, 32), (1.2, 1.2, 1.2), channels=["CT", "T2"],
        schemes=["CTNormalization", "ZScoreNormalization"], masked=[False, True], direction=OBLIQUE,
    ),
    "masked-normalisation": kind((48, 60, 56), (1, 1, 1), (32, 32, 32), (1.2, 1, 0.9), masked=[True], holes=True),
    "residual-encoder": kind((48, 60, 56), (1, 1.1, 1), (32, 32, 32), (1.2, 1, 1), network="ResidualEncoderUNet"),
    "transposed": kind(
        (70, 56, 40), (0.8, 1, 3), (24, 32, 32), (2.6, 0.9, 1.1), forward=[2, 0, 1],
        strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    ),
    "ignore-two-folds": kind(
        (48, 60, 56), (1, 1, 1), (32, 32, 32), (1.3, 1.1, 1.2), labels={**THREE, "ignore": 4}, folds=2,
    ),
    "classic-plans": kind((48, 60, 56), (1, 1.2, 0.9), (32, 32, 32), (1, 1, 1), classic=True),
    "classic-residual-2d": kind(
        (7, 90, 100), (6, 0.8, 0.8), (64, 48), (0.9, 1), classic=True, network="ResidualEncoderUNet",
    ),
    "reoriented-reader": kind(
        (48, 60, 56), (1, 1.2, 0.9), (32, 32, 32), (1, 1, 1), direction=(0, 0, -1, 1, 0, 0, 0, -1, 0),
        plans={"image_reader_writer": "NibabelIOWithReorient"},
    ),
    "torch-resampling": kind(
        (20, 60, 56), (4, 0.9, 1), (10, 32, 32), (4.4, 1.1, 1.1), strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        plan={
            "resampling_fn_data": "resample_torch_fornnunet", "resampling_fn_probabilities": "resample_torch_fornnunet",
            "resampling_fn_data_kwargs": {"is_seg": False, "force_separate_z": False},
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "force_separate_z": False},
        },
    ),
    "no-resampling": kind(
        (48, 60, 56), (1, 1.2, 0.9), (32, 32, 32), (1.4, 1, 1),
        plan={
            key: value for of in ("data", "seg", "probabilities")
            for key, value in ((f"resampling_fn_{of}", "no_resampling_hack"), (f"resampling_fn_{of}_kwargs", {}))
        },
    ),
    "minmax-none-channels": kind(
        (48, 60, 56), (1, 1.1, 1), (32, 32, 32), (1.2, 1, 1), channels=["T1", "T2"],
        schemes=["RescaleTo01Normalization", "NoNormalization"], masked=[False, False],
    ),
    "smaller-than-patch": kind((20, 26, 24), (1, 1, 1), (32, 32, 32), (1, 1.1, 1)),
}  # fmt: skip


# -- drawings -----------------------------------------------------------------------------------------------


def drawing(setting, seed):
    """Image (C, z, y, x) and labels (z, y, x): a head, an organ in it, a lesion in that; zeros around."""
    random = np.random.default_rng(seed)
    z, y, x = (np.linspace(-1, 1, n).reshape([-1 if a == d else 1 for a in range(3)])
               for d, n in enumerate(setting["size"]))  # fmt: skip

    def ball(centre, radii):
        return sum(((v - c) / r) ** 2 for v, c, r in zip((z, y, x), centre, radii, strict=True)) < 1

    labels = np.zeros(setting["size"], np.uint8)
    labels[ball((0.05, 0, 0), (0.8, 0.75, 0.78))] = 1
    labels[ball((0.1, -0.15, 0.2), (0.5, 0.4, 0.35))] = 2
    labels[ball((0.1, -0.1, 0.25), (0.25, 0.2, 0.18))] = 3
    channels = []
    for n, scheme in enumerate(setting["schemes"]):
        means = {"CTNormalization": (-150, 20, 90, 170)}.get(scheme, [(0.05, 1, 2, 0.4), (0.05, 0.7, 0.5, 1.6)][n % 2])
        values = np.array(means, np.float32)[labels]
        noise = ndimage.gaussian_filter(random.standard_normal(labels.shape), 0.7)
        values = values + noise * (30 if scheme == "CTNormalization" else 0.25)
        if scheme == "RescaleTo01Normalization":
            values = values * 300 + 5
        channels.append(np.float32(values))
    image = np.stack(channels)
    image[:, :2], image[:, :, -3:], image[:, :, :, :1] = 0, 0, 0
    if setting.get("holes"):
        image[:, ~ball((0, 0, 0), (0.95, 0.9, 0.9))] = 0
        image[:, ball((-0.2, 0.2, -0.2), (0.15, 0.15, 0.15))] = 0
    return image, labels


def write_image(array, setting, path):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in setting["spacing"][::-1]])
    image.SetOrigin((-31.0, 12.5, 40.25))
    if "direction" in setting:
        matrix = np.array(setting["direction"], float).reshape(3, 3)
        u, _, v = np.linalg.svd(matrix)
        image.SetDirection((u @ v).ravel().tolist())
    sitk.WriteImage(image, str(path))


# -- descriptions -------------------------------------------------------------------------------------------


def network_block(setting, dims):
    strides = setting["strides"] or [[1] * dims, [2] * dims, [2] * dims]
    kernels = setting["kernels"] or [[3] * dims] * len(strides)
    count = len(strides)
    residual = setting["network"] == "ResidualEncoderUNet"
    if setting.get("classic"):
        return {
            "UNet_class_name": setting["network"], "UNet_base_num_features": 8, "unet_max_num_features": 24,
            "n_conv_per_stage_encoder": [1, 2, 2], "n_conv_per_stage_decoder": [1] * (count - 1),
            "num_pool_per_axis": [2] * dims, "pool_op_kernel_sizes": strides, "conv_kernel_sizes": kernels,
        }  # fmt: skip
    blocks = {"n_blocks_per_stage": [1, 2, 2]} if residual else {"n_conv_per_stage": [2] * count}
    return {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{setting['network']}",
            "arch_kwargs": {
                "n_stages": count, "features_per_stage": [8, 16, 24], "kernel_sizes": kernels, "strides": strides,
                "conv_op": f"torch.nn.modules.conv.Conv{dims}d", **blocks,
                "n_conv_per_stage_decoder": [1] * (count - 1), "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }  # fmt: skip


def descriptions(setting):
    dims = len(setting["patch"])
    asked = setting.get("configuration") or ("2d" if dims == 2 else "3d_fullres")
    common = {
        "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": list(setting["patch"]),
        "median_image_size_in_voxels": list(setting["patch"]), "spacing": [float(s) for s in setting["target"]],
        "normalization_schemes": setting["schemes"], "use_mask_for_norm": setting["masked"], "batch_dice": True,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        **network_block(setting, dims), **setting["plan"],
    }  # fmt: skip
    configurations = {asked: {"data_identifier": f"nnUNetPlans_{asked}", **common}}
    if asked == "3d_cascade_fullres":
        low = {**common, "data_identifier": "nnUNetPlans_3d_lowres", "next_stage": asked,
               "spacing": [s * 1.7 for s in common["spacing"]]}  # fmt: skip
        configurations = {
            "3d_lowres": low, "3d_fullres": {"data_identifier": "nnUNetPlans_3d_fullres", **common},
            asked: {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        }  # fmt: skip
    backward = [setting["forward"].index(a) for a in range(3)]
    plans = {
        "dataset_name": "Dataset950_Drawing", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": setting["forward"], "transpose_backward": backward, "label_manager": "LabelManager",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0], "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "foreground_intensity_properties_per_channel": {str(n): CT for n in range(len(setting["channels"]))},
        **setting["plans"],
    }  # fmt: skip
    dataset = {
        "channel_names": {str(n): c for n, c in enumerate(setting["channels"])}, "labels": setting["labels"],
        "numTraining": 1, "file_ending": ".nii.gz", **setting["dataset"],
    }  # fmt: skip
    return plans, dataset, (["3d_lowres", asked] if asked == "3d_cascade_fullres" else [asked])


# -- networks -----------------------------------------------------------------------------------------------


def trained(plans, dataset, name, setting, image, truth, seed):
    """A network of the configuration ``name``, trained on patches of the prepared drawing."""
    manager = PlansManager(json.loads(json.dumps(plans)))
    plan = manager.get_configuration(name)
    labels = manager.get_label_manager(dataset)
    data, seg, _ = plan.preprocessor_class(verbose=False).run_case_npy(
        image, truth[None].astype(np.int16), {"spacing": list(setting["spacing"])}, manager, plan, dataset
    )
    random = np.random.default_rng(seed)
    if plan.previous_stage_name:
        rough = np.roll(seg[0], 1, axis=-1)
        data = np.vstack([data, np.stack([rough == c for c in labels.foreground_labels]).astype(data.dtype)])
    torch.manual_seed(seed)
    network = get_network_from_plans(
        plan.network_arch_class_name, plan.network_arch_init_kwargs, plan.network_arch_init_kwargs_req_import,
        determine_num_input_channels(manager, plan, dataset), labels.num_segmentation_heads, deep_supervision=False,
    )  # fmt: skip
    size = [1] * (3 - len(plan.patch_size)) + list(plan.patch_size)
    more = [max(0, p - n) for p, n in zip(size, data.shape[1:], strict=True)]
    data = np.pad(data, [(0, 0), *((0, m) for m in more)])
    seg = np.pad(np.maximum(seg[0], 0), [(0, m) for m in more])
    optimiser = torch.optim.Adam(network.parameters(), 4e-3)
    for step in range(setting["steps"]):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1 - step / setting["steps"])
        images, targets = [], []
        for _ in range(2):
            start = [int(random.integers(0, n - p + 1)) for n, p in zip(data.shape[1:], size, strict=True)]
            part = tuple(slice(s, s + p) for s, p in zip(start, size, strict=True))
            images.append(data[(slice(None), *part)])
            targets.append(seg[part])
        x, y = torch.from_numpy(np.stack(images).astype(np.float32)), torch.from_numpy(np.stack(targets)).long()
        if len(plan.patch_size) == 2:
            x, y = x[:, :, 0], y[:, 0]
        out = network(x)
        if labels.has_regions:
            wanted = torch.stack([torch.isin(y, torch.as_tensor(r)) for r in labels.foreground_regions], 1).float()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(out, wanted)
        else:
            loss = torch.nn.functional.cross_entropy(out, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"  {name}: loss {loss.item():.3f}", flush=True)
    return network


def save_result(folder, network, plans, dataset, name, fold):
    """The folder of one configuration, as nnU-Net's trainer leaves it."""
    place = folder / f"{TRAINER}{name}" / f"fold_{fold}"
    place.mkdir(parents=True, exist_ok=True)
    (place.parent / "plans.json").write_text(json.dumps(plans, indent=1))
    (place.parent / "dataset.json").write_text(json.dumps(dataset, indent=1))
    axes = (0, 1) if len(plans["configurations"].get(name, {}).get("patch_size", [0] * 3)) == 2 else (0, 1, 2)
    torch.save(
        {
            "network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", "current_epoch": 1,
            "init_args": {"configuration": name, "fold": fold, "dataset_json": dataset, "plans": plans},
            "inference_allowed_mirroring_axes": axes, "_best_ema": np.float64(0.5),
            "logging": {"train_losses": [np.float32(1.0)]},
        },
        place / "checkpoint_final.pth",
    )  # fmt: skip
    return place.parent


def predict(folder, files, target, previous):
    """nnU-Net's labels in the folder ``target``, and the stages; ``previous``: the folder of the stage before."""
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), None, "checkpoint_final.pth")
    predictor.predict_from_files_sequential(
        [[str(f) for f in files]], str(target), folder_with_segs_from_prev_stage=str(previous) if previous else None
    )
    manager, plan, dataset = predictor.plans_manager, predictor.configuration_manager, predictor.dataset_json
    before = str(previous / "case.nii.gz") if previous else None
    data, seg, _ = plan.preprocessor_class(verbose=False).run_case(
        [str(f) for f in files], before, manager, plan, dataset
    )
    if before:
        from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

        labels = manager.get_label_manager(dataset).foreground_labels
        data = np.vstack([data, convert_labelmap_to_one_hot(seg[0], labels, data.dtype)])
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data).float())
    return {"prepared": np.asarray(data, np.float32), "logits": np.asarray(logits, np.float16)}


def make(folder, name, seed=1):
    setting = KINDS[name]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    image, truth = drawing(setting, seed)
    files = []
    for n, channel in enumerate(image):
        files.append(folder / "images" / f"case_{n:04d}.nii.gz")
        write_image(channel, setting, files[-1])
    plans, dataset, configurations = descriptions(setting)
    previous, stages = None, {}
    for configuration in configurations:
        for fold in range(setting["folds"]):
            network = trained(plans, dataset, configuration, setting, image, truth, seed + fold)
            result = save_result(folder / "result", network, plans, dataset, configuration, fold)
        target = folder / f"labels_{configuration}"
        target.mkdir(exist_ok=True)
        with torch.no_grad():
            stages = predict(result, files, target, previous)
        previous = target
    (folder / "labels.nii.gz").write_bytes((previous / "case.nii.gz").read_bytes())
    np.savez(folder / "stages.npz", **stages)


if __name__ == "__main__":
    torch.set_num_threads(2)
    for each in sys.argv[2:] or list(KINDS):
        if not (Path(sys.argv[1]) / each / "stages.npz").is_file():
            print(each, flush=True)
            make(Path(sys.argv[1]) / each, each)
