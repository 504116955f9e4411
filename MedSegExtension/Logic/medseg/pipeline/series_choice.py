"""Which series of a study a model should take, by rule, and why: modality, contrast, plane, faults, slice thickness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..io.series_facts import SeriesFacts, contrast_words
from ..model.card import CardChannel, ModelCard

#: What Body Part Examined may say for a model's body part; words that are in none of these forbid nothing.
_BODY = {
    "head": {"HEAD", "BRAIN", "SKULL", "HEADNECK"},
    "chest": {"CHEST", "THORAX", "LUNG"},
    "abdomen": {"ABDOMEN", "ABDOMENPELVIS", "LIVER", "KIDNEY", "PELVIS"},
}
_ALL_BODY = set().union(*_BODY.values())
_LEAST_SLICES = 3


@dataclass(frozen=True)
class Judged:
    """``series`` for one channel. ``refused``: why it does not fit, or "". ``marks``: less is better, compared in turn.

    ``reasons``: what speaks for or against it, in words.
    """

    series: SeriesFacts
    refused: str = ""
    marks: tuple[float, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """``series``: what is taken, None where nothing fits or several fit equally. ``why``: a sentence.

    ``tied``: those that fit equally.
    """

    channel: str
    series: SeriesFacts | None
    why: str
    tied: tuple[SeriesFacts, ...] = ()


def pick(card: ModelCard, channel: CardChannel, series: Sequence[SeriesFacts]) -> Pick:
    """The series that ``channel`` of a model should take."""
    judged = [judge(card, channel, one) for one in series]
    fitting = sorted((j for j in judged if not j.refused), key=lambda j: j.marks)
    if not fitting:
        told = "; ".join(f"{j.series.name}: {j.refused}" for j in judged)
        return Pick(channel.name, None, f"No series fits {card.title} ({told}).")
    best = [j for j in fitting if j.marks == fitting[0].marks]
    if len(best) > 1:
        names = ", ".join(j.series.name for j in best)
        return Pick(channel.name, None, f"{len(best)} series fit {card.title} equally well: {names}.",
                    tuple(j.series for j in best))  # fmt: skip
    first = best[0]
    why = f"{first.series.name} was chosen for {card.title}: {', '.join(first.reasons)}"
    if len(fitting) > 1:
        why += f"; before {', '.join(_behind(first, other) for other in fitting[1:4])}"
    return Pick(channel.name, first.series, why + ".")


def judge(card: ModelCard, channel: CardChannel, series: SeriesFacts) -> Judged:
    """How well ``series`` fits ``channel`` of a model."""
    refused = _refused(card, channel, series)
    if refused:
        return Judged(series, refused)
    info, reasons, marks = series.info, [], []
    reasons.append(info.modality or "modality not stated")
    wanted = contrast_words([channel.name, channel.description]) if "MR" in channel.modality else ()
    if wanted:
        reasons.append(series.contrast or "contrast not stated")
        marks.append(0.0 if series.contrast in wanted else 1.0)
    plain = _wants_no_agent(card, channel)
    marks.append(float(plain and series.contrast == "contrast agent"))
    plane = card.expects.get("plane") if card.expects.get("mode") == "slicewise" else None
    if plane in ("axial", "coronal", "sagittal"):
        marks.append(float(series.plane != plane))
    reasons.append(series.plane)
    marks += [float(series.derived), float(series.sharp), float(bool(series.faults))]
    if series.derived:
        reasons.append("made from other images")
    if series.sharp:
        reasons.append("sharp kernel")
    reasons += list(series.faults)
    if series.thickness is not None and series.plane != "film":
        reasons.append(f"slices every {series.thickness:.3g} mm")
        marks.append(_thickness_mark(card, series.thickness))
    return Judged(series, "", tuple(marks), tuple(r for r in reasons if r))


def _refused(card: ModelCard, channel: CardChannel, series: SeriesFacts) -> str:
    info = series.info
    if series.unusable:
        return f"cannot be read ({series.unusable.rstrip('.')})"
    if channel.modality and info.modality is not None and info.modality not in channel.modality:
        return f"{info.modality}, the model wants {' or '.join(channel.modality)}"
    if series.localizer:
        return "a localizer"
    if series.plane != "film" and not set(channel.modality) & {"DX", "CR"} and info.slices < _LEAST_SLICES:
        return f"only {info.slices} slice{'s' if info.slices != 1 else ''}"
    body = _BODY.get(card.body_part.lower())
    if body and series.body_part in _ALL_BODY - body:
        return f"of the {series.body_part.lower()}, the model is for the {card.body_part}"
    if len(series.frames) > 1:
        return f"{len(series.frames)} frames ({series.frames[0]}, ...); choose one with --series and --frame"
    wanted = contrast_words([channel.name, channel.description]) if "MR" in channel.modality else ()
    if wanted and series.contrast and series.contrast not in wanted:
        return f"{series.contrast}, the model wants {' or '.join(wanted)}"
    return ""


def _wants_no_agent(card: ModelCard, channel: CardChannel) -> bool:
    text = f"{channel.name} {channel.description} {card.title}".lower()
    return any(words in text for words in ("non-contrast", "noncontrast", "without contrast", "unenhanced"))


def _thickness_mark(card: ModelCard, thickness: float) -> float:
    """Distance to the spacing that the network gets, in octaves; thin slices first where it states none.

    Slices of a slice-wise network need not be thin, so there all are alike to half an octave.
    """
    spacing = card.expects.get("spacing")
    stated = spacing[2] if isinstance(spacing, (list, tuple)) and len(spacing) == 3 else None
    if stated:
        return round(max(0.0, _octaves(thickness / float(stated))) * 2) / 2  # thinner than the network gets is no harm
    if card.expects.get("mode") == "slicewise":
        return 0.0
    return round(_octaves(thickness) * 4) / 4


def _octaves(ratio: float) -> float:
    from math import log2

    return log2(max(ratio, 1e-3))


def _behind(first: Judged, other: Judged) -> str:
    """A series that fits less well, with what sets it back."""
    apart = [r for r in other.reasons if r not in first.reasons]
    return other.series.name + (f" ({', '.join(apart)})" if apart else "")
