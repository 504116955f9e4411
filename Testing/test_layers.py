"""The arrows between layers point one way, and Slicer's own process can import the light modules at once.

A user loses the headless use (if the core needs Slicer) or Slicer's start-up (if the panel needs onnxruntime).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "MedSegExtension"
CORE, MRML, PANEL = ROOT / "Logic" / "medseg", ROOT / "Logic" / "medseg_mrml", ROOT / "Panel" / "medseg_panel"
QT = {"qt", "ctk", "PySide6", "PythonQt"}
SLICER = {"slicer", "vtk", "vtkmodules", "mrml"}
LIGHT = ["errors", "grid", "volume", "result", "monitor", "model_card", "model_store"]
HEAVY = ["onnxruntime", "onnx", "pydantic", "scipy", "SimpleITK", "pydicom", "typer", "rich"]


def imports(file: Path) -> set[str]:
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
def test_imports_point_one_way(folder: Path, forbidden: set[str]) -> None:
    files = sorted(folder.rglob("*.py"))
    assert files, f"{folder} has no Python files"
    wrong = {str(f.relative_to(ROOT)): sorted(imports(f) & forbidden) for f in files if imports(f) & forbidden}
    assert not wrong


def test_light_modules_import_nothing_heavy() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'Logic')!r})\n"
        + "".join(f"import medseg.{name}\n" for name in LIGHT)
        + f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    long = {f.name: n for f in ROOT.rglob("*.py") if (n := len(f.read_text(encoding="utf-8").splitlines())) > 420}
    assert not long
