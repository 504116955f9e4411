"""Models: manifests, packages, ONNX files that bring a manifest or have none."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from medseg import Volume, load_model, run
from medseg.errors import InputError
from medseg.geometry.grid import Grid
from medseg.library.importer import import_with_manifest, propose
from medseg.model.card import read_card
from medseg.model.package import embed_manifest
from support.packages import external, network, package

from .kind import Files, Kind

_RICH = {
    "preprocessing": [
        {"step": "orient", "code": "RAS"},
        {"step": "resample", "spacing": [1.0, 1.0, 2.0], "interpolation": "linear"},
        {"step": "clip", "minimum": 0.0, "maximum": 1.0},
        {"step": "zscore"},
        {"step": "crop_or_pad", "size": [16, 16, None], "pad_value": 0.0},
    ],
    "inference": {"mode": "sliding_window", "patch": [16, 16, 16], "overlap": 0.5},
    "classes": [{"value": 1, "name": "lesion", "lesion": True, "color": [255, 0, 0]}],
    "measurements": [{"kind": "lesion_features"}, {"kind": "lesion_counts"}],
    "postprocessing": [{"step": "remove_small", "voxels": 3}],
    "card": {"description": "A model.", "figures": {"Dice": "0.9"}, "limitations": ["few"]},
}


def _files(folder: Path) -> Files:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def _package() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        return _files(package(Path(folder) / "p", hashed=False, **_RICH).parent)


def _external() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        return _files(external(Path(folder) / "p").parent)


def _zip() -> Files:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _package().items():
            archive.writestr(name, data)
    return {"model.zip": out.getvalue()}


def _embedded() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        source = package(Path(folder) / "p", hashed=False, **_RICH)
        raw = json.loads((source / "manifest.json").read_text())
        return {"one.onnx": embed_manifest(source / "model.onnx", raw, Path(folder) / "one.onnx").read_bytes()}


def _bare() -> Files:
    return {"bare.onnx": network(("n", 1, None, None, None)).SerializeToString()}


def _load(folder: Path) -> None:
    load_model(folder / "p")


def _run(folder: Path) -> None:
    array = np.random.default_rng(1).random((12, 14, 16), np.float32)
    volume = Volume(array, Grid((16, 14, 12), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), np.eye(3)), "MR", "head")
    run(load_model(folder / "p"), volume, device="cpu", threads=1)


def _show(folder: Path) -> Any:
    return read_card(folder / "p")


def _import(folder: Path) -> None:
    proposal = propose(folder / "bare.onnx")
    import_with_manifest(folder / "bare.onnx", proposal.answered({}), folder / "out.zip")


KINDS = [
    Kind("manifest", "models", _package, _run, json=True, damage=("p/manifest.json",)),
    Kind("card", "models", _package, _show, json=True, damage=("p/manifest.json",)),
    Kind("package-zip", "models", _zip, lambda folder: load_model(folder / "model.zip")),
    Kind("onnx", "models", _package, _load, damage=("p/model.onnx",)),
    Kind("onnx-external", "models", _external, _load, damage=("p/model.onnx", "p/weights.bin")),
    Kind("onnx-embedded", "models", _embedded, lambda folder: load_model(folder / "one.onnx")),
    Kind("onnx-import", "models", _bare, _import, allowed=(InputError,)),
]
