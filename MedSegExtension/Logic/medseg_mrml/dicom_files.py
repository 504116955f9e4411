"""The DICOM files that a volume node was loaded from, as Slicer's DICOM database knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from medseg.errors import InputError

from .hierarchy import attribute_of

_INSTANCES = "DICOM.instanceUIDs"
_MODALITY = "DICOM.Modality"


def database() -> Any | None:
    """Slicer's DICOM database, None where there is none or it is closed."""
    found = getattr(slicer, "dicomDatabase", None)
    return found if found is not None and found.isOpen else None


def modality_of(node: Any) -> str:
    """The DICOM modality of the volume ``node``: its own, that of its series in the scene or in the database, or ""."""
    own = node.GetAttribute(_MODALITY) or attribute_of(node.GetScene(), node, _MODALITY)
    instances, known = (node.GetAttribute(_INSTANCES) or "").split(), database()
    if own or not instances or known is None:
        return str(own or "")
    return str(known.instanceValue(instances[0], "0008,0060") or "")


def source_files(node: Any) -> list[str]:
    """The files of the volume ``node``, in the order of its slices.

    Raises `InputError` where it was not loaded from DICOM, or its files are not in the database any more.
    """
    name = node.GetName()
    instances = (node.GetAttribute(_INSTANCES) or "").split()
    if not instances:
        raise InputError(
            f"{name} was not loaded from DICOM, so there are no images that DICOM objects could refer to; load it from "
            "the DICOM module and run again, or export as .seg.nrrd."
        )
    known = database()
    if known is None:
        raise InputError("Slicer's DICOM database is not open; open the DICOM module once, then export again.")
    files = [str(known.fileForInstance(uid) or "") for uid in instances]
    missing = sum(not file or not Path(file).is_file() for file in files)
    if missing:
        raise InputError(
            f"{missing} of the {len(files)} DICOM files of {name} are not in Slicer's database any more; import the "
            "series again in the DICOM module."
        )
    return list(dict.fromkeys(files))
