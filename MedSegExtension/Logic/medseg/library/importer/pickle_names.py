"""Which names a PyTorch checkpoint asks for, read from its pickle without running it.

A checkpoint is a zip with a pickle in it, and a pickle may call any function that it names. The names are read as
text here, before anything is installed or loaded; PyTorch's own unpickler for weights then is the second guard.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ...errors import ModelError

# What weights and nnU-Net's records of a training consist of: tensors, plain containers, NumPy's numbers.
_KNOWN = re.compile(
    r"collections (OrderedDict|Counter|defaultdict)|builtins (set|bytearray|complex|int|float|bool|list|dict|tuple|str)"
    r"|__builtin__ (set|bytearray|complex)|_codecs encode"
    r"|torch (\w+Storage|Size|Tensor|device|strided|bool|float|double|half|int|long|short|[a-z]+\d+(_\w+)?)"
    r"|torch\._utils _rebuild_\w+|torch\._tensor _rebuild_from_type_v2|torch\.storage \w+Storage"
    r"|torch\.nn\.parameter Parameter|torch\.serialization _get_layout"
    r"|numpy dtype|numpy\.dtypes \w+DType|numpy\.(core|_core)\.multiarray scalar"
)
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"}
_LIMIT = 512 << 20


def check_weights_only(path: Path) -> None:
    """`ModelError` where ``path`` asks for anything that weights do not need, or cannot be read as a checkpoint."""
    where = f"{path.parent.name}/{path.name}"
    damaged = ModelError(f"{where} is no checkpoint of PyTorch, or is cut off; get it again.")
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [i for i in archive.infolist() if i.filename.endswith(".pkl")]
            if not pickles or any(i.file_size > _LIMIT for i in pickles):
                raise damaged
            for info in pickles:
                for name in names(archive.read(info)):
                    if not _KNOWN.fullmatch(name):
                        raise ModelError(
                            f"{where} holds more than weights (it asks for {name.replace(' ', '.')}); loading it would "
                            "run code, so it was not opened. Get it from its authors, or ask them for one of weights."
                        )
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, IndexError, RuntimeError) as error:
        # RuntimeError: a member that says it is encrypted, or packed in a way that is not known.
        raise damaged from error


def names(data: bytes) -> Iterator[str]:
    """``module name`` of everything that a pickle would look up; ``?`` in place of what only running it would tell."""
    texts: list[str | None] = []
    for code, argument, _ in pickletools.genops(data):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument)
        elif code.name == "STACK_GLOBAL":
            last = texts[-2:]
            yield " ".join(t or "?" for t in last) if len(last) == 2 else "?"
        elif code.name.startswith("EXT"):
            yield "?"
        if code.name in _STRINGS:
            texts.append(str(argument))
        elif code.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            texts.append(None)
