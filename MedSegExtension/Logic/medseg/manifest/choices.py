"""Settings of a model that the user may choose: named lists of labels, one of which holds by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..errors import InputError
from .steps import KeepByLocation, PostprocessingStep

if TYPE_CHECKING:
    from .schema import Manifest


class Choice(BaseModel):
    """``options``: name -> label values of a required model. ``default``: the one that holds where none is chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    default: str
    options: dict[str, list[int]] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_default(self) -> Choice:
        if self.default not in self.options:
            raise ValueError(f"default: {self.default!r} is not one of the options")
        if empty := [name for name, labels in self.options.items() if not labels]:
            raise ValueError(f"options.{empty[0]}: the list of labels is empty")
        return self


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
