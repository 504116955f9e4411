"""A checked model put into the user's own folder. Loads the checks of packages; `store` is the light rest."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ..errors import ModelError
from .card import MANIFEST_NAME, ModelCard, read_card
from .package import load_model, package_members
from .package_files import new_folder
from .store import user_folder


def add_model(source: str | Path, *, weights: Path | None = None, replace: bool = False) -> ModelCard:
    """Check a package (any form that `medseg.model.package.load_model` takes) and copy it into the user's folder.

    All or nothing: an interrupted copy leaves no half model. The same model again is no error; another one of the same
    id is, unless ``replace``, also where only its manifest differs.
    """
    model = load_model(source, weights=weights)
    target = user_folder() / _folder_name(model.manifest.id)
    members = package_members(model)
    if target.exists() and not replace:
        if _content(target / MANIFEST_NAME) == members[MANIFEST_NAME]:  # it holds the hash of the weights
            return read_card(target)
        raise ModelError(
            f"Another model is installed as {model.manifest.id} (version {read_card(target).version or 'unknown'}); "
            "remove it first, or replace it."
        )
    with new_folder(target) as new:
        for name, content in members.items():
            file = new.joinpath(*name.split("/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                shutil.copyfile(content, file)
    return read_card(target)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _folder_name(id: str) -> str:
    """A folder name that every system takes (a trailing dot or a device name such as ``con`` does not work)."""
    name = id.rstrip(". ")
    return f"{name}_" if name != id or re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name) else name
