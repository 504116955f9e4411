"""FLAIR phantom with normal and abnormal white matter hyperintensities, SWI phantom with microbleeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.grid import Grid
from ..geometry.volume import Volume
from . import anatomy as t
from .anatomy import Head, draw_head
from .fields import Array, smooth_noise
from .phantom import Phantom


def _table(values: dict[int, float]) -> Array:
    table = np.zeros(t.TISSUES, np.float32)
    for tissue, value in values.items():
        table[tissue] = value
    return table


_FLAIR = _table({
    t.SKIN: 0.45, t.FAT: 1.0, t.OUTER_TABLE: 0.05, t.DIPLOE: 0.18, t.CSF: 0.09, t.GREY: 0.485, t.WHITE: 0.43,
    t.DEEP_GREY: 0.465, t.VENTRICLE: 0.05, t.DURA: 0.22, t.CEREBELLUM: 0.46, t.STEM: 0.44, t.CALCIFIED: 0.15,
    t.GLOBE: 0.08, t.ORBIT_FAT: 0.60, t.MUSCLE: 0.20, t.SINUS_AIR: 0.02, t.AIR: 0.0,
})  # fmt: skip
#: FLAIR slices are thick: each is the mean of this many thin ones, so that borders across them are blurred as in life.
_THIN = 3
_SWI = _table({
    t.SKIN: 0.5, t.FAT: 0.6, t.OUTER_TABLE: 0.10, t.DIPLOE: 0.30, t.CSF: 0.66, t.GREY: 0.62, t.WHITE: 0.54,
    t.DEEP_GREY: 0.50, t.VENTRICLE: 0.70, t.DURA: 0.35, t.CEREBELLUM: 0.58, t.STEM: 0.54, t.CALCIFIED: 0.12,
    t.GLOBE: 0.55, t.ORBIT_FAT: 0.6, t.MUSCLE: 0.4, t.SINUS_AIR: 0.03, t.AIR: 0.0,
})  # fmt: skip
#: Simplified regions of the microbleed anatomical rating scale, by tissue.
_REGION = {
    t.GREY: "cortex", t.WHITE: "subcortical white matter", t.DEEP_GREY: "deep grey matter", t.STEM: "brainstem",
    t.CEREBELLUM: "cerebellum",
}  # fmt: skip


def flair(
    seed: int,
    *,
    size: tuple[int, int, int] = (256, 256, 20),
    spacing: tuple[float, float, float] = (0.9, 0.9, 6.5),
    lesions: int | None = None,
) -> Phantom:
    """Axial FLAIR, uint16, on a slightly oblique grid; labels 1 normal (caps and rims), 2 abnormal hyperintensity.

    ``size``: voxels (i, j, k), ``spacing``: mm, ``lesions``: abnormal lesions to draw (None: 4 to 24 by the seed).
    """
    rng = np.random.default_rng([seed, 12])
    thin = (spacing[0], spacing[1], spacing[2] / _THIN)
    start = -0.5 * size[2] * spacing[2] + 10 - thin[2]
    head = draw_head((size[0], size[1], size[2] * _THIN), thin, rng, z_start=start)
    shape, steps = head.tissue.shape, (thin[2], thin[1], thin[0])
    image = _FLAIR[head.tissue] * (1 + 0.03 * smooth_noise(shape, steps, 8, rng))
    rough = smooth_noise(shape, steps, 7, rng)
    labels = np.zeros(shape, np.uint8)

    # Normal: a thin bright lining of the lateral ventricles, thicker at the tips of the horns.
    matter = (head.tissue == t.WHITE) | (head.tissue == t.DEEP_GREY)
    tips = np.exp(-(((head.y + 40) / 9) ** 2)) + np.exp(-(((head.y - 50) / 12) ** 2))
    rim = 0.7 + 1.3 * tips + 0.4 * rough
    normal = matter & (head.ventricle > 0) & (head.ventricle < rim)
    image[normal] = np.maximum(image[normal], 0.62 + 0.04 * rough[normal])
    labels[normal] = 1

    # Abnormal: deep and juxtacortical spots, and blobs that grow from the ventricles' wall.
    count = int(rng.integers(4, 25)) if lesions is None else lesions
    white = (head.tissue == t.WHITE) & (head.depth > 6) & (head.z > -12)
    near = white & (head.ventricle < 8) & (head.ventricle > 0)
    for number in range(count):
        pool = np.flatnonzero(near if number % 2 and near.any() else white)
        if not pool.size:
            break
        center = np.array(np.unravel_index(int(rng.choice(pool)), shape), dtype=float)
        mean = float(np.clip(rng.lognormal(1.25, 0.4), 2.2, 9))
        stretch = rng.uniform(0.7, 1.4, 3) * [1.3, 1, 1]
        box, distance = _around(center, 2.4 * mean, steps, shape, stretch)
        edge = distance / mean + 0.12 * rough[box]
        inside = (edge < 1) & matter[box]
        strength = float(rng.uniform(0.70, 0.88))
        soft = 1 / (1 + np.exp((edge - 1) / 0.12))  # half as bright at its border
        brighter = matter[box] & (soft > 0.02)
        blend = (1 - soft) * image[box] + soft * strength * (1 + 0.05 * rough[box])
        image[box][brighter] = np.maximum(image[box], blend)[brighter]
        labels[box][inside] = 2
    image = image.reshape(size[2], _THIN, size[1], size[0]).mean(axis=1)
    labels = _of_most(labels, size)
    image = _finish(image, (spacing[2], spacing[1], spacing[0]), rng, blur=0.65, noise=0.010, bias=0.10)
    pixels = np.rint(np.clip(image, 0, 2) * 9000).astype(np.uint16)
    tilt = np.deg2rad(rng.uniform(-14, 14))
    roll = np.deg2rad(rng.uniform(-2, 2))
    grid_ = _oblique(size, spacing, tilt, roll)
    return Phantom(Volume(pixels, grid_, "MR", f"phantom FLAIR {seed}"), labels, {1: "normal WMH", 2: "abnormal WMH"})


def swi(
    seed: int,
    *,
    size: tuple[int, int, int] = (184, 216, 80),
    spacing: tuple[float, float, float] = (0.95, 0.95, 1.5),
    microbleeds: int | None = None,
) -> Phantom:
    """Axial SWI, uint16; label 1 is microbleeds of 2 to 6 mm, listed in ``lesions`` with centre and region.

    Veins, calcified choroid plexus and iron-rich nuclei are drawn as mimics. ``size``: voxels (i, j, k), ``spacing``:
    mm, ``microbleeds``: how many (None: 0 to 14 by the seed).
    """
    rng = np.random.default_rng([seed, 13])
    head = draw_head(size, spacing, rng, z_start=-0.5 * size[2] * spacing[2] + 10)
    shape, steps = head.tissue.shape, (spacing[2], spacing[1], spacing[0])
    image = _SWI[head.tissue] * (1 + 0.03 * smooth_noise(shape, steps, 8, rng))
    matter = np.isin(head.tissue, list(_REGION)) & (head.depth > 2.5)
    image[(head.tissue == t.DEEP_GREY) & (np.abs(head.x) > 17) & (head.y > -14)] *= float(rng.uniform(0.72, 0.95))

    dark = np.ones(shape, np.float32)
    _veins(dark, head, matter, steps, rng)
    labels = np.zeros(shape, np.uint8)
    found: list[dict[str, Any]] = []
    origin_grid = _oblique(size, spacing, np.deg2rad(rng.uniform(-6, 6)), 0.0)
    # Not on a border of the tissue: a microbleed has brain around at least half of it.
    pool = np.flatnonzero(matter & (head.z > -50))
    count = int(rng.integers(0, 15)) if microbleeds is None else microbleeds
    for _ in range(count if pool.size else 0):
        k, j, i = (int(n) for n in np.unravel_index(int(rng.choice(pool)), shape))
        diameter = float(np.clip(rng.lognormal(1.2, 0.28), 2.0, 6.0))
        center = np.array([k, j, i]) + rng.uniform(-0.4, 0.4, 3)
        box, distance = _around(center, diameter / 2 + 2, steps, shape, stretch=rng.uniform(0.88, 1.14, 3))
        if labels[box].any():
            continue
        strength = float(rng.uniform(0.72, 0.95))
        dark[box] *= 1 - strength / (1 + np.exp((distance - diameter / 2) / 0.28))
        labels[box][distance <= diameter / 2] = 1
        region = _REGION[int(head.tissue[k, j, i])]
        lps = origin_grid.to_physical(center[::-1])
        found.append({"center": [float(c) for c in lps], "diameter_mm": diameter, "region": region})
    image *= dark
    # Signal lost above the sinuses and the petrous bones, as susceptibility does.
    loss = np.exp(-(((head.x) / 22) ** 2) - ((head.y + 55) / 22) ** 2 - ((head.z + 34) / 14) ** 2)
    image *= 1 - 0.85 * loss
    image = _finish(image, steps, rng, blur=0.5, noise=0.022, bias=0.10)
    pixels = np.rint(np.clip(image, 0, 2) * 1200).astype(np.uint16)
    return Phantom(Volume(pixels, origin_grid, "MR", f"phantom SWI {seed}"), labels, {1: "microbleed"}, lesions=found)


def _veins(
    dark: Array,
    head: Head,
    matter: npt.NDArray[np.bool_],
    steps: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Multiply dark curved tubes of 0.6 to 1.6 mm into ``dark``: medullary and cortical veins, then the sinuses."""
    shape = dark.shape
    starts = np.flatnonzero(matter | (head.tissue == t.CSF) & (head.depth > 1))
    for _ in range(int(rng.integers(60, 110)) if starts.size else 0):
        position = np.array(np.unravel_index(int(rng.choice(starts)), shape), dtype=float)
        # Medullary veins run towards the ventricles, so mostly towards the centre.
        heading = -(position - np.array(shape) / 2) * np.array(steps)
        heading = heading / max(float(np.linalg.norm(heading)), 1e-6) + 0.9 * rng.standard_normal(3)
        radius, strength = float(rng.uniform(0.45, 1.15)), float(rng.uniform(0.35, 0.8))
        trail = []
        for _ in range(int(rng.integers(12, 45))):
            heading = heading / max(float(np.linalg.norm(heading)), 1e-6) + 0.22 * rng.standard_normal(3)
            position = position + heading / max(float(np.linalg.norm(heading)), 1e-6) * 0.8 / np.array(steps)
            trail.append(position)
        points = np.array(trail)
        low = np.maximum(np.floor(points.min(0) - 3 / np.array(steps)).astype(int), 0)
        high = np.minimum(np.ceil(points.max(0) + 3 / np.array(steps)).astype(int) + 1, shape)
        if np.any(high <= low):
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        seeds = np.ones([b - a for a, b in zip(low, high, strict=True)], bool)
        index = np.rint(points - low).astype(int)
        index = index[np.all((index >= 0) & (index < seeds.shape), axis=1)]
        seeds[tuple(index.T)] = False
        if seeds.all():
            continue
        distance = ndimage.distance_transform_edt(seeds, sampling=steps)
        tube = 1 - strength / (1 + np.exp((distance - radius) / 0.3))
        dark[box] = np.where(head.depth[box] > 0.5, np.minimum(dark[box], tube), dark[box])
    sagittal = (np.abs(head.x) < 3.2) & (head.depth < 4.5) & (head.depth > -1) & (head.z > 5)
    dark[sagittal] *= 0.35
    dark[(np.abs(head.x) < 1.6) & (head.z > 10) & (head.z < 22) & (head.y > 10) & (head.y < 34)] *= 0.35


def _around(
    center: npt.NDArray[np.float64],
    reach: float,
    steps: tuple[float, float, float],
    shape: tuple[int, ...],
    stretch: npt.NDArray[np.float64],
) -> tuple[tuple[slice, ...], Array]:
    """The box of ``reach`` mm about a fractional voxel (k, j, i) and the distance in mm from it in that box."""
    low = np.maximum(np.floor(center - reach / np.array(steps) * 1.2).astype(int), 0)
    high = np.minimum(np.ceil(center + reach / np.array(steps) * 1.2).astype(int) + 1, shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    squared = sum(((g - c) * s / f) ** 2 for g, c, s, f in zip(np.ogrid[box], center, steps, stretch, strict=True))
    return box, np.sqrt(np.asarray(squared, dtype=np.float32))


def _of_most(labels: npt.NDArray[np.uint8], size: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Labels of thick slices: what most of the thin ones have."""
    thin = labels.reshape(size[2], _THIN, size[1], size[0])
    counts = np.stack([(thin == value).sum(axis=1) for value in range(3)])
    return np.asarray(counts.argmax(axis=0), dtype=np.uint8)


def _finish(
    image: Array, steps: tuple[float, float, float], rng: np.random.Generator, *, blur: float, noise: float, bias: float
) -> Array:
    """Point spread (``blur`` pixels in plane), coil bias (log-normal, head-sized) and Rician noise."""
    image = ndimage.gaussian_filter(image, (0.2, blur, blur))
    field = np.exp(bias * np.clip(smooth_noise(image.shape, steps, 110, rng), -2, 2))
    image = image * field
    real = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.sqrt(real**2 + imaginary**2), dtype=np.float32)


def _oblique(size: tuple[int, int, int], spacing: tuple[float, float, float], tilt: float, roll: float) -> Grid:
    """Axial LPS grid turned by ``tilt`` about x and ``roll`` about y (radians), centred at the world's origin."""
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    direction = about_x @ about_y
    half = (np.array(size) - 1) / 2 * np.array(spacing)
    x, y, z = -direction @ half
    return Grid(size, spacing, (float(x), float(y), float(z)), direction)
