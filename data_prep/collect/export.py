"""`collect export`: the log as ImageNet-AB XML or COCO-AB JSON, and apart from it everything that is neither.

    OUT/xml/<class>/<stem>.xml    imagenet    candidates, shown on the page of their own class
    OUT/coco_ab.json              coco        one record for each submitted page
    OUT/instances.json            coco        without an instances file: images, classes, labels by majority
    OUT/apart.jsonl               controls, distractors, reserves, pictures that failed: never in the files above
    OUT/left_out.jsonl            where there are any: showings that the readers would not take as they were collected
    OUT/events.jsonl.gz           with --events: the log as it came, of the annotators whose work is exported
    OUT/manifest.json             counts, what was left out and why, hashes

Pages are read one by one, so memory does not grow with them. What is written is read back with the readers of
`data_prep` and compared; a showing that comes back as something else is left out and listed, the others are written.
The folder appears as a whole or not at all. An annotator who withdrew is in none of the files.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import hashlib
import json
import shlex
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from data_prep.collect import export_coco, export_imagenet, log
from data_prep.collect.classes import class_list
from data_prep.collect.config import SIMULATED
from data_prep.collect.fold import FOLD_VERSION, fold
from data_prep.collect.pictures import PictureGoneError, Pictures
from data_prep.collect.project import Project, now_ms
from data_prep.collect.showing import LeftOut, Showing
from data_prep.collect.store import Store, Tx, get_meta, value
from data_prep.collect.tasks import Task, read_task
from luab_jax.errors import DataError, UserError
from luab_jax.io import storage
from luab_jax.io.atomic import atomic_file, write_text
from luab_jax.io.lease import Lease

_READ_AT_ONCE = 50
MANIFEST = "manifest.json"
_LABELS = {
    "showings_exported_apart": "showings not in the XML (controls, see apart.jsonl)",
    "pages_of_them_surplus": "of these, surplus pages",
}
"""What the terminal calls a count of the manifest, where the name alone does not say it."""
_COCO_LABELS = {"showings_exported_apart": "showings not in the JSON (see apart.jsonl)"}
LEFT_OUT = "left_out.jsonl"


@dataclass(slots=True)
class Exported:
    """What an export wrote."""

    out: Path
    """Where the command finds it."""
    command: list[str]
    prepared: Path
    """Where the command puts its shards."""
    counts: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """For the terminal; the last one is a command that works."""
        labels = _LABELS if "coco_ab" not in self.command else _LABELS | _COCO_LABELS
        rows = [
            f"{labels.get(name, name.replace('_', ' ')):<52}{number:>10,}"
            for name, number in sorted(self.counts.items(), key=_place)
        ]
        odd = self.counts["showings_left_out_as_odd"]
        told = [f"{odd:,} showings were left out as odd; {self.out / LEFT_OUT} says why"] if odd else []
        if made_up := self.counts["simulated_pages"]:
            told.append(f"{made_up:,} of the pages are of simulated annotators: a rehearsal, not the work of people")
        return [f"{self.out}: exported", *rows, *told, "To prepare it, run:", shlex.join(self.command)]


def _place(count: tuple[str, int]) -> str:
    """Sorts "of these" below what it is of."""
    return count[0].replace("pages_of_them", "pages_exported_of_them")


def export(
    project: Project,
    store: Store,
    out: Path,
    *,
    events: bool = False,
    include_blocked: bool = False,
    prepared: Path | None = None,
    named: Path | None = None,
) -> Exported:
    """Writes what was submitted so far; the server may run meanwhile.

    prepared: the --out of the command it returns. named: where that command will find the export, if it is packed.

    Raises `DataError` for an `out` that holds something else, and if nothing was submitted yet; `UserError` while
    another command exports into it.
    """
    named = named or out.absolute()
    out = Path(storage.resolved(out))  # a link stays what it is
    with Lease(out, file=out.with_name(f"{out.name}.lease"), remedy="choose another --out") as lease:
        _check_out(out)
        partial = out.with_name(f"{out.name}.{uuid.uuid4().hex[:12]}.partial")
        try:
            partial.mkdir(parents=True)
            done = Exported(named, [], prepared=prepared or named.with_name(f"{named.name}-prepared"))
            _write(project, store, partial, done, events=events, include_blocked=include_blocked)
            lease.check()
            _publish(partial, out)
        except OSError as e:
            raise UserError(f"{out}: cannot be written ({e.strerror or e})") from e
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return done


def _check_out(out: Path) -> None:
    """An earlier export is replaced, with all that it wrote and nothing else."""
    if out.is_file():
        raise DataError(f"--out={out}: is a file, expected a folder")
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if others := sorted(there - _exported_before(out)):
        raise DataError(
            f"--out={out}: holds other files ({others[0]}); give an empty or a new folder, or that of an earlier export"
        )


def _exported_before(out: Path) -> set[str]:
    """What an earlier export wrote, as its manifest says."""
    try:
        facts = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return {*facts["sha256"], MANIFEST, "xml"} if "fold_version" in facts else set()
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def _publish(partial: Path, out: Path) -> None:
    """Puts the new export in the place of an earlier one."""
    if not out.exists():
        partial.rename(out)
        return
    old = out.with_name(partial.name.removesuffix(".partial") + ".old")
    out.rename(old)
    try:
        partial.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _lines(path: Path) -> Iterator[TextIO]:
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def _write(
    project: Project, store: Store, folder: Path, done: Exported, *, events: bool, include_blocked: bool
) -> None:
    counts, simulated = done.counts, set()
    with _lines(folder / "apart.jsonl") as apart, _lines(folder / LEFT_OUT) as odd, contextlib.ExitStack() as stack:
        writer = stack.enter_context(
            export_imagenet.Writer(folder, counts, LeftOut(counts, odd))
            if project.config.task == "imagenet"
            else export_coco.Writer(folder, counts, project.classes, LeftOut(counts, odd))
        )
        for task, showings in _tasks(store, counts, simulated, include_blocked=include_blocked):
            writer.add(task, showings)
            for line in _apart(task, showings):
                counts["showings_exported_apart"] += 1
                apart.write(json.dumps(line, ensure_ascii=False) + "\n")
    if not counts["showings_left_out_as_odd"]:
        (folder / LEFT_OUT).unlink()
    if simulated:
        counts["simulated_annotators"] = len(simulated)
    if not counts["pages_exported"]:
        raise DataError(f"{project.folder}: no page was submitted yet; nothing to export")
    if events:
        _write_events(store, folder / "events.jsonl.gz", counts, include_blocked=include_blocked)
    if isinstance(writer, export_coco.Writer):
        done.command = _coco_command(project, store, folder, done, writer)
    else:
        done.command = _imagenet_command(project, store, folder, done)
    _write_manifest(folder, project, done)


def _tasks(
    store: Store, counts: Counter[str], simulated: set[str], *, include_blocked: bool
) -> Iterator[tuple[Task, list[Showing]]]:
    """Pages in the order of the plan, with every submitted showing of them; adds to `simulated` whose are simulated."""
    after = -1
    while True:
        rows = store.read(
            lambda tx, last=after: tx.rows(
                "SELECT id, seq, body, grp, place FROM task WHERE seq > ? AND practice = 0 AND EXISTS (SELECT 1 FROM"
                f" assignment a WHERE a.task = task.id AND a.state = 'submitted') ORDER BY seq LIMIT {_READ_AT_ONCE}",
                last,
            )
        )
        for name, _, body, group, place in rows:
            found = store.read(lambda tx, task=name: _submitted(tx, task))
            task, showings = read_task(body, group=group, place=place), []
            for assignment, worker, hashes, ms, counted, excluded, state, platform in found:
                if _stays_out(state, excluded, include_blocked=include_blocked):
                    counts["pages_left_out_of_blocked_or_withdrawn_annotators"] += 1
                    continue
                page = fold(store.read(lambda tx, a=assignment: log.batches_of(tx, a, as_submitted=True)))
                counts["pages_exported"] += 1
                if platform == SIMULATED:
                    counts["simulated_pages"] += 1
                    simulated.add(worker)
                counts["pages_of_them_surplus"] += not counted and not excluded
                counts["events_lost_in_the_browser"] += page.lost_events
                showings.append(Showing(assignment, worker, *hashes, ms, not counted, page))
            yield task, showings
        if len(rows) < _READ_AT_ONCE:
            return
        after = rows[-1][1]


def _stays_out(state: str, excluded: int, *, include_blocked: bool) -> bool:
    """Of an annotator who withdrew, always; of one who is or was blocked, unless that is asked for."""
    return state == "withdrawn" or ((bool(excluded) or state == "blocked") and not include_blocked)


def _submitted(tx: Tx, task: str) -> list[tuple[str, str, tuple[str, str], int, int, int, str, str]]:
    rows = tx.rows(
        "SELECT a.id, w.public_id, v.assignment_hash, v.hit_hash, a.submitted_ms, a.counts, a.excluded, w.state,"
        " w.platform FROM assignment a JOIN worker w ON w.id = a.worker JOIN visit v ON v.id = a.visit WHERE a.task ="
        " ? AND a.state = 'submitted' ORDER BY a.submitted_ms, a.id",
        task,
    )
    return [(a, worker, (one, other), *rest) for a, worker, one, other, *rest in rows]


def _apart(task: Task, showings: list[Showing]) -> Iterator[dict[str, Any]]:
    """Every picture of the page that the released format has no place for."""
    for showing in showings:
        for index, shown in task.all():
            picture = showing.page.pictures.get(index)
            state = "unseen" if picture is None else picture.state
            if (shown.role == "candidate" and state == "loaded") or (shown.role == "reserve" and picture is None):
                continue
            yield {
                "assignment": showing.assignment,
                "worker_id": showing.worker,
                "class_asked": task.class_id,
                "picture": shown.source.path,
                "picture_class": shown.source.class_id,
                "role": shown.role,
                "state": state,
                "selected": bool(picture and picture.selected) if state == "loaded" else None,
                "clicks": [[round(c.t), c.x, c.y] for c in picture.clicks] if picture else [],
            }


def _write_events(store: Store, path: Path, counts: Counter[str], *, include_blocked: bool) -> None:
    """One line a batch: whose, when it came, and its JSON; of the same annotators as the rest of the export."""
    after = ""
    with (
        atomic_file(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=4) as file,
    ):
        while True:
            rows = store.read(
                lambda tx, last=after: tx.rows(
                    "SELECT a.id, a.task, w.public_id, a.state, a.excluded, w.state, a.num_batches FROM assignment a"
                    " JOIN worker w ON w.id = a.worker WHERE"
                    f" a.id > ? AND a.num_batches > 0 ORDER BY a.id LIMIT {_READ_AT_ONCE}",
                    last,
                )
            )
            for after, task, worker, state, excluded, of_worker, number_there in rows:
                if _stays_out(of_worker, excluded, include_blocked=include_blocked):
                    counts["batches_left_out_of_blocked_or_withdrawn_annotators"] += number_there
                    continue
                for tab, number, received_ms, sent_ms, body in store.read(
                    lambda tx, a=after: list(log.raw_batches(tx, a))
                ):
                    counts["batches_in_the_event_file"] += 1
                    facts = {"assignment": after, "task": task, "worker_id": worker, "state": state, "tab": tab}
                    facts |= {"n": number, "received_ms": received_ms, "sent_ms": sent_ms}
                    file.write(json.dumps(facts)[:-1].encode() + b', "batch": ' + _one_line(body) + b"}\n")
            if len(rows) < _READ_AT_ONCE:
                return


def _one_line(body: bytes) -> bytes:
    """A batch as it came, but in UTF-8 without a byte order mark, and without ends of line."""
    try:
        body.decode("utf-8")
        is_plain = b"\0" not in body
    except UnicodeDecodeError:
        is_plain = False
    if not is_plain:
        return json.dumps(json.loads(body)).encode()  # which also reads UTF-16 and UTF-32
    return body.removeprefix(codecs.BOM_UTF8).replace(b"\n", b" ").replace(b"\r", b" ")


def _imagenet_command(project: Project, store: Store, folder: Path, done: Exported) -> list[str]:
    config = project.config
    listed, files = (
        int(store.read(lambda tx: get_meta(tx, "listed", "0"))),
        done.counts["xml_files"],
    )
    xml = done.out / "xml"
    if config.classes == "imagenet":
        command = ["python", "-m", "data_prep", "imagenet_ab", f"--images={config.images}", f"--byproducts={xml}"]
        return [*command, f"--out={done.prepared}", *(["--min_match=0"] if files * 2 < listed else [])]
    _write_class_list(project, folder / "classes.txt")
    command = ["python", "-m", "data_prep", "folder", f"--source={config.images}", f"--byproducts={xml}"]
    return [*command, f"--classes={done.out / 'classes.txt'}", f"--out={done.prepared}"]


def _coco_command(
    project: Project, store: Store, folder: Path, done: Exported, writer: export_coco.Writer
) -> list[str]:
    config = project.config
    instances, extra = config.instances, []
    if config.classes == "own":
        _write_class_list(project, folder / "classes.txt")
        extra = [f"--classes={done.out / 'classes.txt'}"]
    if not instances:
        pictures = Pictures(store.read(lambda tx: get_meta(tx, "images")), project.scratch)
        with atomic_file(folder / "instances.json") as temporary, temporary.open("w", encoding="utf-8") as file:
            _write_instances(project, store, pictures, writer, file, done.counts)
        instances = str(done.out / "instances.json")
    elif store.read(lambda tx: get_meta(tx, "few_of_instances")) == "1":
        extra.append("--min_match=0")
    writer.discard_votes()
    command = ["python", "-m", "data_prep", "coco_ab", f"--images={config.images}", f"--instances={instances}"]
    return [*command, f"--byproducts={done.out / 'coco_ab.json'}", *extra, f"--out={done.prepared}"]


def _write_instances(
    project: Project, store: Store, pictures: Pictures, writer: export_coco.Writer, file: TextIO, counts: Counter[str]
) -> None:
    """Every planned picture; its labels are the classes that at least half of its annotators put on it.

    There is no box: an entry of `annotations` here says only that the class is there.
    """
    categories = export_coco.category_ids(project.classes)
    file.write('{"images": [')
    first = True
    for name in _planned(store):
        task = store.read(lambda tx, t=name: read_task(value(tx, "SELECT body FROM task WHERE id = ?", t)))
        source = task.pictures[0].source
        try:
            width, height = pictures.size(source)
        except PictureGoneError:
            counts["pictures_gone_since_they_were_planned"] += 1
            continue
        entry = {"id": source.image_id, "file_name": source.path, "width": width, "height": height}
        file.write(("" if first else ",\n") + json.dumps(entry, ensure_ascii=False))
        first = False
    file.write('],\n"annotations": [')
    for number, (image, class_id) in enumerate(writer.labels(), 1):
        entry = {"id": number, "image_id": image, "category_id": categories[class_id], "iscrowd": 0}
        file.write(("" if number == 1 else ",\n") + json.dumps(entry))
        counts["labels_by_majority"] += 1
    rows = [{"id": categories[info.id], "name": info.id} for info in project.classes]
    file.write('],\n"categories": ' + json.dumps(rows, ensure_ascii=False) + "}\n")


def _planned(store: Store) -> Iterator[str]:
    """Ids of all pages."""
    after = -1
    while True:
        rows = store.read(
            lambda tx, last=after: tx.rows(
                "SELECT id, seq FROM task WHERE seq > ? AND practice = 0 ORDER BY seq LIMIT 500", last
            )
        )
        for name, _ in rows:
            yield name
        if len(rows) < 500:
            return
        after = rows[-1][1]


def _write_class_list(project: Project, path: Path) -> None:
    found = class_list(project.classes)
    lines = (f"{class_id}\t{name}\n" for class_id, name in zip(found.ids, found.names, strict=True))
    write_text(path, "".join(lines))


def _write_manifest(folder: Path, project: Project, done: Exported) -> None:
    """Hashes of single files, and one over all XML."""
    hashes = {path.name: _sha256(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != MANIFEST}
    facts = {
        "export_version": 1,
        "project": project.config.title,
        "task": project.config.task,
        "written_ms": now_ms(),
        "fold_version": FOLD_VERSION,
        "simulated": {
            "annotators": done.counts["simulated_annotators"],
            "showings": done.counts["simulated_pages"],
        },
        "counts": dict(sorted(done.counts.items())),
        "sha256": hashes,
        "command": shlex.join(done.command),
    }
    write_text(folder / MANIFEST, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
