"""What the owner wants to know: progress, annotators, agreement, showings; for the page and for `collect status`.

All from the summaries that were stored when pages were submitted, page by page, so that memory does not grow with them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from data_prep.collect import leases
from data_prep.collect.agreement import Agreement
from data_prep.collect.config import SIMULATED
from data_prep.collect.store import Store, Tx, get_meta, value
from data_prep.collect.tasks import Task, read_task

_HOUR_MS = 3_600_000
_HOURS = 48
_ACTIVE_MS = 10 * 60_000
_READ_AT_ONCE = 200
_MAX_PAIRS = 200
_NO_PAGE = {"shown": 0, "touched": 0, "no_point": 0, "outside": 0, "icons": 0}
_MAX_POINTS = 2000
_MAX_PICTURES = 48
HEATMAP_SIZE = 24


def simulated(store: Store) -> dict[str, int]:
    """How many annotators, and how many submitted pages, are `collect simulate`'s."""
    annotators, pages = store.read(
        lambda tx: (
            value(tx, "SELECT COUNT(*) FROM worker WHERE platform = ?", SIMULATED),
            value(
                tx,
                "SELECT COUNT(*) FROM assignment a JOIN worker w ON w.id = a.worker WHERE w.platform = ? AND a.state ="
                " 'submitted'",
                SIMULATED,
            ),
        )
    )
    return {"annotators": int(annotators), "showings": int(pages)}


def people(store: Store) -> tuple[int, int]:
    """Annotators that are not simulated, and links given out for such; one for each platform."""

    def count(tx: Tx) -> tuple[int, int]:
        links = int(get_meta(tx, "invited", "0")) + len(list(filter(None, get_meta(tx, "platforms").split(","))))
        return int(value(tx, "SELECT COUNT(*) FROM worker WHERE platform <> ?", SIMULATED)), links

    return store.read(count)


def progress(store: Store, now_ms: int) -> dict[str, Any]:
    """GET /owner/api/progress."""
    return store.read(lambda tx: _progress(tx, now_ms))


def _progress(tx: Tx, now_ms: int) -> dict[str, Any]:
    done, left = leases.done_and_left(tx)
    states = {
        (state, counts): (int(number), int(pictures))
        for state, counts, number, pictures in tx.rows(
            "SELECT state, counts, COUNT(*), COALESCE(SUM(num_pictures), 0) FROM assignment WHERE excluded = 0"
            " GROUP BY state, counts"
        )
    }
    counted, surplus = (states.get(("submitted", counts), (0, 0)) for counts in (1, 0))
    since = now_ms // _HOUR_MS - _HOURS + 1
    per_hour = {
        int(hour): int(number)
        for hour, number in tx.rows(
            f"SELECT submitted_ms / {_HOUR_MS}, COUNT(*) FROM assignment WHERE state = 'submitted' AND submitted_ms"
            " >= ? GROUP BY 1",
            since * _HOUR_MS,
        )
    }
    mean = value(tx, "SELECT AVG(duration_ms) FROM assignment WHERE state = 'submitted'")
    events, size = tx.rows("SELECT COALESCE(SUM(num_events), 0), COALESCE(SUM(num_bytes), 0) FROM assignment")[0]
    active = value(tx, "SELECT COUNT(*) FROM worker WHERE last_ms >= ?", now_ms - _ACTIVE_MS)
    return {
        "pages": {"total": done + left, "done": done, "leased": states.get(("leased", 1), (0, 0))[0], "left": left},
        "surplus": surplus[0],
        "pictures_done": counted[1] + surplus[1],
        "annotators": {"all": value(tx, "SELECT COUNT(*) FROM worker"), "active": active},
        "per_hour": [[hour * _HOUR_MS, per_hour.get(hour, 0)] for hour in range(since, since + _HOURS)],
        "ms_per_page": None if mean is None else round(mean),
        "eta_ms": _eta(tx, now_ms, left),
        "events": int(events),
        "bytes": int(size),
        "broken": [
            {"picture": path, "reason": reason, "times": times}
            for path, reason, times in tx.rows("SELECT path, reason, times FROM broken ORDER BY ms DESC LIMIT 100")
        ],
        "refused_batches": int(get_meta(tx, "refused", "0")),
    }


def _eta(tx: Tx, now_ms: int, left: int) -> int | None:
    """At the pace of the last day, or since the first page if that was later; `None` without one."""
    since = max(now_ms - 24 * _HOUR_MS, int(value(tx, "SELECT COALESCE(MIN(submitted_ms), 0) FROM assignment")))
    done = value(
        tx, "SELECT COUNT(*) FROM assignment WHERE state = 'submitted' AND counts = 1 AND submitted_ms >= ?", since
    )
    if not left:
        return 0
    return round(left * max(now_ms - since, 1) / done) if done > 1 else None


class Done(NamedTuple):
    """One submitted page."""

    assignment: str
    task: str
    worker: str
    """Public id."""
    summary: dict[str, Any]
    duration_ms: int
    submitted_ms: int


def submitted(store: Store, *, class_id: str | None = None) -> Iterator[tuple[str, Task, list[Done]]]:
    """Tasks that somebody submitted, in the order of the plan, each with what was submitted."""
    after = -1
    where = "" if class_id is None else " AND t.class_id = ?"
    values = () if class_id is None else (class_id,)
    while True:
        last = after
        rows = store.read(
            lambda tx, last=last: tx.rows(
                "SELECT t.id, t.seq, t.body, t.grp, t.place FROM task t WHERE t.seq > ? AND t.practice = 0"
                f"{where} AND EXISTS (SELECT 1 FROM assignment a WHERE a.task = t.id AND a.state = 'submitted')"
                f" ORDER BY t.seq LIMIT {_READ_AT_ONCE}",
                *(last, *values),
            )
        )
        for task, _, body, group, place in rows:
            done = store.read(lambda tx, task=task: _done(tx, task))
            yield task, read_task(body, group=group, place=place), done
        if len(rows) < _READ_AT_ONCE:
            return
        after = rows[-1][1]


def _done(tx: Tx, task: str) -> list[Done]:
    rows = tx.rows(
        "SELECT a.id, a.task, w.public_id, a.summary, a.duration_ms, a.submitted_ms FROM assignment a JOIN worker w ON"
        " w.id = a.worker WHERE a.task = ? AND a.state = 'submitted' AND a.excluded = 0 ORDER BY a.submitted_ms, a.id",
        task,
    )
    return [
        Done(assignment, name, worker, json.loads(summary or "{}"), duration_ms or 0, submitted_ms)
        for assignment, name, worker, summary, duration_ms, submitted_ms in rows
    ]


def judgements(task: Task, done: list[Done], classes: list[str]) -> Iterator[tuple[str, dict[str, bool]]]:
    """The units of one page: the class of the unit, and annotator to yes or no."""
    if task.class_id:
        for index in range(len(task.pictures)):
            saw = [d for d in done if index in d.summary.get("shown", ())]
            yield task.class_id, {d.worker: index in d.summary["selected"] for d in saw}
    else:
        placed = [(d.worker, icons_of(d)) for d in done if 0 in d.summary.get("shown", ())]
        for name in classes:
            yield name, {worker: name in icons for worker, icons in placed}


def icons_of(done: Done) -> dict[str, list[float]]:
    """Class to the place of its icon, on a COCO page whose photo was seen."""
    return done.summary.get("icons", {}) if 0 in done.summary.get("shown", ()) else {}


def agreement(store: Store, classes: dict[str, str]) -> dict[str, Any]:
    """GET /owner/api/agreement. `classes`: id to name, in label order."""
    whole, of_class = Agreement(), {}
    distances: list[float] = []
    for _, task, done in submitted(store):
        for class_id, unit in judgements(task, done, list(classes)):
            if len(unit) > 1:
                whole.add(unit)
                of_class.setdefault(class_id, Agreement()).add(unit)
        distances += _click_distances(done)
    pairs = sorted(whole.pairs, key=lambda pair: -sum(whole.pairs[pair]))[:_MAX_PAIRS]
    return {
        "units": whole.num_units,
        "raters": len(whole.raters),
        "cohen": {
            "mean": whole.mean_cohen,
            "pairs": [{"a": a, "b": b, "kappa": whole.cohen((a, b)), "n": sum(whole.pairs[a, b])} for a, b in pairs],
        },
        "fleiss": whole.fleiss,
        "krippendorff": whole.krippendorff,
        "click_distance": {"median": statistics.median(distances) if distances else None, "n": len(distances)},
        "by_class": [
            {
                "class": class_id,
                "name": classes.get(class_id, class_id),
                "units": found.num_units,
                "krippendorff": found.krippendorff,
                "selected": _share_selected(found),
            }
            for class_id, found in of_class.items()
        ],
    }


def _share_selected(found: Agreement) -> float | None:
    total = sum(n * count for (n, _), count in found.units.items())
    return sum(yes * count for (_, yes), count in found.units.items()) / total if total else None


def _click_distances(done: list[Done]) -> list[float]:
    """Between the last points of two annotators on one picture (or icon), in fractions of the picture."""
    points: dict[str, list[list[float]]] = {}
    for d in done:
        for key, point in {**d.summary.get("clicks", {}), **icons_of(d)}.items():
            points.setdefault(key, []).append(point)
    return [
        ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5
        for found in points.values()
        for i, a in enumerate(found)
        for b in found[i + 1 :]
    ]


def annotators(store: Store, classes: dict[str, str]) -> list[dict[str, Any]]:
    """GET /owner/api/annotators."""
    whole = Agreement()
    of_worker: dict[str, dict[str, Any]] = {}
    for _, task, done in submitted(store):
        for _, unit in judgements(task, done, list(classes)):
            if len(unit) > 2:
                whole.add(unit)
        for d in done:
            _add_page(of_worker.setdefault(d.worker, dict(_NO_PAGE, ms=[])), d)
    rows = store.read(
        lambda tx: tx.rows(
            "SELECT w.public_id, w.platform, w.state, w.reason, w.controls, w.controls_right, w.last_ms, (SELECT"
            " COUNT(*) FROM assignment a WHERE a.worker = w.id AND a.state = 'submitted'), (SELECT COUNT(*) FROM"
            " assignment a WHERE a.worker = w.id AND a.state = 'submitted' AND a.counts = 0 AND a.excluded = 0) FROM"
            " worker w ORDER BY w.id"
        )
    )
    found = []
    for name, platform, state, reason, controls, right, last_ms, pages, surplus in rows:
        facts = of_worker.get(name, dict(_NO_PAGE, ms=[]))
        majority = whole.majority.get(name)
        found.append(
            {
                "worker": name,
                "platform": platform,
                "pages": pages,
                "surplus": surplus,
                "control_score": right / controls if controls else None,
                "controls": controls,
                "median_page_ms": round(statistics.median(facts["ms"])) if facts["ms"] else None,
                "never_hovered": 1 - facts["touched"] / facts["shown"] if facts["shown"] else None,
                "no_point": facts["no_point"],
                "outside_boxes": facts["outside"] / facts["icons"] if facts["icons"] else None,
                "agreement": majority[1] / majority[0] if majority else None,
                "last_ms": last_ms,
                "state": state,
                "reason": reason,
            }
        )
    return found


def _add_page(facts: dict[str, Any], done: Done) -> None:
    facts["ms"].append(done.duration_ms)
    outside, icons = done.summary.get("outside", (0, 0))
    facts["outside"] += outside
    facts["icons"] += icons
    if "touched" in done.summary:
        facts["shown"] += len(done.summary["shown"])
        facts["touched"] += done.summary["touched"]
        facts["no_point"] += done.summary["no_point"]


def class_progress(store: Store, classes: dict[str, str]) -> list[dict[str, Any]]:
    """Pages of each class, and those that reached the overlap."""
    rows = store.read(
        lambda tx: tx.rows(
            "SELECT t.class_id, COUNT(*), SUM(CASE WHEN (SELECT COUNT(*) FROM assignment a WHERE a.task = t.id AND"
            " a.state = 'submitted' AND a.counts = 1) >= t.overlap THEN 1 ELSE 0 END) FROM task t WHERE t.practice = 0"
            " GROUP BY t.class_id ORDER BY t.class_id"
        )
    )
    return [
        {"id": class_id, "name": classes.get(class_id, class_id), "pages": int(pages), "pages_done": int(done)}
        for class_id, pages, done in rows
    ]


def showings(
    store: Store, classes: dict[str, str], *, worker: str, class_id: str, after: str, limit: int
) -> dict[str, Any]:
    """GET /owner/api/showings, the newest first; `after` is the cursor of an earlier answer."""
    where, values = ["a.state = 'submitted'"], []
    if worker:
        where.append("w.public_id = ?")
        values.append(worker)
    if class_id:
        where.append("t.class_id = ?")
        values.append(class_id)
    if after:
        ms, _, last = after.partition("-")
        where.append("(a.submitted_ms < ? OR (a.submitted_ms = ? AND a.id > ?))")
        values += [int(ms), int(ms), last]
    rows = store.read(
        lambda tx: tx.rows(
            "SELECT a.id, w.public_id, t.class_id, a.submitted_ms, a.duration_ms, a.summary, a.num_pictures, a.counts,"
            " a.excluded FROM assignment a JOIN task t ON t.id = a.task JOIN worker w ON w.id = a.worker WHERE"
            f" {' AND '.join(where)} ORDER BY a.submitted_ms DESC, a.id LIMIT {int(limit) + 1}",
            *values,
        )
    )
    found = []
    for name, who, of_class, ms, duration, text, pictures, counts, excluded in rows[:limit]:
        summary = json.loads(text or "{}")
        found.append(
            {
                "assignment": name,
                "worker": who,
                "class": of_class,
                "name": classes.get(of_class, of_class),
                "submitted_ms": ms,
                "ms": duration,
                "selected": len(summary.get("selected", summary.get("icons", ()))),
                "pictures": pictures,
                "surplus": not counts and not excluded,
            }
        )
    more = len(rows) > limit
    return {"showings": found, "next": f"{rows[limit - 1][3]}-{rows[limit - 1][0]}" if more else None}


class Heatmap:
    """Where the clicks of a class, or on a picture, are."""

    def __init__(self) -> None:
        self.counts = [[0] * HEATMAP_SIZE for _ in range(HEATMAP_SIZE)]
        self.points: list[list[float]] = []
        self.clicks = 0
        self.pictures: dict[str, tuple[str, int, int]] = {}
        """Path to an assignment and index that show it, and its clicks."""

    def add(self, path: str, assignment: str, index: int, point: list[float]) -> None:
        x, y = (min(max(int(v * HEATMAP_SIZE), 0), HEATMAP_SIZE - 1) for v in point)
        self.counts[y][x] += 1
        self.clicks += 1
        if len(self.points) < _MAX_POINTS:
            self.points.append([round(v, 5) for v in point])
        if path in self.pictures or len(self.pictures) < _MAX_PICTURES:
            before = self.pictures.get(path, (assignment, index, 0))
            self.pictures[path] = (*before[:2], before[2] + 1)


def heatmap(store: Store, *, class_id: str, picture: str) -> Heatmap:
    """Of the candidates of a class, the icons of a class, or one picture."""
    found = Heatmap()
    of_class = class_id if class_id and value_of_class(store, class_id) else None
    for _, task, done in submitted(store, class_id=of_class):
        for d in done:
            for index, shown in task.all():
                path = shown.source.path
                if task.class_id and str(index) in d.summary.get("clicks", {}):
                    wanted = path == picture if picture else shown.role == "candidate"
                    if wanted:
                        found.add(path, d.assignment, index, d.summary["clicks"][str(index)])
                elif not task.class_id and (not picture or path == picture):
                    for name, point in icons_of(d).items():
                        if not class_id or name == class_id:
                            found.add(path, d.assignment, index, point)
    return found


def value_of_class(store: Store, class_id: str) -> bool:
    """Whether pages ask for this class: those of the COCO page ask for none."""
    return bool(store.read(lambda tx: tx.rows("SELECT 1 FROM task WHERE class_id = ? LIMIT 1", class_id)))
