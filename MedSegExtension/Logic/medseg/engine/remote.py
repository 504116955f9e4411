"""Networks on a server of the Open Inference Protocol (KServe v2), through ``tritonclient``.

Only tensors travel: no name, no file, no DICOM tag. The same `Session` goes on locally where the user chose that.
"""

from __future__ import annotations

import importlib.util
import queue
import ssl
import threading
import time
import weakref
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from ..errors import DeviceError, InputError, MedSegError, ModelError, OutOfMemory
from ..model.package import Model
from ..monitor import Monitor
from . import devices
from .calling import CallingThread
from .devices import plain_words
from .providers import parse_device
from .server import TOKEN, Server, ServerDown, network_name
from .session import Session

Array = npt.NDArray[Any]
#: As the provenance names it, beside ONNX Runtime's provider names.
PROVIDER = "remote"
_CONNECT_SECONDS = 10.0
_FIRST_PAUSE = 0.5
_TEMPORARY = ("408", "429", "500", "502", "503", "504")
_REFUSED = ("401", "403")
_MEMORY = ("out of memory", "failed to allocate", "bad_alloc", "unable to allocate")


class RemoteSession(Session):
    """A network on a server. Make it with `RemoteSession.connect`; `run` may be called from several threads.

    ``in_flight``: how many calls of `run` at once are worth while. ``server``: where it is. ``down``: when (monotonic
    seconds) and how the server failed, None while it did not; too little memory there for one image is no such failure.
    """

    def __init__(
        self, model: Model, monitor: Monitor, threads: int | None, precision: str, server: Server, device: str
    ) -> None:
        super().__init__(model, monitor, threads, precision)
        self.server = self._server = server
        self._asked = device
        self.down: tuple[float, str] | None = None
        self._network = server.name or network_name(model)
        self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._falling = threading.Lock()
        self._away = True
        self._answered = 0
        self.in_flight = server.in_flight

    @classmethod
    def connect(
        cls, model: Model, device: str = "auto", *, server: Server, monitor: Monitor, threads: int | None = None,
        precision: str = "auto",
    ) -> RemoteSession:  # fmt: skip
        """Find ``model`` on ``server``. ``device``, ``threads``, ``precision``: of this computer, after a fall-back.

        Raises `InputError` where ``tritonclient`` is missing, `ServerDown` (rule ``error``), `DeviceError` where the
        token is refused, `ModelError` where the server lacks the network or has another one under its name.
        """
        if importlib.util.find_spec("tritonclient") is None or importlib.util.find_spec("geventhttpclient") is None:
            raise InputError('A server needs the package tritonclient: pip install "medseg[server]".')
        session = cls(model, monitor, threads, precision, server, device)
        try:
            session._connect()
        except BaseException:
            session.close()
            raise
        return session

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        """As `Session.run`. Where the server cannot, the rule decides: `ServerDown`, or this computer from now on."""
        if self._away:
            try:
                outputs: dict[str, Array] = self._call(lambda client: self._infer(client, feeds))
                with self._falling:
                    self._answered += 1
                return outputs
            except ServerDown as error:
                self.down = self.down or (
                    time.monotonic(),
                    str(error),
                )  # the first call says why, others that it is over
                self._fall_back(error)
        with self._falling:  # a local session takes one call at a time
            return super().run(feeds)

    def to_cpu(self) -> None:
        """As `Session.to_cpu`; from a server only where the rule is ``local``."""
        if self._away:
            self._fall_back(ServerDown(f"The memory of the server {self._server.place} does not suffice."))
        else:
            super().to_cpu()

    def close(self) -> None:
        """Free the network and the connections."""
        self._drop_lanes()
        super().close()

    # -- the server -----------------------------------------------------------------------------------------

    def _connect(self) -> None:
        server = self._server
        if not server.encrypted and not server.here:
            self._monitor.warn(
                f"The image's voxels travel unencrypted to {server.place}; use an https:// address outside a network "
                "that you trust."
            )
        for _ in range(server.in_flight):
            self._lanes.put(_Lane(server))
        self.providers_requested = (PROVIDER,)
        try:
            about, network, said_hash = self._call(self._look_up)
        except ServerDown as error:
            self.down = (time.monotonic(), str(error))
            self._fall_back(error)
            return
        self._check_names(network)
        self._check_hash(said_hash)
        software = " ".join(str(about.get(k, "")) for k in ("name", "version")).strip() or "unnamed server"
        self.provider = f"{PROVIDER} (KServe v2, {software})"
        self.device = f"{server.place} ({software})"
        self._monitor.note(f"The network runs on the server {server.place} ({software}); only voxels travel there.")

    def _look_up(self, client: Any) -> tuple[dict[str, Any], dict[str, Any], str]:
        headers = self._headers()
        about = client.get_server_metadata(headers=headers)
        network = client.get_model_metadata(self._network, headers=headers)
        from tritonclient.utils import InferenceServerException

        try:  # an extension of Triton; other servers do not tell their configuration
            settings = client.get_model_config(self._network, headers=headers)
            said = settings.get("parameters", {}).get("medseg_sha256", {}).get("string_value", "")
        except (InferenceServerException, AttributeError):
            said = ""
        return dict(about), dict(network), str(said)

    def _check_names(self, network: dict[str, Any]) -> None:
        self.input_shapes, self.output_shapes = (_shapes(network.get(k, [])) for k in ("inputs", "outputs"))
        manifest = self._model.manifest
        missing = {t.name for t in manifest.inputs} ^ set(self.input_shapes)
        missing |= {manifest.output.tensor} - set(self.output_shapes)
        if missing:
            raise ModelError(
                f"{self._network} on {self._server.place} is another network than {manifest.title}: the tensor(s) "
                f"{', '.join(sorted(missing))} are not on both sides. {self._export_it()}"
            )

    def _check_hash(self, said: str) -> None:
        if said and said != self._model.sha256:
            raise ModelError(
                f"{self._network} on {self._server.place} has other weights than {self._model.manifest.title} here. "
                + self._export_it()
            )
        if not said:
            self._monitor.warn(
                f"The server {self._server.place} does not say which weights {self._network} has; that they are those "
                f"of {self._model.manifest.title} is taken from its name."
            )

    def _export_it(self) -> str:
        return f"Write it anew: medseg models export {self._model.manifest.id} --triton DIR"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._server.token}"} if self._server.token else {}

    def _infer(self, client: Any, feeds: dict[str, Array]) -> dict[str, Array]:
        from tritonclient.http import InferInput, InferRequestedOutput
        from tritonclient.utils import np_to_triton_dtype

        inputs = []
        for name, array in feeds.items():
            one = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            one.set_data_from_numpy(np.ascontiguousarray(array), binary_data=True)
            inputs.append(one)
        way = "deflate" if self._server.compressed else None
        wanted = [InferRequestedOutput(name, binary_data=True) for name in self.output_shapes]
        answer = client.infer(
            self._network, inputs, outputs=wanted, headers=self._headers(),
            request_compression_algorithm=way, response_compression_algorithm=way,
        )  # fmt: skip
        outputs: dict[str, Array] = {}
        for name, shape in self.output_shapes.items():
            value = answer.as_numpy(name)
            if value is None:
                raise ValueError(f"no output {name}")
            if len(value.shape) != len(shape) or any(
                w not in (None, n) for w, n in zip(shape, value.shape, strict=True)
            ):
                raise ValueError(f"output {name} of shape {list(value.shape)} in place of {list(shape)}")
            # The client hands out views of its answer, which cannot be written to.
            outputs[name] = np.array(value)
        return outputs

    def _call(self, function: Any) -> Any:
        """``function(client)`` on a free connection, tried again where the connection fails."""
        pause, tries = _FIRST_PAUSE, self._server.retries + 1
        for left in range(tries - 1, -1, -1):
            lane = self._free_lane()
            try:
                result = lane.call(function, self._monitor)
            except Exception as error:
                lane.close()
                self._lanes.put(_Lane(self._server))
                self._monitor.checkpoint()
                translated, again = self._told(error)
                if not again or not left or not self._away:
                    raise translated from error
                self._monitor.note(f"{translated} Trying again.")
            else:
                self._lanes.put(lane)
                return result
            end = time.monotonic() + pause
            while time.monotonic() < end:
                self._monitor.checkpoint()
                time.sleep(0.05)
            pause *= 2
        raise AssertionError("unreachable")

    def _free_lane(self) -> _Lane:
        while True:
            self._monitor.checkpoint()
            if not self._away:  # another call has fallen back while this one waited
                raise ServerDown(f"The server {self._server.place} was given up.")
            try:
                return self._lanes.get(timeout=0.1)
            except queue.Empty:
                continue

    def _told(self, error: Exception) -> tuple[MedSegError, bool]:
        """``error`` as a sentence, and whether another try may help."""
        from tritonclient.utils import InferenceServerException

        place, name = self._server.place, self._network
        if isinstance(error, MedSegError):
            return error, False
        if isinstance(error, InferenceServerException):
            status, words = str(error.status() or ""), plain_words(error)
            if status in _REFUSED:
                return DeviceError(
                    f"The server {place} refuses the token ({status}); correct it (for commands: {TOKEN})."
                ), False
            if any(text in words.lower() for text in _MEMORY):
                return OutOfMemory(f"The memory of the server {place} does not suffice: {words}."), False
            if status in _TEMPORARY:
                return ServerDown(f"The server {place} fails: {words}."), status != "500"
            if status == "404" or "unknown model" in words.lower() or "not found" in words.lower():
                return ModelError(f"The server {place} has no network {name}: {words}. {self._export_it()}"), False
            return ModelError(f"The server {place} does not take what {name} is fed: {words}."), False
        if isinstance(error, ssl.SSLError):
            return DeviceError(
                f"The certificate of {place} is not accepted ({plain_words(error)}); name its authority's PEM file."
            ), False
        if isinstance(error, TimeoutError):
            return ServerDown(f"The server {place} did not answer within {self._server.timeout:g} s."), False
        if isinstance(error, OSError) or "connection" in type(error).__name__.lower():
            return ServerDown(f"The server {place} cannot be reached ({plain_words(error)})."), True
        return ModelError(f"The server {place} answers otherwise than its protocol says: {plain_words(error)}."), False

    # -- going on here --------------------------------------------------------------------------------------

    def _fall_back(self, error: ServerDown) -> None:
        """Open the network on this computer, once, telling so; raises ``error`` where the rule is ``error``."""
        with self._falling:
            if not self._away:
                return
            if self._server.fallback == "error":
                raise ServerDown(
                    f"{error} Start the server again, or choose the fall-back rule local (--server-fallback local)."
                )
            self._monitor.warn(
                f"{error} This computer goes on, as the fall-back rule local says; the server had answered "
                f"{self._answered} request(s)."
            )
            kind, which = parse_device(self._asked)
            devices.prepare_runtime()
            if kind == "auto":
                self._open_best()
            else:
                self._open_asked(kind, f"{kind}:{which}" if which else kind)
            self._away, self.fell_back = False, True
            if self._answered:
                self.provider = f"{PROVIDER}, then {self.provider}"
            self.in_flight = 1
            self._drop_lanes()

    def _drop_lanes(self) -> None:
        while not self._lanes.empty():
            self._lanes.get().close()


class _Lane:
    """One connection and the thread that uses it: a client is for one thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = CallingThread()
        self._clients: list[Any] = []  # none or one
        self._end = weakref.finalize(self, _end, self._thread, self._clients)

    def call(self, function: Any, monitor: Monitor) -> Any:
        return self._thread.call(lambda: function(self._opened()), monitor, lambda: None)

    def _opened(self) -> Any:
        if not self._clients:
            from tritonclient.http import InferenceServerClient

            server, parts = self._server, urlsplit(self._server.url)
            authority = str(server.authority) if server.authority else None
            client = InferenceServerClient(
                parts.netloc + parts.path.rstrip("/"),
                connection_timeout=min(_CONNECT_SECONDS, server.timeout),
                network_timeout=server.timeout,
                ssl=server.encrypted,
                ssl_context_factory=(lambda: ssl_context(authority)) if server.encrypted else None,
            )
            self._clients.append(client)
        return self._clients[0]

    def close(self) -> None:
        self._end()


def _end(thread: CallingThread, clients: list[Any]) -> None:
    """Close the connection in the thread that opened it, as gevent asks."""
    thread.close(lambda: clients.pop().close() if clients else None)


def ssl_context(authority: str | None) -> Any:
    """TLS with the certificate and the host's name checked, as gevent's sockets take it.

    Raises `InputError` where the file ``authority`` holds no certificate.
    """
    from gevent import ssl as gevent_ssl

    try:
        return gevent_ssl.create_default_context(cafile=authority)
    except (ssl.SSLError, OSError) as error:
        what = authority or "this computer's store of certificates"
        raise InputError(f"{what}: no certificate can be read; name a PEM file of the server's authority.") from error


def _shapes(tensors: list[dict[str, Any]]) -> dict[str, tuple[int | None, ...]]:
    return {str(t["name"]): tuple(n if n > 0 else None for n in map(int, t.get("shape", []))) for t in tensors}


def open_network(model: Model, device: str = "auto", *, server: Server | None = None, **options: Any) -> Session:
    """An open session of ``model``: on ``server`` where one is named, else on ``device`` (`Session.open`)."""
    if server is not None:
        return RemoteSession.connect(model, device, server=server, **options)
    return Session.open(model, device, **options)
