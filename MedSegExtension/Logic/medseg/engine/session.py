"""ONNX Runtime behind one class: which provider really runs, running with cancel, out of memory, going to the CPU."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from ..errors import DeviceError, InputError, ModelError, OutOfMemory
from ..model.package import Model
from ..monitor import Monitor
from . import automatic, devices, machine, openvino_engine, providers
from .calling import CallingThread
from .devices import plain_words
from .lower_precision import Compared
from .openvino_engine import OpenVinoNetwork
from .providers import CPU, PROVIDERS, WORDS, parse_device
from .reopened import Reopened, small_network

_WORDS_OF = {PROVIDERS[kind]: words for kind, words in WORDS.items()}
Array = npt.NDArray[Any]

# What ONNX Runtime says where the sizes inside a network do not fit together.
_SIZE_TEXTS = (
    "broadcast an axis", "non concat axis dimensions", "cannot be reshaped", "dimension mismatch", "shape mismatch",
    "must match", "incompatible dimensions", "input shape:{", "invalid input shape",
)  # fmt: skip
# Values of an input up to which two engines are held in memory at once.
_MOST_COMPARED = 8_000_000


class _Refused(Exception):
    """A device that cannot be used, and why."""


class Session:
    """An open network. Make it with `Session.open`.

    ``provider``: ONNX Runtime's name of what really runs. ``device``: its name for people.
    ``providers_requested``: what was asked for. ``fell_back``: True once `to_cpu` left the device that was opened.
    ``input_shapes``, ``output_shapes``: by tensor name, None where a size is open; a tensor of unknown rank is
    not there. ``in_flight``: how many calls of `run` at once, from several threads, are worth while.
    """

    def __init__(self, model: Model, monitor: Monitor, threads: int | None, precision: str) -> None:
        self._model = model
        self._monitor = monitor
        self._threads = threads
        self._precision = precision
        self._runner = CallingThread()
        self._end = weakref.finalize(self, self._runner.close)
        self._session: Any = None
        self._openvino: OpenVinoNetwork | Compared | None = None
        #: Whether a call of the present run failed, so that its volume was not run whole.
        self._failed = False
        self._undecided = False
        self._said_at_opening: tuple[str, ...] = ()
        self._chosen = ""
        self.fell_back = False
        self.in_flight = 1
        self.provider = ""
        self.device = ""
        self.providers_requested: tuple[str, ...] = ()
        self.input_shapes: dict[str, tuple[int | None, ...]] = {}
        self.output_shapes: dict[str, tuple[int | None, ...]] = {}

    @classmethod
    def open(
        cls,
        model: Model,
        device: str = "auto",
        *,
        monitor: Monitor,
        threads: int | None = None,
        precision: str = "auto",
    ) -> Session:
        """Load ``model`` (checked by `medseg.model.package.load_model`) on ``device``.

        ``device``: ``auto`` takes the best that truly runs and tells why a better one was not taken; an id such as
        ``cuda:0`` takes that or raises `DeviceError`. ``threads``: CPU threads, None for the physical cores.
        ``precision``: ``auto`` (on the processor the faster engine, see `automatic`), ``float32`` (exact: ONNX Runtime,
        no TF32), ``float16`` (TensorRT and OpenVINO only) or ``bfloat16`` (``openvino:cpu`` only).
        Raises `InputError`, `DeviceError`, `OutOfMemory`, `ModelError`, `Cancelled`.
        """
        if precision not in ("auto", "float32", "float16", "bfloat16"):
            raise InputError(f"{precision!r} is not a precision; choose auto, float32, float16 or bfloat16.")
        kind, which = parse_device(device)
        if threads is not None and threads < 1:
            raise InputError(f"The number of threads is {threads}; it must be 1 or more.")
        monitor.checkpoint()
        devices.prepare_runtime()
        session = cls(model, monitor, threads, precision)
        said_before = len(monitor.warnings)
        try:
            if kind == "auto":
                session._open_best()
            else:
                session._open_asked(kind, f"{kind}:{which}" if which else kind)
        except BaseException:
            session.close()
            raise
        session._said_at_opening = tuple(monitor.warnings[said_before:])
        return session

    def attach(self, monitor: Monitor) -> None:
        """Use this open session for another run: ``monitor`` cancels it, and is told again what opening told."""
        whole, self._failed = not (self._failed or self._monitor.cancelled), False
        self._monitor = monitor
        for sentence in self._said_at_opening:
            monitor.warn(sentence)
        if isinstance(self._openvino, Compared):
            self._openvino.volume_is_done(whole)
            self._chosen = ""
        elif self._chosen:
            monitor.note(self._chosen)

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """All outputs by name for ``feeds`` by input name.

        Raises `Cancelled` within about a second of ``monitor.cancel()``, `OutOfMemory`, `ModelError` (the feeds do not
        fit), `DeviceError`.
        """
        if self._undecided:
            return self._run_and_choose(feeds)
        if self._openvino is not None:
            return self._run_openvino(self._openvino, feeds)
        return self._run_onnxruntime(feeds)

    def _run_onnxruntime(self, feeds: dict[str, Array]) -> dict[str, Array]:
        if self._session is None:
            raise DeviceError("The network was closed; open it again.")
        session, options = self._session, onnxruntime.RunOptions()
        options.log_severity_level = 4
        names = [o.name for o in session.get_outputs()]

        def stop() -> None:
            options.terminate = True

        try:
            values = self._runner.call(lambda: session.run(names, feeds, options), self._monitor, stop)
        except Exception as error:
            self._monitor.checkpoint()
            translated = self._translated(error, "run", feeds=feeds)
            if isinstance(translated, OutOfMemory):
                self.in_flight = 1
            raise translated from error
        return dict(zip(names, values, strict=True))

    def _run_openvino(self, network: OpenVinoNetwork | Compared, feeds: dict[str, Array]) -> dict[str, Array]:
        try:
            result = self._runner.call(lambda: network.run(feeds), self._monitor, network.stop)
            self._tell_precision(network)
            return result
        except Exception as error:
            self._failed = True
            self._monitor.checkpoint()
            if self._session is None:
                raise self._translated(error, "run", feeds=feeds) from error
            self._monitor.warn(f"OpenVINO failed ({plain_words(error)}); ONNX Runtime goes on.")
            self._leave_openvino()
            return self._run_onnxruntime(feeds)

    def _tell_precision(self, network: OpenVinoNetwork | Compared) -> None:
        """Say once a run how the network runs that was asked for, as soon as that is known."""
        if self._session is None and self._chosen != (sentence := network.words()):
            self._chosen = sentence
            (self._monitor.warn if network.refused else self._monitor.note)(sentence)

    def _leave_openvino(self) -> None:
        self._openvino, self.provider, self._chosen = None, CPU, ""

    def _run_and_choose(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """Run the first input, and decide which engine runs the next ones."""
        if not automatic.telling(feeds):
            return self._run_onnxruntime(feeds)
        self._undecided = False
        if sum(array.size for array in feeds.values()) > _MOST_COMPARED:
            self._chosen = automatic.TOO_LARGE
            self._monitor.note(self._chosen)
            return self._run_onnxruntime(feeds)
        key = automatic.key(self._model.sha256, self._threads, feeds)
        choice = automatic.remembered(key)
        if choice is not None and choice.engine == "onnxruntime":
            self._chosen = automatic.words(choice)
            self._monitor.note(self._chosen)
            return self._run_onnxruntime(feeds)
        try:
            network = self._runner.call(self._load_openvino, self._monitor, lambda: None)
            # Compiling is done once, so it says nothing of the calls that follow.
            self._runner.call(lambda: network.ready(feeds), self._monitor, lambda: None)
            if choice is None:
                choice, result = automatic.measured(
                    self._model.manifest,
                    lambda: self._run_onnxruntime(feeds),
                    lambda: self._runner.call(lambda: network.run(feeds), self._monitor, network.stop),
                )
                automatic.remember(key, choice)
            else:
                result = {}
        except Exception as error:
            self._monitor.checkpoint()
            self._monitor.note(f"OpenVINO does not run this network ({plain_words(error)}); ONNX Runtime does.")
            return self._run_onnxruntime(feeds)
        sentence = automatic.words(choice, network.words())
        self._monitor.note(sentence)
        self._chosen = sentence
        if choice.engine == "openvino":
            self._openvino, self.provider = network, f"{openvino_engine.PROVIDER} {openvino_engine.version()}"
        return result or self.run(feeds)

    def _load_openvino(self) -> OpenVinoNetwork | Compared:
        path = Path(self._model.onnx_path).resolve()

        def make(precision: str) -> OpenVinoNetwork:
            rewrite = self._precision != "float32"
            return OpenVinoNetwork(path, threads=self._threads, precision=precision, rewrite=rewrite)

        if self._precision in ("auto", "float32"):
            return make("float32")
        return Compared(self._model.manifest, self._precision, make, self._model.sha256, self._threads)

    def to_cpu(self) -> None:
        """Open the same network on the CPU and go on there; the caller tells why. Nothing happens where it is there."""
        if self._openvino is not None and self._session is not None:
            self._leave_openvino()
            return
        if self.provider == CPU and self._session is not None:
            return
        self.fell_back = True
        self._session = self._openvino = None
        self._open("cpu")

    def close(self) -> None:
        """Free the network; a run that is still ending keeps its memory until it has ended."""
        if isinstance(self._openvino, Compared):
            self._openvino.volume_is_done(not (self._failed or self._monitor.cancelled))
        self._session = self._openvino = None
        self._undecided = False
        self._end()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- opening --------------------------------------------------------------------------------------------

    def _open_best(self) -> None:
        built = onnxruntime.get_available_providers()
        if PROVIDERS["cuda"] not in built and machine.nvidia_cards():
            self._monitor.warn(
                f"This computer has an NVIDIA card ({machine.nvidia_cards()[0][0]}), but it is not used: "
                f"{devices.probe('cuda')}. Install onnxruntime-gpu instead to use it."
            )
        for id in devices.AUTOMATIC:
            kind, _ = parse_device(id)
            if PROVIDERS[kind] not in built:
                continue
            reason = devices.probe(id)
            if not reason:
                try:
                    self._open(id)
                    return
                except (_Refused, OutOfMemory) as error:
                    if kind == "cpu":
                        raise self._final(error) from error
                    reason = str(error)
            self._monitor.warn(f"{WORDS[kind]} is installed but not used: {reason.rstrip('.')}.")
        raise DeviceError(
            f"ONNX Runtime runs nothing here, not even on the CPU ({devices.probe('cpu')}); install onnxruntime again."
        )

    def _open_asked(self, kind: str, id: str) -> None:
        reason = devices.probe(id)
        if reason:
            working = ", ".join(d.id for d in devices.available_devices() if d.works)
            raise DeviceError(f"The device {id} does not run: {reason.rstrip('.')}. Working here: {working}.")
        try:
            self._open(id)
        except _Refused as error:
            raise self._final(error) from error

    def _open(self, id: str) -> None:
        """Open on exactly this device; `_Refused` where something else would run."""
        kind, which = parse_device(id)
        if kind == "openvino" and devices.by_openvino_itself(which):
            self._open_openvino()
            return
        wanted = providers.providers_for(id, self._precision)
        if self._precision == "float16" and kind not in ("tensorrt", "openvino"):
            self._monitor.warn(f"{WORDS[kind]} runs this network in float32; float16 is for TensorRT and OpenVINO.")
        path = Path(self._model.onnx_path).resolve()
        whole = self._model.manifest.inference.mode == "whole"
        small = small_network(path) if whole and kind == "cpu" else None
        options = providers.session_options(kind, self._threads, whole=whole, arena=not whole or small is not None)

        def stop() -> None:
            if hasattr(options, "set_load_cancellation_flag"):
                options.set_load_cancellation_flag(True)

        def make(options: Any = options) -> Any:
            opened = onnxruntime.InferenceSession(small or str(path), options, providers=wanted, enable_fallback=0)
            opened.disable_fallback()
            return opened

        def small_one() -> Any:
            frugal = providers.session_options(kind, self._threads, whole=True, arena=False)
            return Reopened(make, lambda: make(frugal), lambda sentence: self._monitor.note(sentence))

        self.providers_requested = tuple(name for name, _ in wanted)
        try:
            session = self._runner.call(small_one if small else make, self._monitor, stop)
        except Exception as error:
            self._monitor.checkpoint()
            translated = self._translated(error, "load", WORDS[kind])
            if isinstance(translated, OutOfMemory):
                raise translated from error
            raise _Refused(plain_words(error)) from error
        ran = session.get_providers()
        if not ran or ran[0] != PROVIDERS[kind]:
            raise _Refused(f"ONNX Runtime silently used {', '.join(ran) or 'nothing'} instead")
        self._session, self.provider = session, ran[0]
        self.in_flight = machine.calls_at_once(int(which or 0)) if kind == "cuda" else 1
        self._runner.at_least(self.in_flight)
        self.device = self._name(kind, which)
        self.input_shapes = _shapes(session.get_inputs())
        self.output_shapes = _shapes(session.get_outputs())
        if told := providers.parts_left_to_the_cpu(session, kind):
            self._monitor.warn(told)
        self._undecided = not self.fell_back and automatic.wanted(kind, self._precision)

    def _open_openvino(self) -> None:
        """OpenVINO alone, as asked for."""
        self.providers_requested = (openvino_engine.PROVIDER,)
        if self._precision in ("float16", "bfloat16") and self._precision not in openvino_engine.fast_precisions():
            self._monitor.warn(f"This processor has no {self._precision}; OpenVINO computes in float32.")
            self._precision = "float32"
        try:
            network = self._runner.call(self._load_openvino, self._monitor, lambda: None)
        except Exception as error:
            self._monitor.checkpoint()
            raise _Refused(plain_words(error)) from error
        self._openvino, self.provider = network, f"{openvino_engine.PROVIDER} {openvino_engine.version()}"
        self.device = f"CPU ({machine.cpu_name()}, OpenVINO)"
        self.input_shapes, self.output_shapes = network.input_shapes, network.output_shapes

    def _name(self, kind: str, which: str) -> str:
        if kind == "cpu":
            return f"CPU ({machine.cpu_name()})"
        if kind in ("cuda", "tensorrt"):
            cards, number = machine.nvidia_cards(), int(which or 0)
            name = cards[number][0] if number < len(cards) else f"NVIDIA card {number}"
            return f"{name} ({WORDS[kind]})"
        return WORDS[kind] + (f" {which}" if which else "")

    # -- errors ---------------------------------------------------------------------------------------------

    def _final(self, error: Exception) -> Exception:
        """The error for the user where no other device is left to try."""
        if isinstance(error, OutOfMemory):
            return error
        name = self._model.manifest.title
        if self.providers_requested == (CPU,):
            return ModelError(f"{name}: ONNX Runtime {onnxruntime.__version__} cannot load the network: {error}.")
        place = _WORDS_OF.get(self.providers_requested[0], self.providers_requested[0])
        return DeviceError(f"{name} cannot run on {place}: {error}. Choose the CPU.")

    def _translated(
        self, error: Exception, what: str, place: str = "", feeds: dict[str, Array] | None = None
    ) -> Exception:
        place = place or self.device
        text = str(error)
        if machine.memory_ran_out(error):
            return OutOfMemory(
                f"The memory of {place} does not suffice to {what} {self._model.manifest.title}; choose a smaller "
                "region or patch, or another device."
            )
        if type(error).__name__ == "InvalidArgument" or isinstance(error, (ValueError, TypeError)):
            return ModelError(
                f"{self._model.manifest.title}: the network does not take what its manifest feeds it: "
                f"{plain_words(error)}."
            )
        if feeds and any(t in text.lower() for t in _SIZE_TEXTS):
            sizes = ", ".join(" x ".join(map(str, array.shape)) for array in feeds.values())
            return ModelError(
                f"{self._model.manifest.title}: the network cannot take an image of this size ({sizes}): its own parts "
                "do not fit together there, as where it halves an odd size. Give the manifest the multiple_of that its "
                "sizes must be of (often 16 or 32), or import the network again, which finds it out."
            )
        return DeviceError(f"{self._model.manifest.title} failed on {place}: {plain_words(error)}.")


def _shapes(values: list[Any]) -> dict[str, tuple[int | None, ...]]:
    return {v.name: tuple(d if isinstance(d, int) and d > 0 else None for d in v.shape) for v in values if v.shape}
