"""What a kind of input is to the fuzzer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .mutations import damaged_bytes, damaged_json, edits_of

Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind:
    """``sample()``: the files of a sound input. ``read(folder)``: reads them; a result or one of ``allowed`` is right.

    ``json``: the files that are damaged as JSON values; all others of ``damage`` (default: all files) as bytes.
    ``group``: which of the tests runs it, with ``tested`` cases.
    """

    name: str
    group: str
    sample: Callable[[], Files]
    read: Callable[[Path], Any]
    json: bool = False
    damage: tuple[str, ...] = ()
    allowed: tuple[type[BaseException], ...] = field(default=())
    tested: int = 200

    def case(self, sample: Files, seed: int, index: int, keep: frozenset[int] | None = None) -> Files:
        """Case ``index`` of ``seed``: one file of ``sample`` is damaged. ``keep``: only edits of these numbers."""
        names = sorted(self.damage or sample)
        name = names[index % len(names)]
        change = damaged_json if self.json and name.endswith(".json") else damaged_bytes
        return {**sample, name: change(sample[name], self.seed(seed, index), keep)}

    def edits(self, seed: int, index: int) -> int:
        """How many edits a case has."""
        return edits_of(self.seed(seed, index))

    def seed(self, seed: int, index: int) -> str:
        """What a case is drawn by."""
        return f"{self.name} {seed} {index}"
