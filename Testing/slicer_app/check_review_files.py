"""Masks of any origin, versions of them, and a Slicer without any further package."""

from __future__ import annotations

import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import slicer
from another import AnotherSlicer
from hands import Hands
from reviews import flair_and_masks, kept_apart, segmentation, shown
from session import Session, equal, true

#: Packages that Slicer does not bring along; "a plain Slicer" has none of them.
EXTRA = (
    "onnx", "onnxruntime", "openvino", "pydantic", "nibabel", "jinja2", "highdicom", "matplotlib", "typer", "rich",
    "tritonclient",
)  # fmt: skip
_NAMES = ("normal WMH", "abnormal WMH")
_COLORS = ((0.34, 0.71, 0.91), (0.84, 0.37, 0.0))


def origins(folder: Path) -> list[str]:
    """One FLAIR with the same mask as .seg.nrrd, as NIfTI label map with a table, as DICOM SEG; a table of cases."""
    import SimpleITK as sitk

    from medseg.output.files import save_segmentation
    from medseg.result import Layer, SegmentClass
    from medseg_mrml import volume_from_node
    from support.dicom_seg import write_dicom_seg

    _, node, labels = flair_and_masks()
    volume = volume_from_node(node)
    slicer.mrmlScene.RemoveNode(node)
    image = sitk.GetImageFromArray(np.asarray(volume.array))
    volume.grid.place(image)
    sitk.WriteImage(image, str(folder / "flair.nrrd"))
    classes = tuple(SegmentClass(n + 1, _NAMES[n], _COLORS[n], "", True) for n in (0, 1))
    save_segmentation(folder / "mask.seg.nrrd", [Layer(labels, classes)], volume.grid)
    label_map = sitk.GetImageFromArray(labels)
    volume.grid.place(label_map)
    sitk.WriteImage(label_map, str(folder / "labels.nii.gz"))
    rows = "".join(f"{n + 1}\t{_NAMES[n]}\n" for n in (0, 1))
    (folder / "labels.tsv").write_text("index\tname\n" + rows, "utf-8")
    write_dicom_seg(folder / "seg.dcm", {name: labels == n + 1 for n, name in enumerate(_NAMES)}, volume.grid)
    files = ["mask.seg.nrrd", "labels.nii.gz", "seg.dcm"]
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask"])
        writer.writerows(["flair.nrrd", name] for name in files)
    return files


def check_review_masks_of_any_origin(session: Session) -> str:
    """Names survive from each file, a correction is saved, loads again as the newest, and Slicer reads it."""
    told = []
    with tempfile.TemporaryDirectory() as name, kept_apart(session) as tab:
        files = origins(Path(name))
        true(tab.cases.open_files(str(Path(name) / "cases.csv")), f"no cases: {session.errors}")
        hands = Hands(tab)
        for n, file in enumerate(files):
            hands.press("Ctrl+N", lambda: tab.reviewing is not None and tab.cases.session.current == n)  # noqa: B023
            told.append(f"{file}: {one_origin(tab, hands, n)}")
            common.picture(f"review-16-{file.split('.')[0]}")
        equal(session.errors, [], "messages")
    return "; ".join(told)


def one_origin(tab: Any, hands: Hands, number: int) -> str:
    """Names, a rejected finding, a saved version, the case opened again, the version in Slicer."""
    reviewing = tab.reviewing
    names = {c.name for layer in reviewing.review.model.layers for c in layer.classes}
    true(set(_NAMES) <= names, f"names {names}")
    segments = reviewing.shown.node.GetSegmentation()
    seen = {segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())}
    true(set(_NAMES) <= seen, f"names of the segments {seen}")
    id = reviewing.current
    hands.press("X", lambda: reviewing.review.decision(id).state == "rejected")
    hands.press("S", lambda: len(reviewing.kept.versions) == 1)
    layers = len(reviewing.review.labels)
    before = [shown(tab, n) for n in range(layers)]
    left = reviewing.review.left
    folder = Path(reviewing.work.folder)
    tab.leave()
    tab.cases.open(number)
    true(common.wait(lambda: tab.reviewing is not None, 20), "the case does not open again")
    equal(tab.reviewing.review.left, left, "findings left when it was opened again")
    for n in range(layers):
        equal(shown(tab, n), before[n], "the mask when it was opened again")
    node = slicer.util.loadSegmentation(str(folder / "reviewed.seg.nrrd"))
    loaded = node.GetSegmentation()
    names = {loaded.GetNthSegment(n).GetName() for n in range(loaded.GetNumberOfSegments())}
    true(set(_NAMES) <= names, f"Slicer reads the names {names}")
    slicer.mrmlScene.RemoveNode(node)
    return f"{len(tab.reviewing.review.findings)} findings, {layers} layer(s), saved and loaded again"


def check_review_versions(session: Session) -> str:
    """Each saved mask is kept, compared with the present one, taken back, and that can be undone."""
    with kept_apart(session) as tab:
        _, volume, labels = flair_and_masks()
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        tab.ui.volume.setCurrentNode(volume)
        tab.ui.mask.setCurrentNode(segmentation(labels, volume, "mask"))
        tab.start_button.click()
        reviewing = tab.reviewing
        true(reviewing is not None, f"the review did not begin: {session.errors}")
        hands = Hands(tab)
        hands.press("S", lambda: len(reviewing.kept.versions) == 1)
        first = shown(tab)
        id = reviewing.current
        hands.press("X", lambda: reviewing.review.decision(id).state == "rejected")
        hands.press("S", lambda: len(reviewing.kept.versions) == 2)
        second = shown(tab)
        dialogs = tab.keeping._dialogs
        texts: list[str] = []
        dialogs.show = lambda title, text: texts.append(text)
        dialogs.choose = lambda *a, **k: 1  # the earlier one of the two
        try:
            tab.keeping.compare()
            tab.keeping.take_back()
        finally:
            del dialogs.show, dialogs.choose
        equal(shown(tab), first, "the mask when version 1 was taken back")
        hands.press("Z", lambda: bool((shown(tab) == second).all()))
        true(texts and "Dice" in texts[0], "nothing was told of the difference")
        kept = sorted(p.name for p in Path(reviewing.work.folder).rglob("*.seg.nrrd"))
    return f"two versions, compared, taken back, undone; files {kept}"


def check_review_editor_leaves_the_panel_narrow(session: Session) -> str:
    """With Slicer's own editor open the tab still wants at most 400 pixels: else its right side is cut off."""
    with kept_apart(session) as tab:
        common.make_room()
        _, volume, labels = flair_and_masks()
        tab.ui.volume.setCurrentNode(volume)
        tab.ui.mask.setCurrentNode(segmentation(labels, volume, "mask"))
        tab.start_button.click()
        true(tab.reviewing is not None, f"the review did not begin: {session.errors}")
        before = tab.widget.minimumSizeHint.width()
        Hands(tab).press("E", lambda: tab.actions.editor.is_open)
        common.pause(0.5)
        widths = {}
        for effect in ("Paint", "Islands", "Threshold", "Scissors"):
            tab.actions.editor._editor.setActiveEffectByName(effect)
            common.pause(0.3)
            widths[effect] = tab.widget.minimumSizeHint.width()
            frame, editor = tab.actions.editor._frame, tab.actions.editor._editor
            true(frame.height >= editor.minimumSizeHint.height(), f"{effect} is cut off below")
            common.picture(f"review-18-editor-{effect.lower()}")
        tab.actions.editor.close()
    true(max(widths.values()) <= 400, f"the tab wants {widths} pixels")
    return f"{before} pixels without the editor, with it {widths}"


def check_review_in_a_plain_slicer(session: Session) -> str:
    """The whole tab in a second Slicer which finds none of the packages that Slicer does not bring along."""
    session.widget  # noqa: B018  (opens the module, which makes its packages importable)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = origins(folder)
        (folder / "sitecustomize.py").write_text(_PLAIN.format(extra=EXTRA), "utf-8")
        paths = os.pathsep.join(p for p in (str(folder), os.environ.get("PYTHONPATH", "")) if p)
        with AnotherSlicer("plain_review.py", str(folder), environment={"PYTHONPATH": paths}) as another:
            code = another.ended(300)
            said, lines = another.said("plain:"), another.lines
    true(code == 0 and said, f"code {code}:\n" + "\n".join(lines[-40:]))
    return f"{len(files)} origins; {said[-1]}"


_PLAIN = """
import importlib.machinery
import sys

EXTRA = {extra!r}


class Plain(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in EXTRA:
            return None
        return super().find_spec(name, path, target)


sys.meta_path = [Plain if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
"""
