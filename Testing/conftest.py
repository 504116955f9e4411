"""Fixtures shared by all suites, and the report of what was skipped for want of the shared real data."""

from __future__ import annotations

import ctypes.util
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


# Qt and Slicer's renderer load libEGL when they are imported, so these files cannot even be collected without it.
_NEED_OPENGL = ["test_panel_*.py", "test_qt_host.py", "test_mrml_*.py"]
_NO_OPENGL = os.name == "posix" and ctypes.util.find_library("EGL") is None and not os.environ.get("CI")
collect_ignore_glob = _NEED_OPENGL if _NO_OPENGL else []


def pytest_report_header() -> list[str]:
    """Says what cannot run here, by name."""
    lines = []
    if _NO_OPENGL:
        lines.append(f"skipped: {', '.join(_NEED_OPENGL)}: libEGL is missing (Debian: apt-get install libegl1 libgl1)")
    if not SHARED_DATA.is_dir():
        lines.append("skipped: all tests marked shared_data: the real data is not beside the checkout (../shared/data)")
    return lines


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and images that lies beside the checkout (``../shared/data``)."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def headless(tmp_path: Path) -> Iterator[Any]:
    """A real MRML scene without the application, as the command line uses it."""
    pytest.importorskip("slicer", reason="slicer-core is not installed (pip install 'medseg[slicer]')")
    from medseg_mrml.headless import HeadlessScene

    yield HeadlessScene(tmp_path)
    gc.collect()


@pytest.fixture
def scene(headless: Any) -> Any:
    """The ``vtkMRMLScene`` of `headless`."""
    return headless.scene


@pytest.fixture
def reference(scene: Any) -> Any:
    """The node of a small oblique volume in `scene`."""
    from medseg_mrml import node_from_volume
    from support.mrml_samples import volume

    return node_from_volume(volume(), scene)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared_data"):
            item.add_marker(pytest.mark.skip(reason=f"real data missing: {SHARED_DATA.name} beside the checkout"))
