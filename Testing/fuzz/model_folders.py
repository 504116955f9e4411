"""Folders of models that describe themselves in other ways than JSON: Raidionics, Auto3DSeg; checkpoints of PyTorch."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from pydantic import TypeAdapter

from medseg.errors import ModelError, damage_is
from medseg.library.importer import import_model
from medseg.library.importer.auto3dseg import classes_of, plan_of, read_labels
from medseg.library.importer.folder_facts import facts_of
from medseg.library.importer.formats import detect_kind
from medseg.library.importer.monai import NETWORKS
from medseg.library.importer.monai_config import Config
from medseg.library.importer.monai_output import network_definition
from medseg.library.importer.pickle_names import check_weights_only
from medseg.model.manifest.steps import PreprocessingStep

from .kind import Files, Kind

_INI = """[Default]
imaging_modality=MRI
task=segmentation
[PreProcessing]
output_spacing=1.2,1.0,1.4
intensity_clipping_range=0.0, 99.5 # per cent
background_cropping=minimum
new_axial_size=
number_inputs=1
channels_order=channels_first
normalization_method=zeromean
[Training]
nb_classes=2
classes=Background, Tumor
patch_size=16,20,24
patch_offset=0,0,0
optimal_thresholds=0.5,0.6
[MRI]
perform_bias_correction=False
"""
_SETTINGS = {
    "network": {"_target_": "SegResNetDS", "in_channels": 1, "out_channels": 3, "init_filters": 8, "dsdepth": 2},
    "roi_size": [96, 96, 96], "normalize_mode": "ct", "intensity_bounds": [-250, 250], "orientation_ras": True,
    "crop_foreground": True, "resample_resolution": [1.5, 1.5, 3.0], "extra_modalities": {"image2": "meanstd"},
    "sigmoid": False,
}  # fmt: skip
_LABELS = "LabelValue,Name,Extra\n0,background,\n1,liver,x\n2,spleen,\n"


def _checkpoint() -> Files:
    """What PyTorch writes around its tensors: a zip with a pickle and numbers."""
    content = {
        "network_weights": OrderedDict(a=1.0, b=[2, 3]), "init_args": {"fold": 0, "configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2), "trainer_name": "nnUNetTrainer",
    }  # fmt: skip
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("checkpoint_final/data.pkl", pickle.dumps(content, 2))
        archive.writestr("checkpoint_final/data/0", bytes(64))
    return {"fold_0/checkpoint_final.pth": out.getvalue()}


def _raidionics() -> Files:
    sizes = [["n", k, "a", "b", "c"] for k in (1, 2)]
    ends = [helper.make_tensor_value_info(*end) for end in zip("xy", [TensorProto.FLOAT] * 2, sizes, strict=True)]
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=1)
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return {"MRI_Tumor/pre_processing.ini": _INI.encode(), "MRI_Tumor/model.onnx": model.SerializeToString()}


def looked_at_and_imported(folder: Path, name: str) -> None:
    """The folder ``name`` of ``folder`` as the panel takes it: what it says is shown, then it is imported."""
    facts_of(folder / name, detect_kind(folder / name))
    import_model(folder / name, None, folder / "out")


def _auto3dseg() -> Files:
    return {"settings.json": json.dumps(_SETTINGS).encode(), "labels.csv": _LABELS.encode()}


def _read_auto3dseg(folder: Path) -> None:
    """What an import does with the settings once they are out of the checkpoint, but for building the network."""
    with damage_is(ModelError, "The description of the model"):
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        if not isinstance(settings, dict):  # the reader of checkpoints has refused it
            return
        plan = plan_of(settings)
        definition, why = network_definition(Config({"n": settings.get("network")}).get("n"), NETWORKS)
        if definition is None:
            raise ModelError(why)
        [int(n) for n in settings["roi_size"]]
        adapter: TypeAdapter[PreprocessingStep] = TypeAdapter(PreprocessingStep)
        for step in plan.steps:
            adapter.validate_python(step)
        classes_of(read_labels(folder / "labels.csv"), 3, bool(settings.get("sigmoid", False)), False)


KINDS = [
    Kind(
        "raidionics", "descriptions", _raidionics, lambda folder: looked_at_and_imported(folder, "MRI_Tumor"),
        damage=("MRI_Tumor/pre_processing.ini",),
    ),
    Kind("checkpoint", "models", _checkpoint, lambda folder: check_weights_only(folder / next(iter(_checkpoint())))),
    Kind("auto3dseg-settings", "descriptions", _auto3dseg, _read_auto3dseg, json=True, damage=("settings.json",)),
    Kind("auto3dseg-labels", "descriptions", _auto3dseg, _read_auto3dseg, damage=("labels.csv",)),
]  # fmt: skip
