"""A task: one page of pictures, what each of them is there for, and an id that is the hash of all that."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

ROLES = ("candidate", "distractor", "positive", "negative", "reserve")
"""A candidate is shown on the page of its own class and goes into the export. A distractor is of another class, and
controls (positive, negative) have a known answer: these are exported apart. A reserve replaces a broken candidate."""


class Source(NamedTuple):
    """A picture of the collection, as planned."""

    path: str
    """Below the root of the images."""
    class_id: str
    size: int
    """Bytes."""
    at: int
    """In its archive."""
    image_id: int = -1
    """COCO's, if there is one."""


class Shown(NamedTuple):
    """A picture on a page."""

    source: Source
    role: str


@dataclass(frozen=True, slots=True)
class Task:
    """One page."""

    class_id: str
    """The class that is asked for; empty on the COCO page."""
    pictures: tuple[Shown, ...]
    """In the order of places."""
    reserve: tuple[Shown, ...] = ()
    group: str = ""
    """32 hex digits: the HIT of the release to which the page belongs."""
    place: int = 0
    """In the group."""
    practice: bool = False
    gold: dict[str, list[list[float]]] = field(default_factory=dict)
    """COCO, with an instances file: classes on the picture with their boxes, as fractions."""

    @property
    def id(self) -> str:
        """32 hex digits of the page's content, so that the same plan gives the same ids."""
        return hashlib.sha256(f"{self.practice}\n{self.body()}".encode()).hexdigest()[:32]

    def shown(self, index: int) -> Shown | None:
        """The picture of an index of the protocol: those of the reserve follow those of the page."""
        every = (*self.pictures, *self.reserve)
        return every[index] if 0 <= index < len(every) else None

    def all(self) -> Iterator[tuple[int, Shown]]:
        yield from enumerate((*self.pictures, *self.reserve))

    def body(self) -> str:
        rows = [[[*shown.source], shown.role] for shown in self.pictures]
        extra = [[[*shown.source], shown.role] for shown in self.reserve]
        facts = {"class": self.class_id, "pictures": rows, "reserve": extra}
        return json.dumps(facts | ({"gold": self.gold} if self.gold else {}), separators=(",", ":"))


def read_task(body: str, *, group: str = "", place: int = 0, practice: bool = False) -> Task:
    """From `Task.body`."""
    value: dict[str, Any] = json.loads(body)
    pictures, reserve = (
        tuple(Shown(Source(*source), role) for source, role in value[name]) for name in ("pictures", "reserve")
    )
    return Task(value["class"], pictures, reserve, group, place, practice, value.get("gold", {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRule:
    """How pages of the ImageNet kind are cut."""

    page_size: int = 48
    positive: int = 3
    negative: int = 3
    distractors: int = 0
    """Pictures of other classes on a page, beside the negative controls."""
    reserve: int = 2
    seed: int = 0

    @property
    def candidates(self) -> int:
        return self.page_size - self.positive - self.negative - self.distractors


def _rng(seed: int, *words: object) -> random.Random:
    """One stream for each purpose, the same on every machine."""
    return random.Random(hashlib.sha256(repr((seed, *words)).encode()).digest())


def cut_pages(
    class_id: str, own: Sequence[Source], others: Sequence[Source], similar: Sequence[Source], rule: PageRule
) -> list[Task]:
    """The pages of one class.

    own: its candidates, each of which stands on exactly one page; others: pictures of other classes, for distractors;
    similar: pictures of similar classes, for negative controls. Positive controls are candidates of other pages of
    the class, so that a class that fills only one page has none. The last page may be shorter.
    """
    rng = _rng(rule.seed, "class", class_id)
    order = list(own)
    rng.shuffle(order)
    pages = []
    for start in range(0, len(order), rule.candidates):
        mine = order[start : start + rule.candidates]
        there = {source.path for source in mine}
        elsewhere = [source for source in order if source.path not in there]
        positive = rng.sample(elsewhere, min(rule.positive, len(elsewhere)))
        negative = rng.sample(list(similar), min(rule.negative, len(similar)))
        taken = {source.path for source in negative}
        rest = [source for source in others if source.path not in taken]
        distractors = rng.sample(rest, min(rule.distractors, len(rest)))
        shown = [Shown(source, "candidate") for source in mine]
        shown += [Shown(source, "positive") for source in positive]
        shown += [Shown(source, "negative") for source in negative]
        shown += [Shown(source, "distractor") for source in distractors]
        rng.shuffle(shown)
        used = {picture.source.path for picture in shown}
        spare = [source for source in rest if source.path not in used]
        reserve = tuple(Shown(source, "reserve") for source in rng.sample(spare, min(rule.reserve, len(spare))))
        pages.append(Task(class_id, tuple(shown), reserve))
    return pages


def practice_page(class_id: str, own: Sequence[Source], similar: Sequence[Source], *, seed: int, half: int = 4) -> Task:
    """A page of known answers: as many pictures of the class as of others."""
    rng = _rng(seed, "practice", class_id)
    shown = [Shown(source, "positive") for source in rng.sample(list(own), min(half, len(own)))]
    shown += [Shown(source, "negative") for source in rng.sample(list(similar), min(half, len(similar)))]
    rng.shuffle(shown)
    return Task(class_id, tuple(shown), practice=True)


def group_pages(pages: Sequence[Task], per_group: int, *, seed: int, after: int = 0) -> list[Task]:
    """Pages in a seeded order, put into groups like the HITs of the release. `after`: pages planned before."""
    order = list(pages)
    _rng(seed, "order", after).shuffle(order)
    grouped = []
    for start in range(0, len(order), per_group):
        members = order[start : start + per_group]
        group = hashlib.sha256("\n".join(page.id for page in members).encode()).hexdigest()[:32]
        grouped += [replace(page, group=group, place=place) for place, page in enumerate(members)]
    return grouped
