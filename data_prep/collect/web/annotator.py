"""The annotators' routes: docs/collect-protocol.md §3 to §6."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from data_prep.collect import platforms
from data_prep.collect.events import (
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_BATCH_SAMPLES,
    BadBatch,
    is_assignment,
    is_tab,
    parse_json,
    read_batch,
)
from data_prep.collect.log import PageFullError
from data_prep.collect.pictures import PictureGoneError, content_type
from data_prep.collect.platforms import BadLinkError
from data_prep.collect.project import now_ms
from data_prep.collect.service import WAIT_MS, Next
from data_prep.collect.store import get_meta
from data_prep.collect.visits import Session, Worker
from data_prep.collect.web.answers import (
    ApiError,
    bytes_response,
    read_body,
    read_json,
    require_json,
    whole_number,
)
from data_prep.collect.web.site import VERSION, Site, limit
from data_prep.collect.web.tokens import TokenError

_PICTURE_CACHE = "private, max-age=604800, immutable"
_MOST_UNREADABLE = 5
"""Pages in a row."""
_MAX_SKEW_MS = 10 * 365 * 86_400_000
SETTINGS = {
    "flush_ms": 1000,
    "flush_events": 200,
    "max_batch_bytes": MAX_BATCH_BYTES,
    "max_batch_events": MAX_BATCH_EVENTS,
    "max_batch_samples": MAX_BATCH_SAMPLES,
    "sample_ms": 16,
    "heartbeat_ms": 20_000,
    "lease_warn_ms": 120_000,
}


def site_of(request: Request) -> Site:
    return request.app.state.site


async def page(request: Request) -> Response:
    return HTMLResponse(site_of(request).render("annotator.html"))


async def session(request: Request) -> Response:
    """A link becomes a session."""
    site = site_of(request)
    limit(site.arrivals, site.address(request))
    value = await read_json(request, {"token": str, "params": dict, "tab": str})
    params = {str(name): text for name, text in value["params"].items() if isinstance(text, str)}
    try:
        platform, invitation = site.tokens.read_link(value["token"])
        arrival = platforms.arrive(platform, {"invite": invitation} if invitation else params)
    except TokenError as e:
        raise ApiError(401, e.code, str(e)) from e
    except BadLinkError as e:
        raise ApiError(400, "bad_request", str(e)) from e
    if arrival.preview:
        return JSONResponse(await site.threaded(lambda: _preview(site)))
    found, worker = await site.threaded(lambda: site.service.arrive(platform, arrival, now_ms()))
    return JSONResponse(await site.threaded(lambda: _session(site, found, worker)))


def _session(site: Site, session: Session, worker: Worker) -> dict[str, Any]:
    config = site.project.config
    practice = config.practice and site.service.has_practice()
    passed = worker.practice_ms is not None
    return _project(site) | {
        "session": site.tokens.session(session),
        "worker": worker.public_id,
        "preview": False,
        "consent": _consent(site, given=worker.consent_version == config.consent.version),
        "practice": {"needed": practice and not passed, "passed": passed},
        "progress": site.service.progress(session),
    }


def _preview(site: Site) -> dict[str, Any]:
    """What a worker sees before taking the task: the practice page, to look at."""
    found = site.service.any_page()
    sample = None
    if found is not None and (facts := site.page_facts(*found))["pictures"]:
        sample = {"assignment": found[0], "practice": True, "task": site.project.config.task} | facts
        sample |= {"lease": None, "page": {"number": 1, "of": None}, "resume": {"fresh": True}}
    return _project(site) | {
        "session": None,
        "worker": "",
        "preview": True,
        "consent": _consent(site, given=False),
        "practice": {"needed": False, "passed": False},
        "progress": None,
        "sample": sample,
    }


def _project(site: Site) -> dict[str, Any]:
    config = site.project.config
    return {
        "server_ms": now_ms(),
        "project": {
            "title": config.title,
            "task": config.task,
            "version": VERSION,
            "contact": config.contact,
            "instructions": list(config.instructions),
            "content_warning": config.content_warning or None,
        },
        "settings": SETTINGS | {"coalesced": config.coalesced},
    }


def _consent(site: Site, *, given: bool) -> dict[str, Any]:
    config = site.project.config
    text = config.consent
    return {"version": text.version, "given": given, "title": text.title, "items": text.items(config.contact)}


async def consent(request: Request) -> Response:
    site = site_of(request)
    asking = site.session(request)
    value = await read_json(request, {"version": str, "agreed": bool})
    await site.threaded(lambda: site.service.consent(asking, value["version"], value["agreed"], now_ms()))
    return JSONResponse({"ok": True})


def _tab(value: dict[str, Any]) -> str:
    if not is_tab(value["tab"]):
        raise ApiError(400, "bad_request", "expected 16 lower-case hexadecimal digits", at="tab")
    return value["tab"]


def _assignment(value: dict[str, Any]) -> str:
    if not is_assignment(value["assignment"]):
        raise ApiError(400, "bad_request", "expected 32 lower-case hexadecimal digits", at="assignment")
    return value["assignment"]


async def next_page(request: Request) -> Response:
    site = site_of(request)
    asking = site.session(request)
    tab = _tab(await read_json(request, {"tab": str}))
    return JSONResponse(await site.threaded(lambda: _next(site, asking, tab)))


def _next(site: Site, asking: Session, tab: str) -> dict[str, Any]:
    progress = site.service.progress(asking)
    found, document = _shown(site, asking, tab, progress["pages_target"])
    answer: dict[str, Any] = {"state": found.state, "progress": progress, "server_ms": now_ms()} | document
    if found.page is not None:
        answer["ahead"] = []
        if found.page.ahead is not None:
            answer["ahead"] = site.addresses_of(*found.page.ahead)
    if found.completion is not None:
        answer["completion"] = found.completion
    if found.message:
        answer["message"] = found.message
    if found.retry_ms:
        answer["retry_ms"] = found.retry_ms
    return answer


def _shown(site: Site, asking: Session, tab: str, target: int | None) -> tuple[Next, dict[str, Any]]:
    """What comes next, with the document of its page. A page without a readable picture is passed over for good; but
    where many in a row are such, the pictures cannot be read for now, and the pages are kept for later."""
    practice, unreadable = True, list[str]()
    while len(unreadable) < _MOST_UNREADABLE:
        found, document = site.service.next(asking, tab, now_ms(), practice=practice, without=unreadable), {}
        if found.page is None:
            break
        is_practice = found.page.task.practice
        resume = {"fresh": True} if is_practice else site.service.resume(found.page.assignment)
        document = site.document(found.page, resume, target)
        if document["pictures"]:
            break
        practice = practice and not is_practice
        unreadable += [] if is_practice else [found.page.assignment]
    else:
        site.service.pass_over(asking, unreadable, for_good=False)
        return Next("wait", retry_ms=WAIT_MS), {}
    if unreadable:
        site.service.pass_over(asking, unreadable, for_good=True)
    return found, document


async def batch(request: Request) -> Response:
    """Checked, stored, committed, acknowledged: in this order."""
    site = site_of(request)
    asking = site.session(request)
    body = await read_body(request, MAX_BATCH_BYTES)
    require_json(request)
    now = now_ms()
    try:
        found = read_batch(body, site.project.config.task, site.project.class_of)
    except BadBatch as e:
        await site.threaded(lambda: _refuse(site, asking, body, str(e), now))
        raise ApiError(400, "bad_batch", str(e), at=e.at) from e
    sent = whole_number(request.headers.get("x-sent-ms", ""))
    sent_ms = found.wrote_ms if sent is None or abs(sent - now) >= _MAX_SKEW_MS else sent
    try:
        done = await asyncio.wrap_future(site.service.append(asking, found, body, now, sent_ms))
    except PageFullError as e:
        raise ApiError(413, "page_limit", str(e)) from e
    if done.outcome == "differs":
        raise ApiError(409, "batch_differs", f"batch {found.number} of this tab was stored with other contents")
    lease = {"expires_ms": done.expires_ms, "left_ms": max(done.expires_ms - now, 0), "state": done.state}
    return JSONResponse(
        {
            "ok": True,
            "n": found.number,
            "duplicate": done.outcome == "duplicate",
            "server_ms": now,
            "lease": lease,
            "holder": done.holder,
            "paused": await site.is_paused(),
        }
    )


def _refuse(site: Site, asking: Session, body: bytes, why: str, now: int) -> None:
    """Counts a refused batch, and keeps it if it says whose it is."""
    assignment, tab, number = "", "", -1
    try:
        value = parse_json(body)
        if isinstance(value, dict) and is_assignment(value.get("assignment")) and is_tab(value.get("tab")):
            assignment, tab = value["assignment"], value["tab"]
            number = value["n"] if type(value.get("n")) is int and abs(value["n"]) < 1 << 31 else -1
    except BadBatch:
        pass
    site.service.refuse(asking, assignment, tab, number, body, why, now)


async def submit(request: Request) -> Response:
    site = site_of(request)
    asking = site.session(request)
    value = await read_json(request, {"assignment": str, "tab": str, "n": int})
    assignment, tab, number = _assignment(value), _tab(value), value["n"]
    if not 0 <= number < 1 << 31:
        raise ApiError(400, "bad_request", "is out of range", at="n")
    done = await site.threaded(lambda: site.service.submit(asking, assignment, tab, number, now_ms()))
    if done.complete:
        progress = await site.threaded(lambda: site.service.progress(asking))
        return JSONResponse({"complete": True, "surplus": done.surplus, "progress": progress})
    if done.missing is not None:
        return JSONResponse({"complete": False, "missing": done.missing})
    return JSONResponse({"complete": False, "state": done.state})


async def give_back(request: Request) -> Response:
    site = site_of(request)
    asking = site.session(request)
    assignment = _assignment(await read_json(request, {"assignment": str}))
    await site.threaded(lambda: site.service.give_back(asking, assignment))
    return JSONResponse({"ok": True})


async def practice(request: Request) -> Response:
    site = site_of(request)
    asking = site.session(request)
    value = await read_json(
        request, {"tab": str, "assignment": str, "selected": list, "icons": list}, optional=("selected", "icons", "tab")
    )
    selected, icons = value.get("selected", []), value.get("icons", [])
    if not all(type(index) is int for index in selected):
        raise ApiError(400, "bad_request", "expected indices", at="selected")
    for icon in icons:
        numbers = [icon.get("x"), icon.get("y")] if isinstance(icon, dict) else [None]
        if not all(type(number) in (int, float) for number in numbers) or not isinstance(icon.get("c"), str):
            raise ApiError(400, "bad_request", "expected objects with c, x and y", at="icons")
    assignment = _assignment(value)
    answer = await site.threaded(
        lambda: site.service.practise(asking, assignment, selected, icons, now_ms(), gone=site.unreadable)
    )
    return JSONResponse(answer)


async def withdraw(request: Request) -> Response:
    site = site_of(request)
    asking = site.session(request)
    await read_json(request, {})
    await site.threaded(lambda: site.service.withdraw(asking, now_ms()))
    return JSONResponse({"ok": True})


async def picture(request: Request) -> Response:
    """A picture by the token of its page: neither name nor class of it is in the address."""
    site = site_of(request)
    try:
        assignment = site.tokens.read_pictures(request.path_params["token"])
    except TokenError as e:
        raise ApiError(403, e.code, str(e)) from e
    return await serve_picture(request, site, assignment, request.path_params["index"])


async def serve_picture(request: Request, site: Site, assignment: str, index: int) -> Response:
    """Also for the owner, who comes by a cookie."""
    data, kind = await site.threaded(lambda: _read(site, assignment, index))
    return bytes_response(request, data, kind, _PICTURE_CACHE)


def _read(site: Site, assignment: str, index: int) -> tuple[bytes, str]:
    shown = site.cached_task(assignment).shown(index)
    if shown is None:
        raise ApiError(404, "not_found", "no such picture")
    try:
        data = site.pictures.read(shown.source)
    except PictureGoneError as e:
        site.broken(shown.source.path, str(e).removeprefix(f"{shown.source.path}: "))
        raise ApiError(410, "image_gone", "this picture cannot be shown any more") from e
    return data, content_type(data)


async def health(request: Request) -> Response:
    site = site_of(request)
    await site.threaded(lambda: site.store.read(lambda tx: get_meta(tx, "schema_version")))
    return JSONResponse({"ok": True})
