"""Which module of the product imports which, read from the source without running it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "MedSegExtension"
FOLDERS = (ROOT / "Logic", ROOT / "Panel")


def modules() -> dict[str, Path]:
    """Each module of the product by its dotted name."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path, known: set[str]) -> set[str]:
    """The modules of the product that module ``name`` imports anywhere, also for types only or inside a function."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            inside = {f"{base}.{alias.name}" for alias in node.names}
            found |= (inside & known) or {base}
    return {m for m in found if m in known and m != name}


def arrows() -> dict[str, set[str]]:
    """Module -> the modules that it imports, without the public face ``medseg``, which only hands names on."""
    files = modules()
    known = set(files)
    return {name: imported(name, file, known) - {"medseg"} for name, file in files.items() if name != "medseg"}


def room(name: str) -> str:
    """The room of a module: ``medseg.pipeline.infer.whole`` -> ``pipeline``; other packages are a room each."""
    parts = name.split(".")
    return parts[1] if parts[0] == "medseg" and len(parts) > 1 else parts[0]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of imports as a list of names, or nothing."""
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(graph.get(name, ())):
            if found := visit(other):
                return found
        path.pop()
        done.add(name)
        return []

    for start in sorted(graph):
        if found := visit(start):
            return found
    return []
