"""Makes small MONAI bundles and runs them as MONAI does. Runs alone, in an environment with MONAI.

``python monai_bundles.py make KIND FOLDER`` and ``python monai_bundles.py run FOLDER IMAGE RESULT.npz``; the result has
``labels`` (C, x, y, z), what each transform gave (``00 Name``, C, x, y, z), and the network's output ``pred``.
"""
# mypy: ignore-errors

import json
import sys
from pathlib import Path

LOAD = [{"_target_": "LoadImaged", "keys": "image"}, {"_target_": "EnsureChannelFirstd", "keys": "image"}]
CT = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1,
      "clip": True}  # fmt: skip
RAS = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
NETWORKS = {
    "SegResNet": {"spatial_dims": 3, "init_filters": 8, "in_channels": 1, "out_channels": 3, "blocks_down": [1, 1, 1],
                  "blocks_up": [1, 1]},
    "SwinUNETR": {"in_channels": 1, "out_channels": 3, "feature_size": 12, "depths": [1, 1, 1, 1],
                  "num_heads": [1, 1, 2, 2]},
    "UNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [8, 16, 24], "strides": [2, 2],
             "num_res_units": 1},
    "BasicUNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "features": [8, 8, 16, 16, 16, 8]},
    "BasicUNetPlusPlus": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "features": [4, 4, 8, 8, 8, 4]},
    "DynUNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3],
                "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [8, 12, 16], "res_block": True},
    "SegResNetDS": {"spatial_dims": 3, "init_filters": 8, "in_channels": 1, "out_channels": 3, "blocks_down": [1, 1, 1],
                    "dsdepth": 2},
    "UNETR": {"in_channels": 1, "out_channels": 3, "img_size": [48, 48, 32], "feature_size": 4, "hidden_size": 24,
              "mlp_dim": 48, "num_heads": 4},
    "VNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3},
    "AttentionUnet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [8, 12, 16],
                      "strides": [2, 2]},
    "HighResNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3},
    "FlexibleUNet": {"in_channels": 1, "out_channels": 3, "backbone": "efficientnet-b0", "spatial_dims": 3,
                     "decoder_channels": [32, 16, 8, 8, 8]},
    "SegResNetVAE": {"spatial_dims": 3, "input_image_size": [64, 64, 64], "init_filters": 8, "in_channels": 1,
                     "out_channels": 3, "blocks_down": [1, 1, 1], "blocks_up": [1, 1], "vae_nz": 16},
    "SegResNetDS2": {"spatial_dims": 3, "init_filters": 8, "in_channels": 1, "out_channels": 3,
                     "blocks_down": [1, 1, 1], "dsdepth": 1},
    "AHNet": {"layers": [1, 1, 1, 1], "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "psp_block_num": 3,
              "upsample_mode": "trilinear", "pretrained": False},
    "RegUNet": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "num_channel_initial": 8, "depth": 2},
    "MedNeXt": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "init_filters": 8, "blocks_down": [1, 1],
                "blocks_up": [1, 1], "blocks_bottleneck": 1, "deep_supervision": True},
    "UNet 2D": {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [8, 16, 24], "strides": [2, 2],
                "num_res_units": 1},
    "MedNeXtS": {"spatial_dims": 3, "in_channels": 1, "out_channels": 3},
}  # fmt: skip
#: Those whose window is the whole of the small image, or must be divisible by more.
LARGE = {"SwinUNETR", "SegResNetVAE", "AHNet", "RegUNet", "MedNeXt", "MedNeXtS"}


def spacing(*values, **more):
    return {"_target_": "Spacingd", "keys": "image", "pixdim": list(values), "mode": "bilinear", **more}


def crop(**more):
    return {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", **more}


def normal(**more):
    return {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True, **more}


KINDS = {
    "segresnet-pt": ("SegResNet", "pt", [RAS, spacing(1.5, 1.5, 2.0), CT, crop()], "linear"),
    "segresnet-ts": ("SegResNet", "ts", [crop(margin=3), RAS, spacing(1.4, 1.6, 2.2), normal()], "labels"),
    "swinunetr-pt": ("SwinUNETR", "pt", [RAS, spacing(1.5, 1.5, 2.0), CT, crop(k_divisible=4)], "linear"),
    "swinunetr-ts": ("SwinUNETR", "ts", [RAS, spacing(1.6, 1.6, 2.0), CT], "labels"),
    "unet-percentiles": ("UNet", "pt", [
        {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": 1, "upper": 99, "b_min": 0,
         "b_max": 1, "clip": True},
        {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": [64, 48, 40]}], "logits"),
    "basicunet-sigmoid": ("BasicUNet", "pt", [
        RAS, {"_target_": "Resized", "keys": "image", "spatial_size": [48, 48, 32], "mode": "trilinear"},
        {"_target_": "ScaleIntensityd", "keys": "image"}], "sigmoid"),
    # A network of slices in windows of each slice of a volume, and of flat images (x, y).
    "slices-unet-pt": ("UNet 2D", "pt", [RAS, spacing(1.5, 1.5, 2.0), normal(), crop(margin=2)], "linear"),
    "flat-unet-pt": ("UNet 2D", "pt", [spacing(1.5, 1.1), normal(), crop(k_divisible=4)], "linear"),
    "flat-whole-unet-ts": ("UNet 2D", "ts", [
        {"_target_": "Resized", "keys": "image", "spatial_size": [64, 48], "mode": "bilinear"},
        {"_target_": "ScaleIntensityd", "keys": "image"}], "labels"),
    # The image of this kind has half the spacing: on the way back every second label lies between two.
    "ties-segresnet-ts": ("SegResNet", "ts", [RAS, spacing(1.5, 1.5, 2.5), normal()], "labels"),
}  # fmt: skip
#: The other networks: one chain for all.
KINDS |= {
    f"{name.lower()}-pt": (name, "pt", [RAS, spacing(1.5, 1.5, 2.0), normal()], "linear")
    for name in ("BasicUNetPlusPlus", "DynUNet", "SegResNetDS", "UNETR", "VNet", "AttentionUnet", "HighResNet",
                 "FlexibleUNet", "SegResNetVAE", "SegResNetDS2", "AHNet", "RegUNet", "MedNeXt", "MedNeXtS")
}  # fmt: skip
AFTER = {
    "linear": [{"softmax": True}, False, {"argmax": True}],
    "labels": [{"softmax": True}, {"argmax": True}, True],
    "logits": [False, {"argmax": True}],
    "sigmoid": [{"sigmoid": True}, False, {"threshold": 0.5}],
}


def make(kind, folder):
    import torch
    from monai.networks import nets

    name, form, steps, after = KINDS[kind]
    torch.manual_seed(7)
    own, flat = NETWORKS[name], name.endswith(" 2D")
    name = name.removesuffix(" 2D")
    network = getattr(nets, name)(**own).eval()
    classes = {str(n): c for n, c in enumerate(("background", "liver", "tumour"))}
    if after == "sigmoid":
        classes = {str(n): c for n, c in enumerate(("whole", "core", "rim"))}
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    metadata = {
        "name": kind, "version": "1.0.0",
        "network_data_format": {
            "inputs": {"image": {"modality": "MR", "num_channels": 1, "spatial_shape": [64] * (2 if flat else 3)}},
            "outputs": {"pred": {"num_channels": 3, "channel_def": classes}},
        },
    }  # fmt: skip
    roi = [64, 64, 64] if name in LARGE else [64, 64, 32] if name == "FlexibleUNet" else [48, 40, 32]
    if name in ("UNETR", "VNet", "BasicUNetPlusPlus"):
        roi = [48, 48, 32]
    windows = {"_target_": "SlidingWindowInferer", "roi_size": roi, "overlap": 0.4,
               "mode": "constant" if after == "logits" else "gaussian"}  # fmt: skip
    if flat:
        roi = windows["roi_size"] = [64, 48] if "whole" in kind else [48, 32]
    if "whole" in kind:
        windows = {"_target_": "SimpleInferer"}
    if kind.startswith("slices"):
        windows |= {"_target_": "SliceInferer", "spatial_dim": 2}
    post = []
    for item in AFTER[after]:
        if isinstance(item, bool):
            post.append({"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
                         "nearest_interp": item, "to_tensor": True})  # fmt: skip
        else:
            decides = "argmax" in item or "threshold" in item
            post.append({"_target_": "AsDiscreted" if decides else "Activationsd", "keys": "pred", **item})
    inference = {
        "device": "$torch.device('cpu')", "network_def": {"_target_": name, **own},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose", "transforms": [*LOAD, *steps, {"_target_": "EnsureTyped", "keys": "image"}],
        },
        "inferer": windows,
        "postprocessing": {"_target_": "Compose", "transforms": post},
    }  # fmt: skip
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    if form == "pt":
        torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
        return
    with torch.no_grad():
        program = torch.jit.trace(network, torch.randn(1, 1, *roi))
    program.save(str(folder / "models" / "model.ts"))


def run(folder, image, output):
    """MONAI's own reader of configurations makes everything; what it gave is saved, stage by stage."""
    import numpy as np
    import torch
    from monai.bundle import ConfigParser
    from monai.data import decollate_batch, list_data_collate

    config = ConfigParser()
    config.read_config(str(folder / "configs" / "inference.json"))
    config.read_meta(str(folder / "configs" / "metadata.json"))
    before, after = config.get_parsed_content("preprocessing"), config.get_parsed_content("postprocessing")
    weights = folder / "models" / "model.pt"
    if weights.is_file():
        network = config.get_parsed_content("network_def")
        network.load_state_dict(torch.load(weights, weights_only=True)["model"])
    else:
        network = torch.jit.load(str(folder / "models" / "model.ts"))
    network.eval()
    data, stages = {"image": str(image)}, {}
    for number, transform in enumerate(before.transforms):
        data = transform(data)
        if hasattr(data["image"], "as_tensor") and data["image"].ndim >= 3:
            stages[f"{number:02} {type(transform).__name__}"] = data["image"].as_tensor().numpy()
    batch = list_data_collate([before({"image": str(image)})])

    branch = 1 if folder.name == "segresnetds2-pt" else 0

    def first(x):
        # MONAI's windows do not take the None that SegResNetVAE gives beside its map.
        found = network(x)
        # SegResNetDS2 gives a map of its branch for points, then one of that for classes.
        return found[branch] if isinstance(found, tuple) else found

    with torch.no_grad():
        batch["pred"] = config.get_parsed_content("inferer")(batch["image"], first)
    stages["pred"] = np.asarray(batch["pred"][0])
    result = after(decollate_batch(batch)[0])["pred"]
    np.savez(output, labels=np.asarray(result.as_tensor()).astype(np.uint8), **stages)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        run(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
