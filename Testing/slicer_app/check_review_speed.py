"""How long a reader waits in the application: 2,000 findings in 512x512x300, and the next case of that size."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import slicer
from hands import Hands
from reviews import kept_apart, segmentation
from session import Session, true

_KEYS = 30
_FINDINGS = 2000
#: Seconds: the case opens; milliseconds: a key is answered, what we compute in one go.
_OPEN, _ANSWER, _OURS = 10.0, 100.0, 50.0


class Watch:
    """The calls of a method: ``calls``, each as when it began, when it ended, and what this thread computed of it."""

    def __init__(self, owner: Any, name: str) -> None:
        self.calls: list[tuple[float, float, float]] = []
        self._owner, self._name, self._original = owner, name, getattr(owner, name)
        setattr(owner, name, self._timed)

    def _timed(self, *arguments: Any, **named: Any) -> Any:
        start, used = time.perf_counter(), time.thread_time()
        try:
            return self._original(*arguments, **named)
        finally:
            self.calls.append((start, time.perf_counter(), time.thread_time() - used))

    def stop(self) -> None:
        setattr(self._owner, self._name, self._original)


class Drawn:
    """When each view was drawn. ``times``: name of a view -> as `Watch.calls`; the last may not have ended (nan)."""

    def __init__(self) -> None:
        manager = slicer.app.layoutManager()
        views = {name: manager.sliceWidget(name).sliceView() for name in manager.sliceViewNames()}
        views |= {f"3D {n}": manager.threeDWidget(n).threeDView() for n in range(manager.threeDViewCount)}
        self.times: dict[str, list[tuple[float, float, float]]] = {n: [] for n, view in views.items() if view.visible}
        self._observers = []
        for name in self.times:
            window = views[name].renderWindow()
            for event, noted in (("StartEvent", self._began), ("EndEvent", self._ended)):
                self._observers.append((window, window.AddObserver(event, lambda *_, f=noted, n=name: f(n))))

    def _began(self, name: str) -> None:
        self.times[name].append((time.perf_counter(), math.nan, time.thread_time()))

    def _ended(self, name: str) -> None:
        began, _, used = self.times[name].pop()
        self.times[name].append((began, time.perf_counter(), time.thread_time() - used))

    def all_after(self, moment: float) -> bool:
        """Whether each view was drawn whole after ``moment``."""
        return all(any(began >= moment and ended > began for began, ended, _ in t) for t in self.times.values())

    def ended(self, moment: float) -> float:
        """When the last view was drawn for the first time after ``moment``."""
        return max(min(ended for began, ended, _ in t if began >= moment) for t in self.times.values())

    def most(self, start: float, end: float) -> int:
        """The most often that one view was drawn from ``start`` to ``end``."""
        return max(sum(start <= began <= end for began, _, _ in t) for t in self.times.values())

    def within(self, start: float, end: float) -> tuple[float, float]:
        """Seconds of drawing from ``start`` to ``end``, and what this thread computed of them."""
        inside = [(e - b, used) for t in self.times.values() for b, e, used in t if start <= b <= end]
        return sum(s for s, _ in inside), sum(used for _, used in inside)

    def stop(self) -> None:
        for window, tag in self._observers:
            window.RemoveObserver(tag)


def milliseconds(values: list[float]) -> str:
    """Median and greatest."""
    return f"median {1000 * statistics.median(values):.0f}, greatest {1000 * max(values):.0f} ms"


def check_review_two_thousand_findings(session: Session) -> str:
    """The case opens in under 10 s, and what we do for a key never stops Slicer for 50 ms.

    On a busy computer only what Slicer's main thread computed is judged. What Slicer takes to draw its views is told
    apart: the same movements of the views without the review.
    """
    session.widget  # noqa: B018  (opens the module, which makes its packages importable)
    from benchmarks.review import lesions

    busy = common.busy()
    masks, _ = lesions(_FINDINGS)
    labels = masks.layers[0].labels
    volume = common.add_volume((100 * labels + (np.arange(512) % 50)[None, None, :]).astype(np.int16), "Large", "MR")
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    mask = segmentation(labels, volume, "lesions", masks.layers[0].classes)
    with kept_apart(session) as tab:
        tab.ui.volume.setCurrentNode(volume)
        tab.ui.mask.setCurrentNode(mask)
        common.pause(1)
        start = time.perf_counter()
        tab.start_button.click()
        opened = time.perf_counter() - start
        reviewing = tab.reviewing
        true(reviewing is not None, f"the review did not begin: {session.errors}")
        true(len(reviewing.review.findings) == _FINDINGS, f"{len(reviewing.review.findings)} findings")
        true(common.wait(lambda: tab.list._filled == tab.list.count, 60), "the list is not filled")
        common.pause(1)
        hands = Hands(tab)
        watch = Watch(tab.actions, "decide")
        # What moves the views, in which Slicer's own slice logics do their work at once.
        views = Watch(reviewing, "go")
        answers, draws = [], []
        drawn = Drawn()
        with common.Gaps() as gaps:
            for n in range(_KEYS):
                began, calls = time.perf_counter(), len(watch.calls)

                def answered(calls: int = calls) -> bool:
                    return len(watch.calls) > calls and drawn.all_after(views.calls[-1][1])

                hands.press("AX"[n % 2], answered)
                answers.append(drawn.ended(views.calls[-1][1]) - began)
                common.pause(0.15)
                draws.append(drawn.most(began, time.perf_counter()))
        drawn.stop()
        watch.stop()
        views.stop()
        common.picture("review-14-two-thousand")
        drawing = drawing_alone(reviewing)
        scrolled = list_scrolled(tab)
    moved = [(end - start, used) for start, end, used in views.calls]
    # The work of a key without moving and drawing the views.
    own = []
    for (start, end, used), (seconds, computed) in zip(watch.calls, moved, strict=True):
        drawing_seconds, drawing_computed = drawn.within(start, end)
        own.append((end - start - seconds - drawing_seconds, used - computed - drawing_computed))
    told = "".join((
        f"opened in {opened:.1f} s; {_KEYS} keys: decided and written {milliseconds([s for s, _ in own])} ",
        f"(computed {milliseconds([c for _, c in own])}), views moved to the next ",
        f"{milliseconds([s for s, _ in moved])} (computed {milliseconds([c for _, c in moved])}), ",
        f"from the press to all views drawn {milliseconds(answers)}, each view drawn {statistics.mean(draws):.1f} ",
        f"times (most {max(draws)}); gaps: {gaps.worst(3)}; Slicer's views drawn without the review: {drawing}; ",
        f"the list scrolled: {scrolled}", f" ({busy})" if busy else "",
    ))  # fmt: skip
    ours = [c if busy else s for s, c in own]
    true(opened < _OPEN or busy, told)
    true(statistics.median(draws) <= 1, told)
    true(1000 * statistics.median(ours) < _OURS, told)
    true(busy or 1000 * statistics.median(answers) < _ANSWER, told)
    return told


def drawing_alone(reviewing: Any) -> str:
    """The views moved to other findings and drawn, with nothing of the review done."""
    from medseg_mrml.looking import look_at

    findings = list(reviewing.review.findings.values())[100:120]
    seconds = []
    for finding in findings:
        look_at(reviewing.scene, reviewing.volume, finding.centre, finding.extent)
        start = time.perf_counter()
        slicer.util.forceRenderAllViews()
        seconds.append(time.perf_counter() - start)
        common.pause(0.05)
    return milliseconds(seconds)


def list_scrolled(tab: Any) -> str:
    """The list of findings scrolled from top to end in steps of a page."""
    bar = tab.list.table.verticalScrollBar()
    with common.Gaps() as gaps:
        for value in range(0, int(bar.maximum) + 1, max(1, int(bar.maximum) // 60)):
            bar.value = value
            common.pause(0.01)
    return gaps.worst(1)


def check_review_next_large_case(session: Session) -> str:
    """Ctrl+N saves, and the next case of 512x512x300 is there in under 2 s, since it was read ahead."""
    session.widget  # noqa: B018  (opens the module, which makes its packages importable)
    import SimpleITK as sitk

    from medseg.geometry.grid import Grid
    from medseg.output.files import save_segmentation
    from medseg.result import Layer, SegmentClass

    busy = common.busy()
    shape = (300, 512, 512)
    grid = Grid(shape[::-1], (0.5, 0.5, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    labels = np.zeros(shape, np.uint8)
    for n in range(20):
        labels[20 + 12 * n : 24 + 12 * n, 100 + 10 * n : 110 + 10 * n, 200:210] = 1
    noise = np.random.default_rng(0).integers(0, 200, shape[1:]).astype(np.int16)
    with tempfile.TemporaryDirectory() as name, kept_apart(session) as tab:
        folder = Path(name)
        for n in range(3):
            array = np.ascontiguousarray(np.broadcast_to(noise, shape)) + 300 * labels.astype(np.int16)
            image = sitk.GetImageFromArray(array)
            grid.place(image)
            sitk.WriteImage(image, str(folder / f"case{n}.nrrd"))
            classes = (SegmentClass(1, "lesion", (0.84, 0.37, 0.0), "", True),)
            save_segmentation(folder / f"case{n}_mask.seg.nrrd", [Layer(labels, classes)], grid)
        true(tab.cases.open_files(str(folder)), f"no cases: {session.errors}")
        hands = Hands(tab)
        seconds, gaps_seen = [], []
        hands.press("Ctrl+N")
        true(common.wait(lambda: tab.reviewing is not None, 60), f"the first case did not open: {tab.ui.status.text}")
        reader = tab.cases.session._cases
        for n in (1, 2):
            hands.press("A")
            true(common.wait(lambda: reader._ahead is not None and reader._ahead.over, 60), "nothing was read ahead")
            common.pause(0.5)
            with common.Gaps() as gaps:
                start = time.perf_counter()
                hands.press("Ctrl+N", opened(tab, n))
                slicer.util.forceRenderAllViews()
                seconds.append(time.perf_counter() - start)
                common.pause(0.5)
            gaps_seen.append(gaps.worst(2))
        common.picture("review-15-next-case")
        hands.press("Ctrl+P", opened(tab, 1))
    told = f"next case after {', '.join(f'{s:.2f} s' for s in seconds)}; gaps {' / '.join(gaps_seen)}"
    true(min(seconds) < (4.0 if busy else 2.0), told)
    return told + (f" ({busy})" if busy else "")


def opened(tab: Any, number: int) -> Callable[[], bool]:
    """Whether case ``number`` is open."""
    return lambda: tab.reviewing is not None and tab.cases.session.current == number
