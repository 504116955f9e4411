"""What a model expects and whether a volume fits, in words. No Qt, no nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slicer.i18n import tr as _

from medseg.geometry.grid import Grid
from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard

from .kinds import modality_words, reading_of

# A volume this many times coarser than what the network gets loses what the network looks for.
_COARSE = 2.5
_THROUGH_PLANE_WORDS = {"axial": "axial slices", "coronal": "coronal slices", "sagittal": "sagittal slices",
                        "acquisition": "slices as acquired"}  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """``expects``: what the network gets, technically; ``reads``: what the model is for, in the reader's words.

    ``volumes``: what was chosen; ``unstated``: volumes that do not say their modality. ``problems`` forbid a run,
    ``warnings`` do not; all are sentences.
    """

    expects: str
    volumes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    reads: str = ""
    unstated: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        return not self.problems


def expectation(card: ModelCard) -> str:
    """What the model was trained on and what it gets, as one line."""
    expects = card.expects
    mode = expects.get("mode")
    parts = [" / ".join(card.modality) or _("any modality")]
    if card.body_part:
        parts[0] += f" ({card.body_part})"
    if mode == "slicewise":
        parts.append(_THROUGH_PLANE_WORDS.get(expects.get("plane", ""), _("slices")))
    elif mode == "sliding_window":
        parts.append(_("3D in tiles of {size} voxels").format(size=_times(expects.get("patch"))))
    elif mode == "whole":
        parts.append(_("3D, the whole volume at once"))
    if expects.get("orientation"):
        parts.append(_("turned to {code}").format(code=expects["orientation"]))
    if expects.get("spacing"):
        parts.append(_("resampled to {spacing} mm").format(spacing=_times(expects["spacing"])))
    if expects.get("size"):
        parts.append(_("fitted to {size} voxels").format(size=_times(expects["size"])))
    return ", ".join(parts)


def fit(card: ModelCard, volumes: Sequence[Volume | None]) -> Fit:
    """Compare the chosen ``volumes`` (None where a channel has none) with what ``card`` says."""
    problems, warnings, lines, unstated = [], [], [], []
    for channel, volume in zip(card.channels, volumes, strict=True):
        if volume is None:
            wanted = " / ".join(channel.modality)
            problems.append(
                _("Choose a volume for {channel}").format(channel=channel.name) + (f" ({wanted})." if wanted else ".")
            )
            continue
        lines.append(f"{volume.name}: {volume.modality or _('modality unknown')}, {volume.grid}")
        if volume.channels > 1:
            problems.append(
                _(
                    "{name} has {count} values per voxel (colour or 4D), the model wants one; choose a scalar volume."
                ).format(name=volume.name, count=volume.channels)
            )
        if channel.modality and volume.modality is None:
            unstated.append(
                _("{name} does not state its modality; the model expects {modality}.").format(
                    name=volume.name, modality=" / ".join(channel.modality)
                )
            )
        elif channel.modality and volume.modality not in channel.modality:
            warnings.append(
                _("{name} is {has}, but the model was trained on {modality}: expect wrong results.").format(
                    name=volume.name, has=volume.modality, modality=modality_words(channel.modality)
                )
            )
        lines_, problem = _geometry(card, volume)
        warnings += lines_
        problems += problem
    warnings += _between(volumes)
    return Fit(expectation(card), tuple(lines), tuple(problems), tuple(warnings), reading_of(card), tuple(unstated))


def _geometry(card: ModelCard, volume: Volume) -> tuple[list[str], list[str]]:
    grid, mode = volume.grid, card.expects.get("mode")
    if mode in ("whole", "sliding_window") and min(grid.size) < 2:
        return [], [_("{name} is a single slice, but the model is 3D; choose a volume.").format(name=volume.name)]
    spacing = card.expects.get("spacing")
    if not spacing:
        return [], []
    turned = grid.reoriented(card.expects["orientation"]) if card.expects.get("orientation") else grid
    coarse = [
        f"{has:.3g}"
        for has, wants in zip(turned.spacing, spacing, strict=True)
        if wants is not None and has > _COARSE * wants
    ]
    if not coarse:
        return [], []
    return [
        _(
            "The voxels of {name} are {has} mm apart where the model gets {wants} mm: small structures may be missed."
        ).format(name=volume.name, has=" x ".join(coarse), wants=_times(spacing))
    ], []


def _between(volumes: Sequence[Volume | None]) -> list[str]:
    chosen = [v for v in volumes if v is not None]
    warnings = []
    for other in chosen[1:]:
        if other.array is chosen[0].array or _same_memory(other, chosen[0]):
            warnings.append(_("{name} is chosen for more than one channel.").format(name=other.name))
        elif not _same(other.grid, chosen[0].grid):
            warnings.append(
                _("{other} has another geometry than {first}; it is resampled to it.").format(
                    other=other.name, first=chosen[0].name
                )
            )
    return warnings


def _same_memory(a: Volume, b: Volume) -> bool:
    return bool(a.array.__array_interface__["data"][0] == b.array.__array_interface__["data"][0])


def _same(a: Grid, b: Grid) -> bool:
    return a.same_as(b, 1e-2)


def _times(values: Sequence[float | None] | None) -> str:
    return " x ".join(_("any") if v is None else f"{v:g}" for v in values or ())
