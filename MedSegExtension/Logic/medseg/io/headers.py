"""Headers judged before a native reader sees them: sizes that cannot be, and names of files that lie elsewhere.

MetaImage: the MetaIO file format (ElementDataFile is its last field). NRRD: definition of NRRD0005. Pictures: PNG IHDR
(W3C PNG, 11.2.2), JPEG frame header (ITU T.81, B.2.2), the first TIFF directory (TIFF 6.0, section 2).
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import InputError

_HEADER_LIMIT = 1 << 20
_LARGEST_DEFLATE_RATIO = 1032
_MOST_VALUES = 1 << 40
_DIMENSIONS = (2, 4)
_META_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4, "LONG_LONG": 8,
    "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
_NRRD_TYPES = {
    1: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    2: "short|short int|signed short|signed short int|int16|int16_t|ushort|unsigned short|unsigned short int|uint16"
    "|uint16_t",
    4: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    8: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong"
    "|unsigned long long|unsigned long long int|uint64|uint64_t|double",
}
_NRRD_BYTES = {name: size for size, names in _NRRD_TYPES.items() for name in names.split("|")}


def check_header(path: Path) -> None:
    """`InputError` where the header of a MetaImage, NRRD or picture is not one, or points out of its folder."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".mha", ".mhd"):
            _check_metaimage(path)
        elif suffix in (".nrrd", ".nhdr"):
            _check_nrrd(path)
        elif suffix in (".png", ".jpg", ".jpeg", ".tif", ".tiff"):
            _check_picture(path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def data_file(header: Path, name: str) -> Path:
    """The file ``name`` that ``header`` points to; `InputError` where it is not in the header's folder or below."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    folder = header.parent.resolve()
    away = PureWindowsPath(name).drive or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name
    path = folder.joinpath(*parts) if not away else folder
    if away or not path.resolve().is_relative_to(folder):
        raise InputError(
            f"{header.name} takes its image data from {name}, which is not in the folder of {header.name} or below; "
            "such a file is not opened. Put both into one folder and correct the header."
        )
    if not path.is_file():
        raise InputError(f"{header.name} takes its image data from {name}, which is missing; put it beside the header.")
    return path


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_LIMIT)


def _wrong(path: Path, field: str, value: object) -> InputError:
    return InputError(
        f"{path.name}: its header states {field} {str(value)[:40]!r}, which is not valid; export it again."
    )


def _whole_numbers(path: Path, field: str, text: str, least: int) -> list[int]:
    words = text.split()
    if not words or any(re.fullmatch(r"[+-]?\d{1,18}", word) is None or int(word) < least for word in words):
        raise _wrong(path, field, text)
    return [int(word) for word in words]


def _check_amount(path: Path, needed: int, available: int, packed: bool) -> None:
    """Refuse a header that states more data than the file can hold, before memory is taken for it."""
    if needed > _MOST_VALUES or needed > available * (_LARGEST_DEFLATE_RATIO if packed else 1):
        raise InputError(
            f"{path.name} is truncated or damaged: it has less image data than its header says ({needed} bytes); "
            "copy or export it again."
        )


def _check_metaimage(path: Path) -> None:
    head = _head(path)
    fields: dict[str, str] = {}
    end = 0
    for line in head.splitlines(keepends=True):
        end += len(line)
        key, sign, value = line.decode("latin-1").partition("=")
        key = key.strip()
        if sign and key in fields:
            raise InputError(f"{path.name}: its header states {key[:40]} twice; export it again.")
        if sign:
            fields[key] = value.strip()
        if key == "ElementDataFile":
            break
    else:
        raise InputError(f"{path.name} is not a MetaImage, although its name says so; check what the file is.")
    for key in ("NDims", "DimSize", "ElementType"):
        if key not in fields:
            raise InputError(f"{path.name}: its header does not state {key}; export it again.")
    (dimension,) = _whole_numbers(path, "NDims", fields["NDims"], _DIMENSIONS[0])[:1]
    sizes = _whole_numbers(path, "DimSize", fields["DimSize"], 1)
    if dimension > _DIMENSIONS[1] or len(sizes) != dimension:
        raise _wrong(path, "DimSize", f"{fields['DimSize']} for {dimension} dimensions")
    for key in ("TransformMatrix", "Rotation", "Orientation", "Offset", "Position", "Origin", "ElementSpacing"):
        _check_numbers(
            path, key, fields.get(key), dimension * (dimension if key[0] in "TR" or key == "Orientation" else 1)
        )
    bytes_each = _META_BYTES.get(fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY"))
    if bytes_each is None:
        raise _wrong(path, "ElementType", fields["ElementType"])
    (channels,) = _whole_numbers(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)[:1]
    packed = fields.get("CompressedData", "False").lower().startswith("t")
    text = fields.get("BinaryData", "True").lower().startswith("f")
    needed = math.prod(sizes) * channels * (1 if text else bytes_each)
    named = fields["ElementDataFile"]
    if named.upper() in ("LOCAL", "LOCALCOMPRESSED"):
        _check_amount(path, needed, path.stat().st_size - end, packed)
        return
    if named.upper().split()[:1] == ["LIST"]:
        names = [line.decode("latin-1").strip() for line in head[end:].splitlines() if line.strip()]
        files = [data_file(path, name) for name in names[: max(sizes)]]
    elif "%" in named:
        raise InputError(
            f"{path.name} names its image data by a pattern ({named[:60]}), which is not read; save one file."
        )
    else:
        files = [data_file(path, named)]
    if not files:
        raise _wrong(path, "ElementDataFile", named)
    _check_amount(path, needed, sum(file.stat().st_size for file in files), packed)


def _check_numbers(path: Path, key: str, text: str | None, count: int) -> None:
    if text is None:
        return
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        raise _wrong(path, key, text) from None
    if key == "ElementSpacing" and not all(number > 0 for number in numbers):
        raise InputError(
            f"{path.name} has a voxel spacing that is zero or not a number ({text[:40]}); correct the file's header."
        )
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise _wrong(path, key, text)


def _check_nrrd(path: Path) -> None:
    head = _head(path)
    if not re.match(rb"NRRD000[1-6]\r?\n", head):
        raise InputError(f"{path.name} is not a NRRD image, although its name says so; check what the file is.")
    fields: dict[str, str] = {}
    end, names = 0, None  # type: int, list[str] | None
    for line in head.splitlines(keepends=True):
        end += len(line)
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            break
        if names is not None:
            names.append(text.strip())
        elif (
            not text.startswith("#")
            and (match := re.match(r"([\w ]+): ?(.*)", text))
            and ":=" not in text[: match.end(1) + 2]
        ):
            key = match[1].strip().lower().replace(" ", "")
            if key in fields:
                raise InputError(f"{path.name}: its header states {match[1].strip()[:40]} twice; export it again.")
            fields[key] = match[2].strip()
            names = [] if key == "datafile" and match[2].split()[:1] == ["LIST"] else None
    for key in ("dimension", "sizes", "type", "encoding"):
        if key not in fields:
            raise InputError(f"{path.name}: its header does not state {key}; export it again.")
    (dimension,) = _whole_numbers(path, "dimension", fields["dimension"], 1)[:1]
    sizes = _whole_numbers(path, "sizes", fields["sizes"], 1)
    if not 2 <= dimension <= 5 or len(sizes) != dimension:
        raise _wrong(path, "sizes", f"{fields['sizes']} for {dimension} dimensions")
    bytes_each = _NRRD_BYTES.get(fields["type"].lower())
    if bytes_each is None:
        raise _wrong(path, "type", fields["type"])
    for key, least in (("byteskip", -1), ("lineskip", 0)):
        _whole_numbers(path, key, fields.get(key, "0"), least)
    encoding = fields["encoding"].lower()
    if encoding not in ("raw", "gzip", "gz", "ascii", "text", "txt", "hex"):
        raise _wrong(path, "encoding", fields["encoding"])
    needed = math.prod(sizes) * (bytes_each if encoding in ("raw", "gzip", "gz", "hex") else 1)
    named = fields.get("datafile")
    if named is None:
        available = path.stat().st_size - end
    else:
        if names is None and "%" in named:
            raise InputError(
                f"{path.name} names its image data by a pattern ({named[:60]}), which is not read; save one file."
            )
        files = [data_file(path, name) for name in (names if names is not None else [named]) if name]
        if not files:
            raise _wrong(path, "data file", named)
        available = sum(file.stat().st_size for file in files)
    _check_amount(path, needed, available, encoding in ("gzip", "gz"))


def _check_picture(path: Path) -> None:
    """The amount of pixels that the header states must be possible for a file of this size."""
    head = _head(path)
    width = height = 0
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR" and len(head) >= 33:
        width, height = struct.unpack(">II", head[16:24])
    elif head[:2] == b"\xff\xd8":
        width, height = _jpeg_size(head)
    elif head[:4] in (b"II*\0", b"MM\0*"):
        width, height = _tiff_size(path, "<" if head[:1] == b"I" else ">")
    if width < 1 or height < 1:
        raise InputError(
            f"{path.name} is not a picture of the kind that its name says, or it is damaged; check the file."
        )
    _check_amount(path, width * height, path.stat().st_size, True)


def _jpeg_size(head: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + max(length, 2)
    return 0, 0


def _tiff_size(path: Path, order: str) -> tuple[int, int]:
    """Width and height of the first directory, which may stand anywhere in the file."""
    found = {}
    with path.open("rb") as file:
        file.seek(4)
        start = file.read(4)
        if len(start) == 4:
            file.seek(struct.unpack(order + "I", start)[0])
            count = file.read(2)
            entries = file.read(12 * struct.unpack(order + "H", count)[0]) if len(count) == 2 else b""
            for n in range(len(entries) // 12):
                tag, kind = struct.unpack_from(order + "HH", entries, 12 * n)
                if tag in (256, 257) and kind in (3, 4):
                    found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), entries, 12 * n + 8)[0]
    return found.get(256, 0), found.get(257, 0)
