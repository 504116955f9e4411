"""What a model lets the user choose: one combo box for each choice, above Apply."""

from __future__ import annotations

from typing import Any

import qt

from medseg.model.card import CardChoice, ModelCard

from .. import parameters as kept


class ChoicesRows:
    """The rows of the choices of a model; none are shown where it has none."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._rows: list[tuple[Any, Any]] = []
        self._choices: tuple[CardChoice, ...] = ()
        self._parameters: Any = None
        self._updating = False
        ui.choicesWidget.setVisible(False)

    def set_parameters(self, parameters: Any) -> None:
        """Show what is kept in ``parameters``."""
        self._parameters = parameters
        self.refresh()

    def set_card(self, card: ModelCard | None) -> None:
        """Show the choices of ``card``."""
        self._choices = card.choices if card is not None else ()
        self._updating = True
        for n, choice in enumerate(self._choices):
            if n == len(self._rows):
                self._add_row(n)
            label, selector = self._rows[n]
            label.text = f"{choice.name[:1].upper()}{choice.name[1:]}:"
            label.toolTip = selector.toolTip = choice.description
            selector.clear()
            selector.addItems(list(choice.options))
        for n, row in enumerate(self._rows):
            for widget in row:
                widget.setVisible(n < len(self._choices))
        self._ui.choicesWidget.setVisible(bool(self._choices))
        self._updating = False
        self.refresh()

    def chosen(self) -> dict[str, str]:
        """The option that holds for each choice: the user's where the model has it, else the model's default."""
        own = kept.choices(self._parameters) if self._parameters is not None else {}
        return {c.name: own[c.name] if own.get(c.name) in c.options else c.default for c in self._choices}

    def refresh(self) -> None:
        """Show the options that hold."""
        self._updating = True
        for (_label, selector), option in zip(self._rows, self.chosen().values()):  # noqa: B905 - more rows than choices
            selector.currentIndex = selector.findText(option)
        self._updating = False

    def _add_row(self, number: int) -> None:
        label, selector = qt.QLabel(), qt.QComboBox()
        selector.name = f"choiceSelector{number}"
        # A long option must not widen the panel.
        selector.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
        selector.minimumContentsLength = 8
        selector.connect("currentIndexChanged(int)", lambda index: self._picked(number, index))
        self._ui.choicesWidget.layout().addRow(label, selector)
        self._rows.append((label, selector))

    def _picked(self, number: int, index: int) -> None:
        if self._updating or self._parameters is None or index < 0:
            return
        choice = self._choices[number]
        kept.set_choices(self._parameters, {**self.chosen(), choice.name: choice.options[index]})
