"""What comes from outside is read here: JSON bodies within limits, numbers, names of files. Errors become answers, and
bytes are answered with ETag, Range and 304.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from data_prep.collect.events import BadBatch, parse_json

MAX_REQUEST_BYTES = 64 << 10
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_MAX_DIGITS = 15
"""Of a number in an address or a header: enough for times in ms and sizes in bytes, exact as a float, and within what
the databases hold."""
_DIGITS = re.compile(f"[0-9]{{1,{_MAX_DIGITS}}}")
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024


class ApiError(Exception):
    """An answer of docs/collect-protocol.md §2."""

    def __init__(self, status: int, code: str, message: str, *, retry_s: int = 0, **more: Any):
        super().__init__(message)
        self.status, self.code, self.message, self.retry_s, self.more = status, code, message, retry_s, more

    def response(self) -> JSONResponse:
        headers = {"Retry-After": str(self.retry_s)} if self.retry_s else None
        error = {"code": self.code, "message": self.message, **self.more}
        return JSONResponse({"error": error}, status_code=self.status, headers=headers)


def whole_number(text: str) -> int | None:
    """A number from an address or a header: ASCII digits alone, at most 15 of them; `None` for anything else."""
    return int(text) if _DIGITS.fullmatch(text) else None


class _Number(Convertor[int]):
    """`{name:number}` in a route, as `whole_number`; another text is no such address."""

    regex = _DIGITS.pattern

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())


def may_be_file(path: str) -> bool:
    """Whether a file system can be asked for a relative path at all: it answers longer names with an error."""
    try:
        data = os.fsencode(path)
    except UnicodeEncodeError:
        return False
    parts = data.split(b"/")
    return b"\0" not in data and len(data) <= _MAX_PATH_BYTES and all(len(part) <= _MAX_NAME_BYTES for part in parts)


async def read_body(request: Request, limit: int) -> bytes:
    """Raises `ApiError` (413) as soon as more than `limit` bytes are announced or have come."""
    too_large = ApiError(413, "too_large", f"more than {limit:,} bytes in one request")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and announced.isascii() and (_at_most(announced, limit + 1) or 0) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
    except ClientDisconnect as e:
        raise ApiError(400, "bad_request", "the request ended too early") from e
    return bytes(body)


async def read_json(
    request: Request, fields: dict[str, type | tuple[type, ...]], *, optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A JSON object with exactly these fields; raises `ApiError`."""
    body = await read_body(request, MAX_REQUEST_BYTES)
    require_json(request)
    try:
        value = parse_json(body)
    except BadBatch as e:
        raise ApiError(400, "bad_request", str(e)) from e
    if not isinstance(value, dict):
        raise ApiError(400, "bad_request", "expected an object", at="")
    for name in value:
        if name not in fields:
            raise ApiError(400, "bad_request", "unknown key", at=str(name)[:40])
    for name, wanted in fields.items():
        if name not in value:
            if name in optional:
                continue
            raise ApiError(400, "bad_request", "missing", at=name)
        found = value[name]
        if not isinstance(found, wanted) or (isinstance(found, bool) and wanted is not bool):
            raise ApiError(400, "bad_request", "is of another type", at=name)
    return value


def require_json(request: Request) -> None:
    """Raises `ApiError` (415): a form of another site cannot post JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "not_json", "Content-Type: application/json is expected")


def etag_of(data: bytes) -> str:
    return f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'


def bytes_response(request: Request, data: bytes, media_type: str, cache: str) -> Response:
    """The bytes, a part of them, or 304. Starlette's FileResponse answers If-None-Match with 200, and needs a file."""
    etag = etag_of(data)
    headers = {"ETag": etag, "Cache-Control": cache, "Accept-Ranges": "bytes"}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    part = _part(request, etag, len(data))
    if part is None:
        return Response(data, media_type=media_type, headers=headers)
    start, end = part
    if start >= end:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{len(data)}"})
    headers |= {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
    return Response(data[start:end], status_code=206, media_type=media_type, headers=headers)


def _part(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """Start and end that are asked for; `None` for all of it (several ranges, another version, no range)."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or match.groups() == ("", "") or request.headers.get("if-range", etag) != etag:
        return None
    first, last = (_at_most(text, size) for text in match.groups())
    if first is None:
        return max(size - (last or 0), 0), size
    if last is not None and last < first:
        return None
    return first, size if last is None else min(last + 1, size)


def _at_most(digits: str, size: int) -> int | None:
    """A place in so many bytes; beyond the end is at the end, however many digits say so."""
    if not digits:
        return None
    digits = digits.lstrip("0") or "0"
    return size if len(digits) > _MAX_DIGITS else min(int(digits), size)
