"""Writes ``slicer_api.json``, what Slicer's Python has of Qt, CTK and Slicer's widgets, from public headers.

    python Testing/qt_host/describe_slicer.py SLICER_SOURCE CTK_SOURCE QT_INCLUDE

``SLICER_SOURCE``, ``CTK_SOURCE``: source trees; ``QT_INCLUDE``: the include folder of a Qt 5.15 (Debian: qtbase5-dev).
What PythonQt shows of a class is known from its declaration: of Qt's own classes all public and protected methods, of
CTK's and Slicer's what their meta-object has (properties, signals, slots, invokable methods), and the bases' of both.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

OUTPUT = Path(__file__).with_name("slicer_api.json")
# The classes whose members are listed; of others only the name is known.
CLASSES = """
ctkCheckableComboBox ctkCollapsibleButton ctkCollapsibleGroupBox ctkColorPickerButton ctkComboBox ctkCoordinatesWidget
ctkDirectoryButton ctkDoubleRangeSlider ctkDoubleSlider ctkDoubleSpinBox ctkExpandButton ctkExpandableWidget
ctkFittedTextBrowser ctkMenuButton ctkMessageBox ctkPathLineEdit ctkPushButton ctkRangeWidget ctkSearchBox
ctkSliderWidget ctkTreeComboBox QAction QActionGroup QButtonGroup QCheckBox QClipboard QComboBox QCompleter QDialog
QDialogButtonBox QDoubleSpinBox QFileDialog QFormLayout QFrame QGridLayout QGroupBox QHBoxLayout QInputDialog QLabel
QLineEdit QListView QListWidget QLocalSocket QMenu QMessageBox QNetworkAccessManager QPlainTextEdit QProcess
QProgressBar QProgressDialog QPushButton QRadioButton QScrollArea QSettings QShortcut QSlider QSortFilterProxyModel
QSpinBox QSplitter QStackedWidget QStandardItemModel QStatusBar QTabWidget QTableView QTableWidget QTcpSocket
QTextBrowser QTextEdit QTimer QToolBar QToolButton QTreeView QTreeWidget QVBoxLayout QWidget
qMRMLCheckableNodeComboBox qMRMLCollapsibleButton qMRMLColorTableComboBox qMRMLNodeComboBox qMRMLPlotView
qMRMLPlotWidget qMRMLRangeWidget qMRMLSegmentEditorWidget qMRMLSegmentSelectorWidget qMRMLSegmentationFileExportWidget
qMRMLSegmentationShow3DButton qMRMLSegmentsTableView qMRMLSequenceBrowserPlayWidget qMRMLSequenceBrowserSeekWidget
qMRMLSliderWidget qMRMLSpinBox qMRMLSubjectHierarchyComboBox qMRMLSubjectHierarchyTreeView qMRMLTableView
qMRMLTableWidget qMRMLVolumeInfoWidget qMRMLVolumeThresholdWidget qMRMLWidget qMRMLWindowLevelWidget
qSlicerApplication
""".split()  # noqa: SIM905
QT_MODULES = """
QtCore QtGui QtWidgets QtNetwork QtPrintSupport QtSql QtXml QtUiTools QtSvg QtMultimedia
""".split()  # noqa: SIM905
# What Slicer's own start-up scripts add to the package slicer.
OTHER_NAMES = """
ScriptedLoadableModule app cli i18n kits logic moduleNames modules mrmlScene packaging parameterNodeWrapper selfTests
util
""".split()  # noqa: SIM905
# PythonQt of stable builds lacks them.
NEWEST_ONLY = {"QThread", "QRunnable", "QThreadPool", "Signal", "Slot", "Property"}
ALIASES = {"qint64": "qlonglong", "quint64": "qulonglong", "qreal": "double"}  # as the meta-object writes them
ACCESS = re.compile(r"(?:(public|protected|private)\s*(?:(slots|Q_SLOTS))?|(signals|Q_SIGNALS))\s*:(?!:)")
MACRO = re.compile(r"(?:Q|QVTK|QDOC|QT|CTK|VTK)_([A-Z_0-9]+)\s*(?:\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))?(?=\s|$)")
# The base in a header of VTK, which is in none of the trees, and two heads of one class behind different conditions.
FOREIGN_BASES = {"QVTKOpenGLNativeWidget": "QOpenGLWidget", "ctkVTKOpenGLNativeWidget": "QOpenGLWidget"}
DECLARED = re.compile(
    r"^\s*(?:class\s+\w+\s+\w+\s+)?class\s+(?:[A-Z][A-Z0-9_]*\s+)?(\w+)\s*(?:final\s*)?(?::([^{;]*))?\{", re.MULTILINE
)


@dataclass
class Declared:
    """One class as its header declares it, without what it inherits."""

    bases: list[str]
    properties: set[str] = field(default_factory=set)
    signals: set[str] = field(default_factory=set)
    slots: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    invokable: set[str] = field(default_factory=set)
    enumerators: set[str] = field(default_factory=set)


def without_comments(text: str) -> str:
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", "", text, flags=re.MULTILINE)


def statements(body: str) -> list[str]:
    """The declarations of a class body, each with the braces that belong to it (code, enumerators)."""
    found, start, depth = [], 0, 0
    for position, character in enumerate(body):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0 and not re.match(r"\s*;", body[position + 1 :]):
                found.append(body[start : position + 1])
                start = position + 1
        elif character == ";" and depth == 0:
            found.append(body[start:position])
            start = position + 1
    return found


def signature(declaration: str) -> tuple[str, list[str]] | None:
    """A method's name and its normalised signatures: one more for each argument that may be left out."""
    match = re.search(r"(~?\w+)\s*\(", declaration)
    if (
        match is None
        or match[1].startswith(("~", "QT_"))
        or match[1] == "int"
        or "operator" in declaration[: match.end()]
    ):
        return None
    depth, end = 1, match.end()
    while end < len(declaration) and depth:
        depth += {"(": 1, ")": -1}.get(declaration[end], 0)
        end += 1
    kinds, optional = [], []
    for argument in re.split(r",(?![^<(]*[>)])", declaration[match.end() : end - 1]):
        kind, has_default, _ = argument.partition("=")
        kind = re.sub(r"\b(const|struct|class)\b|&", " ", kind).strip()
        if kind in ("", "void", "QPrivateSignal"):
            continue
        kind = re.sub(r"(?<=[\s*>])\w+$", "", kind)
        kinds.append(ALIASES.get(kind := kind.replace(" ", ""), kind))
        optional.append(bool(has_default))
    shortest = optional.index(True) if True in optional else len(kinds)
    return match[1], [f"{match[1]}({','.join(kinds[:n])})" for n in range(shortest, len(kinds) + 1)]


def class_bodies(text: str) -> dict[str, tuple[list[str], str]]:
    """Class name -> bases and the text between its braces."""
    found = {}
    for match in DECLARED.finditer(text):
        depth, end = 1, match.end()
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        bases = [
            re.sub(r"\b(public|protected|private|virtual)\b|<.*", "", b).strip() for b in (match[2] or "").split(",")
        ]
        found[match[1]] = ([b for b in bases if b], text[match.end() : end - 1])
    return found


def declared(bases: list[str], body: str) -> Declared:
    """Read a class body."""
    result = Declared([FOREIGN_BASES.get(base, base) for base in bases])
    access, kind = "private", ""
    for statement in statements(ACCESS.sub(lambda m: f";@{m[1] or 'public'}@{m[2] or m[3] or ''};", body)):
        statement = statement.strip()
        if label := re.fullmatch(r"@(\w+)@(\w*)", statement):
            access, kind = label[1], label[2]
            continue
        while macro := MACRO.match(statement):
            if macro[1] == "INVOKABLE":
                break
            if macro[0].startswith(("Q_PROPERTY", "Q_PRIVATE_PROPERTY")) and (
                named := re.search(r"(\w+)\s+(?:READ|MEMBER)\b", macro[0])
            ):
                result.properties.add(named[1])
            elif macro[1] == "DECLARE_FLAGS":
                result.enumerators.add(macro[0].split("(")[1].split(",")[0].strip())
            statement = statement[macro.end() :].strip()
        if access == "private":
            continue
        if enum := re.match(r"enum\s+(?:class\s+)?(\w*)[^{]*\{(.*)\}", statement, re.DOTALL):
            values = re.findall(r"(?:^|,)\s*(\w+)", re.sub(r"\([^()]*\)", "", enum[2]))
            result.enumerators |= {enum[1], *values} - {""}
            continue
        named_method = signature(statement.split("{")[0])
        if named_method is None:
            continue
        name, forms = named_method
        if kind in ("signals", "Q_SIGNALS"):
            result.signals |= set(forms)
        elif kind:
            result.slots |= set(forms)
        elif "Q_INVOKABLE" in statement:
            result.invokable.add(name)
        result.methods.add(name)
    return result


class Sources:
    """All class declarations of some folders of headers."""

    def __init__(self, folders: list[Path], wrapped: bool) -> None:
        self.classes: dict[str, Declared] = {}
        self.wrapped = wrapped
        for folder in folders:
            for header in sorted(folder.rglob("*.h")):
                if "_p.h" in header.name or "Testing" in header.parts or "private" in header.parts:
                    continue
                text = without_comments(header.read_text(encoding="utf-8", errors="replace"))
                for name, (bases, body) in class_bodies(text).items():
                    if name not in self.classes or len(body) > 40:
                        self.classes[name] = declared(bases, body)


def decorate(source: Sources, folder: Path) -> None:
    """Add what PythonQt decorators give to classes: ``static_Class_name(...)`` and ``name(Class*, ...)``."""
    for header in sorted(folder.rglob("*PythonQtDecorators.h")):
        text = without_comments(header.read_text(encoding="utf-8", errors="replace"))
        pairs = re.findall(r"\bstatic_([A-Za-z]+)_(\w+)\s*\(", text)
        pairs += [(owner, name) for name, owner in re.findall(r"\b(\w+)\s*\(\s*(q\w+)\s*\*", text)]
        for owner, name in pairs:
            if owner in source.classes:
                source.classes[owner].invokable.add(name)


def with_bases(names: list[str], everything: list[Sources]) -> list[str]:
    """``names`` and all classes that they inherit from, as far as the headers have them."""
    waiting, found = list(names), []  # type: list[str], list[str]
    while waiting:
        name = waiting.pop()
        one = next((s.classes[name] for s in everything if name in s.classes), None)
        if one is not None and name not in found:
            found.append(name)
            waiting += one.bases
    return sorted(found)


def described(name: str, everything: list[Sources]) -> dict[str, list[str]]:
    """What class ``name`` itself shows; what it inherits stands with its bases."""
    source = next(s for s in everything if name in s.classes)
    one = source.classes[name]
    methods = (one.methods if source.wrapped else one.invokable) | one.enumerators
    methods |= {s.split("(")[0] for s in one.slots}
    return {
        "bases": [base for base in one.bases if any(base in s.classes for s in everything)],
        "properties": sorted(one.properties),
        "signals": sorted(one.signals),
        "slots": sorted(one.slots),
        "methods": sorted(methods - one.properties - {name} - {s.split("(")[0] for s in one.signals}),
    }


def objects(source: Sources, everything: list[Sources], prefixes: tuple[str, ...]) -> list[str]:
    """The names in ``source`` with one of ``prefixes`` that are QObjects."""
    named = [name for name in source.classes if name.startswith(prefixes)]
    return sorted(name for name in named if "QObject" in with_bases([name], everything))


def module_names(file: Path) -> set[str]:
    """The functions, classes and constants that a Python module defines at its top level."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(a.asname or a.name).split(".")[0] for a in node.names}
    return names


def main() -> None:
    """Read the three trees and write `OUTPUT`."""
    slicer_tree, ctk_tree, qt_include = (Path(a) for a in sys.argv[1:4])
    qt = Sources([qt_include / module for module in QT_MODULES], wrapped=True)
    ctk = Sources([ctk_tree / "Libs" / lib for lib in ("Core", "Widgets", "Visualization")], wrapped=False)
    own = Sources([slicer_tree / "Base", slicer_tree / "Libs", slicer_tree / "Modules" / "Loadable"], wrapped=False)
    decorate(own, slicer_tree)
    everything = [qt, ctk, own]
    application = [described(name, everything) for name in with_bases(["qSlicerApplication"], everything)]
    content = {
        "about": "Written by describe_slicer.py from public headers; see there.",
        "all_names": {
            "qt": sorted(({n for n in qt.classes if re.match(r"Q[A-Z]", n)} | {"Qt"}) - NEWEST_ONLY),
            "ctk": objects(ctk, everything, ("ctk",)),
            "slicer (widgets)": objects(own, everything, ("qMRML", "qSlicer")),
            "slicer.util": sorted(module_names(slicer_tree / "Base" / "Python" / "slicer" / "util.py")),
            "slicer.app": sorted({n.split("(")[0] for one in application for names in one.values() for n in names}),
            "slicer (other)": OTHER_NAMES,
        },
        "classes": {name: described(name, everything) for name in with_bases(CLASSES, everything)},
    }
    OUTPUT.write_text(json.dumps(content, indent=0, separators=(",", ":")) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
