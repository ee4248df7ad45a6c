"""A small HTTP/1.1 client that can be made to fail: lost answers, cut connections, requests sent twice.

HTTP libraries hide the connection, and cost more time for a request than the server does; with 300 annotators on the
machine of the server that would be measured instead of it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

_TIMEOUT_S = 60.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to one server, opened when it is needed."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._base = parts.path.rstrip("/")
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self.session = ""

    async def post(self, path: str, value: Any, *, headers: str = "", lose_answer: bool = False) -> Answer:
        """Raises `OSError` where the network fails, as when an answer is lost on purpose."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}"
        if self.session:
            head += f"Authorization: Bearer {self.session}\r\n"
        return await self._ask("POST", f"{self._base}{path}", head, body, lose_answer=lose_answer)

    async def get(self, path: str) -> Answer:
        """`path` as the server gives it: with the base."""
        return await self._ask("GET", path, "", b"", lose_answer=False)

    async def _ask(self, method: str, path: str, head: str, body: bytes, *, lose_answer: bool) -> Answer:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                if self._writer is None or self._writer.is_closing():
                    self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
                assert self._reader is not None
                self._writer.write(f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{head}\r\n".encode() + body)
                await self._writer.drain()
                answer = await self._read(self._reader)
                if lose_answer:
                    raise ConnectionResetError("the answer was lost on purpose")
                return answer
        except (OSError, EOFError, ValueError, TimeoutError) as e:
            self.close()
            raise ConnectionError(str(e) or type(e).__name__) from e

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> Answer:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {}
        for line in head[1:]:
            name, _, text = line.partition(":")
            if name:
                headers[name.lower()] = text.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0"))) if status != 304 else b""
        return Answer(status, headers, body)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None
