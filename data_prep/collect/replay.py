"""A page as it went, for the owner to watch."""

from __future__ import annotations

from typing import Any

from data_prep.collect import log
from data_prep.collect.fold import fold
from data_prep.collect.merge import ordered
from data_prep.collect.store import Store, Tx, row
from data_prep.collect.tasks import Task, read_task
from luab_jax.errors import DataError


def replay(store: Store, assignment: str) -> tuple[Task, dict[str, Any]]:
    """GET /owner/api/replay, without addresses and sizes of the pictures. Raises `DataError` for an unknown page."""
    found = store.read(lambda tx: _read(tx, assignment))
    if found is None:
        raise DataError(f"{assignment}: no such page")
    task, worker, batches = found
    page = fold(batches, until_submit=False)
    start = page.start_ms or 0.0
    pictures = [
        {
            "index": index,
            "role": shown.role,
            "picture": shown.source.path,
            "selected": index in page.pictures and page.pictures[index].selected,
            "state": page.pictures[index].state if index in page.pictures else "unseen",
        }
        for index, shown in task.all()
    ]
    events = []
    for event, behind in ordered(batches):
        moved = {name: value for name, value in event.items() if name not in ("t", "p")}
        at = event["t"] + behind - start
        moved["at"] = round(at, 1)
        if "p" in event:
            path = []
            for dt, x, y in event["p"]:
                at += dt
                path.append([round(at, 1), x, y])
            moved["p"] = path
        events.append(moved)
    return task, {
        "assignment": assignment,
        "worker": worker,
        "class": task.class_id,
        "start_ms": round(start),
        "end_ms": round(page.end_ms or start),
        "pictures": pictures,
        "events": events,
    }


def _read(tx: Tx, assignment: str) -> tuple[Task, str, list[log.StoredBatch]] | None:
    found = row(
        tx,
        "SELECT t.body, t.grp, t.place, w.public_id FROM assignment a JOIN task t ON t.id = a.task JOIN worker w ON"
        " w.id = a.worker WHERE a.id = ? AND t.practice = 0",
        assignment,
    )
    if found is None:
        return None
    return read_task(found[0], group=found[1], place=found[2]), found[3], log.batches_of(tx, assignment)
