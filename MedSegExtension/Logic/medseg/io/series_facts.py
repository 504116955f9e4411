"""What a DICOM series is, as far as choosing among series goes: plane, contrast, thickness, faults. Headers only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..monitor import Monitor
from .dicom_series import SeriesInfo, list_series
from .dicom_source import DicomSource, look_at

#: Words for MR contrasts, the more special first: a FLAIR is T2-weighted too.
_CONTRASTS = (
    ("FLAIR", r"flair|tirm|dark.?fluid"),
    ("T2*", r"swi(?![a-z])|swan|suscept|t2\s*\*|t2.?star|hemo|venobold|medic"),
    ("diffusion", r"dwi|diff|(?<![a-z])adc(?![a-z])|dti|trace"),
    ("perfusion", r"perf|(?<![a-z])(?:asl|dsc|dce)(?![a-z])"),
    ("angiography", r"(?<![a-z])(?:tof|mra)(?![a-z])|angio"),
    ("T1", r"t1|mprage|mp.?rage|bravo|spgr|(?<![a-z])tfl(?![a-z])|fspgr"),
    ("T2", r"t2"),
    ("PD", r"(?<![a-z])pd(?![a-z])|proton"),
)
_LOCALIZER = re.compile(r"local|scout|survey|topogram|3.?plane", re.IGNORECASE)
_DERIVED = re.compile(r"(?<![a-z])(?:mip|mpr)(?![a-z])|minip|reformat|screen|dose|summary|projection", re.IGNORECASE)
_SHARP = re.compile(r"bone|lung|edge|sharp|[bh]r?(6|7|8)\d", re.IGNORECASE)
_PLANES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class SeriesFacts:
    """One series. ``plane``: axial, coronal, sagittal, film, or "" where it has no place in the patient.

    ``thickness``: mm between slices along the normal (of one slice: its thickness), None where unknown. ``contrast``:
    of MR a word (T1, T2, FLAIR, T2*, diffusion, ...), of CT "contrast agent", or "". ``sharp``: a bone or lung kernel.
    ``derived``: made from other images; ``localizer``: a scout. ``faults``: of its geometry, in words. ``frames``:
    times, echoes, b-values. ``unusable``: why it cannot be read as a volume, or "".
    """

    info: SeriesInfo
    plane: str = ""
    thickness: float | None = None
    contrast: str = ""
    body_part: str = ""
    sharp: bool = False
    derived: bool = False
    localizer: bool = False
    faults: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    unusable: str = ""

    @property
    def name(self) -> str:
        """What sentences call it."""
        described = f' "{self.info.description}"' if self.info.description else ""
        return f"series {'without a number' if self.info.number is None else self.info.number}{described}"


def series_facts(folder: str | Path, monitor: Monitor | None = None) -> list[SeriesFacts]:
    """The facts of all image series in a folder or DICOMDIR, by number. Raises `InputError` where there is none."""
    found = []
    series = list_series(folder)
    for n, info in enumerate(series):
        if monitor is not None:
            monitor.progress(n, len(series), info.label)
        found.append(facts_of(info))
    return found


def facts_of(info: SeriesInfo) -> SeriesFacts:
    """The facts of one series; what forbids reading it stands in ``unusable``."""
    try:
        source, frames = look_at(info.files, info.label)
    except InputError as error:
        return SeriesFacts(info, unusable=str(error))
    header = source.headers[0]
    plane, thickness = _lie(source)
    kind = [str(v).upper() for v in _several(header.get("ImageType"))]
    kernel = " ".join(map(str, _several(header.get("ConvolutionKernel"))))
    return SeriesFacts(
        info,
        plane,
        thickness,
        _contrast(header, info),
        str(header.get("BodyPartExamined") or "").upper(),
        bool(info.modality == "CT" and _SHARP.search(f"{kernel} {info.description}")),
        "DERIVED" in kind[:1] or bool(_DERIVED.search(info.description)),
        "LOCALIZER" in kind or bool(_LOCALIZER.search(info.description)),
        source.faults,
        frames,
    )


def by_study(facts: Iterable[SeriesFacts]) -> list[list[SeriesFacts]]:
    """The series of each study, studies by UID."""
    studies: dict[str, list[SeriesFacts]] = {}
    for one in facts:
        studies.setdefault(one.info.study, []).append(one)
    return [studies[uid] for uid in sorted(studies)]


def contrast_words(texts: Iterable[str]) -> tuple[str, ...]:
    """The MR contrasts that ``texts`` speak of, the first text that names any."""
    for text in texts:
        found = tuple(name for name, words in _CONTRASTS if re.search(words, text, re.IGNORECASE))
        if found:  # "T2 FLAIR" is a FLAIR, "T2*" no T2
            special = [n for n in found if n in ("FLAIR", "T2*", "diffusion", "perfusion", "angiography")]
            return tuple(special) if special else found
    return ()


def _lie(source: DicomSource) -> tuple[str, float | None]:
    if source.film:
        return "film", None
    normal = source.frames[0].grid.direction[:, 2]
    plane = _PLANES[int(np.abs(normal).argmax())]
    if len(source.frames) < 2:
        return plane, float(source.grid.spacing[2])
    origins = np.array([frame.grid.origin for frame in source.frames])
    return plane, float(np.median(np.diff(origins @ normal)))


def _contrast(header: Any, info: SeriesInfo) -> str:
    if info.modality == "CT":
        return "contrast agent" if str(header.get("ContrastBolusAgent") or "").strip() else ""
    if info.modality != "MR":
        return ""
    words = contrast_words([info.description, str(header.get("ProtocolName") or "")])
    if words:
        return words[0]
    repetition, echo, inversion = (_number(header, k) for k in ("RepetitionTime", "EchoTime", "InversionTime"))
    gradient = "GR" in [str(v) for v in _several(header.get("ScanningSequence"))]
    if echo is None or repetition is None:
        return ""
    if inversion is not None and inversion > 1500 and echo > 70:
        return "FLAIR"
    if gradient and echo >= 12:
        return "T2*"
    if echo <= 30:
        return "T1" if repetition <= 2600 else "PD"
    return "T2" if echo >= 70 else ""


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else list(value)


def _number(header: Any, keyword: str) -> float | None:
    try:
        value = header.get(keyword)
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
