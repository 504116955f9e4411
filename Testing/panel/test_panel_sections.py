"""The sections of the panel: what they fill in, what they say, and what they remember."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from medseg.geometry.volume import Volume
from qt_host.fixtures import Opened, ct_card, flair_card, grid, host, opened, ramp, segmentation_result  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def display(volume: Any) -> tuple[float, float]:
    """(level, width) as the views show them."""
    node = volume.GetScalarVolumeDisplayNode()
    return node.GetLevel(), node.GetWindow()


class TestInputs:
    def test_visible_volume_is_chosen_by_itself(self, opened: Opened) -> None:
        opened.add_volume("first")
        shown = opened.add_volume("second")
        opened.choose("ct-bleeds")
        assert opened.panel.inputs.volumes() == [shown]

    def test_modality_counts_more_than_visibility(self, opened: Opened) -> None:
        """The MR that happens to be shown is not given to a CT model when there is a CT."""
        ct = opened.add_volume("a CT", "CT")
        opened.add_volume("an MR", "MR")
        opened.choose("ct-bleeds")
        assert opened.panel.inputs.volumes() == [ct]

    def test_channels_are_matched_by_name(self, opened: Opened) -> None:
        t1 = opened.add_volume("t1 sag", "MR")
        flair = opened.add_volume("FLAIR ax", "MR")
        opened.choose("mr-lesions")
        assert opened.panel.inputs.volumes() == [flair, t1]

    def test_volume_loaded_later_is_chosen(self, opened: Opened) -> None:
        opened.choose("ct-bleeds")
        volume = opened.add_volume()
        opened.host.pump(0.05)
        assert opened.panel.inputs.volumes() == [volume]

    def test_choice_of_the_user_is_kept(self, opened: Opened) -> None:
        first = opened.add_volume("first")
        opened.add_volume("second")
        opened.choose("ct-bleeds")
        selector = opened.panel.inputs._rows[0][1]
        selector.setCurrentNode(first)
        opened.host.pump(0.02)
        assert opened.panel.inputs.volumes() == [first]
        opened.panel.enter()
        assert opened.panel.inputs.volumes() == [first]

    def test_as_many_selectors_as_channels(self, opened: Opened) -> None:
        opened.host.show(opened.module.widgetRepresentation())
        opened.choose("mr-lesions")
        assert sum(s.visible for _, s in opened.panel.inputs._rows) == 2
        opened.choose("ct-bleeds")
        assert sum(s.visible for _, s in opened.panel.inputs._rows) == 1

    def test_labelmaps_are_not_offered(self, opened: Opened) -> None:
        opened.choose("ct-bleeds")
        opened.scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        opened.host.pump(0.02)
        assert opened.panel.inputs.volumes() == [None]
        assert opened.panel.inputs._rows[0][1].nodeCount() == 0


class TestFit:
    """The line that says what the model expects and whether this volume fits."""

    def test_fitting_volume(self, host: Any) -> None:
        from medseg_panel.segment.fit import fit

        state = fit(ct_card(), [Volume(ramp((20, 16, 12)), grid(), "CT", "head")])
        assert state.usable and not state.warnings
        assert state.reads == "head CT"
        assert state.expects == "CT (head), axial slices, fitted to 256 x 256 x any voxels"
        assert state.volumes == ("head: CT, 20x16x12 voxels of 1 x 1.5 x 3 mm, LPS",)

    def test_modality_is_warned_of_not_refused(self, host: Any) -> None:
        from medseg_panel.segment.fit import fit

        state = fit(ct_card(), [Volume(ramp((20, 16, 12)), grid(), "MR", "head")])
        assert state.usable and "is MR, but the model was trained on CT" in state.warnings[0]
        unknown = fit(ct_card(), [Volume(ramp((20, 16, 12)), grid(), None, "head")])
        assert unknown.usable and not unknown.warnings and "does not state its modality" in unknown.unstated[0]

    def test_missing_channel_is_named(self, host: Any) -> None:
        from medseg_panel.segment.fit import fit

        state = fit(flair_card(), [Volume(ramp((20, 16, 12)), grid(), "MR", "head"), None])
        assert state.problems == ("Choose a volume for T1 (MR).",)

    def test_single_slice_for_a_3d_model_is_refused(self, host: Any) -> None:
        from medseg_panel.segment.fit import fit

        one = Volume(ramp((20, 16, 1)), grid((20, 16, 1)), "MR", "slice")
        state = fit(replace(flair_card(), channels=flair_card().channels[:1]), [one])
        assert "single slice" in state.problems[0]

    def test_colour_is_refused_with_a_way_out(self, host: Any) -> None:
        import numpy as np

        from medseg_panel.segment.fit import fit

        colour = Volume(np.zeros((12, 16, 20, 3), np.uint8), grid(), "CT", "photo")
        assert "3 values per voxel" in fit(ct_card(), [colour]).problems[0]

    def test_thick_slices_are_warned_of(self, host: Any) -> None:
        from medseg_panel.segment.fit import fit

        volume = Volume(ramp((20, 16, 12)), grid(), "MR", "thick")
        card = replace(flair_card(), channels=flair_card().channels[:1])
        assert "3 mm apart where the model gets 1 x 1 x 1 mm" in fit(card, [volume]).warnings[0]

    def test_same_volume_for_two_channels_is_warned_of(self, host: Any) -> None:
        from medseg_panel.segment.fit import fit

        volume = Volume(ramp((20, 16, 12)), grid(), "MR", "head")
        assert any("more than one channel" in w for w in fit(flair_card(), [volume, volume]).warnings)


class TestModel:
    def test_list_shows_what_the_reader_chooses_by(self, opened: Opened) -> None:
        item = opened.ui.modelList.topLevelItem(0)
        assert [item.text(n) for n in range(2)] == ["Bleeds on head CT", "head CT"]
        assert "Apache-2.0" in item.toolTip(0) and "2.5 MB" in item.toolTip(0)

    def test_search_takes_several_words(self, opened: Opened) -> None:
        opened.ui.modelSearch.text = "flair segmentation"
        hidden = {
            opened.ui.modelList.topLevelItem(n).text(0): opened.ui.modelList.topLevelItem(n).isHidden()
            for n in range(opened.ui.modelList.topLevelItemCount)
        }
        assert hidden == {"Bleeds on head CT": True, "Lesions on FLAIR and T1": False}

    def test_card_of_a_stranger_cannot_inject_markup(self, opened: Opened) -> None:
        opened.store.cards = [ct_card(description="<img src='http://example.org/x.png'>&amp;")]
        opened.panel.enter()
        opened.choose("ct-bleeds")
        opened.entry("Card of").trigger()
        title, text = opened.dialogs.texts[0]
        assert title == "Bleeds on head CT" and "<img" not in text and "&lt;img" in text
        assert "fitted to 256 x 256 x any voxels" in text and "Drawn for a test." in text

    def test_model_without_weights_is_marked_and_not_run(self, opened: Opened) -> None:
        opened.store.cards = [ct_card(has_weights=False, size=0)]
        opened.panel.enter()
        opened.choose("ct-bleeds")
        opened.add_volume()
        assert "needs weights" in opened.ui.modelList.topLevelItem(0).text(0)
        assert not opened.ui.applyButton.enabled and "weights" in opened.ui.applyButton.toolTip

    def test_broken_manifest_is_named(self, opened: Opened) -> None:
        opened.store.cards = [ct_card(error="The manifest has missing or wrong fields: license.")]
        opened.panel.enter()
        opened.choose("ct-bleeds")
        assert "license" in opened.ui.modelNote.text
        assert "license" in opened.ui.applyButton.toolTip

    def test_adding_asks_the_worker_and_chooses_the_new_model(self, opened: Opened) -> None:
        opened.dialogs.path = "/models/new.zip"
        opened.entry("Add a package").trigger()
        what, on_answer, _, content = opened.worker.queries[0]
        assert (what, content) == ("add", {"model": "/models/new.zip"})
        opened.store.cards.append(ct_card(id="new", title="New"))
        on_answer({"id": "new"})
        assert opened.parameters.modelId == "new"

    def test_checking_shows_the_answer(self, opened: Opened) -> None:
        opened.choose("ct-bleeds")
        opened.entry("Check").trigger()
        opened.worker.queries[0][2]({"kind": "ModelError", "message": "The hash does not match."})
        assert "The hash does not match." in opened.ui.modelNote.text

    def test_removing_asks_first(self, opened: Opened) -> None:
        opened.choose("ct-bleeds")
        opened.dialogs.agrees = False
        opened.entry("Remove").trigger()
        assert opened.store.removed == []
        opened.dialogs.agrees = True
        opened.entry("Remove").trigger()
        assert opened.store.removed == ["ct-bleeds"]
        assert not opened.ui.applyButton.enabled


class TestWindowing:
    def test_view_shows_each_window_in_turn_and_goes_back(self, opened: Opened) -> None:
        volume = opened.add_volume()
        opened.choose("ct-bleeds")
        before = display(volume)
        opened.ui.showAsModelButton.click()
        assert display(volume) == (40, 80)
        opened.ui.nextChannelButton.click()
        assert display(volume) == (80, 200)
        opened.ui.nextChannelButton.click()
        opened.ui.nextChannelButton.click()
        assert display(volume) == (40, 80)
        opened.ui.showAsModelButton.click()
        assert display(volume) == before

    def test_channels_of_other_volumes_are_shown_in_turn(self, opened: Opened) -> None:
        from medseg_panel.segment.views import visible_background

        t1 = opened.add_volume("t1", "MR")
        flair = opened.add_volume("flair", "MR")
        opened.choose("mr-lesions")
        opened.ui.showAsModelButton.click()
        assert visible_background(opened.scene) is flair
        opened.ui.nextChannelButton.click()
        assert visible_background(opened.scene) is t1
        opened.ui.showAsModelButton.click()
        assert visible_background(opened.scene) is flair

    def test_override_goes_with_the_run_and_the_scene(self, opened: Opened) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.ui.overrideCheckBox.checked = True
        opened.ui.levelSpinBox.value = 50
        opened.ui.modelWindowSelector.currentIndex = 1
        opened.ui.widthSpinBox.value = 150
        opened.ui.applyButton.click()
        assert opened.worker.runs[0]["options"]["windows"] == [[50, 80], [80, 150], [40, 380]]
        assert opened.parameters.windowOverrides == "[[50.0, 80.0], [80.0, 150.0], [40.0, 380.0]]"

    def test_override_taken_back_is_not_sent(self, opened: Opened) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.ui.overrideCheckBox.checked = True
        opened.ui.levelSpinBox.value = 50
        opened.ui.overrideCheckBox.checked = False
        opened.ui.applyButton.click()
        assert "windows" not in opened.worker.runs[0]["options"]
        assert opened.ui.levelSpinBox.value == 40

    def test_override_of_another_model_is_not_used(self, opened: Opened) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.ui.overrideCheckBox.checked = True
        opened.ui.levelSpinBox.value = 50
        opened.store.cards.append(ct_card(id="one-window", windows=ct_card().windows[:1]))
        opened.panel.enter()
        opened.choose("one-window")
        opened.ui.applyButton.click()
        assert "windows" not in opened.worker.runs[0]["options"]
        assert "Warning: The changed windows are not those of this model" in opened.panel.run.log_text

    def test_damaged_override_of_a_scene_is_told(self, opened: Opened) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.ui.overrideCheckBox.checked = True
        opened.parameters.windowOverrides = "[[1, "
        opened.ui.applyButton.click()
        assert "windows" not in opened.worker.runs[0]["options"]
        assert "Warning: The changed windows are not those of this model" in opened.panel.run.log_text

    def test_not_allowed_is_disabled_and_says_why(self, opened: Opened) -> None:
        opened.store.cards = [ct_card(windows=tuple(replace(w, override=False) for w in ct_card().windows))]
        opened.panel.enter()
        opened.choose("ct-bleeds")
        assert not opened.ui.overrideCheckBox.enabled
        assert "training" in opened.ui.overrideCheckBox.toolTip

    def test_five_reader_windows(self, opened: Opened) -> None:
        volume = opened.add_volume()
        opened.choose("ct-bleeds")
        layout = opened.ui.readerWindowsWidget.layout()
        shown = []
        for n in range(layout.count()):
            button = layout.itemAt(n).widget()
            button.click()
            shown.append((button.text(), *display(volume)))
        assert shown == [
            ("Brain 40/80", 40, 80), ("Blood 80/200", 80, 200), ("Soft tissue 40/380", 40, 380),
            ("Bone 600/2800", 600, 2800), ("Grey-white 32/8", 32, 8),
        ]  # fmt: skip


class TestRunSection:
    DEVICES = (
        {
            "id": "cuda:0",
            "name": "NVIDIA X",
            "memory_bytes": 8 * 2**30,
            "works": True,
            "reason": "",
            "provider": "CUDA",
        },
        {"id": "cpu", "name": "CPU Y", "memory_bytes": 0, "works": True, "reason": ""},
        {
            "id": "tensorrt",
            "name": "TensorRT",
            "memory_bytes": 0,
            "works": False,
            "reason": "no library",
            "provider": "T",
        },
    )

    def test_only_devices_that_run_are_offered(self, opened: Opened) -> None:
        opened.ui.refreshDevicesButton.click()
        opened.worker.queries[0][1]({"devices": list(self.DEVICES)})
        texts = [opened.ui.deviceSelector.itemText(n) for n in range(opened.ui.deviceSelector.count)]
        assert texts == ["Automatic (NVIDIA X (cuda:0, 8 GiB))", "NVIDIA X (cuda:0, 8 GiB)", "CPU Y (cpu)"]
        assert "TensorRT cannot be used: no library" in opened.ui.logText.plainText

    def test_worker_is_warmed_up_once_a_model_is_chosen(self, opened: Opened) -> None:
        opened.installer.warm = True
        opened.choose("ct-bleeds")
        opened.choose("mr-lesions")
        assert [q[0] for q in opened.worker.queries] == ["devices"]

    def test_chosen_device_goes_with_the_run(self, opened: Opened) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        opened.panel.run.set_devices(list(self.DEVICES))
        opened.ui.deviceSelector.currentIndex = 2
        opened.ui.exactCheckBox.click()
        opened.ui.applyButton.click()
        options = opened.worker.runs[0]["options"]
        assert (options["device"], options["precision"]) == ("cpu", "float32")

    def test_tile_is_only_for_models_that_slide_a_window(self, opened: Opened) -> None:
        opened.choose("ct-bleeds")
        assert not opened.ui.tileSpinBox.enabled
        opened.choose("mr-lesions")
        assert opened.ui.tileSpinBox.enabled
        opened.add_volume("flair", "MR")
        opened.add_volume("t1", "MR")
        opened.ui.tileSpinBox.value = 64
        opened.ui.applyButton.click()
        assert opened.worker.runs[0]["options"]["patch"] == [64, 64, 64]

    def test_install_from_folder(self, opened: Opened) -> None:
        opened.dialogs.path = "/wheels"
        opened.entry("Install Python packages").trigger()
        assert opened.installer.folders == ["/wheels"]
