"""S3 on loopback: moto's server, counted, slowed down and made to fail as the emulator of Cloud Storage is.

with S3() as server:
    server.make_bucket("bucket")
    os.environ |= server.environment()
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.emulators.faults import Behaviour

_ACCOUNT = "123456789012"
_Start = Callable[..., Any]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


class S3:
    """The server, in threads of its own while it is entered. One at a time in a process, as moto keeps its state."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="s3")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "of-a-test",
            "AWS_SECRET_ACCESS_KEY": "of-a-test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def __enter__(self) -> S3:
        self._backend.reset()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)
        self._backend.reset()

    @property
    def _backend(self) -> Any:
        return get_backend("s3")[_ACCOUNT]["aws"]

    def make_bucket(self, name: str) -> str:
        self._backend.create_bucket(name, "us-east-1")
        return f"s3://{name}"

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self._backend.put_object(bucket, name, data)

    def content(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Objects by their names below the prefix."""
        keys = self._backend.get_bucket(bucket).keys
        return {name.removeprefix(prefix): key.value for name, key in keys.items() if name.startswith(prefix)}

    def _answer(self, environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        if self.behaviour.latency_s:
            time.sleep(self.behaviour.latency_s)
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        path = environ["PATH_INFO"]
        fault = self.behaviour.fault(f"{method} {path}{'?' if query else ''}{query}")
        if fault is not None and fault.kind == "status":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _error(
                method, fault.status, {429: "SlowDown", 503: "SlowDown"}.get(fault.status, "InternalError"), start
            )
        if fault is not None and fault.kind == "reset":
            _end(environ["werkzeug.socket"])
            start("500 Reset", [])
            return [b""]
        if method != "GET" and method != "HEAD" and path.strip("/").partition("/")[0] in self.behaviour.closed:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _error(method, 403, "AccessDenied", start)
        body = self._moto(environ, start)
        return body if fault is None else _half(b"".join(body), environ["werkzeug.socket"])


def _error(method: str, status: int, code: str, start: _Start) -> list[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>of a test</Message></Error>".encode()
    start(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [] if method == "HEAD" else [body]


def _half(body: bytes, connection: socket.socket) -> Iterable[bytes]:
    """The header announced all of it."""
    yield body[: len(body) // 2]
    _end(connection)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
