"""Frontal chest X-ray phantom with lung truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..geometry.grid import Grid
from ..geometry.volume import Volume
from .fields import Array, smooth_noise
from .phantom import Phantom


def chest_xray(seed: int, *, size: int = 512, opacities: bool | None = None) -> Phantom:
    """Postero-anterior chest film, 8-bit values as uint8 (1, size, size), bright bones (MONOCHROME2).

    Labels: 1 lung on the image's left (the patient's right lung), 2 the patient's left lung. ``opacities``: patchy
    upper-zone consolidation and cavities as tuberculosis may show; None draws them in a third of the seeds. Pixels
    are on an identity grid (rows downwards, the patient's right on the image's left) of about 0.7 mm at size 512.
    """
    rng = np.random.default_rng([seed, 14])
    if opacities is None:
        opacities = bool(rng.random() < 1 / 3)
    shape = (1, size, size)
    unit = (1.0, 400 / size, 400 / size)  # the film is about 400 units wide, whatever its size in pixels
    waves = [smooth_noise(shape, unit, s, rng)[0] for s in (90, 90, 40, 16, 5)]
    grid_v, grid_u = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    turn = np.deg2rad(rng.uniform(-3, 3))
    zoom = float(rng.uniform(0.88, 1.12))
    u0 = (grid_u - 0.5 - float(rng.uniform(-0.03, 0.03))) / zoom
    v0 = (grid_v - 0.5 - float(rng.uniform(-0.05, 0.05))) / zoom
    u = (np.cos(turn) * u0 + np.sin(turn) * v0 + 0.006 * waves[0]).astype(np.float32)
    v = (np.cos(turn) * v0 - np.sin(turn) * u0 + 0.006 * waves[1] + 0.5).astype(np.float32)

    lungs, heart, abdomen = _lungs(u, v, rng)
    side = np.abs(u)
    # Path length through the body, in units where a thorax's soft tissue is about 1.
    waist = float(rng.uniform(0.44, 0.60)) - 0.04 * np.clip((v - 0.3) / 0.7, 0, 1)
    slope = 0.12 + 0.5 * np.clip((v + float(rng.uniform(-0.02, 0.06))) / 0.17, 0, 1) ** 1.2
    body = np.clip((np.minimum(waist, slope) - side) / float(rng.uniform(0.1, 0.25)), 0, 1) ** 0.5
    path = 0.95 * body * (1 + 0.12 * np.clip(v - 0.5, 0, 1))
    path += 0.45 * ndimage.gaussian_filter(abdomen, 0.006 * size) * body
    air = ndimage.gaussian_filter(lungs.astype(np.float32), 0.004 * size)
    path -= air * (0.52 + 0.05 * waves[2]) * (1 - 0.25 * (v - 0.45))

    # Mediastinum, aortic knob and heart; the heart lies to the patient's left (image right).
    path += 0.75 * np.exp(-((u / float(rng.uniform(0.045, 0.06))) ** 4)) * body
    path += 0.40 * ndimage.gaussian_filter(heart, 0.006 * size)
    path += 0.20 * _soft(1 - ((u - 0.06) / 0.045) ** 2 - ((v - 0.31) / 0.05) ** 2, 0.3)
    path -= 0.14 * np.exp(-((u / 0.016) ** 2)) * np.clip((0.33 - v) / 0.2, 0, 1)  # trachea
    vessels = np.abs(waves[3]) * np.exp(-(((side - 0.10) / 0.09) ** 2) - ((v - 0.46) / 0.14) ** 2)
    path += air * (0.16 * np.exp(-(((side - 0.085) / 0.028) ** 2) - ((v - 0.45) / 0.075) ** 2) + 0.12 * vessels)
    path += air * 0.035 * np.maximum(waves[4], 0) * np.exp(-side / 0.15)
    _bones(path, u, v, waves[2], rng)
    if opacities:
        _opacities(path, air, u, v, waves[3], rng)

    film = 1 - np.exp(-float(rng.uniform(1.5, 2.3)) * np.clip(path, 0, None))
    film = film + 0.006 * rng.standard_normal(film.shape, dtype=np.float32)
    film = ndimage.gaussian_filter(film, 0.6 * size / 512)
    low, high = float(rng.uniform(0.0, 0.1)), float(np.percentile(film, 99.5))
    pixels = np.rint(255 * np.clip((film - low) / (high - low), 0, 1) ** float(rng.uniform(0.8, 1.3))).astype(np.uint8)
    labels = (lungs * np.where(u < 0, 1, 2)).astype(np.uint8)[None]
    spacing = 0.7 * 512 / size
    grid = Grid((size, size, 1), (spacing, spacing, 1.0), (0.0, 0.0, 0.0), np.eye(3))
    volume = Volume(
        pixels[None], grid, "DX", f"phantom chest X-ray {seed}", {"PhotometricInterpretation": "MONOCHROME2"}
    )
    return Phantom(volume, labels, {1: "right lung", 2: "left lung"})


def _soft(field: Array, width: float) -> Array:
    return np.asarray(np.clip(field / width, 0, 1), dtype=np.float32)


def _lungs(u: Array, v: Array, rng: np.random.Generator) -> tuple[npt.NDArray[np.bool_], Array, Array]:
    """Lung fields, heart and abdomen (both 0 to 1): wall, medial border with heart and aortic knob, domed floor."""
    top, width, inner = float(rng.uniform(0.08, 0.15)), float(rng.uniform(0.33, 0.41)), float(rng.uniform(0.05, 0.075))
    apex, flare = float(rng.uniform(0.14, 0.19)), float(rng.uniform(0.80, 0.95))
    heart_width, heart_top = float(rng.uniform(0.12, 0.21)), float(rng.uniform(0.36, 0.44))
    lungs = np.zeros(u.shape, bool)
    heart, abdomen = np.zeros_like(u), np.zeros_like(u)
    base_right = float(rng.uniform(0.64, 0.80))
    for sign in (-1, 1):
        s = sign * u
        base = base_right + (float(rng.uniform(0.0, 0.05)) if sign > 0 else 0.0)
        down = np.clip((v - top) / (base - top), 0, 1.4)
        rounded = np.sqrt(np.clip(1 - (1 - np.clip(down / 0.42, 0, 1)) ** 2, 0, 1))
        outer = apex + (width * (flare + (1 - flare) * down) - apex) * rounded
        medial = inner + (apex - inner) * (1 - np.sqrt(np.clip(1 - (1 - np.clip(down / 0.14, 0, 1)) ** 2, 0, 1)))
        fall = np.clip((v - heart_top) / (base - heart_top), 0, 1)
        if sign > 0:
            edge = inner + (heart_width - inner) * (3 * fall**2 - 2 * fall**3) ** 0.8
            knob = np.sqrt(np.clip(1 - ((v - heart_top + 0.08) / 0.045) ** 2, 0, 1))
            medial = np.maximum(medial, (inner + 0.035 * knob) * (knob > 0))
        else:
            edge = inner + (0.32 * heart_width - 0.01) * np.sin(np.pi * np.clip(fall * 0.62 + 0.1, 0, 1)) * (fall > 0)
        medial = np.maximum(medial, edge * (v > heart_top))
        across = np.clip((s - inner) / max(width - inner, 1e-3), 0, 1.2)
        steep = float(rng.uniform(0.10, 0.19))
        floor = base + steep * np.clip(across - 0.45, 0, 1) ** 1.7 + 0.05 * np.clip(0.45 - across, 0, 1) ** 2
        lungs |= (s > medial) & (s < outer) & (v > top) & (v < floor)
        here = (s >= 0).astype(np.float32)
        heart += here * _soft(edge - s + 0.01, 0.02) * (v > heart_top) * np.clip(1 - (v - floor) / 0.1, 0, 1)
        abdomen += here * _soft(v - floor + 0.01, 0.02)
    return lungs, heart, abdomen


def _bones(path: Array, u: Array, v: Array, wave: Array, rng: np.random.Generator) -> None:
    """Spine, ribs (posterior and fainter anterior arcs), clavicles and shoulder blades, added to ``path``."""
    side = np.abs(u)
    spine = np.exp(-((u / 0.03) ** 4)) * (0.16 + 0.05 * np.sin(v * 95))
    path += spine
    strength, gap = float(rng.uniform(0.05, 0.10)), float(rng.uniform(0.062, 0.072))
    first = float(rng.uniform(0.10, 0.14))
    for number in range(11):
        level = first + gap * number
        bend = 1.6 * np.clip(side - 0.05, 0, 1) ** 2 * (0.5 + 0.22 * number)
        reach = np.clip((0.20 + 0.028 * min(number, 7) + 0.02 - side) / 0.02, 0, 1)
        band = v - (level - 0.10 * np.clip(side, 0, 0.12) + bend)
        path += strength * _arc(band, 0.016) * reach
        if 1 <= number < 7:
            front = v - (level + 0.10 + 0.42 * (0.30 - side))
            path += 0.55 * strength * _arc(front, 0.014) * reach * np.clip((side - 0.13) / 0.05, 0, 1)
    for sign in (-1, 1):
        tilt = float(rng.uniform(0.10, 0.30))
        line = v - (0.185 - tilt * (sign * u - 0.05) + 0.05 * np.sin(9 * sign * u))
        path += 0.13 * _arc(line, 0.017) * ((sign * u > 0.03) & (sign * u < 0.34))
        blade = 1 - ((sign * u - 0.39) / 0.065) ** 2 - ((v - 0.27) / 0.15) ** 2
        path += 0.09 * _soft(blade, 0.5)
        humerus = 1 - ((sign * u - 0.47) / 0.05) ** 2 - ((v - 0.17) / 0.07) ** 2
        path += 0.08 * _soft(humerus, 0.9)


def _arc(distance: npt.NDArray[np.floating], half: float) -> Array:
    """Profile of a tubular bone: dense cortex at the edges, lighter marrow between."""
    inside = np.clip((half - np.abs(distance)) / (0.25 * half), 0, 1)
    return np.asarray(inside * (0.65 + 0.6 * np.clip(np.abs(distance) / half, 0, 1) ** 3), dtype=np.float32)


def _opacities(path: Array, air: Array, u: Array, v: Array, wave: Array, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 4))):
        center_u = float(rng.choice([-1, 1]) * rng.uniform(0.12, 0.26))
        center_v = float(rng.uniform(0.22, 0.42))
        radius = float(rng.uniform(0.04, 0.09))
        distance = np.sqrt((u - center_u) ** 2 + (v - center_v) ** 2) / radius
        patch = np.exp(-(distance**2)) * np.clip(0.8 + 0.5 * wave, 0, None)
        path += air * float(rng.uniform(0.15, 0.32)) * patch
        if rng.random() < 0.35:  # a cavity: thin wall, lucent inside
            path += air * 0.10 * (np.exp(-(((distance - 0.55) / 0.2) ** 2)) - 0.7 * np.exp(-((distance / 0.4) ** 4)))
