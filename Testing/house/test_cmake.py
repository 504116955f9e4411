"""A file that CMake does not list is missing from the installed extension, and the module does not load."""

from __future__ import annotations

import json
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


def extension(name: str) -> str:
    """The value of ``EXTENSION_<name>`` in the top CMakeLists.txt."""
    found = re.search(rf'set\(EXTENSION_{name} "([^"]+)"', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert found, name
    return found[1]


def test_the_extension_says_what_the_index_asks_for() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert extension(name)
    assert "project(MedSeg)" in text and "Slicer_EXTENSION_GENERATE_CONFIG" in text
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").lstrip().startswith("Apache License")


def test_the_file_for_the_index_agrees_with_cmake() -> None:
    """The index refuses an entry whose name, address or dependencies are other than those of the build."""
    (file,) = (ROOT / "Documentation").glob("*.json")
    raw = file.read_bytes()
    entry = json.loads(raw)
    assert b"\r" not in raw
    assert f"project({file.stem})" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert not file.stem.startswith("Slicer") and entry["scm_url"].endswith("/Slicer" + file.stem)
    assert entry["scm_url"] == extension("HOMEPAGE")
    assert entry["build_dependencies"] == ([] if extension("DEPENDS") == "NA" else extension("DEPENDS").split())
    module = (MODULE / "MedSegExtension.py").read_text(encoding="utf-8")
    assert f'"{entry["category"]}")]' in module and entry["tier"] in (1, 3, 5)
    # All that schema 1.0.2 knows; any other key is an error there.
    known = {"$schema", "category", "scm_url", "scm_revision", "scm_type", "build_dependencies", "build_subdirectory",
             "dicom_support_rule", "enabled", "tier"}  # fmt: skip
    assert {"$schema", "category", "scm_url"} <= set(entry) <= known
    assert "slicer-extension-catalog-entry-schema-v1.0.2.json" in entry["$schema"]


def test_icon_and_screenshots_are_where_the_index_will_fetch_them() -> None:
    address = extension("HOMEPAGE").replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    pictures = [extension("ICONURL"), *extension("SCREENSHOTURLS").split()]
    assert len(pictures) > 1
    assert [p for p in pictures if not (p.startswith(address) and (ROOT / p.removeprefix(address)).is_file())] == []


def test_the_repository_is_small_enough_for_the_index() -> None:
    folders = [MODULE, *(ROOT / name for name in ("Documentation", "Screenshots", "Testing"))]
    size = sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if "__pycache__" not in f.parts)
    assert size < 60e6
