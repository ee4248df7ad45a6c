"""The application: routes, and what an error becomes."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from data_prep.collect import platforms
from data_prep.collect.log import NotYoursError, PageFullError
from data_prep.collect.store import DiskFullError, StoreBusyError, StoreError
from data_prep.collect.visits import DeniedError
from data_prep.collect.web import annotator, owner
from data_prep.collect.web.answers import ApiError, bytes_response, may_be_file
from data_prep.collect.web.headers import Headers, policy
from data_prep.collect.web.site import PACKAGE, Site
from luab_jax.errors import UserError

_log = logging.getLogger("collect")
_KINDS = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".json": "application/json",
    ".woff2": "font/woff2",
}
_NAME = re.compile(r"[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)+", re.ASCII)
_FILE_CACHE = "no-cache"
Handler = Callable[[Request], Awaitable[Response]]


def _file(folder: str) -> Handler:
    async def serve(request: Request) -> Response:
        name = request.path_params["path"]
        parts, path = name.split("/"), PACKAGE / folder / name
        kind = _KINDS.get(path.suffix)
        named = all(
            _NAME.fullmatch(part) or (i < len(parts) - 1 and part.isidentifier()) for i, part in enumerate(parts)
        )
        if kind is None or not named or not may_be_file(name) or not path.is_file():
            raise ApiError(404, "not_found", "no such file")
        return bytes_response(request, path.read_bytes(), kind, _FILE_CACHE)

    return serve


async def _own_icon(request: Request) -> Response:
    site, number = annotator.site_of(request), request.path_params["number"]
    classes = site.project.classes
    path: Path | None = site.own_icon(classes[number].id) if number < len(classes) else None
    if path is None:
        raise ApiError(404, "not_found", "no such icon")
    return bytes_response(request, path.read_bytes(), _KINDS[path.suffix], _FILE_CACHE)


def _routes() -> list[BaseRoute]:
    api: list[tuple[str, Handler]] = [
        ("session", annotator.session),
        ("consent", annotator.consent),
        ("next", annotator.next_page),
        ("batch", annotator.batch),
        ("submit", annotator.submit),
        ("return", annotator.give_back),
        ("practice", annotator.practice),
        ("withdraw", annotator.withdraw),
    ]
    shown: list[tuple[str, Handler]] = [
        ("project", owner.project),
        ("progress", owner.progress),
        ("annotators", owner.annotators),
        ("agreement", owner.agreement),
        ("showings", owner.showings),
        ("replay/{assignment}", owner.show_replay),
        ("heatmap", owner.heatmap),
    ]
    done: list[tuple[str, Handler]] = [
        ("pause", owner.pause),
        ("block", owner.block),
        ("extend", owner.extend),
        ("invite", owner.invite),
        ("logout", owner.logout),
    ]
    return [
        Route("/", annotator.page, methods=["GET"]),
        Route("/healthz", annotator.health, methods=["GET"]),
        Route("/static/{path:path}", _file("static"), methods=["GET"]),
        Route("/icons/own/{number:number}", _own_icon, methods=["GET"]),
        Route("/icons/{path:path}", _file("icons"), methods=["GET"]),
        Route("/i/{token}/{index:number}", annotator.picture, methods=["GET"]),
        *(Route(f"/api/{name}", handler, methods=["POST"]) for name, handler in api),
        Route("/owner", owner.page, methods=["GET"]),
        Route("/owner/", owner.page, methods=["GET"]),
        Route("/owner/login", owner.login_page, methods=["GET"]),
        Route("/owner/login", owner.login, methods=["POST"]),
        *(Route(f"/owner/api/{name}", handler, methods=["GET"]) for name, handler in shown),
        *(Route(f"/owner/api/{name}", handler, methods=["POST"]) for name, handler in done),
        Route("/owner/i/{assignment}/{index:number}", owner.picture, methods=["GET"]),
        Route("/owner/download/export.zip", owner.download_export, methods=["GET"]),
        Route("/owner/download/annotators.csv", owner.download_annotators, methods=["GET"]),
    ]


def _as_api_error(error: Exception) -> ApiError:
    """What an exception means to a page."""
    match error:
        case ApiError():
            return error
        case DeniedError():
            return ApiError(403, error.code, str(error))
        case NotYoursError():
            return ApiError(403, "not_yours", str(error))
        case PageFullError():
            return ApiError(413, "page_limit", str(error))
        case DiskFullError():
            return ApiError(
                507, "disk_full", "the server's disk is full; your work is kept in this browser", retry_s=10
            )
        case StoreBusyError():
            return ApiError(503, "busy", "the server is busy; try again", retry_s=2)
        case StoreError():
            return ApiError(503, "busy", "the server's database cannot be used for now", retry_s=10)
        case HTTPException(status_code=404):
            return ApiError(404, "not_found", "no such address")
        case HTTPException(status_code=405):
            return ApiError(405, "method", "this method is not allowed here")
        case HTTPException():
            return ApiError(error.status_code, "bad_request", str(error.detail))
        case UserError():
            return ApiError(500, "server_fault", "the server cannot do this; its log says why", retry_s=10)
        case _:
            return ApiError(500, "server_fault", "a fault of the server; its log says more", retry_s=10)


async def _answer_error(request: Request, error: Exception) -> Response:
    found = _as_api_error(error)
    if isinstance(error, UserError) and found.status >= 500:  # of any other fault uvicorn logs the traceback
        _log.error("%s %s: %s", request.method, request.scope["path"], error)
    path = request.scope["path"].removeprefix(annotator.site_of(request).base)  # `url` fails for an odd Host
    if "text/html" in request.headers.get("accept", "") and not path.startswith(("/api/", "/owner/api/", "/i/")):
        text = annotator.site_of(request).render("error.html", status=found.status, message=found.message)
        return HTMLResponse(text, status_code=found.status)
    return found.response()


def build(site: Site) -> ASGIApp:
    """The application of one site, below the path of its public address."""
    kinds = (ApiError, DeniedError, NotYoursError, PageFullError, UserError, HTTPException, Exception)
    handlers = dict.fromkeys(kinds, _answer_error)
    routes = [Mount(site.base, routes=_routes())] if site.base else _routes()
    app = Starlette(routes=routes, exception_handlers=handlers)  # pyright: ignore[reportArgumentType]
    app.router.redirect_slashes = False
    app.state.site = site
    named = site.platforms
    csp = policy(platforms.frame_hosts(named), platforms.form_hosts(named))
    framed = bool(platforms.frame_hosts(named))
    return Headers(app, policy=csp, https=site.origin.startswith("https"), framed=framed)
