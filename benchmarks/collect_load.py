"""The collection server under load, and what is lost when things die: `python -m benchmarks.collect_load PART`.

    load       N simulated annotators send one batch a second each: time to the acknowledgement, answers of 5xx, memory
    pictures   the first picture of a page, and all 48 over six connections as browsers open them
    restart    from the start of the process to the first answer, with a small and with a large log
    export     time and peak memory of exports of two sizes
    kills      the server is killed at random moments while a crowd with faults of its own works: what holds after
    lost       events that never reach the log when browsers and servers are killed: this server's pages against the
               published pages' way, one POST at submit

Load and server share the cores of this machine, so that the times are upper bounds of what a server alone takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from data_prep.collect import log
from data_prep.collect.config import Config, Quality
from data_prep.collect.export import export
from data_prep.collect.plan import PlanOptions, plan
from data_prep.collect.platforms import Arrival
from data_prep.collect.project import Project, now_ms
from data_prep.collect.service import Service
from data_prep.collect.setup_project import initialise
from data_prep.collect.simulate.annotator import Annotator, Counts
from data_prep.collect.simulate.client import Client
from data_prep.collect.simulate.faults import Server, work_and_kill
from data_prep.collect.simulate.hand import Hand
from data_prep.collect.simulate.run import FAULTS
from data_prep.collect.store import Store, value
from data_prep.collect.tasks import PageRule
from data_prep.collect.web.site import Site
from luab_jax.io.atomic import atomic_file

_CLASSES = 20
_PATIENCE_S = 120
_EVENTS = 5
"""In a batch: about what happens in one second (one picture in 0.8 s gives about six events)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--annotators", type=int, default=300)
    parser.add_argument("--seconds", type=int, default=1800, help="of load")
    parser.add_argument("--servers", type=int, default=1, help="processes; more than one needs --db=postgresql://...")
    parser.add_argument("--db", default="sqlite")
    parser.add_argument("--photos", type=Path, help="folder of <class>/<photo> for pictures (default: drawn noise)")
    parser.add_argument("--log_gb", type=float, default=5.0, help="of the large log of restart")
    parser.add_argument("--showings", type=int, nargs="+", default=[10_000, 100_000], help="of the exports")
    parser.add_argument("--kills", type=int, default=50, help="of servers; for lost: of browsers, half as many servers")
    parser.add_argument("--folder", type=Path, help="scratch (default: among temporary files)")
    arguments = parser.parse_args()
    print(f"{psutil.cpu_count()} cores of {_processor()}, Python {platform.python_version()}, {time.strftime('%F')}")
    print(f"load averages at the start {os.getloadavg()[0]:.1f}; {arguments.db.partition(':')[0]}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        PARTS[arguments.part](arguments, Path(scratch))


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _photo(k: int, side: int) -> bytes:
    import io

    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(k)
    pixels = np.kron(rng.integers(0, 256, (side // 8, side // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _project(scratch: Path, db: str, per_class: int, *, photos: Path | None = None, overlap: int = 1) -> Project:
    """Classes of small pictures, or the photos that were given; pages of 48 without practice."""
    images = photos
    if images is None:
        images = scratch / "pictures"
        for label in range(_CLASSES):
            for k in range(per_class):
                path = images / f"class{label:02d}" / f"p{k:05d}.jpg"
                with atomic_file(path, make_folder=True, sync=False) as temporary:
                    temporary.write_bytes(_photo(label * 10_000 + k, 64))
    config = Config(
        title="Load",
        task="imagenet",
        images=str(images),
        classes="own",
        db=db,
        practice=False,
        quality=Quality(min_control_score=0),
    )
    project, _ = initialise(scratch / "project", config, class_file=None)
    with project.open_store() as store:
        rule = PageRule() if photos is None else PageRule(positive=0, negative=0)
        done = plan(project, store, PlanOptions(overlap=overlap, rule=rule, pages_per_hit=10))
    print(f"{done.all_pages:,} pages of 48, overlap {overlap}")
    return project


def _ports(number: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _waited_s(processes: list[int]) -> float:
    """How long their threads could run and had no core (the second number of Linux's schedstat)."""
    total = 0.0
    for process in processes:
        for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(path.read_text().split()[1]) / 1e9
    return total


class _Memory:
    """Resident MB of processes over time."""

    def __init__(self, processes: list[int]):
        self._processes = [psutil.Process(pid) for pid in processes]
        self.samples: list[float] = []
        self.cpu_s = 0.0
        self.late_ms: list[float] = []

    async def watch(self) -> None:
        """Once a second, until it is cancelled; and by how much this process's own event loop is late."""
        while True:
            self.samples.append(sum(p.memory_info().rss for p in self._processes) / 1e6)
            self.cpu_s = sum(sum(p.cpu_times()[:2]) for p in self._processes)
            for _ in range(20):
                at = time.perf_counter()
                await asyncio.sleep(0.05)
                self.late_ms.append((time.perf_counter() - at - 0.05) * 1000)


@contextlib.contextmanager
def _servers(project: Project, ports: list[int]) -> Iterator[list[int]]:
    """Server processes on these ports; yields their process ids."""
    running = []
    try:
        for port in ports:
            command = [sys.executable, "-m", "data_prep", "collect", "serve", str(project.folder), f"--port={port}"]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        for server in running:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("serving"), "a server did not start"
        yield [server.pid for server in running]
    finally:
        for server in running:
            server.send_signal(signal.SIGINT)
        for server in running:
            server.wait()
            assert server.stdout is not None
            server.stdout.close()


def _load(arguments: argparse.Namespace, scratch: Path) -> None:
    pages_each = arguments.seconds // 40 + 2
    need = arguments.annotators * pages_each // _CLASSES * 42
    overlap = max(1, -(-need // 1260))
    project = _project(scratch, arguments.db, min(need, 1260), overlap=overlap)
    ports = _ports(arguments.servers)
    with _servers(project, ports) as processes, project.open_store() as store:
        asyncio.run(_drive(arguments, project, store, ports, processes))


async def _drive(
    arguments: argparse.Namespace, project: Project, store: Store, ports: list[int], processes: list[int]
) -> None:
    counts, memory = Counts(), _Memory(processes)
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    links = Site(project, store, public_url=urls[0]).invite(arguments.annotators)
    people = [
        Annotator(
            number,
            urls[number % len(urls)],
            link.partition("#t=")[2],
            counts,
            seed=0,
            faults=set(),
            speed=0,
            pause_s=1.0,
            batch_events=_EVENTS,
        )
        for number, link in enumerate(links)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF)
    used = before.ru_utime + before.ru_stime
    watching = asyncio.create_task(memory.watch())
    started = time.monotonic()
    tasks = []
    for person in people:  # they come over ten seconds
        tasks.append(asyncio.create_task(person.work(None)))
        await asyncio.sleep(10.0 / len(people))
    while len(counts.latencies_ms) < len(people) and time.monotonic() - started < _PATIENCE_S:
        await asyncio.sleep(0.2)
    print(f"{len(people)} annotators have a page after {time.monotonic() - started:.0f} s")
    warm = len(counts.latencies_ms)
    at, cpu_s, waited_s = time.monotonic(), memory.cpu_s, _waited_s(processes)
    await asyncio.sleep(arguments.seconds)
    took = time.monotonic() - at
    cpu_s, waited_s = memory.cpu_s - cpu_s, _waited_s(processes) - waited_s
    watching.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    times = sorted(counts.latencies_ms[warm:])
    tenth = max(len(memory.samples) // 10, 1)
    stored = store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM batch"))
    print(
        f"{arguments.annotators} annotators, {arguments.servers} server process(es), {took:.0f} s:"
        f" {len(times):,} batches acknowledged, {len(times) / took:.0f}/s; {counts.pages} pages submitted"
    )
    print("acknowledgement: " + ", ".join(f"{name} {times[int(len(times) * q)]:.0f} ms" for name, q in _QUANTILES))
    print(
        f"answers of 5xx {counts.server_errors}, failed connections {counts.failures}, refused {counts.refused};"
        f" {stored:,} batches in the store"
    )
    late = sorted(memory.late_ms)
    own = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"the load generator: {(own.ru_utime + own.ru_stime - used) / (took + 10):.2f} cores, its event loop late by"
        f" {late[len(late) // 2]:.0f} ms (median), {late[int(len(late) * 0.99)]:.0f} ms (p99): part of the times above"
    )
    first, last = (sum(part) / len(part) for part in (memory.samples[10 : 10 + tenth], memory.samples[-tenth:]))
    print(
        f"memory of the server(s): {first:.0f} MB in the first tenth, {last:.0f} MB in the last,"
        f" {max(memory.samples):.0f} MB at most"
    )
    print(
        f"the server(s) used {cpu_s / took:.2f} cores, {1000 * cpu_s / len(times):.2f} ms a batch, and waited for a"
        f" core {waited_s / took:.2f} s of every second"
    )


_QUANTILES = (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))


def _one_class(photos: Path | None, scratch: Path) -> Path | None:
    """All photos as one class, so that they fill pages."""
    if photos is None:
        return None
    for number, path in enumerate(sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))):
        with atomic_file(scratch / "photos" / "all" / f"{number:05d}.jpg", make_folder=True, sync=False) as temporary:
            temporary.write_bytes(path.read_bytes())
    return scratch / "photos"


def _pictures(arguments: argparse.Namespace, scratch: Path) -> None:
    project = _project(scratch, arguments.db, 60, photos=_one_class(arguments.photos, scratch), overlap=5)
    ports = _ports(1)
    with _servers(project, ports), project.open_store() as store:
        asyncio.run(_fetch(project, store, f"http://127.0.0.1:{ports[0]}"))


async def _fetch(project: Project, store: Store, url: str) -> None:
    firsts, alls, size = [], [], 0
    addresses: list[str] = []
    for link in Site(project, store, public_url=url).invite(5):
        client = Client(url)
        token = {"token": link.partition("#t=")[2], "params": {}, "tab": "0" * 16}
        session = (await client.post("/api/session", token)).value
        client.session = session["session"]
        await client.post("/api/consent", {"version": session["consent"]["version"], "agreed": True})
        began = time.perf_counter()
        page = (await client.post("/api/next", {"tab": "0" * 16})).value
        addresses = [picture["url"] for picture in page["pictures"]]
        got: list[float] = []
        sizes: list[int] = []

        async def fetch(part: list[str], got: list[float] = got, sizes: list[int] = sizes, at: float = began) -> None:
            one = Client(url)
            for address in part:
                answer = await one.get(address)
                assert answer.status == 200
                sizes.append(len(answer.body))
                got.append(time.perf_counter() - at)
            one.close()

        await asyncio.gather(*(fetch(addresses[k::6]) for k in range(6)))
        client.close()
        firsts.append(min(got))
        alls.append(max(got))
        size = sum(sizes)
    print(
        f"from asking for a page: first picture after {1000 * min(firsts):.0f} to {1000 * max(firsts):.0f} ms, all"
        f" {len(addresses)} ({size / 1e6:.1f} MB) after {1000 * min(alls):.0f} to {1000 * max(alls):.0f} ms"
    )


def _restart(arguments: argparse.Namespace, scratch: Path) -> None:
    project = _project(scratch, arguments.db, 60)
    small = min(_start_s(project) for _ in range(3))
    service, store = _worker(project)
    with store:
        _fill(service, store, arguments.log_gb)
    size = sum(path.stat().st_size for path in project.folder.glob("collect.sqlite*"))
    large = min(_start_s(project) for _ in range(3))
    print(f"from the start of the process to the first answer: {small:.2f} s with an empty log, {large:.2f} s with")
    print(f"a database of {size / 1e9:.2f} GB (least of 3 each)")


def _start_s(project: Project) -> float:
    port = _ports(1)[0]
    began = time.perf_counter()
    with _servers(project, [port]):

        async def ask() -> None:
            client = Client(f"http://127.0.0.1:{port}")
            assert (await client.get("/healthz")).status == 200
            client.close()

        asyncio.run(ask())
        return time.perf_counter() - began


def _worker(project: Project) -> tuple[Service, Store]:
    store = project.open_store()
    return Service(project.config, project.secret, store), store


def _fill(service: Service, store: Store, gigabytes: float) -> None:
    """Batches of bytes that do not compress, written a hundred at a time."""
    session, _ = service.arrive("none", Arrival("filler"), now_ms())
    service.consent(session, service.config.consent.version, True, now_ms())
    found = service.next(session, "0" * 16, now_ms())
    assert found.page is not None
    assignment, body, done = found.page.assignment, 200_000, 0
    while done < gigabytes * 1e9:

        def insert(tx, first: int = done // body) -> None:
            for k in range(100):
                tx.run(
                    "INSERT INTO batch (assignment, tab, number, received_ms, sent_ms, sha256, body)"
                    " VALUES (?, ?, ?, 0, 0, ?, ?)",
                    *(assignment, "f" * 16, first + k, b"", random.randbytes(body)),
                )

        store.do(insert)
        done += 100 * body


def _export(arguments: argparse.Namespace, scratch: Path) -> None:
    for showings in arguments.showings:
        where = scratch / str(showings)
        where.mkdir()
        pages = -(-showings // 48)
        per_class = min(42 * -(-pages // _CLASSES), 420)
        project = _project(where, arguments.db, per_class, overlap=-(-pages // (_CLASSES * per_class // 42)))
        service, store = _worker(project)
        with store:
            _work(service, pages)
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "data_prep",
            "collect",
            "export",
            str(project.folder),
            f"--out={where / 'out'}",
        ]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        assert status == 0
        took = time.perf_counter() - began
        print(f"{pages * 48:,} showings: {took:.1f} s, {pages * 48 / took:,.0f}/s, peak {usage.ru_maxrss / 1e3:.0f} MB")


def _work(service: Service, pages: int) -> None:
    """Submits pages without a network."""
    import json

    from data_prep.collect.events import read_batch

    done, number = 0, 0
    while done < pages:
        number += 1
        session, _ = service.arrive("none", Arrival(f"w{number}"), now_ms())
        service.consent(session, service.config.consent.version, True, now_ms())
        hand = Hand(f"export {number}", now_ms())
        while done < pages:
            found = service.next(session, "0" * 16, now_ms())
            if found.page is None:
                break
            events, selected = [hand.page(restored=False)], []
            for place in range(len(found.page.task.pictures)):
                events.append(hand.loaded({"index": place, "width": 64, "height": 64}, place))
                for event in hand.browse(place, None):
                    events.append(event)
                    if event["k"] == "select":
                        selected.append(place)
                    elif event["k"] == "deselect":
                        selected.remove(place)
            events.append({"k": "submit", "t": hand.now, "selected": sorted(selected)})
            value = {"v": 1, "assignment": found.page.assignment, "tab": "0" * 16, "n": 0, "wrote_ms": int(hand.now)}
            body = json.dumps(value | {"events": events}).encode()
            service.append(session, read_batch(body, "imagenet"), body, now_ms(), now_ms()).result()
            assert service.submit(session, found.page.assignment, "0" * 16, 0, now_ms()).complete
            done += 1


def _kills(arguments: argparse.Namespace, scratch: Path) -> None:
    project = _project(scratch, arguments.db, 200, overlap=4)
    faults = set(FAULTS) - {"abandon"}
    with project.open_store() as store:
        verdict, _ = asyncio.run(
            work_and_kill(project, store, _ports(1)[0], annotators=10, pages=None, kills=arguments.kills, faults=faults)
        )
        print(verdict)
        done = export(project, store, scratch / "out")
        print(f"{done.counts['pages_exported']} pages exported, {verdict.pages} submitted")


def _lost(arguments: argparse.Namespace, scratch: Path) -> None:
    for name, batch_events, presses, keeps in (
        ("this server's pages: a batch a second, kept by the browser until acknowledged", _EVENTS, None, True),
        ("the published pages' way: one POST at submit, pressed three times", 1 << 30, 3, False),
    ):
        where = scratch / str(batch_events)
        where.mkdir()
        project = _project(where, "sqlite", 100, overlap=3)
        with project.open_store() as store:
            made, stored, browsers, servers = asyncio.run(
                _kill_both(project, store, arguments.kills, batch_events, presses, keeps)
            )
        print(f"{name}:")
        print(
            f"  {browsers} browsers and {servers} servers killed: {made:,} events made, {made - stored:,} of them not"
            f" in the log ({(made - stored) / made:.1%})"
        )


async def _kill_both(
    project: Project, store: Store, kills: int, batch_events: int, presses: int | None, keeps: bool
) -> tuple[int, int, int, int]:
    """Ten people; one browser dies about every second, the server half as often."""
    rng, port = random.Random(7), _ports(1)[0]
    server, url, counts = Server(project.folder, port), f"http://127.0.0.1:{port}", Counts()
    await server.start()
    links = Site(project, store, public_url=url).invite(10)
    made: dict[tuple[str, str], int] = {}

    def person(number: int, life: int, unsent: list[bytes]) -> Annotator:
        one = Annotator(
            number,
            url,
            links[number].partition("#t=")[2],
            counts,
            seed=1000 * life,
            faults=set(),
            speed=0,
            pause_s=0.1 if batch_events < 1000 else 0.0,
            batch_events=batch_events,
            presses=presses,
            event_pause_s=0.1 / _EVENTS if batch_events >= 1000 else 0.0,
        )
        one.unsent = unsent if keeps else []
        return one

    people = [person(number, 0, []) for number in range(10)]
    tasks = [asyncio.create_task(one.work(None)) for one in people]

    def count(one: Annotator) -> None:
        for (assignment, tab), number in one.made.items():
            made[assignment, tab] = made.get((assignment, tab), 0) + number

    browsers = servers = 0
    while browsers < kills:
        await asyncio.sleep(rng.uniform(0.3, 1.2))
        number = rng.randrange(10)
        tasks[number].cancel()
        await asyncio.gather(tasks[number], return_exceptions=True)
        count(people[number])
        browsers += 1
        people[number] = person(number, browsers, people[number].unsent)
        tasks[number] = asyncio.create_task(people[number].work(None))
        if browsers % 2 == 0:
            await asyncio.to_thread(server.kill)
            servers += 1
            await server.start()
    await asyncio.sleep(2.0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for number, one in enumerate(people):  # everybody comes back once more
        count(one)
        last = person(number, 10_000, one.unsent)
        await last.work(0)
    server.kill(signal.SIGINT)
    stored = 0
    for assignment, tab in made:
        batches = store.read(lambda tx, a=assignment: log.batches_of(tx, a))
        stored += sum(len(batch.events) for batch in batches if batch.tab == tab)
    return sum(made.values()), stored, browsers, servers


PARTS = {
    "load": _load,
    "pictures": _pictures,
    "restart": _restart,
    "export": _export,
    "kills": _kills,
    "lost": _lost,
}

if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most), most))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
