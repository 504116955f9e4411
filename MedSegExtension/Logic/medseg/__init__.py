"""MedSeg core: medical ONNX models on volumes, without Slicer or Qt. Research use only.

>>> from medseg import load_model, read_volume, run       # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Imported on first use: Slicer's own process must be able to import the light modules (grid, result, model_card)
# before onnxruntime and pydantic are installed, and quickly.
_PUBLIC = {
    "Model": "medseg.model.package",
    "Grid": "medseg.geometry.grid",
    "Volume": "medseg.geometry.volume",
    "Result": "medseg.result",
    "MedSegError": "medseg.errors",
    "read_volume": "medseg.io",
    "load_model": "medseg.model.package",
    "run": "medseg.pipeline.run",
    "RunOptions": "medseg.pipeline.run",
    "write_result": "medseg.output.folder",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from .errors import MedSegError as MedSegError
    from .geometry.grid import Grid as Grid
    from .geometry.volume import Volume as Volume
    from .io import read_volume as read_volume
    from .model.package import Model as Model
    from .model.package import load_model as load_model
    from .output.folder import write_result as write_result
    from .pipeline.run import RunOptions as RunOptions
    from .pipeline.run import run as run
    from .result import Result as Result


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'medseg' has no attribute {name!r}")
