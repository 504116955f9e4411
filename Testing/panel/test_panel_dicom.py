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
    databaseFilename = "/database/ctkDICOM.sql"

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
    opened.dialogs.answers = {"patient": "the patient, as the images do"}
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

    def test_objects_name_whom_the_user_says(self, loaded: Opened) -> None:
        """A name would leave the hospital although the user did not agree; Cancel wrote objects all the same."""
        loaded.panel.results.dicom.into_folder()
        _, error, content = asked(loaded)
        assert content["deidentified"] is False and content["film_plane"] is False
        (question,) = loaded.dialogs.asked  # a CT is no film
        error({"kind": "InputError", "message": "over"})
        loaded.dialogs.answers = {"patient": question["choices"][1]}
        loaded.panel.results.dicom.into_folder()
        assert asked(loaded)[2]["deidentified"] is True
        asked(loaded)[1]({"kind": "InputError", "message": "over"})
        loaded.dialogs.answers = None
        loaded.panel.results.dicom.into_folder()
        assert len([q for q in loaded.worker.queries if q[0] == "dicom"]) == 2

    def test_a_film_may_get_a_plane(self, loaded: Opened) -> None:
        """The mask of an X-ray would be in the study and shown by no viewer of slices, Slicer's own among them."""
        export = loaded.panel.results.dicom
        loaded.panel.results._for_dicom()[0].SetAttribute("DICOM.Modality", "DX")
        export.into_folder()
        _, plane = loaded.dialogs.asked
        assert "X-ray has no place in the patient" in plane["why"] and asked(loaded)[2]["film_plane"] is False
        asked(loaded)[1]({"kind": "InputError", "message": "over"})
        loaded.dialogs.answers = {"patient": "nobody", "plane": plane["choices"][1]}
        export.into_folder()
        assert asked(loaded)[2]["film_plane"] is True and asked(loaded)[2]["deidentified"] is True
        asked(loaded)[1]({"kind": "InputError", "message": "over"})
        loaded.dialogs.answers = {"plane": plane["choices"][1]}
        export.into_database()  # shown in Slicer, so the plane stands first there
        (inside,) = loaded.dialogs.asked
        assert inside["default"] == plane["choices"][1] and "study of this patient" in loaded.dialogs.forms[-1][0]
        assert asked(loaded)[2]["film_plane"] is True and asked(loaded)[2]["deidentified"] is False

    def test_it_can_be_stopped(self, loaded: Opened, tmp_path: Path) -> None:
        """A long export into the wrong folder had to be waited for."""
        loaded.panel.results.dicom.into_folder()
        loaded.panel.results.dicom.into_folder()
        assert "Stop it?" in loaded.dialogs.questions[-1] and len(loaded.worker.cancelled_queries) == 1
        _, error, content = asked(loaded)
        error({"kind": "Cancelled", "message": "Cancelled."})
        assert loaded.dialogs.errors == [] and "nothing was written" in loaded.panel.run.log_text
        assert not Path(content["folder"]).exists()

    def test_what_is_under_way_when_the_module_closes_leaves_nothing(self, loaded: Opened) -> None:
        """Masks of a patient stayed in the temporary folder."""
        loaded.panel.results.dicom.into_database()
        folders = [Path(asked(loaded)[2]["folder"]), Path(asked(loaded)[2]["output"]).parent]
        assert all(f.exists() for f in folders)
        loaded.panel.results.cleanup()
        assert not any(f.exists() for f in folders)

    def test_an_error_is_told_and_leaves_nothing(self, loaded: Opened) -> None:
        """The next export would be refused as if the first went on."""
        loaded.panel.results.dicom.into_folder()
        _, error, content = asked(loaded)
        error({"message": "no Study Instance UID"})
        assert loaded.dialogs.errors == ["no Study Instance UID"] and not Path(content["folder"]).exists()
        loaded.panel.results.dicom.into_folder()
        assert len([q for q in loaded.worker.queries if q[0] == "dicom"]) == 2

    def into_database(self, loaded: Opened, monkeypatch: pytest.MonkeyPatch, import_: Any) -> Path:
        """The objects are written and imported by ``import_``; gives the folder that they were in."""
        utilities = types.ModuleType("DICOMLib")
        utilities.DICOMUtils = types.SimpleNamespace(importDicom=import_)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "DICOMLib", utilities)
        loaded.panel.results.dicom.into_database()
        answer, _, content = asked(loaded)
        output = Path(content["output"])
        output.mkdir()
        (output / "segmentation.dcm").write_bytes(b"x")
        answer({"files": ["segmentation.dcm"], "instances": ["1.2.3"]})
        assert not output.parent.exists(), "objects that name a patient stay in the temporary folder"
        return output

    def test_into_the_database_of_slicer(self, loaded: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """The objects would not be in the patient's study in Slicer."""
        import slicer

        taken: list[tuple[str, list[str], bool]] = []

        def import_(folder: str, database: Any, copy: bool) -> bool:
            taken.append((folder, sorted(p.name for p in Path(folder).iterdir()), copy))
            slicer.dicomDatabase.files["1.2.3"] = "copy.dcm"
            loaded.panel.results.dicom.into_folder()  # Slicer handles events meanwhile
            return True

        output = self.into_database(loaded, monkeypatch, import_)
        assert taken == [(str(output), ["segmentation.dcm"], True)]
        assert "study of this patient" in loaded.dialogs.questions[-1]
        assert len(loaded.dialogs.errors) == 1 and "being imported" in loaded.dialogs.errors[0]
        assert "database now: segmentation.dcm" in loaded.panel.run.log_text

    def test_objects_that_the_database_did_not_take_are_told(
        self, loaded: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Slicer's import says yes where nothing came in (a full disk): the user would believe that it is there."""
        self.into_database(loaded, monkeypatch, lambda folder, database, copy: True)
        assert "did not take the objects" in loaded.dialogs.errors[0]
        with pytest.raises(RuntimeError):

            def breaks(folder: str, database: Any, copy: bool) -> bool:
                raise RuntimeError("Slicer's fault")

            self.into_database(loaded, monkeypatch, breaks)
        assert not loaded.panel.results.dicom.busy and not loaded.panel.results.dicom._folders

    @pytest.mark.parametrize("change", [{"isOpen": False}, {"databaseFilename": "/another/ctkDICOM.sql"}])
    def test_a_database_that_is_closed_or_changed_meanwhile_gets_nothing(
        self, loaded: Opened, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
    ) -> None:
        """Objects came into another project's database, or nowhere, and the log said that they were in the study."""
        import slicer

        taken: list[str] = []
        loaded.panel.results.dicom.into_database()
        for name, value in change.items():
            setattr(slicer.dicomDatabase, name, value)
        utilities = types.ModuleType("DICOMLib")
        utilities.DICOMUtils = types.SimpleNamespace(  # type: ignore[attr-defined]
            importDicom=lambda folder, *rest: taken.append(folder)
        )
        monkeypatch.setitem(sys.modules, "DICOMLib", utilities)
        asked(loaded)[0]({"files": ["segmentation.dcm"], "instances": ["1.2.3"]})
        assert not taken and "closed or changed meanwhile" in loaded.dialogs.errors[0]

    def test_a_series_that_is_deleted_meanwhile_gets_nothing(
        self, loaded: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A study of masks without their images, which no viewer shows; an error that names a file, not the series."""
        import slicer

        taken: list[str] = []
        utilities = types.ModuleType("DICOMLib")
        utilities.DICOMUtils = types.SimpleNamespace(  # type: ignore[attr-defined]
            importDicom=lambda folder, *rest: taken.append(folder)
        )
        monkeypatch.setitem(sys.modules, "DICOMLib", utilities)
        loaded.panel.results.dicom.into_database()
        files, slicer.dicomDatabase.files = slicer.dicomDatabase.files, {}
        asked(loaded)[0]({"files": ["segmentation.dcm"], "instances": ["1.2.3"]})
        told = ["12 of the 12 DICOM files of head are not in Slicer's database any more", "Nothing was exported."]
        assert taken == []
        assert all(words in loaded.dialogs.errors[-1] for words in told)
        slicer.dicomDatabase.files = files
        loaded.panel.results.dicom.into_folder()
        slicer.dicomDatabase.files = {}
        asked(loaded)[1]({"kind": "InputError", "message": "001.dcm: there is no such file."})
        assert all(words in loaded.dialogs.errors[-1] for words in told)

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
