"""The tutorials as data: their blocks in order, the commands, buttons and keys that they name.

A fence says what its block is: ``sh`` is run, ``python NAME`` is the file NAME, ``text`` is what the run before it
says, a line at a time, with ``...`` for what differs from run to run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Documentation"
TUTORIALS = sorted(FOLDER.glob("tutorial-*.md"))
PANEL = ROOT / "MedSegExtension" / "Panel" / "medseg_panel"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block. ``kind``: ``sh``, ``python`` or ``text``. ``name``: of the file, "" for the others."""

    kind: str
    name: str
    content: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks in order."""
    found = []
    for info, content in _FENCE.findall(text):
        kind, _, name = info.strip().partition(" ")
        found.append(Block(kind, name, content))
    return found


def prose(text: str) -> str:
    """What stands between the blocks."""
    return _FENCE.sub("", text)


def codes(text: str) -> list[str]:
    """What the prose has in code quotes, in one line each."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def files_named(text: str) -> list[str]:
    """Files and folders below the working folder that the prose says are there."""
    return [c for c in codes(text) if re.fullmatch(r"[\w-]+(/[\w.-]+)*/([\w-]+\.(csv|nrrd|json|seg\.nrrd))?", c)]


def pattern(line: str) -> str:
    """A line of a ``text`` block as a regular expression for a whole line of output."""
    words = [r"\s+".join(re.escape(w) for w in part.split(" ")) for part in line.split("...")]
    return "^" + ".*".join(words) + r"\s*$"


def labels_named(text: str) -> Iterator[str]:
    """The buttons, menus and boxes that the prose names in italics; a path through menus is several."""
    for italics in re.findall(r"(?<![*\w])\*([^*]+)\*(?![*\w])", prose(text)):
        yield from (without_key(part.strip()) for part in " ".join(italics.split()).split(" > "))


def keys_named(text: str) -> set[str]:
    """The keys that the prose names in bold."""
    return set(re.findall(r"\*\*([^*]{1,6})\*\*", prose(text)))


def words_of_the_panel() -> set[str]:
    """All texts in the panel's sources and its form."""
    form = (ROOT / "MedSegExtension/Resources/UI/MedSegExtension.ui").read_text(encoding="utf-8")
    words = set(re.findall(r"<string>([^<]*)</string>", form))
    for file in [*PANEL.rglob("*.py"), ROOT / "MedSegExtension/MedSegExtension.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value.strip())
    return {without_key(word) for word in words}


def without_key(label: str) -> str:
    """``Accept (A)`` is called *Accept* by a reader: the key is told apart."""
    return re.sub(r" \((Ctrl\+)?[A-Z]\)$", "", label)


def keys_of_the_review() -> set[str]:
    """The keys that the tab Review listens to."""
    keys = {str(n) for n in range(1, 6)}  # the ratings, which are made in a loop
    for file in (PANEL / "review").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Key" and isinstance(
                node.args[0], ast.Constant
            ):  # fmt: skip
                keys.add(str(node.args[0].value))
    return keys
