"""Seconds and memory of writing DICOM objects: 512x512x300, ten segments, one file a slice.

    .venv/bin/python Testing/benchmarks/dicom_objects.py [binary|labelmap|both] [overlap]

Prints the wall clock and this process's own CPU seconds of `write_dicom` (headers of 300 files read, masks put onto the
frames, objects built and written), and the most memory that the process ever had. With ``overlap`` the segments overlap
in one slice, so that each needs an array of its own.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medseg.dicom_out.write import dicom_options, write_dicom
from medseg.geometry.grid import Grid
from medseg.result import Layer, Result, SegmentClass
from support.dicom_images import write_series

SHAPE = (300, 512, 512)


def main(form: str, overlap: bool) -> None:
    """Make the images and the result, then measure."""
    classes = tuple(SegmentClass(n, f"organ {n}", (n / 10, 1 - n / 10, 0.5)) for n in range(1, 11))
    layers = layers_of(classes, overlap)
    result = Result(Grid((512, 512, 300), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3)), layers,
                    provenance={"model": {"id": "ten", "title": "Ten organs", "version": "1"}})  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        blank = np.broadcast_to(np.int16(0), SHAPE)
        write_series(images, blank, [(0.0, 0.0, float(k)) for k in range(SHAPE[0])], thickness=1.0)
        wall, own = time.perf_counter(), time.process_time()
        files = write_dicom(result, images, Path(folder) / "out", options=dicom_options(form, False))
        wall, own = time.perf_counter() - wall, time.process_time() - own
        sizes = ", ".join(f"{f.name} {f.stat().st_size / 1e6:.1f} MB" for f in files)
    what = f"{form}{' with overlaps' if overlap else ''}"
    print(f"{what}: {wall:.1f} s ({own:.1f} s of CPU), at most {most():.2f} GB; {sizes}")


def layers_of(classes: tuple[SegmentClass, ...], overlap: bool) -> tuple[Layer, ...]:
    """Ten ellipsoids that fill most slices; with ``overlap`` each is in a layer of its own and slice 150 is of all."""
    labels = np.zeros(SHAPE, np.uint8)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    for n in range(10):
        inside = ((z - 150) / 140) ** 2 + ((y - 100 - n // 5 * 250) / 90) ** 2 + ((x - 50 - n % 5 * 100) / 45) ** 2 < 1
        labels[inside] = n + 1
    if not overlap:
        return (Layer(labels, classes),)
    layers = []
    for item in classes:
        own = np.where(labels == item.value, np.uint8(item.value), np.uint8(0))
        own[150] = item.value
        layers.append(Layer(own, (item,)))
    return tuple(layers)


def most() -> float:
    """The process's peak memory in GB."""
    info = psutil.Process().memory_info()
    if hasattr(info, "peak_wset"):
        return float(info.peak_wset) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "binary", "overlap" in sys.argv[2:])
