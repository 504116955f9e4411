"""The process that reads damaged inputs: a native crash, a hang or a flood of memory ends it and not the fuzzer.

One JSON line in for each case, one out: ``{}`` where it was answered, else ``{"fault": ...}``. A sample that
is refused before it is damaged tests nothing, so ``{"unsound": ...}`` ends the fuzzer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from medseg.errors import MedSegError

from .kind import Files, Kind
from .kinds import kinds

_MEMORY = 12 << 30
_LONGEST_SENTENCE = 4100


def write(path: Path, data: bytes) -> None:
    """The file ``path``, and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def answer(kind: Kind, files: Files, folder: Path) -> str:
    """ "" where the files were read or refused with a readable sentence, else what happened instead."""
    for name, data in files.items():
        write(folder / name, data)
    try:
        kind.read(folder)
    except MedSegError as error:
        sentence = str(error)
        unreadable = [c for c in sentence if not c.isprintable() and c != "\n"]
        if unreadable or not sentence or len(sentence) > _LONGEST_SENTENCE or sentence.startswith("MedSeg failed"):
            return f"a sentence that cannot be read: {sentence[:200]!r}"
        sentence.encode()
    except kind.allowed:
        pass
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:160]!r} in {Path(where.filename).name}:{where.lineno}"
    return ""


def main() -> None:
    """Answer cases until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(ImportError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    known, samples = kinds(), {}
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        for line in sys.stdin:
            request = json.loads(line)
            kind = known[request["kind"]]
            case = folder / "case"
            if kind.name not in samples:
                samples[kind.name] = kind.sample()
                for name, data in samples[kind.name].items():
                    write(case / name, data)
                try:
                    kind.read(case)
                except Exception as error:
                    answers.write(json.dumps({"unsound": f"{type(error).__name__}: {error}"}) + "\n")
                    return
                shutil.rmtree(case, ignore_errors=True)
            keep = request.get("keep")
            files = kind.case(
                samples[kind.name], request["seed"], request["index"], None if keep is None else frozenset(keep)
            )
            fault = answer(kind, files, case)
            shutil.rmtree(case, ignore_errors=True)
            answers.write(json.dumps({"fault": fault} if fault else {}) + "\n")
            answers.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
