"""What Chromium was driven to do, against the log, the export and what the readers of `data_prep` make of it.

    python -m tests.data_prep.collect.browser.equality --showings=200

A simulated annotator works through both pages; its ledger says what was sent, with the time that the browser was given.
Clicks, hovers, selections, actions and sets must be the same in number and order at every station; points within
1e-4 px, times within 2 ms; every sample of a trace must be one of the movements that were sent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.annotations.coco_ab import read_record
from data_prep.annotations.imagenet_ab import read_annotation
from data_prep.collect.export import export
from data_prep.collect.fold import Point
from data_prep.collect.simulate.browser import Manner, StoredTruth, read_ledger, simulate
from data_prep.problems import Problems
from luab_jax.data.coco_classes import CATEGORY_IDS
from tests.data_prep.collect.browser.bench import Server, make_project, serving

MAX_PX = 1e-4
MAX_MS = 2.0
Timed = tuple[float, ...]
"""ms, x, y."""


@dataclass
class Outcome:
    """Counts of what was compared, and the largest differences."""

    counts: Counter[str] = field(default_factory=Counter)
    px: float = 0.0
    ms: float = 0.0
    problems: list[str] = field(default_factory=list)

    def same(self, what: str, meant: Sequence[Any], found: Sequence[Any]) -> bool:
        """Equal in number and in order."""
        self.counts[what] += len(meant)
        if list(meant) != list(found):
            self.problems.append(f"{what}: meant {list(meant)[:8]}, found {list(found)[:8]}")
            return False
        return True

    def near(self, what: str, meant: Timed, found: Timed, size: tuple[float, float], *, rounded: bool = False) -> None:
        """`rounded`: the format holds whole ms."""
        px = max(abs(a - b) * side for a, b, side in zip(meant[1:], found[1:], size, strict=True))
        self.px = max(self.px, px)
        self.near_time(what, meant[0], found[0], rounded=rounded)
        if px > MAX_PX:
            self.problems.append(f"{what}: {px:.6f} px apart: meant {meant}, found {found}")

    def near_time(self, what: str, meant: float, found: float, *, rounded: bool = False) -> None:
        ms = abs(meant - found)
        self.ms = max(self.ms, ms)
        if ms > MAX_MS + 0.5 * rounded:
            self.problems.append(f"{what}: {ms:.3f} ms apart")


def _points(
    outcome: Outcome, what: str, meant: Sequence[Timed], found: Sequence[Timed], size: Any, **how: bool
) -> None:
    if outcome.same(f"{what}, number of", range(len(meant)), range(len(found))):
        outcome.counts[f"{what}, number of"] -= len(meant)
        outcome.counts[what] += len(meant)
        for a, b in zip(meant, found, strict=True):
            outcome.near(what, a, b, size, **how)


def _trace(outcome: Outcome, what: str, sent: Sequence[Timed], found: Sequence[Timed], size: Any) -> None:
    """A subsequence of what was sent."""
    at = 0
    for sample in found:
        while at < len(sent) and sent[at][0] < sample[0] - MAX_MS - 0.5:
            at += 1
        if at == len(sent):
            outcome.problems.append(f"{what}: a sample that was never sent: {sample}")
            return
        outcome.near(what, sent[at], sample, size, rounded=True)
        outcome.counts[what] += 1
        at += 1


def _of(events: list[dict[str, Any]], index: int, *kinds: str) -> list[dict[str, Any]]:
    return [event for event in events if event["k"] in kinds and event.get("i") == index]


def compare_imagenet(server: Server, ledger: list[dict[str, Any]], out: Path, outcome: Outcome) -> None:
    """Every picture of every submitted page, at the log, in the XML and as read."""
    for page in ledger:
        log, events = server.page(page["assignment"]), page["events"]
        task = _task(server, page["assignment"])
        outcome.same("selections", _final(events)["selected"], log.selected)
        for index, shown in enumerate(task.pictures):
            picture = log.pictures[index]
            size = (picture.rect.width, picture.rect.height) if picture.rect else (324, 340)
            selects = [e for e in _of(events, index, "select") if not e.get("undo")]
            clicks = [(e["t"], e["x"], e["y"]) for e in selects]
            hovers = _of(events, index, "enter", "leave")
            moves = [(e["t"], e["x"], e["y"]) for e in _of(events, index, "move")]
            outcome.counts["showings"] += 1
            _points(outcome, "clicks, log", clicks, [tuple(p) for p in picture.clicks], size)
            if outcome.same("hovers, log", [e["k"] == "enter" for e in hovers], [h.entered for h in picture.hovers]):
                for a, b in zip(hovers, picture.hovers, strict=True):
                    outcome.near_time("hovers, log", a["t"], b.t)
            deselects = [e for e in _of(events, index, "deselect") if not e.get("undo")]
            found = [tuple(p) for p in picture.deselects if isinstance(p, Point)]
            _points(outcome, "deselects, log", [(e["t"], e["x"], e["y"]) for e in deselects], found, size)
            _trace(outcome, "trace, log", moves, [tuple(p) for p in picture.trace], size)
            if shown.role != "candidate":
                continue
            file = out / "xml" / f"{shown.source.path.rpartition('.')[0]}.xml"
            _compare_xml(file, shown.source.path, page, index, clicks, hovers, moves, size, outcome)


def _compare_xml(
    file: Path, path: str, page: Any, index: int, clicks: Any, hovers: Any, moves: Any, size: Any, outcome: Outcome
) -> None:
    chosen = index in _final(page["events"])["selected"]
    (metadata,) = ET.parse(file).getroot().findall("metadata")
    rows = [e for e in metadata.findall("selectedRecord") if len(e)]
    found = [tuple(float(row.findtext(tag) or "nan") for tag in ("time", "x", "y")) for row in rows]
    _points(outcome, "clicks, XML", clicks, found, size, rounded=True)
    outcome.same("selected, XML", [str(chosen)], [metadata.findtext("selected")])
    problems = Problems()
    (read,) = read_annotation(file.read_bytes(), path.rpartition(".")[0], problems).showings
    outcome.same("problems of the reader", [], [s.reason for s in problems.listed(path)])
    outcome.same("selected, read", [chosen], [read.selected])
    _points(outcome, "clicks, read", clicks, [(c.time_ms or 0, c.x, c.y) for c in read.clicks], size, rounded=True)
    if outcome.same("hovers, read", [e["k"] == "enter" for e in hovers], [h.entered for h in read.hovers]):
        for a, b in zip(hovers, read.hovers, strict=True):
            outcome.near_time("hovers, read", a["t"], b.time_ms or 0, rounded=True)
    _trace(outcome, "trace, read", moves, [(c.time_ms or 0, c.x, c.y) for c in read.trace], size)


def compare_coco(server: Server, ledger: list[dict[str, Any]], out: Path, outcome: Outcome) -> None:
    """Every page, at the log, in the JSON and as read."""
    records = {record["image_id"]: record for record in json.loads((out / "coco_ab.json").read_text())}
    for page in ledger:
        log, events = server.page(page["assignment"]), page["events"]
        record = records[_task(server, page["assignment"]).pictures[0].source.image_id]
        rect = log.pictures[0].rect
        assert rect is not None and log.start_ms is not None
        size, start = (rect.width, rect.height), log.start_ms
        outcome.counts["showings"] += 1
        names = {"add": "add", "move_icon": "move", "remove": "remove"}
        meant = [(names[e["k"]], e["c"]) for e in events if e["k"] in names]
        ends = [(e["t"], e["x"], e["y"]) for e in events if e["k"] in ("add", "move_icon")]
        outcome.same("actions, log", meant, [(a.kind, a.icon) for a in log.actions])
        _points(outcome, "points, log", ends, [(a.t, *a.end) for a in log.actions if a.end], size)
        shown = [e["s"] for e in events if e["k"] == "set_shown"]
        outcome.same("sets, log", shown, [view.index for view in log.sets])
        for a, b in zip([e["t"] for e in events if e["k"] == "set_shown"][1:], log.sets[1:], strict=False):
            outcome.near_time("sets, log", a, b.t)
        hovers = _of(events, 0, "enter", "leave")
        if outcome.same("hovers, log", [e["k"] for e in hovers], _kinds(log.pictures[0].hovers)):
            for a, b in zip(hovers, log.pictures[0].hovers, strict=True):
                outcome.near_time("hovers, log", a["t"], b.t)
        rows = record["actionHistories"]
        outcome.same("actions, JSON", meant, [(row["actionType"], row["iconType"]) for row in rows])
        found = [(row["timeAt"] + start, row["pointTo"]["x"], row["pointTo"]["y"]) for row in rows if row["pointTo"]]
        _points(outcome, "points, JSON", ends, found, size, rounded=True)
        read = read_record(record, {name: k for k, name in enumerate(CATEGORY_IDS)}, Problems())
        assert read is not None
        outcome.same("actions, read", meant, [(a.kind.value, a.icon) for a in read.actions])
        found = [((a.time_ms or 0) + start, a.point_to.x, a.point_to.y) for a in read.actions if a.point_to]
        _points(outcome, "points, read", ends, found, size, rounded=True)
        outcome.same("sets, read", shown, [view.index for view in read.category_views])
        moves = [(e["t"], e["x"], e["y"]) for e in _of(events, 0, "move")]
        _trace(outcome, "trace, read", moves, [((c.time_ms or 0) + start, c.x, c.y) for c in read.trace], size)


def _final(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What the annotator saw when the page was submitted."""
    return next(event for event in events if event["k"] == "final")


def _kinds(hovers: Any) -> list[str]:
    return ["enter" if hover.entered else "leave" for hover in hovers]


def _task(server: Server, assignment: str) -> Any:
    with server.project.open_store() as store:
        return StoredTruth(store).task(assignment)


def run(folder: Path, task: str, *, showings: int, browsers: int = 1, scale: float = 1.0, seed: int = 0) -> Outcome:
    """Drives about `showings` showings of a page and compares them."""
    page_size = 12 if task == "imagenet" else 1
    number = -(-showings // page_size) * page_size
    project = make_project(folder, task, pictures=number, page_size=page_size, classes=("cat",))
    outcome = Outcome()
    manner = Manner(steps=4, skip=0.1, change=0.25, undo=0.15)
    with serving(project) as server:
        with project.open_store() as store:
            links = [server.link() for _ in range(browsers)]
            simulate(links, folder / "ledger.jsonl", StoredTruth(store), seed=seed, scale=scale, manner=manner)
            export(project, store, folder / "export")
        ledger = read_ledger(folder / "ledger.jsonl")
        compare = compare_imagenet if task == "imagenet" else compare_coco
        compare(server, ledger, folder / "export", outcome)
    outcome.counts["pages"] = len(ledger)
    return outcome


def main() -> None:
    """Prints what was compared; exits with 1 at a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--showings", type=int, default=200, help="of each page")
    parser.add_argument("--browsers", type=int, default=1)
    arguments = parser.parse_args()
    failed = False
    for task in ("imagenet", "coco"):
        with tempfile.TemporaryDirectory() as folder:
            outcome = run(Path(folder), task, showings=arguments.showings, browsers=arguments.browsers)
        print(f"{task}: {outcome.counts.pop('showings')} showings on {outcome.counts.pop('pages')} pages")
        for what, number in sorted(outcome.counts.items()):
            if number:
                print(f"  {what:<24}{number:>7,} compared")
        print(f"  largest differences: {outcome.px:.6f} px (limit {MAX_PX}), {outcome.ms:.3f} ms (limit {MAX_MS})")
        print(f"  {len(outcome.problems)} differences", *outcome.problems[:10], sep="\n    ")
        failed = failed or bool(outcome.problems)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
