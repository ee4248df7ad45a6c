"""The proxies of docs/collect.md, with a certificate of their own, on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from data_prep.collect.web.site import Site
from tests.data_prep.collect.conftest import Annotator, Make
from tests.data_prep.collect.test_kills import free_port

REPOSITORY = Path(__file__).resolve().parents[3]
DOCUMENT = (REPOSITORY / "docs" / "collect.md").read_text(encoding="utf-8")
NAME = "annotate.example.org"


def documented(language: str) -> str:
    """The block of a proxy."""
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return found[1]


def certificate(folder: Path) -> tuple[Path, Path]:
    key, pem = folder / "annotate.key", folder / "annotate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{NAME},DNS:localhost", "-keyout", str(key), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    return key, pem


def nginx(folder: Path, key: Path, pem: Path, port: int, upstream: int) -> list[str]:
    server = documented("nginx").replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    server = server.replace("/etc/ssl/certs/annotate.pem", str(pem)).replace("/etc/ssl/private/annotate.key", str(key))
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}").replace("$host;", "$http_host;")
    paths = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/errors;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}{server}}}\n"
    )
    return ["nginx", "-p", str(folder), "-e", str(folder / "errors"), "-c", str(config)]


def caddy(folder: Path, key: Path, pem: Path, port: int, upstream: int) -> list[str]:
    site = documented("caddy").replace(
        f"{NAME} {{", f"https://localhost:{port} {{\n\tbind 127.0.0.1\n\ttls {pem} {key}"
    )
    site = site.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
    config = folder / "Caddyfile"
    config.write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}")
    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]


@pytest.mark.parametrize("proxy", [nginx, caddy], ids=["nginx", "caddy"])
def test_annotators_reach_the_server_through_a_tls_proxy(
    make_project: Make, tmp_path: Path, proxy: Callable[..., list[str]]
) -> None:
    name = proxy.__name__
    for tool in (name, "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    project, store = make_project(practice=False)
    folder = tmp_path / name
    folder.mkdir()
    key, pem = certificate(tmp_path)
    port, upstream = free_port(), free_port()
    public = f"https://localhost:{port}"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    serve = [sys.executable, "-m", "data_prep", "collect", "serve", str(project.folder), f"--port={upstream}"]
    serve += [f"--public_url={public}", "--trusted_proxies=127.0.0.1"]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    front = subprocess.Popen(
        proxy(folder, key, pem, port, upstream), env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        assert server.stdout is not None and server.stdout.readline().startswith("serving")
        trusted = ssl.create_default_context(cafile=str(pem))
        _wait(public, trusted)
        token = Site(project, store, public_url=public).invite(1)[0].partition("#t=")[2]

        async def annotate() -> None:
            async with httpx.AsyncClient(base_url=public, verify=trusted, trust_env=False) as client:
                page = await client.get("/")
                assert page.status_code == 200 and page.headers["strict-transport-security"]
                annotator = Annotator(client, token)
                first = await annotator.start()
                assert (await client.get(first["pictures"][0]["url"])).headers["content-type"] == "image/jpeg"
                assert (await annotator.do(first, [0]))["complete"]
                login = await client.get("/owner/login")
                assert "secure" in login.headers["set-cookie"].lower()

        asyncio.run(annotate())
    finally:
        for process in (front, server):
            process.send_signal(signal.SIGTERM)
        for process in (front, server):
            process.wait(20)
        assert server.stdout is not None
        server.stdout.close()


def _wait(url: str, trusted: ssl.SSLContext) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            with httpx.Client(verify=trusted, trust_env=False) as client:
                assert client.get(f"{url}/healthz").json() == {"ok": True}
                return
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
