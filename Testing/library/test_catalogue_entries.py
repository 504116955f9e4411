"""The shipped catalogue names every published model, with the right hashes."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_catalogue import COMMIT, digest, own_places  # noqa: F401

from medseg.library.catalogue import (
    catalogue_entries,
    catalogue_states,
    markdown_table,
    states,
)
from medseg.library.importer import recipes


def test_every_shipped_entry_has_its_recipe() -> None:
    entries, known = catalogue_entries(), recipes()
    assert len([e for e in entries.values() if e.system == "wmh"]) == 8
    for id, item in entries.items():
        recipe = known[str(item.recipe)]
        assert recipe.id == id and item.kind in recipe.accepts and item.system == recipe.system
        assert item.license == recipe.manifest["license"] and item.title == recipe.title
        assert item.license == ("Apache-2.0" if item.system == "body" else "MIT")
        for file in item.files:
            assert all(a.startswith("https://") and a.endswith(f"/{file.path}") for a in file.addresses)
            if item.system == "brain":
                assert file.sha256 and file.size and all(COMMIT in a for a in file.addresses)
            else:
                assert file.sha256 is None and "SHA-256" in item.note, "an unknown hash is said"


@pytest.mark.real_data
def test_shipped_hashes_are_those_of_the_original_files(shared: Path) -> None:
    checked = 0
    for item in catalogue_entries().values():
        folder = shared / "models" / item.id / "tfjs"
        for file in item.files if folder.is_dir() else ():
            content = (folder / file.name).read_bytes()
            assert (digest(content), len(content)) == (file.sha256, file.size), f"{item.id} {file.name}"
            checked += 1
    assert checked == 10


def test_the_table_has_every_system_and_model() -> None:
    found = {s.id: s for s in catalogue_states()}
    assert set(recipes()) <= set(found)
    by_system = {name: sum(s.system == name for s in found.values()) for name in states.SYSTEMS if name}
    assert by_system.pop("brain") >= 5
    assert by_system == {"wmh": 8, "chest-x-ray": 5, "microbleeds": 1, "haemorrhage": 10, "body": 2}
    assert (
        found["wmh-unet-3class"].downloadable
        and found["wmh-unet-3class"].how == "medseg models install wmh-unet-3class"
    )
    assert found["ich-vgg16"].state == "needs weights" and "--recipe ich-vgg16" in found["ich-vgg16"].how
    assert found["meshnet-gwm"].state == "importable"
    table = markdown_table([s for s in found.values() if s.formats])
    assert all(f"`{id}`" in table for id in recipes()) and "`medseg models install meshnet-gwm`" in table
