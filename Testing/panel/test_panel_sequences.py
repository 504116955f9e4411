"""Sequences run frame by frame, and the report that a user sends when something fails."""

from __future__ import annotations

from typing import Any

from medseg.geometry.volume import Volume
from qt_host.fixtures import Opened, ct_card, flair_card, grid, host, opened, ramp, segmentation_result  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


class TestSupportReport:
    def test_holds_versions_and_no_node_name(self, opened: Opened) -> None:
        """Node names are often patient names; the report goes to strangers."""
        import qt

        opened.add_volume("DOE^JANE")
        opened.choose("ct-bleeds")
        opened.ui.applyButton.click()
        opened.worker.listener.on_warning("DOE^JANE has another geometry.")
        opened.finish()
        opened.ui.copyReportButton.click()
        text = qt.QApplication.clipboard().text()
        assert "DOE" not in text and "<node" in text
        assert "5.13.0-test-host" in text and "ct-bleeds" in text

    def test_worker_adds_its_part(self, opened: Opened) -> None:
        import qt

        opened.ui.copyReportButton.click()
        opened.worker.queries[0][1]({"report": {"onnxruntime": "1.31.1"}})
        assert "onnxruntime: 1.31.1" in qt.QApplication.clipboard().text()

    def test_paths_lose_the_users_name(self, host: Any) -> None:
        from medseg_panel.segment.report import without_home

        assert without_home("/home/jane/x C:\\Users\\jane\\y") == "/home/<user>/x C:\\Users\\<user>\\y"


class TestSequences:
    def sequence(self, opened: Opened, frames: int = 3) -> Any:
        """A volume that shows a sequence of ``frames`` frames."""
        import numpy as np

        from medseg_mrml import node_from_volume

        scene = opened.scene
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "times")
        for n in range(frames):
            made = node_from_volume(Volume(ramp((20, 16, 12)) + np.int16(1000 * n), grid(), "CT", "frame"), scene)
            sequence.SetDataNodeAtValue(made, str(n))
            scene.RemoveNode(made)
        browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
        browser.AddSynchronizedSequenceNode(sequence)
        import slicer

        slicer.modules.sequences.logic().UpdateAllProxyNodes()
        proxy = browser.GetProxyNode(sequence)
        slicer.util.setSliceViewerLayers(background=proxy)
        opened.host.pump(0.02)
        return proxy

    def test_all_frames_run_one_after_the_other_into_a_sequence(self, opened: Opened) -> None:
        from medseg_mrml import table_from_node

        self.sequence(opened)
        opened.choose("ct-bleeds")
        opened.ui.framesSelector.currentIndex = 1
        opened.ui.applyButton.click()
        for n in range(3):
            assert len(opened.worker.runs) == n + 1
            assert int(opened.worker.runs[n]["volumes"][0].array.flat[0]) == 1000 * n
            opened.finish()
        scene = opened.scene
        assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == 2
        made = scene.GetNthNodeByClass(1, "vtkMRMLSequenceNode")
        assert made.GetNumberOfDataNodes() == 3
        assert made.GetNthDataNode(2).GetSegmentation().GetNumberOfSegments() == 1
        tables = [
            table_from_node(scene.GetNthNodeByClass(n, "vtkMRMLTableNode"))
            for n in range(scene.GetNumberOfNodesByClass("vtkMRMLTableNode"))
        ]
        assert {t.name: len(t.rows) for t in tables} == {"segments": 3, "lesions": 3}
        assert tables[0].column("frame") == [1, 2, 3]

    def test_shown_frame_only_is_the_default(self, opened: Opened) -> None:
        self.sequence(opened)
        opened.choose("ct-bleeds")
        opened.ui.applyButton.click()
        opened.finish()
        assert len(opened.worker.runs) == 1 and not opened.panel.runs.running

    def test_cancel_keeps_the_frames_that_are_done_and_says_so(self, opened: Opened) -> None:
        self.sequence(opened)
        opened.choose("ct-bleeds")
        opened.ui.framesSelector.currentIndex = 1
        opened.ui.applyButton.click()
        opened.finish(segmentation_result())
        opened.ui.cancelButton.click()
        opened.worker.listener.on_cancelled()
        assert "1 of 3 frames are done" in opened.ui.progressLabel.text
