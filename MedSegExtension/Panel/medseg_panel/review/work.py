"""What a reader is given to review: an image, a mask or a table of slices, and where the review is kept.

Imported when the first case is opened, since it brings the readers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg.errors import InputError
from medseg.io.segmentations import Segmentation
from medseg.io.slice_scores import POSITION
from medseg.result import Table
from medseg.review.cases import case_folder
from medseg.review.decisions import Review
from medseg_mrml.arrays import array_of
from medseg_mrml.reviewed import masks_of


@dataclass(frozen=True, eq=False)
class Work:
    """What a reader is given. ``volume``: a node; ``masks``: None for a classifier, whose ``slices`` count instead.

    ``source``: the node that ``masks`` were read from, hidden meanwhile; None where they came from a file.
    ``probabilities``: class name -> volume node, or ``maps``: -> array (K, J, I) on the grid of the masks.
    ``lesions``: a table with the regions of lesions, where there is one.
    """

    case: str
    volume: Any
    masks: Segmentation | None
    folder: Path
    source: Any = None
    slices: Table | None = None
    probabilities: Mapping[str, Any] | None = None
    lesions: Table | None = None
    reader: str = ""
    model_id: str = ""
    maps: Mapping[str, Any] | None = None
    image_file: str = ""
    mask_file: str = ""


def work_of_nodes(
    volume: Any,
    source: Any,
    root: Path,
    reader: str = "",
    *,
    slices: Table | None = None,
    lesions: Table | None = None,
    probabilities: Mapping[str, Any] | None = None,
    model_id: str = "",
) -> tuple[Work, list[str]]:
    """Work on nodes of the scene; and sentences of what reading the mask assumed.

    It is kept in a folder below ``root`` that is called after the volume and the mask's content, so that two patients
    whose series have one name do not meet; of an empty mask the image's content counts. A review that was begun when
    the volume had another name is gone on with, which is told. Raises `InputError` where there is nothing to review.
    """
    name = volume.GetName() or "volume"
    if source is None:
        if slices is None:
            raise InputError("Choose a mask, or run a model first.")
        folder, told = _folder(root, name, hashlib.sha256(slices.to_csv().encode()).hexdigest()[:8], reader)
        return Work(name, volume, None, folder, None, slices, reader=reader, model_id=model_id), told
    found = masks_of(source, volume)
    masks = Segmentation(found.grid, found.layers, source.GetName(), found.model_id or model_id, found.warnings)
    digest = hashlib.sha256()
    for layer in masks.layers:
        digest.update(np.ascontiguousarray(layer.labels))
    if not any(layer.labels.any() for layer in masks.layers):
        digest.update(str((masks.grid.size, masks.grid.affine_ras.round(3).tolist())).encode())
        digest.update(np.ascontiguousarray(array_of(volume.GetImageData())))
    folder, told = _folder(root, name, digest.hexdigest()[:8], reader)
    work = Work(name, volume, masks, folder, source, None, probabilities, lesions, reader, masks.model_id)
    return work, [*found.warnings, *told]


def _folder(root: Path, name: str, content: str, reader: str) -> tuple[Path, list[str]]:
    """Where the review of this content is kept, under whatever name it was begun; and a sentence on that."""
    folder = case_folder(root, f"{name}-{content}", reader)
    try:
        if not folder.is_dir():
            (earlier,) = folder.parent.glob(f"*-{content}*")
            return earlier, [f"The review of this mask was begun as {earlier.name}, and goes on there."]
    except (OSError, ValueError):  # none, or several
        pass
    return folder, []


def regions_of(review: Review, lesions: Table | None) -> dict[int, str]:
    """Finding -> region, where the model's table of lesions names one at its place."""
    names = [c.name for c in lesions.columns] if lesions is not None else []
    column = next((n for n in ("region", "location") if n in names), "")
    if lesions is None or not column or not set(POSITION) <= set(names):
        return {}
    places = [
        (str(where), [float(v or 0.0) for v in place])
        for where, *place in zip(lesions.column(column), *(lesions.column(n) for n in POSITION), strict=True)
        if where
    ]
    found = {}
    for finding in review.findings.values():
        near = max(2.0, *finding.extent)
        best = min(places, key=lambda one: math.dist(one[1], finding.centre), default=None)
        if best is not None and math.dist(best[1], finding.centre) <= near:
            found[finding.id] = best[0]
    return found
