"""All kinds of input that are damaged."""

from __future__ import annotations

from . import descriptions, dicom, messages, model_folders, models, reviews, volumes
from .kind import Kind


def kinds() -> dict[str, Kind]:
    """By name."""
    every = [
        *volumes.KINDS,
        *dicom.KINDS,
        *models.KINDS,
        *descriptions.KINDS,
        *messages.KINDS,
        *reviews.KINDS,
        *model_folders.KINDS,
    ]
    return {kind.name: kind for kind in every}
