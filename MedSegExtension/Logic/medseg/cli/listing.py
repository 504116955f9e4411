"""``medseg series``: what a folder or file holds, with what ``--series`` and ``--frame`` take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .console import Command

if TYPE_CHECKING:
    from ..geometry.volume import Volume
    from ..io.series_facts import SeriesFacts


def series_command(command: Command, source: Path) -> int:
    """A line for each series, with what each installed model would take; or the frames of a file."""
    from ..io import read_volume

    if source.is_dir() or source.name.upper() == "DICOMDIR":
        _list_study(command, source)
        return 0
    volume = read_volume(source, monitor=command.monitor())
    command.document["image"] = {
        "frames": list(volume.frames), "warnings": list(volume.warnings), "size": list(volume.grid.size),
        "spacing": list(volume.grid.spacing),
    }  # fmt: skip
    _say_image(command, source.name, volume)
    return 0


def _list_study(command: Command, source: Path) -> None:
    from ..io.series_facts import by_study, series_facts

    facts = series_facts(source, command.monitor())
    studies = [study[0].info.study for study in by_study(facts)]
    command.document["series"] = [
        {
            "number": one.info.number, "uid": one.info.uid, "study": studies.index(one.info.study) + 1,
            "modality": one.info.modality, "description": one.info.description, "slices": one.info.slices,
            "size": list(one.info.size), "spacing": list(one.info.spacing) if one.info.spacing else None,
            "plane": one.plane, "slice_spacing": one.thickness, "contrast": one.contrast, "faults": list(one.faults),
            "frames": list(one.frames), "derived": one.derived, "localizer": one.localizer,
            **({"fault": one.unusable} if one.unusable else {}),
        }
        for one in facts
    ]  # fmt: skip
    command.table(
        ["study", "series", "modality", "description", "slices", "size", "plane", "mm", "what to know"],
        [
            [
                str(studies.index(one.info.study) + 1), _number(one), one.info.modality or "?", one.info.description,
                str(one.info.slices), "x".join(map(str, one.info.size)), one.plane,
                "" if one.thickness is None else f"{one.thickness:.3g}", _remarks(one),
            ]
            for one in facts
        ],
    )  # fmt: skip
    for one in facts:
        _say_frames(command, f"series {_number(one)}", one.frames)
        if one.unusable:
            command.say(f"series {_number(one)}: {one.unusable}")
    _say_models(command, facts, studies)


def _say_models(command: Command, facts: list[SeriesFacts], studies: list[str]) -> None:
    """What each installed model would take of each study."""
    from ..model.store import installed_models
    from ..pipeline.series_choice import pick

    rows, listed = [], []
    for card in installed_models():
        if card.error:
            continue
        for number, study in enumerate(studies, start=1):
            of_study = [one for one in facts if one.info.study == study]
            for channel in card.channels:
                found = pick(card, channel, of_study)
                taken = "-" if found.series is None else _number(found.series)
                listed.append({"model": card.id, "channel": channel.name, "study": number, "why": found.why,
                               "series": None if found.series is None else found.series.info.uid})  # fmt: skip
                if found.series is not None or found.tied:
                    rows.append([card.id, channel.name, str(number), taken, found.why])
    command.document["models"] = listed
    command.say()
    if not rows:
        command.say("No installed model fits one of these series (see: medseg models list).")
        return
    command.table(["model", "input", "study", "series", "why"], rows)


def _number(one: SeriesFacts) -> str:
    return "-" if one.info.number is None else str(one.info.number)


def _remarks(one: SeriesFacts) -> str:
    said = ["cannot be read"] if one.unusable else [one.contrast, *one.faults]
    said += ["localizer"] * one.localizer + ["made from other images"] * one.derived + ["sharp kernel"] * one.sharp
    if one.frames:
        said.append(f"{len(one.frames)} frames")
    return ", ".join(s for s in said if s)


def _say_image(command: Command, name: str, volume: Volume) -> None:
    command.say(f"{name}: {volume.grid}" + (f", {volume.modality}" if volume.modality else ""))
    if volume.frames:
        _say_frames(command, name, volume.frames)
    elif volume.channels > 1:
        command.say(f"{name}: {volume.channels} values per voxel (colour or a vector)")


def _say_frames(command: Command, name: str, frames: tuple[str, ...]) -> None:
    if not frames:
        return
    command.say(f"{name}: {len(frames)} frames, for --frame:")
    for number, label in enumerate(frames, start=1):
        command.say(f"  {number}: {label}")
