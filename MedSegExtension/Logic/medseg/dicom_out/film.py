"""What segmentations of films need: a film has no place in the patient, so its frames have none (PS3.3 A.51.5).

Viewers that were made for slices show no object without one; `give_plane` makes one up where a user asks for it.
"""

from __future__ import annotations

from copy import copy
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from ..io.dicom_source import DicomSource

#: As OHIF, dwv, dcmqi and 3D Slicer place a film that says nothing of its own place.
_AXES, _ORIGIN = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0]


def place_film(made: Any, source: DicomSource) -> None:
    """What highdicom does not take over from a film: which way it faces, and its spacing."""
    header = source.headers[0]
    made.PatientOrientation = header.get("PatientOrientation") or ""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        if keyword in header:
            made[keyword] = copy(header[keyword])


def give_plane(made: Any, source: DicomSource) -> None:
    """Put the frames of a film's segmentation into a frame of reference that no other object shares.

    Its axes are those that viewers assume, not the patient's: what is true of them is the film, which they lie on.
    """
    spacing = source.frames[0].grid.spacing
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[0]:.10g}"]
    measures.SliceThickness = 1.0
    orientation.ImageOrientationPatient = _AXES
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    for frame in made.PerFrameFunctionalGroupsSequence:
        position = Dataset()
        position.ImagePositionPatient = _ORIGIN
        frame.PlanePositionSequence = [position]
    made.FrameOfReferenceUID, made.PositionReferenceIndicator = generate_uid(prefix=None), ""
