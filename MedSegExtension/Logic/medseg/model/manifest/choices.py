"""Settings of a model that the user may choose: named lists of labels, one of which holds by default."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InputError
from .schema import Manifest
from .steps import KeepByLocation, PostprocessingStep


def chosen_options(manifest: Manifest, chosen: Mapping[str, str]) -> dict[str, str]:
    """For each choice of the model the option that holds. Raises `InputError` for a name that it does not have."""
    for name, option in chosen.items():
        if name not in manifest.choices:
            has = f"it has: {', '.join(manifest.choices)}" if manifest.choices else "it has nothing to choose"
            raise InputError(f"{manifest.title} has no choice {name!r}; {has}.")
        options = manifest.choices[name].options
        if option not in options:
            raise InputError(f"{name} of {manifest.title} cannot be {option!r}; choose {' or '.join(options)}.")
    return {name: chosen.get(name, choice.default) for name, choice in manifest.choices.items()}


def chosen_steps(manifest: Manifest, chosen: Mapping[str, str]) -> list[PostprocessingStep]:
    """The cleaning steps with the labels that were chosen in place of the names of choices."""
    options = chosen_options(manifest, chosen)
    steps: list[PostprocessingStep] = []
    for step in manifest.postprocessing:
        if isinstance(step, KeepByLocation) and isinstance(step.labels, str):
            labels = manifest.choices[step.labels].options[options[step.labels]]
            step = step.model_copy(update={"labels": labels})
        steps.append(step)
    return steps
