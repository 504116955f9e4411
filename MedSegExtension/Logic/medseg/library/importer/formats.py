"""Which kind of file a model is, judged by its content and not only by its name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Literal

from ...errors import InputError, ModelError

Kind = Literal["onnx", "keras", "tfjs", "torch", "nnunet", "monai", "auto3dseg", "raidionics"]
#: Folders that bring their own description, so that no recipe is needed.
SELF_DESCRIBED: tuple[Kind, ...] = ("nnunet", "monai", "auto3dseg", "raidionics")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def detect_kind(path: Path) -> Kind:
    """The kind of the file or folder ``path``. `ModelError` says why it cannot be imported.

    Pickles (PyTorch state dicts and whole modules, joblib, NumPy objects) are refused here: loading one runs code.
    """
    if path.is_dir():
        return _folder_kind(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder.")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ModelError(f"{path.name} is empty; download or copy it again.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path.name} is a Git LFS pointer, not the model; run 'git lfs pull' where it came from.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ModelError(f"{path.name} is a web page, not a model; download the file itself.")
    if head.startswith(_HDF5):
        return "keras"
    if zipfile.is_zipfile(path):
        return _zip_kind(path)
    if path.name == "pre_processing.ini":
        return _folder_kind(path.parent)
    if head.lstrip()[:1] == b"{":
        return _json_kind(path)
    if path.name.startswith("checkpoint_") and path.parent.name.startswith("fold_"):
        raise ModelError(f"{path.name} is a part of an nnU-Net result; choose the folder with plans.json above it.")
    if head[:1] == b"\x80" or path.suffix.lower() in (".pkl", ".pickle", ".joblib", ".pth", ".npy"):
        raise _pickle(path.name)
    if path.suffix.lower() == ".onnx":
        return "onnx"
    raise ModelError(
        f"{path.name} is of no kind that can be imported: .onnx, Keras .h5 or .keras, TensorFlow.js model.json, "
        "PyTorch ExportedProgram .pt2, an nnU-Net v2 result folder or a MONAI bundle."
    )


def _pickle(name: str) -> ModelError:
    return ModelError(
        f"{name} is a pickle, and loading a pickle runs code that is stored in it; MedSeg never does. Export the model "
        "to ONNX (torch.onnx.export) or with torch.export.save to .pt2 where you trust it."
    )


def _is_nnunet_zip(path: Path) -> bool:
    try:
        return _zip_kind(path) == "nnunet"
    except ModelError:
        return False


def _zip_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelError(f"{path.name} is a damaged archive ({error}); get it again.") from error
    plain = {n.split("/")[-1] for n in names}
    if {"plans.json", "dataset.json"} <= plain:
        return "nnunet"
    if "pre_processing.ini" in plain:
        return "raidionics"
    if "metadata.json" in plain and {"model.ts", "model.pt", "inference.json", "inference.yaml"} & plain:
        return "monai"
    if {"model.pt", "labels.csv"} <= plain:
        return "auto3dseg"
    if "model.weights.h5" in names and "config.json" in names:
        return "keras"
    if "archive_format" in plain or any(
        n.endswith(("models/model.json", "serialized_exported_program.json")) for n in names
    ):
        return "torch"
    if {"data.pkl", "constants.pkl"} <= plain and any("/code/" in n for n in names):
        return "torch"  # TorchScript; see torch_convert.py for what loading it does
    if "data.pkl" in plain:
        raise _pickle(path.name)
    raise ModelError(f"{path.name} is an archive of no known kind; a MedSeg package is added with 'models add'.")


def _json_kind(path: Path) -> Kind:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name}: not valid JSON ({error}); get the file again.") from error
    if isinstance(raw, dict) and "modelTopology" in raw:
        return "tfjs"
    if path.name in ("plans.json", "dataset.json", "metadata.json"):
        return _folder_kind(path.parent)
    raise ModelError(f"{path.name} is not the description of a model that can be imported.")


def _folder_kind(folder: Path) -> Kind:
    if (folder / "plans.json").is_file() and (folder / "dataset.json").is_file():
        return "nnunet"
    from .nnunet_folder import result_folders
    from .raidionics import reads

    if result_folders(folder):
        return "nnunet"
    if any(_is_nnunet_zip(z) for z in sorted(folder.glob("*.zip"))[:16]):
        return "nnunet"
    for place in (folder, folder / "configs", *folder.glob("*/configs")):
        if (place / "metadata.json").is_file():
            return "monai"
    if reads(folder):
        return "raidionics"
    if any(
        (place / "model.pt").is_file() and (place / "labels.csv").is_file() for place in (folder, *folder.glob("*/"))
    ):
        return "auto3dseg"
    if (folder / "model.json").is_file():
        return "tfjs"
    raise ModelError(
        f"{folder.name}: this folder holds no nnU-Net v2 result (plans.json, dataset.json), no MONAI bundle "
        "(metadata.json), no Auto3DSeg model (model.pt, labels.csv), no Raidionics model (model.onnx, "
        "pre_processing.ini) and no TensorFlow.js model (model.json)."
    )
