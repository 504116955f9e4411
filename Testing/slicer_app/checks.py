"""Assertions in a running Slicer: ``Slicer --python-script Testing/slicer_app/checks.py [NAME ...]``.

Prints a line with numbers for each check, at the end "N passed, N failed", and ends with 1 where one failed. With names
only those checks run; those of ``import`` take many minutes and only run so. The packages of the worker must be
installed (press Apply once).
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent if "__file__" in globals() else Path("Testing/slicer_app").resolve()
sys.path.insert(0, str(HERE))

import check_dicom  # noqa: E402
import check_import  # noqa: E402
import check_loading  # noqa: E402
import check_review  # noqa: E402
import check_review_cohort  # noqa: E402
import check_review_files  # noqa: E402
import check_review_lists  # noqa: E402
import check_review_nodes  # noqa: E402
import check_review_slices  # noqa: E402
import check_review_speed  # noqa: E402
import check_runs  # noqa: E402
import check_scene  # noqa: E402
import check_server  # noqa: E402
import check_speed  # noqa: E402
import common  # noqa: E402
from session import Session  # noqa: E402


def main() -> int:
    """Run the checks; the number of failures."""
    modules = (
        check_import, check_loading, check_runs, check_scene, check_speed,
        check_review, check_review_files, check_review_lists, check_review_nodes, check_review_slices,
        check_review_speed,
        check_review_cohort,
        check_dicom, check_server,
    )  # fmt: skip
    checks = [(f"{n}", f) for module in modules for n, f in vars(module).items() if n.startswith("check_")]
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
    chosen = [(n, f) for n, f in checks if any(w in n for w in wanted) or not (wanted or "_import_" in n)]
    session = Session()
    failed = 0
    for name, check in chosen:
        start = time.perf_counter()
        session.begin()
        try:
            said = check(session)
            session.end()
            print(f"ok      {name}: {said} [{time.perf_counter() - start:.1f} s]", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    session.cleanup()
    print(f"{len(chosen) - failed} passed, {failed} failed", flush=True)
    return failed


try:
    failures = main()
except Exception:
    traceback.print_exc()
    failures = 1
# Slicer deletes this name when it loads a module, and wants it when the script ends.
import sys  # noqa: E402

common.exit_with(1 if failures else 0)
