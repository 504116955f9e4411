"""One case here and on a server of the Open Inference Protocol, in one run: seconds, and whether the labels are equal.

    python Testing/benchmarks/remote.py URL [MODEL IMAGE [MODALITY]]...

The models must have been exported there (``medseg models export MODEL --triton DIR``). ONNX Runtime runs both sides;
versions that differ may decide ties differently.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("MEDSEG_ENGINE", "onnxruntime")

import numpy as np

from medseg import load_model, read_volume, run
from medseg.engine.server import Server
from medseg.engine.session_cache import SessionCache
from medseg.result import Result

_ROUNDS = 3


def best(server: Server | None, model: str, image: str, modality: str | None) -> tuple[float, Result]:
    """The shortest of some runs with the network already open, in seconds, and the result."""
    loaded, volume, networks = load_model(model), read_volume(image), SessionCache()
    seconds, result = [], None
    for _ in range(_ROUNDS + 1):  # the first opens the network
        started = time.perf_counter()
        result = run(loaded, volume, server=server, modality=modality, open_session=networks.open)
        seconds.append(time.perf_counter() - started)
    networks.clear()
    assert result is not None
    return min(seconds[1:]), result


def main(url: str, cases: list[str]) -> int:
    """Print a table; 1 where labels differ."""
    differ = False
    print(f"{'model':<24} {'here s':>8} {'server s':>9} {'plain':>6} {'deflate s':>10}  voxels that differ")
    while cases:
        model, image, *cases = cases
        modality = cases.pop(0) if cases and cases[0] in ("MR", "CT", "DX", "CR") else None
        here, one = best(None, model, image, modality)
        there, other = best(Server(url, compress="off"), model, image, modality)
        pressed, third = best(Server(url, compress="on"), model, image, modality)
        layers = list(zip(one.layers, other.layers, third.layers, strict=True))
        wrong = sum(int(np.sum((a.labels != b.labels) | (a.labels != c.labels))) for a, b, c in layers)
        total = sum(a.labels.size for a, _, _ in layers)
        found = sum(int(np.count_nonzero(a.labels)) for a, _, _ in layers)
        ratio = f"{there / here:.2f}x"
        name = load_model(model).manifest.id
        print(f"{name:<24} {here:8.2f} {there:9.2f} {ratio:>6} {pressed:10.2f}  {wrong} of {total} ({found} labelled)")
        differ |= wrong > 0 or other.provenance["provider"] == one.provenance["provider"]
    return int(differ)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
