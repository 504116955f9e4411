"""The page in a real browser: `drive_page` from the upload to probabilities, overlay and surfaces."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.real_data import REAL_DATA

_MISSING = [
    *(name for name in ("trame_slicer", "selenium") if importlib.util.find_spec(name) is None),
    *(name for name in ("chromedriver",) if shutil.which(name) is None),
]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(bool(_MISSING), reason=f"the page in Chromium needs {', '.join(_MISSING)} (pip: medseg[view])")
def test_everything_that_the_page_promises_holds_in_a_browser(tmp_path: Path) -> None:
    """Upload, refusals, a run, probabilities against the command line, overlay, 3D, no request to anyone else."""
    script = Path(__file__).with_name("drive_page.py")
    done = subprocess.run(
        [sys.executable, str(script), "--data", str(REAL_DATA), "--pictures", str(tmp_path)],
        capture_output=True, text=True, timeout=1700, check=False, env={**os.environ, "MEDSEG_ENGINE": "onnxruntime"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 did not" in done.stdout
