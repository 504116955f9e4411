"""What every phantom function returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..geometry.volume import Volume


@dataclass(frozen=True, eq=False)
class Phantom:
    """A drawn volume and its truth.

    ``labels``: uint8 (K, J, I) on the volume's grid; 0 is background. ``classes``: label value -> name.
    ``slice_labels``: uint8 (K, 6), the haemorrhage flags of each slice in the order any, then
    `medseg.phantoms.HAEMORRHAGES`; None for all but head CT. ``lesions``: one dict for each microbleed
    (``center`` in LPS mm, ``diameter_mm``, ``region``); empty for the others.
    """

    volume: Volume
    labels: npt.NDArray[np.uint8]
    classes: dict[int, str]
    slice_labels: npt.NDArray[np.uint8] | None = None
    lesions: list[dict[str, Any]] = field(default_factory=list)
