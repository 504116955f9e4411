"""A MRML scene outside the application, with the module logics that register node types and displayable managers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
import vtk

# Each registers its node classes when it gets the scene. Names are those the application logic knows them by.
_LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Transforms": "vtkSlicerTransformLogic",
}


class HeadlessScene:
    """A scene with the logics that the application would have made.

    ``scene``: the ``vtkMRMLScene``; ``logic``: the application logic, which slice views need; ``temporary``: a folder
    for what MRML writes while a bundle is saved or opened.
    """

    def __init__(self, temporary: str | Path) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetTemporaryPath(str(temporary))
        self.logic.SetMRMLScene(self.scene)
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        self._modules: dict[str, Any] = {}
        for name, class_name in _LOGICS.items():
            module = getattr(slicer, class_name)()
            module.SetMRMLApplicationLogic(self.logic)
            module.SetMRMLScene(self.scene)
            self.logic.SetModuleLogic(name, module)
            self._modules[name] = module
        self.logic.GetColorLogic().SetMRMLScene(self.scene)
        self.logic.GetColorLogic().AddDefaultColorNodes()
        self._data_io(str(temporary))
        right_is_left = True
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, right_is_left)
        slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(self.logic)

    def _data_io(self, folder: str) -> None:
        """Bundles are unpacked and packed in the cache folder of the scene's data manager."""
        # Without this file the cache manager refuses to remove anything, and says so at every start.
        (Path(folder) / ".slicer-cache").touch()
        cache = slicer.vtkCacheManager()
        cache.SetRemoteCacheDirectory(folder)
        cache.SetMRMLScene(self.scene)
        manager = slicer.vtkDataIOManager()
        manager.SetCacheManager(cache)
        self.scene.SetDataIOManager(manager)
        self._cache, self._manager = cache, manager
