"""Where nodes stand in the subject hierarchy: beside the volume that they came from."""

from __future__ import annotations

from typing import Any

import slicer

MODALITY = "DICOM.Modality"


def subject_hierarchy(scene: Any) -> Any:
    """The subject hierarchy node of ``scene``."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def item_of(scene: Any, node: Any) -> int:
    """The subject hierarchy item of ``node``; it is made where the application has not made one."""
    tree = subject_hierarchy(scene)
    item = int(tree.GetItemByDataNode(node))
    return item or int(tree.CreateItem(tree.GetSceneItemID(), node))


def place_beside(scene: Any, node: Any, reference: Any) -> None:
    """Put ``node`` under the parent (study or folder) of ``reference``."""
    tree = subject_hierarchy(scene)
    tree.SetItemParent(item_of(scene, node), tree.GetItemParent(item_of(scene, reference)))


def attribute_of(scene: Any, node: Any, name: str) -> str:
    """Attribute ``name`` of the item of ``node`` or of the nearest parent that has it, else ""."""
    tree = subject_hierarchy(scene)
    item = int(tree.GetItemByDataNode(node)) if tree is not None else 0
    while item:
        value = tree.GetItemAttribute(item, name)
        if value:
            return str(value)
        item = int(tree.GetItemParent(item))
    return ""
