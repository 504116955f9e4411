"""Recipes: what is known of a published model whose weights the user brings.

A recipe is a manifest without weights and the facts that importing needs: which files are accepted, what each Keras
Lambda does, which backbone stands before a classifier, how many parameters the published network has. It never holds
code, and a file that does not fit its recipe is refused rather than guessed at.
"""

from __future__ import annotations

import copy
import difflib
import functools
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ...errors import InputError, ModelError
from ...model.manifest import Manifest
from ...model.manifest.schema import Part
from ...model.package import parse_manifest, read_json
from ...model.store import shipped_folders

Format = Literal["onnx", "keras", "tfjs", "torch", "nnunet"]
System = Literal["wmh", "chest-x-ray", "microbleeds", "haemorrhage", "brain", "body"]

# What a recipe may say that a Lambda layer does. The functions are in `keras_convert.py`, which has this list too.
OPERATIONS = ("identity", "resize_bilinear_to", "crop_top_left_to", "repeat_channels")


class Backbone(Part):
    """The first stage of a two-stage model: an image network of keras.applications without its classifier.

    ``pooling``: null gives the flattened feature map. ``features``: how many numbers the second stage takes.
    """

    application: str
    pooling: Literal["avg", "max"] | None = None
    size: tuple[int, int, int]
    features: int = Field(ge=1)


class Classifier(Part):
    """A network of keras.applications with one dense layer behind it, for authors who save weights without the layers.

    EfficientNets are those of the package efficientnet.keras: nothing rescales the input inside.
    """

    application: str
    pooling: Literal["avg", "max"]
    size: tuple[int, int, int]
    units: int = Field(ge=1)
    activation: Literal["sigmoid", "softmax"]


class KerasFacts(Part):
    """``operations``: Lambda layer name -> one of `OPERATIONS`. ``backbone``: of a two-stage model.

    ``classifier``: what a file that holds weights only belongs to.
    """

    operations: dict[str, str] = Field(default_factory=dict)
    backbone: Backbone | None = None
    classifier: Classifier | None = None

    @model_validator(mode="after")
    def _known(self) -> KerasFacts:
        for layer, operation in self.operations.items():
            if operation not in OPERATIONS:
                raise ValueError(f"operations.{layer}: {operation!r} is not one of {', '.join(OPERATIONS)}")
        return self


class TfjsFacts(Part):
    """``normalised_suffix``: layers so named are followed by instance normalisation with ``epsilon``."""

    normalised_suffix: str = ""
    epsilon: float = 1e-5


class NnunetFacts(Part):
    """``parts``: name of a network in the manifest's ``joined`` (``.`` its own) -> what its folder or zip is called.

    ``spacing``: to which the set's own program brings the image first, in mm, outer voxel centres kept, decimals cut
    off. ``overlap``: of its windows, where it is not nnU-Net's half.
    """

    parts: dict[str, str] = Field(default_factory=dict)
    spacing: float | None = Field(default=None, gt=0)
    overlap: float | None = Field(default=None, ge=0, lt=1)


class Recipe(Part):
    """One model of one of the systems. ``manifest``: complete but for ``weights``.

    ``parameters``: of the published network, where it is known exactly. ``obtain``: where weights come from.
    ``labels_in_slabs``: the argmax is put into the graph and done in that many slabs, so that the scores of many
    classes are never all in memory. ``checked``: how far the contract is confirmed, in words.
    """

    medseg_recipe: Literal[1]
    system: System
    accepts: list[Format] = Field(min_length=1)
    parameters: int | None = None
    obtain: str
    checked: str = ""
    labels_in_slabs: int | None = Field(default=None, ge=2, le=64)
    tfjs: TfjsFacts = TfjsFacts()
    keras: KerasFacts = KerasFacts()
    nnunet: NnunetFacts = NnunetFacts()
    manifest: dict[str, Any]

    @model_validator(mode="after")
    def _complete(self) -> Recipe:
        if "weights" in self.manifest:
            raise ValueError("manifest: a recipe has no weights")
        if "nnunet" in self.accepts:
            joined = [j["model"] for j in self.manifest.get("joined", [])] or ["."]
            if list(self.nnunet.parts) != joined:
                raise ValueError("nnunet.parts: one is needed for each of manifest.joined, in the same order")
        self.template()
        return self

    @property
    def id(self) -> str:
        """The id that the imported model gets."""
        return str(self.manifest["id"])

    @property
    def title(self) -> str:
        """The model's title."""
        return str(self.manifest["title"])

    def template(self, file: str = "model.onnx") -> dict[str, Any]:
        """The manifest with the name of the weights ``file``, as plain JSON values of its own."""
        raw = copy.deepcopy(self.manifest)
        raw["weights"] = {"file": file}
        parse_manifest(raw, f"recipe {raw.get('id')}")
        return raw

    def parsed(self) -> Manifest:
        """The manifest, validated."""
        return Manifest.model_validate(self.template())


def recipe_folders() -> list[Path]:
    """Where recipes are kept."""
    return [f / "recipes" for f in shipped_folders() if (f / "recipes").is_dir()]


@functools.lru_cache(maxsize=1)
def recipes() -> dict[str, Recipe]:
    """All recipes that came with MedSeg, by id."""
    found: dict[str, Recipe] = {}
    for folder in recipe_folders():
        for path in sorted(folder.glob("*.json")):
            recipe = read_recipe(path)
            found.setdefault(recipe.id, recipe)
    return found


def read_recipe(path: Path) -> Recipe:
    """The recipe in the file ``path``; `ModelError` names file and field."""
    raw = read_json(path.read_bytes(), path.name)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{path.name}: {where}: {first['msg']}") from error


def find_recipe(id: str) -> Recipe:
    """The recipe ``id``; `InputError` with the nearest ids where there is none."""
    known = recipes()
    if id in known:
        return known[id]
    near = difflib.get_close_matches(id, known, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "Known are: " + ", ".join(known) + "."
    raise InputError(f"There is no recipe {id!r}. {hint}")
