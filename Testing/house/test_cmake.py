"""A file that CMake does not list is missing from the installed extension, and the module does not load."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "MedSegExtension"


def listed(variable: str) -> set[str]:
    """Entries of a ``set(variable ...)`` in the module's CMakeLists.txt."""
    text = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8")
    found = re.search(rf"set\({variable}\s+(.*?)^\s*\)", text, re.DOTALL | re.MULTILINE)
    assert found, f"no set({variable} ...)"
    return {line.strip().replace("${MODULE_NAME}", "MedSegExtension") for line in found[1].splitlines() if line.strip()}


def tree(*patterns: str) -> set[str]:
    files = {f for p in patterns for f in MODULE.rglob(p) if f.is_file() and "__pycache__" not in f.parts}
    return {f.relative_to(MODULE).as_posix() for f in files}


def test_scripts_match_the_tree() -> None:
    assert listed("MODULE_PYTHON_SCRIPTS") == tree("*.py")


def test_resources_match_the_tree() -> None:
    everything = tree("*") - tree("*.py") - {"CMakeLists.txt"}
    assert listed("MODULE_PYTHON_RESOURCES") == everything


def test_the_extension_says_what_the_index_asks_for() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf'set\(EXTENSION_{name} "[^"]+"\)', text), name
    assert "project(MedSeg)" in text and "Slicer_EXTENSION_GENERATE_CONFIG" in text
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")
