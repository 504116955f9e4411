"""Imported means equal: the package run on an image whose labels the original framework gave, from end to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...geometry.grid import Grid
from ...geometry.volume import Volume
from ...model.manifest.schema import Manifest
from ...model.package import load_model
from ...monitor import Monitor
from .converted import Chain

# Below this share of equal voxels the two chains are not the same one.
_ALIKE = 0.99


def equal_share(package: Path, chain: Chain, monitor: Monitor) -> float:
    """The share (0..1) of voxels of ``chain.image`` with the label that the original gave.

    Raises `ModelError` where so few are equal that something in the description must have been misunderstood.
    """
    from ...pipeline.run import run

    image = chain.image
    grid = Grid(image.shape[:0:-1], chain.spacing, (0.0, 0.0, 0.0), np.eye(3))
    if chain.orientation == "RAS":
        grid = Grid(grid.size, chain.spacing, (0.0, 0.0, 0.0), np.diag([-1.0, -1.0, 1.0]))
    model = load_model(package)
    volumes = [
        Volume(np.ascontiguousarray(values), grid, next(iter(channel.modality), ""), f"probe {channel.name}")
        for values, channel in zip(image, model.manifest.channels, strict=True)
    ]
    # What the run says of a random image is of no interest to the user; only cancelling is passed on.
    inner = Monitor()
    with monitor.on_cancel(inner.cancel):
        layers = run(model, volumes, monitor=inner, device="cpu").layers
    share = float(np.mean(equal_voxels(layers, chain.labels, model.manifest)))
    if share < _ALIKE:
        raise ModelError(
            f"On a probe image only {share:.2%} of the voxels get the label that {chain.framework} gives; the package "
            "is not kept. Please report this model."
        )
    return share


def equal_voxels(layers: Sequence[Any], labels: npt.NDArray[Any], manifest: Manifest) -> npt.NDArray[np.bool_]:
    """Where (K, J, I) ``layers`` have the original's ``labels``; (C, K, J, I) of classes that may overlap.

    Of these a voxel is equal where all its classes are; where the package joins them, the last one that holds is.
    """
    if labels.ndim == 3:
        return np.asarray(layers[0].labels == labels)
    if manifest.output.exclusive:
        joined = np.zeros(labels.shape[1:], np.uint16)
        for item in manifest.classes:
            joined[labels[item.sigmoid_channel] > 0] = item.value
        return np.asarray(layers[0].labels == joined)
    same = np.ones(labels.shape[1:], dtype=bool)
    for layer, wanted in zip(layers, labels, strict=True):
        same &= (layer.labels > 0) == (wanted > 0)
    return same
