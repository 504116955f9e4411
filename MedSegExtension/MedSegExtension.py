"""MedSeg in 3D Slicer: the module, its widget, logic and test. The panel itself is in Panel/medseg_panel."""

import sys
from contextlib import suppress
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

HERE = Path(__file__).resolve().parent
PACKAGES = ("medseg", "medseg_mrml", "medseg_panel")


def add_paths() -> None:
    """Make the packages beside this file importable; nothing of them is imported before the module is opened."""
    for folder in (HERE / "Panel", HERE / "Logic"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def register_samples() -> None:
    """Offer drawn volumes in the module Sample Data."""
    try:
        from SampleData import SampleDataLogic
    except ImportError:  # a Slicer that was started without that module
        return
    add_paths()
    from medseg_panel.sample_data import register

    register(SampleDataLogic, str(HERE / "Resources" / "Icons" / "MedSegExtension.png"))


class MedSegExtension(ScriptedLoadableModule):
    """What Slicer shows of the module in its menus."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("MedSeg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["The MedSeg contributors (MedSeg)"]
        parent.helpText = _(
            "Runs medical ONNX models on volumes: choose a model and a volume, press Apply, and get segments, scores "
            "and tables. The model runs in a process of its own, so Slicer stays usable. For research use only."
        )
        parent.acknowledgementText = _("Models come from their authors; each model's card names source and licence.")

    def setup(self):
        """At the start of Slicer: the entry in the Data module's tree; what it needs is imported when it is opened."""
        adaptor = getattr(slicer, "qSlicerSubjectHierarchyScriptedPlugin", None)
        if adaptor is not None:
            add_paths()
            # Its folder has the class that the plugin inherits; modules that import it may be loaded after this one.
            with suppress(ImportError):
                import SubjectHierarchyPlugins  # noqa: F401
            adaptor(None).setPythonSource(str(HERE / "Panel" / "medseg_panel" / "MedSegSubjectHierarchyPlugin.py"))
        # The module Sample Data may be loaded after this one.
        slicer.app.connect("startupCompleted()", register_samples)


class MedSegExtensionWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Connects panel, parameter node and scene."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._parameters = None
        self._gui = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        add_paths()
        from medseg_panel.panel import Panel, slicer_collaborators

        page = slicer.util.loadUI(self.resourcePath("UI/MedSegExtension.ui"))
        self.layout.addWidget(page)
        self.ui = slicer.util.childWidgetVariables(page)
        page.setMRMLScene(slicer.mrmlScene)
        self.logic = MedSegExtensionLogic()
        self.panel = Panel(self.ui, slicer.mrmlScene, slicer_collaborators(HERE / "Resources"))
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodeRemoved)
        self.setParameterNode(self.logic.getParameterNode())

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()
        if self.panel is not None:
            self.panel.cleanup()

    def enter(self):
        self.setParameterNode(self.logic.getParameterNode())
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def onReload(self):
        """Reload & Test: forget the own packages, so that their sources are read anew."""
        question = _(
            "MedSeg is at work (a run, an import, an export or a comparison), and reloading ends that. Reload?"
        )
        if self.panel is not None and self.panel.busy and not slicer.util.confirmOkCancelDisplay(question, "MedSeg"):
            return
        for name in [n for n in sys.modules if n.split(".")[0] in PACKAGES]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)
        new = slicer.modules.MedSegExtensionWidget
        if new is not self and new.parent.isEntered:
            new.enter()  # Slicer calls it only when the user comes to the module, who is there already

    def onSceneStartClose(self, caller, event):
        self.panel.scene_closing()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())
        self.panel.scene_closed()

    def onSceneEndImport(self, caller, event):
        self.setParameterNode(None)
        self.setParameterNode(self.logic.getParameterNode())

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node):
        if node.IsA("vtkMRMLVolumeNode") and not caller.IsBatchProcessing():
            self.panel.scene_changed()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if not caller.IsBatchProcessing():
            self.panel.node_removed(node)

    def setParameterNode(self, parameters):
        if self._parameters is not None:
            self._parameters.disconnectGui(self._gui)
            self.removeObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameters = parameters
        if parameters is not None:
            self._gui = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        if self.panel is not None:
            self.panel.set_parameters(parameters)

    def onParametersModified(self, caller, event):
        self.panel.parameters_changed()


class MedSegExtensionLogic(ScriptedLoadableModuleLogic):
    """Gives the typed parameter node."""

    def getParameterNode(self):
        add_paths()
        from medseg_panel.parameters import MedSegParameters  # not before the module is opened

        return MedSegParameters(ScriptedLoadableModuleLogic.getParameterNode(self))


class MedSegExtensionTest(ScriptedLoadableModuleTest):
    """Runs in Slicer's self tests and under Reload & Test."""

    def runTest(self):
        slicer.mrmlScene.Clear(0)
        add_paths()
        from medseg_panel.self_test import run_on_phantom

        run_on_phantom(self)
