"""From a trained model in its authors' format to a MedSeg package.

>>> from medseg.library.importer import import_model       # doctest: +SKIP
>>> import_model("model.json", "meshnet-gwm", "packages/meshnet-gwm")       # doctest: +SKIP

Nothing that is stored in a file is ever executed: Keras Lambdas are replaced by operations that the recipe names,
pickles are refused. TensorFlow and PyTorch run in an interpreter of their own (`environment`), never in this one.
"""

from __future__ import annotations

from .converted import ImportOptions
from .importing import import_model, import_with_manifest
from .propose import Proposal, Question, propose
from .recipe import Recipe, find_recipe, recipes

__all__ = [
    "ImportOptions",
    "Proposal",
    "Question",
    "Recipe",
    "find_recipe",
    "import_model",
    "import_with_manifest",
    "propose",
    "recipes",
]
