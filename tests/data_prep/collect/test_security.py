"""Headers, tokens, the owner's login, limits, and a fuzz of every route: never a 5xx."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from data_prep.collect.project import Project, now_ms
from data_prep.collect.web.limits import Limiter, Rate
from data_prep.collect.web.owner import as_csv
from data_prep.collect.web.tokens import TokenError, Tokens, hash_password
from tests.data_prep.collect.conftest import Annotator, App, Make, run

PASSWORD = "correct horse"


def with_password(project: Project) -> None:
    project.write_secrets(owner_hash=hash_password(PASSWORD), key=project.secret)


async def log_in(client: httpx.AsyncClient, password: str = PASSWORD) -> httpx.Response:
    page = await client.get("/owner/login")
    csrf = page.text.partition('name="csrf"')[2].partition('value="')[2].partition('"')[0]
    return await client.post("/owner/login", data={"password": password, "csrf": csrf})


async def csrf_of(client: httpx.AsyncClient) -> dict[str, str]:
    facts = (await client.get("/owner/api/project")).json()
    return {"X-CSRF-Token": facts["csrf"], "Content-Type": "application/json"}


@pytest.mark.parametrize("path", ["/", "/owner/login", "/static/nothing.js", "/api/next", "/healthz", "/i/x/0"])
def test_every_answer_has_the_headers(make_project: Make, path: str) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            answer = await client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy and answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "server" not in answer.headers

    run(job(App(*make_project())))


@pytest.mark.parametrize("page", ["annotator.html", "login.html", "owner.html"])
def test_no_page_has_inline_script_or_style_or_an_external_resource(make_project: Make, page: str) -> None:
    import re

    app = App(*make_project())
    text = app.site.render(page, csrf="x", error="")
    assert not re.search(r"<script(?![^>]*\bsrc=)", text) and "<style" not in text
    assert not re.search(r"\sstyle=|\son\w+=", text)
    for address in re.findall(r"(?:src|href)=\"([^\"]*)\"", text):
        assert address.startswith(("/", "#")), address


@pytest.mark.parametrize(
    "path",
    [
        "/static/../config.py",
        "/static/%2e%2e/config.py",
        "/static/..%2fconfig.py",
        "/static/....//config.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/icons/../sql/0001.sql",
        "/icons/own/..%2f..%2fsecrets.json",
        "/static/.hidden.js",
    ],
)
def test_no_path_leads_out_of_the_folders_of_files(make_project: Make, path: str) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            answer = await client.get(path)
            assert answer.status_code == 404
            assert (await client.get("/icons/cat.svg")).headers["content-type"] == "image/svg+xml"

    run(job(App(*make_project())))


def test_only_mturk_may_frame_the_page_and_only_where_it_was_invited(make_project: Make) -> None:
    from data_prep.collect.store import set_meta

    project, store = make_project()
    store.do(lambda tx: set_meta(tx, "platforms", "mturk"))

    async def job(app: App) -> None:
        async with app.client() as client:
            policy = (await client.get("/")).headers["content-security-policy"]
            assert "frame-ancestors https://www.mturk.com https://workersandbox.mturk.com" in policy
            assert "form-action 'self' https://www.mturk.com" in policy

    run(job(App(project, store)))


def test_a_token_of_one_kind_or_project_is_none_of_another(make_project: Make) -> None:
    project, store = make_project()
    other = Tokens(b"another secret, 32 bytes long....", link_days=1)
    app = App(project, store)

    async def job() -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            session = annotator.headers["Authorization"].removeprefix("Bearer ")
            pictures = page["pictures"][0]["url"].split("/")[2]
            bad = ["", "x", session[:-2] + "xx", annotator.token, pictures, other.session(_session())]
            for token in bad:
                annotator.headers["Authorization"] = f"Bearer {token}"
                answer = await annotator.post("/api/next", {"tab": annotator.tab})
                assert answer.status_code == 401, token
            for token in (session, annotator.token, other.pictures(page["assignment"])):
                assert (await client.get(f"/i/{token}/0")).status_code == 403
            for token in (session, pictures, other.invitation("1"), "\x00"):
                value = {"token": token, "params": {}, "tab": annotator.tab}
                assert (await annotator.post("/api/session", value)).status_code == 401

    run(job())


def _session() -> Any:
    from data_prep.collect.visits import Session

    return Session(1, "a" * 32)


def test_an_old_link_has_expired() -> None:
    tokens = Tokens(b"secret", link_days=0)
    token = tokens.invitation("1")
    import time

    time.sleep(1.1)
    with pytest.raises(TokenError) as e:
        tokens.read_link(token)
    assert e.value.code == "expired_token"


def test_a_stolen_page_id_opens_nothing(make_project: Make) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            victim, thief = app.annotator(client), app.annotator(client, tab="d" * 16)
            page = await victim.start()
            await thief.start()
            for path, value in (
                ("/api/batch", thief.batch(page, 0, [thief.click(0)])),
                ("/api/submit", {"assignment": page["assignment"], "tab": thief.tab, "n": 0}),
                ("/api/return", {"assignment": page["assignment"]}),
                ("/api/practice", {"tab": thief.tab, "assignment": page["assignment"], "selected": []}),
            ):
                answer = await thief.post(path, value)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_yours"), path
            assert (await victim.do(page, [0]))["complete"]

    run(job(App(*make_project())))


def test_the_owner_logs_in_once_and_every_route_needs_it(make_project: Make) -> None:
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client:
            assert (await client.get("/owner/")).headers["location"] == "/owner/login"
            for path in ("project", "progress", "annotators", "agreement", "showings", "replay/x", "heatmap?class=cat"):
                assert (await client.get(f"/owner/api/{path}")).status_code == 401
            for path in ("pause", "block", "extend", "invite", "logout"):
                assert (await client.post(f"/owner/api/{path}", json={})).status_code == 401
            for path in ("/owner/download/export.zip", "/owner/download/annotators.csv", "/owner/i/x/0"):
                assert (await client.get(path)).status_code == 401
            assert (await log_in(client, "wrong")).status_code == 401
            done = await log_in(client)
            assert done.status_code == 303
            cookie = done.headers["set-cookie"].lower()
            assert "httponly" in cookie and "samesite=strict" in cookie and "path=/owner" in cookie
            assert (await client.get("/owner/")).status_code == 200
            assert (await client.get("/owner/api/progress")).json()["pages"]["total"] > 0

    run(job(App(project, store)))


def test_the_cookie_of_the_login_form_is_no_login(make_project: Make) -> None:
    """Everybody gets it with the form; under the name of the owner's cookie it opens nothing."""
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client:
            page = await client.get("/owner/login")
            form_cookie = page.cookies["collect_login"]
        async with app.client() as thief:
            cookie = {"Cookie": f"collect_owner={form_cookie}"}
            assert (await thief.get("/owner/api/project", headers=cookie)).status_code == 401
            assert (await thief.get("/owner/", headers=cookie)).headers["location"] == "/owner/login"

    run(job(App(project, store)))


@pytest.mark.parametrize("ended_by", ["logout", "new password"])
def test_an_owner_s_cookie_ends_with_the_logout_and_with_the_password(make_project: Make, ended_by: str) -> None:
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client, app.client() as thief:
            await log_in(client)
            stolen = {"Cookie": f"collect_owner={client.cookies['collect_owner']}"}
            assert (await thief.get("/owner/api/project", headers=stolen)).status_code == 200
            headers = await csrf_of(client)
            if ended_by == "logout":
                assert (await client.post("/owner/api/logout", content=b"{}", headers=headers)).status_code == 200
            else:
                project.write_secrets(owner_hash=hash_password("another"), key=project.secret)
            assert (await thief.get("/owner/api/project", headers=stolen)).status_code == 401
            answer = await thief.post("/owner/api/pause", json={"paused": True}, headers=stolen | headers)
            assert answer.status_code == 401
            done = await log_in(client, PASSWORD if ended_by == "logout" else "another")
            assert done.status_code == 303 and (await client.get("/owner/api/project")).status_code == 200

    run(job(App(project, store)))


LONG = "9" * 5000
NOT_THERE = [
    f"/i/x/{LONG}", f"/icons/own/{LONG}", "/icons/own/-1", "/icons/own/1_0", "/icons/own/٣",
    f"/static/{'a' * 300}.js", f"/static/{'a/' * 3000}a.js", f"/icons/{'a' * 5000}.svg", "/static/a%00.js",
]  # fmt: skip


@pytest.mark.parametrize("path", NOT_THERE, ids=[f"{k}" for k in range(len(NOT_THERE))])
def test_an_address_that_no_file_or_number_has_is_not_there(make_project: Make, path: str) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            assert (await client.get(path)).status_code in (403, 404)

    run(job(App(*make_project())))


def test_a_class_of_a_long_name_has_letters_instead_of_an_icon(make_project: Make, tmp_path: Path) -> None:
    listed = tmp_path / "classes.txt"
    listed.write_text(f"{'x' * 300}\tlong\ncat\tcat\n", encoding="utf-8")
    project, store = make_project(task="coco", class_file=listed)

    async def job(app: App) -> None:
        async with app.client() as client:
            page = await app.annotator(client).start()
            (one,) = page["sets"]
            assert [entry["icon"] for entry in one["classes"]] == [None, "/icons/cat.svg"]
            assert (await client.get("/icons/own/0")).status_code == 404

    run(job(App(project, store)))


@pytest.mark.parametrize("sent", ["{now}" + "0" * 5000, "{now}", "-5", "９", "", "1e9"])
def test_a_time_of_sending_is_a_time_or_nothing(make_project: Make, sent: str) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            headers = {"X-Sent-Ms": sent.format(now=f"{now_ms():018d}").encode("utf-8")}
            answer = await annotator.post("/api/batch", annotator.batch(page, 0, []), **headers)  # type: ignore[arg-type]
            assert answer.status_code == 200

    run(job(App(project, store)))


@pytest.mark.parametrize("limit", ["000500999999", "501", "0", "", "000001" + LONG, "٣", "+5", " 5"])
def test_a_number_of_a_query_is_taken_whole(make_project: Make, limit: str) -> None:
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client:
            await log_in(client)
            answer = await client.get("/owner/api/showings", params={"limit": limit})
            assert (answer.status_code, answer.json()["error"]["at"]) == (400, "limit")

    run(job(App(project, store)))


def test_a_key_that_the_database_cannot_hold_is_refused_and_the_batch_kept_aside(make_project: Make, db: str) -> None:
    project, store = make_project(db=db)

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            for key in ("\0", "\ud800", "\n"):
                for odd in (
                    annotator.batch(page, 0, [annotator.click(0) | {key: 1}]),
                    annotator.batch(page, 0, []) | {key: 1},
                ):
                    answer = await annotator.post("/api/batch", odd)
                    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_batch")
            reasons = [reason for (reason,) in store.read(lambda tx: tx.rows("SELECT reason FROM set_aside"))]
            assert len(reasons) == 4, "those with a lone surrogate cannot say whose they are"
            assert all(reason.isprintable() for reason in reasons)

    run(job(App(project, store)))


def test_an_icon_of_no_class_is_refused_on_arrival(make_project: Make) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            add = {"k": "add", "t": annotator.time(), "c": "nonsense", "x": 0.5, "y": 0.5, "in": "mouse"}
            known = page["sets"][0]["classes"][0]["c"]
            for odd in (add, add | {"c": "\ud800"}, add | {"c": known, "x": 1.3}):
                answer = await annotator.post("/api/batch", annotator.batch(page, 0, [odd]))
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_batch"), odd
            answer = await annotator.post("/api/batch", annotator.batch(page, 0, [add | {"c": known}]))
            assert answer.status_code == 200

    run(job(App(*make_project(task="coco"))))


def test_the_cookie_is_secure_behind_https(make_project: Make) -> None:
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client:
            page = await client.get("/study/owner/login")
            assert (
                "secure" in page.headers["set-cookie"].lower()
                and "path=/study/owner" in page.headers["set-cookie"].lower()
            )
            assert page.headers["strict-transport-security"]
            assert (await client.get("/owner/login")).status_code == 404, "only below the public path"

    run(job(App(project, store, "https://example.org/study")))


def test_the_owner_changes_things_only_from_the_owner_s_page(make_project: Make) -> None:
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client:
            await log_in(client)
            good = await csrf_of(client)
            pause = json.dumps({"paused": True, "message": ""})
            refused = [
                ({"Content-Type": "application/json"}, "bad_csrf"),
                (good | {"X-CSRF-Token": "x"}, "bad_csrf"),
                (good | {"Origin": "https://evil.example"}, "bad_origin"),
                (good | {"Origin": "null"}, "bad_origin"),
                (good | {"Sec-Fetch-Site": "cross-site"}, "bad_origin"),
            ]
            for headers, code in refused:
                answer = await client.post("/owner/api/pause", content=pause, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
            form = good | {"Content-Type": "text/plain"}
            assert (await client.post("/owner/api/pause", content=pause, headers=form)).status_code == 415
            own = good | {"Origin": "http://127.0.0.1:8000"}
            assert (await client.post("/owner/api/pause", content=pause, headers=own)).json() == {"ok": True}
            assert (await client.get("/owner/api/project")).json()["paused"]

    run(job(App(project, store)))


def test_a_login_cannot_be_forced_or_guessed(make_project: Make) -> None:
    project, store = make_project()
    with_password(project)

    async def job(app: App) -> None:
        async with app.client() as client:
            assert (await client.post("/owner/login", data={"password": PASSWORD})).status_code == 400
        async with app.client() as client:
            await client.get("/owner/login")
            bad = await client.post("/owner/login", data={"password": PASSWORD, "csrf": "x"})
            assert bad.status_code == 403
            statuses = [(await log_in(client, "guess")).status_code for _ in range(5)]
            assert 429 in statuses and (await log_in(client)).status_code == 429

    run(job(App(project, store)))


def test_a_limiter_lets_a_burst_through_and_then_the_rate() -> None:
    limiter = Limiter(Rate(2.0, 3.0))
    assert [limiter.wait_s("a", 0.0) for _ in range(4)] == [0, 0, 0, 1]
    assert limiter.wait_s("b", 0.0) == 0, "each has its own"
    assert limiter.wait_s("a", 1.0) == 0 and limiter.wait_s("a", 1.0) == 0 and limiter.wait_s("a", 1.0) > 0


def test_a_flood_of_one_annotator_is_slowed_down(make_project: Make) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            answers = [await annotator.post("/api/batch", annotator.batch(page, k, [])) for k in range(60)]
            assert {answer.status_code for answer in answers} == {200, 429}
            assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"1"}

    run(job(App(*make_project())))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{" + b" " * (300 << 10), 413),
        (b"[1, 2]", 400),
        (b'{"v": NaN}', 400),
        (b"\x00\xff", 400),
        (b"", 400),
    ],
)
def test_hostile_bodies_are_refused_and_counted(make_project: Make, body: bytes, status: int) -> None:
    from data_prep.collect.store import get_meta

    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            await annotator.start()
            answer = await annotator.post("/api/batch", body)
            assert answer.status_code == status and answer.json()["error"]["code"] in ("bad_batch", "too_large")
        assert store.read(lambda tx: get_meta(tx, "refused", "0")) == ("1" if status == 400 else "0")

    run(job(App(project, store)))


def test_fifty_thousand_samples_in_one_batch_are_refused_and_the_batch_kept_aside(make_project: Make) -> None:
    project, store = make_project()

    async def job(app: App) -> None:
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            move = {"k": "move", "t": annotator.time(), "i": 0, "in": "mouse", "p": [[1, 0, 0]] * 6000}
            many = await annotator.post("/api/batch", annotator.batch(page, 0, [move]))
            assert many.json()["error"]["at"] == "events[0].p"
            move["p"] = [[1, 0, 0]] * 50_000
            assert (await annotator.post("/api/batch", annotator.batch(page, 0, [move]))).status_code == 413
            assert len(store.do(lambda tx: tx.rows("SELECT reason FROM set_aside"))) == 1

    run(job(App(project, store)))


ROUTES = [
    ("GET", "/"), ("GET", "/static/{}"), ("GET", "/icons/{}"), ("GET", "/icons/own/{}"), ("GET", "/i/{}/{}"),
    ("POST", "/api/session"), ("POST", "/api/consent"), ("POST", "/api/next"), ("POST", "/api/batch"),
    ("POST", "/api/submit"), ("POST", "/api/return"), ("POST", "/api/practice"), ("POST", "/api/withdraw"),
    ("GET", "/owner/"), ("GET", "/owner/login"), ("POST", "/owner/login"), ("GET", "/owner/api/project"),
    ("GET", "/owner/api/progress"), ("GET", "/owner/api/annotators"), ("GET", "/owner/api/agreement"),
    ("GET", "/owner/api/showings?worker={}&class={}&after={}&limit={}"), ("GET", "/owner/api/replay/{}"),
    ("GET", "/owner/api/heatmap?class={}&picture={}"), ("POST", "/owner/api/pause"), ("POST", "/owner/api/block"),
    ("POST", "/owner/api/extend"), ("POST", "/owner/api/invite"), ("GET", "/owner/i/{}/{}"),
    ("GET", "/owner/download/annotators.csv"), ("POST", "/owner/api/logout"), ("GET", "/owner/download/export.zip"),
    ("GET", "/healthz"), ("GET", "/owner"), ("DELETE", "/api/next"), ("PUT", "/{}"), ("GET", "/api/batch"),
]  # fmt: skip
WORDS = [
    "",
    "0",
    "-1",
    "99999999999999999999",
    "..%2f..%2fetc%2fpasswd",
    "%00",
    "'",
    '"',
    "a" * 3000,
    "%F0%9F%90%88",
    "%",
    "1-" + "a" * 32,
    LONG,
    "000001" + LONG,
    "a" * 300 + ".js",
    "a" * 5000 + ".svg",
    "a/" * 300 + "a.css",
    "9" * 15 + "-" + "a" * 32,
    "1" * 300,
    "٣",
    "%ED%A0%80",
]
VALUES: list[Any] = [
    None, True, -1, 1.5, 10**30, "", "\x00", "x" * 500, "é\ud800", "\udfff", [], [None], {}, {"x": 1}, float("inf"),
    {"\ud800": 1}, {"\x00": "\x00"}, [{"c": "\ud800", "x": 1e300, "y": 0}], [{"k": "\ud800"}, {"\ud800": 1}],
    [{"c": "cat", "x": 10**300, "y": -1}], 10**4999, 10**4000, [10**4000], {"invite": "\ud800"},
]  # fmt: skip
FIELDS = ["tab", "assignment", "n", "token", "params", "version", "agreed", "selected", "icons", "paused", "message"]
FIELDS += ["worker", "action", "reason", "overlap", "lease_minutes", "number", "v", "events", "wrote_ms", "extra"]
FIELDS += ["\ud800", "\x00", "k" * 500]
FIELDS_OF = {
    "/api/session": ["token", "params", "tab"], "/api/consent": ["version", "agreed"], "/api/next": ["tab"],
    "/api/batch": ["v", "assignment", "tab", "n", "wrote_ms", "events"], "/api/submit": ["assignment", "tab", "n"],
    "/api/return": ["assignment"], "/api/practice": ["tab", "assignment", "selected", "icons"], "/api/withdraw": [],
    "/owner/api/pause": ["paused", "message"], "/owner/api/block": ["worker", "action", "reason"],
    "/owner/api/extend": ["overlap", "lease_minutes"], "/owner/api/invite": ["number"], "/owner/api/logout": [],
}  # fmt: skip
"""The fields that a route asks for, so that most of the requests come past the check of the keys."""
HEADERS = {
    "Content-Type": ["application/json"] * 4 + ["text/plain", "x", "application/json; charset=utf-16", "\xff"],
    "Range": ["bytes=0-1", "bytes=9-1", "bytes=-", "x", f"bytes={LONG}-", f"bytes=0-{LONG}", f"bytes=-{LONG}"],
    "Accept": ["*/*", "text/html", "\xff"],
    "X-Sent-Ms": ["1", "-1", "9" * 50, "x", LONG, f"{1_764_000_000_000:018d}{LONG}", "\xb2", "\xff"],
    "Content-Length": ["0", LONG, "-1", "x", "\xb2", "1_0"],
    "Host": ["127.0.0.1", "[", "[::1", "a b", "\xff", "x" * 3000, "127.0.0.1:" + LONG],
    "Origin": ["null", "http://[", "\xff", "https://evil.example"],
    "Sec-Fetch-Site": ["cross-site", "none", "\xff"],
    "Cookie": ["collect_owner=", "collect_owner=\xff", "=;;=", "x" * 3000, 'collect_login="\\777"'],
    "If-None-Match": ["*", "\xff", '"x"'],
    "If-Range": ["\xff", '"x"'],
    "X-Forwarded-For": ["\xff", "x" * 3000],
    "X-CSRF-Token": ["", "\xff", "x" * 3000],
    "Authorization": ["", "Bearer", "x", "Bearer \xff", "Bearer " + "x" * 3000],
}
WHO = ["nobody", "annotator", "owner", "both"]
REQUESTS = 150


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("who", WHO)
def test_whatever_is_asked_of_whatever_route_no_answer_is_a_server_error(
    make_project: Make, db: str, who: str, seed: int
) -> None:
    """Each route in turn: odd addresses, bodies and headers, with and without a session and the owner's cookie."""
    project, store = make_project(db=db, task="coco" if seed else "imagenet")
    with_password(project)
    rng = random.Random(f"{who} {seed}")

    async def job(app: App) -> None:
        app.site.requests = app.site.arrivals = app.site.logins = Limiter(Rate(1e9, 1e9))
        async with app.client() as client:
            annotator = app.annotator(client)
            page = await annotator.start()
            await annotator.post("/api/batch", annotator.batch(page, 0, annotator.loads(page)))
            known: dict[str, Any] = {
                "tab": annotator.tab, "assignment": page["assignment"], "n": 0, "token": annotator.token,
                "version": project.config.consent.version, "agreed": True, "v": 1, "wrote_ms": now_ms(),
                "events": [annotator.click(0)], "selected": [], "icons": [], "params": {}, "overlap": 1,
                "number": 1, "paused": False, "message": "", "reason": "", "worker": "A", "action": "hold",
            }  # fmt: skip
            trusted = annotator.headers if who in ("annotator", "both") else {}
            if who in ("owner", "both"):
                await log_in(client)
            for turn in range(REQUESTS):
                if who in ("owner", "both") and turn % 10 == 0:
                    await log_in(client)  # a logout among the requests ends the last one
                    trusted = trusted | await csrf_of(client)
                method, path = ROUTES[turn % len(ROUTES)]
                names = [*FIELDS_OF.get(path, ()), *rng.sample(FIELDS, rng.choice([0, 0, 0, 1, 5]))]
                odd = rng.choice(names) if names else ""
                value = {
                    name: rng.choice(VALUES) if name == odd or name not in known or rng.random() < 0.1 else known[name]
                    for name in names
                }
                while "{}" in path:
                    path = path.replace("{}", rng.choice([*WORDS, page["assignment"], "0"]), 1)
                body = _body(value) if rng.random() < 0.9 else rng.choice([rng.randbytes(40), _body(value)[:-2]])
                body = rng.choice([body] * 8 + [b"\xef\xbb\xbf" + body, body.decode("latin-1").encode("utf-16")])
                headers = {"Content-Type": "application/json"} | trusted
                for name in rng.sample(sorted(HEADERS), rng.choice([0, 1, 1, 3])):
                    headers[name] = rng.choice(HEADERS[name])
                if method == "GET":
                    headers.pop("Content-Length", None)
                encoded = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
                try:
                    request = client.build_request(
                        method, path, content=body if method != "GET" else None, headers=encoded
                    )
                except httpx.InvalidURL:
                    continue
                answer = await client.send(request)
                assert answer.status_code < 500, (method, path[:200], headers, body[:500], answer.text[:500])
                if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
                    assert answer.json()["error"]["message"]

    run(job(App(project, store)))


def _body(value: dict[str, Any]) -> bytes:
    """As JSON; integers of thousands of digits too, which Python writes only when it is told to."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value).encode()
    finally:
        sys.set_int_max_str_digits(before)


def test_no_cell_of_a_report_is_a_formula() -> None:
    text = as_csv([{"worker": "=HYPERLINK(1)", "pages": 3, "reason": "+1"}, {"worker": "A", "pages": 1, "reason": ""}])
    assert text.splitlines() == ["worker,pages,reason", "'=HYPERLINK(1),3,'+1", "A,1,"]


def test_only_the_owner_reads_the_secrets(make_project: Make) -> None:
    project, _ = make_project()
    assert project.secrets_path.stat().st_mode & 0o777 == 0o600
    assert project.database_path.stat().st_mode & 0o777 == 0o600


def test_a_link_works_again_for_the_same_annotator_only(make_project: Make) -> None:
    async def job(app: App) -> None:
        async with app.client() as client:
            first = app.annotator(client)
            again = Annotator(client, first.token)
            other = app.annotator(client)
            names = [(await a.arrive())["worker"] for a in (first, again, other)]
            assert names[0] == names[1] != names[2]

    run(job(App(*make_project())))
