"""Cohorts of phantoms, and whether two runs of one gave the same."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from medseg import phantoms
from medseg.output.files import write_map

#: Files of a cohort's folder that must be equal to the byte; the journal and the page have times in them.
_TABLES = ("cohort.csv", "cohort.parquet", "cohort.json")


def make_images(folder: Path, count: int, size: tuple[int, int, int] = (48, 48, 6), *, different: int = 0) -> Path:
    """``count`` head CT phantoms ``case00000.nii.gz`` of which ``different`` (0: all) differ, an hour old."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        file = folder / f"case{n:05d}.nii.gz"
        if different and n >= different:
            file.write_bytes((folder / f"case{n % different:05d}.nii.gz").read_bytes())
        else:
            volume = phantoms.head_ct(n, size=size).volume
            write_map(file, volume.array, volume.grid)
        make_old(file)
    return folder


def make_old(*files: Path) -> None:
    """A file that was just written is read again by a resumed run: it might change within the clock's tick."""
    for file in files:
        os.utime(file, (time.time() - 3600,) * 2)


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two cohort folders but seconds, as sentences: tables, and every file of every case."""
    found = []
    for name in [*_TABLES, *sorted(f"tables/{p.name}" for p in (one / "tables").iterdir())]:
        if (one / name).exists() != (other / name).exists():
            found.append(f"only one has {name}")
        elif (one / name).exists() and (one / name).read_bytes() != (other / name).read_bytes():
            found.append(f"{name} differs")
    cases = [{p.name for p in (folder / "cases").iterdir()} for folder in (one, other)]
    found += [f"only one has the case {name}" for name in sorted(cases[0] ^ cases[1])]
    for case in sorted(cases[0] & cases[1]):
        folders = [folder / "cases" / case for folder in (one, other)]
        files = [{p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()} for f in folders]
        found += [f"only one has {case}/{name}" for name in sorted(files[0] ^ files[1])]
        for name in sorted(files[0] & files[1]):
            texts = [_timeless(folder / name) for folder in folders]
            if texts[0] != texts[1]:
                found.append(f"{case}/{name} differs")
    return found


def _timeless(file: Path) -> bytes:
    if file.name != "result.json":
        return file.read_bytes()
    summary = json.loads(file.read_text(encoding="utf-8"))
    del summary["seconds"]
    return json.dumps(summary).encode()
