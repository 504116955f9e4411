"""The card of a model as rich text; everything in it is escaped, since a card may come from anywhere."""

from __future__ import annotations

import html

from slicer.i18n import tr as _

from medseg.model.card import ModelCard

from .fit import expectation


def size_text(size: int) -> str:
    """Bytes as a reader reads them, "-" for none."""
    if size <= 0:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def card_text(card: ModelCard, note: str = "") -> str:
    """The head of the card."""
    escape = html.escape
    parts = [f"<b>{escape(card.title)}</b> {escape(card.version)}"]
    if note:
        parts.append(f"<i>{escape(note)}</i>")
    if card.error:
        parts.append(f"<b>{_('Cannot be used')}:</b> {escape(card.error)}")
    elif not card.has_weights:
        parts.append(f"<b>{_('Needs weights')}:</b> " + _("the ONNX file of this model is not on this computer."))
    if card.demonstration:
        parts.append(f"<b>{_('Demonstration')}:</b> " + _("trained on drawings only, to show the software."))
    if card.description:
        parts.append(escape(card.description))
    if card.limitations:
        parts.append(f"<b>{_('Limits')}:</b> " + escape(" ".join(card.limitations)))
    parts.append(_("For research use only."))
    return "<br>".join(parts)


def details_text(card: ModelCard) -> str:
    """The rest of the card, technical words included."""
    rows = [
        (_("Intended use"), card.intended_use),
        (_("Classes"), ", ".join(c.name for c in card.classes)),
        (_("The network gets"), expectation(card) if card.expects else ""),
        (_("Trained on"), card.training_data),
        (_("Assumed on import"), " ".join(card.assumptions)),
        (_("Figures"), "; ".join(f"{name}: {value}" for name, value in card.figures.items())),
        (_("Made from"), "; ".join(f"{name} {words}" for name, words in card.made_from)),
        (_("Needs"), ", ".join(r.model for r in card.requires)),
        (_("Source"), card.source),
        (_("Citation"), card.citation),
        (_("Licence"), card.license),
        (_("Size"), size_text(card.size) if card.size else ""),
    ]
    return "<br>".join(f"<b>{name}:</b> {html.escape(text)}" for name, text in rows if text)


def note_text(card: ModelCard, note: str = "") -> str:
    """What must be seen of a model beside its title: ``note``, and what keeps it from use; "" where nothing does."""
    parts = [f"<i>{html.escape(note)}</i>"] if note else []
    if card.error:
        parts.append(f"<b>{_('Cannot be used')}:</b> {html.escape(card.error)}")
    elif not card.has_weights:
        parts.append(f"<b>{_('Needs weights')}:</b> " + _("the ONNX file of this model is not on this computer."))
    if card.demonstration:
        parts.append(f"<b>{_('Demonstration')}:</b> " + _("trained on drawings only, to show the software."))
    return "<br>".join(parts)
