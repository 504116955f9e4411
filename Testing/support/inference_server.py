"""A small server of the Open Inference Protocol (KServe v2, HTTP with binary tensors) that runs ONNX Runtime.

It stands for Triton where a test needs it to fail in a certain way; `Testing/benchmarks/remote.py` has the real one.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from medseg.engine.server import network_name
from medseg.model.package import Model

_TYPES = {"float": "FP32", "tensor(float)": "FP32", "tensor(uint8)": "UINT8", "tensor(int64)": "INT64"}
_DTYPES = {"FP32": np.float32, "UINT8": np.uint8, "INT64": np.int64}


class InferenceServer(ThreadingHTTPServer):
    """Serves ``model``. ``token``: asked for. ``delay``: seconds that each answer takes. ``dies_after``: answers after
    which it is gone. ``wrong``: what it does wrongly (``shape``, ``hash``, ``no config``, ``busy``, ``garbage``).

    ``certificate``: files of certificate and key; the server then speaks TLS.

    ``seen``: the requests to infer, as (headers, JSON part). ``most_at_once``: how many were under way.
    """

    daemon_threads = True

    def __init__(
        self,
        model: Model,
        *,
        token: str = "",
        delay: float = 0,
        dies_after: int = 0,
        wrong: str = "",
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.network = onnxruntime.InferenceSession(str(model.onnx_path), providers=["CPUExecutionProvider"])
        self.name, self.sha256 = network_name(model), model.sha256 if wrong != "hash" else "0" * 64
        self.token, self.delay, self.dies_after, self.wrong = token, delay, dies_after, wrong
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.at_once = self.most_at_once = self.busy = 0
        self.lock = threading.Lock()
        self.dead = False
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.server_address[1]}"
        if certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(*certificate)
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *_: object) -> None:
        if not self.dead:
            self.shutdown()
        self.server_close()

    def die(self) -> None:
        """Gone, as a killed process: no answer, no further connection."""
        self.dead = True
        self.socket.close()
        threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Clients that went away are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: InferenceServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on the console."""

    def do_GET(self) -> None:
        if self._refused():
            return
        path, name = self.path, self.server.name
        if path.rstrip("/") == "/v2":
            self._json(200, {"name": "test server", "version": "1", "extensions": ["binary_tensor_data"]})
        elif path == f"/v2/models/{name}":
            network = self.server.network
            tensors = {"inputs": _described(network.get_inputs()), "outputs": _described(network.get_outputs())}
            self._json(200, {"name": name, "versions": ["1"], **tensors})
        elif path == f"/v2/models/{name}/config" and self.server.wrong != "no config":
            self._json(200, {"parameters": {"medseg_sha256": {"string_value": self.server.sha256}}})
        else:
            self._json(404, {"error": f"Request for unknown model: '{path}' is not found"})

    def do_POST(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refused():
            return
        if self.headers.get("Content-Encoding") == "deflate":
            body = zlib.decompress(body)
        length = int(self.headers["Inference-Header-Content-Length"])
        request = json.loads(body[:length])
        with server.lock:
            server.seen.append((dict(self.headers), request))
            number = len(server.seen)
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        time.sleep(server.delay)
        with server.lock:
            server.at_once -= 1
            if server.dies_after and number > server.dies_after and not server.dead:
                server.die()
        if server.dead:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif server.wrong == "busy" and number == 1:
            self._json(503, {"error": "busy"})
        elif server.wrong == "garbage":
            self._send(200, b"\x00not json", {})
        else:
            self._infer(request, body[length:])

    def _infer(self, request: dict[str, Any], data: bytes) -> None:
        feeds, at = {}, 0
        for one in request["inputs"]:
            size = one["parameters"]["binary_data_size"]
            array = np.frombuffer(data[at : at + size], _DTYPES[one["datatype"]]).reshape(one["shape"])
            feeds[one["name"]], at = array, at + size
        names = [o["name"] for o in request["outputs"]]
        try:
            values = self.server.network.run(names, feeds)
        except Exception as error:
            self._json(400, {"error": str(error)})
            return
        if self.server.wrong == "shape":
            values = [v[..., :-1] for v in values]
        outputs = [
            {
                "name": n,
                "datatype": _TYPES["float"],
                "shape": list(v.shape),
                "parameters": {"binary_data_size": v.nbytes},
            }
            for n, v in zip(names, values, strict=True)
        ]
        head = json.dumps({"model_name": self.server.name, "model_version": "1", "outputs": outputs}).encode()
        answer = head + b"".join(np.ascontiguousarray(v).tobytes() for v in values)
        headers = {"Inference-Header-Content-Length": str(len(head))}
        if self.headers.get("Accept-Encoding") == "deflate":
            answer, headers = zlib.compress(answer), headers | {"Content-Encoding": "deflate"}
        self._send(200, answer, headers)

    def _refused(self) -> bool:
        token = self.server.token
        if not token or self.headers.get("Authorization") == f"Bearer {token}":
            return False
        self._json(401, {"error": "unauthorized"})
        return True

    def _json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _described(values: list[Any]) -> list[dict[str, Any]]:
    return [
        {"name": v.name, "datatype": _TYPES[v.type], "shape": [d if isinstance(d, int) else -1 for d in v.shape]}
        for v in values
    ]
