"""Cloud Storage's JSON API on loopback, as far as gcsfs and tensorstore use it; objects are kept in memory.

    with CloudStorage() as server:
        server.make_bucket("bucket")
        os.environ |= server.environment()

Names, conditions (`ifGenerationMatch`), ranges and listings follow https://cloud.google.com/storage/docs/json_api/v1.
`python -m tests.emulators.cloud_storage PORT BUCKET...` serves until it is interrupted.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import google_crc32c
from aiohttp import web

from tests.emulators.faults import Behaviour


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    bucket: str
    name: str
    data: bytes
    generation: int

    def resource(self) -> dict[str, Any]:
        when = f"2026-01-01T00:00:{self.generation % 60:02d}.000Z"
        return {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "bucket": self.bucket,
            "name": self.name,
            "size": str(len(self.data)),
            "generation": str(self.generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "timeCreated": when,
            "updated": when,
            "etag": f"e{self.generation}",
            "crc32c": self.crc32c(),
            "md5Hash": base64.b64encode(hashlib.md5(self.data, usedforsecurity=False).digest()).decode(),
        }

    def crc32c(self) -> str:
        return base64.b64encode(struct.pack(">I", google_crc32c.value(self.data))).decode()


class CloudStorage:
    """The server, in a thread of its own while it is entered."""

    def __init__(self, port: int = 0) -> None:
        self.behaviour = Behaviour()
        self.objects: dict[tuple[str, str], Stored] = {}
        self.buckets: set[str] = set()
        self.port = port
        self._generation = 0
        self._uploads: dict[str, tuple[str, str, Mapping[str, str], bytearray]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="cloud-storage")
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """For gcsfs and etils, and for tensorstore, through which Orbax reads and writes arrays."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it would ask a service of gRPC for the kind of a bucket
        }

    def __enter__(self) -> CloudStorage:
        self._thread.start()
        assert self._ready.wait(20), "the emulator does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 32)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", self.port, backlog=512)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def make_bucket(self, name: str) -> str:
        self.buckets.add(name)
        return f"gs://{name}"

    def put(self, bucket: str, name: str, data: bytes) -> Stored:
        self._generation += 1
        stored = self.objects[bucket, name] = Stored(bucket, name, data, self._generation)
        return stored

    def content(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Objects by their names below the prefix."""
        found = {name: of.data for (where, name), of in self.objects.items() if where == bucket}
        return {name.removeprefix(prefix): data for name, data in found.items() if name.startswith(prefix)}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path
        body = await request.read()
        if self.behaviour.latency_s:
            await asyncio.sleep(self.behaviour.latency_s)
        fault = self.behaviour.fault(f"{request.method} {urllib.parse.unquote(raw)}")
        if fault is not None and fault.kind == "status":
            return _error(fault.status, "of a test")
        if fault is not None and fault.kind == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        try:
            response = self._respond(request.method, raw.partition("?")[0], dict(request.query), request.headers, body)
        except _RefusedError as e:
            return _error(e.status, str(e))
        if fault is not None and isinstance(response.body, bytes):
            return await _cut_short(request, response)
        return response

    def _respond(
        self, method: str, path: str, query: dict[str, str], headers: Mapping[str, str], body: bytes
    ) -> web.Response:
        _, _, rest = path.partition("/b/")
        bucket, _, rest = rest.partition("/")
        if bucket not in self.buckets:
            raise _RefusedError(404, "The specified bucket does not exist.")
        if method != "GET" and bucket in self.behaviour.closed:
            raise _RefusedError(403, "the caller does not have storage.objects.create access to the bucket")
        if path.startswith("/upload/"):
            return self._upload(method, bucket, query, headers, body)
        if rest == "o":
            return web.json_response(self._listing(bucket, query))
        if not rest.startswith("o/"):
            return web.json_response({"kind": "storage#bucket", "name": bucket, "id": bucket, "location": "US"})
        key = rest.removeprefix("o/")
        for verb in ("/moveTo/o/", f"/copyTo/b/{bucket}/o/", f"/rewriteTo/b/{bucket}/o/"):
            if verb in key:
                return self._copied(bucket, *(urllib.parse.unquote(name) for name in key.split(verb)), verb, query)
        name = urllib.parse.unquote(key)
        if method == "DELETE":
            self._find(bucket, name, query)
            del self.objects[bucket, name]
            return web.Response(status=204)
        found = self._find(bucket, name, query)
        if query.get("alt") == "media" or path.startswith("/download/"):
            return _media(found, headers.get("Range"))
        return web.json_response(found.resource())

    def _find(self, bucket: str, name: str, query: Mapping[str, str]) -> Stored:
        found = self.objects.get((bucket, name))
        wanted = query.get("generation")
        if found is None or (wanted and int(wanted) != found.generation):
            raise _RefusedError(404, f"No such object: {bucket}/{name}")
        self._check(bucket, name, query)
        if query.get("ifGenerationNotMatch") == str(found.generation):
            raise _RefusedError(304, "not modified")
        return found

    def _check(self, bucket: str, name: str, query: Mapping[str, str]) -> None:
        """The condition that a writer states; 0 stands for an object that is not there."""
        found = self.objects.get((bucket, name))
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and int(wanted) != (found.generation if found else 0):
            raise _RefusedError(412, "At least one of the pre-conditions you specified did not hold.")

    def _copied(self, bucket: str, source: str, target: str, verb: str, query: dict[str, str]) -> web.Response:
        found = self._find(bucket, source, {})
        self._check(bucket, target, query)
        copy = self.put(bucket, target, found.data)
        if verb.startswith("/moveTo"):
            del self.objects[bucket, source]
        resource = copy.resource()
        return web.json_response(
            {"kind": "storage#rewriteResponse", "done": True, "resource": resource} if "rewrite" in verb else resource
        )

    def _listing(self, bucket: str, query: Mapping[str, str]) -> dict[str, Any]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        first, end = query.get("startOffset", ""), query.get("endOffset", "")
        after, most = query.get("pageToken", ""), int(query.get("maxResults", 1000))
        items: list[dict[str, Any]] = []
        prefixes: set[str] = set()
        last = ""
        for (where, name), found in sorted(self.objects.items()):
            wanted = where == bucket and name.startswith(prefix) and name >= first and (not end or name < end)
            if not wanted or name <= after:
                continue
            if len(items) + len(prefixes) >= most:
                return _page(items, prefixes) | {"nextPageToken": last}
            last = name
            below = name[len(prefix) :]
            if delimiter and delimiter in below:
                prefixes.add(prefix + below.partition(delimiter)[0] + delimiter)
                last = name
            else:
                items.append(found.resource())
        return _page(items, prefixes)

    def _upload(
        self, method: str, bucket: str, query: dict[str, str], headers: Mapping[str, str], body: bytes
    ) -> web.Response:
        if "upload_id" in query:
            return self._continue_upload(method, query["upload_id"], headers, body)
        if query["uploadType"] == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            token = str(len(self._uploads) + 1)
            self._uploads[token] = bucket, name, query, bytearray()
            where = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={token}"
            return web.Response(headers={"Location": where})
        if query["uploadType"] == "media":
            name, data = query["name"], body
        else:
            resource, data = _parts(headers["Content-Type"], body)
            name = resource["name"]
        self._check(bucket, name, query)
        return web.json_response(self.put(bucket, name, data).resource())

    def _continue_upload(self, method: str, token: str, headers: Mapping[str, str], body: bytes) -> web.Response:
        if method == "DELETE":
            self._uploads.pop(token, None)
            return web.Response(status=499)
        bucket, name, query, content = self._uploads[token]
        place, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start = place.partition("-")[0]
        if start.isdigit():  # of one that is sent again, what has arrived is replaced
            del content[int(start) :]
        content += body
        if total == "*" or (total.isdigit() and len(content) < int(total)):
            return web.Response(status=308, headers={"Range": f"bytes=0-{len(content) - 1}"} if content else {})
        self._check(bucket, name, query)
        return web.json_response(self.put(bucket, name, bytes(content)).resource())


def _page(items: list[dict[str, Any]], prefixes: set[str]) -> dict[str, Any]:
    return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}


def _error(status: int, message: str) -> web.Response:
    if status == 304:
        return web.Response(status=status)
    return web.json_response({"error": {"code": status, "message": message}}, status=status)


def _media(found: Stored, wanted: str | None) -> web.Response:
    headers = {"X-Goog-Generation": str(found.generation), "ETag": f"e{found.generation}"}
    data, size = found.data, len(found.data)
    if wanted is None:
        return web.Response(body=data, headers=headers | {"X-Goog-Hash": f"crc32c={found.crc32c()}"})
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise _RefusedError(416, "Requested range not satisfiable")
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return web.Response(status=206, body=data[start:end], headers=headers)


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The resource and the data of a multipart upload, whose lines may end in either way."""
    boundary = content_type.partition("boundary=")[2].strip("\"'").encode()
    pieces = list(_pieces(body, b"--" + boundary))
    return json.loads(pieces[0]), pieces[1]


def _pieces(body: bytes, boundary: bytes) -> Iterator[bytes]:
    for piece in body.split(boundary)[1:3]:
        newline = b"\r\n" if piece.startswith(b"\r\n") else b"\n"
        yield piece.partition(newline * 2)[2].removesuffix(newline)


async def _cut_short(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Announces the whole body, sends half of it, and ends the connection."""
    assert isinstance(response.body, bytes) and request.transport is not None
    cut = web.StreamResponse(status=response.status, headers=response.headers)
    cut.content_length = len(response.body)
    await cut.prepare(request)
    await cut.write(response.body[: len(response.body) // 2])
    request.transport.close()
    return cut


def main() -> None:
    port, *buckets = sys.argv[1:]
    with CloudStorage(int(port)) as server:
        for name in buckets:
            server.make_bucket(name)
        print("\n".join(f"export {name}={value}" for name, value in server.environment().items()), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
