"""Files that the visitor gives: within limits, under names of ours, in a private folder.

A file's own name may be a patient's; it is kept in memory for messages on the page and never written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from medseg.errors import InputError

MEGABYTE = 1 << 20
_CHUNK = 1 << 18
# Between the files of a form: boundaries, names, types.
_OVERHEAD_EACH = 1 << 10
_LONGEST_NAME = 200
_KEPT = re.compile(r"(\.nii|\.nii\.gz|\.mg[hz]|\.nrrd|\.mha|\.dcm|\.ima|\.png|\.jpe?g|\.tiff?)$", re.IGNORECASE)
#: Two files that name each other: names of ours would part them, and a header could name any file of this computer.
_IN_PARTS = re.compile(r"\.(nhdr|mhd|hdr|img|raw|zraw)$", re.IGNORECASE)


class TooLarge(InputError):
    """More bytes or files than are taken."""


@dataclass(frozen=True)
class Limits:
    """What is taken at once. ``size``: bytes of all files."""

    size: int = 2048 * MEGABYTE
    files: int = 5000

    def too_large(self) -> TooLarge:
        """The error, with the number and what to do."""
        return TooLarge(
            f"More than {self.size // MEGABYTE} MB were sent; nothing was kept. Start medseg view with a higher "
            "--limit, or run the command line on the file."
        )

    def too_many(self) -> TooLarge:
        """As `too_large`, for the number of files."""
        return TooLarge(f"More than {self.files} files were sent; nothing was kept. Give one series at a time.")


@dataclass(frozen=True)
class Upload:
    """``path``: the file, or the folder of several. ``names``: their names here -> what the visitor calls them."""

    path: Path
    names: dict[str, str] = field(repr=False)

    @property
    def title(self) -> str:
        """The file's own name, or how many there are."""
        own = list(self.names.values())
        return own[0] if len(own) == 1 else f"{len(own)} files"

    def own_names(self, sentence: str) -> str:
        """``sentence`` with the visitor's names in place of ours."""
        for here, own in self.names.items():
            sentence = sentence.replace(here, own)
        return sentence.replace(self.path.name, self.title) if self.path.name not in self.names else sentence


def kept_name(number: int, own: str) -> str:
    """The name of file ``number`` here: its kind by suffix and nothing else of ``own``. Raises `InputError`."""
    if _IN_PARTS.search(own):
        raise InputError(
            f"{short(own)} is one of two files that belong together; save the volume as one file "
            "(.nrrd, .mha, .nii.gz)."
        )
    suffix = _KEPT.search(own)
    return f"file{number:05d}{suffix[0].lower() if suffix else ''}"


def short(own: str) -> str:
    """A visitor's file name as a sentence holds it: without folders, printable, not too long."""
    name = re.split(r"[/\\]", own)[-1]
    name = "".join(c if c.isprintable() else "?" for c in name) or "a file without a name"
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "..."


async def receive(request: web.Request, folder: Path, limits: Limits) -> Upload:
    """Write the files of a form into ``folder``, which is there and empty.

    Raises `InputError`, `TooLarge` as soon as the request says or shows that it is more than ``limits``.
    """
    announced = request.content_length
    if announced is not None and announced > limits.size + limits.files * _OVERHEAD_EACH:
        raise limits.too_large()
    if not request.content_type.startswith("multipart/"):
        raise InputError("No files were sent; choose a file of an image, or a folder of DICOM files.")
    names: dict[str, str] = {}
    left = limits.size
    reader = await request.multipart()
    while (part := await reader.next()) is not None:
        own = getattr(part, "filename", None)
        if own is None or not hasattr(part, "read_chunk"):
            raise InputError("Something other than files was sent.")
        if short(own).upper() == "DICOMDIR":  # its files are here under other names, and are found without it
            while await part.read_chunk(_CHUNK):
                pass
            continue
        if len(names) >= limits.files:
            raise limits.too_many()
        here = kept_name(len(names), own)
        with (folder / here).open("xb") as file:
            while chunk := await part.read_chunk(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise limits.too_large()
                file.write(chunk)
        names[here] = short(own)
    return uploaded(folder, names)


def uploaded(folder: Path, names: dict[str, str]) -> Upload:
    """What was sent, as it is read: one file by itself, several as a folder."""
    here: Sequence[str] = list(names)
    if not here:
        raise InputError("No files were sent; choose a file of an image, or a folder of DICOM files.")
    return Upload(folder / here[0] if len(here) == 1 else folder, names)
