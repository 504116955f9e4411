"""Makes a small Auto3DSeg model as SlicerMONAIAuto3DSeg publishes them. Runs alone, in an environment with MONAI.

``python auto3dseg_models.py KIND FOLDER`` writes ``model.pt`` (weights from a seed, settings) and ``labels.csv``.
"""
# mypy: ignore-errors

import sys
from pathlib import Path

NAMES = {"ct": "whole-body-small", "brats-sigmoid": "brats-small"}
#: Settings beside those that all have.
KINDS = {
    "ct": {"normalize_mode": "ct", "intensity_bounds": [-100.0, 200.0], "resample_resolution": [1.5, 1.5, 2.0]},
    "range-uncropped": {"normalize_mode": "range", "intensity_bounds": [0.0, 180.0], "crop_foreground": False,
                        "orientation_ras": False},
    "mri": {"normalize_mode": "mri", "resample_resolution": [1.4, 1.4, 1.4]},
    "meanstdtanh": {"normalize_mode": "meanstdtanh", "orientation_ras": False},
    "pet-and-ct": {"normalize_mode": "ct", "intensity_bounds": [-100.0, 200.0], "extra_modalities": {"image2": "pet"},
                   "resample_resolution": [2.0, 2.0, 2.0]},
    "brats-sigmoid": {"normalize_mode": "meanstd", "extra_modalities": {"image2": "meanstd"}, "sigmoid": True},
}  # fmt: skip


def make(kind, folder):
    import torch
    from monai.networks.nets import SegResNetDS

    own = KINDS[kind]
    network = {
        "spatial_dims": 3, "init_filters": 8, "in_channels": 1 + len(own.get("extra_modalities", {})),
        "out_channels": 3, "blocks_down": [1, 1, 1], "dsdepth": 2,
    }  # fmt: skip
    torch.manual_seed(3)
    weights = SegResNetDS(**network).eval().state_dict()
    settings = {
        "network": {"_target_": "SegResNetDS", **network}, "roi_size": [32, 40, 32], "orientation_ras": True,
        "crop_foreground": True, **own,
    }  # fmt: skip
    folder.mkdir(parents=True)
    torch.save({"state_dict": weights, "config": settings}, folder / "model.pt")
    (folder / "labels.csv").write_text("LabelValue,Name\n0,background\n1,liver\n2,spleen\n3,rim\n")


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
