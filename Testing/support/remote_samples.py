"""A network of one operator that runs in many small windows, and a volume for it: cheap traffic for a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.package import Model, load_model
from support.packages import network, package

_WINDOWS = {"mode": "sliding_window", "patch": [16, 16, 16], "overlap": 0.5, "batch": 1}


def tiny_model(folder: Path) -> Model:
    """Voxels above 0 are the segment."""
    weight = np.array([-1, 1], np.float32).reshape(2, 1, 1, 1, 1)
    made = network()
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    return load_model(package(folder / "tiny", made, inference=_WINDOWS))


def named_volume() -> Volume:
    """Noise, 40x40x24 voxels, that names a patient."""
    array = np.random.default_rng(0).normal(size=(24, 40, 40)).astype(np.float32)
    grid = Grid((40, 40, 24), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    return Volume(array, grid, modality="MR", tags={"PatientName": "Doe^Jane", "PatientID": "4711"})
