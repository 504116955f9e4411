"""The test host must be as strict as PythonQt in the application: what passes here must work there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from qt_host.api import NotInSlicer, api
from qt_host.fixtures import Host, host  # noqa: F401


class TestRefusals:
    """What the application does not have raises here, as it would raise on a user's computer."""

    def test_property_that_does_not_exist(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(NotInSlicer):
            _ = qt.QPushButton().tooltip
        with pytest.raises(NotInSlicer):
            qt.QPushButton().tooltip = "typing error"

    def test_property_behind_a_static_function(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(NotInSlicer):
            qt.QTimer().singleShot = True

    def test_attribute_added_to_a_widget(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(NotInSlicer):
            qt.QLabel().my_own = 1

    def test_property_called_like_a_method(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(TypeError):
            qt.QComboBox().currentText()

    def test_signal_that_does_not_exist(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(NotInSlicer):
            qt.QPushButton().connect("clicked(int)", print)

    def test_none_for_a_property(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(NotInSlicer):
            qt.QLabel().text = None

    def test_name_that_qt_lacks(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(NotInSlicer):
            _ = qt.Signal
        with pytest.raises(NotInSlicer):
            _ = qt.QThread

    def test_subclass_of_a_widget(self, host: Host) -> None:  # noqa: F811
        import qt

        with pytest.raises(TypeError):
            exec("class Mine(qt.QWidget): pass", {"qt": qt})

    def test_unknown_name_of_the_application(self, host: Host) -> None:  # noqa: F811
        import slicer

        with pytest.raises(NotInSlicer):
            _ = slicer.app.doesNotExist

    def test_every_stand_in_exists_in_the_application(self, host: Host) -> None:  # noqa: F811
        from qt_host.application import Application
        from qt_host.ctk_widgets import CTK
        from qt_host.mrml_widgets import SLICER_WIDGETS

        for name in CTK:
            api().require("ctk", name)
        for name in SLICER_WIDGETS:
            api().require("slicer", name)
        for name in (n for n in vars(Application) if not n.startswith("_")):
            api().require("slicer.app", name)

    def test_members_of_stand_ins_are_members_there(self, host: Host) -> None:  # noqa: F811
        """A method that only the stand-in has would be used by mistake."""
        from qt_host.mrml_widgets import SLICER_WIDGETS

        own = {"nodes", "refresh", "observe", "unobserve", "selectionChanged_signal"}
        for name, cls in SLICER_WIDGETS.items():
            listed = api().class_named(name)
            assert listed is not None
            known = listed.properties | listed.callables | set(listed.signals)
            mine = {n for n in vars(cls) if not n.startswith("_") and n not in own and n != "staticMetaObject"}
            events = {n for n in mine if n.endswith("Event")}
            assert mine - events <= known, (name, mine - known)


class TestLikePythonQt:
    """What works there works here."""

    def test_properties_without_parentheses(self, host: Host) -> None:  # noqa: F811
        import qt

        box = qt.QComboBox()
        box.addItems(["a", "b"])
        box.currentIndex = 1
        assert (box.count, box.currentText, box.enabled) == (2, "b", True)

    def test_receivers_get_as_many_arguments_as_they_take(self, host: Host) -> None:  # noqa: F811
        import qt

        got: list[object] = []
        button = qt.QPushButton("x")
        button.checkable = True
        button.connect("toggled(bool)", lambda on: got.append(on))
        button.toggled.connect(lambda: got.append("none"))
        button.checked = True
        assert got == [True, "none"]

    def test_disconnect_ends_the_connection(self, host: Host) -> None:  # noqa: F811
        import qt

        got: list[bool] = []
        button = qt.QPushButton("x")
        button.connect("clicked(bool)", got.append)
        assert button.disconnect("clicked(bool)", got.append)
        button.click()
        assert got == []

    def test_removed_node_is_replaced_by_its_neighbour(self, host: Host) -> None:  # noqa: F811
        """Slicer's selector chooses another node by itself: a panel must not run on it unnoticed."""
        import slicer

        host.scene.Clear(0)
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.noneEnabled = True
        selector.setMRMLScene(host.scene)
        one, two = (host.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", n) for n in ("one", "two"))
        selector.setCurrentNode(one)
        host.scene.RemoveNode(one)
        assert selector.currentNode() is two
        selector.setMRMLScene(None)
        host.scene.Clear(0)

    def test_slice_view_shows_the_volume(self, host: Host) -> None:  # noqa: F811
        import numpy as np
        import slicer

        from medseg.geometry.volume import Volume
        from medseg_mrml import node_from_volume
        from qt_host.fixtures import grid, ramp

        host.scene.Clear(0)
        node = node_from_volume(Volume(ramp((20, 16, 12)), grid(), "CT", "shown"), host.scene)
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        view = slicer.app.layoutManager().sliceWidget("Red")._target
        view.resize(200, 200)
        view.draw()
        image = view._image.convertToFormat(view._image.Format.Format_Grayscale8)
        values = np.frombuffer(image.constBits(), np.uint8)
        assert values.max() > 60 and len(np.unique(values)) > 10
        host.scene.Clear(0)


def test_only_the_host_knows_the_stand_ins(repository: Path) -> None:
    """The product must not import the test host."""
    for file in (repository / "MedSegExtension").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] in ("qt_host", "PySide6", "shiboken6") for n in names), file
