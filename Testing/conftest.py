"""Fixtures of all suites, and the report of what could not run here."""

from __future__ import annotations

import ctypes.util
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from support.real_data import REAL_DATA, REPOSITORY, VARIABLE

# Libraries are loaded on first use, and machines are shared: the time of one example says nothing.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Qt and Slicer's renderer load libEGL when they are imported, so these files cannot even be collected without it.
_NEED_OPENGL = ["panel/*", "mrml/*", "house/test_qt_host.py"]
# Results are compared to the last voxel; which engine is fastest here is the business of Testing/engine.
os.environ.setdefault("MEDSEG_ENGINE", "onnxruntime")
_NO_OPENGL = os.name == "posix" and ctypes.util.find_library("EGL") is None and not os.environ.get("CI")
collect_ignore_glob = _NEED_OPENGL if _NO_OPENGL else []
_NO_REAL_DATA = f"there is no folder {REAL_DATA.name} with real models and images; {VARIABLE} names it"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and images (`support.real_data`); a test that asks for it is marked ``real_data``."""
    return REAL_DATA


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)
        if item.get_closest_marker("real_data") and not REAL_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=_NO_REAL_DATA))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says what could not run here and why."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if _NO_REAL_DATA in str(r.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests on real data were skipped: {_NO_REAL_DATA}.")
    if _NO_OPENGL:
        terminalreporter.write_line(
            f"Tests in {', '.join(_NEED_OPENGL)} were skipped: libEGL is missing (Debian: libegl1 libgl1)."
        )


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
