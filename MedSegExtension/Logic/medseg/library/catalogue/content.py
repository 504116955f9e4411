"""Whether what arrived is a model at all: sign-in pages and pointers come with status 200 too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .transport import DownloadError, place


def refuse_other_content(name: str, path: Path, source: str, drop: Callable[[], None]) -> None:
    """`DownloadError` (after ``drop``) where the file is a web page or pointer, or not of the kind its name says."""
    with path.open("rb") as file:
        head = file.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    suffix = Path(name).suffix.lower()
    if not head:
        what = "is empty"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "is a web page, perhaps the sign-in page of the network"
    elif text.startswith(b"version https://git-lfs"):
        what = "is only a pointer to the file (Git LFS)"
    elif suffix in (".h5", ".hdf5") and not head.startswith(b"\x89HDF\r\n\x1a\n"):
        what = "is not an HDF5 file"
    elif suffix in (".zip", ".keras", ".pt2") and not head.startswith(b"PK"):
        what = "is not a zip file"
    elif suffix == ".json" and not text.startswith(b"{"):
        what = "is not a JSON object"
    else:
        return
    drop()
    shown = place(source) if "://" in source else source
    raise DownloadError(f"What {shown} holds as {name} {what}; it is not used. Try again later, or get it by hand.")
