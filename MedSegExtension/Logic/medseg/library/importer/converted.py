"""What a converter hands over: an ONNX model and what is known of how well it agrees with the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ...monitor import Monitor


@dataclass(frozen=True)
class ImportOptions:
    """How to import.

    ``choices``: what the user chose of a folder (``configuration``, ``folds``, ``weights``, ``skip``, ...).
    ``backbone``: file of
    the first stage of a two-stage model.
    ``environment``: a Python interpreter that has what conversion needs, in place of a throw-away one. ``wheels``: a
    folder of wheels to install from, without network. ``overwrite``: replace an existing package. ``id``, ``title``: in
    place of the recipe's.
    """

    choices: dict[str, str] = field(default_factory=dict)
    backbone: Path | None = None
    environment: Path | None = None
    wheels: Path | None = None
    overwrite: bool = False
    id: str | None = None
    title: str | None = None


@dataclass(frozen=True)
class Probe:
    """What the original framework gave for known inputs. ``feeds`` in the order of the model's inputs."""

    framework: str
    feeds: list[npt.NDArray[Any]]
    output: npt.NDArray[Any]


@dataclass(frozen=True)
class Chain:
    """The labels that the original framework gave for an image, with its own preparation, windows and restoring.

    ``image``: (C, K, J, I). ``spacing``: (i, j, k) in mm. ``orientation``: of its axes. ``labels``: (K, J, I),
    or (L, K, J, I) for classes that may overlap.
    """

    framework: str
    image: npt.NDArray[Any]
    spacing: tuple[float, float, float]
    orientation: str
    labels: npt.NDArray[Any]


@dataclass
class Inner:
    """A network of its own inside the package: ``folder`` (relative), its manifest, its graph."""

    folder: str
    manifest: dict[str, Any]
    converted: Converted


@dataclass
class Converted:
    """``model``: the ONNX graph. ``parameters``: trained numbers in the original, None where not counted.

    ``chain``: to compare whole runs, where the original framework could be run.
    ``notes``: sentences for the user. ``facts``: for ``import.json``. ``inner``: further networks of the package.
    ``changes``: fields of the manifest that are set once the chains were compared.
    """

    model: onnx.ModelProto
    parameters: int | None = None
    probe: Probe | None = None
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    chain: Chain | None = None
    inner: list[Inner] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)


def largest_difference(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """Largest absolute difference of two arrays of one shape, in double precision."""
    return float(np.max(np.abs(found.astype(np.float64) - wanted.astype(np.float64)), initial=0.0))


def tell(monitor: Monitor, notes: list[str]) -> None:
    """Each note as a warning."""
    for note in notes:
        monitor.warn(note)
