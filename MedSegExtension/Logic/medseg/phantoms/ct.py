"""Head CT phantom with the five kinds of intracranial haemorrhage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from . import anatomy as t
from .anatomy import Head, draw_head
from .fields import Array, smooth_noise
from .phantom import Phantom

#: Order of the RSNA challenge after "any"; the label of each is its position plus 1.
HAEMORRHAGES = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural")

_HU = np.zeros(t.TISSUES, np.float32)
for _tissue, _value in {
    t.AIR: -1000, t.SKIN: 40, t.FAT: -85, t.OUTER_TABLE: 1350, t.DIPLOE: 680, t.CSF: 7, t.GREY: 38, t.WHITE: 29,
    t.DEEP_GREY: 38, t.VENTRICLE: 5, t.DURA: 52, t.CEREBELLUM: 35, t.STEM: 31, t.CALCIFIED: 150, t.GLOBE: 14,
    t.ORBIT_FAT: -90, t.MUSCLE: 52, t.SINUS_AIR: -950,
}.items():  # fmt: skip
    _HU[_tissue] = _value


def head_ct(
    seed: int,
    *,
    bleeds: Sequence[str] | None = None,
    size: tuple[int, int, int] = (320, 320, 30),
    spacing: tuple[float, float, float] = (0.72, 0.72, 5.0),
    noise_hu: float = 3.5,
) -> Phantom:
    """Axial head CT in HU, int16, LPS grid; labels 1..5 are `HAEMORRHAGES`.

    ``bleeds``: which haemorrhages to draw (names of `HAEMORRHAGES`; an empty list for none); None draws none to two
    by the seed. ``size``: voxels (i, j, k), ``spacing``: mm. Raises `InputError` for an unknown bleed.
    """
    rng = np.random.default_rng([seed, 11])
    if bleeds is None:
        count = int(rng.choice([0, 1, 2], p=[0.35, 0.45, 0.2]))
        bleeds = [str(name) for name in rng.choice(HAEMORRHAGES, count, replace=False)]
    unknown = [name for name in bleeds if name not in HAEMORRHAGES]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a haemorrhage; choose among {', '.join(HAEMORRHAGES)}.")

    side = int(rng.choice([-1, 1]))
    angle = float(rng.uniform(-0.9, 0.9))
    level = float(rng.uniform(2, 34))
    surface = (side * 66 * np.cos(angle), 84 * np.sin(angle), level)
    mass = float(rng.uniform(2, 8)) if {"epidural", "subdural"} & set(bleeds) else 0.0
    z_start = -0.5 * size[2] * spacing[2] + 12
    head = draw_head(size, spacing, rng, z_start=z_start, push=(*surface, mass) if mass else None)
    shape, steps = head.tissue.shape, (spacing[2], spacing[1], spacing[0])

    hu = _HU[head.tissue]
    inside = head.depth > -1
    hu += np.where(inside, 1.0, 5.0).astype(np.float32) * smooth_noise(shape, steps, 9, rng)
    labels = np.zeros(shape, np.uint8)
    rough = smooth_noise(shape, steps, 10, rng)
    for name in HAEMORRHAGES:  # fixed order, so that later ones do not depend on how the caller sorted them
        if name in bleeds:
            _bleed(name, hu, labels, head, rough, surface, rng)

    # Beam hardening: brighter rim under the bone, a dark bar between the petrous bones.
    hu += np.where(head.depth > 0, 5 * np.exp(-np.maximum(head.depth, 0) / 5), 0)
    hu -= 9 * np.exp(-(((head.z + 44) / 9) ** 2) - ((head.y - 6) / 9) ** 2) * (np.abs(head.x) < 40)
    if z_start < 60:
        _headrest(hu, size, spacing)
    blur = 0.55 / spacing[0]
    hu = ndimage.gaussian_filter(hu, (0.25, blur, blur))
    grain = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0, 0.65, 0.65))
    hu += noise_hu * grain / max(float(grain.std()), 1e-6)
    pixels = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)

    slice_labels = np.zeros((shape[0], 6), np.uint8)
    for value in range(1, 6):  # a bleed of less than 15 mm2 on a slice would not be read on that slice
        slice_labels[:, value] = (labels == value).sum(axis=(1, 2)) * spacing[0] * spacing[1] >= 15
    slice_labels[:, 0] = slice_labels[:, 1:].any(axis=1)
    origin = (-(size[0] - 1) / 2 * spacing[0], -(size[1] - 1) / 2 * spacing[1], z_start)
    tags = {"BitsStored": 16, "PixelRepresentation": 1, "RescaleSlope": 1.0, "RescaleIntercept": 0.0}
    volume = Volume(pixels, Grid(size, spacing, origin, np.eye(3)), "CT", f"phantom head CT {seed}", tags)
    return Phantom(volume, labels, {n + 1: name for n, name in enumerate(HAEMORRHAGES)}, slice_labels)


def _bleed(
    name: str,
    hu: Array,
    labels: npt.NDArray[np.uint8],
    head: Head,
    rough: Array,
    surface: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    """Draw one haemorrhage into ``hu`` and ``labels``."""
    x, y, z, depth = head.x, head.y, head.z, head.depth
    brain = (depth > -1.2) & (head.tissue >= t.CSF) & (head.tissue <= t.STEM)
    value = float(rng.uniform(58, 76))
    density = value + 2.5 * rough
    if name == "epidural":  # a ball pressed against the inner table: biconvex
        ball, thick = float(rng.uniform(34, 48)), float(rng.uniform(12, 24))
        normal = np.array([surface[0] / 66**2, surface[1] / 84**2, surface[2] / 66**2])
        shrink = np.sqrt((surface[0] / 68) ** 2 + (surface[1] / 86) ** 2 + (surface[2] / 67) ** 2)
        center = np.array(surface) / shrink + normal / np.linalg.norm(normal) * (ball - thick)
        distance = np.sqrt((x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2)
        where = brain & (distance < ball + 0.6 * rough)
    elif name == "subdural":  # a crescent along one hemisphere
        thick, reach = float(rng.uniform(6, 14)), float(rng.uniform(0.75, 1.2))
        around = np.arctan2(y / 84, np.abs(x) / 66) - np.arcsin(np.clip(surface[1] / 84, -0.9, 0.9)) * 0.5
        tall = np.clip(1 - ((z - surface[2]) / float(rng.uniform(34, 48))) ** 2, 0, 1)
        width = thick * np.clip(1 - (around / reach) ** 2, 0, 1) ** 0.6 * tall**0.5 + 0.5 * rough - 0.8
        where = (
            brain & (depth < width) & (width > 1) & (np.sign(x) == np.sign(surface[0])) & (np.abs(x) > 3) & (z > -14)
        )
        if rng.random() < 0.25:  # subacute: less dense
            density = density - 14
    elif name == "intraparenchymal":
        deep = rng.random() < 0.5
        side = float(rng.choice([-1, 1]))
        if deep:
            center = np.array([side * rng.uniform(20, 28), rng.uniform(-12, 12), rng.uniform(0, 12)])
        else:
            lobe = rng.uniform(-1.1, 1.1)
            center = np.array([side * 42 * np.cos(lobe), 56 * np.sin(lobe), rng.uniform(5, 36)])
        radii = rng.uniform(8, 20) * rng.uniform(0.8, 1.25, 3)
        radius = np.sqrt(sum(((c - m) / r) ** 2 for c, m, r in zip((x, y, z), center, radii, strict=True)))
        radius = radius + 0.11 * rough
        tissue = brain & (depth > 2)
        oedema = tissue & (radius < 1 + float(rng.uniform(3, 8)) / radii.mean()) & (head.tissue != t.CSF)
        hu[oedema] -= 11
        where = tissue & (radius < 1)
    elif name == "intraventricular":  # blood settles posteriorly, or a cast
        ventricle = head.tissue == t.VENTRICLE
        if rng.random() < 0.5:
            where = ventricle & (y > float(rng.uniform(0, 22)) + 1.2 * rough)
        else:
            where = ventricle & (rough > -1.2)
            if rng.random() < 0.5:
                where &= np.sign(x) == rng.choice([-1, 1])
    else:  # subarachnoid: cisterns, Sylvian fissures and the sulci of a region
        fluid = (head.tissue == t.CSF) & (depth > 0.2)
        region = np.exp(-(((x - surface[0] * 0.5) / 42) ** 2) - ((y - surface[1] * 0.4 + 10) / 42) ** 2)
        region = region * np.exp(-(((z + float(rng.uniform(-22, 12))) / 24) ** 2))
        where = fluid & (region > 0.28 + 0.06 * rough)
        density = float(rng.uniform(52, 66)) + 2.5 * rough
    where = where & (labels == 0)
    hu[where] = density[where]
    labels[where] = HAEMORRHAGES.index(name) + 1


def _headrest(hu: Array, size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    x = (np.arange(size[0]) - (size[0] - 1) / 2)[None, :] * spacing[0]
    y = (np.arange(size[1]) - (size[1] - 1) / 2)[:, None] * spacing[1]
    ring = np.abs(np.sqrt((x / 1.05) ** 2 + (y + 6) ** 2) - 109) < 1.0
    rest = ring & (y > 30)
    hu[:, rest] = np.maximum(hu[:, rest], 120)
