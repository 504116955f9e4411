"""From Apply to nodes: what a user presses, what the scene holds afterwards, and what happens when it goes wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.errors import InputError
from qt_host.fixtures import Opened, host, opened, scores_result, segmentation_result  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def nodes(opened: Opened, kind: str) -> list[Any]:
    scene = opened.scene
    return [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]


def slice_positions(opened: Opened) -> list[tuple[float, ...]]:
    """The RAS centre of each slice view."""
    return [
        tuple(round(n.GetSliceToRAS().GetElement(r, 3), 2) for r in range(3)) for n in nodes(opened, "vtkMRMLSliceNode")
    ]


def ready(opened: Opened) -> Any:
    """A CT volume and the CT model are chosen."""
    volume = opened.add_volume()
    opened.choose("ct-bleeds")
    opened.host.pump(0.02)
    return volume


class TestApply:
    def test_cannot_be_pressed_before_model_and_volume_are_there_and_says_why(self, opened: Opened) -> None:
        assert not opened.ui.applyButton.enabled
        assert "model" in opened.ui.applyButton.toolTip
        opened.choose("ct-bleeds")
        assert not opened.ui.applyButton.enabled
        assert "head CT" in opened.ui.applyButton.toolTip
        opened.add_volume()
        assert opened.ui.applyButton.enabled

    def test_hands_the_chosen_volume_and_options_to_the_worker(self, opened: Opened) -> None:
        volume = ready(opened)
        opened.ui.batchSpinBox.value = 4
        opened.ui.probabilitiesCheckBox.checked = True
        opened.ui.applyButton.click()
        run = opened.worker.runs[0]
        assert run["volumes"][0].name == volume.GetName()
        assert run["volumes"][0].modality == "CT"
        assert run["options"] == {"device": "auto", "precision": "auto", "probabilities": True, "batch": 4}
        assert not opened.ui.applyButton.enabled and opened.ui.cancelButton.enabled

    def test_mirroring_is_asked_for_only_where_the_model_was_trained_so(self, opened: Opened) -> None:
        """Each window would be run up to 8 times for nothing."""
        from medseg_panel.segment.runs import run_options

        opened.parameters.mirror = True
        ready(opened)
        card = opened.panel.model.card
        assert "mirror" not in run_options(opened.parameters, card, {}, None)
        mirrored = replace(card, expects={**card.expects, "mirror_axes": (0, 1)})
        assert run_options(opened.parameters, mirrored, {}, None)["mirror"] is True

    def test_gives_one_segmentation_with_tables_beside_the_volume(self, opened: Opened) -> None:
        volume = ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        (segmentation,) = nodes(opened, "vtkMRMLSegmentationNode")
        import slicer

        assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(
            segmentation, segmentation.GetSegmentation().GetNthSegmentID(0), volume
        )
        assert int(mask.sum()) == 24 and mask[4:8, 5:8, 9:11].all()
        assert len(nodes(opened, "vtkMRMLTableNode")) == 2
        assert opened.ui.tableSelector.currentText == "lesions"
        assert "1 segment in" in opened.ui.progressLabel.text and "1.2 s on CPU" in opened.ui.progressLabel.text
        assert opened.ui.applyButton.enabled and not opened.ui.cancelButton.enabled

    def test_twice_quickly_starts_one_run(self, opened: Opened) -> None:
        ready(opened)
        opened.panel.apply()
        opened.panel.apply()
        assert len(opened.worker.runs) == 1

    def test_again_replaces_own_segments_and_keeps_those_of_the_user(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        (segmentation,) = nodes(opened, "vtkMRMLSegmentationNode")
        segmentation.GetSegmentation().AddEmptySegment("mine", "mine")
        opened.ui.applyButton.click()
        opened.finish()
        assert nodes(opened, "vtkMRMLSegmentationNode") == [segmentation]
        names = [segmentation.GetSegmentation().GetNthSegment(n).GetName() for n in range(2)]
        assert sorted(names) == ["bleed", "mine"]
        assert segmentation.GetSegmentation().GetNumberOfSegments() == 2

    def test_again_leaves_one_set_of_tables_and_one_plot(self, opened: Opened) -> None:
        ready(opened)
        for _ in range(2):
            opened.ui.applyButton.click()
            opened.finish(scores_result())
        assert sorted(t.GetName() for t in nodes(opened, "vtkMRMLTableNode")) == [
            "head Bleeds on head CT scores", "head Bleeds on head CT slices",
        ]  # fmt: skip
        assert len(nodes(opened, "vtkMRMLPlotChartNode")) == 1 and len(nodes(opened, "vtkMRMLPlotSeriesNode")) == 2

    def test_other_model_gets_a_segmentation_of_its_own(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        opened.choose("mr-lesions")
        assert opened.parameters.outputSegmentation is None

    def test_segmentation_chosen_by_the_user_stays_chosen(self, opened: Opened) -> None:
        ready(opened)
        mine = opened.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        opened.ui.outputSelector.setCurrentNode(mine)
        opened.choose("mr-lesions")
        assert opened.parameters.outputSegmentation is mine

    def test_missing_packages_declined_runs_nothing_and_says_so(self, opened: Opened) -> None:
        ready(opened)
        opened.installer.there = False
        opened.ui.applyButton.click()
        assert opened.worker.runs == []
        assert "not installed" in opened.ui.progressLabel.text
        assert opened.ui.applyButton.enabled

    def test_model_may_change_while_running(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.choose("mr-lesions")
        opened.finish()
        (segmentation,) = nodes(opened, "vtkMRMLSegmentationNode")
        assert "Bleeds on head CT" in segmentation.GetName()

    def test_result_is_placed_under_the_volumes_transform(self, opened: Opened) -> None:
        volume = ready(opened)
        transform = opened.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        volume.SetAndObserveTransformNodeID(transform.GetID())
        opened.ui.applyButton.click()
        opened.finish()
        (segmentation,) = nodes(opened, "vtkMRMLSegmentationNode")
        assert segmentation.GetParentTransformNode() is transform

    def test_probability_volumes_come_when_asked_for(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        result = segmentation_result()
        result.probabilities = {"bleed": np.full((12, 16, 20), 0.25, np.float32)}
        opened.finish(result)
        volumes = [v.GetName() for v in nodes(opened, "vtkMRMLScalarVolumeNode")]
        assert any("bleed probability" in name for name in volumes)


class TestProgress:
    def test_shows_stage_and_time_left(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.worker.listener.on_progress("infer", "slice 3 of 12", 0.4, 125.0)
        assert opened.ui.progressBar.value == 40
        assert opened.ui.progressLabel.text == "Running the network, slice 3 of 12, 2 min 5 s left in this stage"

    def test_warnings_stay_in_sight_after_the_run(self, opened: Opened) -> None:
        """A fallback that is only in the log is not read by anybody."""
        ready(opened)
        opened.ui.applyButton.click()
        opened.worker.listener.on_warning("The GPU's memory did not suffice; the CPU was used.")
        opened.finish()
        assert "the CPU was used" in opened.ui.notesLabel.text
        assert "the CPU was used" in opened.ui.logText.plainText


class TestCancel:
    def test_asks_the_worker_and_changes_nothing(self, opened: Opened) -> None:
        ready(opened)
        before = opened.scene.GetNumberOfNodes()
        opened.ui.applyButton.click()
        opened.ui.cancelButton.click()
        assert opened.worker.cancels == 1
        opened.worker.listener.on_cancelled()
        assert opened.scene.GetNumberOfNodes() == before
        assert "Cancelled" in opened.ui.progressLabel.text
        opened.ui.applyButton.click()
        opened.finish()
        assert len(nodes(opened, "vtkMRMLSegmentationNode")) == 1

    def test_result_that_comes_after_cancel_is_not_applied(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.ui.cancelButton.click()
        opened.finish()
        assert nodes(opened, "vtkMRMLSegmentationNode") == []

    def test_worker_that_died_is_told_and_the_next_run_works(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.worker.listener.on_error("Died", "The worker process was ended by the system.")
        assert opened.dialogs.errors == ["The worker process was ended by the system."]
        assert nodes(opened, "vtkMRMLSegmentationNode") == []
        opened.ui.applyButton.click()
        opened.finish()
        assert len(nodes(opened, "vtkMRMLSegmentationNode")) == 1


class TestSceneWhileRunning:
    def test_removed_input_stops_the_run(self, opened: Opened) -> None:
        volume = ready(opened)
        opened.add_volume("other")
        opened.ui.applyButton.click()
        opened.scene.RemoveNode(volume)
        assert opened.worker.cancels == 1
        opened.worker.listener.on_cancelled()
        assert "was removed" in opened.ui.progressLabel.text
        assert nodes(opened, "vtkMRMLSegmentationNode") == []

    def test_closed_scene_stops_the_run_and_a_new_one_works(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.scene.Clear(0)
        assert opened.worker.cancels == 1
        opened.worker.listener.on_cancelled()
        assert nodes(opened, "vtkMRMLSegmentationNode") == []
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        assert len(nodes(opened, "vtkMRMLSegmentationNode")) == 1

    def test_late_result_after_the_scene_was_closed_adds_nothing(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.scene.Clear(0)
        opened.finish()
        assert nodes(opened, "vtkMRMLSegmentationNode") == []
        assert nodes(opened, "vtkMRMLTableNode") == []

    def test_choices_and_result_are_there_after_saving_and_loading(self, opened: Opened, tmp_path: Path) -> None:
        """A scene that is opened next week must show the same model, volume and tables."""
        ready(opened)
        opened.ui.tileSpinBox.value = 64
        opened.ui.applyButton.click()
        opened.finish()
        for table in nodes(opened, "vtkMRMLTableNode"):
            table.AddDefaultStorageNode()
        bundle = tmp_path / "scene.mrb"
        assert opened.scene.WriteToMRB(str(bundle))
        opened.scene.Clear(0)
        assert opened.parameters.modelId == ""
        assert opened.scene.ReadFromMRB(str(bundle), True)
        opened.host.pump(0.05)
        assert opened.parameters.modelId == "ct-bleeds"
        assert opened.parameters.tile == 64
        assert opened.panel.model.card is not None and opened.panel.model.card.id == "ct-bleeds"
        assert opened.panel.inputs.volumes()[0].GetName() == "head"
        assert opened.ui.tableSelector.currentText == "lesions"
        assert opened.ui.applyButton.enabled


class TestResults:
    def test_row_of_a_lesion_moves_all_slice_views_to_it(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        before = slice_positions(opened)
        opened.ui.tableView._target.selectRow(0)
        opened.host.pump(0.05)
        after = slice_positions(opened)
        assert after != before
        # lesion at index (9.5, 6, 5.5): LPS (-0.5, -3, -1.5), so RAS (0.5, 3, -1.5)
        centre = (0.5, 3.0, -1.5)
        assert all(any(abs(p[axis] - centre[axis]) < 0.02 for p in after) for axis in range(3))

    def test_row_under_a_transform_goes_to_where_the_lesion_is_shown(self, opened: Opened) -> None:
        import vtk

        volume = ready(opened)
        transform = opened.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(2, 3, 100.0)
        transform.SetMatrixTransformToParent(matrix)
        volume.SetAndObserveTransformNodeID(transform.GetID())
        opened.ui.applyButton.click()
        opened.finish()
        opened.ui.tableView._target.selectRow(0)
        opened.host.pump(0.05)
        assert any(abs(p[2] - 98.5) < 0.02 for p in slice_positions(opened))

    def test_row_of_a_segment_goes_to_its_centre(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        opened.ui.tableSelector.currentIndex = opened.ui.tableSelector.findText("segments")
        opened.ui.tableView._target.selectRow(0)
        opened.host.pump(0.05)
        assert any(abs(p[2] - -1.5) < 1.6 for p in slice_positions(opened))
        assert any(abs(p[1] - 3.0) < 0.8 for p in slice_positions(opened))

    def test_point_of_the_plot_moves_the_views(self, opened: Opened) -> None:
        import slicer

        ready(opened)
        opened.ui.applyButton.click()
        opened.finish(scores_result())
        assert opened.ui.showPlotButton.enabled
        opened.ui.showPlotButton.click()
        series = nodes(opened, "vtkMRMLPlotSeriesNode")[0]
        slicer.app.layoutManager().plotWidget(0).plotView()._target.select(series, 7)
        # slice 8 of 12 at LPS z = -18 + 7 * 3
        assert any(abs(p[2] - 3.0) < 0.02 for p in slice_positions(opened))

    def test_best_slice_of_a_score_moves_the_views(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish(scores_result())
        opened.ui.tableSelector.currentIndex = opened.ui.tableSelector.findText("scores")
        opened.ui.tableView._target.selectRow(0)
        opened.host.pump(0.05)
        assert any(abs(p[2] - 15.0) < 0.02 for p in slice_positions(opened))

    def test_undo_brings_back_what_was_there(self, opened: Opened) -> None:
        ready(opened)
        mine = opened.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        mine.GetSegmentation().AddEmptySegment("mine", "mine")
        opened.ui.outputSelector.setCurrentNode(mine)
        before = opened.scene.GetNumberOfNodes()
        opened.ui.applyButton.click()
        opened.finish()
        assert mine.GetSegmentation().GetNumberOfSegments() == 2
        opened.ui.undoButton.click()
        assert [mine.GetSegmentation().GetNthSegmentID(0)] == list(mine.GetSegmentation().GetSegmentIDs())
        assert nodes(opened, "vtkMRMLTableNode") == []
        assert opened.scene.GetNumberOfNodes() <= before + 1  # a display node may stay
        assert not opened.ui.undoButton.enabled

    def test_undo_of_the_second_run_brings_back_the_tables_of_the_first(self, opened: Opened) -> None:
        from medseg_mrml import table_from_node

        ready(opened)
        opened.ui.applyButton.click()
        opened.finish(scores_result(6))
        opened.ui.applyButton.click()
        opened.finish(scores_result(12))
        opened.ui.undoButton.click()
        rows = {t.name: len(t.rows) for t in map(table_from_node, nodes(opened, "vtkMRMLTableNode"))}
        assert rows == {"slices": 6, "scores": 2}
        assert len(nodes(opened, "vtkMRMLPlotChartNode")) == 1

    def test_removed_table_leaves_the_panel(self, opened: Opened) -> None:
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        for table in nodes(opened, "vtkMRMLTableNode"):
            opened.scene.RemoveNode(table)
        assert opened.ui.tableSelector.count == 0
        assert opened.ui.tableView.mrmlTableNode() is None


def test_input_error_of_the_core_is_shown_as_it_is(opened: Opened) -> None:
    ready(opened)
    opened.ui.applyButton.click()
    opened.worker.listener.on_error(InputError.__name__, "head has the same value (0) in every voxel.")
    assert opened.dialogs.errors == ["head has the same value (0) in every voxel."]
    assert pytest.approx(0) == opened.ui.progressBar.value
