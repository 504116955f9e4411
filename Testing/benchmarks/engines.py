"""ONNX Runtime and OpenVINO on the same inputs, interleaved, in one process: seconds a call, ratio, equal decisions.

python Testing/benchmarks/engines.py [MODEL ...]    # ids, packages; without any: the models that come with MedSeg
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from medseg.engine import automatic, machine, openvino_engine
from medseg.engine.openvino_engine import OpenVinoNetwork
from medseg.engine.session import Session
from medseg.model.package import Model, load_model
from medseg.monitor import Monitor

SHIPPED = ("wmh-compact", "cmb-compact", "ich-compact", "lungs-compact")


def feeds_of(model: Model, session: Session, size: int) -> dict[str, Any]:
    """Smooth noise in each input's size; open sizes are ``size``."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    feeds = {}
    for name, shape in session.input_shapes.items():
        sizes = [1 if n == 0 else d or size for n, d in enumerate(shape)]
        smooth = [0, 0, *([2.0] * (len(sizes) - 2))]
        values = ndimage.gaussian_filter(rng.normal(size=sizes).astype(np.float32), smooth)
        feeds[name] = (values / values.std()).astype(np.float32)
    return feeds


def compare(name: str, repeats: int, size: int) -> str:
    """A row of the table."""
    model = load_model(name)
    with Session.open(model, "cpu", monitor=Monitor(), precision="float32") as plain:
        feeds = feeds_of(model, plain, size)
        other = OpenVinoNetwork(model.onnx_path)
        seconds: dict[str, list[float]] = {"onnxruntime": [], "openvino": []}
        results: dict[str, Any] = {}
        for n in range(repeats + 1):
            for engine, run in (("onnxruntime", plain.run), ("openvino", other.run)):
                started = time.perf_counter()
                results[engine] = run(feeds)
                if n:  # the first run makes room for the others
                    seconds[engine].append(time.perf_counter() - started)
        equal = automatic.agreement(model.manifest, results["onnxruntime"], results["openvino"])
    one, two = (statistics.median(seconds[e]) for e in ("onnxruntime", "openvino"))
    spread = " ".join(f"{min(s):.3f}-{max(s):.3f}" for s in seconds.values())
    shape = "x".join(str(d) for d in next(iter(feeds.values())).shape)
    return (
        f"| {model.manifest.id} | {shape} | {one:.3f} | {two:.3f} | {one / two:.2f} | {100 * equal:.5g} % | {spread} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=SHIPPED)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--size", type=int, default=64, help="of open sizes")
    chosen = parser.parse_args()
    print(f"{machine.cpu_name()}, {machine.physical_cores()} cores, OpenVINO {openvino_engine.version()}")
    print("| network | input | ONNX Runtime s | OpenVINO s | times as fast | decisions equal | least-most s |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen.models:
        print(compare(name, chosen.repeats, chosen.size), flush=True)


if __name__ == "__main__":
    main()
