"""Other networks that take part in a run: models whose output is needed, and networks whose classes are joined.

A name that begins with ``./`` is a package folder inside this package (``./stages/3d_lowres``), so that a model of
several networks travels as one; any other name is the id of an installed model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Label = Annotated[int, Field(ge=1, le=65535)]
OWN = "."
_INNER = re.compile(r"\./[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def _plain(name: str) -> str:
    if inside(name) and not _INNER.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain folder inside the package")
    return name


Name = Annotated[str, AfterValidator(_plain)]


class Other(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Required(Other):
    """Another model whose output is needed; it runs first, once. ``name``: how steps call it.

    ``channels``: the volumes that it gets, the ``first`` or ``all``.
    ``spread_mm``: its labels are spread this far into voxels without one, each taking the nearest. A parcellation may
    leave a hole where a dark lesion is, and a lesion without a label would have no place in the brain.
    """

    name: str
    model: Name
    channels: Literal["first", "all"] = "first"
    spread_mm: float = Field(default=0.0, ge=0, le=20)


class Joined(Other):
    """A network whose classes become classes of this model. ``model``: see above; ``.`` is this package's own network.

    ``values``: its label -> the label here; others of its labels are dropped.
    """

    model: Name
    values: dict[Label, Label] = Field(min_length=1)


def inside(name: str) -> bool:
    """Whether a model's ``name`` is a package folder inside the package."""
    return name.startswith("./")


def check_joined(joined: Sequence[Joined], classes: Sequence[int]) -> None:
    """`ValueError` where the networks do not give exactly the labels ``classes``, or one of them stands there twice."""
    names = [j.model for j in joined]
    if names.count(OWN) != 1:
        raise ValueError(f"joined: this package's own network ({OWN!r}) must stand there once")
    if len(set(names)) != len(names):
        raise ValueError("joined: two parts are the same model")
    given = [value for part in joined for value in part.values.values()]
    if double := [value for value in given if given.count(value) > 1]:
        raise ValueError(f"joined: two parts give the label {double[0]}")
    if set(given) != set(classes):
        odd = min(set(given) ^ set(classes))
        raise ValueError(f"joined: the label {odd} is not both a class and given by a part")
