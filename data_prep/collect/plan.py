"""`collect plan`: what there is to show, cut into pages and written into the store.

Only names and sizes are looked at, so that ImageNet's 1.3 million pictures are planned in the time of listing them.
Whether a picture can be read is found when its page is given out.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data_prep.collect.classes import read_similar
from data_prep.collect.coco_gold import Gold, read_gold
from data_prep.collect.pictures import describe
from data_prep.collect.project import Project, now_ms
from data_prep.collect.store import Store, Tx, get_meta, note, set_meta, value
from data_prep.collect.tasks import PageRule, Shown, Source, Task, cut_pages, group_pages, practice_page
from data_prep.datasets.class_folders import class_root
from data_prep.datasets.coco_ab import find_files, image_root
from data_prep.datasets.leftovers import images_in
from data_prep.datasets.listing import Listing, stem_of
from data_prep.sources.archive_tree import open_source
from data_prep.sources.tree import Source as Tree
from luab_jax.errors import DataError

_WRITTEN_AT_ONCE = 100
_SIMILAR_POOL = 20
"""Classes from which controls and distractors are drawn where no list of similar classes is given."""
_COCO_PRACTICE = (2, 5)
"""Least and largest number of classes on the picture for practice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What `collect plan` was asked for; kept in the project, so that a later run cannot mix two."""

    overlap: int | None = None
    """`None`: as it is, and 1 at first."""
    rule: PageRule = field(default_factory=PageRule)
    pages_per_hit: int
    similar: str = ""
    images_per_class: int = 0
    """Only so many of each class; 0: all."""

    def kept(self) -> str:
        """What must stay the same: all but the overlap."""
        facts = asdict(self)
        del facts["overlap"]
        return json.dumps(facts, sort_keys=True)


def kept_options(store: Store) -> dict[str, Any]:
    """What an earlier `plan` was asked for, those of its `rule` among them; empty before the first."""
    kept = json.loads(store.read(lambda tx: get_meta(tx, "plan")) or "{}")
    return kept.pop("rule", {}) | kept


@dataclass(slots=True)
class Planned:
    """What a run of `plan` did."""

    pages: int = 0
    pictures: int = 0
    all_pages: int = 0
    empty_classes: list[str] = field(default_factory=list)
    roles: Counter[str] = field(default_factory=Counter)
    ignored_files: int = 0
    listed: int = 0
    """Pictures below the root, those of other classes included."""
    few_of_instances: bool = False
    """Whether the instances file knows more than twice as many."""
    moved: bool = False
    """Whether pictures are now read from elsewhere than before."""
    shared_names: list[str] = field(default_factory=list)
    """Pictures that differ by their suffix alone, so that they would share one XML: left out."""
    not_in_instances: list[str] = field(default_factory=list)
    """Pictures that the instances file does not name: left out."""
    overlap: int = 1
    """Of new pages, and unless it was left as it is, of all."""
    overlap_changed: int = 0


def plan(project: Project, store: Store, options: PlanOptions) -> Planned:
    """Plans every picture that has no page yet, and sets the overlap of all pages if one is given.

    Raises `DataError` for pictures that cannot be listed, for none at all, and for options other than those of an
    earlier plan once annotators have begun.
    """
    _check_same(store, options)
    source = open_source(project.config.images, "--images", scratch=project.scratch)
    stored = int(store.read(lambda tx: get_meta(tx, "overlap")) or 1)
    listing, done = Listing(), Planned(overlap=stored if options.overlap is None else options.overlap)
    if project.config.task == "imagenet":
        root = class_root(source, project.class_list)
        pages, practice = _imagenet_pages(project, store, root, listing, options, done)
    else:
        root = image_root(source)
        pages, practice = _coco_pages(project, store, root, listing, options, done)
    root.make_readable()
    done.ignored_files = listing.counts["other_files_ignored"]
    _write(store, pages, practice, options, done)
    store.do(lambda tx: _keep(tx, options, describe(root), done))
    if not done.all_pages:
        raise DataError(f"{root.place}: no pictures to plan; expected <class>/<image> (.jpg, .jpeg or .png)")
    return done


def _check_same(store: Store, options: PlanOptions) -> None:
    def check(tx: Tx) -> None:
        before = get_meta(tx, "plan")
        if before in ("", options.kept()):
            return
        if value(tx, "SELECT COUNT(*) FROM assignment"):
            raise DataError(
                f"this project was planned with other options, and annotators have begun: {before}; give the same ones"
                " (only --overlap may change), or make a new project"
            )
        tx.run("DELETE FROM task")
        tx.run("DELETE FROM planned")

    store.do(check)


def _keep(tx: Tx, options: PlanOptions, images: str, done: Planned) -> None:
    done.moved = get_meta(tx, "images") not in ("", images)
    set_meta(tx, "listed", str(done.listed))
    set_meta(tx, "few_of_instances", "1" if done.few_of_instances else "0")
    set_meta(tx, "plan", options.kept())
    set_meta(tx, "overlap", str(done.overlap))
    set_meta(tx, "images", images)
    note(tx, now_ms(), "plan", f"overlap {done.overlap}")


def _list(tree: Tree, folder: str, listing: Listing, done: Planned) -> list[Source]:
    found = [file for file in images_in(listing, folder, tree.files(folder)) if file.span.size]
    stems = Counter(stem_of(name) for name, _ in found)
    done.listed += len(found)
    sources = [
        Source(f"{folder}/{name}" if folder else name, folder, span.size, span.at)
        for name, span in found
        if stems[stem_of(name)] == 1 or not folder
    ]
    if folder:
        done.shared_names += [f"{folder}/{name}" for name, _ in found if stems[stem_of(name)] > 1]
    return sources


def _planned_paths(store: Store, folder: str) -> set[str]:
    """Of one folder; `0` follows `/`."""
    if not folder:
        rows = store.read(lambda tx: tx.rows("SELECT path FROM planned"))
    else:
        rows = store.read(
            lambda tx: tx.rows("SELECT path FROM planned WHERE path >= ? AND path < ?", f"{folder}/", f"{folder}0")
        )
    return {path for (path,) in rows}


def _imagenet_pages(
    project: Project, store: Store, root: Tree, listing: Listing, options: PlanOptions, done: Planned
) -> tuple[list[Task], list[Task]]:
    rule, known = options.rule, set(project.class_of)
    if rule.candidates < 1:
        raise DataError(f"--page_size={rule.page_size}: controls and distractors leave no room for a candidate")
    folders = set(root.folders())
    if strangers := sorted(folders - known)[:1] if project.config.classes == "own" else []:
        raise DataError(
            f"{root.place}/{strangers[0]}: is no class of {project.classes_path}; add it there or remove it"
        )
    of_class = {info.id: _list(root, info.id, listing, done) if info.id in folders else [] for info in project.classes}
    for stranger in folders - known:
        done.listed += len(list(images_in(listing, stranger, root.files(stranger))))
    done.empty_classes = [class_id for class_id, found in of_class.items() if not found]
    similar = read_similar(project.folder / "similar.txt", known) if options.similar else {}
    pages: list[Task] = []
    for class_id, found in of_class.items():
        before = _planned_paths(store, class_id)
        fresh = [source for source in found if source.path not in before]
        if options.images_per_class:
            fresh = _sample(fresh, max(options.images_per_class - len(before), 0), rule.seed, class_id)
        if fresh:
            others, near = _others(of_class, class_id, similar, rule.seed)
            pages += cut_pages(class_id, fresh, others, near, rule)
    practice = _imagenet_practice(of_class, similar, rule) if project.config.practice else []
    return group_pages(pages, options.pages_per_hit, seed=rule.seed, after=_count(store)), practice


def _sample(sources: Sequence[Source], number: int, seed: int, class_id: str) -> list[Source]:
    return random.Random(f"{seed} {class_id}").sample(list(sources), min(number, len(sources)))


def _others(
    of_class: dict[str, list[Source]], class_id: str, similar: dict[str, tuple[str, ...]], seed: int
) -> tuple[list[Source], list[Source]]:
    """Pictures of other classes, and of similar ones; without a list of these both are the same."""
    rest = [other for other, found in of_class.items() if other != class_id and found]
    pool = random.Random(f"{seed} others {class_id}").sample(rest, min(_SIMILAR_POOL, len(rest)))
    others = [source for other in pool for source in of_class[other]]
    near = [source for other in similar.get(class_id, ()) for source in of_class[other]]
    return others, near or others


def _imagenet_practice(
    of_class: dict[str, list[Source]], similar: dict[str, tuple[str, ...]], rule: PageRule
) -> list[Task]:
    """One page, of the first class in a seeded order that has pictures; none where there is only one class."""
    full = [class_id for class_id, found in of_class.items() if found]
    if len(full) < 2:
        return []
    class_id = random.Random(f"{rule.seed} practice").choice(full)
    _, near = _others(of_class, class_id, similar, rule.seed)
    return [practice_page(class_id, of_class[class_id], near, seed=rule.seed)]


def _coco_pages(
    project: Project, store: Store, root: Tree, listing: Listing, options: PlanOptions, done: Planned
) -> tuple[list[Task], list[Task]]:
    found = _list(root, "", listing, done)
    gold = read_gold(project.config.instances, project.class_list) if project.config.instances else Gold()
    before = _planned_paths(store, "")
    if gold.image_ids:
        numbered = _numbered_by(gold, found, project.config.instances, root.place, done)
        done.few_of_instances = 2 * len(numbered) < len(gold.image_ids)
    else:
        numbered = _number(found)
    fresh = [source for source in numbered if source.path not in before]
    if options.images_per_class:
        fresh = _sample(fresh, max(options.images_per_class - len(before), 0), options.rule.seed, "")
    pages = [Task("", (Shown(source, "candidate"),), gold=gold.boxes.get(source.image_id, {})) for source in fresh]
    practice = _coco_practice(numbered, gold, options.rule.seed) if project.config.practice else []
    return group_pages(pages, options.pages_per_hit, seed=options.rule.seed, after=_count(store)), practice


def _numbered_by(gold: Gold, sources: list[Source], instances: str, place: str, done: Planned) -> list[Source]:
    """The pictures that the instances file names, with their ids; raises `DataError` if it names none."""
    file_of = find_files(gold.image_ids, {source.path for source in sources})
    id_of = {file: gold.image_ids[name] for name, file in file_of.items()}
    done.not_in_instances = sorted(source.path for source in sources if source.path not in id_of)
    if sources and not id_of:
        raise DataError(
            f"{instances}: names none of the {len(sources)} pictures of {place}; it names {min(gold.image_ids)!r}, say,"
            f" and there is {done.not_in_instances[0]!r}. Correct `images` or `instances` in project.toml"
        )
    return [source._replace(image_id=id_of[source.path]) for source in sources if source.path in id_of]


def _number(sources: list[Source]) -> list[Source]:
    """COCO's ids from names such as COCO_train2014_000000000009.jpg where all have one; else a hash of the name, which
    stays the same when pictures are added."""
    tails = [source.path.rpartition(".")[0].rpartition("_")[2] for source in sources]
    if sources and all(tail.isdecimal() and tail.isascii() and len(tail) <= 15 for tail in tails):
        numbers = [int(tail) for tail in tails]
        if len(set(numbers)) == len(numbers):
            return [source._replace(image_id=number) for source, number in zip(sources, numbers, strict=True)]
    digests = (hashlib.sha256(source.path.encode()).digest()[:6] for source in sources)
    return [source._replace(image_id=int.from_bytes(d)) for source, d in zip(sources, digests, strict=True)]


def _coco_practice(sources: list[Source], gold: Gold, seed: int) -> list[Task]:
    """A picture whose classes the instances file names."""
    least, most = _COCO_PRACTICE
    fit = [source for source in sources if least <= len(gold.boxes.get(source.image_id, ())) <= most]
    if not fit:
        return []
    source = random.Random(f"{seed} practice").choice(sorted(fit))
    return [Task("", (Shown(source, "positive"),), practice=True, gold=gold.boxes[source.image_id])]


def _count(store: Store) -> int:
    return store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM task WHERE practice = 0"))


def _write(store: Store, pages: list[Task], practice: list[Task], options: PlanOptions, done: Planned) -> None:
    """In the order of `seq`; a stopped run leaves whole pages, and the next one plans the rest."""
    for start in range(0, len(pages), _WRITTEN_AT_ONCE):
        store.do(_inserting(pages[start : start + _WRITTEN_AT_ONCE], done.overlap))
    store.do(lambda tx: tx.run("DELETE FROM task WHERE practice = 1 AND id NOT IN (SELECT task FROM assignment)"))
    if practice and not store.read(lambda tx: value(tx, "SELECT COUNT(*) FROM task WHERE practice = 1")):
        store.do(_inserting(practice, 0))
    if options.overlap is not None:
        done.overlap_changed = store.do(
            lambda tx: tx.run(
                "UPDATE task SET overlap = ? WHERE practice = 0 AND overlap <> ?", options.overlap, options.overlap
            )
        )
    done.pages, done.all_pages = len(pages), _count(store)
    for page in pages:
        done.roles.update(shown.role for shown in page.pictures)
    done.pictures = done.roles["candidate"]


def _inserting(pages: list[Task], overlap: int) -> Callable[[Tx], None]:
    def insert(tx: Tx) -> None:
        seq = value(tx, "SELECT COALESCE(MAX(seq), 0) FROM task")
        for number, page in enumerate(pages, seq + 1):
            added = tx.run(
                "INSERT INTO task (id, seq, class_id, grp, place, practice, overlap, body) VALUES (?, ?, ?, ?, ?, ?, ?,"
                " ?) ON CONFLICT (id) DO NOTHING",
                *(page.id, number, page.class_id, page.group, page.place, int(page.practice), overlap, page.body()),
            )
            for path in _candidates(page) if added and not page.practice else ():
                tx.run("INSERT INTO planned (path, task) VALUES (?, ?)", path, page.id)

    return insert


def _candidates(page: Task) -> Iterator[str]:
    return (shown.source.path for shown in page.pictures if shown.role == "candidate")
