"""The rooms of ARCHITECTURE.md are those of the code: arrows between them go one way, and there is no circle.

A user loses the headless use (if the core needs Slicer) or Slicer's start-up (if the panel needs onnxruntime); a
newcomer loses the way through the house.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from house.imports import ROOT, arrows, circle, modules, room

REPOSITORY = ROOT.parent
LOGIC = ROOT / "Logic"
CORE, MRML, PANEL = LOGIC / "medseg", LOGIC / "medseg_mrml", ROOT / "Panel" / "medseg_panel"
QT = {"qt", "ctk", "PySide6", "PythonQt"}
SLICER = {"slicer", "vtk", "vtkmodules", "mrml"}
LIGHT = [
    "errors",
    "monitor",
    "result",
    "scratch",
    "geometry.grid",
    "geometry.volume",
    "model.card",
    "model.store",
    "worker.transfer",
]
HEAVY = ["onnxruntime", "onnx", "pydantic", "scipy", "SimpleITK", "pydicom", "nibabel", "typer", "rich"]
LONGEST = 400


def rooms() -> dict[str, set[str]]:
    """Room -> the rooms it may look into, from the table of ARCHITECTURE.md."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = re.search(r"^\| room \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert table, "ARCHITECTURE.md has no table of rooms"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].strip().splitlines()[2:]]
    return {row[0].strip("`/"): set(re.findall(r"`(\w+)`", row[2])) for row in rows}


def test_every_room_is_on_the_page_and_every_arrow_is_allowed() -> None:
    allowed = rooms()
    assert {room(name) for name in modules()} - {"medseg"} == set(allowed)
    wrong = [
        f"{name} -> {other}"
        for name, others in arrows().items()
        for other in sorted(others)
        if room(other) != room(name) and room(other) not in allowed[room(name)]
    ]
    assert not wrong


def test_the_arrows_between_rooms_go_one_way() -> None:
    assert circle(rooms()) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    """Also not through an import inside a function or for types only: which file is read first must never matter."""
    assert circle(arrows()) == []


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def packages_imported(file: Path) -> set[str]:
    """Top-level names of all packages that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        (CORE, QT | SLICER | {"medseg_mrml", "medseg_panel"}),
        (MRML, QT | {"medseg_panel", "onnxruntime", "onnx"}),
        (PANEL, {"onnxruntime", "onnx", "pydantic", "scipy", "SimpleITK", "PySide6"}),
    ],
    ids=["core", "mrml", "panel"],
)
def test_packages_stay_in_their_layer(folder: Path, forbidden: set[str]) -> None:
    files = sorted(folder.rglob("*.py"))
    assert files, f"{folder} has no Python files"
    wrong = {str(f.relative_to(ROOT)): sorted(found) for f in files if (found := packages_imported(f) & forbidden)}
    assert not wrong


def test_light_modules_import_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(LOGIC)!r})\n"
        + "".join(f"import medseg.{name}\n" for name in LIGHT)
        + f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    files = [*ROOT.rglob("*.py"), *(REPOSITORY / "Testing").rglob("*.py")]
    lines = {str(f.relative_to(REPOSITORY)): len(f.read_text(encoding="utf-8").splitlines()) for f in files}
    assert {name: n for name, n in lines.items() if n > LONGEST} == {}
