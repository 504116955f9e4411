"""Slicer's own Segment Editor inside the tab, opened on the right segment with a brush of the right size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
import slicer
import vtk
from slicer.i18n import tr as _

_EFFECTS = ("Paint", "Erase", "Draw", "Level tracing", "Islands", "Threshold", "Scissors", "Smoothing")
_TAG = "MedSegReview"
#: Millimetres: a brush smaller than this is hard to see, a larger one paints over the surroundings.
_BRUSH = (1.5, 30.0)
#: Milliseconds after which the options of another effect are there.
_FIT = 50


class EditorSection:
    """``section`` is put into the tab, hidden until something is corrected. ``on_closed()``: the reader is done.

    ``on_effect(name)``: another effect is active, "" where none is.
    """

    def __init__(self, scene: Any, on_closed: Callable[[], None], on_effect: Callable[[str], None]) -> None:
        self._scene, self._on_closed, self._on_effect = scene, on_closed, on_effect
        #: True while the reader corrects, also where the tab itself is not seen.
        self.is_open = False
        self._effect = ""
        self._watched: Any = None
        self._editor: Any = None
        self.section = ctk.ctkCollapsibleButton()
        self.section.setObjectName("editorSection")
        self.section.text = _("Correct")
        self.section.visible = False
        self._layout = qt.QVBoxLayout(self.section)
        self._layout.setContentsMargins(2, 2, 2, 2)
        row = qt.QHBoxLayout()
        self.similar = qt.QCheckBox(_("Only similar voxels"))
        self.similar.toolTip = _("Paint only voxels whose intensity is within the range of the finding's own.")
        self.similar.connect("toggled(bool)", self._limit)
        done = qt.QPushButton(_("Done"))
        done.toolTip = _("Close the editor; what was drawn is part of the reviewed mask already.")
        done.connect("clicked(bool)", self.close)
        row.addWidget(self.similar, 1)
        row.addWidget(done)
        self._layout.addLayout(row)
        self._range: tuple[float, float] | None = None

    def open(
        self, volume: Any, segmentation: Any, segment: str, size: float, intensities: tuple[float, float] | None
    ) -> None:
        """Edit ``segment`` of the node ``segmentation`` over ``volume`` with a brush for what is ``size`` mm large.

        ``intensities``: the range of the finding's voxels in ``volume``, where there is a finding.
        """
        if self._editor is None:
            self._editor = self._made()
        node = self._parameters()
        self._editor.setMRMLSegmentEditorNode(node)
        self._editor.setSegmentationNode(segmentation)
        self._editor.setSourceVolumeNode(volume)
        self._editor.setCurrentSegmentID(segment)
        brush = min(max(size / 3, _BRUSH[0]), _BRUSH[1])
        # Common parameters of the brushes, as Slicer's paint effect keeps them.
        for name, value in (
            ("BrushDiameterIsRelative", "0"),
            ("BrushAbsoluteDiameter", f"{brush:.3g}"),
            ("BrushSphere", "0"),
        ):
            node.SetAttribute(name, value)
        node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)
        self._range = intensities
        self.similar.enabled = intensities is not None
        self.similar.checked = False
        if intensities is not None:
            self.similar.text = _("Only similar voxels ({low} to {high})").format(
                low=_number(intensities[0]), high=_number(intensities[1])
            )
        self._limit(False)
        self.is_open = True
        self.section.visible = True
        self.section.collapsed = False
        self._editor.setActiveEffectByName("Paint")
        self._fit.start()

    def close(self) -> None:
        """No effect is active any more, and the section folds away."""
        if self._editor is not None:
            self._editor.setActiveEffect(None)
        was_open, self.is_open = self.is_open, False
        self.section.visible = False
        if was_open:
            self._on_closed()

    def scene_closed(self) -> None:
        """All nodes are gone."""
        if self._editor is not None:
            self._editor.setMRMLSegmentEditorNode(None)
        self._watched = None
        self._tell("")
        self.section.visible = self.is_open = False

    def _made(self) -> Any:
        editor = slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(self._scene)
        # Before all else: without its parameters the editor complains of each setting.
        editor.setMRMLSegmentEditorNode(self._parameters())
        editor.setEffectNameOrder(list(_EFFECTS))
        editor.unorderedEffectsVisible = False
        editor.segmentationNodeSelectorVisible = False
        editor.sourceVolumeNodeSelectorVisible = False
        editor.switchToSegmentationsButtonVisible = False
        editor.addRemoveSegmentButtonsVisible = False
        editor.maskingSectionVisible = False
        editor.show3DButtonVisible = False
        # The tab's own undo has no limit and knows decisions too.
        editor.undoEnabled = False
        # Its effects stand beside its options, which makes it 500 pixels wide: they go above them, in one row.
        editor.effectColumnCount = len(_EFFECTS) + 1
        for effects in slicer.util.findChildren(editor, "EffectsGroupBox"):
            self._layout.addWidget(effects)
        self._layout.addWidget(self._framed(editor))
        return editor

    def _framed(self, editor: Any) -> Any:
        """The editor in a frame that may be narrower than it: then the frame is scrolled, not the whole panel."""
        self._frame = qt.QScrollArea()
        self._frame.setObjectName("editorFrame")
        self._frame.setFrameShape(qt.QFrame.NoFrame)
        self._frame.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        self._frame.setWidgetResizable(True)
        self._frame.setWidget(editor)
        # The options of another effect are of another height.
        self._fit = qt.QTimer(self._frame)
        self._fit.setSingleShot(True)
        self._fit.interval = _FIT
        self._fit.connect("timeout()", self._fit_height)
        return self._frame

    def _fit_height(self) -> None:
        bar = self._frame.horizontalScrollBar().sizeHint.height()
        self._frame.setMinimumHeight(self._editor.sizeHint.height() + bar)

    def _parameters(self) -> Any:
        node = self._scene.GetSingletonNode(_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = self._scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(_TAG)
            node.SetSaveWithScene(False)
            node = self._scene.AddNode(node)
        if node is not self._watched:
            self._watched = node
            node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
        return node

    def _parameters_changed(self, node: Any, event: str = "") -> None:
        self._tell(str(node.GetActiveEffectName() or ""))

    def _tell(self, effect: str) -> None:
        if effect != self._effect:
            self._effect = effect
            if self._editor is not None:
                self._fit.start()
            self._on_effect(effect)

    def _limit(self, on: bool) -> None:
        node = self._scene.GetSingletonNode(_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            return
        node.SetSourceVolumeIntensityMask(bool(on and self._range is not None))
        if self._range is not None:
            node.SetSourceVolumeIntensityMaskRange(*self._range)


def _number(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
