"""What the panel writes to files, and runs inside a region."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from test_panel_run import nodes, ready

from qt_host.fixtures import Opened, host, opened, scores_result, segmentation_result  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


class TestExport:
    def test_files_hold_what_the_nodes_hold(self, opened: Opened, tmp_path: Path) -> None:
        import SimpleITK as sitk

        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        opened.dialogs.path = str(tmp_path)
        opened.panel.results._export_all()
        assert opened.dialogs.errors == []
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "lesions.csv", "segmentation.nii.gz", "segmentation.seg.nrrd", "segments.csv",
        ]  # fmt: skip
        image = sitk.ReadImage(str(tmp_path / "segmentation.nii.gz"))
        assert image.GetSize() == (20, 16, 12)
        assert np.allclose(image.GetSpacing(), (1.0, 1.5, 3.0)) and np.allclose(image.GetOrigin(), (-10, -12, -18))
        labels = sitk.GetArrayFromImage(image)
        assert int((labels == 1).sum()) == 24 and labels[4:8, 5:8, 9:11].all()
        assert (tmp_path / "segments.csv").read_text() == "segment,voxels\nbleed,24\n"

    def test_does_not_repoint_the_nodes_to_the_files(self, opened: Opened, tmp_path: Path) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        (segmentation,) = nodes(opened, "vtkMRMLSegmentationNode")
        opened.dialogs.path = str(tmp_path / "out.seg.nrrd")
        opened.panel.results._export_segmentation()
        assert (tmp_path / "out.seg.nrrd").is_file()
        assert segmentation.GetStorageNode() is None

    def test_does_not_overwrite_a_folder(self, opened: Opened, tmp_path: Path) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        (tmp_path / "segments.csv").write_text("mine")
        opened.dialogs.path = str(tmp_path)
        opened.panel.results._export_all()
        assert "already" in opened.dialogs.errors[0]
        assert (tmp_path / "segments.csv").read_text() == "mine"


class TestRegion:
    def test_box_is_turned_into_whole_voxels(self, opened: Opened) -> None:
        volume = ready(opened)
        roi = opened.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
        roi.SetCenter(0.0, 0.0, 0.0)
        roi.SetSize(4.0, 6.0, 12.0)
        opened.ui.regionSelector.setCurrentNode(roi)
        opened.ui.applyButton.click()
        region = opened.worker.runs[0]["options"]["region"]
        # x from -2 to 2 at 1 mm: indices 8 to 12; y -3 to 3 at 1.5 mm: 6 to 10; z -6 to 6 at 3 mm: 4 to 8
        assert region["size"] == [5, 5, 5]
        assert region["origin"] == [-2.0, -3.0, -6.0]
        assert volume.GetName() == "head"

    def test_box_outside_the_volume_is_told(self, opened: Opened) -> None:
        ready(opened)
        roi = opened.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
        roi.SetCenter(500.0, 0.0, 0.0)
        roi.SetSize(4.0, 6.0, 12.0)
        opened.ui.regionSelector.setCurrentNode(roi)
        opened.ui.applyButton.click()
        assert opened.worker.runs == []
        assert "outside of head" in opened.dialogs.errors[0]
        assert opened.ui.applyButton.enabled
