"""What the CUDA path gives: seconds from file to labels, share of the GPU's own time, and labels equal to the CPU's.

On a machine with an NVIDIA GPU, in an environment with ``onnxruntime-gpu``:

    python Testing/benchmarks/gpu.py [--device cuda] [--output results.json] [--kept FOLDER] [--settings]

Networks are built here with random weights (a 2D U-Net of 31 M parameters, a 3D residual U-Net), volumes are phantoms;
nothing is downloaded. *Bare* is ONNX Runtime alone on the same tensors, and *on the device* is it with the tensors
already in the GPU's memory: what no program can go below without another engine. *Busy* is what the driver says of the
card while the network stage is repeated for some seconds.

Another version of MedSeg is measured by the same script where ``MEDSEG_CODE`` names its folder ``Logic``; with the same
``--kept`` folder its labels are compared with those of the first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import SimpleITK as sitk

sys.path.insert(
    0, os.environ.get("MEDSEG_CODE") or str(Path(__file__).resolve().parents[2] / "MedSegExtension" / "Logic")
)

from random_networks import noise, residual_unet_3d, unet_2d

from medseg import Volume, load_model, phantoms, read_volume, run
from medseg.engine.devices import available_devices
from medseg.engine.session import Session
from medseg.engine.session_cache import SessionCache
from medseg.monitor import Monitor
from medseg.pipeline.infer import infer
from medseg.pipeline.preprocess import prepare

RUNS = 7
BUSY_SECONDS = 4.0


class Recording:
    """Opens sessions of a cache and keeps the feeds of the last run."""

    def __init__(self) -> None:
        self.cache, self.feeds, self.session = SessionCache(), [], None  # type: ignore[var-annotated]

    def open(self, *arguments: Any, **options: Any) -> Session:
        session = self.cache.open(*arguments, **options)
        self.feeds = []
        real = type(session).run

        def keep(feeds: dict[str, Any]) -> dict[str, Any]:
            self.feeds.append({name: value.copy() for name, value in feeds.items()})
            return real(session, feeds)

        session.run = keep  # type: ignore[method-assign]
        self.session = session
        return session

    def stop(self) -> None:
        """Record no more."""
        vars(self.session).pop("run", None)


def bare(model_path: Path, feeds: list[dict[str, Any]], device: str) -> tuple[float, float]:
    """Seconds of ONNX Runtime for ``feeds``: from the computer's memory, and with all tensors on the device."""
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        providers = [("CUDAExecutionProvider", {}), *providers]
    session = onnxruntime.InferenceSession(str(model_path), providers=providers)
    result = session.get_outputs()[0].name
    session.run(None, feeds[0])
    started = time.perf_counter()
    for feed in feeds:
        session.run(None, feed)
    copied = time.perf_counter() - started
    if not device.startswith("cuda"):
        return copied, copied
    bindings = []
    for feed in feeds:
        binding = session.io_binding()
        for name, value in feed.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
        binding.bind_output(result, "cuda")
        bindings.append(binding)
    session.run_with_iobinding(bindings[0])
    started = time.perf_counter()
    for binding in bindings:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
    return copied, time.perf_counter() - started


class Busy:
    """Asks the driver, 20 times a second, how busy the card is. ``share``: the mean, None where it does not tell."""

    def __init__(self) -> None:
        self._stop, self._found = threading.Event(), []  # type: ignore[var-annotated]
        self.share: float | None = None

    def __enter__(self) -> Busy:
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._found:
            self.share = statistics.mean(self._found) / 100

    def _ask(self) -> None:
        with contextlib.suppress(Exception):  # without NVIDIA's package or card nothing is told
            import pynvml

            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
            time.sleep(1.0)  # the driver's figure is that of the last part of a second
            while not self._stop.wait(0.05):
                self._found.append(pynvml.nvmlDeviceGetUtilizationRates(card).gpu)


def repeated(model: Any, volume: Volume, session: Session, seconds: float) -> tuple[float, float | None]:
    """Seconds of the network stage alone, its median over ``seconds`` of repeating it, and how busy the card was."""
    prepared = prepare(model.manifest, [volume], monitor=Monitor())
    took: list[float] = []
    with Busy() as busy:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds or not took:
            started = time.perf_counter()
            infer(model.manifest, prepared, session, Monitor(), keep="labels")
            took.append(time.perf_counter() - started)
    return statistics.median(took), busy.share


def kept_labels(folder: Path | None, name: str, make: Callable[[], Any]) -> Any:
    """Labels that an earlier call of this script left in ``folder``, or those of ``make``."""
    path = None if folder is None else folder / f"{name}.npy"
    if path is not None and path.is_file():
        return np.load(path)
    labels = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, labels)
    return labels


def measure(name: str, source: str, volume: Path, device: str, runs: int, kept: Path | None) -> dict[str, Any]:
    """Medians over warm runs, with their range."""
    model, recording = load_model(source), Recording()
    started = time.perf_counter()
    run(model, read_volume(volume), device=device, open_session=recording.open)  # opens and warms
    cold = time.perf_counter() - started
    recording.stop()
    whole, stages, own = [], [], None
    for _ in range(runs):
        started = time.perf_counter()
        own = run(model, read_volume(volume), device=device, open_session=recording.cache.open)
        whole.append(time.perf_counter() - started)
        stages.append(own.provenance["seconds"])
    assert own is not None
    to_labels = sorted(w - s.get("measure", 0.0) for w, s in zip(whole, stages, strict=True))
    stage, busy = repeated(model, read_volume(volume), recording.session, BUSY_SECONDS if runs == RUNS else 0.5)
    copied, resident = bare(model.onnx_path, recording.feeds, device)
    median = {stage: statistics.median(s.get(stage, 0.0) for s in stages) for stage in stages[0]}
    cpu = kept_labels(
        kept, f"{model.manifest.id}-cpu",
        lambda: run(model, read_volume(volume), device="cpu", open_session=SessionCache().open).layers[0].labels,
    )  # fmt: skip
    first = kept_labels(kept, f"{model.manifest.id}-{device}", lambda: own.layers[0].labels)
    found = {
        "case": name, "provider": own.provenance.get("provider"), "calls": len(recording.feeds), "cold": cold,
        "file_to_labels": statistics.median(to_labels), "least": to_labels[0], "most": to_labels[-1],
        "file_to_tables": statistics.median(whole), "stages": median, "stage_repeated": stage, "busy": busy,
        "bare": copied, "on_the_device": resident, "infer_over_bare": median["infer"] / copied,
        "device_share_of_infer": resident / stage,
        "labels_equal_to_cpu": float(np.mean(cpu == own.layers[0].labels)),
        "labels_equal_to_first": float(np.mean(first == own.layers[0].labels)), "warnings": list(own.warnings),
    }  # fmt: skip
    told = "not told" if busy is None else f"{100 * busy:.0f} %"
    print(
        f"{name}: {found['file_to_labels'] * 1000:.0f} ms file to labels ({to_labels[0] * 1000:.0f} to "
        f"{to_labels[-1] * 1000:.0f}), {statistics.median(whole) * 1000:.0f} with tables, cold {cold * 1000:.0f}; "
        f"network stage {median['infer'] * 1000:.0f}, repeated {stage * 1000:.0f}, bare {copied * 1000:.0f}, on the "
        f"device {resident * 1000:.0f} ({100 * resident / stage:.0f} % of the stage); card busy {told}; labels as on "
        f"the CPU {100 * found['labels_equal_to_cpu']:.4f} %, as the first version's "
        f"{100 * found['labels_equal_to_first']:.4f} %; {found['provider']}, {found['calls']} calls"
    )
    print("   stages, ms: " + ", ".join(f"{k} {v * 1000:.0f}" for k, v in median.items()), flush=True)
    for sentence in own.warnings:
        print(f"   warning: {sentence}")
    return found


SETTINGS: dict[str, dict[str, str]] = {
    "as MedSeg has it": {},
    "algorithms tried out": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "channels last": {"prefer_nhwc": "1"},
    "both": {"cudnn_conv_algo_search": "EXHAUSTIVE", "prefer_nhwc": "1"},
}


def try_settings(name: str, source: str, volume: Path) -> None:
    """Milliseconds of one call with tensors on the device, for settings of the CUDA provider."""
    model = load_model(source)
    batch = 10 if model.manifest.network_dimensions == 2 else 1
    array = prepare(model.manifest, [read_volume(volume)], monitor=Monitor()).array[0]
    feed = array[:batch, np.newaxis] if batch > 1 else array[np.newaxis, np.newaxis, :96, :96, :96]
    for words, more in SETTINGS.items():
        options = {"cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"} | more
        try:
            session = onnxruntime.InferenceSession(
                str(model.onnx_path), providers=[("CUDAExecutionProvider", options), "CPUExecutionProvider"]
            )
            binding = session.io_binding()
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feed, np.float32), "cuda", 0)
            binding.bind_ortvalue_input("x", value)
            binding.bind_output(session.get_outputs()[0].name, "cuda")
            took = []
            for _ in range(12):
                started = time.perf_counter()
                session.run_with_iobinding(binding)
                binding.synchronize_outputs()
                took.append(time.perf_counter() - started)
            print(f"{name}, {words}: first {took[0] * 1000:.0f} ms, then {statistics.median(took[2:]) * 1000:.2f} ms")
        except Exception as error:  # a setting that this build lacks is told
            print(f"{name}, {words}: {str(error)[:200]}")


def main() -> int:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--kept", type=Path, help="a folder for labels, to compare versions")
    parser.add_argument("--settings", action="store_true", help="try settings of the CUDA provider, too")
    parser.add_argument("--quick", action="store_true", help="small networks, to see whether it runs")
    options = parser.parse_args()
    for device in available_devices():
        print(f"{device.id}: {device.name}, {'works' if device.works else device.reason}", flush=True)
    print(f"MedSeg in {sys.path[0]}, ONNX Runtime {onnxruntime.__version__}", flush=True)
    small = options.quick
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases: list[tuple[str, Callable[[], str], Callable[[], Path]]] = [
            (
                "2D U-Net, 40 slices of 256",
                lambda: unet_2d(folder / "unet-2d", 8 if small else 64),
                lambda: noise(folder / "a.nrrd", (4 if small else 40, 256, 256)),
            ),
            (
                "3D residual U-Net, 96^3 windows, 256x256x180",
                lambda: residual_unet_3d(folder / "residual-unet-3d", 4 if small else 32, 32 if small else 96),
                lambda: noise(folder / "b.nrrd", (40, 48, 64) if small else (180, 256, 256)),
            ),
            (
                "wmh-compact, FLAIR phantom",
                lambda: "wmh-compact",
                lambda: _phantom(folder / "c.nrrd", phantoms.flair(5)),
            ),
            ("cmb-compact, SWI phantom", lambda: "cmb-compact", lambda: _phantom(folder / "d.nrrd", phantoms.swi(5))),
        ]
        for title, make, draw in cases:
            source, volume = make(), draw()
            results.append(measure(title, source, volume, options.device, 2 if small else RUNS, options.kept))
            if options.settings and title[:2] in ("2D", "3D"):
                try_settings(title, source, volume)
    if options.output:
        options.output.write_text(json.dumps(results, indent=1, default=str) + "\n", encoding="utf-8")
    return 0


def _phantom(path: Path, phantom: Any) -> Path:
    volume: Volume = phantom.volume
    image: Any = sitk.GetImageFromArray(volume.array)
    volume.grid.place(image)
    image.SetMetaData("modality", volume.modality or "")
    sitk.WriteImage(image, str(path))
    return path


if __name__ == "__main__":
    sys.exit(main())
