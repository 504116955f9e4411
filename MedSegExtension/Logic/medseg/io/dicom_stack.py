"""Slices with positions -> a regular orthogonal grid.

Slices are ordered by their position along the normal, never by instance number or file name. Where they lie on a
regular orthogonal grid, the array is theirs. Where they do not (gantry tilt shears the stack, gaps are uneven or slices
are missing), the volume is interpolated linearly onto a regular grid in which every voxel is at its true place, and
the acquired slices are kept beside it with their own grids (`SliceStack`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import SliceStack
from ._common import Array

Vector = npt.NDArray[np.float64]

# A stack counts as regular where no slice is further than this from its place on the regular grid.
_GAP_TOLERANCE = 0.02  # of the gap, along the normal
_SHIFT_TOLERANCE = 0.1  # of a pixel, in the plane
_PARALLEL = 1e-3  # radians between slices of one stack (0.06 degrees)


@dataclass(frozen=True, eq=False)
class Slice:
    """``pixels`` (J, I). ``position``: LPS mm of its first pixel; ``row``, ``column``: unit vectors along i and j.

    ``spacing``: along i and along j in mm. ``facts``: what may set it apart from others at its place, by DICOM keyword.
    """

    pixels: Array
    position: Vector
    row: Vector
    column: Vector
    spacing: tuple[float, float]
    thickness: float | None
    uid: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice, from its row to its column by the right hand."""
        return _axes(self)[:, 2]


@dataclass(frozen=True, eq=False)
class Lie:
    """How slices in order lie. ``heights``: mm along the normal; ``in_plane``: (K, 2) mm of shift along i and j.

    ``spacing``: mm between pixels along i and j.
    """

    heights: Vector
    in_plane: Vector
    spacing: tuple[float, float]

    @property
    def gaps(self) -> Vector:
        """Distances of neighbours along the normal in mm."""
        return np.diff(self.heights)

    @property
    def uneven(self) -> bool:
        """Whether a slice is not at its place of an even spacing."""
        if len(self.heights) < 2:
            return False
        gap = float(self.gaps.mean())
        even = self.heights[0] + gap * np.arange(len(self.heights))
        return bool(np.abs(self.heights - even).max() > _GAP_TOLERANCE * gap)

    @property
    def sheared(self) -> bool:
        """Whether slices are shifted in the plane."""
        return bool(np.abs(self.in_plane / self.spacing).max() > _SHIFT_TOLERANCE)

    @property
    def regular(self) -> bool:
        """Whether the slices are a volume as they are."""
        return not self.uneven and not self.sheared


def lie(slices: list[Slice]) -> Lie:
    """How ``slices``, which are in order, lie."""
    axes = _axes(slices[0])
    heights = np.array([float(s.position @ axes[:, 2]) for s in slices])
    in_plane = np.array([axes[:, :2].T @ (s.position - slices[0].position) for s in slices])
    return Lie(heights, in_plane, slices[0].spacing)


def build(
    slices: list[Slice], padding: float | None, name: str, tilt: float | None, warnings: list[str]
) -> tuple[Array, Grid, SliceStack | None]:
    """Array (K, J, I), its grid, and the acquired slices where the array had to be interpolated.

    ``padding``: the value outside the slices (the series' Pixel Padding Value), else the smallest value is taken.
    ``tilt``: Gantry/Detector Tilt in degrees, only reported. Findings are added to ``warnings``.
    """
    first = slices[0]
    slices = in_order(slices)
    check_stack(slices, name)
    found = lie(slices)
    if len(slices) == 1 and first.thickness is None:
        warnings.append(f"{name} is one slice without a thickness; 1 mm was assumed.")
    grid = volume_grid(slices)
    if len(slices) == 1:
        return first.pixels[np.newaxis], grid, None
    if found.uneven:
        warnings.append(_describe_gaps(found.gaps, found.heights, name))
    if found.sheared:
        warnings.append(_describe_shear(found.in_plane, found.heights, tilt, name))
    dtype = np.result_type(*[s.pixels.dtype for s in slices])
    if found.regular:
        return np.stack([s.pixels for s in slices]).astype(dtype, copy=False), grid, None
    if first.pixels.ndim != 2:
        raise InputError(f"{name} is a colour series whose slices are not on a regular grid; this is not supported.")
    pixels = np.stack([s.pixels for s in slices]).astype(dtype, copy=False)
    stack = SliceStack(pixels, slice_grids(slices), tuple(s.uid for s in slices))
    outside = float(stack.pixels.min()) if padding is None else padding
    array = _interpolated(stack, found, grid, outside)
    warnings.append(
        f"{name} was interpolated onto a regular grid of {'x'.join(map(str, grid.size))} voxels of "
        f"{' x '.join(f'{s:.4g}' for s in grid.spacing)} mm; networks that work on acquired slices are given those."
    )
    return array, grid, stack


def check_stack(slices: list[Slice], name: str) -> None:
    """Raise `InputError` where ``slices``, which are in order, are not one stack: other sizes, spacings, places."""
    _check_alike(slices, name)
    found = lie(slices)
    _check_duplicates(found.heights, found.gaps, name)


def in_order(slices: list[Slice]) -> list[Slice]:
    """The slices by their position along the normal of the first, as the array of `build` has them."""
    normal = _axes(slices[0])[:, 2]
    return sorted(slices, key=lambda s: float(s.position @ normal))


def _axes(one: Slice) -> npt.NDArray[np.float64]:
    """Orthonormal columns i, j, k nearest to the slice's own row and column; k = i x j."""
    column = one.column - one.row * float(one.row @ one.column)
    column /= np.linalg.norm(column)
    return np.stack([one.row, column, np.cross(one.row, column)], axis=1)


def _check_alike(slices: list[Slice], name: str) -> None:
    first = slices[0]
    shapes = sorted({s.pixels.shape for s in slices})
    if len(shapes) > 1:
        sizes = ", ".join(f"{shape[1]}x{shape[0]}" for shape in shapes)
        raise InputError(f"{name} has slices of different sizes ({sizes}); give a folder with one stack of them.")
    if any(np.abs(np.subtract(s.spacing, first.spacing)).max() > 1e-3 * min(first.spacing) for s in slices):
        raise InputError(f"{name} has slices of different pixel spacing; give a folder with one stack of them.")
    turned = [s for s in slices if max(_angle(s.row, first.row), _angle(s.column, first.column)) > _PARALLEL]
    if turned:
        raise InputError(
            f"{name} has slices in several orientations ({len(turned)} of {len(slices)} are not parallel to the first: "
            "a localizer or several stacks); give a folder with one stack of them."
        )


def _angle(one: Vector, other: Vector) -> float:
    return float(np.linalg.norm(one - other))


def _check_duplicates(heights: Vector, gaps: Vector, name: str) -> None:
    """Slices at one place cannot be stacked: two images are one too many, and which is meant is not guessed."""
    if len(heights) < 2:
        return
    same = gaps < 1e-3
    if not same.any():
        return
    places = int((~same).sum()) + 1
    if places * 2 <= len(heights) and len(heights) % places == 0:
        raise InputError(
            f"{name} has {len(heights)} images at {places} positions, {len(heights) // places} at each, and nothing in "
            "them tells times, echoes or b-values apart; export one of them as a series of its own."
        )
    where = ", ".join(f"{h:.2f}" for h in heights[:-1][same][:5])
    raise InputError(
        f"{name} has {int(same.sum())} slices at the same position as another (at {where} mm along the normal); "
        "remove the ones that are not wanted."
    )


def faults(slices: list[Slice]) -> tuple[str, ...]:
    """What is wrong with the stack in few words: tilt, gaps, missing slices."""
    found, said = lie(slices), []
    if found.sheared:
        extent = float(np.linalg.norm(found.in_plane[-1]))
        said.append(f"tilted by {np.degrees(np.arctan2(extent, found.heights[-1] - found.heights[0])):.1f} degrees")
    if found.uneven:
        gaps = found.gaps
        said.append(f"gaps of {gaps.min():.3g} to {gaps.max():.3g} mm")
    return tuple(said)


def _describe_gaps(gaps: Vector, heights: Vector, name: str) -> str:
    """Runs of equal gaps, and how many slices are missing where a gap is a multiple of the usual one."""
    median = float(np.median(gaps))
    runs: list[list[float]] = []
    for gap in gaps:
        if runs and abs(runs[-1][1] - gap) <= _GAP_TOLERANCE * median:
            runs[-1][0] += 1
        else:
            runs.append([1, float(gap)])
    listed = ", ".join(f"{int(count)} x {gap:.4g}" for count, gap in runs[:8]) + (", ..." if len(runs) > 8 else "")
    text = f"{name}: its {len(gaps) + 1} slices are unevenly spaced (gaps along the normal: {listed} mm)"
    multiples = gaps / median
    missing = np.rint(multiples) - 1
    holes = (missing >= 1) & (np.abs(multiples - np.rint(multiples)) < 0.05)
    if holes.any() and not (np.abs(multiples[~holes] - 1) > 0.05).any():
        where = ", ".join(f"{heights[n]:.2f} and {heights[n + 1]:.2f}" for n in np.flatnonzero(holes)[:5])
        count = int(missing[holes].sum())
        text += f"; {count} {'slice is' if count == 1 else 'slices are'} missing (between {where} mm)"
    return text + "."


def _describe_shear(in_plane: Vector, heights: Vector, tilt: float | None, name: str) -> str:
    extent = float(np.linalg.norm(in_plane[-1]))
    angle = float(np.degrees(np.arctan2(extent, heights[-1] - heights[0])))
    stated = "" if tilt is None else f"; the header says {abs(float(tilt)):.1f}"
    return (
        f"{name} is sheared: its slices shift by {extent:.1f} mm in the plane over the stack, "
        f"a gantry tilt of {angle:.1f} degrees{stated}."
    )


def slice_grids(slices: list[Slice]) -> tuple[Grid, ...]:
    """The one-slice grid of each of ``slices``, which are in order: true position, and its own thickness."""
    axes, gaps = _axes(slices[0]), lie(slices).gaps
    grids = []
    for n, one in enumerate(slices):
        near = gaps[max(n - 1, 0) : n + 1]
        thickness = one.thickness or (float(near.min()) if near.size else 1.0)
        size = (one.pixels.shape[1], one.pixels.shape[0], 1)
        grids.append(Grid(size, (*one.spacing, thickness), _xyz(one.position), axes))
    return tuple(grids)


def volume_grid(slices: list[Slice]) -> Grid:
    """The grid of the volume that `build` makes of ``slices``, which are in order."""
    first, axes, found = slices[0], _axes(slices[0]), lie(slices)
    rows, columns = first.pixels.shape[:2]
    if len(slices) == 1:
        return Grid((columns, rows, 1), (*first.spacing, first.thickness or 1.0), _xyz(first.position), axes)
    if found.regular:
        step = float(found.gaps.mean())
        return Grid((columns, rows, len(slices)), (*first.spacing, step), _xyz(first.position), axes)
    spacing, gap = np.array(first.spacing), float(np.median(found.gaps))
    low, extra = _margins(found.in_plane / spacing)
    count = int(np.floor((found.heights[-1] - found.heights[0]) / gap + 0.5)) + 1
    origin = np.array(first.position) + axes[:, :2] @ (low * spacing)
    return Grid((columns + extra[0], rows + extra[1], count), (*first.spacing, gap), _xyz(origin), axes)


def _margins(offsets: Vector) -> tuple[Vector, tuple[int, int]]:
    """Least offset in whole pixels (i, j), and how many pixels all slices together need beyond one slice's."""
    low = np.floor(offsets.min(axis=0) + 1e-6)
    extra = np.ceil(offsets.max(axis=0) - low - 1e-6).astype(int)
    return low, (int(extra[0]), int(extra[1]))


def _interpolated(stack: SliceStack, found: Lie, grid: Grid, outside: float) -> Array:
    """Linear interpolation of the slices onto ``grid``, the orthogonal one that holds all of them.

    In the plane each slice is shifted by its true offset; between slices the two neighbours are weighted by distance.
    Where only one neighbour reaches (the stack is sheared), the nearer slice decides: its value, or ``outside``.
    """
    heights = found.heights
    offsets = found.in_plane / np.array(grid.spacing[:2])  # (K, 2) in pixels along i, j
    low, _ = _margins(offsets)
    count, *shape = grid.shape
    integer = np.issubdtype(stack.pixels.dtype, np.integer)
    array = np.empty(grid.shape, stack.pixels.dtype)
    placed: dict[int, Array] = {}
    for k in range(count):
        at = heights[0] + k * grid.spacing[2]
        upper = int(np.clip(np.searchsorted(heights, at, side="right"), 1, len(heights) - 1))
        lower = upper - 1
        weight = float(np.clip((at - heights[lower]) / (heights[upper] - heights[lower]), 0, 1))
        for n in (lower, upper):
            if n not in placed:
                placed[n] = _place(stack.pixels[n], offsets[n] - low, (shape[0], shape[1]))
        placed = {n: placed[n] for n in (lower, upper)}  # only the two neighbours are held
        one, other = placed[lower], placed[upper]
        blend = one * (1 - weight) + other * weight
        nearer = one if weight < 0.5 else other
        blend = np.where(np.isnan(blend), nearer, blend)
        blend = np.where(np.isnan(blend), outside, blend)
        array[k] = np.rint(blend) if integer else blend
    return array


def _place(pixels: Array, offset: Vector, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """A slice shifted by ``offset`` pixels (i, j; fractions by linear interpolation) on ``shape``; NaN outside it."""
    out = pixels.astype(np.float64)
    start = [0, 0]
    for axis, n in ((0, 1), (1, 0)):  # numpy axis, component of offset
        whole = int(np.floor(offset[n] + 1e-6))
        part = float(offset[n]) - whole
        start[axis] = whole
        if part > 1e-6:
            before, after = np.delete(out, -1, axis), np.delete(out, 0, axis)
            # the first target pixel inside the slice lies between its first and second pixel
            out = after * (1 - part) + before * part
            start[axis] = whole + 1
    placed = np.full(shape, np.nan)
    placed[start[0] : start[0] + out.shape[0], start[1] : start[1] + out.shape[1]] = out
    return placed


def _xyz(values: Vector) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
