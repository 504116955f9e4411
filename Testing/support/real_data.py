"""Where the real models and images lie that some tests need. They are no part of the project.

The folder is named by ``MEDSEG_TEST_DATA``; by default it is ``shared/data`` beside the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MEDSEG_TEST_DATA"
REPOSITORY = Path(__file__).resolve().parents[2]
REAL_DATA = Path(os.environ.get(VARIABLE) or REPOSITORY.parent / "shared" / "data")
