"""What is asked before DICOM objects are written: whom they name, and for films whether a plane is made up."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from medseg.geometry.volume import PROJECTIONS
from medseg_mrml.dicom_files import modality_of

_PATIENT, _PLANE = "patient", "plane"


def patient() -> dict[str, Any]:
    """Whom the objects name."""
    return _question(
        _PATIENT,
        _("Whom do the objects name?"),
        [_named(), _nobody()],
        _("An archive files objects under the patient of the images. Without a name they cannot be filed there."),
    )


def of_film(volume: Any, *, in_slicer: bool) -> list[dict[str, Any]]:
    """The question for a film, none for slices. ``in_slicer``: they shall be shown there, so the plane stands first."""
    if modality_of(volume) not in PROJECTIONS:
        return []
    choices = [_placed(), _unplaced()] if in_slicer else [_unplaced(), _placed()]
    why = _(
        "An X-ray has no place in the patient, and by the standard its masks have none. Archives and MedSeg read them; "
        "OHIF and Slicer's own reader show masks only where they lie in a plane. The made-up one is that of the film "
        "as it hangs, in a frame of reference of its own: it puts the mask on the film and says nothing of the patient."
    )
    return [_question(_PLANE, _("Where do the masks of this film lie?"), choices, why)]


def options(given: dict[str, str]) -> dict[str, bool]:
    """What the worker is told of the answers; what was not asked is not done."""
    return {"deidentified": given.get(_PATIENT) == _nobody(), "film_plane": given.get(_PLANE) == _placed()}


def _named() -> str:
    return str(_("the patient, as the images do"))


def _nobody() -> str:
    return str(_("nobody"))


def _unplaced() -> str:
    return str(_("nowhere in the patient, as the standard has it"))


def _placed() -> str:
    return str(_("in a made-up plane, so that OHIF and Slicer show them"))


def _question(id: str, text: str, choices: list[str], why: str) -> dict[str, Any]:
    return {"id": id, "text": text, "choices": choices, "default": choices[0], "why": why}
