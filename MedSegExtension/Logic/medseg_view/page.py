"""The page's widgets (Vuetify through trame). What they do is in `medseg_view.visit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html, plotly
from trame.widgets import vuetify3 as v3
from trame_slicer.app.ui import create_vertical_slice_view_gutter_ui, create_vertical_view_gutter_ui

from .scene import FOUR, SLICES, SPACE

#: The page's own script, served by the same server.
MODULE = {
    "serve": {"medseg_view": str(Path(__file__).with_name("serve"))},
    "scripts": ["medseg_view/page.js"],
}
_EDGE = "position:absolute;color:#fff;text-shadow:0 0 3px #000,0 0 3px #000;pointer-events:none;user-select:none;"
_PLACES = {
    "left": "left:10px;top:50%;transform:translateY(-50%);",
    "right": "right:10px;top:50%;transform:translateY(-50%);",
    "top": "top:6px;left:50%;transform:translateX(-50%);",
    "bottom": "bottom:44px;left:50%;transform:translateX(-50%);",
    "place": "right:10px;top:6px;font-size:13px;",
}
_STYLE = (
    "html{overflow-y:hidden} .medseg-table td,.medseg-table th{padding:2px 8px!important;height:26px!important;"
    "white-space:nowrap;font-size:12px} .medseg-table tr.here{cursor:pointer}"
)


def letters_name(tag: str) -> str:
    """The state's name for what stands at the edges of a view."""
    return f"letters_{tag.lower()}"


def slice_widgets(server: Any, view_id: str, view: Any) -> None:
    """Over a slice view: reset, slider, the patient's sides, and where the slice is."""
    create_vertical_slice_view_gutter_ui(server, view_id, view)
    name = letters_name(view.get_singleton_tag())
    server.state.setdefault(name, None)
    for which, style in _PLACES.items():
        html.Div(f"{{{{ {name}.{which} }}}}", v_if=(name,), style=_EDGE + style, classes=f"medseg-{which}")


def space_widgets(server: Any, view_id: str, view: Any) -> None:
    """Over the 3D view: reset."""
    create_vertical_view_gutter_ui(server, view_id, view)


def build(server: Any, visit: Any) -> Any:
    """The page. ``visit``: what its buttons call."""
    with VAppLayout(server) as layout:
        layout.root.theme = "dark"
        client.Style(_STYLE)
        with v3.VAppBar(density="compact"):
            v3.VAppBarTitle("MedSeg")
            html.Span("For research use only", classes="text-caption mr-4")
            with v3.VBtnToggle(v_model=("layout",), mandatory=True, density="compact", classes="mr-3"):
                for value, icon, words in (
                    (SLICES, "mdi-square-outline", "One slice view"),
                    (FOUR, "mdi-view-grid-outline", "Three planes and 3D"),
                    (SPACE, "mdi-cube-outline", "3D"),
                ):
                    v3.VBtn(icon=icon, value=value, title=words, size="small", id=f"layout-{value}")
        with v3.VNavigationDrawer(permanent=True, width=330, location="left"):
            _left(visit)
        with v3.VNavigationDrawer(
            permanent=True, width=440, location="right", v_if=("bars.length || tables.length",), id="results"
        ):
            _right(visit)
        with v3.VMain(style="height:100vh"), html.Div(style="position:relative;width:100%;height:100%;display:flex"):
            visit.scene.layouts.initialize_layout_grid(layout)
    return layout


def _left(visit: Any) -> None:
    with html.Div(classes="pa-3"):
        with html.Div(classes="pa-3 text-center rounded", style="border:1px dashed #888"):
            html.Div("Drop an image here: NIfTI, NRRD, DICOM files or a folder of them", classes="text-body-2 mb-2")
            for words, identifier, more in (("Files", "files", []), ("Folder", "folder", ["webkitdirectory"])):
                v3.VBtn(
                    words, size="small", classes="mx-1", disabled=("!!busy",),
                    click=f"window.document.getElementById('choose-{identifier}').click()",
                )  # fmt: skip
                html.Input(
                    type="file", id=f"choose-{identifier}", style="display:none", raw_attrs=["multiple", *more],
                    change="window.medseg.send($event.target.files); $event.target.value = ''",
                )  # fmt: skip
            html.Div("{{ limit_words }}", classes="text-caption mt-2 text-medium-emphasis")
        v3.VAlert(
            "{{ problem }}", v_if=("problem",), type="error", density="compact", classes="mt-2 text-body-2",
            closable=True, click_close="problem = ''", id="problem",
        )  # fmt: skip
        with html.Div(v_if=("busy",), classes="mt-3", id="progress"):
            v3.VProgressLinear(model_value=("progress",), indeterminate=("progress < 0",), height=8, color="primary")
            html.Div("{{ progress_text }}", classes="text-caption")
        with html.Div(v_if=("series.length",), classes="mt-3"):
            v3.VSelect(
                label="Several series: choose one", items=("series",), v_model=("series_chosen",), density="compact",
                hide_details=True, id="series",
            )  # fmt: skip
        with html.Div(v_if=("image",), classes="mt-3", id="image"):
            html.Div("{{ image }}", classes="text-subtitle-2 text-truncate")
            html.Div("{{ facts }}", classes="text-caption")
            _windows()
            v3.VSelect(
                label="Model", items=("models",), v_model=("model",), density="compact", hide_details=True,
                classes="mt-3", id="model", item_props=("true",),
            )  # fmt: skip
            html.Div("{{ model_words }}", classes="text-caption mt-1 text-medium-emphasis")
            with html.Div(classes="d-flex mt-3"):
                v3.VBtn("Run", color="primary", click=visit.run, disabled=("!!busy || !model",), id="run")
                v3.VBtn("Cancel", click=visit.cancel, disabled=("busy !== 'run'",), classes="ml-2", id="cancel")
        with html.Div(v_if=("segments",), classes="mt-3"):
            v3.VSwitch(v_model=("overlay",), label="Overlay", density="compact", hide_details=True, color="primary")
            v3.VSlider(
                v_model=("opacity",), min=0, max=1, step=0.05, density="compact", hide_details=True, label="Fill",
            )  # fmt: skip
        with html.Div(v_if=(f"image && layout !== '{SLICES}'",)):
            v3.VSwitch(
                v_model=("rendering",), label="Image in 3D", density="compact", hide_details=True, color="primary"
            )
        with html.Div(v_for="(sentence, n) in told", key="n", classes="text-caption mt-2", style="color:#ffcc80"):
            html.Span("{{ sentence }}")


def _windows() -> None:
    with html.Div(v_if=("windows.length",)):
        html.Div(classes="mt-2")
        with v3.VChip(
            "{{ window.title }}", v_for="window in windows", key="window.title", size="small", classes="ma-1",
            click="level = window.level; width = window.width",
        ):  # fmt: skip
            pass
        with html.Div(classes="d-flex mt-2"):
            for name, words in (("level", "Level"), ("width", "Width")):
                v3.VTextField(
                    v_model_number=(name,), label=words, type="number", density="compact", hide_details=True,
                    classes="mr-2", id=name,
                )  # fmt: skip


def _right(visit: Any) -> None:
    with html.Div(v_if=("bars.length",), classes="pa-3", id="scores"):
        html.Div("Slice {{ slice_number }} of {{ slice_count }}", classes="text-subtitle-2", id="slice")
        with html.Div(v_for="bar in bars", key="bar.name", classes="d-flex align-center my-1 score"):
            html.Span(style=("`width:12px;height:12px;margin-right:8px;background:${bar.color}`",))
            html.Span("{{ bar.name }}", style="width:120px", classes="text-body-2")
            v3.VProgressLinear(model_value=("bar.score",), color=("bar.color",), height=10, style="flex:1")
            html.Span("{{ bar.text }}", style="width:52px;text-align:right", classes="text-body-2")
        with html.Div(style="height:270px"):
            plotly.Figure(
                state_variable_name="plot", display_mode_bar=False, responsive=True,
                click=(visit.point_clicked, "[$event.points[0].pointIndex]"),
            )  # fmt: skip
    with html.Div(v_if=("tables.length",), classes="px-3 pb-3", id="tables"):
        with v3.VTabs(v_model=("table",), density="compact"):
            v3.VTab("{{ one.name }}", v_for="(one, n) in tables", key="one.name", value=("n",))
        with html.Div(v_for="(one, n) in tables", key="one.name"), html.Div(v_if=("n === table",)):
            with v3.VTable(density="compact", fixed_header=True, classes="medseg-table", style="max-height:340px"):
                with html.Thead(), html.Tr():
                    html.Th("{{ column }}", v_for="column in one.columns", key="column")
                with html.Tbody(), html.Tr(
                    v_for="(row, r) in one.rows", key="r", classes=("one.places[r] ? 'here' : ''",),
                    click=(visit.row_clicked, "[n, r]"),
                ):  # fmt: skip
                    html.Td("{{ cell }}", v_for="(cell, c) in row", key="c")
            html.Div("{{ one.left_out }} more rows are not shown", v_if=("one.left_out",), classes="text-caption")
