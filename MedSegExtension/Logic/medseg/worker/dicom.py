"""A result that is in Slicer's scene -> DICOM objects, on the files that its volume was loaded from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError, damage_is
from ..monitor import Monitor
from .requests import exchange_folder_of, text_of
from .transfer import result_from


def write_objects(request: dict[str, Any], monitor: Monitor) -> dict[str, Any]:
    """Write the ``result`` (see `medseg.worker.transfer`) as DICOM objects into the folder ``output``.

    ``images``: paths of the source files. ``form``, ``deidentified``, ``film_plane``: as
    `medseg.dicom_out.write.DicomOptions`. Answers with the ``files`` by name and their ``instances`` (UIDs).
    """
    from ..dicom_out.earlier import up_to_date
    from ..dicom_out.write import dicom_options, write_dicom

    folder = exchange_folder_of(request)
    images = request.get("images")
    if not isinstance(images, list) or not images or not all(isinstance(p, str) and p for p in images):
        raise InputError("The worker was asked for DICOM objects without the files of the images.")
    with damage_is(InputError, "The description of the result"):
        result = result_from(request["result"], folder)
    options = dicom_options(
        str(request.get("form") or "binary"), request.get("deidentified") is True, request.get("film_plane") is True
    )
    result = up_to_date(result, monitor)
    files = write_dicom(result, images, Path(text_of(request, "output")), options=options, monitor=monitor)
    return {"files": [f.name for f in files], "instances": [_instance(f) for f in files]}


def _instance(file: Path) -> str:
    import pydicom

    return str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
