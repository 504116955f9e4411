"""``medseg series``: what a folder or file holds, with what ``--series`` and ``--frame`` take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .console import Command

if TYPE_CHECKING:
    from ..geometry.volume import Volume


def series_command(command: Command, source: Path) -> int:
    """A line for each series; the frames where there is one series or file. Geometry faults are warnings."""
    from ..io import list_series, read_volume

    listed = list_series(source) if source.is_dir() or source.name.upper() == "DICOMDIR" else []
    entries: list[dict[str, Any]] = [
        {
            "number": one.number,
            "uid": one.uid,
            "modality": one.modality,
            "description": one.description,
            "slices": one.slices,
            "size": list(one.size),
            "spacing": list(one.spacing) if one.spacing else None,
        }
        for one in listed
    ]
    for entry in entries or [{}]:
        monitor = command.monitor()
        chosen = entry.get("uid")
        try:
            volume = read_volume(source, series=chosen, monitor=monitor)
        except InputError as error:
            if not entries:
                raise
            entry["fault"] = str(error)
            continue
        entry["frames"] = list(volume.frames)
        entry["warnings"] = list(volume.warnings)
        if not entries:
            command.document["image"] = {**entry, "size": list(volume.grid.size), "spacing": list(volume.grid.spacing)}
            _say_image(command, source.name, volume)
    if entries:
        command.document["series"] = entries
        command.table(
            ["number", "modality", "description", "slices", "size", "frames"],
            [
                [
                    "-" if e["number"] is None else str(e["number"]), e["modality"] or "?", e["description"],
                    str(e["slices"]), "x".join(map(str, e["size"])),
                    "cannot be read" if "fault" in e else str(max(1, len(e["frames"]))),
                ]
                for e in entries
            ],
        )  # fmt: skip
        for entry in entries:
            _say_frames(command, f"series {entry['number']}", tuple(entry.get("frames", ())))
            if "fault" in entry:
                command.say(f"series {entry['number']}: {entry['fault']}")
    return 0


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
