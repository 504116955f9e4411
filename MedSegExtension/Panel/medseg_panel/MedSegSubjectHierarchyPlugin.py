"""The Data module's tree: *Segment with MedSeg* in the context menu of a volume, with the models that fit it.

Slicer loads this file by its name and looks for the class of the same name. It owns no items.
"""

import qt
import slicer
from AbstractScriptedSubjectHierarchyPlugin import AbstractScriptedSubjectHierarchyPlugin
from slicer.i18n import tr as _

MODULE = "MedSegExtension"


class MedSegSubjectHierarchyPlugin(AbstractScriptedSubjectHierarchyPlugin):
    """Adds the entry; the models are looked up when the menu opens."""

    # Slicer reads this to know where the source is.
    filePath = __file__

    def __init__(self, scriptedPlugin):
        scriptedPlugin.name = "MedSeg"
        AbstractScriptedSubjectHierarchyPlugin.__init__(self, scriptedPlugin)
        self.menu = qt.QMenu()
        self.action = qt.QAction(_("Segment with MedSeg"), scriptedPlugin)
        self.action.setMenu(self.menu)

    def canAddNodeToSubjectHierarchy(self, node, parentItemID):
        return 0.0

    def canOwnSubjectHierarchyItem(self, itemID):
        return 0.0

    def roleForPlugin(self):
        return "N/A"

    def itemContextMenuActions(self):
        return [self.action]

    def sceneContextMenuActions(self):
        return []

    def showContextMenuActionsForItem(self, itemID):
        """Slicer hides all actions first; this one is shown for volumes that hold an image."""
        from medseg_panel.volume_menu import entries, volume_of

        volume = volume_of(slicer.mrmlScene, itemID)
        if volume is None:
            return
        self.menu.clear()
        node_id = volume.GetID()
        for card_id, words in entries(slicer.mrmlScene, volume):
            action = self.menu.addAction(words)
            action.enabled = bool(card_id)
            action.connect("triggered()", lambda model=card_id: self.segment(model, node_id))
        self.action.visible = True

    def segment(self, model_id, node_id):
        """Open the module and run the model there, as if chosen by hand."""
        volume = slicer.mrmlScene.GetNodeByID(node_id)
        if volume is None:
            return
        slicer.util.selectModule(MODULE)
        panel = slicer.util.getModuleWidget(MODULE).panel
        why = _("A run is going on; wait for it.") if panel.segment.busy else panel.segment.run_on(model_id, volume)
        if why:
            slicer.util.errorDisplay(why, windowTitle="MedSeg")
