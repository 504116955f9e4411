"""Who made an object: MedSeg as the device, the model as the algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydicom.uid import generate_uid

from .. import __version__
from ..io.dicom_source import DicomSource
from ..result import Result
from .codes import AI, PRIVATE_SCHEME
from .library import highdicom

#: Series numbers of new objects: that of the images, then one of these digits.
KINDS = {"segmentation": 1, "labelmap": 2, "probabilities": 3, "report": 4}
_LONGEST_NUMBER = 10**8


@dataclass(frozen=True)
class Origin:
    """``name``, ``version``, ``sha256``: of the model; "" where nothing is known of it."""

    name: str = ""
    version: str = ""
    sha256: str = ""
    id: str = ""

    @classmethod
    def of(cls, result: Result) -> Origin:
        """What the provenance of a result says of its model."""
        model = result.provenance.get("model") or {}
        return cls(*(str(model.get(k) or "") for k in ("title", "version", "sha256", "id")))

    def algorithm(self) -> Any:
        """The Algorithm Identification Sequence of segments, None where no model is known."""
        if not (self.name or self.id):
            return None
        return highdicom().AlgorithmIdentificationSequence(
            name=(self.name or self.id)[:64],
            family=AI,
            version=(self.version or "unknown")[:64],
            source="MedSeg",
            parameters={"model": self.id, "sha256": self.sha256, "medseg": __version__},
        )


def device(source: DicomSource, kind: str, description: str, number: int = 1) -> dict[str, Any]:
    """What every new object says of itself: fresh UIDs, series, equipment."""
    own = source.headers[0].get("SeriesNumber")
    series = int(own) if own not in (None, "") and 0 <= int(own) < _LONGEST_NUMBER else 0
    return {
        "series_instance_uid": generate_uid(prefix=None),
        "sop_instance_uid": generate_uid(prefix=None),
        "series_number": series * 10 + KINDS[kind],
        "instance_number": number,
        "manufacturer": "MedSeg",
        "manufacturer_model_name": "MedSeg",
        "software_versions": __version__,
        "device_serial_number": __version__,
        "series_description": description[:64],
    }


def coding_scheme() -> Any:
    """The declaration of MedSeg's own codes, which the reader's decisions use."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return CodingSchemeIdentificationItem(
        PRIVATE_SCHEME, name="MedSeg", responsible_organization="The MedSeg contributors"
    )
