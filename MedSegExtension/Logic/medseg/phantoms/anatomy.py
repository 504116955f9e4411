"""A drawn head: tissue codes on a grid, shared by the CT and MR phantoms.

Coordinates are millimetres in the head's own axes: x to the Left, y to Posterior, z to Superior, zero near the third
ventricle. The grid's index axes are taken to be these axes, so an oblique grid is a tilted head with slices planned
along it, as a technician plans them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .fields import Array, ellipsoid, smooth_noise, tube

AIR, SKIN, FAT, OUTER_TABLE, DIPLOE, CSF, GREY, WHITE, DEEP_GREY, VENTRICLE = range(10)
DURA, CEREBELLUM, STEM, CALCIFIED, GLOBE, ORBIT_FAT, MUSCLE, SINUS_AIR = range(10, 18)
TISSUES = 18


@dataclass(frozen=True, eq=False)
class Head:
    """Tissue codes and the fields that lesions are placed with, all (K, J, I).

    ``depth``: mm below the brain's surface, negative outside. ``ventricle``: mm outside the lateral ventricles.
    ``x, y, z``: head coordinates before, ``xw``: x after the mass effect. ``folds``: the field whose zeros are sulci.
    """

    tissue: npt.NDArray[np.uint8]
    depth: Array
    ventricle: Array
    x: Array
    y: Array
    z: Array
    folds: Array
    size: float


def draw_head(
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    z_start: float,
    push: tuple[float, float, float, float] | None = None,
    atrophy: float | None = None,
) -> Head:
    """Draw a head on ``size`` voxels (i, j, k) of ``spacing`` mm, centred in plane, first slice at ``z_start`` mm.

    ``push``: (x, y, z, mm) of a mass that shifts the midline away from itself. ``atrophy``: 0 young to 1 old, widens
    sulci and ventricles; None draws it.
    """
    shape = (size[2], size[1], size[0])
    steps = (spacing[2], spacing[1], spacing[0])
    atrophy = float(rng.uniform(0, 1)) if atrophy is None else atrophy
    scale = float(rng.uniform(0.94, 1.05))
    shift = rng.uniform(-4, 4, 2)
    tilt = np.deg2rad(rng.uniform(-5, 5))
    x0 = ((np.arange(size[0]) - (size[0] - 1) / 2) * spacing[0] - shift[0]).astype(np.float32)[None, None, :]
    y0 = ((np.arange(size[1]) - (size[1] - 1) / 2) * spacing[1] - shift[1] + 4).astype(np.float32)[None, :, None]
    z = (z_start + np.arange(size[2]) * spacing[2]).astype(np.float32)[:, None, None] / np.float32(scale)
    x = np.asarray((np.cos(tilt) * x0 + np.sin(tilt) * y0) / scale + 1.6 * smooth_noise(shape, steps, 60, rng))
    y = np.asarray((np.cos(tilt) * y0 - np.sin(tilt) * x0) / scale + 1.6 * smooth_noise(shape, steps, 60, rng))

    # Head and brain as egg-shaped superellipsoids; below the base of the skull the head goes on as a cylinder.
    wide = float(rng.uniform(66, 71)) * (1 + 0.09 * np.tanh(y / 45))
    long = float(rng.uniform(82, 88))
    across, along = np.abs(x / wide), np.abs((y - 4) / long)
    in_plane = (across**2 * np.sqrt(across) + along**2 * np.sqrt(along)) ** np.float32(0.4)  # exponent 2.5
    up, down = float(rng.uniform(64, 70)), 66.0
    vertical = np.where(z > 0, np.maximum(z, 0) / up, np.minimum(z, 0) / down)
    depth = (1 - np.sqrt(in_plane**2 + vertical**2)) * 72
    outside = np.where(z > -20, depth, np.maximum(depth, (1 - np.sqrt(in_plane**2 + (20 / down) ** 2)) * 72))
    del in_plane
    bone = 6.0 + 1.0 * smooth_noise(shape, steps, 35, rng) + 1.5 * np.exp(-((np.abs(y) - 85) ** 2) / 400)
    scalp = 5.5 + 0.9 * smooth_noise(shape, steps, 45, rng)

    tissue = np.zeros(shape, np.uint8)
    tissue[outside > -(2 + bone + scalp)] = SKIN
    tissue[outside > -(0.6 + bone + scalp)] = FAT
    tissue[outside > -(3.2 + bone)] = MUSCLE
    tissue[outside > -(1.8 + bone)] = OUTER_TABLE
    tissue[outside > -bone] = DIPLOE
    tissue[outside > -2.6] = OUTER_TABLE
    if z.min() < -20:
        tissue[(z < -20) & (depth < -7) & (outside > -8) & (z < -30 + 12 * (y > 20))] = MUSCLE
        _draw_base(tissue, x, y, z, outside, smooth_noise(shape, steps, 6, rng))

    # Inside the skull.
    inner = x
    if push is not None:
        inner = x + push[3] * np.sign(push[0]) * np.exp(
            -(((x - push[0]) / 55) ** 2 + ((y - push[1]) / 60) ** 2 + ((z - push[2]) / 40) ** 2)
        )
    folds = smooth_noise(shape, steps, 10, rng, band=True)
    brain = (depth > -1.0) & (tissue != SINUS_AIR) & (tissue != ORBIT_FAT) & (tissue != GLOBE)
    brain &= ~((z < -20) & (tissue == OUTER_TABLE) & (depth > -1.0) & _petrous(x, y, z))
    ventricle = _draw_brain(tissue, brain, depth, inner, y, z, folds, atrophy)
    return Head(tissue, depth, ventricle, x, y, np.broadcast_to(z, shape), folds, scale)


def _petrous(x: Array, y: Array, z: Array) -> npt.NDArray[np.bool_]:
    side = np.abs(x)
    wedge = tube(side, y, z, [(18, -8, -46, 5), (36, 6, -43, 8), (58, 20, -42, 12)]) < 0
    wing = tube(side, y, z, [(12, -36, -31, 4), (32, -40, -29, 3), (56, -36, -24, 3)]) < 0
    return np.asarray(wedge | wing | (ellipsoid(side, y, z, (0, -22, -46), (15, 17, 11))))


def _draw_base(tissue: npt.NDArray[np.uint8], x: Array, y: Array, z: Array, outside: Array, cells: Array) -> None:
    """Skull base and face: petrous bones with air cells, sphenoid and ethmoid sinuses, orbits, nose, neck muscle."""
    side = np.abs(x)
    low = (z < -20) & (outside > -1)
    petrous = _petrous(x, y, z) & (outside > -3)
    tissue[petrous] = OUTER_TABLE
    tissue[petrous & (side > 38) & (cells > 0.3)] = SINUS_AIR
    face = low & (y < -34 - 0.35 * (z + 28)) & (z < -24)
    tissue[face] = MUSCLE
    tissue[face & (cells > 1.1)] = OUTER_TABLE
    orbit = tube(side, y, z, [(19, -36, -33, 4), (31, -68, -34, 17)]) < 0
    tissue[(tube(side, y, z, [(19, -36, -33, 6), (31, -70, -34, 19.5)]) < 0) & low & (y > -78)] = OUTER_TABLE
    tissue[orbit & (outside > -12)] = ORBIT_FAT
    tissue[(tube(side, y, z, [(17, -36, -33, 2), (29, -62, -34, 2)]) < 0) & low] = MUSCLE
    tissue[ellipsoid(side, y, z, (31, -72, -34), (12, 12, 12))] = GLOBE
    ethmoid = (side < 10) & (y < -34) & (y > -74) & (z < -28) & low
    tissue[ethmoid & (np.abs(cells) > 0.25)] = SINUS_AIR
    tissue[(ellipsoid(side, y, z, (0, -24, -46), (10, 12, 8))) & (side > 0.8)] = SINUS_AIR
    tissue[(ellipsoid(side, y, z, (14, -80, -22), (12, 5, 12))) & (side > 1)] = SINUS_AIR


def _draw_brain(
    tissue: npt.NDArray[np.uint8],
    brain: npt.NDArray[np.bool_],
    depth: Array,
    x: Array,
    y: Array,
    z: Array,
    folds: Array,
    atrophy: float,
) -> Array:
    side = np.abs(x)
    wide = 1 + 0.5 * atrophy
    # Midline structures that the hemispheres' fissure does not cut (corpus callosum, thalami, brainstem).
    core = ellipsoid(x, y, z, (0, 4, 0), (32, 47, 27))
    tent = 3 - 0.62 * np.maximum(side - 6, 0) - 0.22 * np.maximum(y - 25, 0) - z
    posterior_fossa = (tent > 0) & (y > 0.45 * side)
    fade = np.clip(1 - depth / 24, 0, 1)
    sulcus = (np.abs(folds) < (0.02 + 0.24 * wide) * fade) & ~core
    fissure = (side < 0.8 + 0.6 * wide) & ~core
    grey = (depth < 2.6 + wide) | (np.abs(folds) < (0.85 + 0.1 * wide) * np.minimum(fade * 1.6, 1)) | (side < 4.5)

    code = np.full(tissue.shape, WHITE, np.uint8)
    code[grey & ~core] = GREY
    code[core & (ellipsoid(side, y, z, (15, -20, 9), (5.5, 11, 9)))] = DEEP_GREY
    code[core & (tube(side, y, z, [(23, -16, 1, 5), (28, 6, 2, 5)]) < 0)] = DEEP_GREY
    code[core & (ellipsoid(side, y, z, (10, 10, 3), (8.5, 13, 9)))] = DEEP_GREY
    code[(tube(side, y, z, [(38, -12, -6, 1.5), (39, 10, 6, 1.5)]) < 2.5) & ~posterior_fossa] = GREY
    code[sulcus] = CSF
    code[depth < 0.2 + 0.9 * wide] = CSF
    code[fissure] = CSF
    code[(side < 0.7) & ~core & (depth < 38) & (depth > -1)] = DURA
    sylvian = tube(side, y, z, [(14, -12, -20, 3), (40, -14, -12, 2.5), (44, 2, 0, 2.2), (52, 16, 10, 2)])
    code[sylvian < 1.2 * (wide - 1)] = CSF

    # Posterior fossa: cerebellum with folia under a tentorium, brainstem in its cisterns.
    code[posterior_fossa] = CEREBELLUM
    folia = np.abs(np.sin((z * 0.9 + 0.25 * y) * 0.9 + 1.5 * folds))
    code[posterior_fossa & (folia < 0.16) & (depth < 16)] = CSF
    code[posterior_fossa & (depth < 1.5)] = CSF
    code[(np.abs(tent) < 0.7) & (y > 12) & (side > 5)] = DURA
    code[(tube(x, y, z, [(0, 6, -22, 19), (0, 9, -34, 18), (0, 16, -75, 15)]) < 0) & (z < -8)] = CSF
    code[tube(x, y, z, [(0, 6, -14, 15), (0, 9, -32, 15), (0, 17, -75, 11)]) < 0] = STEM
    code[ellipsoid(x, y, z, (0, -12, -22), (12, 9, 8))] = CSF
    code[(ellipsoid(x, y, z, (0, 27, -10), (13, 5, 5)))] = CSF
    code[(np.abs(side - 11) < 3.5) & (y < 6) & (y > -5) & (z < -10) & (z > -26)] = STEM
    code[ellipsoid(x, y, z, (0, 26, -38), (8, 5, 10))] = VENTRICLE

    # Ventricles.
    big = 0.62 + 0.6 * atrophy
    lateral = tube(
        side, y, z,
        [(9, -38, 6, 3.6 * big), (8, -22, 13, 5.5 * big), (10, 4, 20, 5.5 * big), (22, 30, 11, 8 * big),
         (21, 54, 5, 3 * big)], reach=10,
    )  # fmt: skip
    horn = tube(side, y, z, [(22, 30, 11, 7 * big), (33, 12, -10, 2.6 * big), (29, -6, -18, 2.2 * big)])
    lateral = np.minimum(lateral, horn)
    code[(lateral < 0) & (side > 0.9)] = VENTRICLE
    third = ellipsoid(x, y, z, (0, 1, -2), (1.2 + 2.6 * big, 15, 10))
    code[third] = VENTRICLE
    code[(tube(side, y, z, [(16, 26, 13, 1.2), (24, 33, 9, 2.4)]) < 0)] = CALCIFIED
    code[ellipsoid(x, y, z, (0, 22, -1), (2, 2.5, 2.5))] = CALCIFIED
    tissue[brain] = code[brain]
    return lateral
