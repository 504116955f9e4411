"""The drawn volumes in the module Sample Data: the tutorial begins with them."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from qt_host.fixtures import Host, Opened, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


class Logic:
    """What Slicer's SampleDataLogic is asked to register; its signature is that of Slicer 5.10 to 5.13."""

    offered: list[dict[str, Any]]

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
        thumbnailFileName=None, loadFileType=None, loadFiles=None, loadFileProperties={}, checksums=None,  # noqa: B006
    ) -> None:  # fmt: skip
        assert isinstance(uris, str)  # else Slicer takes the lengths of lists, and there are none
        Logic.offered.append({"category": category, "name": sampleName, "draw": customDownloader})


def test_each_sample_is_a_volume_that_says_its_modality(
    opened: Opened, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    Logic.offered = []
    module = types.ModuleType("SampleData")
    module.SampleDataLogic = Logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "SampleData", module)
    opened.module.python.register_samples()
    assert {s["category"] for s in Logic.offered} == {"MedSeg"} and len(Logic.offered) == 4
    modalities = {}
    for sample in Logic.offered:
        (node,) = sample["draw"](None)
        assert node.GetName() == sample["name"]
        modalities[sample["name"]] = node.GetAttribute("DICOM.Modality")
    assert modalities == {
        "FLAIR, drawn": "MR", "SWI, drawn": "MR", "Head CT, drawn": "CT", "Chest X-ray, drawn": "DX"
    }  # fmt: skip


def test_a_slicer_without_that_module_starts_all_the_same(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SampleData", None)
    opened.module.python.register_samples()


def test_they_are_offered_when_all_modules_are_loaded(opened: Opened, host: Host) -> None:
    import slicer

    slicer.app.connected.clear()
    opened.module.module.setup()
    (slot,) = slicer.app.connected["startupCompleted()"]
    assert slot is opened.module.python.register_samples
