"""A result's numbers -> DICOM Structured Report, TID 1500 (PS3.16), with highdicom. Its groups: `report_groups`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from .. import __version__
from ..io.dicom_source import DicomSource
from ..result import Result, SegmentClass, classes_of
from . import codes as c
from .library import highdicom, quietly
from .origin import Origin, coding_scheme, device
from .report_groups import Groups, Review
from .segmentation import SegmentationObject

_PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
}
_PROCEDURES["CR"] = _PROCEDURES["DX"]
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
#: The library of images in the report describes each of them; larger series are named as
#: evidence only, and so are multi-frame images, whose geometry highdicom does not look for in functional groups.
_MOST_IN_LIBRARY = 64


def report(
    result: Result,
    source: DicomSource,
    made: Sequence[SegmentationObject],
    origin: Origin,
    review: Review | None = None,
    classes: Sequence[SegmentClass] = (),
) -> Any | None:
    """The report of a result, None where it has no number that a report can hold.

    ``made``: the segmentation objects that it refers to. ``classes``: of the model, for the codes of slice scores.
    """
    known = {item.name: item for item in (*classes, *classes_of(result.layers))}
    writer = Groups(result, source, made, origin, known)
    with quietly():
        groups = [*writer.segments(), *writer.lesions(review), *writer.scores()]
        if not groups:
            return None
        hd = highdicom()
        headers = source.headers
        person = _person(review) if review is not None and review.findings else None
        content = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(
                observer_person_context=person, observer_device_context=_machine(origin)
            ),
            procedure_reported=_PROCEDURES.get(source.modality or "", _ANY_PROCEDURE),
            imaging_measurements=groups,
            title=_REPORT,
            referenced_images=headers if len(headers) <= _MOST_IN_LIBRARY and not source.multi_frame else None,
        )
        return hd.sr.Comprehensive3DSR(
            evidence=[*headers, *(one.dataset for one in made)],
            content=content[0],
            is_complete=True,
            is_final=False,
            is_verified=False,
            coding_schemes=[coding_scheme()] if _has_own_codes(content) else None,
            **device(source, "report", f"{origin.id or 'MedSeg'} measurements"),
        )


def _machine(origin: Origin) -> Any:
    hd = highdicom()
    return hd.sr.ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=generate_uid(prefix=None), name="MedSeg", manufacturer_name="MedSeg",
            model_name=origin.id or "MedSeg", serial_number=__version__,
        ),
    )  # fmt: skip


def _person(review: Review) -> Any:
    hd = highdicom()
    return hd.sr.ObserverContext(
        observer_type=Code("121006", "DCM", "Person"),
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name=f"{review.reader or 'Reader'}^"),
    )


def _has_own_codes(content: Any) -> bool:
    stack = list(content)
    while stack:
        item = stack.pop()
        for keyword in ("ConceptNameCodeSequence", "ConceptCodeSequence"):
            if any(code.get("CodingSchemeDesignator") == c.PRIVATE_SCHEME for code in item.get(keyword) or []):
                return True
        stack += item.get("ContentSequence") or []
    return False
