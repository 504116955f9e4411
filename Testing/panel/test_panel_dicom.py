"""The result as DICOM objects: from the panel into a folder or Slicer's database, and the entry in the Data module."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_panel_run import ready

from medseg.monitor import Monitor
from medseg.worker.dicom import write_objects
from qt_host.fixtures import Opened, grid, host, opened, segmentation_result  # noqa: F401
from support.dicom_images import write_series

# ruff: noqa: F811  (fixtures are arguments)


class Database:
    """Slicer's DICOM database as far as it is used: the file of an instance."""

    isOpen = True

    def __init__(self, files: list[Path]) -> None:
        import pydicom

        self.files = {str(pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID): str(f) for f in files}

    def fileForInstance(self, uid: str) -> str:
        return self.files.get(uid, "")

    def instanceValue(self, uid: str, tag: str) -> str:
        return ""


@pytest.fixture
def loaded(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """A result on a volume that came from DICOM."""
    import slicer

    volume = ready(opened)
    lattice = grid()
    files = write_series(
        tmp_path / "images", np.zeros(lattice.shape, np.int16),
        [lattice.to_physical([0, 0, k]) for k in range(lattice.size[2])], spacing=lattice.spacing[1::-1], thickness=3.0,
    )  # fmt: skip
    database = Database(files)
    volume.SetAttribute("DICOM.instanceUIDs", " ".join(database.files))
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    opened.ui.applyButton.click()
    opened.finish()
    opened.dialogs.path = str(tmp_path / "out")
    return opened


def asked(opened: Opened) -> tuple[Any, Any, dict[str, Any]]:
    """What the worker was asked last, with where its answer goes."""
    command, answer, error, content = opened.worker.queries[-1]
    assert command == "dicom"
    return answer, error, content


def written(opened: Opened) -> dict[str, Any]:
    """The worker does what it was asked, and answers."""
    answer, _, content = asked(opened)
    done = write_objects({"id": 1, "command": "dicom", **content}, Monitor())
    answer(done)
    return done


class TestExport:
    def test_objects_of_the_result_on_the_images_of_the_volume(self, loaded: Opened, tmp_path: Path) -> None:
        """A result in Slicer could not go back to the archive."""
        pytest.importorskip("highdicom", reason="highdicom is not installed (pip install 'medseg[dicom]')")
        from medseg.io import read_segmentation
        from medseg.io.dicom_report import read_report

        loaded.panel.results.dicom.into_folder()
        assert written(loaded)["files"] == ["segmentation.dcm", "report.dcm"]
        assert loaded.dialogs.errors == []
        mask = read_segmentation(tmp_path / "out/segmentation.dcm")
        assert int(mask.mask("bleed").sum()) == 24 and read_report(tmp_path / "out/report.dcm")[0].name == "bleed"
        assert not Path(asked(loaded)[2]["folder"]).exists()

    def test_cancel_of_the_question_writes_objects_that_name_nobody(self, loaded: Opened) -> None:
        """A name would leave the hospital although the user did not agree."""
        loaded.dialogs.agrees = False
        loaded.panel.results.dicom.into_folder()
        assert asked(loaded)[2]["deidentified"] is True

    def test_an_error_is_told_and_leaves_nothing(self, loaded: Opened) -> None:
        """The next export would be refused as if the first went on."""
        loaded.panel.results.dicom.into_folder()
        _, error, content = asked(loaded)
        error({"message": "no Study Instance UID"})
        assert loaded.dialogs.errors == ["no Study Instance UID"] and not Path(content["folder"]).exists()
        loaded.panel.results.dicom.into_folder()
        assert len([q for q in loaded.worker.queries if q[0] == "dicom"]) == 2

    def test_into_the_database_of_slicer(self, loaded: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """The objects would not be in the patient's study in Slicer."""
        taken: list[tuple[str, list[str], bool]] = []
        utilities = types.ModuleType("DICOMLib")
        utilities.DICOMUtils = types.SimpleNamespace(  # type: ignore[attr-defined]
            importDicom=lambda folder, database, copy: (
                not taken.append(  # type: ignore[func-returns-value]
                    (folder, sorted(p.name for p in Path(folder).iterdir()), copy)
                )
            )
        )
        monkeypatch.setitem(sys.modules, "DICOMLib", utilities)
        loaded.panel.results.dicom.into_database()
        answer, _, content = asked(loaded)
        Path(content["output"]).mkdir()
        (Path(content["output"]) / "segmentation.dcm").write_bytes(b"x")
        answer({"files": ["segmentation.dcm"]})
        assert [(files, copy) for _, files, copy in taken] == [(["segmentation.dcm"], True)]
        assert not Path(content["output"]).parent.exists() and "study of this patient" in loaded.dialogs.questions[-1]

    def test_a_volume_that_is_not_from_dicom_is_told(self, opened: Opened) -> None:
        """The user would wait for an export that cannot be."""
        ready(opened)
        opened.ui.applyButton.click()
        opened.finish()
        opened.panel.results.dicom.into_folder()
        assert "was not loaded from DICOM" in opened.dialogs.errors[0]

    def test_files_that_are_gone_and_a_closed_database_are_told(self, loaded: Opened) -> None:
        """Objects would refer to images that are not there."""
        import slicer

        Path(next(iter(slicer.dicomDatabase.files.values()))).unlink()
        loaded.panel.results.dicom.into_folder()
        assert "1 of the 12 DICOM files" in loaded.dialogs.errors[0]
        slicer.dicomDatabase.isOpen = False
        loaded.panel.results.dicom.into_database()
        assert "not open" in loaded.dialogs.errors[1]


def test_numbers_of_a_corrected_mask_are_measured_anew() -> None:
    """The report would have the volume of before the correction."""
    from medseg.dicom_out.earlier import up_to_date

    result = segmentation_result()
    assert up_to_date(result, Monitor()) is result
    labels = result.layers[0].labels.copy()
    labels[0, :2, :2] = 1
    monitor = Monitor()
    changed = up_to_date(replace(result, layers=(replace(result.layers[0], labels=labels),)), monitor)
    assert changed.tables["segments"].column("voxels")[0] == 28 and "changed after the run" in monitor.warnings[0]
    assert np.isnan(changed.tables["segments"].column("mean")[0])


class Base:
    """Slicer's base class, which also registers the plugin."""

    def __init__(self, adaptor: Any) -> None:
        self.scriptedPlugin = adaptor


class TestDataModule:
    @pytest.fixture
    def plugin(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The plugin as Slicer makes it, on a base that registers nothing."""
        base = types.ModuleType("AbstractScriptedSubjectHierarchyPlugin")
        base.AbstractScriptedSubjectHierarchyPlugin = Base  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "AbstractScriptedSubjectHierarchyPlugin", base)
        import qt

        from medseg_panel import volume_menu

        monkeypatch.setattr(volume_menu.store, "installed_models", opened.store.installed_models)
        sys.modules.pop("medseg_panel.MedSegSubjectHierarchyPlugin", None)
        from medseg_panel.MedSegSubjectHierarchyPlugin import MedSegSubjectHierarchyPlugin

        return MedSegSubjectHierarchyPlugin(qt.QWidget())

    def test_models_that_fit_the_volume(self, opened: Opened, plugin: Any) -> None:
        """The menu would offer a FLAIR model for a CT."""
        from medseg_mrml.hierarchy import item_of

        opened.store.cards = [replace(c, has_weights=True) for c in opened.store.cards]
        volume = opened.add_volume(modality="CT")
        plugin.action.visible = False
        plugin.showContextMenuActionsForItem(item_of(opened.scene, volume))
        assert plugin.action.visible and [a.text for a in plugin.menu.actions()] == ["Bleeds on head CT"]
        plugin.action.visible = False
        plugin.showContextMenuActionsForItem(0)
        assert not plugin.action.visible

    def test_a_choice_runs_the_model_on_that_volume(
        self, opened: Opened, plugin: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The right-click would open the module and nothing more."""
        import slicer

        opened.store.cards = [replace(c, has_weights=True) for c in opened.store.cards]
        first, second = opened.add_volume("first"), opened.add_volume("second")
        monkeypatch.setattr(slicer.util, "selectModule", lambda name: None, raising=False)
        monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: opened.widget, raising=False)
        plugin.segment("ct-bleeds", first.GetID())
        assert [v.name for v in opened.worker.runs[-1]["volumes"]] == ["first"] and second is not None
