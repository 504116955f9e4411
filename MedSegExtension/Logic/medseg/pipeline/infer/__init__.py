"""Running a network over a prepared volume: slice by slice, whole, or in sliding windows."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import DeviceError
from ...model.manifest.schema import Manifest, Slicewise, SlidingWindow, WholeVolume
from ...monitor import Monitor
from ..preprocess.state import Prepared
from .blending import importance
from .fallback import Runner
from .score_maps import Keep, ScoreMaps, Scores, Store
from .slicewise import run_slicewise, slice_batch
from .sliding_window import run_sliding_window, window_plan, window_starts
from .tensors import Feeder, Network
from .whole import run_whole

__all__ = [
    "Feeder",
    "Network",
    "ScoreMaps",
    "Scores",
    "importance",
    "infer",
    "mirroring",
    "slice_batch",
    "window_plan",
    "window_starts",
]


def infer(
    manifest: Manifest,
    prepared: Prepared,
    session: Network,
    monitor: Monitor,
    *,
    batch: int | None = None,
    patch: tuple[int, int, int] | None = None,
    keep: Keep = "probabilities",
    mirror: bool = False,
) -> ScoreMaps | Scores:
    """Run the manifest's network over ``prepared.array`` (C, K, J, I) and return what it said, on ``prepared.grid``.

    ``batch`` (slices or windows at once) and ``patch`` (i, j, k; sliding windows only): None is the manifest's.
    ``mirror``: average over inputs mirrored along the manifest's ``mirror_axes``.
    ``keep="labels"`` keeps decisions only (argmax, or thresholded bits), a fraction of the memory.
    Segmentation gives `ScoreMaps`, classification `Scores` with one row a slice (slice-wise) or one row.

    Raises `ModelError` where shapes do not fit the manifest, `DeviceError` where memory does not suffice even on the
    CPU, `Cancelled` between network calls. All fallbacks are told by ``monitor.warn``.
    """
    try:
        return _infer(manifest, prepared, session, monitor, batch, patch, keep, mirror)
    except MemoryError as error:
        raise DeviceError(
            f"The computer's memory did not suffice to hold the classes of {prepared.grid}; close other programs, "
            "choose a region of interest, or run without probability maps."
        ) from error


def mirroring(axes: Sequence[int], wanted: bool) -> str:
    """Whether windows are also run mirrored along ``axes`` (0: i), and what that costs, as a sentence."""
    names, times = ", ".join("ijk"[a] for a in axes), 2 ** len(axes)
    if wanted:
        return f"Averaged over images mirrored along {names}: each window is run {times} times."
    return f"Mirrored images along {names} are not averaged (asked for, each window is run {times} times)."


def _infer(
    manifest: Manifest,
    prepared: Prepared,
    session: Network,
    monitor: Monitor,
    batch: int | None,
    patch: tuple[int, int, int] | None,
    keep: Keep,
    mirror: bool,
) -> ScoreMaps | Scores:
    plan = manifest.inference
    store = Store(manifest, prepared.grid, keep, monitor)
    possible = plan.mirror_axes if isinstance(plan, SlidingWindow) else []
    axes = possible if mirror else []
    if possible:
        monitor.note(mirroring(possible, mirror))
    elif mirror:
        monitor.warn(
            "This model does not say along which axes it was trained on mirrored images; nothing was mirrored."
        )
    if isinstance(plan, WholeVolume):
        return run_whole(plan, prepared, Runner(manifest, session, monitor, 1), store)
    runner = Runner(manifest, session, monitor, batch or plan.batch, axes, may_grow=batch is None)
    if isinstance(plan, Slicewise):
        return run_slicewise(plan, prepared, runner, store)
    return run_sliding_window(plan, patch, prepared, runner, store)
