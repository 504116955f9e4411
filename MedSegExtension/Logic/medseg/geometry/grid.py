"""The sampling grid of a volume: size, spacing, origin and direction in LPS millimetres.

Every spatial step maps a grid to a grid, so one inverse serves them all: resample from the network's grid
onto the input's grid by physical position (`medseg.geometry.resample`). Index axes are called ``i, j, k`` (ITK order);
numpy arrays on a grid have the shape ``(K, J, I)``. No index axis is assumed to be an anatomical axis: ask
`Grid.axis_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Vector = tuple[float, float, float]
Index = tuple[int, int, int]
FloatArray = npt.NDArray[np.float64]

# LPS axis 0 (x) grows to the Left, 1 (y) to Posterior, 2 (z) to Superior.
_POSITIVE = "LPS"
_NEGATIVE = "RAI"
_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_PLANE_NORMAL = {"sagittal": 0, "coronal": 1, "axial": 2}
_CODE_TO_SIGNED_AXIS = {
    **{letter: (axis, 1) for axis, letter in enumerate(_POSITIVE)},
    **{letter: (axis, -1) for axis, letter in enumerate(_NEGATIVE)},
}


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular 3D lattice of voxel centres in LPS millimetres.

    ``size``: voxels along i, j, k. ``spacing``: mm between centres. ``origin``: LPS position of voxel (0, 0, 0).
    ``direction``: 3x3, column a is the unit vector of index axis a in LPS.

    Raises `InputError` for non-positive size or spacing, non-finite numbers, and singular directions.
    """

    size: Index
    spacing: Vector
    origin: Vector
    direction: FloatArray

    def __post_init__(self) -> None:
        size = tuple(int(n) for n in self.size)
        spacing = tuple(float(s) for s in self.spacing)
        origin = tuple(float(o) for o in self.origin)
        direction = np.array(self.direction, dtype=float).reshape(3, 3)
        if len(size) != 3 or min(size) < 1:
            raise InputError(f"The grid size {size} is not three positive numbers.")
        if len(spacing) != 3 or not np.all(np.isfinite(spacing)) or min(spacing) <= 0:
            raise InputError(f"The voxel spacing {spacing} mm is not positive and finite; correct the file's header.")
        if not np.all(np.isfinite(origin)) or not np.all(np.isfinite(direction)):
            raise InputError("The origin or direction of the grid has values that are not finite numbers.")
        norms = np.linalg.norm(direction, axis=0)
        if np.any(norms < 1e-6) or abs(np.linalg.det(direction / np.where(norms == 0, 1, norms))) < 1e-3:
            raise InputError(
                "The direction matrix is singular (two axes point the same way or one is zero), "
                "so voxels have no position in the patient; correct the file's header."
            )
        # ITK inverts directions by a decomposition that fails on denormal numbers; nothing that small is a direction.
        direction[np.abs(direction) < 1e-12] = 0.0
        direction.setflags(write=False)
        for name, value in (("size", size), ("spacing", spacing), ("origin", origin), ("direction", direction)):
            object.__setattr__(self, name, value)

    # -- construction ---------------------------------------------------------------------------------

    @classmethod
    def from_affine(cls, affine: npt.ArrayLike, size: Sequence[int]) -> Grid:
        """Grid from a 4x4 matrix that maps index (i, j, k, 1) to LPS millimetres."""
        matrix = np.asarray(affine, dtype=float)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if np.any(spacing == 0) or not np.all(np.isfinite(matrix)):
            raise InputError("The index-to-patient matrix has a zero or non-finite axis; correct the file's header.")
        return cls(_index(size), _vector(spacing), _vector(matrix[:3, 3]), matrix[:3, :3] / spacing)

    @classmethod
    def from_sitk(cls, image: Any) -> Grid:
        """Grid of a 3D ``SimpleITK.Image``."""
        direction = np.array(image.GetDirection(), dtype=float).reshape(3, 3)
        return cls(_index(image.GetSize()), _vector(image.GetSpacing()), _vector(image.GetOrigin()), direction)

    def place(self, image: Any) -> None:
        """Give a 3D ``SimpleITK.Image`` of this size the spacing, origin and direction of the grid."""
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction.ravel().tolist())

    # -- properties -----------------------------------------------------------------------------------

    @property
    def shape(self) -> Index:
        """Shape of a numpy array on this grid: (K, J, I)."""
        return (self.size[2], self.size[1], self.size[0])

    @cached_property
    def affine(self) -> FloatArray:
        """4x4 matrix from index (i, j, k, 1) to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def affine_ras(self) -> FloatArray:
        """4x4 matrix from index to RAS millimetres (3D Slicer's and NIfTI's world)."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def anatomical_axes(self) -> tuple[tuple[int, int], ...]:
        """For each index axis the (LPS axis, sign) that it follows most closely, one to one."""
        cosines = self.direction
        best = max(permutations(range(3)), key=lambda p: sum(abs(cosines[p[a], a]) for a in range(3)))
        return tuple((best[a], 1 if cosines[best[a], a] >= 0 else -1) for a in range(3))

    @property
    def orientation(self) -> str:
        """Three letters: the direction in which i, j and k grow (``LPS``, ``RAS``, ``LAS``, ...)."""
        return "".join((_POSITIVE if sign > 0 else _NEGATIVE)[axis] for axis, sign in self.anatomical_axes)

    @property
    def is_oblique(self) -> bool:
        """True where an axis leaves its anatomical direction by more than about 0.1 degree."""
        return any(abs(self.direction[axis, a]) < 1 - 2e-6 for a, (axis, _) in enumerate(self.anatomical_axes))

    def axis_of(self, plane: str) -> int:
        """Index axis (0 = i, 1 = j, 2 = k) normal to ``plane``: axial, coronal, sagittal or acquisition (= k)."""
        if plane == "acquisition":
            return 2
        wanted = _PLANE_NORMAL[plane]
        return next(a for a, (axis, _) in enumerate(self.anatomical_axes) if axis == wanted)

    # -- positions ------------------------------------------------------------------------------------

    def to_physical(self, index: npt.ArrayLike) -> FloatArray:
        """LPS millimetres of (fractional) indices, last axis (i, j, k)."""
        return np.asarray(np.asarray(index, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, physical: npt.ArrayLike) -> FloatArray:
        """Fractional indices (i, j, k) of LPS positions in millimetres."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(physical, dtype=float) @ inverse[:3, :3].T + inverse[:3, 3])

    def index_map_from(self, other: Grid) -> FloatArray:
        """4x4 matrix from an index on ``other`` to the (fractional) index on this grid at the same position."""
        return np.asarray(np.linalg.inv(self.affine) @ other.affine)

    # -- grids made from this one ---------------------------------------------------------------------

    def reoriented(self, code: str) -> Grid:
        """The same voxels with axes permuted and flipped so that `orientation` is ``code`` (i, j, k order)."""
        wanted = [_CODE_TO_SIGNED_AXIS[letter] for letter in code.upper()]
        if sorted(axis for axis, _ in wanted) != [0, 1, 2]:
            raise InputError(f"{code!r} is not an orientation code: one letter of L/R, P/A and S/I each is needed.")
        current = self.anatomical_axes
        start, columns, size, spacing = np.zeros(3), [], [], []
        for axis, sign in wanted:
            a = next(n for n, (has, _) in enumerate(current) if has == axis)
            flip = current[a][1] != sign
            start[a] = self.size[a] - 1 if flip else 0
            columns.append(self.direction[:, a] * (-1 if flip else 1))
            size.append(self.size[a])
            spacing.append(self.spacing[a])
        return Grid(_index(size), _vector(spacing), _vector(self.to_physical(start)), np.stack(columns, axis=1))

    def resized(self, size: Sequence[int], *, align_corners: bool = False) -> Grid:
        """The same extent with another number of voxels.

        ``align_corners=False`` keeps the outer voxel faces (the half-pixel convention of ITK, scikit-image and
        TensorFlow 2); ``True`` keeps the centres of the outer voxels.
        """
        new = np.array(_index(size), dtype=float)
        old = np.array(self.size, dtype=float)
        if align_corners:
            step = np.where(new > 1, (old - 1) / np.maximum(new - 1, 1), 1.0)
            step = np.where(step == 0, 1.0, step)
            start = np.zeros(3)
        else:
            step = old / new
            start = (step - 1) / 2
        return Grid(
            _index(size), _vector(np.array(self.spacing) * step), _vector(self.to_physical(start)), self.direction
        )

    def with_spacing(self, spacing: Sequence[float | None]) -> Grid:
        """Another spacing in mm (None keeps an axis); the extent is kept to the nearest whole voxel, centred."""
        new = np.array([old if s is None else float(s) for s, old in zip(spacing, self.spacing, strict=True)])
        old = np.array(self.spacing)
        size = np.maximum(1, np.floor(np.array(self.size) * old / new + 0.5)).astype(int)
        start = ((np.array(self.size) - 1) - (size - 1) * new / old) / 2
        return Grid(_index(size), _vector(new), _vector(self.to_physical(start)), self.direction)

    def along_patient_axes(self, spacing: Sequence[float | None]) -> Grid:
        """An axis-aligned grid of ``spacing`` mm (None keeps an axis) over this one's bounding box, same orientation.

        The same as `with_spacing` where this grid is not oblique.
        """
        if not self.is_oblique:
            return self.with_spacing(spacing)
        direction = np.zeros((3, 3))
        for a, (axis, sign) in enumerate(self.anatomical_axes):
            direction[axis, a] = sign
        new = np.array([old if s is None else float(s) for s, old in zip(spacing, self.spacing, strict=True)])
        faces = self.to_physical(_CORNERS * self.size - 0.5) @ direction
        low, high = faces.min(axis=0), faces.max(axis=0)
        size = np.maximum(1, np.floor((high - low) / new + 0.5)).astype(int)
        start = (low + high) / 2 - (size - 1) * new / 2
        return Grid(_index(size), _vector(new), _vector(direction @ start), direction)

    def cropped(self, start: Sequence[int], size: Sequence[int]) -> Grid:
        """Whole-voxel window of this lattice; it may reach outside (negative start, larger size), which pads."""
        return Grid(_index(size), self.spacing, _vector(self.to_physical(np.array(start, dtype=float))), self.direction)

    def slice(self, axis: int, position: int) -> Grid:
        """The one-voxel-thick grid of slice ``position`` along index axis ``axis``."""
        start, size = [0, 0, 0], list(self.size)
        start[axis], size[axis] = position, 1
        return self.cropped(start, size)

    # -- comparison -----------------------------------------------------------------------------------

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """True where sizes are equal and every corner lies within ``tolerance`` voxels of the other's."""
        if self.size != other.size:
            return False
        corners = _CORNERS * (np.array(self.size) - 1)
        return bool(np.abs(other.to_index(self.to_physical(corners)) - corners).max() <= tolerance)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.same_as(other, 1e-6)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        size = "x".join(str(n) for n in self.size)
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        return f"{size} voxels of {spacing} mm, {self.orientation}{' (oblique)' if self.is_oblique else ''}"


def _index(values: Sequence[int] | npt.NDArray[Any]) -> Index:
    i, j, k = (int(v) for v in values)
    return (i, j, k)


def _vector(values: Sequence[float] | npt.NDArray[Any]) -> Vector:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
