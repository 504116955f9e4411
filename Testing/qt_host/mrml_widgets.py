"""Stand-ins for the node selectors and the other MRML widgets that the panel uses, on real MRML nodes."""

from __future__ import annotations

from typing import Any

import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal

from .observing import Observing


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that hands the scene on (the .ui file connects it to its children)."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def _flag(name: str, default: bool) -> Any:
    def read(self: Any) -> bool:
        return bool(self._flags.get(name, default))

    def write(self: Any, value: bool) -> None:
        self._flags[name] = value
        self.refresh()

    return Property(bool, read, write)


def _kept(name: str) -> Any:
    """A switch that is only remembered."""
    return Property(bool, lambda self: self._kept.get(name, True), lambda self, value: self._kept.update({name: value}))


class qMRMLNodeComboBox(QtWidgets.QWidget, Observing):
    """A combo box of the scene's nodes of some classes.

    As in Slicer: without *None* the first node is chosen by itself, and when the chosen node is removed the one beside
    it is chosen. Left out: the entries that rename, edit and delete.
    """

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeActivated = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._flags: dict[str, Any] = {}
        self._types: list[str] = []
        self._texts = {"noneDisplay": "None", "baseName": ""}
        self._attributes: list[tuple[str, str, str | None]] = []
        self._scene: Any = None
        self._current = ""
        self._box = QtWidgets.QComboBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._picked)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)

    addEnabled = _flag("addEnabled", True)
    removeEnabled = _flag("removeEnabled", True)
    renameEnabled = _flag("renameEnabled", False)
    editEnabled = _flag("editEnabled", False)
    noneEnabled = _flag("noneEnabled", False)
    showHidden = _flag("showHidden", False)
    showChildNodeTypes = _flag("showChildNodeTypes", True)
    selectNodeUponCreation = _flag("selectNodeUponCreation", True)

    def _set_types(self, types: list[str]) -> None:
        self._types = list(types)
        self.refresh()

    def _set_text(self, name: str, value: str) -> None:
        self._texts[name] = value
        self.refresh()

    nodeTypes = Property("QStringList", lambda self: list(self._types), _set_types)
    noneDisplay = Property(str, lambda s: s._texts["noneDisplay"], lambda s, v: s._set_text("noneDisplay", v))
    baseName = Property(str, lambda s: s._texts["baseName"], lambda s, v: s._set_text("baseName", v))
    currentNodeID = Property(str, lambda self: self._current, lambda self, value: self.setCurrentNodeID(value))

    sizeAdjustPolicy = Property(
        QtWidgets.QComboBox.SizeAdjustPolicy,
        lambda self: self._box.sizeAdjustPolicy(),
        lambda self, value: self._box.setSizeAdjustPolicy(value),
    )

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self.unobserve()
        self._scene = scene
        if scene is not None:
            for event in (
                scene.NodeAddedEvent,
                scene.NodeRemovedEvent,
                scene.EndBatchProcessEvent,
                scene.EndCloseEvent,
            ):
                self.observe(scene, event, lambda *_: self.refresh())
        self.refresh()

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._attributes.append((node_type, name, value))
        self.refresh()

    def nodes(self) -> list[Any]:
        """Every node that is offered (not in Slicer's widget: tests read it)."""
        if self._scene is None:
            return []
        found = []
        for n in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(n)
            exact = [t for t in self._types if node.IsA(t) and (self.showChildNodeTypes or node.GetClassName() == t)]
            hidden = node.GetHideFromEditors() and not self.showHidden
            if exact and not hidden and all(self._has(node, *a) for a in self._attributes):
                found.append(node)
        return found

    @staticmethod
    def _has(node: Any, node_type: str, name: str, value: str | None) -> bool:
        got = node.GetAttribute(name)
        return not node.IsA(node_type) or (got is not None if value is None else got == str(value))

    def nodeCount(self) -> int:
        return len(self.nodes())

    def refresh(self) -> None:
        """Rebuild the list from the scene, keeping the choice where it is still there."""
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        before, position = self._current, self._box.currentIndex()
        offered = self.nodes()
        entries = [(self._texts["noneDisplay"], "")] if self.noneEnabled else []
        entries += [(node.GetName(), node.GetID()) for node in offered]
        for node in offered:
            self.observe(node, vtk.vtkCommand.ModifiedEvent, self._renamed)
        self._box.blockSignals(True)
        self._box.clear()
        for text, node_id in entries:
            self._box.addItem(text or "", node_id)
        ids = [node_id for _, node_id in entries]
        if before in ids:
            index = ids.index(before)
        else:
            index = min(len(ids) - 1, max(position, 0))
        self._box.setCurrentIndex(index)
        self._box.blockSignals(False)
        self._choose(ids[index] if ids else "")

    def _renamed(self, node: Any, event: Any = None) -> None:
        index = self._box.findData(node.GetID())
        if index >= 0 and self._box.itemText(index) != node.GetName():
            self._box.setItemText(index, node.GetName())

    def _picked(self, index: int) -> None:
        self._choose(self._box.itemData(index) or "")
        self.nodeActivated.emit(self.currentNode())

    def _choose(self, node_id: str) -> None:
        if node_id != self._current:
            self._current = node_id
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(node_id)

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        index = self._box.findData(node_id or "")
        self._box.setCurrentIndex(index)
        self._choose((node_id or "") if index >= 0 else "")

    def addNode(self, node_type: str = "") -> Any:
        name = self._texts["baseName"] or (node_type or self._types[0]).replace("vtkMRML", "").replace("Node", "")
        node = self._scene.AddNewNodeByClass(node_type or self._types[0], self._scene.GenerateUniqueName(name))
        self.refresh()
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node


class qMRMLTableView(QtWidgets.QTableView, Observing):
    """A table node as a Qt table, sortable through a proxy model as in Slicer."""

    mrmlSceneChanged = Signal(object)
    selectionChanged_signal = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._model = QtGui.QStandardItemModel(self)
        self._proxy = QtCore.QSortFilterProxyModel(self)
        self._proxy.setSourceModel(self._model)
        self.setModel(self._proxy)

    def selectionChanged(self, selected: Any, deselected: Any) -> None:
        super().selectionChanged(selected, deselected)
        self.selectionChanged_signal.emit()

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)

    def sortFilterProxyModel(self) -> QtCore.QSortFilterProxyModel:
        return self._proxy

    def mrmlTableNode(self) -> Any:
        return self._node

    def setMRMLTableNode(self, node: Any) -> None:
        self.unobserve()
        self._node = node
        if node is not None:
            self.observe(node, vtk.vtkCommand.ModifiedEvent, lambda *_: self._fill())
        self._fill()

    def _fill(self) -> None:
        self._model.clear()
        if self._node is None:
            return
        table, titled = self._node.GetTable(), self._node.GetUseColumnTitleAsColumnHeader()
        heads = []
        for c in range(table.GetNumberOfColumns()):
            name = table.GetColumnName(c)
            unit = self._node.GetColumnUnitLabel(name)
            title = (self._node.GetColumnTitle(name) or name) + (f" [{unit}]" if unit else "")
            heads.append(title if titled else chr(65 + c % 26))
        self._model.setHorizontalHeaderLabels(heads)
        if not titled:
            self._model.appendRow([QtGui.QStandardItem(table.GetColumnName(c)) for c in range(len(heads))])
        for r in range(table.GetNumberOfRows()):
            items = [QtGui.QStandardItem(table.GetValue(r, c).ToString()) for c in range(len(heads))]
            for item in items:
                item.setEditable(not self._node.GetLocked())
            self._model.appendRow(items)


class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):
    """Makes the closed surfaces of a segmentation and shows them; only that."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__("Show 3D", parent)
        self._node: Any = None
        self.setCheckable(True)
        self.toggled.connect(self._show)

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        self.setEnabled(node is not None)

    def _show(self, shown: bool) -> None:
        if self._node is not None and shown:
            self._node.CreateClosedSurfaceRepresentation()
        elif self._node is not None:
            self._node.RemoveClosedSurfaceRepresentation()


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Keeps what it is given; it draws nothing, so tests write into the segment's voxels as the editor would."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._kept: dict[str, Any] = {}
        self.setMinimumSize(200, 150)

    unorderedEffectsVisible = _kept("unorderedEffectsVisible")
    segmentationNodeSelectorVisible = _kept("segmentationNodeSelectorVisible")
    sourceVolumeNodeSelectorVisible = _kept("sourceVolumeNodeSelectorVisible")
    switchToSegmentationsButtonVisible = _kept("switchToSegmentationsButtonVisible")
    addRemoveSegmentButtonsVisible = _kept("addRemoveSegmentButtonsVisible")
    maskingSectionVisible = _kept("maskingSectionVisible")
    show3DButtonVisible = _kept("show3DButtonVisible")
    undoEnabled = _kept("undoEnabled")
    effectColumnCount = _kept("effectColumnCount")

    def setEffectNameOrder(self, names: list[str]) -> None:
        self._kept["effects"] = list(names)

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._kept["parameters"] = node

    def mrmlSegmentEditorNode(self) -> Any:
        return self._kept.get("parameters")

    def setSegmentationNode(self, node: Any) -> None:
        self._kept["segmentation"] = node

    def segmentationNode(self) -> Any:
        return self._kept.get("segmentation")

    def setSourceVolumeNode(self, node: Any) -> None:
        self._kept["volume"] = node

    def sourceVolumeNode(self) -> Any:
        return self._kept.get("volume")

    def setCurrentSegmentID(self, identifier: str) -> None:
        self._kept["segment"] = identifier

    def currentSegmentID(self) -> str:
        return str(self._kept.get("segment", ""))

    def setActiveEffectByName(self, name: str) -> None:
        self._kept["effect"] = name

    def setActiveEffect(self, effect: Any) -> None:
        self._kept["effect"] = effect

    def activeEffect(self) -> Any:
        return self._kept.get("effect")


SLICER_WIDGETS = {
    cls.__name__: cls
    for cls in (
        qMRMLWidget,
        qMRMLNodeComboBox,
        qMRMLTableView,
        qMRMLSegmentationShow3DButton,
        qMRMLSegmentEditorWidget,
    )
}
