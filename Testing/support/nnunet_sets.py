"""Five small nnU-Net results with TotalSegmentator's structure, and its way around nnU-Net, as its description has it.

Runs in an environment with nnU-Net: ``python nnunet_sets.py FOLDER RECIPE.json`` writes ``FOLDER/parts`` (random
networks), ``FOLDER/ct.nii.gz`` (axes permuted and flipped) and ``FOLDER/labels.nii.gz``: turned to R, A, S, zoomed to
the recipe's spacing, decimals cut off, each part by nnU-Net's predictor with the recipe's overlap, the later part over
the earlier one, zoomed back by nearest voxel, turned back.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import nnunet_folders as kinds
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy import ndimage


def make_part(folder, classes, spacing, seed):
    """The result of one part with random weights; its folder."""
    labels = {"background": 0, **{f"c{n}": n for n in range(1, classes + 1)}}
    setting = kinds.kind(
        (40, 40, 40), (1, 1, 1), (32, 32, 32), (spacing,) * 3, channels=["CT"], schemes=["CTNormalization"],
        labels=labels, plans={"image_reader_writer": "NibabelIOWithReorient"},
    )  # fmt: skip
    plans, dataset, _ = kinds.descriptions(setting)
    plan = PlansManager(json.loads(json.dumps(plans))).get_configuration("3d_fullres")
    torch.manual_seed(seed)
    network = get_network_from_plans(
        plan.network_arch_class_name, plan.network_arch_init_kwargs, plan.network_arch_init_kwargs_req_import, 1,
        classes + 1, deep_supervision=False,
    )  # fmt: skip
    return kinds.save_result(folder, network, plans, dataset, "3d_fullres", 0)


def main(folder, recipe):
    facts, joined = recipe["nnunet"], recipe["manifest"]["joined"]
    values = ndimage.gaussian_filter(np.random.default_rng(3).standard_normal((70, 60, 50)), 4)
    affine = np.array([[0, -0.95, 0, 10], [1.1, 0, 0, -20], [0, 0, 1.3, 5], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image((values / values.std() * 150 + 40).astype(np.int16), affine)
    nib.save(image, folder / "ct.nii.gz")
    upright = nib.as_closest_canonical(image)
    data, zoom = upright.get_fdata(), np.array(upright.header.get_zooms()) / facts["spacing"]
    small = ndimage.zoom(data, zoom, mode="nearest", order=1).astype(np.int32)
    moved = upright.affine.copy()
    moved[:3, :3] /= zoom
    nib.save(nib.Nifti1Image(small, moved), folder / "small_0000.nii.gz")
    labels = np.zeros(small.shape, np.uint8)
    for n, part in enumerate(joined):
        place = folder / "parts" / facts["parts"][part["model"]].replace("*", f"part{n}")
        result = make_part(place, len(part["values"]), facts["spacing"], n)
        predictor = nnUNetPredictor(
            tile_step_size=1 - facts["overlap"], use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(result), None, "checkpoint_final.pth")
        out = folder / f"out{n}"
        out.mkdir()
        predictor.predict_from_files_sequential([[str(folder / "small_0000.nii.gz")]], str(out))
        table = np.zeros(256, np.uint8)
        for own, there in part["values"].items():
            table[int(own)] = there
        mapped = table[np.asarray(nib.load(out / "small.nii.gz").dataobj).astype(np.uint8)]
        np.copyto(labels, mapped, where=mapped > 0)
    back = ndimage.zoom(labels, np.array(data.shape) / np.array(small.shape), mode="nearest", order=0)
    turn = nib.orientations.ornt_transform(nib.io_orientation(upright.affine), nib.io_orientation(affine))
    nib.save(nib.Nifti1Image(back, upright.affine).as_reoriented(turn), folder / "labels.nii.gz")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
