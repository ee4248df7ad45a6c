"""The headers that every answer has, as a plain ASGI wrapper."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


def policy(frame_hosts: Iterable[str], form_hosts: Iterable[str]) -> str:
    """The content security policy: nothing but our own files, no inline script or style."""
    frames = " ".join(frame_hosts) or "'none'"
    forms = " ".join(("'self'", *form_hosts))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
        f" font-src 'self'; base-uri 'none'; object-src 'none'; form-action {forms}; frame-ancestors {frames}"
    )


class Headers:
    """Adds what is not there yet."""

    def __init__(self, app: ASGIApp, *, policy: str, https: bool, framed: bool):
        self._app = app
        fixed = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
            "cross-origin-resource-policy": "same-origin",
        }
        if not framed:
            fixed["x-frame-options"] = "DENY"
            fixed["cross-origin-opener-policy"] = "same-origin"
        if https:
            fixed["strict-transport-security"] = "max-age=31536000"
        self._fixed = [(name.encode(), value.encode()) for name, value in fixed.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [pair for pair in self._fixed if pair[0] not in there]
                if b"cache-control" not in there:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
