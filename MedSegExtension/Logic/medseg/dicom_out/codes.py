"""Coded concepts: what a segment is, what a number is, in which unit. Codes are those of DICOM PS3.16."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.coding import Code

from ..result import SegmentClass

#: Where a model's manifest names no codes: what 3D Slicer also takes for a segment of which nothing is known.
TISSUE = Code("85756007", "SCT", "Tissue")
#: Where a class is a lesion and the manifest names no codes (CID 7150, CID 7159).
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
LESION = Code("52988006", "SCT", "Lesion")

#: The category of what a classifier names without codes of its own.
FINDING = Code("404684003", "SCT", "Clinical finding")

AI = Code("123110", "DCM", "Artificial Intelligence")
PRIVATE_SCHEME = "99MEDSEG"

VOLUME = Code("118565006", "SCT", "Volume")
AREA = Code("42798000", "SCT", "Area")
LESION_COUNT = Code("246206008", "SCT", "Number of lesions")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MR_SIGNAL = Code("110852", "DCM", "MR signal intensity")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
DIAMETER = Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh")
SPHERICITY = Code("QCFX", "IBSI", "Sphericity")
ELONGATION = Code("Q3CK", "IBSI", "Elongation")
FLATNESS = Code("N17B", "IBSI", "Flatness")

MEAN = Code("373098007", "SCT", "Mean")
DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")

MILLILITRE = Code("ml", "UCUM", "milliliter")
CUBIC_MM = Code("mm3", "UCUM", "cubic millimeter")
SQUARE_CM = Code("cm2", "UCUM", "square centimeter")
MM = Code("mm", "UCUM", "millimeter")
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
ONE = Code("1", "UCUM", "no units")
PERCENT = Code("%", "UCUM", "percent")

# DICOM has no codes for a reader's verdict on a finding of an algorithm, hence a private scheme, which is declared.
DECISION = Code("decision", PRIVATE_SCHEME, "Reader's decision on the finding")
DECISIONS = {
    "accepted": Code("accepted", PRIVATE_SCHEME, "Accepted by the reader"),
    "rejected": Code("rejected", PRIVATE_SCHEME, "Rejected by the reader"),
    "uncertain": Code("64957009", "SCT", "Uncertain"),
    "added": Code("added", PRIVATE_SCHEME, "Drawn by the reader"),
    "": Code("open", PRIVATE_SCHEME, "Not decided by the reader"),
}


@dataclass(frozen=True)
class SegmentCodes:
    """What a segment is. ``region``: where it is, None where the model does not say."""

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None


def segment_codes(item: SegmentClass) -> SegmentCodes:
    """The codes in the terminology entry of ``item`` (seven parts, as 3D Slicer writes it), else general ones."""
    parts = (item.terminology.split("~") + [""] * 7)[:7]
    category, kind, modifier, _, region, region_modifier = (_code(p) for p in parts[1:])
    if category is None or kind is None:
        return SegmentCodes(ABNORMAL, LESION) if item.lesion else SegmentCodes(TISSUE, TISSUE)
    return SegmentCodes(category, kind, modifier, region, region_modifier)


def _code(text: str) -> Code | None:
    parts = text.split("^")
    if len(parts) != 3 or not all(p.strip() for p in parts):
        return None
    scheme, value, meaning = (p.strip() for p in parts)
    return Code(value[:16], scheme[:16], meaning[:64])
