"""Section 2: the installed models, their card, and adding, checking, removing."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.model.card import ModelCard

from ..seams import Dialogs, ModelStore

_FILES = "MedSeg models (*.zip *.onnx);;All files (*)"
_WIDTHS = (200, 65, 95, 110, 80, 65)


class ModelSection:
    """The searchable list and the card of the chosen model.

    ``on_chosen(card)``: the user chose another model (None: none). ``ask(what, model)``: a question for the worker
    (``check`` or ``add``), since checking a model takes packages that Slicer's own process does not load.
    """

    def __init__(
        self,
        ui: Any,
        store: ModelStore,
        dialogs: Dialogs,
        on_chosen: Callable[[ModelCard | None], None],
        ask: Callable[[str, str], None],
    ) -> None:
        self._ui, self._store, self._dialogs = ui, store, dialogs
        self._on_chosen, self._ask = on_chosen, ask
        self._cards: dict[str, ModelCard] = {}
        self._items: dict[str, Any] = {}
        self._card: ModelCard | None = None
        self._filling = False
        for column, width in enumerate(_WIDTHS):
            ui.modelList.setColumnWidth(column, width)
        ui.modelList.connect("itemSelectionChanged()", self._selected)
        ui.modelSearch.connect("textChanged(QString)", self._search)
        ui.addFileButton.connect("clicked(bool)", self._add_file)
        ui.addFolderButton.connect("clicked(bool)", self._add_folder)
        ui.checkModelButton.connect("clicked(bool)", self._check)
        ui.openModelFolderButton.connect("clicked(bool)", self._open_folder)
        ui.removeModelButton.connect("clicked(bool)", self._remove)
        self.refresh()

    @property
    def card(self) -> ModelCard | None:
        """The chosen model."""
        return self._card

    def refresh(self) -> None:
        """Read the installed models anew, keeping the choice where it is still there."""
        cards = sorted(
            self._store.installed_models(), key=lambda c: (not c.has_weights, c.demonstration, c.title.lower())
        )
        self._cards = {card.id: card for card in cards}
        self._filling = True
        self._ui.modelList.clear()
        self._items = {card.id: self._item(card) for card in cards}
        for item in self._items.values():
            self._ui.modelList.addTopLevelItem(item)
        self._filling = False
        self._search(self._ui.modelSearch.text)
        self.choose(self._card.id if self._card else "")

    def choose(self, model_id: str) -> None:
        """Choose the model ``model_id`` (none where there is no such model) without telling the panel."""
        self._card = self._cards.get(model_id)
        self._filling = True
        self._ui.modelList.clearSelection()
        if self._card is not None:
            self._ui.modelList.setCurrentItem(self._items[model_id])
        self._filling = False
        self._show()

    def answered(self, what: str, text: str) -> None:
        """The worker's answer to ``check`` or ``add``, as a sentence under the card."""
        if what == "add":
            self.refresh()
        self._show(text)

    def _item(self, card: ModelCard) -> Any:
        note = _(" (demonstration)") if card.demonstration else ""
        note += "" if card.has_weights else _(" (needs weights)")
        item = qt.QTreeWidgetItem()
        texts = (card.title + note, "/".join(card.modality), card.task, card.source, card.license, size_text(card.size))
        for column, text in enumerate(texts):
            item.setText(column, text)
            item.setToolTip(column, card.error or text)
        item.setData(0, qt.Qt.UserRole, card.id)
        return item

    def _selected(self) -> None:
        if self._filling:
            return
        chosen = self._ui.modelList.selectedItems()
        self._card = self._cards.get(chosen[0].data(0, qt.Qt.UserRole)) if chosen else None
        self._show()
        self._on_chosen(self._card)

    def _search(self, text: str) -> None:
        words = text.lower().split()
        for model_id, item in self._items.items():
            card = self._cards[model_id]
            fields = (card.title, *card.modality, card.task, card.source, card.license, card.body_part, card.id)
            where = " ".join(fields).lower()
            item.setHidden(not all(word in where for word in words))

    def _show(self, note: str = "") -> None:
        card = self._card
        for button in (self._ui.checkModelButton, self._ui.openModelFolderButton, self._ui.removeModelButton):
            button.enabled = card is not None
        self._ui.modelCard.text = card_text(card, note) if card else html.escape(note or _("No model is chosen."))
        self._ui.modelDetails.text = details_text(card) if card else ""

    def _add_file(self) -> None:
        path = self._dialogs.open_file(_("Add a model"), _FILES)
        if path:
            self._ask("add", path)

    def _add_folder(self) -> None:
        path = self._dialogs.folder(_("Add a model folder"))
        if path:
            self._ask("add", path)

    def _check(self) -> None:
        if self._card is not None:
            self._show(_("Checking..."))
            self._ask("check", str(self._card.folder))

    def _open_folder(self) -> None:
        if self._card is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._card.folder)))

    def _remove(self) -> None:
        card = self._card
        if card is None or not self._dialogs.confirm(
            _("Remove the model {title} from this computer?").format(title=card.title), str(Path(card.folder))
        ):
            return
        try:
            self._store.remove_model(card.id)
        except MedSegError as error:
            self._dialogs.error(str(error))
            return
        self._card = None
        self.refresh()
        self._on_chosen(None)


def size_text(size: int) -> str:
    """Bytes as a reader reads them, "-" for none."""
    if size <= 0:
        return "-"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} B"


def card_text(card: ModelCard, note: str = "") -> str:
    """The head of the card as rich text; everything in it is escaped, since a card may come from anywhere."""
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
    """The rest of the card as rich text."""
    rows = [
        (_("Intended use"), card.intended_use),
        (_("Classes"), ", ".join(c.name for c in card.classes)),
        (_("Trained on"), card.training_data),
        (_("Assumed on import"), " ".join(card.assumptions)),
        (_("Figures"), "; ".join(f"{name}: {value}" for name, value in card.figures.items())),
        (_("Needs"), ", ".join(r.model for r in card.requires)),
        (_("Source"), card.source),
        (_("Citation"), card.citation),
        (_("Licence"), card.license),
    ]
    return "<br>".join(f"<b>{name}:</b> {html.escape(text)}" for name, text in rows if text)
