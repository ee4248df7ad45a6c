"""The owner's routes: docs/collect-protocol.md §7."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from data_prep.collect import control, reports
from data_prep.collect.events import is_assignment
from data_prep.collect.export import export
from data_prep.collect.pictures import PictureGoneError
from data_prep.collect.project import now_ms
from data_prep.collect.replay import replay
from data_prep.collect.store import Tx, get_meta, set_meta
from data_prep.collect.web.annotator import serve_picture, site_of
from data_prep.collect.web.answers import ApiError, read_body, read_json, whole_number
from data_prep.collect.web.site import Site, limit
from data_prep.collect.web.tokens import TokenError, is_password
from luab_jax.errors import DataError

COOKIE = "collect_owner"
_LOGIN_COOKIE = "collect_login"
_EPOCH = "owner_epoch"
_MAX_FORM = 8 << 10
_MAX_LINKS = 1000
_MAX_SHOWINGS = 500


def _cookie(site: Site, response: Response, name: str, text: str) -> None:
    response.set_cookie(
        name, text, httponly=True, samesite="strict", secure=site.origin.startswith("https"), path=f"{site.base}/owner"
    )


async def _login_of(request: Request) -> str | None:
    """The id of a login that neither a logout nor a new password has ended."""
    site, token = site_of(request), request.cookies.get(COOKIE, "")
    if not token:
        return None
    password_hash, epoch = await site.threaded(lambda: _period(site))
    try:
        return site.tokens.read_owner(token, password_hash, epoch)
    except TokenError:
        return None


def _period(site: Site) -> tuple[str, str]:
    """The password's hash and the number of logouts: as they are now, for another process may have changed them."""
    return site.project.owner_hash, site.store.read(lambda tx: get_meta(tx, _EPOCH, "0"))


def _end_period(tx: Tx) -> None:
    set_meta(tx, _EPOCH, str(int(get_meta(tx, _EPOCH, "0")) + 1))


async def _require(request: Request) -> str:
    """The login's id; raises `ApiError`. A request that changes something needs Origin and CSRF token, too."""
    site, login = site_of(request), await _login_of(request)
    if login is None:
        raise ApiError(401, "no_token", "log in first")
    if request.method == "POST":
        _check_origin(request)
        if not site.tokens.is_csrf(request.headers.get("x-csrf-token", ""), login):
            raise ApiError(403, "bad_csrf", "the page is too old; load it again")
    return login


def _check_origin(request: Request) -> None:
    """Of the page that sends: our own. Where a browser sends none, Sec-Fetch-Site decides."""
    site = site_of(request)
    origin = request.headers.get("origin")
    fetched = request.headers.get("sec-fetch-site", "cross-site" if origin == "null" else "same-origin")
    if origin == "null":  # what browsers send with the form of a page whose Referrer-Policy is no-referrer
        origin = None
    own = (site.origin, f"{request.scope['scheme']}://{request.headers.get('host', '')}")  # `url` fails for an odd Host
    if origin is not None and origin not in own:
        raise ApiError(403, "bad_origin", "this request comes from another site")
    if origin is None and fetched not in ("same-origin", "none"):
        raise ApiError(403, "bad_origin", "this request comes from another site")


async def page(request: Request) -> Response:
    site, login = site_of(request), await _login_of(request)
    if login is None:
        return RedirectResponse(f"{site.base}/owner/login", status_code=303)
    return HTMLResponse(site.render("owner.html", csrf=site.tokens.csrf(login)))


async def login_page(request: Request) -> Response:
    return _login_page(site_of(request), "")


def _login_page(site: Site, error: str, status: int = 200) -> Response:
    """The form's token repeats a cookie of its own, so that no other site can log somebody in."""
    nonce = site.tokens.login()
    csrf = site.tokens.csrf(site.tokens.read_login(nonce))
    response = HTMLResponse(site.render("login.html", csrf=csrf, error=error), status_code=status)
    _cookie(site, response, _LOGIN_COOKIE, nonce)
    return response


async def login(request: Request) -> Response:
    site = site_of(request)
    if wait := site.logins.wait_s(site.address(request)):
        return _login_page(site, f"Too many attempts; try again in {wait} s.", 429)
    _check_origin(request)
    try:
        form = parse_qs((await read_body(request, _MAX_FORM)).decode(), strict_parsing=True, max_num_fields=10)
        nonce = site.tokens.read_login(request.cookies.get(_LOGIN_COOKIE, ""))
    except (ValueError, TokenError):
        return _login_page(site, "The page was too old; try again.", 400)
    if not site.tokens.is_csrf(form.get("csrf", [""])[0], nonce):
        return _login_page(site, "The page was too old; try again.", 403)
    password = form.get("password", [""])[0]
    if not await site.threaded(lambda: is_password(site.project.owner_hash, password)):
        return _login_page(site, "Wrong password.", 401)
    response = RedirectResponse(f"{site.base}/owner/", status_code=303)
    _cookie(site, response, COOKIE, site.tokens.owner(*await site.threaded(lambda: _period(site))))
    return response


async def logout(request: Request) -> Response:
    """Ends every login of the owner, that of a stolen cookie too."""
    site, _ = site_of(request), await _require(request)
    await read_json(request, {})
    await site.threaded(lambda: site.store.do(_end_period))
    response = JSONResponse({"ok": True})
    response.delete_cookie(COOKIE, path=f"{site.base}/owner")
    return response


def _names(site: Site) -> dict[str, str]:
    return {info.id: info.name for info in site.project.classes}


async def project(request: Request) -> Response:
    site, login = site_of(request), await _require(request)
    config = site.project.config

    def facts() -> dict[str, Any]:
        read = site.store.read
        return {
            "title": config.title,
            "task": config.task,
            "csrf": site.tokens.csrf(login),
            "paused": read(lambda tx: get_meta(tx, "paused")) == "1",
            "classes": reports.class_progress(site.store, _names(site)),
            "icons": site.icons,
            "overlap": int(read(lambda tx: get_meta(tx, "overlap", "1"))),
            "lease_minutes": config.lease_minutes,
            "db": site.store.engine.name.partition(",")[0],
            "started_ms": site.started_ms,
        }

    return JSONResponse(await site.threaded(facts))


async def progress(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    return JSONResponse(await site.threaded(lambda: reports.progress(site.store, now_ms())))


async def annotators(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    return JSONResponse({"annotators": await site.threaded(lambda: reports.annotators(site.store, _names(site)))})


async def agreement(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    return JSONResponse(await site.threaded(lambda: reports.agreement(site.store, _names(site))))


async def showings(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    query = request.query_params
    number, after = whole_number(query.get("limit", "50")), query.get("after", "")
    if number is None or not 1 <= number <= _MAX_SHOWINGS:
        raise ApiError(400, "bad_request", f"expected 1 to {_MAX_SHOWINGS}", at="limit")
    ms, _, last = after.partition("-")
    if after and (whole_number(ms) is None or not is_assignment(last)):
        raise ApiError(400, "bad_request", "is no cursor", at="after")
    asked = {"worker": _word(query.get("worker", "")), "class_id": _word(query.get("class", ""))}
    found = await site.threaded(lambda: reports.showings(site.store, _names(site), **asked, after=after, limit=number))
    return JSONResponse(found)


def _word(text: str) -> str:
    """PostgreSQL refuses the character 0 in texts."""
    if "\0" in text:
        raise ApiError(400, "bad_request", "a text holds the character 0")
    return text


async def show_replay(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    return JSONResponse(await site.threaded(lambda: _replay(site, request.path_params["assignment"])))


def _replay(site: Site, assignment: str) -> dict[str, Any]:
    try:
        task, found = replay(site.store, _word(assignment))
    except DataError as e:
        raise ApiError(404, "not_found", str(e)) from e
    for entry in found["pictures"]:
        shown = task.shown(entry["index"])
        assert shown is not None
        try:
            width, height = site.pictures.size(shown.source)
        except PictureGoneError:
            width, height = None, None
        url = f"{site.base}/owner/i/{assignment}/{entry['index']}"
        entry |= {"url": url, "width": width, "height": height}
    return found | {"task": site.project.config.task}


async def heatmap(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    class_id, picture = (_word(request.query_params.get(name, "")) for name in ("class", "picture"))
    if not class_id and not picture:
        raise ApiError(400, "bad_request", "give class or picture")
    found = await site.threaded(lambda: reports.heatmap(site.store, class_id=class_id, picture=picture))
    return JSONResponse(
        {
            "size": reports.HEATMAP_SIZE,
            "counts": found.counts,
            "clicks": found.clicks,
            "points": found.points,
            "pictures": [
                {"picture": path, "url": f"{site.base}/owner/i/{quote(assignment)}/{index}", "clicks": clicks}
                for path, (assignment, index, clicks) in found.pictures.items()
            ],
        }
    )


async def picture(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    return await serve_picture(request, site, _word(request.path_params["assignment"]), request.path_params["index"])


async def pause(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    value = await read_json(request, {"paused": bool, "message": str}, optional=("message",))
    message = _word(value.get("message", ""))
    await site.threaded(lambda: control.pause(site.store, value["paused"], message, now_ms()))
    return JSONResponse({"ok": True})


async def block(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    value = await read_json(request, {"worker": str, "action": str, "reason": str}, optional=("reason",))
    worker, reason = _word(value["worker"]), _word(value.get("reason", ""))
    await _asked(site, lambda: control.act_on(site.store, worker, value["action"], reason, now_ms()))
    return JSONResponse({"ok": True})


async def _asked(site: Site, job: Any) -> Any:
    """A `DataError` of what was asked for is the asker's."""
    try:
        return await site.threaded(job)
    except DataError as e:
        raise ApiError(400, "bad_request", str(e)) from e


async def extend(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    value = await read_json(request, {"overlap": int, "lease_minutes": int}, optional=("overlap", "lease_minutes"))
    if any(not 1 <= number <= 100_000 for number in value.values()):
        raise ApiError(400, "bad_request", "expected 1 to 100,000")
    tasks = 0
    if "overlap" in value:
        tasks = await _asked(site, lambda: control.set_overlap(site.store, value["overlap"], now_ms()))
    if "lease_minutes" in value:
        tasks = await _asked(site, lambda: control.prolong(site.store, value["lease_minutes"], now_ms()))
    return JSONResponse({"ok": True, "tasks": tasks})


async def invite(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    value = await read_json(request, {"number": int})
    if not 1 <= value["number"] <= _MAX_LINKS:
        raise ApiError(400, "bad_request", f"expected 1 to {_MAX_LINKS}", at="number")
    return JSONResponse({"links": await site.threaded(lambda: site.invite(value["number"]))})


async def download_export(request: Request) -> Response:
    """A zip of what `collect export` writes."""
    site, _ = site_of(request), await _require(request)
    limit(site.logins, "export")
    folder = Path(tempfile.mkdtemp(prefix="export-", dir=site.project.folder))

    def make() -> str:
        try:
            export(site.project, site.store, folder / "export", named=Path("export"))
            return shutil.make_archive(str(folder / "export"), "zip", folder, "export")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    path = await _asked(site, make)
    cleaning = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
    return FileResponse(path, filename="export.zip", media_type="application/zip", background=cleaning)


async def download_annotators(request: Request) -> Response:
    site, _ = site_of(request), await _require(request)
    rows = await site.threaded(lambda: reports.annotators(site.store, _names(site)))
    headers = {"Content-Disposition": 'attachment; filename="annotators.csv"'}
    return Response(as_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """A table in which no cell is a spreadsheet's formula."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    names = list(rows[0]) if rows else ["worker"]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in names])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
