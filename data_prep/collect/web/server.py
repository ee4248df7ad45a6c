"""`collect serve`: uvicorn around the application, with one process for SQLite and any number for PostgreSQL."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import uvicorn

from data_prep.collect.project import Project
from data_prep.collect.sqlite import only_server
from data_prep.collect.store import get_meta
from data_prep.collect.web.app import build
from data_prep.collect.web.site import Site
from luab_jax.errors import DataError, UserError

_KEEP_ALIVE_S = 65
_STOP_S = 5


def serve(project: Project, *, host: str, port: int, public_url: str, trusted_proxies: str, ready=None) -> None:
    """Serves until SIGINT or SIGTERM, then raises `KeyboardInterrupt`. `ready(site)`: once the address is bound."""
    with contextlib.ExitStack() as stack:
        if project.is_sqlite:
            stack.enter_context(only_server(project.lock_path))
        bound = stack.enter_context(_bind(host, port))
        store = stack.enter_context(project.open_store())
        if not store.read(lambda tx: get_meta(tx, "images")):
            raise DataError(f"{project.folder}: nothing is planned yet; run `collect plan` first")
        port = bound.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        site = Site(project, store, public_url=public_url or f"http://{shown}:{port}")
        _ = site.pictures  # moved archives are told now, not to an annotator
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s")
        settings = uvicorn.Config(
            build(site),
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_STOP_S,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies or None,
            h11_max_incomplete_event_size=64 << 10,
        )
        server = uvicorn.Server(settings)
        with _ended_by_signals(server):
            if ready is not None:
                ready(site)
            server.run(sockets=[bound])
    if server.should_exit:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Signals ask the server to end from now on, not only once it listens to them itself.

    What a signal raises while the event loop is being made can be lost, and the server then goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _bind(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as e:
        raise UserError(f"--host={host} --port={port}: cannot listen there ({e.strerror or e})") from e
    with bound:
        yield bound
