"""One simulated annotator: does what the page does, with faults, and keeps a ledger of what was meant."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from data_prep.collect.simulate.client import Answer, Client
from data_prep.collect.simulate.hand import Event, Hand

_GIVE_UP_S = 120.0
_MOST_WAITS = 6
"""How often to wait for pages that others hold, who may have left for the day."""


@dataclass(slots=True)
class Ledger:
    """What one page was meant to say, and what of it was acknowledged."""

    assignment: str
    worker: str
    events: dict[str, list[Event]] = field(default_factory=dict)
    """Of each tab, in order."""
    acknowledged: dict[str, list[int]] = field(default_factory=dict)
    selected: list[int] = field(default_factory=list)
    icons: dict[str, tuple[float, float]] = field(default_factory=dict)
    submitted: bool = False
    surplus: bool = False

    def line(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__})


@dataclass(slots=True)
class Counts:
    """Of all annotators together."""

    pages: int = 0
    batches: int = 0
    retries: int = 0
    duplicates: int = 0
    refused: int = 0
    failures: int = 0
    """Requests that failed or were answered with 5xx, and were repeated."""
    server_errors: int = 0
    garbage: int = 0
    abandoned: int = 0
    latencies_ms: list[float] = field(default_factory=list)


class Annotator:
    """Works through pages until there is none, the number is reached or it is told to stop."""

    def __init__(
        self,
        number: int,
        url: str,
        token: str,
        counts: Counts,
        *,
        seed: int,
        faults: set[str],
        speed: float,
        params: dict[str, str] | None = None,
        truth: Callable[[str, int], bool | None] | None = None,
        record: Callable[[Ledger], None] | None = None,
        pause_s: float = 0.0,
        batch_events: int = 40,
        presses: int | None = None,
        event_pause_s: float = 0.0,
    ):
        """`truth(assignment, index)`: whether the picture should be selected, where the caller knows.

        pause_s: between two batches, where no time passes on the page (`speed` 0).
        batch_events: in a batch; as many as the page has for one POST at the end, as the published pages send.
        presses: how often a failed request is tried; `None`: until it is answered.
        event_pause_s: between two events, for a page that sends nothing on the way.
        """
        self._event_pause_s = event_pause_s
        self.made: Counter[tuple[str, str]] = Counter()
        """Events of each page and tab, whether they were sent or not."""
        self._batch_events, self._presses = batch_events, presses
        self.ledger: Ledger | None = None
        """Of the page under way."""
        self.unsent: list[bytes] = []
        """What a browser would hold in its database: batches that were written and not acknowledged."""
        self._client, self._token, self._params = Client(url), token, params or {}
        self._counts, self._faults, self._speed, self._pause_s = counts, faults, speed, pause_s
        self.rng = random.Random(f"{seed} faults {number}")
        skew = self.rng.uniform(-3_600_000, 3_600_000) if "skew" in faults else 0.0
        self._clock_skew = skew
        self._hand = Hand(f"{seed} hand {number}", time.time() * 1000 + skew)
        self._tab = self._new_tab()
        self._truth, self._record = truth, record
        self.worker = ""
        self._latency_ms = 0.0
        """Of the last request that was answered."""

    def _new_tab(self) -> str:
        return f"{self.rng.getrandbits(64):016x}"

    async def work(self, pages: int | None) -> None:
        """Raises `ConnectionError` if the server stays away."""
        try:
            if not await self._arrive():
                return
            while self.unsent:  # from before the browser died
                await self._repeat(lambda: self._client.post("/api/batch", self.unsent[0]))
                self.unsent.pop(0)
            done = waits = 0
            while pages is None or done < pages:
                answer = await self._ask("/api/next", {"tab": self._tab})
                value = answer.value
                state = value.get("state")
                if state == "practice":
                    await self._practise(value)
                elif state == "wait" and waits < _MOST_WAITS:
                    waits += 1
                    await asyncio.sleep(min(value["retry_ms"] / 1000, 0.5 if not self._speed else 15))
                elif state == "task":
                    if "abandon" in self._faults and self.rng.random() < 0.1:
                        self._counts.abandoned += 1
                        await self._ask("/api/return", {"assignment": value["assignment"]})
                        continue
                    await self._do_page(value)
                    done, waits = done + 1, 0
                else:
                    return
        finally:
            self._client.close()

    async def _arrive(self) -> bool:
        answer = await self._ask("/api/session", {"token": self._token, "params": self._params, "tab": self._tab})
        value = answer.value
        if answer.status != 200 or value["preview"]:
            return False
        self._client.session, self.worker = value["session"], value["worker"]
        if not value["consent"]["given"]:
            await self._ask("/api/consent", {"version": value["consent"]["version"], "agreed": True})
        return True

    async def _practise(self, task: dict[str, Any]) -> None:
        """Learns from the feedback, as people do."""
        value: dict[str, Any] = {"tab": self._tab, "assignment": task["assignment"], "selected": [], "icons": []}
        answer = (await self._ask("/api/practice", value)).value
        right = [entry for entry in answer["feedback"] if entry["expected"]]
        if task["task"] == "imagenet":
            value["selected"] = [entry["index"] for entry in right]
        else:
            value["icons"] = [{"c": entry["c"], "x": 0.5, "y": 0.5} for entry in right]
            for attempt in range(200):  # the place is found by trying
                if (await self._ask("/api/practice", value)).value["passed"]:
                    return
                spot = random.Random(attempt)
                for icon in value["icons"]:
                    icon["x"], icon["y"] = spot.random(), spot.random()
        await self._ask("/api/practice", value)

    # One page

    async def _do_page(self, task: dict[str, Any]) -> None:
        assignment = task["assignment"]
        ledger = Ledger(assignment, self.worker)
        resume = task["resume"]
        if not resume["fresh"]:
            ledger.selected = [entry["index"] for entry in resume["selected"]]
            ledger.icons = {icon["c"]: (icon["x"], icon["y"]) for icon in resume["icons"]}
            self._tab = self._new_tab()  # the old tab's ledger is gone with it
        start = 0
        self.ledger = ledger
        queue, pending = self.unsent, []
        for event in self._events(task, ledger):
            pending.append(event)
            self.made[assignment, self._tab] += 1
            if self._event_pause_s:
                await asyncio.sleep(self._event_pause_s)
            if len(pending) >= self._batch_events:
                queue.append(self._write(ledger, pending, start))
                start, pending = start + 1, []
                await self._flush(ledger, queue)
                if "tabs" in self._faults and self.rng.random() < 0.1:
                    await self._flush(ledger, queue, everything=True)
                    self._tab, start = self._new_tab(), 0
        shown = {"selected": sorted(ledger.selected)}
        if task["task"] == "coco":
            shown = {"icons": [{"c": c, "x": x, "y": y} for c, (x, y) in ledger.icons.items()]}
        pending.append({"k": "submit", "t": self._hand.wait(200, 900), **shown})
        self.made[assignment, self._tab] += 1
        queue.append(self._write(ledger, pending, start))
        await self._flush(ledger, queue, everything=True)
        await self._submit(ledger, start)

    def _events(self, task: dict[str, Any], ledger: Ledger):
        hand = self._hand
        hand.now = max(hand.now, time.time() * 1000 + self._clock_skew) if self._speed else hand.now
        yield hand.page(restored=not task["resume"]["fresh"])
        if task["task"] == "coco":
            yield hand.board(task["pictures"][0])
            for event in hand.look_through(task["sets"], None):
                _follow(event, ledger)
                yield event
            return
        for place, picture in enumerate(task["pictures"]):
            yield hand.loaded(picture, place)
        for picture in task["pictures"]:
            if picture["index"] in ledger.selected:
                continue
            wanted = self._truth(ledger.assignment, picture["index"]) if self._truth else None
            for event in hand.browse(picture["index"], wanted):
                _follow(event, ledger)
                yield event

    def _write(self, ledger: Ledger, events: list[Event], number: int) -> bytes:
        ledger.events.setdefault(self._tab, []).extend(events)
        value = {"v": 1, "assignment": ledger.assignment, "tab": self._tab, "n": number}
        return json.dumps(value | {"wrote_ms": int(self._hand.now), "events": events}).encode()

    async def _flush(self, ledger: Ledger, queue: list[bytes], *, everything: bool = False) -> None:
        """Sends what waits; with `reorder`, sometimes leaves a batch for later."""
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        elif self._speed:
            ahead = self._hand.now - self._clock_skew - time.time() * 1000
            await asyncio.sleep(max(ahead / 1000 / self._speed, 0))
        if "reorder" in self._faults:
            self.rng.shuffle(queue)
            if not everything and self.rng.random() < 0.3:
                return
        while queue:
            await self._send(ledger, queue[0])
            queue.pop(0)

    async def _send(self, ledger: Ledger, body: bytes) -> None:
        if "garbage" in self._faults and self.rng.random() < 0.05:
            self._counts.garbage += 1
            bad = (
                body[: self.rng.randrange(len(body))]
                if self.rng.random() < 0.5
                else body.replace(b'"t":', b'"t": -', 1)
            )
            with contextlib.suppress(ConnectionError):
                await self._client.post("/api/batch", bad)
        if "lost" in self._faults and self.rng.random() < 0.1:
            with contextlib.suppress(ConnectionError):
                await self._client.post("/api/batch", body, lose_answer=True)
        sent = f"X-Sent-Ms: {int(time.time() * 1000 + self._clock_skew)}\r\n"
        answer = await self._repeat(lambda: self._client.post("/api/batch", body, headers=sent))
        self._counts.batches += 1
        if answer.status != 200:
            self._counts.refused += 1
            return
        self._counts.latencies_ms.append(self._latency_ms)
        value = answer.value
        self._counts.duplicates += value["duplicate"]
        tab = json.loads(body)["tab"]
        if value["n"] not in ledger.acknowledged.setdefault(tab, []):
            ledger.acknowledged[tab].append(value["n"])
        if "repeat" in self._faults and self.rng.random() < 0.1:
            await self._repeat(lambda: self._client.post("/api/batch", body))

    async def _submit(self, ledger: Ledger, number: int) -> None:
        value = {"assignment": ledger.assignment, "tab": self._tab, "n": number}
        answer = await self._ask("/api/submit", value)
        if "repeat" in self._faults:
            answer = await self._ask("/api/submit", value)
        found = answer.value
        ledger.submitted = bool(found.get("complete"))
        ledger.surplus = bool(found.get("surplus"))
        self._counts.pages += ledger.submitted
        if self._record is not None:
            self._record(ledger)

    async def _ask(self, path: str, value: Any) -> Answer:
        return await self._repeat(lambda: self._client.post(path, value))

    async def _repeat(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        """As the page: a lost connection, 429 and 5xx are tried again, with back-off."""
        wait, until = 0.05, time.monotonic() + _GIVE_UP_S
        tries = 0
        while True:
            tries += 1
            try:
                began = time.perf_counter()
                answer = await request()
                self._latency_ms = (time.perf_counter() - began) * 1000
                if answer.status < 500 and answer.status != 429:
                    return answer
                self._counts.server_errors += answer.status >= 500
                wait = max(wait, 1.0 if answer.status == 429 else wait)
            except ConnectionError:
                self._counts.failures += 1
            if time.monotonic() > until or tries == self._presses:
                raise ConnectionError("the server does not answer")
            self._counts.retries += 1
            await asyncio.sleep(wait)
            wait = min(wait * 2, 2.0)


def _follow(event: Event, ledger: Ledger) -> None:
    """Keeps what the page would show after an event."""
    kind = event["k"]
    if kind == "select":
        ledger.selected.append(event["i"])
    elif kind == "deselect":
        ledger.selected.remove(event["i"])
    elif kind in ("add", "move_icon"):
        ledger.icons[event["c"]] = (event["x"], event["y"])
    elif kind == "remove":
        del ledger.icons[event["c"]]
