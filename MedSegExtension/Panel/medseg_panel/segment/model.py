"""The installed models: the list, those that fit first, and the menu that manages them."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from medseg.errors import MedSegError
from medseg.geometry.volume import Volume
from medseg.model.card import ModelCard

from ..seams import Dialogs, ModelStore
from .card import card_text, details_text, note_text, size_text
from .kinds import misfit, reading_of, tag_of
from .menus import add_action

_FILES = "MedSeg models (*.zip *.onnx);;All files (*)"
_TAG_WIDTH = 92


class ModelSection:
    """The searchable list of models, and the part of the menu *Manage models* that is about installed ones.

    ``on_chosen(card)``: the user chose another model (None: none). ``ask(what, model)``: a question for the worker
    (``check`` or ``add``), since checking a model takes packages that Slicer's own process does not load.
    """

    def __init__(
        self,
        ui: Any,
        menu: Any,
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
        self._volume: Volume | None = None
        self._filling = False
        self._small = qt.QFont(ui.modelList.font)
        self._small.setPointSizeF(max(0.85 * self._small.pointSizeF(), 1.0))
        header = ui.modelList.header()
        header.stretchLastSection = False
        header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
        header.setSectionResizeMode(1, qt.QHeaderView.Fixed)
        ui.modelList.setColumnWidth(1, _TAG_WIDTH)
        ui.modelList.connect("itemSelectionChanged()", self._selected)
        ui.modelSearch.connect("textChanged(QString)", self._search)
        add_action(
            menu, _("Add a package (.zip or .onnx)..."), self._add_file,
            _("A model package: a .zip, or one .onnx file with its manifest inside."),
        )  # fmt: skip
        add_action(menu, _("Add a folder..."), self._add_folder, _("A model package: a folder with manifest.json."))
        menu.addSeparator()
        self._about = [
            add_action(
                menu, _("Card of the chosen model..."), self._show_card, _("What it is, was trained on, and gets.")
            ),
            add_action(
                menu, _("Check the chosen model"), self._check, _("Files, tensors, and whether it can run here.")
            ),
            add_action(menu, _("Show its files"), self._open_folder),
            add_action(menu, _("Remove it..."), self._remove, _("Remove the chosen model from this computer.")),
        ]
        self.refresh()

    @property
    def card(self) -> ModelCard | None:
        """The chosen model."""
        return self._card

    def refresh(self) -> None:
        """Read the installed models anew, keeping the choice where it is still there."""
        self._cards = {card.id: card for card in self._store.installed_models()}
        self._fill()

    def set_volume(self, volume: Volume | None) -> None:
        """Models that fit ``volume`` (None: none is chosen) come first."""
        self._volume = volume
        before = list(self._items)
        if [card.id for card in self._sorted()] != before:
            self._fill()

    def choose(self, model_id: str) -> None:
        """Choose the model ``model_id`` (none where there is no such model) without telling the panel."""
        self._card = self._cards.get(model_id)
        self._filling = True
        self._ui.modelList.clearSelection()
        if self._card is not None:
            item = self._items[model_id]
            self._ui.modelList.setCurrentItem(item)
            self._ui.modelList.scrollToItem(item)
        self._filling = False
        self._show()

    def usable(self, model_id: str) -> bool:
        """True where this model is installed and complete."""
        card = self._cards.get(model_id)
        return card is not None and card.has_weights and not card.error

    def answered(self, what: str, text: str) -> None:
        """The worker's answer to ``check`` or ``add``, as a sentence under the list."""
        if what == "add":
            self.refresh()
        self._show(text)

    def _sorted(self) -> list[ModelCard]:
        """Usable ones first, demonstrations last of them, those that fit the volume before those that do not."""
        return sorted(
            self._cards.values(),
            key=lambda c: (
                not c.has_weights or bool(c.error),
                c.demonstration,
                misfit(c, self._volume),
                c.title.lower(),
            ),
        )

    def _fill(self) -> None:
        self._filling = True
        self._ui.modelList.clear()
        self._items = {card.id: self._item(card) for card in self._sorted()}
        for item in self._items.values():
            self._ui.modelList.addTopLevelItem(item)
        self._filling = False
        self._search(self._ui.modelSearch.text)
        self.choose(self._card.id if self._card else "")

    def _item(self, card: ModelCard) -> Any:
        note = _(" (demonstration)") if card.demonstration else ""
        note += "" if card.has_weights else _(" (needs weights)")
        item = qt.QTreeWidgetItem()
        item.setText(0, card.title + note)
        item.setText(1, tag_of(card))
        tip = [
            f"<b>{html.escape(card.title)}</b>",
            html.escape(card.error or _("Reads {what}.").format(what=reading_of(card))),
        ]
        tip += [html.escape(t) for t in (card.source, card.license, size_text(card.size)) if t and t != "-"]
        for column in range(2):
            item.setToolTip(column, "<br>".join(tip))
            item.setTextAlignment(column, qt.Qt.AlignLeft | qt.Qt.AlignVCenter)
        item.setFont(1, self._small)
        # Two lines of the list's font; the view itself would give one.
        item.setSizeHint(0, qt.QSize(0, 2 * self._ui.modelList.fontMetrics().height() + 6))
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
            fields = (card.title, *card.modality, reading_of(card), card.task, card.source, card.license, card.id)
            where = " ".join(fields).lower()
            item.setHidden(not all(word in where for word in words))

    def _show(self, note: str = "") -> None:
        card = self._card
        for action in self._about:
            action.enabled = card is not None
        text = note_text(card, note) if card is not None else html.escape(note)
        self._ui.modelNote.text = text
        self._ui.modelNote.setVisible(bool(text))

    def _show_card(self) -> None:
        if self._card is not None:
            text = f"{card_text(self._card)}<br><br>{details_text(self._card)}"
            self._dialogs.show(self._card.title, text)

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
