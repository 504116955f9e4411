"""What the worker does with files that a page was given: read in the worker, so that a damaged file ends only that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..monitor import Monitor
from .requests import exchange_folder_of, text_of
from .transfer import save_array, volume_message


def read_images(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """Read ``path`` (a file, or a folder of DICOM files) and write its voxels into the request's ``folder``.

    Answers ``{"volume": message, "series": []}``; where the folder has several series and the request names none
    (``series``, a UID), ``{"volume": None, "series": [[uid, words], ...]}``. Of a 4D image the first frame is taken,
    which is told. Raises `InputError`.
    """
    from ..io import list_series, read_volume

    folder, path = exchange_folder_of(request), Path(text_of(request, "path"))
    series = text_of(request, "series") if request.get("series") else None
    if path.is_dir() and series is None:
        found = list_series(path)
        if len(found) > 1:
            return {"volume": None, "series": [[one.uid, str(one)] for one in found]}
    volume = read_volume(path, series=series, monitor=monitor)
    if len(volume.frames) > 1:
        told = f"{volume.name} has {len(volume.frames)} frames; the first ({volume.frames[0]}) was taken."
        monitor.warn(told)
        volume = replace(volume.frame(1), name=volume.name, warnings=(*volume.warnings, told))
    elif volume.channels == 1:
        volume = volume.require_scalar()
    voxels = save_array(np.ascontiguousarray(volume.array), folder, "volume.raw")
    pixels = None
    if volume.stack is not None and volume.stack.pixels is not volume.array:
        pixels = save_array(np.ascontiguousarray(volume.stack.pixels), folder, "acquired.raw")
    return {"volume": volume_message(volume, voxels, pixels), "series": []}
