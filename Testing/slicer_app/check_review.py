"""A reader goes through a FLAIR in the Review tab: keys, corrections, comparison, report; each step a picture."""

from __future__ import annotations

import importlib.util
from typing import Any

import common
import numpy as np
import qt
import slicer
import vtk
from hands import Hands, places_along
from reviews import flair_and_masks, kept_apart, segmentation, shown
from session import Session, equal, true

MODEL = "wmh-compact"
TEN = 10


def check_review_a_flair(session: Session) -> str:
    """Run, ten findings with the keyboard only, correct, add, reject, undo, compare with the manual mask, report."""
    told = []
    with kept_apart(session) as tab:
        what, volume, truth = flair_and_masks()
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        session.widget.ui.tabs.currentIndex = 0
        said = session.run(MODEL, volume, 600)
        true("Done" in said, said)
        made = session.segmentation
        session.widget.ui.tabs.currentIndex = 1
        equal(tab.ui.mask.currentNode(), made, "the mask that the tab offers")
        common.picture("review-01-offered")
        tab.start_button.click()
        reviewing = tab.reviewing
        true(reviewing is not None, f"the review did not begin: {session.errors}")
        equal(made.GetDisplayNode().GetVisibility(), 0, "the model's own mask is seen meanwhile")
        hands = Hands(tab)
        told.append(f"{what}, {len(reviewing.review.findings)} findings, {hands.how}")
        common.picture("review-02-begun")
        told.append(ten_findings(tab, hands, truth))
        told.append(rejected_and_back(tab, hands))
        told.append(corrected(tab, hands, session))
        told.append(added(tab, hands, truth))
        told.append(hidden(tab, hands))
        told.append(compared(tab, hands, volume, truth, session))
        told.append(reported(tab))
        equal(session.errors, [], "messages")
    return "; ".join(told)


def ten_findings(tab: Any, hands: Hands, truth: np.ndarray) -> str:
    """Accept what lies on the manual mask, reject what does not: one press each, and the next is there."""
    reviewing, review = tab.reviewing, tab.reviewing.review
    wanted = min(TEN, len(review.findings))
    true(wanted >= 3, f"only {wanted} findings")
    decided, start = [], hands.presses
    if not reviewing.current:
        hands.press("N", lambda: reviewing.current)
        start = hands.presses
    while len(decided) < wanted:
        id = reviewing.current
        finding, inside = review.findings[id], review.mask(id)
        key, state = ("A", "accepted") if (truth[finding.slices][inside] > 0).any() else ("X", "rejected")
        last = review.left == 1
        hands.press(key, lambda: review.decision(id).state == state and (last or reviewing.current != id))  # noqa: B023
        true(last or not review.decision(reviewing.current).state, "the next finding was decided before")
        decided.append(state)
        if not last:
            looked_at(tab)
        if len(decided) in (1, 6):
            common.picture(f"review-03-after-{len(decided)}")
    presses = hands.presses - start
    equal(presses, len(decided), "presses for the findings decided")
    counted = f"{decided.count('accepted')} accepted, {decided.count('rejected')} rejected"
    return f"{len(decided)} findings in {presses} presses ({counted})"


def looked_at(tab: Any) -> None:
    """Every slice view is at the finding, which is seen with its surroundings."""
    reviewing = tab.reviewing
    finding, place = reviewing.review.findings[reviewing.current], reviewing.place_of(reviewing.current)
    for name in slicer.app.layoutManager().sliceViewNames():
        node = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
        matrix = node.GetSliceToRAS()
        centre = np.array([matrix.GetElement(n, 3) for n in range(3)])
        away = float(np.abs(centre - place).max())
        true(away < 0.1, f"{name} is {away:.1f} mm away from finding {reviewing.current}")
        smaller = min(node.GetFieldOfView()[:2])
        true(smaller >= max(finding.extent), f"finding {reviewing.current} does not fit into {name}")
    outline = slicer.util.getNode("MedSeg finding")
    true(outline.GetDisplayNode().GetVisibility(), "the finding's outline is not seen")


def rejected_and_back(tab: Any, hands: Hands) -> str:
    """X takes the voxels of a finding out of the mask; Z brings them back, Y takes them out again."""
    reviewing, review = tab.reviewing, tab.reviewing.review
    id = next(n for n in tab.list._ids if review.decision(n).state == "accepted")
    tab.go(id)
    before = shown(tab)
    box, inside = review.findings[id].slices, review.mask(id)
    hands.press("X", lambda: review.decision(id).state == "rejected")
    true(not shown(tab)[box][inside].any(), "a rejected finding is still in the mask that is shown")
    common.picture("review-04-rejected")
    hands.press("Z", lambda: review.decision(id).state == "accepted")
    equal(shown(tab), before, "the mask after undo")
    equal(reviewing.current, id, "the finding that is looked at after undo")
    hands.press("Y", lambda: review.decision(id).state == "rejected")
    hands.press("Z", lambda: review.decision(id).state == "accepted")
    name = review.class_of(id)
    hands.press("C", lambda: review.class_of(id) != name)
    other = review.class_of(id)
    hands.press("Z", lambda: review.class_of(id) == name)
    hands.press("X", lambda: review.decision(id).state == "rejected")
    return f"finding {id} rejected, undone, redone, undone, {name} -> {other} and back, rejected"


def corrected(tab: Any, hands: Hands, session: Session) -> str:
    """E opens Slicer's Segment Editor on the finding; a stroke becomes part of the reviewed mask."""
    reviewing, review = tab.reviewing, tab.reviewing.review
    id = next(n for n in tab.list._ids if review.decision(n).state == "accepted")
    tab.go(id)
    hands.press("E", lambda: tab.actions.editor.is_open)
    common.pause(0.5)
    editor = tab.actions.editor._editor
    finding = review.findings[id]
    equal(editor.segmentationNode(), reviewing.shown.node, "the editor's segmentation")
    equal(editor.sourceVolumeNode(), reviewing.volume, "the editor's volume")
    equal(editor.currentSegmentID(), reviewing.shown.segment_of(finding.layer, reviewing.value_of(id)), "its segment")
    effect = editor.activeEffect()
    equal(str(getattr(effect, "name", effect)), "Paint", "the effect that is ready")
    common.picture("review-05-editor")
    before, steps = shown(tab, finding.layer), review.steps
    if not hands.stroke("Red", places_along(reviewing.place_of(id), 16.0, "Red")):
        painted(tab, finding)
    common.wait(lambda: review.steps > steps, 3)
    after = shown(tab, finding.layer)
    added = int(((after > 0) & (before == 0)).sum())
    true(added, "the stroke changed nothing")
    true(review.steps > steps and (review.labels[finding.layer] == after).all(), "the drawing was not taken over")
    true(common.wait(lambda: "+" in tab.changes.text, 3), f"what changed is not told: {tab.changes.text}")
    common.picture("review-06-corrected")
    parameters = editor.mrmlSegmentEditorNode()
    parameters.SetActiveEffectName("Draw")
    common.pause(0.2)
    hands.press("X")
    equal(review.decision(id).state, "accepted", "the finding after X, which is the outline effect's own key")
    said = f"finding {id} corrected ({added} voxels more, brush {parameters.GetAttribute('BrushAbsoluteDiameter')} mm)"
    tab.actions.editor.close()
    return f"{said}, {tab.changes.text}"


def painted(tab: Any, finding: Any) -> None:
    """Without a mouse: what the editor does when somebody paints."""
    from medseg_mrml.arrays import array_of

    node = tab.reviewing.shown.node
    value = tab.reviewing.value_of(finding.id)
    segment = node.GetSegmentation().GetSegment(tab.reviewing.shown.segment_of(finding.layer, value))
    image = segment.GetRepresentation("Binary labelmap")
    k, j, i = finding.slices
    array_of(image)[k, j, i.stop : i.stop + 2] = segment.GetLabelValue()
    image.Modified()
    node.GetSegmentation().InvokeEvent(slicer.vtkSegmentation.SourceRepresentationModified)


def added(tab: Any, hands: Hands, truth: np.ndarray) -> str:
    """D, and a stroke where a reader saw a lesion that the model did not: a new finding."""
    review = tab.reviewing.review
    tab.go(missed_near(tab, truth))
    hands.press("D", lambda: tab.actions.editor.is_open)
    common.pause(0.3)
    known = set(review.findings)
    # Beside the finding that is looked at, within the view, where no other is.
    place = free_place(tab)
    if not hands.stroke("Red", places_along(place, 4.0, "Red")):
        return "nothing was added (no mouse here)"
    true(common.wait(lambda: set(review.findings) - known, 10), "what was drawn is no finding")
    new = sorted(set(review.findings) - known)
    true(review.decision(new[-1]).added, "a drawn finding is not marked as drawn")
    tab.actions.editor.close()
    tab.go(new[-1])
    common.picture("review-07-added")
    return f"finding {new} drawn, {tab.ui.status.text}"


def missed_near(tab: Any, truth: np.ndarray) -> int:
    """A finding in the slice with the most of the manual mask: there is something to draw."""
    best = int((truth > 0).sum(axis=(1, 2)).argmax())
    found = tab.reviewing.review.findings
    return min(found, key=lambda n: abs((found[n].slices[0].start + found[n].slices[0].stop) / 2 - best))


def free_place(tab: Any) -> list[float]:
    """A place (RAS) in the plane of the red view, up to 30 mm from its middle, with no finding within 6 mm."""
    reviewing = tab.reviewing
    grid = reviewing.review.grid
    # Also what was rejected: drawn on, it would be that finding again, not a new one.
    both = [*reviewing.review.labels, *(layer.labels for layer in reviewing.review.model.layers)]
    mask = np.any([labels > 0 for labels in both], axis=0)
    taken = np.argwhere(mask)[:, ::-1]
    where = np.array([grid.to_physical(n) for n in taken]) * (-1, -1, 1)
    matrix = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    across, up = (np.array([matrix.GetElement(n, c) for n in range(3)]) for c in (0, 1))
    middle = np.array(reviewing.place_of(reviewing.current))
    for radius in (14, 20, 26, 30):
        for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
            place = middle + radius * (np.cos(angle) * across + np.sin(angle) * up)
            if np.linalg.norm(where - place, axis=1).min() > 9:
                return [float(v) for v in place]
    raise AssertionError("there is no free place around the finding")


def hidden(tab: Any, hands: Hands) -> str:
    """As long as H is held only the image is seen."""
    node = tab.reviewing.shown.node.GetDisplayNode()
    seen = hands.hold("H", 1.6, lambda: (node.GetVisibility(), str(common.picture("review-08-hidden"))))
    equal(seen[0], 0, "the mask while the key is held")
    true(common.wait(lambda: node.GetVisibility() == 1, 3), "the mask did not come back")
    return "hidden while H was held"


def compared(tab: Any, hands: Hands, volume: Any, truth: np.ndarray, session: Session) -> str:
    """The reviewed mask against the manual one: TP, FP, FN as segments, a table, a click goes there."""
    manual = segmentation(truth, volume, "manual mask")
    manual.GetDisplayNode().SetVisibility(False)
    compare = tab.compare
    compare.section.collapsed = False
    compare.other.setCurrentNode(manual)
    equal(compare.one.currentNode(), tab.reviewing.shown.node, "the first mask that is offered")
    compare.compare()
    equal(session.errors, [], "messages")
    count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    nodes = [slicer.mrmlScene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode") for n in range(count)]
    made = next(n for n in nodes if "compared" in n.GetName())
    segments = made.GetSegmentation()
    names = [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())]
    for part in ("TP", "FP", "FN"):
        true(any(f"({part})" in name for name in names), f"no segment {part}: {names}")
    tables = [compare.which.itemText(n) for n in range(compare.which.count)]
    lesions = next((n for n, text in enumerate(tables) if "lesion" in text), 0)
    compare.which.currentIndex = lesions
    common.pause(0.3)
    model = compare.table.model()
    true(model.rowCount() > 0, f"the table {tables[lesions]} is empty")
    view = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    view.JumpSliceByCentering(90, 90, 90)
    index = model.index(0, 0)
    if not hands.click(compare.table.viewport(), compare.table.visualRect(index).center()):
        compare.table.clicked(index)
    common.pause(0.3)
    away = vtk.vtkMath.Distance2BetweenPoints([view.GetSliceToRAS().GetElement(n, 3) for n in range(3)], [90, 90, 90])
    true(away > 1, "a click on a row goes nowhere")
    common.picture("review-09-compared")
    compare.remove()
    compare.section.collapsed = True
    slicer.mrmlScene.RemoveNode(manual)
    return f"compared: {', '.join(names)}; tables {tables}"


def reported(tab: Any) -> str:
    """The page of the case, as HTML and PDF."""
    if importlib.util.find_spec("jinja2") is None:
        return "no report: Jinja2 is not installed here"
    common.OUTPUT.mkdir(parents=True, exist_ok=True)
    html, pdf = (common.OUTPUT / f"review-10-report.{kind}" for kind in ("html", "pdf"))
    for path in (html, pdf):
        tab.keeping.write_report(path)
    text = html.read_text(encoding="utf-8")
    true("data:image/png" in text and "rejected" in text, "the page has no pictures or no decisions")
    true(pdf.read_bytes().startswith(b"%PDF"), "the PDF is none")
    page = qt.QTextBrowser()
    page.setHtml(text)
    page.resize(800, 1100)
    page.show()
    common.picture("review-10-report", page)
    page.close()
    return f"report of {html.stat().st_size // 1024} kB, PDF {pdf.stat().st_size // 1024} kB"


def check_review_thresholds(session: Session) -> str:
    """Where a run kept probabilities, the slider regrows the finding, or all, with a live outline."""
    with kept_apart(session) as tab:
        axes = [np.linspace(-2, 2, n, dtype=np.float32) for n in (24, 96, 96)]
        k, j, i = np.meshgrid(*axes, indexing="ij", sparse=True)
        near = np.minimum(*((k**2 + j**2 + (i - at) ** 2) for at in (-1, 1)))
        volume = common.add_volume((500 + 3 * (0.4 - near)).clip(480, 520).astype(np.float32), "CT", "CT")
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        session.widget.ui.tabs.currentIndex = 0
        box = session.widget.ui.probabilitiesCheckBox
        box.checked = True
        try:
            said = session.run("bright", volume)
        finally:
            box.checked = False
        true("Done" in said, said)
        session.widget.ui.tabs.currentIndex = 1
        tab.start_button.click()
        reviewing = tab.reviewing
        true(reviewing is not None and reviewing.current, f"no finding: {session.errors}")
        true(tab.threshold.widget.visible, "there is no slider although the run kept probabilities")
        id = reviewing.current
        voxels, steps = reviewing.review.findings[id].voxels, reviewing.review.steps
        with common.Gaps() as gaps:
            for value in range(49, 19, -2):
                tab.threshold.slider.value = value
                common.pause(0.03)
        common.picture("review-11-threshold")
        true(common.wait(lambda: reviewing.review.findings[id].voxels != voxels, 5), "the finding did not grow")
        grown = reviewing.review.findings[id].voxels
        hands = Hands(tab)
        # One step; more where a busy computer took so long to draw that the slider was taken to be let go in between.
        while (before := reviewing.review.steps) > steps:
            hands.press("Z", lambda: reviewing.review.steps < before)
        equal(reviewing.review.findings[id].voxels, voxels, "the finding when it was taken back")
        preview = timed(lambda: reviewing.preview(id, 0.3))
    return f"{voxels} -> {grown} voxels and back; a preview takes {preview:.0f} ms, {gaps.worst(2)}"


def timed(work: Any) -> float:
    """Milliseconds of ``work()``."""
    import time

    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def check_review_follow_up(session: Session) -> str:
    """The same patient moved and with other lesions: aligned for approval, then new, gone, grown, stable."""
    with kept_apart(session) as tab:
        what, volume, truth = flair_and_masks()
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        placed = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        moved = placed.copy()
        moved[:3, 3] += (6.0, -4.0, 3.0)
        later = common.add_volume(slicer.util.arrayFromVolume(volume).copy(), "flair later", "MR", moved)
        from scipy import ndimage

        found, count = ndimage.label(truth > 0, np.ones((3, 3, 3)))
        sizes = np.bincount(found.ravel())[1:]
        largest = int(sizes.argmax()) + 1
        away = ndimage.distance_transform_edt(found != largest, sampling=volume.GetSpacing()[::-1])
        far = ndimage.minimum(away, found, np.arange(1, count + 1)) * (sizes >= min(8, np.sort(sizes)[-2]))
        gone = int(far.argmax()) + 1
        after = truth.copy()
        after[found == gone] = 0
        wider = ndimage.binary_dilation(found == largest, iterations=2) & (truth == 0)
        after[wider] = int(truth[found == largest].max())
        masks = [segmentation(a, v, n) for a, v, n in ((truth, volume, "first mask"), (after, later, "later mask"))]
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        compare = tab.compare
        compare.section.collapsed = False
        compare.mode.currentIndex = 1
        for box, node in zip((compare.first_image, compare.first_mask, compare.later_image, compare.later_mask),
                             (volume, masks[0], later, masks[1]), strict=True):  # fmt: skip
            box.setCurrentNode(node)
        compare.align()
        equal(session.errors, [], "messages")
        true(compare.accept.enabled, "the alignment cannot be approved")
        common.picture("review-12-aligned")
        compare.follow_up()
        equal(session.errors, [], "messages")
        model = compare.table.model()
        texts = [
            str(model.data(model.index(r, c))) for r in range(model.rowCount()) for c in range(model.columnCount())
        ]
        states = {w for w in ("new", "gone", "grown", "shrunk", "stable") if w in texts}
        common.picture("review-13-follow-up")
        true({"gone", "grown"} <= states, f"states {states} of {count} lesions")
        compare.mode.currentIndex = 0
    return f"{what}: {count} lesions, {sorted(states)}"


def check_review_keys_are_free(session: Session) -> str:
    """No key of the review is also one of Slicer's: Qt would let neither work."""
    with kept_apart(session) as tab:
        own = {k.name for keys in (tab.actions.keys, tab.cases.keys, tab.rating.keys) for k in keys._keys}
        mine = {s for keys in (tab.actions.keys, tab.cases.keys, tab.rating.keys) for s in keys._shortcuts}
        taken: dict[str, str] = {}
        window = slicer.util.mainWindow()
        for action in window.findChildren(qt.QAction):
            for sequence in [action.shortcut.toString(), *(s.toString() for s in action.shortcuts())]:
                taken[str(sequence)] = str(action.text)
        for shortcut in window.findChildren(qt.QShortcut):
            # Those of a panel that was reloaded do nothing any more, and go when Slicer's own event loop runs again.
            if shortcut not in mine and shortcut.enabled:
                taken[str(shortcut.key.toString())] = "a shortcut of the window"
        taken.pop("", None)
        both = {name: taken[name] for name in own & set(taken)}
        true(not both, f"keys that Slicer has too: {both}")
    return f"{len(own)} keys of the review, {len(taken)} of Slicer, none in both"
