"""A way through the panel: real volume, real model, real worker; pictures in test-output/panel."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qt_host.bridge import slot_errors
from qt_host.fixtures import MODULE, Host, host  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

pytestmark = pytest.mark.real_data
MODEL = "hippodeep-head"


@pytest.fixture
def pictures(repository: Path) -> Path:
    folder = repository / "test-output" / "panel"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def panel(host: Host, shared: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module with its real collaborators and one more model."""
    package = tmp_path / "models" / MODEL
    package.mkdir(parents=True)
    shutil.copyfile(repository / "Testing" / "real_models" / f"{MODEL}.json", package / "manifest.json")
    for file in (shared / "models" / MODEL).glob("*.onnx"):
        shutil.copyfile(file, package / file.name)
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    host.scene.Clear(0)
    slot_errors.clear()
    module = host.load_module(MODULE)
    page = module.widgetRepresentation()
    host.show(page)
    page._target.set_entered(True)
    yield module.widget.panel.segment
    host.close_window()
    module.close()
    host.scene.Clear(0)
    assert slot_errors == []


def test_choose_run_look_click_cancel_run_again(host: Host, panel: Any, shared: Path, pictures: Path) -> None:
    import slicer

    from medseg.io import read_volume
    from medseg_mrml import node_from_volume, table_from_node

    ui, scene = panel._ui, host.scene
    host.screenshot(pictures / "1-opened.png")
    path = shared / "images" / "t1" / "t1_1.75mm_LAS.nii.gz"
    volume = node_from_volume(read_volume(path), scene, name="T1")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    item = next(
        ui.modelList.topLevelItem(n)
        for n in range(ui.modelList.topLevelItemCount)
        if ui.modelList.topLevelItem(n).data(0, 0x0100) == MODEL
    )
    ui.modelList.setCurrentItem(item)
    host.pump(0.1)
    assert panel.inputs.volumes() == [volume]
    assert ui.applyButton.enabled, ui.applyButton.toolTip
    host.screenshot(pictures / "2-chosen.png")

    ui.windowingSection.collapsed = False
    ui.showAsModelButton.click()
    host.wait_for(lambda: not panel.view.running, 60)
    host.scroll_to(ui.windowingSection)
    host.screenshot(pictures / "3-windowing.png")
    assert slicer.util.getNodes("T1 as *", scene), "the network's real input is a volume beside the original"
    ui.showAsModelButton.click()
    ui.windowingSection.collapsed = True

    ui.applyButton.click()
    host.wait_for(lambda: "Running the network" in ui.progressLabel.text or not panel.runs.running, 60)
    host.screenshot(pictures / "4-running.png")
    host.wait_for(lambda: not panel.runs.running, 120)
    assert ui.progressLabel.text.startswith("Done:"), ui.progressLabel.text
    (segmentation,) = slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene)
    segments = {r[0]: r for r in table_from_node(panel.results._tables()[0]).rows}
    assert segmentation.GetSegmentation().GetNumberOfSegments() == len(segments)
    host.screenshot(pictures / "5-result.png")

    before = centres(scene)
    ui.tableView._target.selectRow(0)
    host.pump(0.1)
    assert centres(scene) != before
    host.screenshot(pictures / "6-row-clicked.png")

    process = panel._worker._process
    ui.applyButton.click()
    host.pump(0.05)
    ui.cancelButton.click()
    host.wait_for(lambda: not panel.runs.running, 20)
    assert "Cancelled" in ui.progressLabel.text
    host.screenshot(pictures / "7-cancelled.png")

    ui.applyButton.click()
    host.wait_for(lambda: not panel.runs.running, 120)
    assert ui.progressLabel.text.startswith("Done:"), ui.progressLabel.text
    assert panel._worker._process is process, "the second run must not wait for a new worker"
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode", scene) == [segmentation]
    again = {r[0]: r for r in table_from_node(panel.results._tables()[0]).rows}
    assert again == segments
    host.screenshot(pictures / "8-second-run.png")


def centres(scene: Any) -> list[np.ndarray]:
    """Where the slice views stand (RAS, mm)."""
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode", scene)
    return [slicer.util.arrayFromVTKMatrix(n.GetSliceToRAS())[:3, 3].round(2).tolist() for n in nodes]
