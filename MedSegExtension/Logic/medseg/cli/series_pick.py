"""Folders of several DICOM series or studies -> cases with the series that the model should take, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..io.series_facts import SeriesFacts
    from ..model.card import CardChannel, ModelCard
    from ..model.manifest.schema import Manifest
    from .case import Case
    from .console import Command


_CHOOSE = "Choose one with --series NUMBER"


def with_series(command: Command, manifest: Manifest, cases: list[Case]) -> list[Case]:
    """``cases`` with a series for each channel whose input holds several; of several studies a case for each.

    What fits no series, or several equally, is ``refused`` with the reason.
    """
    card = card_of(manifest)
    chosen: list[Case] = []
    for case in cases:
        folders = {path for path in case.files.values() if _is_collection(path)}
        if len(folders) != 1:  # no folder, or a folder for each channel: nothing to choose among channels
            chosen.append(_each(command, card, case) if folders else case)
            continue
        facts = _facts(command, next(iter(folders)))
        if facts is None or (len(facts) == 1 and len(case.files) == 1):
            chosen.append(case)
            continue
        from ..io.series_facts import by_study  # with pydicom, which a file alone need not wait for

        studies = by_study(facts)
        for number, study in enumerate(studies, start=1):
            one = case
            if len(studies) > 1:
                name = f"study-{number:02d}"
                one = replace(case, name=f"{case.name} {name}", folder=case.folder / name)
            chosen.append(picked(card, one, study))
    return chosen


def card_of(manifest: Manifest) -> ModelCard:
    """The light card of a loaded model."""
    from ..model.card import card_from

    return card_from(manifest.model_dump(mode="json"), Path(), manifest.id)


def _each(command: Command, card: ModelCard, case: Case) -> Case:
    """Each channel has an input of its own; those that are folders are looked into."""
    from ..pipeline.series_choice import pick

    series, why = {}, []
    for channel in card.channels:
        path = case.files[channel.name]
        facts = _facts(command, path) if _is_collection(path) else None
        if facts is None or len(facts) == 1:
            continue
        found = pick(card, channel, facts)
        if found.series is None:
            return replace(case, refused=_refusal(found.why, facts, path.name))
        series[channel.name] = found.series.info.uid
        why.append(found.why)
    return replace(case, series=series, why=tuple(why))


def picked(card: ModelCard, case: Case, study: list[SeriesFacts], otherwise: str = _CHOOSE) -> Case:
    """``case`` with the series of ``study`` that each channel takes by rule, or refused with the reason.

    ``otherwise``: what a user may do then.
    """
    from ..pipeline.series_choice import pick

    series, why = {}, []
    left = study
    for channel in card.channels:
        if not _is_collection(case.files[channel.name]):
            continue
        found = pick(card, channel, left)
        if found.series is None:
            return replace(case, refused=_refusal(_for(channel, card, found.why), study, case.name, otherwise))
        series[channel.name] = found.series.info.uid
        why.append(_for(channel, card, found.why))
        left = [one for one in left if one is not found.series]  # no series is two channels
    return replace(case, series=series, why=tuple(why))


def _for(channel: CardChannel, card: ModelCard, why: str) -> str:
    return f"{channel.name}: {why}" if len(card.channels) > 1 else why


def _refusal(why: str, facts: list[SeriesFacts], name: str, otherwise: str = _CHOOSE) -> str:
    listed = "\n".join(f"  {one.info}" for one in facts)
    return f"{name} holds {len(facts)} image series. {why} {otherwise}:\n{listed}"


def _is_collection(path: Path) -> bool:
    return path.is_dir() or path.name.upper() == "DICOMDIR"


def _facts(command: Command, folder: Path) -> list[SeriesFacts] | None:
    """None where the folder holds no DICOM: reading it then says what is wrong."""
    from ..io.series_facts import series_facts

    try:
        return series_facts(folder, command.monitor())
    except InputError:
        return None
