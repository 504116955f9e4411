"""*Show as the model sees it*: the real input of the network as a volume, for as long as it is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg import Grid, Result
from qt_host.fixtures import Opened, host, opened  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)


def seen() -> Result:
    grid = Grid((8, 8, 8), (2, 2, 4), (0, 0, 0), np.eye(3))
    return Result(grid, (), {"brain": np.linspace(0, 1, 512, dtype=np.float32).reshape(8, 8, 8)}, notes=("A note.",))


def view_of(opened: Opened) -> Any:
    volumes = [
        opened.scene.GetNthNodeByClass(n, "vtkMRMLScalarVolumeNode")
        for n in range(opened.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"))
    ]
    return next((v for v in volumes if "sees it" in v.GetName()), None)


def test_the_real_input_comes_into_the_views_and_leaves_them(opened: Opened) -> None:
    from medseg_panel.segment.views import visible_background

    opened.installer.warm = True
    volume = opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.showAsModelButton.click()
    (request,) = opened.worker.runs
    assert request["options"]["only_input"] is True and not opened.ui.applyButton.enabled
    opened.worker.listener.on_result(seen())
    node = view_of(opened)
    assert node.GetName().startswith("head as ") and visible_background(opened.scene) is node
    assert opened.ui.applyButton.enabled
    opened.ui.showAsModelButton.click()
    assert visible_background(opened.scene) is volume and view_of(opened) is node, "the volume stays in the scene"
    opened.ui.applyButton.click()
    assert "only_input" not in opened.worker.runs[-1]["options"]


def test_who_looked_away_meanwhile_is_not_disturbed(opened: Opened) -> None:
    from medseg_panel.segment.views import visible_background

    opened.installer.warm = True
    volume = opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.showAsModelButton.click()
    opened.ui.showAsModelButton.click()
    opened.worker.listener.on_result(seen())
    assert visible_background(opened.scene) is volume and view_of(opened) is None


def test_nothing_is_installed_for_a_look(opened: Opened) -> None:
    """A look at level and width needs no package and must not ask for one."""
    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.showAsModelButton.click()
    assert opened.worker.runs == [] and "needs the packages" in opened.panel.run.log_text


def test_a_failure_is_told_and_the_panel_goes_on(opened: Opened) -> None:
    opened.installer.warm = True
    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.showAsModelButton.click()
    opened.worker.listener.on_error("ModelError", "The model cannot be opened.")
    assert "The model cannot be opened." in opened.panel.run.log_text and opened.ui.applyButton.enabled


def test_a_note_of_the_result_stays_under_the_bar(opened: Opened) -> None:
    from qt_host.fixtures import segmentation_result

    opened.add_volume()
    opened.choose("ct-bleeds")
    opened.ui.applyButton.click()
    opened.worker.listener.on_note("No microbleed was found.")
    opened.worker.listener.on_warning("White matter: nothing was found.")
    opened.finish(segmentation_result())
    shown = opened.ui.notesLabel.text
    assert "No microbleed was found." in shown and "Warning: White matter: nothing was found." in shown
