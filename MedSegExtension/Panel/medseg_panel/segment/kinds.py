"""Kinds of volumes in the reader's words, and which models are for which. No Qt, no nodes."""

from __future__ import annotations

import re

from slicer.i18n import tr as _

from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard

# DICOM modality codes (PS3.3 C.7.3.1.1.1) as they are said; those not listed are said as they are.
_SAID = {"CR": "X-ray", "DX": "X-ray", "DR": "X-ray", "XA": "angiography", "MG": "mammography", "US": "ultrasound",
         "PT": "PET", "NM": "scintigraphy"}  # fmt: skip
# What a series is often called by; the longer first, since "t2" is also in "t2*" and "t2 flair".
_SEQUENCES = ("flair", "swi", "t2*", "dwi", "adc", "t1", "t2", "pd")


def modality_words(codes: tuple[str, ...]) -> str:
    """The modalities as a reader says them, each once: ``MR``, ``X-ray``, ``CT or MR``."""
    return _(" or ").join(dict.fromkeys(_SAID.get(code, code) for code in codes))


def tag_of(card: ModelCard) -> str:
    """Body part and modality of a model: ``head CT``, ``chest X-ray``."""
    return " ".join(part for part in (card.body_part, modality_words(card.modality)) if part)


def reading_of(card: ModelCard) -> str:
    """What a model reads: ``brain MR, T1``; the names of its channels where they say more than the tag."""
    tag = tag_of(card)
    names = [c.name for c in card.channels if c.name.lower() not in tag.lower()]
    return ", ".join(part for part in (tag or _("any modality"), _(" and ").join(names)) if part)


def sequence_of(name: str) -> str:
    """The sequence that a volume's name speaks of (``flair``, ``t1``, ...), or ""."""
    words = re.split(r"[^a-z0-9*]+", name.lower())
    return next((s for s in _SEQUENCES if any(w.startswith(s) for w in words)), "")


def kind_of(volume: Volume | None) -> str:
    """For what a model is remembered: modality and sequence, ``MR-flair``, ``CT``; "" without a volume."""
    if volume is None:
        return ""
    return "-".join(part for part in (volume.modality or "unknown", sequence_of(volume.name)) if part)


def misfit(card: ModelCard, volume: Volume | None) -> int:
    """How badly the first channel of a model suits ``volume``.

    0: modality and sequence agree, 1: modality agrees, 2: not known, 3: another sequence, 4: another modality.
    """
    if volume is None or not card.channels:
        return 2
    channel = card.channels[0]
    if channel.modality and volume.modality is not None and volume.modality not in channel.modality:
        return 4
    wanted, has = sequence_of(" ".join(c.name for c in card.channels)), sequence_of(volume.name)
    if wanted and has:
        return 0 if any(sequence_of(c.name) == has for c in card.channels) else 3
    return 1 if volume.modality is not None and channel.modality else 2
