"""Whether Slicer turned the order of a volume's slices round when it read the file.

Slicer makes every volume right-handed: where a file's axes are not (L, I, A of a conformed head, say), the last one is
reversed. Networks that take an image as it is stored (nnU-Net) must then get it back as it is in the file. Nothing of
that is kept in the scene, so the file's header is read once more; it counts only where its geometry, turned round, is
the node's own.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.geometry.grid import Grid

_LONGEST = 1 << 16
_TO_LPS = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1),
           "left-anterior-superior": (1, -1, 1), "lps": (1, 1, 1), "ras": (-1, -1, 1), "las": (1, -1, 1)}  # fmt: skip
Affine = npt.NDArray[np.float64]


def slices_were_reversed(node: Any, grid: Grid) -> bool:
    """Whether ``grid``, the node's own, has the slices of the node's file in reverse order.

    False where the file is not there, is of another kind than NIfTI, NRRD and MetaImage, or says something else.
    """
    storage = node.GetStorageNode()
    name = str(storage.GetFullNameFromFileName() or "") if storage is not None else ""
    if not name:
        return False
    last = grid.size[2] - 1
    turned = grid.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1.0]])
    if np.linalg.det(turned[:3, :3]) > 0:
        return False
    tolerance = 1e-2 * min(grid.spacing)
    try:
        return any(np.abs((a - turned) @ _corners(grid)).max() < tolerance for a in affines(Path(name)))
    except (OSError, EOFError, zlib.error, ValueError, struct.error, KeyError):
        return False


def affines(path: Path) -> Iterator[Affine]:
    """Index to LPS mm as the header of ``path`` says; of NIfTI all that it says. Raises what damage raises."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        yield from _nifti(_start(path, 352))
    elif name.endswith((".nrrd", ".nhdr")):
        yield _nrrd(_fields(_start(path, _LONGEST).split(b"\n\n")[0].split(b"\r\n\r\n")[0], ":"))
    elif name.endswith((".mha", ".mhd")):
        yield _meta(_fields(_start(path, _LONGEST).partition(b"ElementDataFile")[0], "="))


def _corners(grid: Grid) -> npt.NDArray[np.float64]:
    i, j, k = (n - 1 for n in grid.size)
    return np.array([[0, 0, 0, 1], [i, 0, 0, 1], [0, j, 0, 1], [0, 0, k, 1]], dtype=float).T


def _start(path: Path, count: int) -> bytes:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        return file.read(count)


def _nifti(data: bytes) -> Iterator[Affine]:
    order = next((o for o in "<>" if struct.unpack_from(f"{o}i", data)[0] == 348), None)
    if order is None:
        return
    ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    spacing = np.array(struct.unpack_from(f"{order}8f", data, 76), dtype=float)
    qform, sform = struct.unpack_from(f"{order}2h", data, 252)
    if sform > 0:
        rows = np.array(struct.unpack_from(f"{order}12f", data, 280), dtype=float).reshape(3, 4)
        yield ras @ np.vstack([rows, [0, 0, 0, 1]])
    if qform > 0:
        b, c, d, *offset = struct.unpack_from(f"{order}6f", data, 256)
        a = max(0.0, 1 - b * b - c * c - d * d) ** 0.5
        # NIfTI-1's own formula for its quaternion.
        turn = np.array([
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ])  # fmt: skip
        matrix = np.eye(4)
        matrix[:3, :3] = turn * spacing[1:4] * [1, 1, -1 if spacing[0] < 0 else 1]
        matrix[:3, 3] = offset
        yield ras @ matrix


def _fields(text: bytes, mark: str) -> dict[str, str]:
    pairs = (line.partition(mark) for line in text.decode("latin-1").splitlines())
    return {name.strip().lower(): value.strip() for name, found, value in pairs if found}


def _numbers(text: str) -> list[float]:
    return [float(n) for n in text.replace("(", " ").replace(")", " ").replace(",", " ").replace("none", " ").split()]


def _nrrd(fields: dict[str, str]) -> Affine:
    sign = np.array(_TO_LPS[fields["space"].lower()], dtype=float)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(_numbers(fields["space directions"])).reshape(3, 3).T * sign[:, np.newaxis]
    matrix[:3, 3] = np.array(_numbers(fields["space origin"])) * sign
    return matrix


def _meta(fields: dict[str, str]) -> Affine:
    matrix = np.eye(4)
    axes = next(fields[k] for k in ("transformmatrix", "rotation", "orientation") if k in fields)
    origin = next(fields[k] for k in ("offset", "position", "origin") if k in fields)
    matrix[:3, :3] = np.array(_numbers(axes)).reshape(3, 3).T * np.array(_numbers(fields["elementspacing"]))
    matrix[:3, 3] = _numbers(origin)
    return matrix
