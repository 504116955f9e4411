"""What *Segment with MedSeg* offers for a volume. No Qt."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from medseg.model import store
from medseg.model.card import ModelCard
from medseg_mrml.hierarchy import MODALITY, attribute_of, subject_hierarchy


def volume_of(scene: Any, item: int) -> Any | None:
    """The volume node of an item of the tree, None where it is none that a model could run on."""
    node = subject_hierarchy(scene).GetItemDataNode(item) if item else None
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return None
    return node if node.GetImageData() is not None else None


def entries(scene: Any, volume: Any) -> list[tuple[str, str]]:
    """(model id, words) of the models that take one volume and fit its modality; ("", why) where there is none.

    Demonstrations come last and are called so.
    """
    modality = volume.GetAttribute(MODALITY) or attribute_of(scene, volume, MODALITY) or ""
    fitting = [card for card in store.installed_models() if _fits(card, modality)]
    fitting.sort(key=lambda card: card.demonstration)
    if not fitting:
        words = _("No model for {modality}; see Manage models in MedSeg").format(modality=modality or _("this volume"))
        return [("", words)]
    return [(card.id, card.title) for card in fitting]


def _fits(card: ModelCard, modality: str) -> bool:
    if card.error or not card.has_weights or len(card.channels) != 1:
        return False
    return not modality or not card.channels[0].modality or modality in card.channels[0].modality
