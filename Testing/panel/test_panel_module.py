"""The module as Slicer loads it: light at start, reloadable, tied to the scene, with a self test that runs."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from qt_host.fixtures import MODULE, Host, Opened, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

HEAVY = ("onnxruntime", "onnx", "pydantic", "scipy", "SimpleITK", "pydicom", "typer", "rich")


class TestStart:
    def test_module_file_imports_nothing_of_its_own(self, repository: Path) -> None:
        """Slicer imports every module file at its start; ours must cost next to nothing."""
        code = (
            "import sys, time; sys.path[:0] = ['Testing', 'MedSegExtension/Logic']\n"
            "from pathlib import Path; from qt_host import start; host = start()\n"
            "before = set(sys.modules); t = time.perf_counter()\n"
            f"host.load_module(Path({str(MODULE)!r})); t = time.perf_counter() - t\n"
            "new = {n.split('.')[0] for n in set(sys.modules) - before}\n"
            "print(sorted(new & {'medseg_panel', 'onnxruntime', 'pydantic'}), t)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        words, seconds = done.stdout.strip().splitlines()[-1].split("] ")
        assert words == "["
        assert float(seconds) < 0.1

    def test_opened_panel_loads_no_heavy_package_into_slicer(self, repository: Path, tmp_path: Path) -> None:
        """A package that breaks or takes long to import must break the worker, not Slicer."""
        code = (
            "import sys; sys.path[:0] = ['Testing', 'MedSegExtension/Logic']\n"
            "from pathlib import Path; from qt_host import start; host = start()\n"
            f"module = host.load_module(Path({str(MODULE)!r})); module.widgetRepresentation()\n"
            f"print([n for n in {HEAVY!r} if n in sys.modules]); module.close()"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().splitlines()[-1] == "[]"

    def test_describes_itself(self, opened: Opened) -> None:
        assert opened.module.title == "MedSeg"
        assert opened.module.categories == ["Segmentation"]
        assert opened.module.helpText and opened.module.contributors


class TestReload:
    def test_reads_the_own_packages_anew(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """Reload & Test with stale submodules tests yesterday's code."""
        # Other tests hold functions of the modules that are there now; they find them again afterwards.
        for name in [n for n in sys.modules if n.split(".")[0] in ("medseg", "medseg_mrml", "medseg_panel")]:
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
        old = sys.modules["medseg_panel.panel"]
        old_panel = opened.widget.panel
        opened.widget.onReload()
        assert sys.modules["medseg_panel.panel"] is not old
        assert opened.widget.panel is not old_panel
        assert opened.worker.ended

    def test_keys_of_the_review_work_after_it(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """Slicer does not tell a module that was reloaded that the user is in it."""
        for name in [n for n in sys.modules if n.split(".")[0] in ("medseg", "medseg_mrml", "medseg_panel")]:
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
        opened.widget.onReload()
        review = opened.widget.panel.tabs[1]
        opened.ui.tabs.currentIndex = 1
        assert all(s.enabled for s in review.actions.keys._shortcuts)

    def test_asks_before_it_ends_what_is_under_way(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        """A run of half an hour was gone by one press of Reload, and nothing said so."""
        import slicer

        for name in [n for n in sys.modules if n.split(".")[0] in ("medseg", "medseg_mrml", "medseg_panel")]:
            monkeypatch.setitem(sys.modules, name, sys.modules[name])
        asked: list[str] = []
        answers = iter((False, True))
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, *_: asked.append(text) or next(answers))
        before = opened.widget
        opened.choose("ct-bleeds")
        opened.add_volume()
        opened.ui.applyButton.click()
        assert before.panel.busy
        before.onReload()
        assert slicer.modules.MedSegExtensionWidget is before and opened.panel.runs.running and len(asked) == 1
        before.onReload()
        assert slicer.modules.MedSegExtensionWidget is not before and len(asked) == 2
        assert "reloading ends that" in asked[0]

    def test_leaves_no_observer_behind(self, opened: Opened) -> None:
        widget = opened.widget
        opened.module.close()
        assert widget.Observations == [] if hasattr(widget, "Observations") else True
        node = opened.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "later")
        opened.scene.RemoveNode(node)


class TestSceneAndModule:
    def test_leaving_and_coming_back_keeps_the_choices(self, opened: Opened) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        page = opened.module.page
        page.set_entered(False)
        page.set_entered(True)
        assert opened.panel.model.card.id == "ct-bleeds"
        assert opened.ui.applyButton.enabled

    def test_cleanup_ends_the_worker(self, opened: Opened) -> None:
        opened.widget.cleanup()
        assert opened.worker.ended

    def test_parameter_node_is_one_for_the_scene(self, opened: Opened) -> None:
        first = opened.parameters.parameterNode
        assert opened.widget.logic.getParameterNode().parameterNode is first

    def test_imported_scene_is_followed(self, opened: Opened, tmp_path: Path) -> None:
        opened.add_volume()
        opened.choose("ct-bleeds")
        path = tmp_path / "scene.mrb"
        assert opened.scene.WriteToMRB(str(path))
        opened.choose("mr-lesions")
        assert opened.scene.ReadFromMRB(str(path), False)
        opened.host.pump(0.05)
        assert opened.parameters.modelId == opened.panel.model.card.id

    def test_script_that_sets_the_parameter_node_changes_the_panel(self, opened: Opened) -> None:
        opened.parameters.modelId = "mr-lesions"
        opened.host.pump(0.02)
        assert opened.panel.model.card.id == "mr-lesions"

    def test_model_of_a_scene_that_is_not_installed_is_told(self, opened: Opened) -> None:
        opened.parameters.modelId = "somebody-elses"
        opened.host.pump(0.02)
        assert "somebody-elses" in opened.ui.logText.plainText
        assert not opened.ui.applyButton.enabled


class TestUiFile:
    def test_every_bound_parameter_exists(self, host: Host, repository: Path) -> None:
        """A widget with a wrong SlicerParameterName silently never binds."""
        from medseg_panel.parameters import MedSegParameters

        root = ElementTree.parse(repository / "MedSegExtension/Resources/UI/MedSegExtension.ui").getroot()
        bound = [p.findtext("string") for p in root.iter("property") if p.get("name") == "SlicerParameterName"]
        assert len(bound) == len(set(bound)) == 7
        assert set(bound) <= set(MedSegParameters.allParameters)

    def test_every_mrml_widget_gets_the_scene(self, repository: Path) -> None:
        root = ElementTree.parse(repository / "MedSegExtension/Resources/UI/MedSegExtension.ui").getroot()
        needs = {
            w.get("name") for w in root.iter("widget") if w.get("class") in ("qMRMLNodeComboBox", "qMRMLTableView")
        }
        assert {c.findtext("receiver") for c in root.iter("connection")} == needs


def test_self_test_fails_where_no_model_is_installed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A self test that passes without running anything hides a broken installation."""
    from medseg_panel import self_test

    monkeypatch.setattr(self_test.model_store, "installed_models", lambda: [])
    with pytest.raises(AssertionError, match="installed"):
        opened.module.module.runTest()


def test_self_test_runs_a_shipped_model_in_the_real_worker(opened: Opened) -> None:
    opened.module.module.runTest()
    tables = opened.scene.GetNumberOfNodesByClass("vtkMRMLTableNode")
    assert tables > 0
